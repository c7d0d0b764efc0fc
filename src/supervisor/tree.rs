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
//! each process. A walk is no moment: who forks and ends all the time may slip through it, so the lock
//! counts more than what was seen. Nothing is gone while somebody holds it, and what runs away while it
//! is killed is caught (`tree/net.rs`). What is left even then is named, and waited for no more.

mod members;
mod net;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use self::members::{Run, is_over, members, since};
use super::cgroup::Cgroups;
use super::child_env::PROCESS_VARIABLE;
use super::exits::readable;
use super::kill::{Handle, raw};
use super::orphans::Orphans;
use super::proc::{self, Stat};
use super::run_lock::{Locks, RunLock};

/// Questions under way; those beyond wait.
const QUESTIONS: usize = 1024;
/// How long SIGKILL may take to end all of a run. What waits for a dead file server takes longer, and
/// nobody can tell how long.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How long it is waited for those that were killed before others are looked for.
const ROUND: Duration = Duration::from_secs(1);
/// So many looks in a row show nobody, and the lock is held all the same: it will not be seen.
const UNSEEN_MAX: usize = 4;
/// Between two looks at a lock whose holder was not seen.
const PAUSE: Duration = Duration::from_millis(50);

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
struct Member {
    pid: u32,
    start_time: u64,
    is_of_group: bool,
    /// It runs as another user, and we are not root: nothing can be done about it.
    is_out_of_reach: bool,
    pidfd: Arc<OwnedFd>,
}

impl Member {
    /// One that has ended is no error.
    fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }
}

/// What lives of a run beside its root.
#[derive(Debug, Default)]
struct Found {
    members: Vec<Member>,
    /// Its lock is held by what is of another run, and was named.
    has_strangers: bool,
}

impl Found {
    /// Nothing of it lives that could be ended. The root has ended.
    fn is_end_of(&self, root: &Root) -> bool {
        let knows_holder = self.has_strangers || !self.members.is_empty();
        let mut members = self.members.iter();
        members.all(|member| member.is_out_of_reach) && (knows_holder || !root.is_held())
    }

    /// Those that can be ended.
    fn in_reach(self) -> Vec<Member> {
        let mut members = self.members;
        members.retain(|member| !member.is_out_of_reach);
        members
    }
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
    answer: oneshot::Sender<Found>,
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

    async fn look(&self, root: &Root) -> Found {
        let (answer, found) = oneshot::channel();
        let root = root.clone();
        // The thread ends with the daemon.
        let _ = self.questions.send(Question { root, answer }).await;
        found.await.unwrap_or_default()
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
        if !could_be_left {
            return true;
        }
        let found = self.look(root).await;
        found.members.is_empty() && found.is_end_of(root)
    }

    /// Waits until the root, which has ended, is the last that lived of its run. What is left after
    /// [`Self::end`] is waited for no more: what there is to say of it.
    pub async fn gone(&self, root: &Root) -> Option<String> {
        tokio::select! {
            biased;
            left = root.handle.left_behind() => Some(left.to_owned()),
            () = self.last_gone(root) => None,
        }
    }

    /// What cannot be ended is named, and not waited for.
    async fn last_gone(&self, root: &Root) {
        loop {
            let found = self.look(root).await;
            if found.is_end_of(root) {
                for Member { pid, .. } in found.members {
                    let run = &root.name;
                    tracing::warn!(%pid, %run, "left behind: it runs as another user");
                }
                return;
            }
            let left = found.in_reach();
            if left.is_empty() {
                // Nobody was seen whose end could be waited for.
                while root.is_held() {
                    sleep(PAUSE).await;
                }
            }
            all_ended(&left).await;
        }
    }

    /// Signals all of it; only what has left the group when `group_is_told`.
    pub async fn signal(&self, root: &Root, signal: Signal, group_is_told: bool) {
        let found = self.look(root).await.in_reach();
        let is_told = |member: &&Member| group_is_told && member.is_of_group;
        for member in found.iter().filter(|member| !is_told(member)) {
            member.signal(signal);
        }
    }

    /// Ends what lives of it beside the root, whose group got SIGKILL. What is left after
    /// `END_PATIENCE` is named.
    pub async fn end(&self, root: &Root) {
        let all = timeout(END_PATIENCE, self.end_all(root)).await;
        if all.is_ok_and(|is_ended| is_ended) {
            return;
        }
        let members = self.look(root).await.members;
        let mut pids: Vec<u32> = members.iter().map(|member| member.pid).collect();
        if !root.handle.life().has_ended() {
            pids.insert(0, root.handle.pid());
        }
        if pids.is_empty() && !root.is_held() {
            return;
        }
        let (run, what) = (&root.name, left_behind(&pids, &root.lock));
        tracing::warn!(%run, "{what}");
        root.handle.leave_behind(what);
    }

    /// `false`: something is left that cannot be seen.
    async fn end_all(&self, root: &Root) -> bool {
        self.kill_group(root);
        let mut killed = self.look(root).await.in_reach();
        killed.iter().for_each(|member| member.signal(Signal::KILL));
        let mut unseen = 0;
        // The reactor takes a descriptor once, and whoever collects the root has given it this one.
        let end_of_root = root.handle.pidfd().try_clone().map(Arc::new);
        loop {
            // It holds the lock, too, until it has ended.
            if let Ok(end) = &end_of_root {
                readable(end).await;
            }
            let _ = timeout(ROUND, all_ended(&killed)).await;
            let found = self.look(root).await;
            if found.is_end_of(root) {
                return true;
            }
            unseen = if killed.is_empty() { unseen + 1 } else { 0 };
            if unseen == UNSEEN_MAX {
                return false;
            }
            if unseen > 0 {
                sleep(PAUSE).await;
            }
            self.kill_group(root);
            killed = found.in_reach();
            killed.iter().for_each(|member| member.signal(Signal::KILL));
            if root.is_whole {
                let root = root.clone();
                let caught = tokio::task::spawn_blocking(move || net::cast(&root)).await;
                killed.extend(caught.unwrap_or_default());
            }
        }
    }

    /// All in its control group, where it has one.
    fn kill_group(&self, root: &Root) {
        if root.is_whole {
            self.cgroups.kill(&root.name);
        }
    }

    /// What was there for a run that has ended goes away. Its lock stays when something is left: the
    /// next daemon looks for what holds it.
    pub fn release(&self, root: &Root, is_left: bool) {
        if !is_left {
            root.lock.remove();
        }
        self.cgroups.release(&root.name);
    }
}

async fn all_ended(members: &[Member]) {
    for member in members {
        readable(&member.pidfd).await;
    }
}

/// What there is to say of processes that SIGKILL has not ended, or that cannot be seen.
fn left_behind(pids: &[u32], lock: &RunLock) -> String {
    if pids.is_empty() {
        let path = lock.path().display();
        return format!(
            "left behind: a process that this daemon cannot see; `fuser -v {path}` names it to root"
        );
    }
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    format!(
        "left behind: SIGKILL has not ended pid {}; it may wait for a disk or a file server",
        pids.join(", ")
    )
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
        let (more, strangers) = members_by_any_number(&table, &hidden, &in_groups);
        found.extend(more);
        for Question { root, answer } in questions {
            let members = found.get(&root.handle.pid()).into_iter().flatten();
            let open = |pid: &u32| open(*pid, &table[pid], &root);
            let _ = answer.send(Found {
                members: members.filter_map(open).collect(),
                has_strangers: strangers.contains(&root.handle.pid()),
            });
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
/// same: somebody holds one under another number, or is of another run. And the roots of those whose
/// lock a stranger holds.
fn members_by_any_number(
    table: &HashMap<u32, Stat>,
    roots: &[&Root],
    in_groups: &HashMap<u32, u32>,
) -> (HashMap<u32, Vec<u32>>, HashSet<u32>) {
    let locks = Locks::held(roots.iter().map(|root| (&root.lock, root.handle.pid())));
    if locks.is_empty() {
        return Default::default();
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
    let mut strangers = HashSet::new();
    for (pid, root) in &holders {
        let is_member = found.get(root).is_some_and(|members| members.contains(pid));
        let run = runs.iter().find(|run| run.root == *root && !is_member);
        if let Some(Run { name: run, .. }) = run {
            strangers.insert(*root);
            let other = named(*pid).unwrap_or_default();
            tracing::warn!(
                %pid, %run, %other,
                "left alone: it holds the lock of a run that has ended, and is of another run"
            );
        }
    }
    (found, strangers)
}

/// The run that a process says it is of.
fn named(pid: u32) -> Option<String> {
    proc::variable(pid, PROCESS_VARIABLE)
}

/// Opens what was found, if it is still the same.
fn open(pid: u32, found: &Stat, root: &Root) -> Option<Member> {
    let pidfd = pidfd_open(raw(pid).ok()?, PidfdFlags::NONBLOCK).ok()?;
    let now = proc::stat(pid).filter(|now| now.start_time == found.start_time)?;
    Some(Member {
        pid,
        start_time: found.start_time,
        is_of_group: now.group == root.handle.pid(),
        is_out_of_reach: test_kill_process(raw(pid).ok()?) == Err(Errno::PERM),
        pidfd: Arc::new(pidfd),
    })
}

impl Root {
    /// Something holds its lock. A few system calls.
    fn is_held(&self) -> bool {
        self.is_whole && self.lock.is_held()
    }

    fn run(&self) -> Run<'_> {
        Run {
            root: self.handle.pid(),
            start_time: self.handle.start_time(),
            name: &self.name,
            is_whole: self.is_whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn member(pid: u32, is_out_of_reach: bool) -> Member {
        let this = raw(std::process::id()).unwrap();
        Member {
            pid,
            start_time: 100,
            is_of_group: false,
            is_out_of_reach,
            pidfd: Arc::new(pidfd_open(this, PidfdFlags::empty()).unwrap()),
        }
    }

    #[test]
    fn nothing_is_gone_while_somebody_holds_the_lock_whatever_was_seen() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::of(folder.path(), "cafe.0.1");
        let mut holder = Command::new("/bin/sleep");
        holder.arg("1000").stdin(Stdio::from(lock.take().unwrap()));
        let mut child = holder.spawn().unwrap();
        drop(holder);
        let root = Root {
            handle: Handle::open(std::process::id(), None).unwrap(),
            name: "cafe.0.1".into(),
            lock,
            is_whole: true,
        };
        let found = |members: Vec<Member>, has_strangers| Found {
            members,
            has_strangers,
        };
        let is_end = |found: Found| found.is_end_of(&root);
        let while_held = [
            is_end(found(vec![], false)),
            is_end(found(vec![], true)),
            is_end(found(vec![member(7, true)], false)),
            is_end(found(vec![member(7, true), member(8, false)], true)),
        ];
        let without_treekill = Root {
            is_whole: false,
            ..root.clone()
        };
        let group_alone = found(vec![], false).is_end_of(&without_treekill);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(while_held, [false, true, true, false]);
        assert!(group_alone);
        assert!(is_end(found(vec![], false)));
        assert!(!is_end(found(vec![member(8, false)], false)));
    }

    #[test]
    fn what_is_left_is_named() {
        let lock = RunLock::of("run".as_ref(), "cafe.0.1");
        let said = left_behind(&[7, 8], &lock);
        assert!(said.contains("pid 7, 8;"), "{said}");
        let said = left_behind(&[], &lock);
        assert!(said.contains("-v run/cafe.0.1.lock`"), "{said}");
    }
}
