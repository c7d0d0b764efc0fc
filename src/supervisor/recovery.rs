//! From one daemon to the next (pure): what the journal says of a process's state, and what the next
//! daemon makes of that and of what it finds.
//!
//! Every start of a daemon is a recovery, so the functions are the whole of what a death may change:
//! what they cannot say to each other is lost with the daemon. `actor/record.rs` writes the one part,
//! `adopt.rs` asks the other.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::journal::Wanted;
use super::last_exits::Asked;
use super::machine::{Event, Exit, State, Then, Wish};
use crate::ids::Timestamp;

/// What has been begun with the main run and is not done: the next daemon goes on with it. Part of the
/// journal's record: members are only added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnderWay {
    /// It is to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Ending>,
    /// It has not said that it is ready, and counts as ready then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_due: Option<Timestamp>,
    /// Its root has ended after so many milliseconds, and what it left behind is being ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_ran_ms: Option<u64>,
}

/// The end of a run, as somebody wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// What follows.
    pub then: Then,
    /// When all of it is killed; `None` as long as it has not been told to end.
    #[serde(default)]
    pub kill_due: Option<Timestamp>,
    /// Who wants it.
    #[serde(default)]
    pub asked: Option<Asked>,
}

/// The same moment on both clocks: waits are measured by the one, and written down by the other.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Stops with the daemon.
    pub now: Instant,
    /// Goes on, and may be set.
    pub today: Timestamp,
}

/// What is known of a process when a daemon comes.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Should it run?
    pub wanted: Wanted,
    /// What the last daemon had begun.
    pub under_way: UnderWay,
    /// The root process of its last run, when that is proven to live.
    pub alive: Option<u32>,
    /// Its last run has begun: its pid was written down.
    pub has_begun: bool,
    /// When that was.
    pub since: Instant,
    /// How its last run ended that is known to have.
    pub last_exit: Option<Exit>,
    /// Before this time it is not to be started again.
    pub until: Instant,
    /// What a run has between its signal and SIGKILL.
    pub grace: Duration,
    /// A run says when it is ready, and counts as ready after this time.
    pub ready_within: Option<Duration>,
    /// When this is.
    pub clocks: Clocks,
}

impl Clocks {
    /// When a wait ends, to be written down.
    fn due(self, at: Instant) -> Timestamp {
        let left = at.saturating_duration_since(self.now).as_millis();
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.today.as_millis().saturating_add(left))
    }

    /// When a wait ends that was written down. A clock that was set back does not make it longer than
    /// it may be.
    fn at(self, due: Timestamp, longest: Duration) -> Instant {
        let left = due.as_millis().saturating_sub(self.today.as_millis());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        self.now + left.min(longest)
    }
}

/// Should a process in this state run, if the daemon died now? What is `held` waits for the end of
/// the run beside it, and counts.
pub fn wanted(state: &State, held: Option<&Event>) -> Wanted {
    match held {
        Some(Event::StartAsked | Event::RestartAsked) => Wanted::Up,
        Some(Event::StopAsked | Event::DeleteAsked) => Wanted::Down,
        _ => wanted_in(state),
    }
}

/// What is under way with a process in this state, and who has asked for the end of its run.
pub fn under_way(
    state: &State,
    held: Option<&Event>,
    asked: Option<&Asked>,
    clocks: Clocks,
) -> UnderWay {
    let then = match (held, state) {
        (Some(Event::DeleteAsked), _) => Some(Then::Forget),
        (_, State::Stopping { then, .. }) => Some(then.clone()),
        (_, State::Launching { wish } | State::Clearing { wish, .. }) => followed_by(*wish),
        (
            _,
            State::Stopped
            | State::Starting { .. }
            | State::Online { .. }
            | State::Waiting { .. }
            | State::Errored,
        ) => None,
    };
    let kill_due = match state {
        State::Stopping { kill_at, .. } => Some(clocks.due(*kill_at)),
        _ => None,
    };
    UnderWay {
        end: then.map(|then| Ending {
            then,
            kill_due,
            asked: asked.cloned(),
        }),
        ready_due: match state {
            State::Starting { until, .. } => Some(clocks.due(*until)),
            _ => None,
        },
        root_ran_ms: match state {
            State::Clearing { ran, .. } => Some(u64::try_from(ran.as_millis()).unwrap_or(u64::MAX)),
            _ => None,
        },
    }
}

/// Where a process's machine begins, and what it must hear first.
pub fn begin(found: Evidence) -> (State, Option<Event>) {
    match found.alive {
        Some(pid) => go_on(pid, found),
        None => conclude(found),
    }
}

/// Its run lives: what was begun goes on where it was.
fn go_on(pid: u32, found: Evidence) -> (State, Option<Event>) {
    let (since, clocks) = (found.since, found.clocks);
    let online = State::Online { pid, since };
    let UnderWay { end, ready_due, .. } = found.under_way;
    if let Some(Ending { then, kill_due, .. }) = end {
        let Some(due) = kill_due else {
            return (online, Some(wish_for(then)));
        };
        let kill_at = clocks.at(due, found.grace);
        let stopping = State::Stopping {
            pid,
            since,
            kill_at,
            then,
        };
        return (stopping, Some(Event::Woke));
    }
    match (found.wanted, ready_due.zip(found.ready_within)) {
        (Wanted::Down | Wanted::Errored, _) => (online, Some(Event::StopAsked)),
        (Wanted::Up, None) => (online, None),
        (Wanted::Up, Some((due, within))) => {
            let until = clocks.at(due, within);
            let starting = State::Starting { pid, since, until };
            (starting, Some(Event::Woke))
        }
    }
}

/// Its run has ended, or has never begun: what was to follow does.
fn conclude(found: Evidence) -> (State, Option<Event>) {
    let (since, now) = (found.since, found.clocks.now);
    let then = found.under_way.end.map(|end| end.then);
    if let Some(ran) = found.under_way.root_ran_ms {
        let clearing = State::Clearing {
            pid: 0,
            ran: Duration::from_millis(ran),
            exit: found.last_exit.unwrap_or(Exit::Unknown),
            wish: then.map_or(Wish::Run, wish_that),
        };
        return (clearing, Some(Event::GroupGone));
    }
    let exit = Event::Exited {
        exit: Exit::Unknown,
        leftovers: false,
    };
    let ended = |then| State::Stopping {
        pid: 0,
        since,
        kill_at: now,
        then,
    };
    let waits = |until| (State::Waiting { until }, Some(Event::Woke));
    match (then, found.wanted) {
        (Some(then), _) if found.has_begun => (ended(then), Some(exit)),
        (Some(Then::Stay), _) => (State::Stopped, None),
        (Some(Then::Forget), _) => (State::Stopped, Some(Event::DeleteAsked)),
        (Some(Then::Start | Then::Recover(_)), _) => waits(now),
        (None, Wanted::Up) if found.has_begun => (State::Online { pid: 0, since }, Some(exit)),
        (None, Wanted::Up) => waits(found.until),
        (None, Wanted::Down) if found.has_begun => (ended(Then::Stay), Some(exit)),
        (None, Wanted::Down) => (State::Stopped, None),
        (None, Wanted::Errored) => (State::Errored, None),
    }
}

fn wanted_in(state: &State) -> Wanted {
    match state {
        State::Launching {
            wish: Wish::Stop | Wish::Forget,
        }
        | State::Clearing {
            wish: Wish::Stop | Wish::Forget,
            ..
        }
        | State::Stopping {
            then: Then::Stay | Then::Forget,
            ..
        }
        | State::Stopped => Wanted::Down,
        State::Errored => Wanted::Errored,
        State::Launching { .. }
        | State::Clearing { .. }
        | State::Stopping { .. }
        | State::Starting { .. }
        | State::Online { .. }
        | State::Waiting { .. } => Wanted::Up,
    }
}

/// What a wish makes of the end of a run; `None` when it is to run on.
fn followed_by(wish: Wish) -> Option<Then> {
    match wish {
        Wish::Run => None,
        Wish::Restart => Some(Then::Start),
        Wish::Stop => Some(Then::Stay),
        Wish::Forget => Some(Then::Forget),
    }
}

fn wish_that(then: Then) -> Wish {
    match then {
        Then::Stay => Wish::Stop,
        Then::Start => Wish::Restart,
        Then::Recover(_) => Wish::Run,
        Then::Forget => Wish::Forget,
    }
}

/// What asks for an end of which this follows.
fn wish_for(then: Then) -> Event {
    match then {
        Then::Stay => Event::StopAsked,
        Then::Start => Event::RestartAsked,
        Then::Recover(why) => Event::Unhealthy { why },
        Then::Forget => Event::DeleteAsked,
    }
}

#[cfg(test)]
mod tests;
