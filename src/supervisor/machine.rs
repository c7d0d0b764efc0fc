//! One process (pure): [`step`] takes what happened and returns what to do.
//!
//! Reads no clock and touches no process. Each state holds the facts that are true in it and no
//! others; every pair of state and event is written out, so that a new event must be thought about
//! in each state. `actor.rs` calls it and carries out the effects. `state.rs` has the words.

mod state;

use std::time::Duration;

use tokio::time::Instant;

use super::restart::{self, Decision};
pub use state::{
    Effect, Event, Exit, History, Policy, State, Step, Then, Wish, signal_name, signal_number,
};

/// A wait before a restart that people are told of.
const WAIT_WORTH_SAYING: Duration = Duration::from_secs(1);
/// Between the reason why a start has failed and how often it has.
const FAILED_STARTS: &str = "; failed tries: ";
/// Between a reason and when the next start is.
const NEXT_START: &str = "; next start after ";

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
