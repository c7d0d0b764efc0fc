//! All that a run has started, wherever it went.
//!
//! Its members are those of its process group and of its session, their descendants, what carries the
//! name of the run in its environment (a daemon that has left its parents behind), and what is in its
//! control group where it has one (`cgroup.rs`). What has cleared its environment and lost its parents
//! as well is known by the run's lock, which it has inherited (`run_lock.rs`). Without a control group,
//! what has closed all its descriptors, too, can be known no more.
//!
//! What has left the session and says that it is of another run is no member, and neither is what it
//! has started, whatever lock they hold: it is left alone, and named.
//!
//! One thread walks `/proc`, once for all who ask meanwhile: `stop all` is two walks, not one for
//! each process.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
use tokio::sync::{mpsc, oneshot};

use super::cgroup::Cgroups;
use super::child_env::PROCESS_VARIABLE;
use super::exits::readable;
use super::kill::{Handle, raw};
use super::orphans::Orphans;
use super::proc::{self, Stat};
use super::run_lock::{Locks, RunLock};

/// Questions under way; those beyond wait.
const QUESTIONS: usize = 1024;
/// Who forks while it is killed is killed again, so often.
const KILL_ROUNDS: usize = 20;

/// A run, by its root process.
#[derive(Clone, Debug)]
pub struct Root {
    /// The root process.
    pub handle: Handle,
    /// The value of [`PROCESS_VARIABLE`] in its environment.
    pub name: Arc<str>,
    /// What its processes have inherited.
    pub lock: RunLock,
    /// What has left the process group is a member, too (`treekill`).
    pub is_whole: bool,
}

/// A process of a run, provably the same until it is dropped; never the root.
#[derive(Clone, Debug)]
pub struct Member {
    pid: u32,
    is_of_group: bool,
    /// It runs as another user, and we are not root: nothing can be done about it.
    is_out_of_reach: bool,
    pidfd: Arc<OwnedFd>,
}

/// Finds the members of runs.
#[derive(Clone, Debug)]
pub struct Trees {
    questions: mpsc::Sender<Question>,
    orphans: Orphans,
    cgroups: Cgroups,
}

#[derive(Debug)]
struct Question {
    root: Root,
    answer: oneshot::Sender<Vec<Member>>,
}

impl Trees {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(orphans: Orphans, cgroups: Cgroups) -> io::Result<Self> {
        let (questions, inbox) = mpsc::channel(QUESTIONS);
        let groups = cgroups.clone();
        std::thread::Builder::new()
            .name("mcpm-trees".into())
            .spawn(move || answer_all(inbox, &groups))?;
        Ok(Self {
            questions,
            orphans,
            cgroups,
        })
    }

    /// What lives of a run beside its root.
    pub async fn members(&self, root: &Root) -> Vec<Member> {
        let (answer, members) = oneshot::channel();
        let root = root.clone();
        // The thread ends with the daemon.
        let _ = self.questions.send(Question { root, answer }).await;
        members.await.unwrap_or_default()
    }

    /// The root has ended: has all else, too? Where nothing is an orphan or holds the lock that is a
    /// handful of system calls.
    pub async fn is_gone(&self, root: &Root) -> bool {
        let group_is_gone = root.handle.group_is_gone();
        if !group_is_gone || !root.is_whole {
            return group_is_gone;
        }
        // What was left by children of an earlier daemon did not come to this one.
        let could_be_left =
            !root.handle.is_child() || root.lock.is_held() || self.orphans.any().await;
        !could_be_left || self.members(root).await.is_empty()
    }

    /// Waits until the root, which has ended, is the last that lived of its run. What cannot be ended
    /// is named, and not waited for.
    pub async fn gone(&self, root: &Root) {
        loop {
            let (strangers, left): (Vec<_>, Vec<_>) = self
                .members(root)
                .await
                .into_iter()
                .partition(|member| member.is_out_of_reach);
            if left.is_empty() {
                for Member { pid, .. } in strangers {
                    let run = &root.name;
                    tracing::warn!(%pid, %run, "left behind: it runs as another user");
                }
                return;
            }
            for member in left {
                readable(&member.pidfd).await;
            }
        }
    }

    /// Signals all of it; only what has left the group when `group_is_told`.
    pub async fn signal(&self, root: &Root, signal: Signal, group_is_told: bool) {
        if signal == Signal::KILL && root.is_whole {
            self.cgroups.kill(&root.name);
        }
        for _ in 0..KILL_ROUNDS {
            let mut left = self.members(root).await;
            left.retain(|member| !member.is_out_of_reach);
            left.retain(|member| !(group_is_told && member.is_of_group));
            if left.is_empty() {
                return;
            }
            for member in &left {
                // One that has ended is no error.
                let _ = pidfd_send_signal(&member.pidfd, signal);
            }
            if signal != Signal::KILL {
                return;
            }
            for member in left {
                readable(&member.pidfd).await;
            }
        }
    }

    /// The run has ended; what was there for it goes away.
    pub fn release(&self, root: &Root) {
        root.lock.remove();
        self.cgroups.release(&root.name);
    }
}

fn answer_all(mut inbox: mpsc::Receiver<Question>, cgroups: &Cgroups) {
    while let Some(first) = inbox.blocking_recv() {
        let mut questions = vec![first];
        while let Ok(next) = inbox.try_recv() {
            questions.push(next);
        }
        let table: HashMap<u32, Stat> = proc::all().collect();
        let roots: Vec<&Root> = questions.iter().map(|question| &question.root).collect();
        let wholes = roots.iter().filter(|root| root.is_whole);
        let in_groups: HashMap<u32, u32> = wholes
            .flat_map(|root| {
                let pids = cgroups.pids(&root.name).into_iter();
                pids.map(move |pid| (pid, root.handle.pid()))
            })
            .collect();
        let mut found = members_by_number(&table, &roots, &in_groups);
        let hidden = roots.into_iter().filter(|root| {
            let is_over = is_over(&table, &root.run());
            root.is_whole && is_over && !found.contains_key(&root.handle.pid())
        });
        let hidden: Vec<&Root> = hidden.collect();
        found.extend(members_by_any_number(&table, &hidden, &in_groups));
        for Question { root, answer } in questions {
            let members = found.get(&root.handle.pid()).into_iter().flatten();
            let open = |pid: &u32| open(*pid, &table[pid], &root);
            let _ = answer.send(members.filter_map(open).collect());
        }
    }
}

/// The members of these runs. Whether something holds a lock costs one look at each process.
fn members_by_number(
    table: &HashMap<u32, Stat>,
    roots: &[&Root],
    in_groups: &HashMap<u32, u32>,
) -> HashMap<u32, Vec<u32>> {
    let runs: Vec<Run<'_>> = roots.iter().map(|root| root.run()).collect();
    let whole = roots.iter().filter(|root| root.is_whole);
    let locks = Locks::held(whole.map(|root| (&root.lock, root.handle.pid())));
    let since = if locks.is_empty() {
        u64::MAX
    } else {
        since(&runs)
    };
    let holds = |pid: u32, stat: &Stat| match stat.start_time {
        started if started >= since => locks.at_number(pid),
        _ => None,
    };
    members(table, &runs, in_groups, std::process::id(), named, holds)
}

/// The members of runs that are over and of which nothing was found, if their locks are held all the
/// same: somebody holds one under another number, or is of another run.
fn members_by_any_number(
    table: &HashMap<u32, Stat>,
    roots: &[&Root],
    in_groups: &HashMap<u32, u32>,
) -> HashMap<u32, Vec<u32>> {
    let locks = Locks::held(roots.iter().map(|root| (&root.lock, root.handle.pid())));
    if locks.is_empty() {
        return HashMap::new();
    }
    let runs: Vec<Run<'_>> = roots.iter().map(|root| root.run()).collect();
    let (own, since) = (std::process::id(), since(&runs));
    let young = table
        .iter()
        .filter(|&(&pid, stat)| pid != own && stat.start_time >= since);
    let holders: HashMap<u32, u32> = young
        .filter_map(|(&pid, _)| Some((pid, locks.anywhere(pid)?)))
        .collect();
    let holds = |pid: u32, _: &Stat| holders.get(&pid).copied();
    let found = members(table, &runs, in_groups, own, named, holds);
    for (pid, root) in &holders {
        let is_member = found.get(root).is_some_and(|members| members.contains(pid));
        let run = runs.iter().find(|run| run.root == *root && !is_member);
        if let Some(Run { name: run, .. }) = run {
            let other = named(*pid).unwrap_or_default();
            tracing::warn!(
                %pid, %run, %other,
                "left alone: it holds the lock of a run that has ended, and is of another run"
            );
        }
    }
    found
}

/// The run that a process says it is of.
fn named(pid: u32) -> Option<String> {
    proc::variable(pid, PROCESS_VARIABLE)
}

/// What was started before the first of these runs has no lock of theirs.
fn since(runs: &[Run<'_>]) -> u64 {
    let started = runs.iter().map(|run| run.start_time);
    started.min().unwrap_or(u64::MAX)
}

/// The root has ended.
fn is_over(table: &HashMap<u32, Stat>, run: &Run<'_>) -> bool {
    let stat = table.get(&run.root);
    stat.is_none_or(|stat| stat.start_time != run.start_time || stat.state == b'Z')
}

/// Opens what was found, if it is still the same.
fn open(pid: u32, found: &Stat, root: &Root) -> Option<Member> {
    let pidfd = pidfd_open(raw(pid).ok()?, PidfdFlags::NONBLOCK).ok()?;
    let now = proc::stat(pid).filter(|now| now.start_time == found.start_time)?;
    Some(Member {
        pid,
        is_of_group: now.group == root.handle.pid(),
        is_out_of_reach: test_kill_process(raw(pid).ok()?) == Err(Errno::PERM),
        pidfd: Arc::new(pidfd),
    })
}

/// A run that is asked for.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    root: u32,
    start_time: u64,
    name: &'a str,
    is_whole: bool,
}

impl Root {
    fn run(&self) -> Run<'_> {
        Run {
            root: self.handle.pid(),
            start_time: self.handle.start_time(),
            name: &self.name,
            is_whole: self.is_whole,
        }
    }
}

/// Who is whose (pure): the members of each run, by the run's root, without the root. `in_groups`: the
/// roots of what is in the control groups of whole runs; `name`: the run that a process says it is of;
/// `holds`: the root of the run whose lock it has.
fn members(
    table: &HashMap<u32, Stat>,
    runs: &[Run<'_>],
    in_groups: &HashMap<u32, u32>,
    own: u32,
    name: impl Fn(u32) -> Option<String>,
    holds: impl Fn(u32, &Stat) -> Option<u32>,
) -> HashMap<u32, Vec<u32>> {
    // A number that has a new owner was given up by the group and the session of the old one.
    let is_others = |run: &Run<'_>| {
        let stat = table.get(&run.root);
        stat.is_some_and(|stat| stat.start_time != run.start_time)
    };
    let by_root: HashMap<u32, Run<'_>> = runs
        .iter()
        .filter(|run| !is_others(run))
        .map(|run| (run.root, *run))
        .collect();
    let by_name: HashMap<&str, u32> = runs
        .iter()
        .filter(|run| run.is_whole)
        .map(|run| (run.name, run.root))
        .collect();
    let says = |pid: u32, stat: &Stat| match by_root.get(&stat.session) {
        _ if pid == own => Some(Whose::Nobodys),
        _ if in_groups.contains_key(&pid) => in_groups.get(&pid).copied().map(Whose::Of),
        Some(run) if run.is_whole || stat.group == run.root => Some(Whose::Of(run.root)),
        _ if by_name.is_empty() => Some(Whose::Nobodys),
        // The name of a run that nobody asks for is an answer, too.
        _ => {
            let root = |name: String| by_name.get(name.as_str()).copied();
            name(pid).map(|name| root(name).map_or(Whose::Others, Whose::Of))
        }
    };
    let locked = |pid: u32, stat: &Stat| {
        if pid == own {
            return Some(Whose::Nobodys);
        }
        holds(pid, stat).map(Whose::Of)
    };
    let (mut known, mut held) = (HashMap::new(), HashMap::new());
    let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
    for (&pid, stat) in table {
        let whose = match whose(pid, table, &mut known, says) {
            Whose::Nobodys if !by_name.is_empty() => whose(pid, table, &mut held, locked),
            said => said,
        };
        if let Whose::Of(root) = whose
            && root != pid
            && stat.state != b'Z'
        {
            found.entry(root).or_default().push(pid);
        }
    }
    found
}

#[derive(Clone, Copy)]
enum Whose {
    /// Of the run with this root.
    Of(u32),
    /// Of a run that is not asked for.
    Others,
    /// Nothing says whose.
    Nobodys,
}

/// The first of a process and its ancestors that says whose it is decides for it.
fn whose(
    pid: u32,
    table: &HashMap<u32, Stat>,
    known: &mut HashMap<u32, Whose>,
    says: impl Fn(u32, &Stat) -> Option<Whose>,
) -> Whose {
    let mut path = Vec::new();
    let mut at = pid;
    let whose = loop {
        if let Some(&whose) = known.get(&at) {
            break whose;
        }
        let Some(stat) = table.get(&at) else {
            break Whose::Nobodys;
        };
        path.push(at);
        if let Some(whose) = says(at, stat) {
            break whose;
        }
        // A circle cannot be, but what was read was not read at one moment.
        if path.contains(&stat.parent) {
            break Whose::Nobodys;
        }
        at = stat.parent;
    };
    known.extend(path.into_iter().map(|pid| (pid, whose)));
    whose
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: u32 = 2;

    fn stat(parent: u32, group: u32, session: u32) -> Stat {
        Stat {
            state: b'S',
            parent,
            group,
            session,
            start_time: 100,
            resident_pages: 0,
            exit_status: 0,
        }
    }

    fn run(root: u32, name: &str) -> Run<'_> {
        Run {
            root,
            start_time: 100,
            name,
            is_whole: true,
        }
    }

    /// A service 10 with a child 11 in its group, 12 in a group and 13 in a session of its own, 14
    /// as a child of that one, 15 that has left all parents, 16 that has cleared its environment,
    /// too; another service 20 with a child 21; and a shell 30.
    fn table() -> HashMap<u32, Stat> {
        HashMap::from([
            (DAEMON, stat(1, 2, 2)),
            (10, stat(DAEMON, 10, 10)),
            (11, stat(10, 10, 10)),
            (12, stat(11, 12, 10)),
            (13, stat(10, 13, 13)),
            (14, stat(13, 14, 14)),
            (15, stat(DAEMON, 15, 15)),
            (16, stat(DAEMON, 16, 16)),
            (20, stat(DAEMON, 20, 20)),
            (21, stat(20, 21, 21)),
            (30, stat(1, 30, 30)),
        ])
    }

    fn name(pid: u32) -> Option<String> {
        let name = match pid {
            10..=13 | 15 => "cafe.0.1",
            20 => "cafe.1.1",
            _ => return None,
        };
        Some(name.to_owned())
    }

    fn no_lock(_: u32, _: &Stat) -> Option<u32> {
        None
    }

    fn of(root: u32, table: &HashMap<u32, Stat>, runs: &[Run<'_>]) -> Vec<u32> {
        let mut found = members(table, runs, &HashMap::new(), DAEMON, name, no_lock);
        let mut found = found.remove(&root).unwrap_or_default();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_has_left_the_group_is_found_by_session_parent_and_name() {
        let runs = [run(10, "cafe.0.1"), run(20, "cafe.1.1")];
        assert_eq!(of(10, &table(), &runs), [11, 12, 13, 14, 15]);
        assert_eq!(of(20, &table(), &runs), [21]);
        let mut dead = table();
        dead.remove(&10);
        dead.insert(13, stat(DAEMON, 13, 13));
        assert_eq!(of(10, &dead, &runs[..1]), [11, 12, 13, 14, 15]);
    }

    #[test]
    fn the_group_alone_is_what_its_number_says() {
        let group = Run {
            is_whole: false,
            ..run(10, "cafe.0.1")
        };
        assert_eq!(of(10, &table(), &[group]), [11]);
        let runs = [group, run(20, "cafe.1.1")];
        assert_eq!(of(10, &table(), &runs), [11]);
        assert_eq!(of(20, &table(), &runs), [21]);
    }

    #[test]
    fn another_run_or_a_new_owner_of_the_number_is_left_alone() {
        assert_eq!(of(10, &table(), &[run(10, "cafe.0.2")]), [11, 12]);
        let mut reused = table();
        reused.insert(
            10,
            Stat {
                start_time: 101,
                ..stat(1, 10, 10)
            },
        );
        assert_eq!(
            of(10, &reused, &[run(10, "cafe.0.1")]),
            [11, 12, 13, 14, 15]
        );
        let strangers = |_: u32| None;
        let (runs, nothing) = ([run(10, "cafe.0.1")], HashMap::new());
        let found = members(&reused, &runs, &nothing, DAEMON, strangers, no_lock);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn what_nothing_else_tells_of_is_known_by_the_lock() {
        let mut table = table();
        // A child of 16 that has closed its descriptors; what is of another home, and a child of
        // that with a clear environment.
        table.insert(17, stat(16, 17, 17));
        table.insert(50, stat(DAEMON, 50, 50));
        table.insert(51, stat(50, 51, 51));
        let name = |pid| match pid {
            50 => Some("beef.0.1".to_owned()),
            _ => name(pid),
        };
        let holds = |pid: u32, _: &Stat| [DAEMON, 10, 16, 50, 51].contains(&pid).then_some(10);
        let of = |runs: &[Run<'_>]| {
            let mut found = members(&table, runs, &HashMap::new(), DAEMON, name, holds);
            let mut found = found.remove(&10).unwrap_or_default();
            found.sort_unstable();
            found
        };
        let whole = run(10, "cafe.0.1");
        assert_eq!(of(&[whole]), [11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(of(&[whole, run(20, "cafe.1.1")]).len(), 7);
        let group = Run {
            is_whole: false,
            ..whole
        };
        assert_eq!(of(&[group]), [11]);
    }

    #[test]
    fn a_run_is_over_when_its_root_is() {
        let it = run(10, "cafe.0.1");
        let with = |state, start_time| {
            let stat = Stat {
                state,
                start_time,
                ..stat(DAEMON, 10, 10)
            };
            is_over(&HashMap::from([(10, stat)]), &it)
        };
        assert!(!with(b'S', 100));
        assert!(with(b'Z', 100) && with(b'S', 101));
        assert!(is_over(&HashMap::new(), &it));
    }

    #[test]
    fn a_control_group_knows_what_nothing_else_shows() {
        let runs = [run(10, "cafe.0.1"), run(20, "cafe.1.1")];
        // 16 has cleared its environment, 21 is a child of the other service, and has moved.
        let in_groups = HashMap::from([(10, 10), (16, 10), (21, 10), (DAEMON, 10)]);
        let mut found = members(&table(), &runs, &in_groups, DAEMON, name, no_lock);
        let mut first = found.remove(&10).unwrap();
        first.sort_unstable();
        assert_eq!(first, [11, 12, 13, 14, 15, 16, 21]);
        assert_eq!(found.remove(&20), None);
    }

    #[test]
    fn zombies_and_circles_are_nobodys() {
        let mut table = table();
        table.insert(
            11,
            Stat {
                state: b'Z',
                ..stat(10, 10, 10)
            },
        );
        table.insert(40, stat(41, 40, 40));
        table.insert(41, stat(40, 41, 41));
        assert_eq!(of(10, &table, &[run(10, "cafe.0.1")]), [12, 13, 14, 15]);
    }
}
