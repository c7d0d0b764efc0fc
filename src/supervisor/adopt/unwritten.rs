//! Runs that no row tells of: the disk was full, or slow, when they were started.
//!
//! Their names tell whose they are and how new. The newest that lives is the process: were it left
//! out, a second copy would be started beside it. All others are over. A number may have been another
//! process's before, of which something was let go on: such a run is older than the one of the row,
//! and has no lock any more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::super::child_env::{self, PROCESS_VARIABLE};
use super::super::journal::Row;
use super::super::kill::Handle;
use super::super::run_lock::RunLock;
use super::root_of;
use crate::ids::PmId;

/// What was found of such runs.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Of each process the newest that lives, by its root process.
    pub(super) newest: BTreeMap<PmId, (u64, Handle)>,
    /// Those of which it could not be looked which one that is.
    pub(super) unclear: BTreeMap<PmId, io::Error>,
    /// The others.
    pub(super) over: Vec<Over>,
}

/// A run of which nothing is to go on.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) name: String,
    /// Its root process, when that lives.
    pub(super) root: Option<u32>,
    /// All that it has started is of it (`treekill`).
    pub(super) is_whole: bool,
}

impl Unwritten {
    pub(super) fn is_newest(&self, id: PmId, generation: u64) -> bool {
        let newest = self.newest.get(&id);
        newest.is_some_and(|(newest, _)| *newest == generation) || self.unclear.contains_key(&id)
    }

    /// The newest run of a process, for the one who looks after it.
    ///
    /// # Errors
    /// When it could not be looked whether there is one.
    pub(super) fn take(&mut self, id: PmId) -> io::Result<Option<(u64, Handle)>> {
        match self.unclear.remove(&id) {
            Some(why) => Err(why),
            None => Ok(self.newest.remove(&id)),
        }
    }
}

/// Looks among the processes that carry a name of this home.
pub(super) fn find(
    rows: &[Row],
    (home_id, run_dir): (&str, &Path),
    named: &[(u32, String)],
) -> Unwritten {
    let mut found = Unwritten::default();
    for (id, runs) in newer_runs(rows, home_id, named) {
        let Some(row) = rows.iter().find(|row| row.id == id) else {
            continue;
        };
        for (generation, pids) in runs.into_iter().rev() {
            let name = child_env::run_name(home_id, id, generation);
            let roots = pids.into_iter().map(|pid| root_of(pid, &name));
            let roots: io::Result<Vec<Handle>> = roots.filter_map(Result::transpose).collect();
            let roots = match roots {
                Ok(roots) => roots,
                Err(why) => {
                    found.unclear.insert(id, why);
                    break;
                }
            };
            // What leads a session of its own within a run is younger than its root.
            let root = roots.into_iter().min_by_key(Handle::start_time);
            let known = root.as_ref().zip(row.identity);
            let is_later = known.is_some_and(|(root, (_, start))| root.start_time() > start);
            if !is_later && !RunLock::of(run_dir, &name).exists() {
                continue;
            }
            match root {
                Some(root) if !found.newest.contains_key(&id) => {
                    found.newest.insert(id, (generation, root));
                }
                root => found.over.push(Over {
                    name,
                    root: root.map(|root| root.pid()),
                    is_whole: row.spec.stop.treekill,
                }),
            }
        }
    }
    found
}

/// By process and generation, those of the named processes whose run is newer than its row and not the
/// one beside it (pure).
fn newer_runs(
    rows: &[Row],
    home_id: &str,
    named: &[(u32, String)],
) -> BTreeMap<PmId, BTreeMap<u64, BTreeSet<u32>>> {
    let rows: BTreeMap<PmId, &Row> = rows.iter().map(|row| (row.id, row)).collect();
    let mut newer: BTreeMap<PmId, BTreeMap<u64, BTreeSet<u32>>> = BTreeMap::new();
    for (pid, variable) in named {
        let value = variable.strip_prefix(PROCESS_VARIABLE);
        let run = value.and_then(|value| value.strip_prefix('='));
        let Some((id, generation)) = run.and_then(|run| child_env::numbers(home_id, run)) else {
            continue;
        };
        let is_newer = rows.get(&id).is_some_and(|row| {
            let beside = row.record.beside.map(|beside| beside.generation);
            generation > row.generation && beside != Some(generation)
        });
        if is_newer {
            let runs = newer.entry(id).or_default();
            runs.entry(generation).or_default().insert(*pid);
        }
    }
    newer
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::super::super::cgroup::Cgroups;
    use super::super::super::journal::{BesideRecord, Record, Wanted};
    use super::super::super::machine::State;
    use super::super::super::proc;
    use super::super::{Found, Seen, carries, find_all};
    use super::*;
    use crate::ids::Timestamp;
    use crate::supervisor::testing;

    fn row(generation: u64, beside: Option<u64>) -> Row {
        let beside = beside.map(|generation| BesideRecord {
            generation,
            identity: None,
        });
        Row {
            id: PmId(0),
            generation,
            instance: 0,
            wanted: Wanted::Down,
            identity: None,
            record: Record {
                beside,
                ..Record::default()
            },
            spec: Arc::new(testing::spec("a")),
        }
    }

    /// A process in a session of its own that says it is of this run.
    fn run(name: &str) -> Child {
        let mut command = Command::new("setsid");
        command.args(["sleep", "1000"]).env(PROCESS_VARIABLE, name);
        let child = command.spawn().unwrap();
        let pid = child.id();
        let leads = || proc::stat(pid).is_some_and(|stat| stat.session == pid);
        let sleeps = || proc::command_name(pid).as_deref() == Some("sleep");
        while !(leads() && sleeps() && carries(pid, name).unwrap()) {
            std::thread::yield_now();
        }
        child
    }

    /// Runs up to this one have locks.
    fn adopt(home_id: &str, row: Row, newest: u64) -> Found {
        let dir = tempfile::tempdir().unwrap();
        for generation in 1..=newest {
            let name = child_env::run_name(home_id, row.id, generation);
            drop(RunLock::of(dir.path(), &name).take().unwrap());
        }
        let home = (home_id, dir.path());
        let (now, today) = (Instant::now(), Timestamp::now());
        let mut seen = find_all(vec![row], home, &Cgroups::default(), now, today);
        match seen.remove(0) {
            Seen::Found(found) => *found,
            Seen::Unseen(unseen) => panic!("{unseen:?}"),
        }
    }

    #[test]
    fn newer_than_the_row_and_not_the_one_beside_it() {
        let named = [
            (1, "cafe.0.3"),
            (2, "cafe.0.4"),
            (3, "cafe.0.5"),
            (4, "cafe.0.5"),
        ]
        .into_iter()
        .chain([(5, "cafe.1.9"), (6, "beef.0.9"), (7, "cafe.0.x")])
        .map(|(pid, run)| (pid, format!("{PROCESS_VARIABLE}={run}")));
        let named: Vec<(u32, String)> = named.collect();
        let found = newer_runs(&[row(3, Some(4))], "cafe", &named);
        let expected = BTreeMap::from([(5, BTreeSet::from([3, 4]))]);
        assert_eq!(found, BTreeMap::from([(PmId(0), expected)]));
    }

    #[test]
    fn the_newest_run_is_the_process_and_others_end() {
        let home_id = format!("unwritten{}", std::process::id());
        let mut older = run(&format!("{home_id}.0.2"));
        let mut newest = run(&format!("{home_id}.0.3"));
        let found = adopt(&home_id, row(1, None), 3);
        let (over, lives) = (older.try_wait().unwrap(), newest.try_wait().unwrap());
        for child in [&mut older, &mut newest] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(over.is_some() && lives.is_none(), "{over:?} {lives:?}");
        assert_eq!((found.process.generation, found.newest), (3, 3));
        assert_eq!(found.handle.map(|handle| handle.pid()), Some(newest.id()));
        assert!(matches!(found.state, State::Online { .. }) && found.news.is_none());
        assert!(found.process.started_at.is_some() && found.beside.is_none());
    }

    #[test]
    fn a_run_of_another_process_that_had_its_number_is_left_alone() {
        let home_id = format!("reused{}", std::process::id());
        let mut stray = run(&format!("{home_id}.0.7"));
        let found = adopt(&home_id, row(1, None), 1);
        let lives = stray.try_wait().unwrap().is_none();
        stray.kill().unwrap();
        stray.wait().unwrap();
        assert!(lives && found.handle.is_none());
        assert_eq!((found.process.generation, found.newest), (1, 1));
    }

    #[test]
    fn a_run_that_was_started_after_that_of_the_row_needs_no_lock() {
        let home_id = format!("later{}", std::process::id());
        let mut later = run(&format!("{home_id}.0.2"));
        let first = Row {
            identity: Some((later.id(), 1)),
            ..row(1, None)
        };
        let found = adopt(&home_id, first, 1);
        later.kill().unwrap();
        later.wait().unwrap();
        assert_eq!(found.handle.map(|handle| handle.pid()), Some(later.id()));
    }

    #[test]
    fn the_run_of_the_row_stands_beside_a_newer_one() {
        let home_id = format!("replaced{}", std::process::id());
        let mut own = run(&format!("{home_id}.0.1"));
        let mut newest = run(&format!("{home_id}.0.2"));
        let found = adopt(&home_id, row(1, None), 2);
        for child in [&mut own, &mut newest] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(found.process.generation, 2);
        let beside = found
            .beside
            .map(|(generation, run)| (generation, run.pid()));
        assert_eq!(beside, Some((1, own.id())));
    }
}
