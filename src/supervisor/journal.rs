//! `run.db`: what was started, so that the next daemon can adopt it.
//!
//! A file of its own: bound to a boot it is worthless after a power cut, so it is
//! written without waiting for the disk, and never slows a spawn. One thread writes; rows of the
//! same process replace each other on the way there, so the queue can't grow past the number of
//! processes. A row that can't be written is kept and tried again; nothing waits for it.
//!
//! After `kill -9` of the daemon every row that was acknowledged by [`Journal::flush`] is there. So are
//! the last exits of processes (`exits.rs`), which outlive the boot, too.

mod exits;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use self::exits::News;
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
    #[error(
        "cannot use `{path}`; when it is damaged, stop all services, remove it and start again"
    )]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: rusqlite::Error,
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

/// Handle to the writing thread.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    path: PathBuf,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// `None` forgets the process.
    rows: BTreeMap<PmId, Option<Row>>,
    exits: VecDeque<News>,
    busy: bool,
    closed: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.exits.is_empty()
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
    /// are not adopted, but without a daemon there is no service at all.
    ///
    /// # Errors
    /// When the file can't be used, or is of a newer release.
    pub fn open(path: &Path, boot_id: &str) -> Result<(Self, Left), JournalError> {
        let failed = |source| JournalError::Open {
            path: path.display().to_string(),
            source,
        };
        let (db, left) = match load(path, boot_id) {
            Err(JournalError::Open { source, .. }) if is_damage(&source) => {
                let kept = put_aside(path);
                let warning = format!(
                    "`{}` was damaged ({source}) and is now `{}`: services that an earlier daemon \
                     left running are not supervised",
                    path.display(),
                    kept.display()
                );
                tracing::error!("{warning}");
                let (db, left) = load(path, boot_id)?;
                let warning = Some(warning);
                (db, Left { warning, ..left })
            }
            loaded => loaded?,
        };
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let (writer, boot_id) = (shared.clone(), boot_id.to_owned());
        let thread = std::thread::Builder::new().name("mcpm-journal".into());
        let spawned = thread.spawn(move || write_loop(&db, &writer, &boot_id));
        if let Err(error) = spawned {
            return Err(failed(rusqlite::Error::ToSqlConversionFailure(
                error.into(),
            )));
        }
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

    /// Waits until all that was put is written, but not longer than `limit`. Blocks.
    pub fn flush(&self, limit: Duration) {
        let queue = lock(&self.0.queue);
        let waiting = |queue: &mut Queue| queue.busy || !queue.is_empty();
        drop(self.0.changed.wait_timeout_while(queue, limit, waiting));
    }

    /// Writes what is left and ends the thread. Blocks, but not longer than `limit`.
    pub fn close(&self, limit: Duration) {
        self.flush(limit);
        lock(&self.0.queue).closed = true;
        self.0.changed.notify_all();
    }

    fn enqueue(&self, id: PmId, row: Option<Row>) {
        lock(&self.0.queue).rows.insert(id, row);
        self.0.changed.notify_all();
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(path: &Path, boot_id: &str) -> Result<(Connection, Left), JournalError> {
    let failed = |source| JournalError::Open {
        path: path.display().to_string(),
        source,
    };
    make_private(path);
    let db = Connection::open(path).map_err(failed)?;
    let found: i64 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    if found > SCHEMA {
        let path = path.display().to_string();
        return Err(JournalError::Newer { path, found });
    }
    prepare(&db).map_err(failed)?;
    let left = read(&db, boot_id).map_err(failed)?;
    Ok((db, left))
}

/// The file itself is wrong, which no second try mends.
fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
    )
}

/// Gives the file and what SQLite keeps beside it another name, and returns that.
fn put_aside(path: &Path) -> PathBuf {
    let beside = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let kept = beside(path, &format!(".broken-{}", Timestamp::now().as_millis()));
    for suffix in ["", "-wal", "-shm"] {
        // Some are not there; one that cannot be renamed is found to be damaged once more.
        let _ = std::fs::rename(beside(path, suffix), beside(&kept, suffix));
    }
    kept
}

/// It holds complete environments. What SQLite makes beside it gets the same mode.
fn make_private(path: &Path) {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = std::fs::File::options();
    options.create(true).append(true).mode(0o600);
    // When it cannot be opened, the next line says so with SQLite's reason.
    if let Ok(file) = options.open(path) {
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    }
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = OFF;
         PRAGMA cache_size = -256;
         BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS processes (
             pm_id INTEGER PRIMARY KEY,
             boot_id TEXT NOT NULL,
             generation INTEGER NOT NULL,
             instance INTEGER NOT NULL,
             wanted TEXT NOT NULL,
             pid INTEGER,
             start_time INTEGER,
             record TEXT NOT NULL,
             spec_version INTEGER NOT NULL,
             spec TEXT NOT NULL
         ) STRICT;
         PRAGMA user_version = 1;
         COMMIT;",
    )?;
    db.execute_batch(exits::TABLE)
}

fn read(db: &Connection, boot_id: &str) -> rusqlite::Result<Left> {
    db.execute("DELETE FROM processes WHERE boot_id <> ?1", [boot_id])?;
    let known: Option<String> = db
        .query_row("SELECT value FROM meta WHERE key = 'home_id'", [], |row| {
            row.get(0)
        })
        .optional()?;
    let home_id = match known {
        Some(id) => id,
        None => {
            let mut bytes = [0; 8];
            // Without random numbers the folder's time of birth must do; it only names a home.
            if getrandom::fill(&mut bytes).is_err() {
                bytes = Timestamp::now().as_millis().to_le_bytes();
            }
            let id = data_encoding::HEXLOWER.encode(&bytes);
            db.execute(
                "INSERT INTO meta (key, value) VALUES ('home_id', ?1)",
                [&id],
            )?;
            id
        }
    };
    let mut statement = db.prepare(
        "SELECT pm_id, generation, instance, wanted, pid, start_time, record, spec
         FROM processes WHERE spec_version = ?1 ORDER BY pm_id",
    )?;
    let mut rows = Vec::new();
    let mut found = statement.query([SPEC_VERSION])?;
    while let Some(row) = found.next()? {
        let id = PmId(row.get(0)?);
        let wanted = match row.get_ref(3)?.as_str()? {
            "up" => Wanted::Up,
            "errored" => Wanted::Errored,
            _ => Wanted::Down,
        };
        let pid: Option<u32> = row.get(4)?;
        let start_time: Option<i64> = row.get(5)?;
        let spec: String = row.get(7)?;
        let spec = match serde_json::from_str(&spec) {
            Ok(spec) => Arc::new(spec),
            Err(error) => {
                tracing::error!(pm_id = %id, %error, "a row of run.db is not readable; left alone");
                continue;
            }
        };
        let start_time = start_time.and_then(|ticks| u64::try_from(ticks).ok());
        rows.push(Row {
            id,
            generation: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            instance: row.get(2)?,
            wanted,
            identity: pid.zip(start_time),
            record: serde_json::from_str(row.get_ref(6)?.as_str()?).unwrap_or_default(),
            spec,
        });
    }
    Ok(Left {
        rows,
        home_id,
        warning: None,
    })
}

fn write_loop(db: &Connection, shared: &Shared, boot_id: &str) {
    // Which spec a row in the file has: it is long and seldom changes.
    let mut specs: BTreeMap<PmId, Arc<AppSpec>> = BTreeMap::new();
    loop {
        let mut queue = lock(&shared.queue);
        queue.busy = false;
        shared.changed.notify_all();
        while queue.is_empty() {
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
        queue.busy = true;
        drop(queue);
        failpoint::reach("journal.before_write");
        if let Err(error) = write(db, boot_id, &batch, &news, &mut specs) {
            tracing::warn!(%error, "cannot write run.db; trying again");
            let _ = db.execute_batch("ROLLBACK");
            specs.clear();
            let mut queue = lock(&shared.queue);
            for (id, row) in batch {
                queue.rows.entry(id).or_insert(row);
            }
            exits::put_back(&mut queue.exits, news);
            if queue.closed {
                return;
            }
            // Not woken by news: they only join the batch that is tried again.
            drop(queue);
            std::thread::park_timeout(RETRY);
            continue;
        }
        failpoint::reach("journal.written");
    }
}

fn write(
    db: &Connection,
    boot_id: &str,
    batch: &BTreeMap<PmId, Option<Row>>,
    news: &VecDeque<News>,
    specs: &mut BTreeMap<PmId, Arc<AppSpec>>,
) -> rusqlite::Result<()> {
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
