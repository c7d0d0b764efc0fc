//! Catches what runs away while it is killed: each process that is found is stopped before the next is
//! looked at, and all are killed once nothing new is found.
//!
//! Who forks and ends faster than `/proc` is walked is never where the walk has seen it. A pass of this
//! net acts on each number as soon as it has looked at it; a child that was forked just before has a
//! higher number, and is met later in the same pass. A whole walk follows each pass, since it knows
//! members that are known by their parents alone.

use std::collections::{HashMap, HashSet};

use rustix::process::Signal;

use super::super::proc::{self, Stat};
use super::super::run_lock::Locks;
use super::members::members;
use super::{Member, Root, members_by_number, named, open};

/// Passes, at most.
const PASSES_MAX: usize = 16;
/// So many in a row that catch nobody are enough.
const QUIET_PASSES: usize = 2;

/// Kills what can be caught of a run whose root has ended; those that were. Walks `/proc` many times:
/// blocks.
pub(super) fn cast(root: &Root) -> Vec<Member> {
    let mut caught = Caught::default();
    let mut quiet = 0;
    for _ in 0..PASSES_MAX {
        let before = caught.members.len();
        let locks = Locks::held([(&root.lock, root.handle.pid())]);
        let at_once = proc::all_pids().filter_map(|pid| member(pid, root, &locks));
        at_once.for_each(|member| caught.hold(member));
        let table: HashMap<u32, Stat> = proc::all().collect();
        let found = members_by_number(&table, &[root], &HashMap::new());
        let found = found.into_values().flatten();
        let walked = found.filter_map(|pid| open(pid, &table[&pid], root));
        walked.for_each(|member| caught.hold(member));
        quiet = if caught.members.len() == before {
            quiet + 1
        } else {
            0
        };
        if quiet == QUIET_PASSES {
            break;
        }
    }
    for member in &caught.members {
        member.signal(Signal::KILL);
    }
    caught.members
}

#[derive(Default)]
struct Caught {
    members: Vec<Member>,
    known: HashSet<(u32, u64)>,
}

impl Caught {
    /// Stops it, unless that was done before.
    fn hold(&mut self, member: Member) {
        if !member.is_out_of_reach && self.known.insert((member.pid, member.start_time)) {
            member.signal(Signal::STOP);
            self.members.push(member);
        }
    }
}

/// This process, if it is of the run's session, says that it is of the run or holds its lock, and
/// nothing speaks against it.
fn member(pid: u32, root: &Root, locks: &Locks<u32>) -> Option<Member> {
    let found = proc::stat(pid)?;
    let run = root.run();
    if found.state == b'Z' || found.start_time < run.start_time {
        return None;
    }
    let is_marked = found.session == run.root
        || locks.at_number(pid).is_some()
        || named(pid).is_some_and(|name| name == run.name);
    if !is_marked {
        return None;
    }
    let table = family([pid, run.root]);
    let holds = |pid: u32, _: &Stat| locks.at_number(pid);
    let own = std::process::id();
    let all = members(&table, &[run], &HashMap::new(), own, named, holds);
    let is_member = all.get(&run.root).is_some_and(|all| all.contains(&pid));
    is_member.then(|| open(pid, &found, root)).flatten()
}

/// These processes and all their ancestors, as they are now.
fn family(pids: impl IntoIterator<Item = u32>) -> HashMap<u32, Stat> {
    let mut table = HashMap::new();
    for mut at in pids {
        while !table.contains_key(&at) {
            let Some(stat) = proc::stat(at) else { break };
            table.insert(at, stat);
            at = stat.parent;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::super::super::child_env::PROCESS_VARIABLE;
    use super::super::super::kill::Handle;
    use super::super::super::run_lock::RunLock;
    use super::*;

    const RUN: &str = "cafe.0.1";

    /// Goes from child to child in a session of its own, without an environment: nothing but the lock
    /// tells whose it is. Gives up by itself some time.
    const RUNNER: &str = "exec 198<&0; \
        next() { [ $1 -gt 0 ] || exit; sleep 0.05; next $(($1 - 1)) & }; next 200";

    /// A run whose root has ended, and the runner that it has left behind.
    fn run(folder: &Path, name: Option<&str>) -> Root {
        let lock = RunLock::of(folder, RUN);
        let held = lock.take().unwrap();
        let mut command = Command::new("/bin/sleep");
        let mut ended = command.arg("1000").process_group(0).spawn().unwrap();
        let handle = Handle::open(ended.id(), None).unwrap();
        let mut runner = Command::new("setsid");
        runner.args(["--fork", "bash", "-c", RUNNER]).env_clear();
        runner.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        runner.envs(name.map(|name| (PROCESS_VARIABLE, name)));
        runner.stdin(Stdio::from(held));
        assert!(runner.status().unwrap().success());
        ended.kill().unwrap();
        ended.wait().unwrap();
        let locks = Locks::held([(&lock, ())]);
        while !proc::all_pids().any(|pid| locks.at_number(pid).is_some()) {}
        Root {
            handle,
            name: RUN.into(),
            lock,
            is_whole: true,
        }
    }

    #[test]
    fn what_goes_from_child_to_child_is_caught() {
        let folder = tempfile::tempdir().unwrap();
        let root = run(folder.path(), None);
        assert!(root.is_held());
        let caught = cast(&root);
        assert!(!caught.is_empty());
        for member in caught {
            // It may have been collected meanwhile.
            if let Ok(killed) = Handle::open(member.pid, Some(member.start_time)) {
                killed.wait(Duration::from_secs(20));
            }
        }
        assert!(!root.is_held(), "something has run away");
    }

    #[test]
    fn what_says_that_it_is_of_another_run_is_not_caught() {
        let folder = tempfile::tempdir().unwrap();
        let root = run(folder.path(), Some("beef.0.1"));
        assert!(cast(&root).is_empty());
        assert!(root.is_held());
    }

    #[test]
    fn a_family_is_known_to_its_oldest() {
        let own = std::process::id();
        let family = family([own, own]);
        let oldest = |pid: &u32| !family.contains_key(&family[pid].parent);
        assert_eq!(family.keys().filter(|&pid| oldest(pid)).count(), 1);
        assert!(family.contains_key(&own));
    }
}
