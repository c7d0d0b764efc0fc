//! `GET /api/v1/admin/processes/table`: what a table shows of processes, and nothing else, so
//! that a look at a large fleet stays cheap: no specs, no environments.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::door::{Admin, Query, Reply};
use super::error::Answer;
use super::processes::{Process, Readiness, Status, UserNames, readiness, status};
use super::state::Api;
use super::{Problem, daemon, logs};
use crate::config::spec::ExecMode;
use crate::ids::{AppName, PmId, Port, Timestamp};
use crate::supervisor;
use crate::supervisor::usage::Usage;

/// Processes, by number, and what an operator should act on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessTable {
    /// A row each.
    pub rows: Vec<Row>,
    /// As `DaemonInfo` has them.
    pub warnings: Vec<String>,
}

/// One process, as a table shows it. `Process` has more.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProcessRow)]
pub struct Row {
    /// Its number.
    #[schema(value_type = u32)]
    pub pm_id: PmId,
    /// Its app's name.
    #[schema(value_type = String)]
    pub name: AppName,
    /// Its group of apps.
    pub namespace: String,
    /// Of the app's own package, where one was found.
    pub version: Option<String>,
    /// PM2's word.
    #[schema(value_type = String)]
    pub exec_mode: ExecMode,
    /// 0 while none runs.
    pub pid: u32,
    /// PM2's word.
    pub status: Status,
    /// Why it is errored, waiting or unhealthy, in a sentence; `null` when all is well.
    pub reason: Option<String>,
    /// Restarts since it was registered, by hand and by itself.
    pub restarts: u32,
    /// Last start.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// Port, for services only.
    pub port: Option<u16>,
    /// A port that another replica of its app has: why this one is stopped.
    #[serde(default)]
    #[schema(value_type = Option<u16>)]
    pub unshared: Option<Port>,
    /// May it get traffic? For services only.
    pub readiness: Option<Readiness>,
    /// Percent of one core since the last sample; 0 unless it runs.
    pub cpu: f32,
    /// Resident memory in bytes; 0 unless it runs.
    pub memory: u64,
    /// Operating-system user it runs as.
    pub user: String,
    /// Do changed files restart it?
    pub watched: bool,
    /// Log of standard error; `null` when it goes nowhere.
    #[schema(value_type = Option<String>)]
    pub error_log: Option<PathBuf>,
    /// Pid file.
    #[schema(value_type = String)]
    pub pid_file: PathBuf,
}

impl From<&Process> for Row {
    fn from(process: &Process) -> Self {
        Self {
            pm_id: process.pm_id,
            name: process.name.clone(),
            namespace: process.spec.namespace.clone(),
            version: process.spec.version.clone(),
            exec_mode: process.spec.exec_mode,
            pid: process.pid,
            status: process.status,
            reason: process.reason.clone(),
            restarts: process.restarts,
            started_at: process.started_at,
            port: process.spec.mcp.as_ref().map(|mcp| mcp.port.get()),
            unshared: process.unshared,
            readiness: process.health.as_ref().map(|health| health.readiness),
            cpu: process.cpu,
            memory: process.memory,
            user: process.user.clone(),
            watched: process.spec.triggers.watch.is_some(),
            error_log: process.error_log.clone(),
            pid_file: process.pid_file.clone(),
        }
    }
}

fn row(process: &supervisor::Process, usage: Usage, user: &str) -> Row {
    let mcp = process.spec.mcp.as_ref();
    Row {
        pm_id: process.id,
        name: process.spec.name.clone(),
        namespace: process.spec.namespace.clone(),
        version: process.spec.version.clone(),
        exec_mode: process.spec.exec_mode,
        pid: process.pid.unwrap_or(0),
        status: status(process.status),
        reason: process.reason.clone(),
        restarts: process.history.restarts,
        started_at: process.started_at,
        port: mcp.map(|mcp| mcp.port.get()),
        unshared: process.unshared,
        readiness: mcp.map(|_| readiness(&process.health.readiness)),
        cpu: usage.cpu,
        memory: usage.memory,
        user: user.to_owned(),
        watched: process.spec.triggers.watch.is_some(),
        error_log: process.logs.error.clone(),
        pid_file: process.pid_file.clone(),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TableQuery {
    /// As in `TargetRequest`; `all` when not given.
    target: Option<String>,
}

/// What a table shows of processes, with their CPU and memory now.
#[utoipa::path(get, path = "/api/v1/admin/processes/table", params(TableQuery), tag = "processes",
    responses((status = 200, body = ProcessTable), (status = 404, body = Problem)))]
pub(super) async fn table(
    _: Admin,
    State(api): State<Api>,
    Query(query): Query<TableQuery>,
) -> Answer<Reply<ProcessTable>> {
    let target = logs::target(query.target.as_deref())?;
    let snapshot = api.supervisor.snapshot();
    let processes = logs::selected(&snapshot, &target)?;
    let usage: HashMap<PmId, Usage> = api.sampler.sample(snapshot, processes.clone()).await;
    let mut users = UserNames::default();
    let one = |process: &Arc<supervisor::Process>| {
        let usage = usage.get(&process.id).copied().unwrap_or_default();
        row(process, usage, users.of(process))
    };
    Ok(Reply(ProcessTable {
        rows: processes.iter().map(one).collect(),
        warnings: daemon::warnings(&api),
    }))
}
