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
/// The same for one that has ended too early, for each time that it has, and at most; not less than
/// its `min_uptime`. Until its children are found and ended one that has ended still seems to be there.
const SETTLING_AGAIN: Duration = Duration::from_secs(1);
const SETTLING_AGAIN_MAX: Duration = Duration::from_secs(3);

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
    /// How often it has ended too early, in a row.
    unstable: u32,
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
            (Stage::Done(word), Some(after)) => {
                format!("{word} in {}{}", units::took(after), self.ends())
            }
            (
                Stage::Done(text) | Stage::Waiting(text) | Stage::Spare(text) | Stage::Failed(text),
                _,
            ) => text.clone(),
        }
    }

    /// What it took to get there: `, after it had ended 12 times: exited with code 0`.
    fn ends(&self) -> String {
        let times = match self.unstable {
            0 => return String::new(),
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        let how = self.ended.as_ref().map(|how| format!(": {how}"));
        format!(", after it had ended {times}{}", how.unwrap_or_default())
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
        self.unstable = process.unstable_restarts;
        let ended = self.unstable > 0
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
                    let again = SETTLING_AGAIN.saturating_mul(process.unstable_restarts);
                    let again = again.min(SETTLING_AGAIN_MAX);
                    again.max(process.spec.restart.min_uptime)
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
                unstable: 0,
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
                if !step.is_settled() {
                    step.look(process, elapsed);
                }
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
mod tests;
