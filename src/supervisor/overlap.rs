//! A process and the run that stands beside it while it is reloaded (pure).
//!
//! The process is one run at any time, its main one, which `machine.rs` moves. A reload starts a
//! second beside it. When that has proven itself the two change places, and what stands beside is
//! the old run on its way out; when it has not, it is ended and the old one goes on. A process comes
//! to rest only when nothing stands beside it. `actor.rs` calls it and carries out the orders.

use std::time::Duration;

use tokio::time::Instant;

use super::machine::{self, Effect, Event, Exit, History, Policy, State, Wish};

/// A new run that does not say when it is ready counts after its `min_uptime`, but at the latest
/// after this: PM2's `listen_timeout`.
const PROVING_MAX: Duration = Duration::from_secs(3);

/// The run beside the main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// The new run: the spawner has the order.
    Launching {
        /// Not wanted any more, and why.
        cancelled: Option<String>,
    },
    /// The new run, which is to prove itself.
    Proving {
        /// Root process.
        pid: u32,
        /// Since when.
        since: Instant,
        /// When it has, or should have said that it is ready.
        until: Instant,
    },
    /// The new run, which is not to be: it is being ended.
    Ending {
        /// Root process.
        pid: u32,
        /// End of the grace.
        kill_at: Instant,
        /// Why it is not to be.
        why: String,
    },
    /// The old run: the new one is the process now.
    Retiring {
        /// Root process.
        pid: u32,
        /// End of the grace.
        kill_at: Instant,
    },
}

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The main run's, or the process's as a whole.
    Main,
    /// Of what stands beside it.
    Beside,
}

/// One process with all that runs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The main run.
    pub main: State,
    /// What stands beside it.
    pub beside: Option<Beside>,
    /// What would bring the main run to rest, or start it again, before nothing stands beside it.
    pub held: Option<Event>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// To the main run.
    Main(Effect),
    /// To the run beside it.
    Beside(Effect),
    /// The two change places. Orders that follow are meant for the new places.
    Swap,
    /// Nothing stands beside it any more; why the new run is not the main one, when it is not.
    Alone(Option<String>),
}

/// The rules of both runs: their specs may differ.
#[derive(Clone, Copy, Debug)]
pub struct Policies<'a> {
    /// Of the main run.
    pub main: Policy<'a>,
    /// Of the run beside it.
    pub beside: Policy<'a>,
}

/// The outcome of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where both are now.
    pub pair: Pair,
    /// What the process remembers.
    pub history: History,
    /// What to do, in this order.
    pub orders: Vec<Order>,
}

impl Pair {
    /// May a second run stand beside this one?
    pub fn can_double(&self) -> bool {
        matches!(self.main, State::Online { .. }) && self.beside.is_none()
    }
}

/// Decides what happens next to a process of which there may be two runs.
pub fn step(
    pair: Pair,
    whose: Whose,
    event: Event,
    history: History,
    policies: Policies<'_>,
    now: Instant,
) -> Step {
    let step = Step {
        pair,
        history,
        orders: Vec::new(),
    };
    match (whose, event) {
        (Whose::Beside, event) => step.beside(event, policies, now),
        (Whose::Main, Event::Woke) => {
            let step = step.main(Event::Woke, policies, now);
            step.beside(Event::Woke, policies, now)
        }
        (Whose::Main, event) => step.main(event, policies, now),
    }
}

impl Step {
    /// Something happened to the process, or to its main run.
    fn main(mut self, event: Event, policies: Policies<'_>, now: Instant) -> Self {
        // At rest, and forgotten as soon as nothing stands beside it: nothing brings it back.
        if self.pair.held == Some(Event::DeleteAsked) {
            return self;
        }
        let is_new = matches!(
            self.pair.beside,
            Some(Beside::Launching { cancelled: None } | Beside::Proving { .. })
        );
        match (&event, &self.pair.main) {
            (Event::StopAsked | Event::DeleteAsked | Event::RestartAsked, _) => {
                let why = match event {
                    Event::StopAsked => "it was stopped meanwhile",
                    Event::DeleteAsked => "it was deleted meanwhile",
                    _ => "it was restarted meanwhile",
                };
                if is_new {
                    self.cancel(why.to_owned(), policies, now);
                }
                // What was asked before is asked no more.
                let asked = matches!(
                    self.pair.held,
                    Some(Event::StartAsked | Event::RestartAsked)
                );
                if asked {
                    self.pair.held = None;
                }
            }
            // The run that comes may well be better, and what is wrong is told again.
            (Event::Unhealthy { .. }, State::Online { .. }) if is_new => return self,
            (&Event::Exited { leftovers, .. }, &State::Online { pid, .. }) if is_new => {
                return self.replace_dead(pid, leftovers, policies, now);
            }
            _ => {}
        }
        self.move_main(event, policies.main, now)
    }

    /// One step of the main run; one that must wait for the end of the other run is held.
    fn move_main(mut self, event: Event, policy: Policy<'_>, now: Instant) -> Self {
        let before = self.pair.main.clone();
        let step = machine::step(before.clone(), event.clone(), self.history, policy, now);
        let has = |wanted: Effect| step.effects.contains(&wanted);
        let ends = step.state == State::Stopped && !is_at_rest(&before);
        let must_wait = match &self.pair.beside {
            None => false,
            Some(Beside::Retiring { .. }) => ends || has(Effect::Forget),
            Some(_) => ends || has(Effect::Forget) || has(Effect::Spawn),
        };
        if must_wait {
            self.pair.held = Some(event);
            return self;
        }
        self.pair.main = step.state;
        self.history = step.history;
        self.orders
            .extend(step.effects.into_iter().map(Order::Main));
        self
    }

    /// Something happened to the run beside the main one.
    fn beside(mut self, event: Event, policies: Policies<'_>, now: Instant) -> Self {
        let Some(beside) = self.pair.beside.clone() else {
            return self;
        };
        match (beside, event) {
            (Beside::Launching { cancelled: None }, Event::Spawned { pid }) => {
                let until = now
                    + policies
                        .beside
                        .ready_within
                        .unwrap_or_else(|| policies.beside.restart.min_uptime.min(PROVING_MAX));
                let since = now;
                self.pair.beside = Some(Beside::Proving { pid, since, until });
                self.tell(Effect::WakeAt(until));
            }
            (
                Beside::Launching {
                    cancelled: Some(why),
                },
                Event::Spawned { pid },
            ) => self.end(pid, why, policies, now),
            (Beside::Launching { cancelled }, Event::SpawnFailed { why, .. }) => {
                return self.alone(Some(cancelled.unwrap_or(why)), policies, now);
            }
            (Beside::Proving { pid, since, .. }, Event::Ready) => {
                self.take_over(pid, since, policies, now);
            }
            (Beside::Proving { pid, since, until }, Event::Woke) if until <= now => {
                match policies.beside.ready_within {
                    None => self.take_over(pid, since, policies, now),
                    Some(within) => {
                        let why = format!(
                            "the new run has not said that it is ready within {} ms \
                             (`listen_timeout`)",
                            within.as_millis()
                        );
                        self.end(pid, why, policies, now);
                    }
                }
            }
            (Beside::Proving { until, .. }, Event::Woke) => self.tell(Effect::WakeAt(until)),
            (
                Beside::Proving { pid, since, .. },
                Event::Exited {
                    exit,
                    leftovers: true,
                },
            ) => {
                let why = fell(exit, now - since);
                self.pair.beside = Some(Beside::Ending {
                    pid,
                    kill_at: now,
                    why,
                });
                self.tell(Effect::KillGroup(pid));
            }
            (
                Beside::Proving { since, .. },
                Event::Exited {
                    exit,
                    leftovers: false,
                },
            ) => return self.alone(Some(fell(exit, now - since)), policies, now),
            (
                Beside::Ending { pid, kill_at, .. } | Beside::Retiring { pid, kill_at },
                Event::Woke,
            ) => self.tell(if kill_at <= now {
                Effect::KillGroup(pid)
            } else {
                Effect::WakeAt(kill_at)
            }),
            (
                Beside::Ending { why, .. },
                Event::Exited {
                    leftovers: false, ..
                }
                | Event::GroupGone,
            ) => return self.alone(Some(why), policies, now),
            (
                Beside::Retiring { .. },
                Event::Exited {
                    leftovers: false, ..
                }
                | Event::GroupGone,
            ) => return self.alone(None, policies, now),
            // Asked of the process, never of one run.
            (
                _,
                Event::StartAsked | Event::StopAsked | Event::RestartAsked | Event::DeleteAsked,
            )
            // What is left of its group keeps the rest of the grace.
            | (
                Beside::Ending { .. } | Beside::Retiring { .. },
                Event::Exited {
                    leftovers: true, ..
                },
            )
            // News of a run that has been dealt with, or that nobody has ordered.
            | (
                Beside::Launching { .. },
                Event::Ready
                | Event::Exited { .. }
                | Event::GroupGone
                | Event::Unhealthy { .. }
                | Event::Woke,
            )
            | (
                Beside::Proving { .. },
                Event::Spawned { .. }
                | Event::SpawnFailed { .. }
                | Event::GroupGone
                | Event::Unhealthy { .. },
            )
            | (
                Beside::Ending { .. } | Beside::Retiring { .. },
                Event::Spawned { .. }
                | Event::SpawnFailed { .. }
                | Event::Ready
                | Event::Unhealthy { .. },
            ) => {}
        }
        self
    }

    fn tell(&mut self, effect: Effect) {
        self.orders.push(Order::Beside(effect));
    }

    /// The new run is not wanted after all.
    fn cancel(&mut self, why: String, policies: Policies<'_>, now: Instant) {
        match self.pair.beside {
            Some(Beside::Proving { pid, .. }) => self.end(pid, why, policies, now),
            Some(Beside::Launching { ref mut cancelled }) => *cancelled = Some(why),
            Some(Beside::Ending { .. } | Beside::Retiring { .. }) | None => {}
        }
    }

    /// Ends the new run; the old one goes on.
    fn end(&mut self, pid: u32, why: String, policies: Policies<'_>, now: Instant) {
        let kill_at = now + policies.beside.stop.grace;
        self.pair.beside = Some(Beside::Ending { pid, kill_at, why });
        self.tell(Effect::Terminate(pid));
        self.tell(Effect::WakeAt(kill_at));
    }

    /// The new run has proven itself: it is the process now, and the old one ends.
    fn take_over(&mut self, pid: u32, since: Instant, policies: Policies<'_>, now: Instant) {
        let State::Online { pid: old, .. } = self.pair.main else {
            // Whoever wanted the main run elsewhere has cancelled the new one before.
            return self.end(pid, "it is not online any more".to_owned(), policies, now);
        };
        let kill_at = now + policies.main.stop.grace;
        self.pair.main = State::Online { pid, since };
        self.pair.beside = Some(Beside::Retiring { pid: old, kill_at });
        self.count();
        self.orders.push(Order::Swap);
        self.tell(Effect::Terminate(old));
        self.tell(Effect::WakeAt(kill_at));
    }

    /// The old run has ended by itself: the new one is the process, proven or not.
    fn replace_dead(
        mut self,
        old: u32,
        leftovers: bool,
        policies: Policies<'_>,
        now: Instant,
    ) -> Self {
        self.pair.main = match self.pair.beside {
            Some(Beside::Proving { pid, since, until }) => match policies.beside.ready_within {
                Some(_) => State::Starting { pid, since, until },
                None => State::Online { pid, since },
            },
            _ => State::Launching { wish: Wish::Run },
        };
        self.count();
        self.orders.push(Order::Swap);
        if leftovers {
            self.pair.beside = Some(Beside::Retiring {
                pid: old,
                kill_at: now,
            });
            self.tell(Effect::KillGroup(old));
            return self;
        }
        self.alone(None, policies, now)
    }

    fn count(&mut self) {
        self.history = History {
            restarts: self.history.restarts.saturating_add(1),
            ..History::default()
        };
    }

    /// Nothing stands beside it any more, and what was held is let go.
    fn alone(mut self, failure: Option<String>, policies: Policies<'_>, now: Instant) -> Self {
        self.pair.beside = None;
        self.orders.push(Order::Alone(failure));
        match self.pair.held.take() {
            Some(event) => self.move_main(event, policies.main, now),
            None => self,
        }
    }
}

fn is_at_rest(state: &State) -> bool {
    matches!(
        state,
        State::Stopped | State::Errored | State::Waiting { .. }
    )
}

fn fell(exit: Exit, ran: Duration) -> String {
    format!("the new run {exit} after {} ms", ran.as_millis())
}

#[cfg(test)]
mod tests;
