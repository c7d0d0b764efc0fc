//! `run.db`: what was started, so that the next daemon can adopt it.
//!
//! A file of its own: bound to a boot it is worthless after a power cut, so it is
//! written without waiting for the disk, and never slows a spawn. One thread writes; rows of the
//! same process replace each other on the way there, so the queue can't grow past the number of
//! processes. A row that can't be written is kept and tried again; nothing waits for it, and
//! [`Journal::trouble`] tells of it.
//!
//! After `kill -9` of the daemon every row that was acknowledged by [`Journal::flush`] is there. So are
//! the last exits of processes (`exits.rs`), which outlive the boot, too. `file.rs` opens the file, and
//! makes it anew when it is gone from its path.

mod exits;
mod file;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::params;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use self::exits::News;
use self::file::{File, Opening};
use super::recovery::UnderWay;
use crate::config::AppSpec;
use crate::config::spec::SPEC_VERSION;
use crate::failpoint;
use crate::ids::{PmId, Port, Timestamp};

/// Version of the tables, raised with every change of them.
const SCHEMA: i64 = 1;
/// Wait before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file can't be opened or read.
    #[error("cannot use `{path}`")]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file itself is wrong, and may not be put aside.
    #[error(
        "`{path}` is damaged: stop all services (`mcpm kill` does, while a daemon runs), remove it \
         and start again"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        source: rusqlite::Error,
    },
    /// A daemon hands over, and what it has written is not there.
    #[error("`{path}` is not there, so that nobody would know what runs")]
    Missing {
        /// The file.
        path: String,
    },
    /// Another release wrote it.
    #[error(
        "`{path}` was written by a newer mcpm (schema {found}, this one knows {SCHEMA}); \
         use that release again"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: i64,
    },
    /// What was put is not all in the file.
    #[error("not all that runs is written to `{path}`: {why}")]
    Unwritten {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The last exits of processes can't be read.
    #[error("cannot read the last exits of processes from `{path}`")]
    Exits {
        /// The file.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Should it run?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Yes.
    Up,
    /// No: stopped by hand, or ended for good.
    Down,
    /// No: ended too often.
    Errored,
}

/// What is written down about one process.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number.
    pub id: PmId,
    /// Counts its starts.
    pub generation: u64,
    /// Which of the app's processes it is.
    pub instance: u32,
    /// Should it run?
    pub wanted: Wanted,
    /// Pid and start time, once known: without them the row is an intent.
    pub identity: Option<(u32, u64)>,
    /// Counters and times.
    pub record: Record,
    /// What it is made from.
    pub spec: Arc<AppSpec>,
}

/// Counters and times of a process that outlive the daemon. Stored as JSON; members are only added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Restarts.
    pub restarts: u32,
    /// Unstable exits in a row.
    pub unstable: u32,
    /// Last wait before a restart, in milliseconds.
    pub delay_ms: u64,
    /// First start, or last start by hand.
    pub created_at: Timestamp,
    /// Last start.
    pub started_at: Option<Timestamp>,
    /// Last exit: code, signal, time.
    pub last_exit: Option<(Option<i32>, Option<i32>, Timestamp)>,
    /// Why we ended it, when it was not asked for.
    pub ended_for: Option<String>,
    /// Why it is in its state.
    pub reason: Option<String>,
    /// Why it was restarted last although it ran and nobody asked.
    pub restarted_for: Option<(String, Timestamp)>,
    /// Stopped by hand.
    pub held: bool,
    /// Where the process has our end of its channel: number, and the socket's inode.
    pub channel: Option<(i32, u64)>,
    /// Generation of its newest run, which need not be the one of the row.
    pub newest: u64,
    /// The run beside it while it is reloaded. It is not the process: the next daemon ends it.
    pub beside: Option<BesideRecord>,
    /// It ended since a process of its app has this port.
    pub unshared: Option<Port>,
    /// What has been begun with its run.
    #[serde(deserialize_with = "when_readable")]
    pub under_way: UnderWay,
    /// What the next run is to be made from, when that is another thing.
    #[serde(
        deserialize_with = "when_readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub next: Option<NextRun>,
}

/// What the next run of a process is to be made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextRun {
    /// The app.
    pub spec: Box<AppSpec>,
    /// Which of the app's processes.
    pub instance: u32,
}

/// The run beside the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BesideRecord {
    /// Which of its starts it is.
    pub generation: u64,
    /// Pid and start time, once known.
    pub identity: Option<(u32, u64)>,
}

/// What another release has written in words that this one does not know counts as not there: the rest
/// of the record is worth more.
fn when_readable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Handle to the writing thread.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    path: PathBuf,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// What the next exit gets.
    next_exit: AtomicI64,
}

#[derive(Default)]
struct Queue {
    /// `None` forgets the process.
    rows: BTreeMap<PmId, Option<Row>>,
    exits: VecDeque<News>,
    /// Rows and exits that were put so far, and how many of them are in the file or were replaced.
    put: Mark,
    written: Mark,
    busy: bool,
    /// Somebody waits for the next try, even of nothing.
    asked: bool,
    closed: bool,
    /// Tries that have ended.
    tries: u64,
    /// The longest time that was waited in vain for the try that is under way.
    waited: Duration,
    trouble: Option<Trouble>,
}

/// All that was put until some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    fn advance(&mut self) {
        let Self(count) = self;
        *count += 1;
    }
}

/// The last try has failed.
struct Trouble {
    since: Timestamp,
    why: String,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.exits.is_empty()
    }

    fn has_work(&self) -> bool {
        !self.is_empty() || self.asked || self.trouble.is_some()
    }

    fn tried(&mut self) {
        self.busy = false;
        self.tries += 1;
        self.waited = Duration::ZERO;
    }
}

/// What the last daemon left.
#[derive(Debug, Default)]
pub struct Left {
    /// Rows of this boot.
    pub rows: Vec<Row>,
    /// Names the home in the environment of its processes; made at its first start.
    pub home_id: String,
    /// What an operator should know about the file.
    pub warning: Option<String>,
}

impl Journal {
    /// Opens or makes the file, reads what the last daemon left, and starts the thread. Rows of
    /// another boot are dropped. A damaged file is put aside: without its rows running services
    /// are not adopted, but without a daemon there is no service at all. Where nothing can be written
    /// just now what is there is read, and writing is tried again.
    ///
    /// # Errors
    /// When the file can't be read, or is of a newer release.
    pub fn open(path: &Path, boot_id: &str) -> Result<(Self, Left), JournalError> {
        let opening = match file::open(path, boot_id) {
            Err(JournalError::Damaged { source, .. }) => {
                let kept = file::put_aside(path);
                let warning = format!(
                    "`{}` was damaged ({source}) and is now `{}`: services that an earlier daemon \
                     left running are not supervised",
                    path.display(),
                    kept.display()
                );
                tracing::error!("{warning}");
                let mut opening = file::open(path, boot_id)?;
                opening.left.warning = Some(warning);
                opening
            }
            opened => opened?,
        };
        Self::begin(opening, path, boot_id)
    }

    /// The same for a daemon that another one hands over to: nothing is put aside, and no new file is
    /// begun, since the other one goes on when this one can't.
    ///
    /// # Errors
    /// When the file can't be read, is damaged or gone, or is of a newer release.
    pub fn take_over(path: &Path, boot_id: &str) -> Result<(Self, Left), JournalError> {
        if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
            let path = path.display().to_string();
            return Err(JournalError::Missing { path });
        }
        Self::begin(file::open(path, boot_id)?, path, boot_id)
    }

    fn begin(opening: Opening, path: &Path, boot_id: &str) -> Result<(Self, Left), JournalError> {
        let Opening {
            file,
            left,
            last_exit,
            refused,
        } = opening;
        let trouble = refused.map(|error| {
            let file = path.display();
            tracing::error!(%file, %error, "read only, since it cannot be written; trying again");
            Trouble {
                since: Timestamp::now(),
                why: error.to_string(),
            }
        });
        let queue = Queue {
            trouble,
            ..Queue::default()
        };
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            next_exit: AtomicI64::new(last_exit.saturating_add(1)),
        });
        let (writer, boot_id) = (shared.clone(), boot_id.to_owned());
        let thread = std::thread::Builder::new().name("mcpm-journal".into());
        let spawned = thread.spawn(move || write_loop(file, &writer, &boot_id));
        spawned.map_err(|error| JournalError::Open {
            path: path.display().to_string(),
            source: file::io(error),
        })?;
        Ok((Self(shared), left))
    }

    /// Writes the row soon; returns at once.
    pub fn put(&self, row: Row) {
        self.enqueue(row.id, Some(row));
    }

    /// Drops the row soon; returns at once.
    pub fn forget(&self, id: PmId) {
        self.enqueue(id, None);
    }

    /// All that was put so far.
    pub fn mark(&self) -> Mark {
        lock(&self.0.queue).put
    }

    /// [`Journal::flush_to`] what was put so far.
    pub fn flush(&self, limit: Duration) -> bool {
        self.flush_to(self.mark(), limit)
    }

    /// Waits until all that was put until `mark` is written, but not longer than `limit`; `false` when it
    /// is not. Not at all while writing is known to fail, or so long a wait was in vain for the same
    /// write. Blocks.
    pub fn flush_to(&self, mark: Mark, limit: Duration) -> bool {
        let mut queue = lock(&self.0.queue);
        if queue.waited < limit {
            let waiting = |queue: &mut Queue| queue.trouble.is_none() && queue.written < mark;
            let waited = self.0.changed.wait_timeout_while(queue, limit, waiting);
            let (after, wait) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = after;
            if wait.timed_out() {
                queue.waited = limit;
            }
        }
        queue.written >= mark
    }

    /// Makes sure that all that was put is in the file that lies at the path, which is made anew when
    /// it has been removed or replaced. Waits not longer than `limit`. Blocks.
    ///
    /// # Errors
    /// When it is not.
    pub fn secure(&self, limit: Duration) -> Result<(), JournalError> {
        let mut queue = lock(&self.0.queue);
        // What is under way may have begun before the last row came.
        let wanted = queue.tries + 1 + u64::from(queue.busy);
        queue.asked = true;
        self.0.changed.notify_all();
        let waiting = |queue: &mut Queue| queue.tries < wanted;
        let waited = self.0.changed.wait_timeout_while(queue, limit, waiting);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let why = match &queue.trouble {
            Some(trouble) => trouble.why.clone(),
            None if queue.tries < wanted => format!("the disk takes more than {limit:?}"),
            None => return Ok(()),
        };
        let path = self.0.path.display().to_string();
        Err(JournalError::Unwritten { path, why })
    }

    /// That rows can't be written, and why, for people; `None` while they can.
    pub fn trouble(&self) -> Option<String> {
        let queue = lock(&self.0.queue);
        let Trouble { since, why } = queue.trouble.as_ref()?;
        let path = self.0.path.display();
        Some(format!(
            "`{path}` cannot be written since {since} ({why}): what is started, stopped or added \
             meanwhile may be unknown to the next daemon"
        ))
    }

    /// Writes what is left and ends the thread. Blocks, but not longer than `limit`.
    pub fn close(&self, limit: Duration) {
        if let Err(error) = self.secure(limit) {
            tracing::error!("{error}");
        }
        lock(&self.0.queue).closed = true;
        self.0.changed.notify_all();
    }

    fn enqueue(&self, id: PmId, row: Option<Row>) {
        let mut queue = lock(&self.0.queue);
        queue.rows.insert(id, row);
        queue.put.advance();
        drop(queue);
        self.0.changed.notify_all();
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_loop(mut file: File, shared: &Shared, boot_id: &str) {
    // Which spec a row in the file has: it is long and seldom changes.
    let mut specs: BTreeMap<PmId, Arc<AppSpec>> = BTreeMap::new();
    loop {
        let mut queue = lock(&shared.queue);
        while !queue.has_work() {
            if queue.closed {
                return;
            }
            queue = shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let batch = std::mem::take(&mut queue.rows);
        let news = std::mem::take(&mut queue.exits);
        let taken = queue.put;
        queue.asked = false;
        queue.busy = true;
        drop(queue);
        failpoint::reach("journal.before_write");
        let written = write(&mut file, boot_id, &batch, &news, &mut specs);
        let mut queue = lock(&shared.queue);
        queue.tried();
        let Err(error) = written else {
            queue.written = taken;
            let is_over = queue.trouble.take().is_some();
            shared.changed.notify_all();
            drop(queue);
            if is_over {
                tracing::info!("run.db can be written again");
            }
            failpoint::reach("journal.written");
            continue;
        };
        for (id, row) in batch {
            queue.rows.entry(id).or_insert(row);
        }
        exits::put_back(&mut queue.exits, news);
        let known = queue.trouble.take().map(|trouble| trouble.since);
        queue.trouble = Some(Trouble {
            since: known.unwrap_or_else(Timestamp::now),
            why: error.to_string(),
        });
        shared.changed.notify_all();
        drop(queue);
        if known.is_none() {
            tracing::error!(%error, "cannot write run.db; trying again");
        }
        file.give_up(&error);
        specs.clear();
        let queue = lock(&shared.queue);
        if queue.closed {
            return;
        }
        // Not woken by news: they only join the batch that is tried again.
        let waiting = |queue: &mut Queue| !queue.asked && !queue.closed;
        drop(shared.changed.wait_timeout_while(queue, RETRY, waiting));
    }
}

fn write(
    file: &mut File,
    boot_id: &str,
    batch: &BTreeMap<PmId, Option<Row>>,
    news: &VecDeque<News>,
    specs: &mut BTreeMap<PmId, Arc<AppSpec>>,
) -> rusqlite::Result<()> {
    let db = file.ready()?;
    db.execute_batch("BEGIN IMMEDIATE")?;
    for (id, row) in batch {
        let Some(row) = row else {
            db.prepare_cached("DELETE FROM processes WHERE pm_id = ?1")?
                .execute([id.0])?;
            specs.remove(id);
            continue;
        };
        let same = specs
            .get(id)
            .is_some_and(|known| Arc::ptr_eq(known, &row.spec));
        let spec = if same { None } else { Some(json(&row.spec)) };
        let (pid, start_time) = row.identity.unzip();
        let wanted = match row.wanted {
            Wanted::Up => "up",
            Wanted::Down => "down",
            Wanted::Errored => "errored",
        };
        db.prepare_cached(
            "INSERT INTO processes (pm_id, boot_id, generation, instance, wanted, pid, start_time,
                                    record, spec_version, spec)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ifnull(?10, ''))
             ON CONFLICT (pm_id) DO UPDATE SET
                 boot_id = ?2, generation = ?3, instance = ?4, wanted = ?5, pid = ?6,
                 start_time = ?7, record = ?8, spec_version = ?9, spec = ifnull(?10, spec)",
        )?
        .execute(params![
            id.0,
            boot_id,
            i64::try_from(row.generation).unwrap_or(i64::MAX),
            row.instance,
            wanted,
            pid,
            start_time.map(|ticks| i64::try_from(ticks).unwrap_or(i64::MAX)),
            json(&row.record),
            SPEC_VERSION,
            spec,
        ])?;
        specs.insert(*id, row.spec.clone());
    }
    exits::write(db, news)?;
    db.execute_batch("COMMIT")
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records hold nothing that JSON can't")
}

#[cfg(test)]
mod tests;
