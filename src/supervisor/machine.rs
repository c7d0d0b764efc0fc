//! One process (pure): [`step`] takes what happened and returns what to do.
//!
//! Reads no clock and touches no process. Each state holds the facts that are true in it and no
//! others; every pair of state and event is written out, so that a new event must be thought about
//! in each state. `actor.rs` calls it and carries out the effects.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::restart::{self, Decision};
use crate::config::spec::{RestartPolicy, StopPolicy};

/// A wait before a restart that people are told of.
const WAIT_WORTH_SAYING: Duration = Duration::from_secs(1);
/// Between the reason why a start has failed and how often it has.
const FAILED_STARTS: &str = "; failed tries: ";
/// Between a reason and when the next start is.
const NEXT_START: &str = "; next start after ";

/// Where a process is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Does not run, and should not.
    Stopped,
    /// The spawner has the order; `wish` is what was asked for meanwhile.
    Launching {
        /// What to do once it is there.
        wish: Wish,
    },
    /// Runs, and has not said that it is ready.
    Starting {
        /// Root process.
        pid: u32,
        /// Since when.
        since: Instant,
        /// When it counts as ready anyway.
        until: Instant,
    },
    /// Runs.
    Online {
        /// Root process.
        pid: u32,
        /// Since when.
        since: Instant,
    },
    /// Was asked to end; its group gets SIGKILL at `kill_at`.
    Stopping {
        /// Root process.
        pid: u32,
        /// When it was started.
        since: Instant,
        /// End of the grace.
        kill_at: Instant,
        /// What follows.
        then: Then,
    },
    /// The root process ended by itself; what it left behind is being killed.
    Clearing {
        /// The former root process, whose number the group has.
        pid: u32,
        /// How long the root ran.
        ran: Duration,
        /// How it ended.
        exit: Exit,
        /// What was asked for meanwhile.
        wish: Wish,
    },
    /// Ended; will be started again.
    Waiting {
        /// When.
        until: Instant,
    },
    /// Ended too often, or could not be started.
    Errored,
}

/// What was asked of a process that cannot act on it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: go on as planned.
    Run,
    /// To be started anew.
    Restart,
    /// To end.
    Stop,
    /// To end and be forgotten.
    Forget,
}

/// What follows a stop. The journal has it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It stays stopped.
    Stay,
    /// It was asked to start again.
    Start,
    /// It failed its health checks and starts again by its restart policy.
    Recover(String),
    /// It is forgotten.
    Forget,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody can know: no daemon lived.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => write!(f, "was ended by {}", signal_name(*number)),
            Self::Unknown => f.write_str("ended while no daemon was watching"),
        }
    }
}

/// `SIGKILL` for 9, and so on; `signal 77` for one without a name.
pub fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {number}"),
    }
}

/// The number of `SIGHUP`, `hup` or `1`.
pub fn signal_number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .ok();
    let number = || text.parse().ok().filter(|number| (1..=64).contains(number));
    named.map(|signal| signal as i32).or_else(number)
}

/// What is remembered from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Restarts by hand and by itself, since it was registered.
    pub restarts: u32,
    /// Exits in a row that came before `min_uptime`.
    pub unstable: u32,
    /// The last wait before a restart.
    pub delay: Duration,
    /// Starts in a row that failed for want of something.
    pub failed_starts: u32,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Someone wants it to run.
    StartAsked,
    /// Someone wants it to end.
    StopAsked,
    /// Someone wants it to end and start.
    RestartAsked,
    /// Someone wants it gone.
    DeleteAsked,
    /// The spawner has started it.
    Spawned {
        /// Root process, leader of its own session and group.
        pid: u32,
    },
    /// The spawner could not.
    SpawnFailed {
        /// Why, for people.
        why: String,
        /// Worth another try (no free process slot, say); otherwise trying again changes nothing.
        transient: bool,
    },
    /// It says that it is ready.
    Ready,
    /// The root process has ended.
    Exited {
        /// How.
        exit: Exit,
        /// Something that it has started lives.
        leftovers: bool,
    },
    /// The last of what it has started has ended.
    GroupGone,
    /// It failed its health checks.
    Unhealthy {
        /// What they said.
        why: String,
    },
    /// A time it asked to be woken at has come.
    Woke,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start it.
    Spawn,
    /// Send the first signal of its stop policy.
    Terminate(u32),
    /// SIGKILL to every member of the group and to what has left it.
    KillGroup(u32),
    /// Send [`Event::Woke`] at this time.
    WakeAt(Instant),
    /// Show this as the reason for the state it is in.
    Explain(String),
    /// Drop it.
    Forget,
}

/// What rules one process.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Whether and when it comes back.
    pub restart: &'a RestartPolicy,
    /// How it ends.
    pub stop: &'a StopPolicy,
    /// It has an `mcp` block.
    pub service: bool,
    /// It says when it is ready; after this time it counts so anyway.
    pub ready_within: Option<Duration>,
    /// It can't have the port that it needs, since another process of its app has it: an exit is the
    /// end, for this reason.
    pub unshared: Option<&'a str>,
}

/// The outcome of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it is now.
    pub state: State,
    /// What it remembers.
    pub history: History,
    /// What to do, in this order.
    pub effects: Vec<Effect>,
}

/// Decides what happens next to one process.
pub fn step(
    state: State,
    event: Event,
    history: History,
    policy: Policy<'_>,
    now: Instant,
) -> Step {
    use State::{Clearing, Errored, Launching, Online, Starting, Stopped, Stopping, Waiting};
    let stay = |state: State| Step {
        state,
        history,
        effects: Vec::new(),
    };
    match (state, event) {
        // ── at rest ──
        (Stopped | Errored | Waiting { .. }, Event::StartAsked | Event::RestartAsked) => {
            launch(History {
                unstable: 0,
                delay: Duration::ZERO,
                failed_starts: 0,
                ..history
            })
        }
        (Stopped | Errored | Waiting { .. }, Event::StopAsked) => stay(Stopped),
        (Stopped | Errored | Waiting { .. }, Event::DeleteAsked) => Step {
            state: Stopped,
            history,
            effects: vec![Effect::Forget],
        },
        (Waiting { until }, Event::Woke) if until <= now => launch(history),
        (Waiting { until }, Event::Woke) => Step {
            state: Waiting { until },
            history,
            effects: vec![Effect::WakeAt(until)],
        },
        // News of a run that has been dealt with.
        (
            state @ (Stopped | Errored),
            Event::Woke
            | Event::Ready
            | Event::Exited { .. }
            | Event::GroupGone
            | Event::Unhealthy { .. },
        )
        | (
            state @ Waiting { .. },
            Event::Ready | Event::Exited { .. } | Event::GroupGone | Event::Unhealthy { .. },
        ) => stay(state),
        // Nothing was ordered from the spawner in these states; if it comes all the same, it is
        // ended rather than left to run unwatched.
        (Stopped | Errored | Waiting { .. }, Event::Spawned { pid }) => {
            stop(pid, now, Then::Stay, history, policy, now)
        }
        (state @ (Stopped | Errored | Waiting { .. }), Event::SpawnFailed { .. }) => stay(state),

        // ── launching ──
        (Launching { .. }, Event::StartAsked) => stay(Launching { wish: Wish::Run }),
        (Launching { wish }, Event::RestartAsked) => stay(Launching {
            // A start that is under way is as new as a restart would make it, unless it was to end.
            wish: if wish == Wish::Run {
                Wish::Run
            } else {
                Wish::Restart
            },
        }),
        (Launching { .. }, Event::StopAsked) => stay(Launching { wish: Wish::Stop }),
        (Launching { .. }, Event::DeleteAsked) => stay(Launching { wish: Wish::Forget }),
        (Launching { wish }, Event::Spawned { pid }) => {
            let history = History {
                failed_starts: 0,
                ..history
            };
            match wish {
                Wish::Run => started(pid, history, policy, now),
                Wish::Restart => stop(pid, now, Then::Start, history, policy, now),
                Wish::Stop => stop(pid, now, Then::Stay, history, policy, now),
                Wish::Forget => stop(pid, now, Then::Forget, history, policy, now),
            }
        }
        (Launching { wish: Wish::Forget }, Event::SpawnFailed { .. }) => Step {
            state: Stopped,
            history,
            effects: vec![Effect::Forget],
        },
        (Launching { wish: Wish::Stop }, Event::SpawnFailed { .. }) => stay(Stopped),
        (
            Launching {
                wish: Wish::Run | Wish::Restart,
            },
            Event::SpawnFailed { why, transient },
        ) => {
            if transient {
                return try_again(&why, restart::after_failed_start(history), now);
            }
            Step {
                state: Errored,
                history,
                effects: vec![Effect::Explain(why)],
            }
        }
        (
            state @ Launching { .. },
            Event::Ready
            | Event::Exited { .. }
            | Event::GroupGone
            | Event::Unhealthy { .. }
            | Event::Woke,
        ) => stay(state),

        // ── online, or on the way there ──
        (Starting { pid, since, .. }, Event::Ready) => stay(Online { pid, since }),
        (Starting { pid, since, until }, Event::Woke) if until <= now => Step {
            state: Online { pid, since },
            history,
            effects: vec![Effect::Explain(format!(
                "it has not said that it is ready after {} ms (`listen_timeout`), and counts as online",
                (until - since).as_millis()
            ))],
        },
        (state @ Starting { until, .. }, Event::Woke) => Step {
            state,
            history,
            effects: vec![Effect::WakeAt(until)],
        },
        (
            state @ Starting { .. },
            Event::StartAsked
            | Event::GroupGone
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. },
        ) => stay(state),
        (
            state @ Online { .. },
            Event::StartAsked | Event::Ready | Event::GroupGone | Event::Woke,
        ) => stay(state),
        (Online { pid, since } | Starting { pid, since, .. }, Event::StopAsked) => {
            stop(pid, since, Then::Stay, history, policy, now)
        }
        (Online { pid, since } | Starting { pid, since, .. }, Event::RestartAsked) => {
            stop(pid, since, Then::Start, history, policy, now)
        }
        (Online { pid, since } | Starting { pid, since, .. }, Event::DeleteAsked) => {
            stop(pid, since, Then::Forget, history, policy, now)
        }
        (Online { pid, since } | Starting { pid, since, .. }, Event::Unhealthy { why }) => {
            let mut step = stop(pid, since, Then::Recover(why.clone()), history, policy, now);
            step.effects.push(Effect::Explain(why));
            step
        }
        (
            Online { pid, since } | Starting { pid, since, .. },
            Event::Exited {
                exit,
                leftovers: true,
            },
        ) => Step {
            state: Clearing {
                pid,
                ran: now - since,
                exit,
                wish: Wish::Run,
            },
            history,
            effects: vec![Effect::KillGroup(pid)],
        },
        (
            Online { since, .. } | Starting { since, .. },
            Event::Exited {
                exit,
                leftovers: false,
            },
        ) => ended(exit, now - since, history, policy, now),
        (state @ Online { .. }, Event::Spawned { .. } | Event::SpawnFailed { .. }) => stay(state),

        // ── stopping ──
        // A start that comes while it ends means: end it, then start it.
        (
            Stopping {
                pid,
                since,
                kill_at,
                then,
            },
            Event::StartAsked | Event::RestartAsked,
        ) => stay(Stopping {
            pid,
            since,
            kill_at,
            then: if then == Then::Forget {
                Then::Forget
            } else {
                Then::Start
            },
        }),
        (
            Stopping {
                pid,
                since,
                kill_at,
                then,
            },
            Event::StopAsked,
        ) => stay(Stopping {
            pid,
            since,
            kill_at,
            then: if then == Then::Forget {
                Then::Forget
            } else {
                Then::Stay
            },
        }),
        (
            Stopping {
                pid,
                since,
                kill_at,
                ..
            },
            Event::DeleteAsked,
        ) => stay(Stopping {
            pid,
            since,
            kill_at,
            then: Then::Forget,
        }),
        (
            Stopping {
                pid,
                since,
                kill_at,
                then,
            },
            Event::Woke,
        ) => {
            let due = kill_at <= now;
            let effect = if due {
                Effect::KillGroup(pid)
            } else {
                Effect::WakeAt(kill_at)
            };
            Step {
                state: Stopping {
                    pid,
                    since,
                    kill_at,
                    then,
                },
                history,
                effects: vec![effect],
            }
        }
        // What it has started keeps the rest of the grace.
        (
            state @ Stopping { .. },
            Event::Exited {
                leftovers: true, ..
            },
        ) => stay(state),
        // Asked to stop, so what follows is what was asked, whatever the restart policy says.
        (
            Stopping { since, then, .. },
            Event::Exited {
                leftovers: false, ..
            }
            | Event::GroupGone,
        ) => stopped(then, now - since, history, policy, now),
        (
            state @ Stopping { .. },
            Event::Ready
            | Event::Unhealthy { .. }
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. },
        ) => stay(state),

        // ── clearing ──
        (Clearing { pid, ran, exit, .. }, Event::StartAsked) => stay(Clearing {
            pid,
            ran,
            exit,
            wish: Wish::Restart,
        }),
        (Clearing { pid, ran, exit, .. }, Event::RestartAsked) => stay(Clearing {
            pid,
            ran,
            exit,
            wish: Wish::Restart,
        }),
        (Clearing { pid, ran, exit, .. }, Event::StopAsked) => stay(Clearing {
            pid,
            ran,
            exit,
            wish: Wish::Stop,
        }),
        (Clearing { pid, ran, exit, .. }, Event::DeleteAsked) => stay(Clearing {
            pid,
            ran,
            exit,
            wish: Wish::Forget,
        }),
        (
            Clearing {
                ran, exit, wish, ..
            },
            Event::GroupGone,
        ) => match wish {
            Wish::Run => ended(exit, ran, history, policy, now),
            Wish::Restart => stopped(Then::Start, ran, history, policy, now),
            Wish::Stop => stopped(Then::Stay, ran, history, policy, now),
            Wish::Forget => stopped(Then::Forget, ran, history, policy, now),
        },
        (
            state @ Clearing { .. },
            Event::Ready
            | Event::Exited { .. }
            | Event::Unhealthy { .. }
            | Event::Woke
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. },
        ) => stay(state),
    }
}

fn launch(history: History) -> Step {
    Step {
        state: State::Launching { wish: Wish::Run },
        history,
        effects: vec![Effect::Spawn],
    }
}

fn started(pid: u32, history: History, policy: Policy<'_>, now: Instant) -> Step {
    let Some(within) = policy.ready_within else {
        return Step {
            state: State::Online { pid, since: now },
            history,
            effects: Vec::new(),
        };
    };
    let until = now + within;
    Step {
        state: State::Starting {
            pid,
            since: now,
            until,
        },
        history,
        effects: vec![Effect::WakeAt(until)],
    }
}

fn stop(
    pid: u32,
    since: Instant,
    then: Then,
    history: History,
    policy: Policy<'_>,
    now: Instant,
) -> Step {
    let kill_at = now + policy.stop.grace;
    Step {
        state: State::Stopping {
            pid,
            since,
            kill_at,
            then,
        },
        history,
        effects: vec![Effect::Terminate(pid), Effect::WakeAt(kill_at)],
    }
}

/// It was asked to end, and has.
fn stopped(then: Then, ran: Duration, history: History, policy: Policy<'_>, now: Instant) -> Step {
    match then {
        Then::Stay => Step {
            state: State::Stopped,
            history,
            effects: Vec::new(),
        },
        Then::Forget => Step {
            state: State::Stopped,
            history,
            effects: vec![Effect::Forget],
        },
        Then::Start => launch(History {
            restarts: history.restarts.saturating_add(1),
            ..History::default()
        }),
        Then::Recover(why) => {
            let (decision, history) =
                restart::again(policy.restart, policy.service, &why, ran, history);
            settle(decision, &why, history, now)
        }
    }
}

/// The reason alone, without how often a start has failed for it and when the next one is.
pub fn without_next_start(why: &str) -> &str {
    let ends = [FAILED_STARTS, NEXT_START].map(|end| why.find(end));
    let end = ends.into_iter().flatten().min();
    &why[..end.unwrap_or(why.len())]
}

/// It ended by itself.
fn ended(exit: Exit, ran: Duration, history: History, policy: Policy<'_>, now: Instant) -> Step {
    if let Some(why) = policy.unshared {
        return settle(Decision::Stay, why, history, now);
    }
    let (decision, history) =
        restart::after_exit(policy.restart, policy.service, exit, ran, history);
    settle(decision, &exit.to_string(), history, now)
}

/// It could not be started for want of something that may be there in a moment.
fn try_again(why: &str, (wait, history): (Duration, History), now: Instant) -> Step {
    let why = match history.failed_starts {
        0 | 1 => why.to_owned(),
        failed => format!("{why}{FAILED_STARTS}{failed}"),
    };
    settle(Decision::Again(wait), &why, history, now)
}

fn settle(decision: Decision, why: &str, history: History, now: Instant) -> Step {
    match decision {
        Decision::Again(wait) if wait.is_zero() => {
            let mut step = launch(history);
            step.effects.insert(0, Effect::Explain(why.to_owned()));
            step
        }
        Decision::Again(wait) => {
            let until = now + wait;
            // Shorter waits are over before anyone has read of them.
            let why = if wait < WAIT_WORTH_SAYING {
                why.to_owned()
            } else {
                format!("{why}{NEXT_START}{} ms", wait.as_millis())
            };
            let effects = vec![Effect::Explain(why), Effect::WakeAt(until)];
            Step {
                state: State::Waiting { until },
                history,
                effects,
            }
        }
        Decision::Stay => {
            let effects = vec![Effect::Explain(why.to_owned())];
            Step {
                state: State::Stopped,
                history,
                effects,
            }
        }
        Decision::GiveUp(why) => Step {
            state: State::Errored,
            history,
            effects: vec![Effect::Explain(why)],
        },
    }
}

#[cfg(test)]
mod tests;
