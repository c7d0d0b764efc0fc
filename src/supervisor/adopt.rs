//! Takes over what a dead daemon left running.
//!
//! Identity fails closed: a process is ours when its number still has the start time that was
//! written down, or when it carries the exact name of that run in its environment. What is left of a
//! dead run and carries no name is known by the run's lock. What can't be proven is left alone.
//! What could not be looked at is not gone: it is neither signalled nor started, and looked at again
//! ([`Unseen`]). `unwritten.rs` finds the runs that could not be written down, `unlisted.rs` those that no row
//! names at all; `room.rs` counts the
//! descriptors that there are for what is found.

mod room;
mod unlisted;
mod unwritten;

use self::room::{Room, When};
pub use self::unlisted::{Unlisted, unlisted, warning};
use self::unwritten::Unwritten;
use super::cgroup::Cgroups;
use super::channel::{End, Identity};
use super::child_env;
use super::journal::{NextRun, Record, Row, Wanted};
use super::kill::Handle;
use super::last_exits::Asked;
use super::machine::{Event, Exit, History, State};
use super::proc;
use super::recovery::{self, Clocks, Evidence, UnderWay};
use super::run_lock::{Locks, RunLock};
use super::snapshot::Process;
use crate::failpoint;
use crate::ids::Timestamp;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// One process as it was found.
#[derive(Debug)]
pub struct Found {
    /// As it is shown.
    pub process: Process,
    /// Where its machine begins.
    pub state: State,
    /// The run, when it lives.
    pub handle: Option<Handle>,
    /// Our end of its channel, when it has one and we may take it back.
    pub channel: Option<End>,
    /// What its machine must hear first.
    pub news: Option<Event>,
    /// Who wants the end of its run, when that is under way.
    pub asked: Option<Asked>,
    /// What its next run is to be made from, when that is another thing.
    pub next: Option<NextRun>,
    /// Generation of its newest run.
    pub newest: u64,
    /// What a reload has left beside it, alive.
    pub beside: Option<(u64, Handle)>,
}

/// What is said of a process that could not be looked at begins so.
pub const NOT_ADOPTED: &str = "not adopted";

/// What has come of a look at a row.
#[derive(Debug)]
pub enum Seen {
    /// It is known whether its run lives.
    Found(Box<Found>),
    /// It is not.
    Unseen(Box<Unseen>),
}

/// A process of which this daemon could not say whether it lives, or which it could not look after.
#[derive(Debug)]
pub struct Unseen {
    /// As the last daemon has left it.
    pub row: Row,
    /// Why.
    pub why: io::Error,
}

/// How long the remains of a dead run are waited for once they are killed.
const REMAINS_PATIENCE: Duration = Duration::from_secs(2);

/// So many ancestors of a process are asked.
const ANCESTORS: usize = 64;

/// Looks at what the rows say, and ends what is left of runs before them. Walks `/proc`: blocks.
pub fn find_all(
    rows: Vec<Row>,
    home: (&str, &Path),
    cgroups: &Cgroups,
    now: Instant,
    today: Timestamp,
) -> Vec<Seen> {
    let (home_id, run_dir) = home;
    if rows.is_empty() {
        end_remains_of_older(&rows, &Unwritten::default(), home_id, run_dir);
        return Vec::new();
    }
    let end_older = |rows: &[Row], unwritten: &Unwritten| {
        end_remains_of_older(rows, unwritten, home_id, run_dir);
    };
    let room = Room::now(When::First);
    look(rows, home, (cgroups, room), (now, today), end_older)
}

/// Looks once more at what could not be looked at, beside others that are known. Walks `/proc`: blocks.
pub fn look_again(
    rows: Vec<Row>,
    home: (&str, &Path),
    cgroups: &Cgroups,
    now: Instant,
    today: Timestamp,
) -> Vec<Seen> {
    let room = Room::now(When::Later);
    look(rows, home, (cgroups, room), (now, today), |_, _| {})
}

fn look(
    rows: Vec<Row>,
    (home_id, run_dir): (&str, &Path),
    (cgroups, mut room): (&Cgroups, Room),
    clocks: (Instant, Timestamp),
    end_older: impl Fn(&[Row], &Unwritten),
) -> Vec<Seen> {
    if let Err(why) = room.take(0) {
        // A walk over all processes would end somewhere, and look as if there were no more.
        let code = why.raw_os_error().unwrap_or_default();
        let unseen = |row| Unseen {
            row,
            why: io::Error::from_raw_os_error(code),
        };
        return rows
            .into_iter()
            .map(|row| Seen::Unseen(Box::new(unseen(row))))
            .collect();
    }
    // Every process that carries a name of this home, since the root's own number is not always
    // known, and a root may have left members of its group behind.
    let mut named = proc::by_environment(&format!("{}={home_id}.", child_env::PROCESS_VARIABLE));
    // A daemon may have been started from within a service.
    named.retain(|(pid, _)| *pid != std::process::id());
    let signs = Signs {
        named: &named,
        cgroups,
        run_dir,
    };
    let mut unwritten = unwritten::find(&rows, (home_id, run_dir), &named);
    end_older(&rows, &unwritten);
    for dead in &unwritten.over {
        if let Err(error) = end_run(&dead.name, dead.root, dead.is_whole, signs) {
            tracing::warn!(run = dead.name, %error, "cannot end what is left of a run");
        }
    }
    rows.into_iter()
        .map(|row| {
            let newer = unwritten.take(row.id);
            let runs = Runs::of(&row, newer, home_id, signs);
            let runs = runs.and_then(|runs| {
                room.take(runs.count())?;
                Ok(runs)
            });
            match runs {
                Ok(runs) => Seen::Found(Box::new(find(row, runs, home_id, clocks))),
                Err(why) => Seen::Unseen(Box::new(Unseen { row, why })),
            }
        })
        .collect()
}

/// What tells the run that a process belongs to.
#[derive(Clone, Copy)]
struct Signs<'a> {
    /// Those whose environment names one.
    named: &'a [(u32, String)],
    cgroups: &'a Cgroups,
    /// Where the locks are.
    run_dir: &'a Path,
}

impl<'a> Signs<'a> {
    /// What carries the name of this run.
    fn members(self, name: &str) -> impl Iterator<Item = u32> + use<'a> {
        let entry = format!("{}={name}", child_env::PROCESS_VARIABLE);
        let ours = move |(pid, found): &(u32, String)| (*found == entry).then_some(*pid);
        self.named.iter().filter_map(ours)
    }
}

/// The runs of one process that live.
struct Runs {
    /// The one that its row does not know.
    newer: Option<(u64, Handle)>,
    /// The one of its row.
    own: Option<Handle>,
    beside: Option<(u64, Handle)>,
}

impl Runs {
    /// # Errors
    /// When it could not be looked whether they live.
    fn of(
        row: &Row,
        newer: io::Result<Option<(u64, Handle)>>,
        home_id: &str,
        signs: Signs<'_>,
    ) -> io::Result<Self> {
        failpoint::reach("adopt.before_look");
        let is_whole = row.spec.stop.treekill;
        let run = |generation, identity| {
            let name = child_env::run_name(home_id, row.id, generation);
            root(&name, identity, is_whole, signs)
        };
        let newer = newer?;
        let own = run(row.generation, row.identity)?;
        let beside = match row.record.beside {
            Some(beside) => {
                let handle = run(beside.generation, beside.identity)?;
                handle.map(|handle| (beside.generation, handle))
            }
            None => None,
        };
        Ok(Self { newer, own, beside })
    }

    fn count(&self) -> u64 {
        let are = [
            self.newer.is_some(),
            self.own.is_some(),
            self.beside.is_some(),
        ];
        are.into_iter().map(u64::from).sum()
    }
}

fn find(row: Row, runs: Runs, home_id: &str, (now, today): (Instant, Timestamp)) -> Found {
    let still_waits = left_to_wait(&row.record, today);
    let mut process = Process::registered(row.id, row.instance, row.spec);
    process.generation = row.generation;
    process.created_at = row.record.created_at;
    process.started_at = row.record.started_at;
    process.reason = row.record.reason;
    process.restarted_for = row.record.restarted_for;
    process.held = row.record.held;
    process.history = History {
        restarts: row.record.restarts,
        unstable: row.record.unstable,
        delay: Duration::from_millis(row.record.delay_ms),
        ..History::default()
    };
    process.last_exit = row.record.last_exit.map(|(code, signal, at)| {
        let exit = code
            .map(Exit::Code)
            .or(signal.map(Exit::Signal))
            .unwrap_or(Exit::Unknown);
        (exit, at)
    });
    process.ended_for = row.record.ended_for;
    process.unshared = row.record.unshared;
    let Runs {
        newer,
        own: mut handle,
        mut beside,
    } = runs;
    let mut wanted = row.wanted;
    let mut under_way = row.record.under_way;
    let mut identity = row.record.channel;
    if let Some((generation, newer)) = newer {
        let pid = newer.pid();
        tracing::warn!(
            app = %process.spec.name, pid, generation,
            "it was started when nothing could be written down: it is the process"
        );
        let own = handle.map(|own| (row.generation, own));
        let mut others = own.into_iter().chain(beside);
        beside = others.next();
        for (generation, other) in others {
            let name = child_env::run_name(home_id, row.id, generation);
            end_remains(&[other], &name);
        }
        // Somebody has wanted it since the row was written, and what that says is of another run.
        wanted = Wanted::Up;
        under_way = UnderWay::default();
        identity = None;
        process.generation = generation;
        process.started_at = started_at(&newer, today);
        process.reason = None;
        process.ended_for = None;
        process.unshared = None;
        handle = Some(newer);
    }
    let asked = under_way.end.as_ref().and_then(|end| end.asked.clone());
    let (state, news) = recovery::begin(Evidence {
        wanted,
        under_way,
        alive: handle.as_ref().map(Handle::pid),
        has_begun: row.identity.is_some(),
        since: since(process.started_at, now, today),
        last_exit: process.last_exit.map(|(exit, _)| exit),
        until: now + still_waits,
        grace: process.spec.stop.grace,
        ready_within: process.spec.ready_within,
        clocks: Clocks { now, today },
    });
    let identity = identity.map(|(number, inode)| Identity { number, inode });
    let channel = handle
        .as_ref()
        .zip(identity)
        .and_then(|(handle, identity)| End::take_back(handle.pidfd(), identity));
    Found {
        newest: row
            .record
            .newest
            .max(row.generation)
            .max(process.generation),
        process,
        state,
        handle,
        channel,
        news,
        asked,
        next: row.record.next,
        beside,
    }
}

/// The root process of this run, when it lives; what is left of a run whose root has died is ended,
/// but for what has left its process group when the run is not whole (`treekill`).
fn root(
    name: &str,
    identity: Option<(u32, u64)>,
    is_whole: bool,
    signs: Signs<'_>,
) -> io::Result<Option<Handle>> {
    let handle = match identity {
        Some((pid, start_time)) => Handle::find(pid, Some(start_time))?,
        // Was it started before the daemon could write its identity down?
        None => {
            let roots = signs.members(name).map(|pid| root_of(pid, name));
            roots.filter_map(Result::transpose).next().transpose()?
        }
    };
    if handle.is_none() {
        end_run(name, identity.map(|(pid, _)| pid), is_whole, signs)?;
    }
    Ok(handle)
}

/// Ends what is left of a run, with its root if that lives; of one that is not whole only what is in
/// the process group of its root.
fn end_run(name: &str, root: Option<u32>, is_whole: bool, signs: Signs<'_>) -> io::Result<()> {
    let Signs {
        cgroups, run_dir, ..
    } = signs;
    let is_of_group = |pid| {
        let group = proc::stat(pid).map(|stat| stat.group);
        root.is_some() && group == root
    };
    let mut left: BTreeSet<u32> = signs
        .members(name)
        .filter(|&pid| is_whole || is_of_group(pid))
        .collect();
    if is_whole {
        left.extend(cgroups.pids(name));
    }
    let is_of_run = |pid| Ok(carries(pid, name)? || (is_whole && cgroups.holds(name, pid)));
    let left = opened(left, is_of_run)?;
    let lock = RunLock::of(run_dir, name);
    if is_whole {
        cgroups.kill(name);
    }
    end_remains(&left, name);
    if is_whole {
        end_holders(&lock, name)?;
    }
    lock.remove();
    Ok(())
}

/// Ends what holds the locks of runs that no row names any more, and forgets these locks. Those whose
/// process has no row are kept as long as they are held: see [`unlisted`].
fn end_remains_of_older(rows: &[Row], unwritten: &Unwritten, home_id: &str, run_dir: &Path) {
    for (run, lock) in RunLock::all(run_dir) {
        let numbers = child_env::numbers(home_id, &run);
        let row = numbers.and_then(|(id, generation)| {
            let row = rows.iter().find(|row| row.id == id)?;
            Some((row, generation))
        });
        match row {
            Some((row, generation))
                if is_named(row, generation) || unwritten.is_newest(row.id, generation) => {}
            Some((row, _)) => {
                let ended = match row.spec.stop.treekill {
                    true => end_holders(&lock, &run),
                    false => Ok(()),
                };
                match ended {
                    Ok(()) => lock.remove(),
                    Err(error) => tracing::warn!(run, %error, "cannot end what holds its lock"),
                }
            }
            None if lock.is_held() => {}
            None => lock.remove(),
        }
    }
}

/// It is one of the runs of that process that may live.
fn is_named(row: &Row, generation: u64) -> bool {
    let beside = row.record.beside.map(|beside| beside.generation);
    row.generation == generation || beside == Some(generation)
}

/// Who holds one of these. Walks `/proc` when there are any.
fn holders(locks: &Locks<()>) -> Vec<u32> {
    if locks.is_empty() {
        return Vec::new();
    }
    let others = proc::all_pids().filter(|&pid| pid != std::process::id());
    others
        .filter(|&pid| locks.anywhere(pid).is_some())
        .collect()
}

/// Ends what holds the lock of a run whose root has died: it has cleared its environment. What was
/// started by another run is left alone, and named.
fn end_holders(lock: &RunLock, name: &str) -> io::Result<()> {
    let locks = Locks::held([(lock, ())]);
    let mut ours = Vec::new();
    for pid in holders(&locks) {
        match run_of(pid).filter(|run| run != name) {
            None => ours.push(pid),
            Some(other) => tracing::warn!(
                %pid, run = name, %other,
                "left alone: it holds the lock of a run that has ended, and is of another run"
            ),
        }
    }
    let is_ours = |pid| {
        let is_same_run = run_of(pid).is_none_or(|run| run == name);
        Ok(is_same_run && locks.anywhere(pid).is_some())
    };
    end_remains(&opened(ours, is_ours)?, name);
    Ok(())
}

/// Opened before it is asked whether each still is the one.
fn opened(
    pids: impl IntoIterator<Item = u32>,
    is_ours: impl Fn(u32) -> io::Result<bool>,
) -> io::Result<Vec<Handle>> {
    let mut opened = Vec::new();
    for pid in pids {
        if let Some(handle) = Handle::find(pid, None)?
            && is_ours(pid)?
        {
            opened.push(handle);
        }
    }
    Ok(opened)
}

/// The run that a process says it is of, or the nearest of its ancestors that says so.
fn run_of(pid: u32) -> Option<String> {
    let own = std::process::id();
    let is_ours = |&pid: &u32| pid > 1 && pid != own;
    let parent = |&pid: &u32| proc::stat(pid).map(|stat| stat.parent).filter(is_ours);
    let mut ancestors = std::iter::successors(Some(pid), parent).take(ANCESTORS);
    ancestors.find_map(|pid| proc::variable(pid, child_env::PROCESS_VARIABLE))
}

/// Ends what a root that has died left running: it holds what the next run needs, such as a port.
fn end_remains(left: &[Handle], name: &str) {
    for member in left {
        tracing::warn!(
            pid = member.pid(),
            run = name,
            "ended what a dead service left behind"
        );
        member.signal_root(rustix::process::Signal::KILL.as_raw());
    }
    for member in left {
        member.wait(REMAINS_PATIENCE);
    }
}

/// Was started as a part of this run.
fn carries(pid: u32, name: &str) -> io::Result<bool> {
    let found = proc::certain(proc::read_variable(pid, child_env::PROCESS_VARIABLE))?;
    Ok(found.flatten().as_deref() == Some(name))
}

/// The root of the run that `pid` belongs to: children inherit the environment, too.
fn root_of(pid: u32, name: &str) -> io::Result<Option<Handle>> {
    let Some(stat) = proc::certain(proc::read_stat(pid))? else {
        return Ok(None);
    };
    let handle = Handle::find(stat.session, None)?;
    let is_it = carries(stat.session, name)?;
    Ok(handle.filter(|_| is_it))
}

/// What is left of the wait before its next start; nothing when it was to be started at once.
fn left_to_wait(record: &Record, today: Timestamp) -> Duration {
    let Some((_, _, ended)) = record.last_exit else {
        return Duration::ZERO;
    };
    let waited = today.as_millis().saturating_sub(ended.as_millis());
    // A clock that was set back does not make it longer.
    let waited = u64::try_from(waited).unwrap_or(0);
    Duration::from_millis(record.delay_ms.saturating_sub(waited))
}

/// By its age: no clock was looked at when it was started.
fn started_at(run: &Handle, today: Timestamp) -> Option<Timestamp> {
    let age = i64::try_from(proc::since_start(run.start_time())?.as_millis()).ok()?;
    Some(Timestamp::from_millis(
        today.as_millis().saturating_sub(age),
    ))
}

fn since(started: Option<Timestamp>, now: Instant, today: Timestamp) -> Instant {
    let millis = started.map_or(0, |at| today.as_millis().saturating_sub(at.as_millis()));
    let ran = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    now.checked_sub(ran).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_wait_goes_on_where_it_was() {
        let at = |millis| Timestamp::from_millis(millis);
        let record = |delay_ms, ended| Record {
            delay_ms,
            last_exit: Some((Some(1), None, at(ended))),
            ..Record::default()
        };
        let left = |record: &Record, today| left_to_wait(record, at(today)).as_millis();
        assert_eq!(left(&record(500, 1000), 1200), 300);
        assert_eq!(left(&record(500, 1000), 9000), 0);
        assert_eq!(left(&record(500, 1000), 400), 500, "the clock was set back");
        assert_eq!(left(&record(0, 1000), 1000), 0);
        assert_eq!(left(&Record::default(), 1000), 0);
    }

    #[test]
    fn what_holds_the_lock_of_a_dead_run_is_ended_unless_it_is_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::of(dir.path(), "cafe.0.1");
        let held = lock.take().unwrap();
        let holder = |run: Option<&str>| {
            let mut command = Command::new("/bin/sleep");
            command.arg("1000").env_clear();
            command.envs(run.map(|run| (child_env::PROCESS_VARIABLE, run)));
            command.stdin(Stdio::from(held.try_clone().unwrap()));
            command.spawn().unwrap()
        };
        let (mut lost, mut stranger) = (holder(None), holder(Some("beef.0.1")));
        drop(held);
        end_holders(&lock, "cafe.0.1").unwrap();
        let (lost, left) = (lost.try_wait().unwrap(), stranger.try_wait().unwrap());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(lost.is_some() && left.is_none(), "{lost:?} {left:?}");
    }
}
