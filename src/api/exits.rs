//! `GET /api/v1/admin/processes/exits`: how processes have ended, who wanted it, and what followed.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::door::{Admin, Query, Reply};
use super::error::{Answer, ApiError};
use super::processes::{Status, status};
use super::state::Api;
use super::{List, Problem, logs};
use crate::ids::{AppName, PmId, Timestamp};
use crate::supervisor;
use crate::supervisor::last_exits::{EACH_MAX, ExitRecord, Next, NoLines, Who};
use crate::supervisor::machine::signal_name;

/// One process, and how its last runs have ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessExits {
    /// Its number.
    #[schema(value_type = u32)]
    pub pm_id: PmId,
    /// Its app's name.
    #[schema(value_type = String)]
    pub name: AppName,
    /// Which of the app's `instances` it is, from 0.
    pub instance: u32,
    /// PM2's word for what it does now.
    pub status: Status,
    /// Why it is errored, waiting or unhealthy, in a sentence; `null` when all is well.
    pub reason: Option<String>,
    /// Restarts since it was registered, by hand and by itself.
    pub restarts: u32,
    /// Last start.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// The newest first, at most 20. They outlive the daemon and the machine's boot, until the
    /// process is deleted.
    pub exits: Vec<PastExit>,
}

/// How one run has ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastExit {
    /// When; with `askedBy` `unwatched`, when it was found.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Its root process.
    pub pid: Option<u32>,
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal name such as `SIGKILL`, when it was ended by one. Neither: nobody can know.
    pub signal: Option<String>,
    /// Who wanted it to end: `itself` (nobody here), `start`, `stop`, `restart`, `reload`, `delete`,
    /// `health` (failed checks), `memory`, `clock`, `files`, `daemon` (which ended), or `unwatched`
    /// (nobody can know: no daemon ran).
    #[schema(value_type = String)]
    pub asked_by: Who,
    /// What they said: the file that changed, what the checks found.
    pub asked_why: Option<String>,
    /// How long it ran, in milliseconds; `null` when nobody saw its end.
    pub uptime_ms: Option<u64>,
    /// The most memory that it, or a child that it has waited for, had at a time, in bytes, and not
    /// less than what the daemon had when it started it; `null` for one that another daemon had
    /// started.
    pub peak_memory: Option<u64>,
    /// What followed: `started`, `waits`, `stopped`, `errored`, or `replaced` (the other run of a
    /// reload is the process).
    #[schema(value_type = String)]
    pub next: Next,
    /// The same with its reason, in a sentence.
    pub decision: String,
    /// Its last lines on standard output, at most 20; on standard error, too, when both go to one
    /// file.
    pub out_lines: Vec<String>,
    /// Its last lines on standard error, at most 20.
    pub error_lines: Vec<String>,
    /// The lines may be of earlier runs, too: an earlier daemon had started the run, and where that
    /// begins in its log is not known.
    #[serde(default)]
    pub may_be_older: bool,
    /// Why there are no lines, when that is not because it wrote none: `no_file` (its output goes to
    /// none), `too_often` (it had ended less than a second before), `unread`, or `unstored` (they
    /// could not be written to their files).
    #[schema(value_type = Option<String>)]
    pub no_lines: Option<NoLines>,
}

impl From<ExitRecord> for PastExit {
    fn from(record: ExitRecord) -> Self {
        Self {
            at: record.at,
            pid: record.pid,
            code: record.code,
            signal: record.signal.map(signal_name),
            asked_by: record.asked_by,
            asked_why: record.asked_why,
            uptime_ms: record.ran_ms,
            peak_memory: record.peak_memory,
            next: record.next,
            decision: record.decision,
            out_lines: record.out_lines,
            error_lines: record.error_lines,
            may_be_older: record.may_be_older,
            no_lines: record.no_lines,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExitsQuery {
    /// As in `TargetRequest`; `all` when not given.
    target: Option<String>,
    /// The newest so many of each process; 20 when not given, which is the most.
    limit: Option<usize>,
}

/// How processes have ended, the newest exit of each first.
#[utoipa::path(get, path = "/api/v1/admin/processes/exits", params(ExitsQuery), tag = "processes",
    responses((status = 200, body = List<ProcessExits>), (status = 404, body = Problem)))]
pub(super) async fn list(
    _: Admin,
    State(api): State<Api>,
    Query(query): Query<ExitsQuery>,
) -> Answer<Reply<List<ProcessExits>>> {
    let target = logs::target(query.target.as_deref())?;
    let processes = logs::selected(&api.supervisor.snapshot(), &target)?;
    let limit = query.limit.unwrap_or(EACH_MAX).min(EACH_MAX);
    let exits = api.supervisor.exits(&processes, limit).await;
    let exits = exits.map_err(|error| ApiError::internal(&error))?;
    let items = processes.iter().zip(exits).map(view).collect();
    Ok(Reply(List::whole(items)))
}

fn view((process, exits): (&Arc<supervisor::Process>, Vec<ExitRecord>)) -> ProcessExits {
    ProcessExits {
        pm_id: process.id,
        name: process.spec.name.clone(),
        instance: process.instance,
        status: status(process.status),
        reason: process.reason.clone(),
        restarts: process.history.restarts,
        started_at: process.started_at,
        exits: exits.into_iter().map(PastExit::from).collect(),
    }
}
