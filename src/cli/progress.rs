//! How far a start has come: pure, fed with the daemon's lists and the time since it began.
//!
//! Services count when they are ready, plain apps when one run of theirs has been online for a
//! moment. What will not get there by itself has failed; what takes longer than its `start_timeout`
//! is given up on (it goes on trying, and so does the daemon).

use std::collections::HashMap;
use std::time::Duration;

use crate::api::processes::{LastExit, Process, Readiness, Status};
use crate::ids::PmId;

use super::units;

/// For what has no `start_timeout` of its own; on top of `listen_timeout`, where the app says when it
/// is ready.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A plain app counts when one run has been online for so long: what cannot run at all has ended by
/// then.
const SETTLING: Duration = Duration::from_millis(150);
/// The same for one of several that have no port each: by then most have found out whether there is
/// one for them.
const SETTLING_OF_REPLICAS: Duration = Duration::from_secs(1);

/// Where one process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Under way, and what it is doing.
    Waiting(String),
    /// There, with a word for it.
    Done(String),
    /// Does not run, which is as it should be, and why.
    Spare(String),
    /// Will not get there, and why.
    Failed(String),
}

/// What a step that is under way is at, in rough words: a pipe gets a line when this changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Starting,
    Stopping,
    Unhealthy,
    /// Has ended since this start, and is tried again.
    Restarting,
}

/// The run of a plain app that is online.
#[derive(Clone, Copy, Debug)]
struct Run {
    pid: u32,
    /// When it was first seen.
    seen: Duration,
    /// How long it must last to count.
    settling: Duration,
}

/// One process of a start.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    id: PmId,
    /// Name, with the number when it is not the only one of that name that is listed.
    pub(crate) label: String,
    /// Where a service listens.
    pub(crate) place: Option<String>,
    limit: Duration,
    /// From when on the limit counts.
    since: Duration,
    /// Its turn to be started has not come.
    is_queued: bool,
    /// Restarts before this start.
    restarts: u32,
    /// How it ended last, when it did since this start.
    ended: Option<String>,
    /// What its last health check said, when that was no good.
    failure: Option<String>,
    /// Of a plain app that is online.
    run: Option<Run>,
    kind: Kind,
    /// The last list has changed its kind.
    turned: bool,
    /// Where it stands.
    pub(crate) stage: Stage,
    /// When it got there, or was given up on.
    pub(crate) after: Option<Duration>,
}

impl Step {
    /// What to say of it: `ready in 41 ms`, or the reason.
    pub(crate) fn note(&self) -> String {
        match (&self.stage, self.after) {
            (Stage::Done(word), Some(after)) => format!("{word} in {}", units::took(after)),
            (
                Stage::Done(text) | Stage::Waiting(text) | Stage::Spare(text) | Stage::Failed(text),
                _,
            ) => text.clone(),
        }
    }

    /// Is nothing more to come?
    pub(crate) fn is_settled(&self) -> bool {
        !matches!(self.stage, Stage::Waiting(_))
    }

    /// Is it worth a line of its own where lines are not redrawn?
    pub(crate) fn is_news(&self) -> bool {
        self.is_settled() || self.turned
    }

    /// Takes down what the list says of it.
    fn look(&mut self, process: &Process, elapsed: Duration) {
        let ended = process.unstable_restarts > 0
            || process.restarts > self.restarts
            || process.status == Status::WaitingRestart;
        if ended {
            let exit = process.last_exit.as_ref().map(how_it_ended);
            let why = process.reason.clone().or(exit);
            self.ended = why.or(self.ended.take());
        }
        let health = process.health.as_ref();
        self.failure = health.and_then(|health| health.last_failure.clone());
        let is_up = process.status == Status::Online && health.is_none();
        let same = self.run.filter(|run| run.pid == process.pid);
        self.run = is_up.then(|| {
            same.unwrap_or_else(|| Run {
                pid: process.pid,
                seen: elapsed,
                settling: if process.unstable_restarts > 0 {
                    // One that has ended too early must show that it no longer does.
                    SETTLING.max(process.spec.restart.min_uptime)
                } else if may_want_a_siblings_port(process) {
                    SETTLING_OF_REPLICAS
                } else {
                    SETTLING
                },
            })
        });
        let unhealthy = health.is_some_and(|health| health.readiness == Readiness::Unhealthy);
        let kind = match process.status {
            _ if self.ended.is_some() => Kind::Restarting,
            Status::Stopping => Kind::Stopping,
            Status::Online if unhealthy => Kind::Unhealthy,
            _ => Kind::Starting,
        };
        self.turned = kind != self.kind;
        self.kind = kind;
    }

    fn next_stage(&self, process: &Process, elapsed: Duration) -> Stage {
        match (stage(process), self.run) {
            (Stage::Done(_), Some(run)) if elapsed < run.settled_at() => self.under_way("starting"),
            (Stage::Waiting(note), _) => self.under_way(&note),
            (other, _) => other,
        }
    }

    fn late_at(&self) -> Duration {
        self.since + self.limit
    }

    fn under_way(&self, note: &str) -> Stage {
        Stage::Waiting(self.ended.clone().unwrap_or_else(|| note.to_owned()))
    }
}

impl Run {
    fn settled_at(&self) -> Duration {
        self.seen + self.settling
    }
}

/// All processes of a start.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// In the order they were asked for.
    pub(crate) steps: Vec<Step>,
}

impl Progress {
    /// Those of the list with these ids. `limit` takes the place of every service's own.
    pub(crate) fn new(ids: &[PmId], processes: &[Process], limit: Option<Duration>) -> Self {
        let known: HashMap<PmId, &Process> = processes.iter().map(|p| (p.pm_id, p)).collect();
        let wanted = ids.iter().filter_map(|id| known.get(id).copied());
        // Also of those that are not meant: a reload asks for one replica after another.
        let mut named: HashMap<&str, usize> = HashMap::new();
        for process in processes {
            *named.entry(process.name.as_str()).or_default() += 1;
        }
        let step = |process: &Process| {
            let mcp = process.spec.mcp.as_ref();
            let name = process.name.as_str();
            let only = named.get(name) == Some(&1);
            let plain = || PLAIN_TIMEOUT + process.spec.ready_within.unwrap_or_default();
            Step {
                id: process.pm_id,
                label: if only {
                    name.to_owned()
                } else {
                    format!("{name} ({})", process.pm_id)
                },
                place: mcp.map(|mcp| format!("127.0.0.1:{}", mcp.port)),
                limit: limit.unwrap_or_else(|| mcp.map_or_else(plain, |mcp| mcp.start_timeout)),
                since: Duration::ZERO,
                is_queued: limit.is_none(),
                restarts: process.restarts,
                ended: None,
                failure: None,
                run: None,
                kind: Kind::Starting,
                turned: false,
                stage: Stage::Waiting("starting".to_owned()),
                after: None,
            }
        };
        Self {
            steps: wanted.map(step).collect(),
        }
    }

    /// Takes a new list in; returns which steps have changed. What is settled stays so.
    pub(crate) fn observe(&mut self, processes: &[Process], elapsed: Duration) -> Vec<usize> {
        let known: HashMap<PmId, &Process> = processes.iter().map(|p| (p.pm_id, p)).collect();
        let mut queue_has_moved = false;
        for step in &mut self.steps {
            if let Some(process) = known.get(&step.id) {
                step.look(process, elapsed);
                let is_queued = process.status == Status::Launching && process.pid == 0;
                queue_has_moved |= step.is_queued && !is_queued;
                step.is_queued &= is_queued;
            }
        }
        // Hundreds take a while: as long as the queue moves, nobody in it is late.
        if queue_has_moved {
            let queued = self.steps.iter_mut().filter(|step| step.is_queued);
            queued.for_each(|step| step.since = elapsed);
        }
        self.update(elapsed, |step| match known.get(&step.id) {
            Some(process) => step.next_stage(process, elapsed),
            None => Stage::Failed("was deleted meanwhile".to_owned()),
        })
    }

    /// Settles plain apps that have been online long enough, and gives up on what has taken too
    /// long; returns which steps have changed.
    pub(crate) fn expire(&mut self, elapsed: Duration) -> Vec<usize> {
        self.update(elapsed, |step| match &step.stage {
            Stage::Waiting(_) if step.run.is_some_and(|run| elapsed >= run.settled_at()) => {
                Stage::Done("online".to_owned())
            }
            Stage::Waiting(note) if elapsed >= step.late_at() => Stage::Failed(format!(
                "not ready after {}: {}; it goes on trying",
                units::took(step.limit),
                step.ended
                    .as_ref()
                    .or(step.failure.as_ref())
                    .unwrap_or(note)
            )),
            other => other.clone(),
        })
    }

    /// When to look again without a new list; `None` when nothing is under way.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.steps
            .iter()
            .filter(|step| !step.is_settled())
            .map(|step| match step.run {
                Some(run) => run.settled_at().min(step.late_at()),
                None => step.late_at(),
            })
            .min()
    }

    /// Those that got there.
    pub(crate) fn done(&self) -> impl Iterator<Item = PmId> {
        let done = |step: &&Step| matches!(step.stage, Stage::Done(_));
        self.steps.iter().filter(done).map(|step| step.id)
    }

    /// Those that will not get there, or took too long.
    pub(crate) fn failed(&self) -> impl Iterator<Item = PmId> {
        let failed = |step: &&Step| matches!(step.stage, Stage::Failed(_));
        self.steps.iter().filter(failed).map(|step| step.id)
    }

    /// Is every step settled?
    pub(crate) fn is_settled(&self) -> bool {
        self.steps.iter().all(Step::is_settled)
    }

    /// Has any failed?
    pub(crate) fn has_failed(&self) -> bool {
        self.failed().next().is_some()
    }

    fn update(&mut self, elapsed: Duration, next: impl Fn(&Step) -> Stage) -> Vec<usize> {
        let mut changed = Vec::new();
        for (at, step) in self.steps.iter_mut().enumerate() {
            if step.is_settled() {
                continue;
            }
            let stage = next(step);
            if stage != step.stage {
                step.stage = stage;
                // It was there from when it was first seen, not from when we believed it.
                let when = step.run.map_or(elapsed, |run| run.seen);
                step.after = step.is_settled().then_some(when);
                changed.push(at);
            }
        }
        changed
    }
}

fn stage(process: &Process) -> Stage {
    let reason = |otherwise: &str| {
        process
            .reason
            .clone()
            .unwrap_or_else(|| otherwise.to_owned())
    };
    let readiness = process.health.as_ref().map(|health| health.readiness);
    if readiness == Some(Readiness::PortTaken) {
        let failure = process.health.as_ref().and_then(|h| h.last_failure.clone());
        let why = process.reason.clone().or(failure);
        let why = why.unwrap_or_else(|| "its port is taken by another program".to_owned());
        return Stage::Failed(why);
    }
    match process.status {
        Status::Errored => Stage::Failed(reason("errored")),
        Status::Stopped => stopped(process, &reason("stopped")),
        Status::Online => match readiness {
            None => Stage::Done("online".to_owned()),
            Some(Readiness::Ready) => Stage::Done("ready".to_owned()),
            Some(Readiness::Unhealthy) => Stage::Waiting(reason("unhealthy")),
            Some(_) => Stage::Waiting("starting".to_owned()),
        },
        Status::Launching => Stage::Waiting("starting".to_owned()),
        Status::Stopping => Stage::Waiting("stopping".to_owned()),
        Status::WaitingRestart => Stage::Waiting(reason("waiting restart")),
    }
}

/// It is one of several that were not given a port each.
fn may_want_a_siblings_port(process: &Process) -> bool {
    let spec = &process.spec;
    spec.instances > 1 && spec.increment_var.is_none() && spec.ready_within.is_none()
}

/// In the words that the daemon has for it.
fn how_it_ended(exit: &LastExit) -> String {
    match (exit.code, &exit.signal) {
        _ if exit.why.is_some() => exit.why.clone().unwrap_or_default(),
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by {signal}"),
        (None, None) => "ended while no daemon was watching".to_owned(),
    }
}

/// A job that is done already, or a replica without a port.
fn stopped(process: &Process, reason: &str) -> Stage {
    if process.unshared.is_some() {
        return Stage::Spare(format!("stopped: {reason}"));
    }
    match process.last_exit.as_ref().and_then(|exit| exit.code) {
        Some(0) => Stage::Done("ended with code 0".to_owned()),
        Some(code) => Stage::Failed(format!("ended with code {code}")),
        None => Stage::Failed(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::{process, service};
    use crate::ids::Timestamp;

    const MS: Duration = Duration::from_millis(1);

    fn exit(code: i32) -> Option<LastExit> {
        Some(LastExit {
            code: Some(code),
            signal: None,
            at: Timestamp::default(),
            why: None,
        })
    }

    fn ids(list: &[Process]) -> Vec<PmId> {
        list.iter().map(|p| p.pm_id).collect()
    }

    #[test]
    fn a_service_counts_when_it_is_ready() {
        let mut list = [service(0, "demo", 49160, Readiness::Starting)];
        let mut progress = Progress::new(&ids(&list), &list, None);
        assert!(progress.observe(&list, MS).is_empty());
        assert_eq!(progress.deadline(), Some(Duration::from_secs(60)));
        list[0] = service(0, "demo", 49160, Readiness::Ready);
        assert_eq!(progress.observe(&list, 41 * MS), [0]);
        assert!(progress.is_settled() && !progress.has_failed());
        assert_eq!(progress.deadline(), None);
        let step = &progress.steps[0];
        assert_eq!(step.place.as_deref(), Some("127.0.0.1:49160"));
        assert_eq!(step.note(), "ready in 41 ms");
    }

    #[test]
    fn a_plain_app_counts_when_it_has_been_online_for_a_moment() {
        let list = [process(0, "web")];
        let mut progress = Progress::new(&ids(&list), &list, None);
        progress.observe(&list, MS);
        assert!(!progress.is_settled());
        assert_eq!(progress.deadline(), Some(MS + SETTLING));
        assert!(progress.expire(SETTLING).is_empty());
        assert_eq!(progress.expire(MS + SETTLING), [0]);
        assert_eq!(progress.steps[0].note(), "online in 1 ms");
        assert_eq!(progress.done().collect::<Vec<_>>(), [PmId(0)]);
    }

    #[test]
    fn who_waits_for_its_turn_is_not_late_while_the_queue_moves() {
        let late = |limit| {
            let mut list = [process(0, "a"), process(1, "b"), process(2, "c")];
            for queued in &mut list {
                (queued.status, queued.pid) = (Status::Launching, 0);
            }
            let mut progress = Progress::new(&ids(&list), &list, limit);
            progress.observe(&list, MS);
            (list[0].status, list[0].pid) = (Status::Online, 10);
            progress.observe(&list, 9000 * MS);
            progress.expire(12_000 * MS);
            let failed = |step: &Step| matches!(step.stage, Stage::Failed(_));
            let late = progress.steps.iter().filter(|step| failed(step)).count();
            progress.expire(19_000 * MS);
            (late, progress.is_settled())
        };
        assert_eq!(late(None), (0, true));
        assert_eq!(late(Some(PLAIN_TIMEOUT)), (2, true), "so it was asked");
    }

    #[test]
    fn an_app_that_crashes_at_once_is_never_online() {
        let mut list = [process(0, "web")];
        let mut progress = Progress::new(&ids(&list), &list, None);
        progress.observe(&list, MS);
        // Another run of it each time; the list shows it online in between.
        for run in 1..5 {
            list[0].pid += 1;
            list[0].unstable_restarts = run;
            list[0].last_exit = exit(1);
            progress.observe(&list, MS + SETTLING * run);
            assert_eq!(progress.steps[0].note(), "exited with code 1");
        }
        // The same run counts once it has lasted for `min_uptime`.
        let before = MS + SETTLING * 4;
        assert_eq!(progress.deadline(), Some(before + Duration::from_secs(1)));
        list[0].status = Status::Errored;
        list[0].reason = Some("16 unstable exits".into());
        assert_eq!(progress.observe(&list, MS * 900), [0]);
        assert!(progress.has_failed());
        assert_eq!(progress.steps[0].note(), "16 unstable exits");
    }

    #[test]
    fn a_crash_loop_of_a_service_is_one_line_and_its_end_the_reason() {
        let mut list = [service(0, "demo", 49160, Readiness::Starting)];
        let mut progress = Progress::new(&ids(&list), &list, Some(MS * 100));
        progress.observe(&list, MS);
        let mut news = 0;
        for run in 1..9 {
            list[0].restarts = run;
            list[0].unstable_restarts = run;
            list[0].last_exit = exit(3);
            let down = run % 2 == 0;
            list[0].status = [Status::Online, Status::WaitingRestart][usize::from(down)];
            list[0].reason = down.then(|| "exited with code 3".to_owned());
            let health = list[0].health.as_mut().unwrap();
            health.last_failure = Some("nobody listens on its port".into());
            let changed = progress.observe(&list, MS * run);
            news += changed
                .iter()
                .filter(|&&at| progress.steps[at].is_news())
                .count();
        }
        assert_eq!(news, 1);
        progress.expire(MS * 100);
        assert_eq!(
            progress.steps[0].note(),
            "not ready after 100 ms: exited with code 3; it goes on trying"
        );
    }

    #[test]
    fn a_port_that_a_stranger_took_later_is_told_in_the_checks_words() {
        let mut taken = service(0, "demo", 49160, Readiness::PortTaken);
        let health = taken.health.as_mut().unwrap();
        health.last_failure = Some("port 49160 is taken by nginx".into());
        assert_eq!(
            stage(&taken),
            Stage::Failed("port 49160 is taken by nginx".into())
        );
    }

    #[test]
    fn what_cannot_work_has_failed_with_its_reason() {
        let mut taken = service(0, "demo", 49160, Readiness::PortTaken);
        taken.reason = Some("port 49160 is held by nginx (pid 7)".into());
        let mut errored = process(1, "web");
        errored.status = Status::Errored;
        let list = [taken, errored];
        let mut progress = Progress::new(&ids(&list), &list, None);
        progress.observe(&list, MS);
        assert!(progress.has_failed() && progress.is_settled());
        assert_eq!(
            progress.steps[0].note(),
            "port 49160 is held by nginx (pid 7)"
        );
        assert_eq!(progress.steps[1].note(), "errored");
    }

    #[test]
    fn a_crash_loop_is_told_and_given_up_on() {
        let mut looping = service(0, "demo", 49160, Readiness::Down);
        looping.status = Status::WaitingRestart;
        looping.reason = Some("exited with code 1".into());
        let list = [looping];
        let mut progress = Progress::new(&ids(&list), &list, Some(2 * MS));
        assert_eq!(progress.observe(&list, MS), [0]);
        assert!(progress.expire(MS).is_empty());
        assert_eq!(progress.expire(2 * MS), [0]);
        let note = progress.steps[0].note();
        assert_eq!(
            note,
            "not ready after 2 ms: exited with code 1; it goes on trying"
        );
    }

    #[test]
    fn what_is_settled_stays_so() {
        let mut list = [process(0, "web")];
        let mut progress = Progress::new(&ids(&list), &list, None);
        progress.observe(&list, MS);
        progress.expire(MS + SETTLING);
        list[0].status = Status::Errored;
        assert!(progress.observe(&list, 2 * SETTLING).is_empty());
        assert!(!progress.has_failed());
    }

    #[test]
    fn a_job_that_has_ended_well_is_done() {
        let mut job = process(0, "job");
        job.status = Status::Stopped;
        job.last_exit = exit(0);
        assert!(matches!(stage(&job), Stage::Done(_)));
        job.last_exit = exit(3);
        assert_eq!(stage(&job), Stage::Failed("ended with code 3".into()));
    }

    #[test]
    fn a_replica_without_a_port_is_neither_there_nor_a_failure() {
        let mut list = [process(0, "web"), process(1, "web")];
        for process in &mut list {
            process.spec.instances = 2;
        }
        let mut progress = Progress::new(&ids(&list), &list, None);
        progress.observe(&list, MS);
        assert!(
            progress.expire(MS + SETTLING).is_empty(),
            "too early to tell"
        );
        list[1].status = Status::Stopped;
        list[1].reason = Some("replica 0 listens on port 3000".into());
        list[1].unshared = crate::ids::Port::new(3000);
        list[1].last_exit = exit(1);
        progress.observe(&list, 300 * MS);
        progress.expire(MS + SETTLING_OF_REPLICAS);
        assert!(progress.is_settled() && !progress.has_failed());
        assert_eq!(progress.done().collect::<Vec<_>>(), [PmId(0)]);
        let note = progress.steps[1].note();
        assert_eq!(note, "stopped: replica 0 listens on port 3000");
    }

    #[test]
    fn replicas_are_told_apart_and_a_deleted_one_has_failed() {
        let list = [process(0, "web"), process(1, "web"), process(2, "api")];
        let mut progress = Progress::new(&ids(&list), &list, None);
        let labels: Vec<_> = progress.steps.iter().map(|s| s.label.as_str()).collect();
        assert_eq!(labels, ["web (0)", "web (1)", "api"]);
        let alone = Progress::new(&[PmId(1)], &list, None);
        assert_eq!(alone.steps[0].label, "web (1)", "there is another");
        progress.observe(&list[..2], MS);
        assert!(progress.has_failed());
    }
}
