//! Commands that are answered when processes have got where they should (pure).

use std::collections::BTreeMap;

use super::machine::State;
use crate::ids::{AppName, PmId};

/// Where a process should get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Runs, in at least this generation; or has failed to.
    Started {
        /// The first generation that counts.
        generation: u64,
    },
    /// At rest.
    Stopped,
    /// Forgotten.
    Gone,
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
}

/// How far it is: `None` on the way, else whether it got there.
pub fn reached(
    goal: Goal,
    state: Option<&State>,
    generation: u64,
    reason: Option<&str>,
) -> Option<Result<(), String>> {
    let why = || Err(reason.unwrap_or("it ended").to_owned());
    let Some(state) = state else {
        return Some(if goal == Goal::Gone {
            Ok(())
        } else {
            Err("it was deleted".into())
        });
    };
    match goal {
        Goal::Gone => None,
        Goal::Stopped => match state {
            State::Stopped | State::Errored => Some(Ok(())),
            State::Starting { .. } | State::Online { .. } | State::Waiting { .. } => {
                Some(Err("it was started again".into()))
            }
            State::Launching { .. } | State::Stopping { .. } | State::Clearing { .. } => None,
        },
        Goal::Started { generation: wanted } => match state {
            State::Online { .. } if generation >= wanted => Some(Ok(())),
            State::Stopped | State::Errored | State::Waiting { .. } if generation >= wanted => {
                Some(why())
            }
            _ => None,
        },
    }
}

/// One command that waits for its processes.
#[derive(Debug)]
pub struct Wait<R> {
    /// Who is still on the way.
    pub open: BTreeMap<PmId, (AppName, Goal)>,
    /// Who has arrived.
    pub outcomes: Vec<Outcome>,
    /// Where the answer goes.
    pub reply: R,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_run_does_not_count_as_the_start_that_was_asked_for() {
        let errored = State::Errored;
        let goal = Goal::Started { generation: 5 };
        assert_eq!(reached(goal, Some(&errored), 4, None), None);
        assert_eq!(
            reached(goal, Some(&errored), 5, Some("x")),
            Some(Err("x".into()))
        );
    }

    #[test]
    fn gone_is_gone() {
        assert_eq!(reached(Goal::Gone, None, 0, None), Some(Ok(())));
        assert_eq!(reached(Goal::Gone, Some(&State::Stopped), 0, None), None);
        assert!(matches!(
            reached(Goal::Stopped, None, 0, None),
            Some(Err(_))
        ));
    }
}
