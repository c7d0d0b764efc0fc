//! What became of each process of a call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::List;
use super::door::Reply;
use crate::ids::{AppName, PmId};
use crate::supervisor;

/// What became of one process of a call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Which.
    #[schema(value_type = u32)]
    pub pm_id: PmId,
    /// Its app's name.
    #[schema(value_type = String)]
    pub name: AppName,
    /// Why it could not be done; `null` when it was.
    pub error: Option<String>,
    /// What was done, where the command's name does not say it.
    pub done: Done,
    /// What people should know of it.
    pub note: Option<String>,
}

/// What was done with a process that was to be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// What the command's name says.
    #[default]
    AsAsked,
    /// It was listed already: restarted.
    Restarted,
    /// Listed, and not to be started (`autostart: false`).
    Registered,
}

impl From<supervisor::waits::Done> for Done {
    fn from(done: supervisor::waits::Done) -> Self {
        match done {
            supervisor::waits::Done::AsAsked => Self::AsAsked,
            supervisor::waits::Done::Restarted => Self::Restarted,
            supervisor::waits::Done::Registered => Self::Registered,
        }
    }
}

pub(super) fn outcomes(outcomes: Vec<supervisor::waits::Outcome>) -> Reply<List<Outcome>> {
    let one = |outcome: supervisor::waits::Outcome| Outcome {
        pm_id: outcome.id,
        name: outcome.name,
        error: outcome.error,
        done: outcome.done.into(),
        note: outcome.note.map(str::to_owned),
    };
    Reply(List::whole(outcomes.into_iter().map(one).collect()))
}
