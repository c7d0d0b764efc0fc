//! Commands that are answered when processes have got where they should (pure).

use std::collections::BTreeMap;

use super::machine::{Exit, State};
use crate::ids::{AppName, PmId};

/// Where a process should get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Was started, in at least this generation; or has failed to.
    Spawned {
        /// The first generation that counts.
        generation: u64,
    },
    /// The same, and online: one that says when it is ready has said so, or has had its time.
    Started {
        /// The first generation that counts.
        generation: u64,
    },
    /// The same, and ready: one that says when it is must have said so.
    Ready {
        /// The first generation that counts.
        generation: u64,
    },
    /// A run that was started beside the main one is the main one, and alone.
    TakenOver {
        /// That run.
        generation: u64,
    },
    /// At rest.
    Stopped,
    /// Forgotten.
    Gone,
}

/// What was done with a process that was to be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Done {
    /// What the command's name says.
    #[default]
    AsAsked,
    /// It was listed already: restarted.
    Restarted,
    /// Listed, and not to be started (`autostart: false`).
    Registered,
}

/// What became of one process of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub id: PmId,
    /// Its app.
    pub name: AppName,
    /// Why it did not get there.
    pub error: Option<String>,
    /// What was done.
    pub done: Done,
    /// What people should know of it.
    pub note: Option<&'static str>,
}

impl Outcome {
    /// One that was not waited for.
    pub fn at_once(id: PmId, name: AppName, error: Option<String>) -> Self {
        Self {
            id,
            name,
            error,
            done: Done::AsAsked,
            note: None,
        }
    }
}

/// What a process looks like to those who wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Of its main run.
    pub state: &'a State,
    /// Of its main run.
    pub generation: u64,
    /// Nothing stands beside its main run.
    pub alone: bool,
    /// Why it is in its state.
    pub reason: Option<&'a str>,
    /// Why its last reload has failed.
    pub gave_up: Option<&'a str>,
    /// Generation of the last run that ended although nobody had asked; 0: none has.
    pub fell: u64,
    /// How its last run ended.
    pub exit: Option<Exit>,
}

/// How far it is: `None` on the way, else whether it got there.
pub fn reached(goal: Goal, look: Option<Look<'_>>) -> Option<Result<(), String>> {
    let Some(look) = look else {
        return Some(if goal == Goal::Gone {
            Ok(())
        } else {
            Err("it was deleted".into())
        });
    };
    let Look {
        state,
        generation,
        alone,
        reason,
        gave_up,
        fell,
        exit,
    } = look;
    let fallen = || {
        let exit = exit.map_or_else(|| "it ended".to_owned(), |exit| exit.to_string());
        Some(Err(reason.map_or(exit, str::to_owned)))
    };
    match goal {
        Goal::Gone => None,
        Goal::Stopped => match state {
            State::Stopped | State::Errored => alone.then_some(Ok(())),
            State::Starting { .. } | State::Online { .. } | State::Waiting { .. } => {
                Some(Err("it was started again".into()))
            }
            State::Launching { .. } | State::Stopping { .. } | State::Clearing { .. } => None,
        },
        Goal::TakenOver { .. } if !alone => None,
        Goal::TakenOver { generation: wanted } if generation < wanted => {
            Some(Err(gave_up.unwrap_or("it was not reloaded").to_owned()))
        }
        // It is tried again and again: whoever asked is told of the first time.
        Goal::Started { generation: wanted } | Goal::Ready { generation: wanted }
            if fell >= wanted && !matches!(state, State::Online { .. }) =>
        {
            fallen()
        }
        Goal::Spawned { generation: wanted }
        | Goal::Started { generation: wanted }
        | Goal::Ready { generation: wanted }
        | Goal::TakenOver { generation: wanted } => match state {
            State::Online { .. } if generation >= wanted => match (goal, reason) {
                (Goal::Ready { .. }, Some(_)) => fallen(),
                _ => Some(Ok(())),
            },
            State::Starting { .. } if generation >= wanted => {
                matches!(goal, Goal::Spawned { .. }).then_some(Ok(()))
            }
            State::Stopped | State::Errored | State::Waiting { .. } if generation >= wanted => {
                fallen()
            }
            State::Stopped if alone => Some(Err("it was stopped meanwhile".into())),
            _ => None,
        },
    }
}

/// One command that waits for its processes.
#[derive(Debug)]
pub struct Wait<R> {
    /// Who is still on the way.
    pub open: BTreeMap<PmId, (AppName, Goal, Done)>,
    /// Who has arrived.
    pub outcomes: Vec<Outcome>,
    /// Where the answer goes.
    pub reply: R,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(state: &State, generation: u64) -> Look<'_> {
        Look {
            state,
            generation,
            alone: true,
            reason: None,
            gave_up: None,
            fell: 0,
            exit: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_falls_before_it_is_ready_is_not_waited_for() {
        let again = State::Starting {
            pid: 8,
            since: tokio::time::Instant::now(),
            until: tokio::time::Instant::now(),
        };
        let look = Look {
            fell: 5,
            exit: Some(Exit::Code(4)),
            ..look(&again, 6)
        };
        let told = reached(Goal::Started { generation: 5 }, Some(look));
        assert_eq!(told, Some(Err("exited with code 4".into())));
        assert_eq!(reached(Goal::Started { generation: 6 }, Some(look)), None);
        let spawned = reached(Goal::Spawned { generation: 5 }, Some(look));
        assert_eq!(spawned, Some(Ok(())));
    }

    #[test]
    fn an_older_run_does_not_count_as_the_start_that_was_asked_for() {
        let goal = Goal::Started { generation: 5 };
        let errored = look(&State::Errored, 4);
        assert_eq!(reached(goal, Some(errored)), None);
        let errored = Look {
            generation: 5,
            reason: Some("x"),
            ..errored
        };
        assert_eq!(reached(goal, Some(errored)), Some(Err("x".into())));
    }

    #[test]
    fn a_start_that_was_taken_back_is_not_waited_for() {
        let goal = Goal::Started { generation: 5 };
        let ended = reached(goal, Some(look(&State::Stopped, 4)));
        assert_eq!(ended, Some(Err("it was stopped meanwhile".into())));
    }

    #[test]
    fn gone_is_gone() {
        assert_eq!(reached(Goal::Gone, None), Some(Ok(())));
        assert_eq!(reached(Goal::Gone, Some(look(&State::Stopped, 0))), None);
        assert!(matches!(reached(Goal::Stopped, None), Some(Err(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_is_over_when_one_run_is_left() {
        let online = State::Online {
            pid: 7,
            since: tokio::time::Instant::now(),
        };
        let goal = Goal::TakenOver { generation: 5 };
        let both = Look {
            alone: false,
            ..look(&online, 5)
        };
        assert_eq!(reached(goal, Some(both)), None);
        assert_eq!(reached(goal, Some(look(&online, 5))), Some(Ok(())));
        let kept = Look {
            gave_up: Some("it fell"),
            ..look(&online, 4)
        };
        assert_eq!(reached(goal, Some(kept)), Some(Err("it fell".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_counts_as_online_without_its_word_is_not_ready() {
        let online = State::Online {
            pid: 7,
            since: tokio::time::Instant::now(),
        };
        let mute = Look {
            reason: Some("it has not said"),
            ..look(&online, 5)
        };
        let reached = |goal| reached(goal, Some(mute));
        assert_eq!(reached(Goal::Started { generation: 5 }), Some(Ok(())));
        let refused = Some(Err("it has not said".into()));
        assert_eq!(reached(Goal::Ready { generation: 5 }), refused);
    }
}
