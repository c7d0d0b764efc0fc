//! `/api/v1/admin/daemon`: the daemon itself.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::List;
use super::Problem;
use super::door::{Admin, Door, Json, Reply};
use super::error::{Answer, ApiError};
use super::state::{Api, DaemonOrder};
use crate::audit::{By, words};
use crate::ids::Timestamp;

/// `GET /api/v1/admin/daemon`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonInfo {
    /// Version of the running daemon.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// State folder.
    pub home: String,
    /// Address of router and API; `null` when it could not be had (see `warnings`).
    pub listen: Option<String>,
    /// Origin of handed-out URLs.
    pub public_url: String,
    /// What an operator should act on.
    pub warnings: Vec<String>,
    /// Isolation events since the daemon has started: `GET /api/v1/admin/audit?action=isolation.`
    /// tells them.
    #[serde(default)]
    pub isolation_events: u64,
    /// Credentials of instances that external services have been found to take no longer, since the daemon
    /// has started.
    #[serde(default)]
    pub expired_credentials: u64,
}

/// One setting, and where its value comes from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Its name, as in the `mcpm` block.
    pub name: String,
    /// Its value.
    pub value: String,
    /// `default`, `flag`, `MCPM_LISTEN` and the like, or a file's path.
    pub source: String,
}

/// `POST /api/v1/admin/daemon/stop`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StopRequest {
    /// End the daemon only; services go on and the next daemon adopts them.
    #[serde(default)]
    pub keep: bool,
}

/// Where a hand-over is asked for.
pub(super) const UPDATE_PATH: &str = "/api/v1/admin/daemon/update";
/// Where it is asked whether the daemon lives.
pub(super) const HEALTH_PATH: &str = "/health";
/// How long the old daemon finishes what its clients have begun, when nobody says.
const DRAIN_SECONDS: u64 = 600;
/// And at most.
const DRAIN_SECONDS_MAX: u64 = 24 * 60 * 60;

/// `POST /api/v1/admin/daemon/update`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateRequest {
    /// Absolute path of the mcpm that takes over.
    pub program: String,
    /// How long the old daemon finishes what its clients have begun, in seconds; 600 when left out, a
    /// day at most.
    #[serde(default)]
    pub drain_seconds: Option<u64>,
}

/// Who has taken over from whom.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Updated {
    /// Process of the daemon that went.
    pub from_pid: u32,
    /// Its version.
    pub from_version: String,
    /// Process of the daemon that came.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// Processes whose lost log lines, or unread output, are told one by one.
const LOSSES_TOLD: usize = 3;

/// Answer of `GET /health`: ok, and nothing else.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alive {
    /// Always `true`.
    pub ok: bool,
}

// ── handlers ──

/// The daemon is there. Open to all.
#[utoipa::path(get, path = "/health", tag = "daemon", security(()),
    responses((status = 200, body = Alive)))]
pub(super) async fn health() -> Reply<Alive> {
    Reply(Alive { ok: true })
}

/// The daemon itself.
#[utoipa::path(get, path = "/api/v1/admin/daemon", tag = "daemon",
    responses((status = 200, body = DaemonInfo)))]
pub(super) async fn info(_: Admin, State(api): State<Api>) -> Reply<DaemonInfo> {
    let now = api.in_force.load();
    Reply(DaemonInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: api.started_at,
        home: api.home.path().display().to_string(),
        listen: now.listen.map(|address| address.to_string()),
        public_url: now.public_url.clone(),
        warnings: warnings(&api),
        isolation_events: api.audit.isolation_events(),
        expired_credentials: api.audit.expired_credentials(),
    })
}

/// What an operator should act on now.
pub(super) fn warnings(api: &Api) -> Vec<String> {
    let mut warnings = api.in_force.load().warnings.clone();
    warnings.extend(api.supervisor.journal_trouble());
    warnings.extend(api.users.identity().troubles());
    warnings.extend(told(&api.logs.losses().unread(), |more| {
        format!("output of {more} more processes is not being read")
    }));
    warnings.extend(told(&api.logs.losses().all(), |more| {
        format!("log lines of {more} more processes could not be written")
    }));
    warnings
}

/// Some of them one by one, and how many more there are.
fn told(all: &[impl ToString], more: impl FnOnce(usize) -> String) -> Vec<String> {
    let mut told: Vec<String> = all
        .iter()
        .take(LOSSES_TOLD)
        .map(ToString::to_string)
        .collect();
    if all.len() > LOSSES_TOLD {
        told.push(more(all.len() - LOSSES_TOLD));
    }
    told
}

/// Each setting and where its value comes from.
#[utoipa::path(get, path = "/api/v1/admin/daemon/config", tag = "daemon",
    responses((status = 200, body = List<Setting>)))]
pub(super) async fn config(_: Admin, State(api): State<Api>) -> Reply<List<Setting>> {
    Reply(List::whole(api.in_force.load().settings.clone()))
}

/// Ends the daemon. Over the socket it answers when the services have ended; over TCP at once, since
/// the router waits for its answers before it ends.
#[utoipa::path(post, path = "/api/v1/admin/daemon/stop", tag = "daemon",
    request_body = StopRequest, responses((status = 202), (status = 409, body = Problem)))]
pub(super) async fn stop(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Extension(door): Extension<Door>,
    Json(request): Json<StopRequest>,
) -> Answer<StatusCode> {
    let keep = request.keep;
    if keep && api.is_container {
        let detail = "this daemon is the first process of a container, and the services would be killed \
                      with it, without a stop: nothing was done; `mcpm kill` stops them in order";
        return Err(ApiError::new(StatusCode::CONFLICT, "not_stopped", detail));
    }
    // Told before: afterwards there is nobody to tell it.
    let mut entry = by.entry(words::DAEMON_STOP);
    if keep {
        entry = entry.with_detail("the services go on");
    }
    api.audit.record(entry);
    if door == Door::Socket {
        let order = |done| DaemonOrder::Stop { keep, done };
        api.order(order, "not_stopped").await?;
    } else {
        let (done, _) = oneshot::channel();
        let _ = api.orders.send(DaemonOrder::Stop { keep, done }).await;
    }
    Ok(StatusCode::ACCEPTED)
}

/// Hands services, sockets and commands over to another mcpm without a pause; the old daemon finishes
/// what its clients have begun and ends. When the new one can't, nothing has changed. Over the socket
/// only: it names a program of this machine.
#[utoipa::path(post, path = "/api/v1/admin/daemon/update", tag = "daemon",
    request_body = UpdateRequest, responses((status = 200, body = Updated)))]
pub(super) async fn update(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Extension(door): Extension<Door>,
    Json(request): Json<UpdateRequest>,
) -> Answer<Reply<Updated>> {
    if door != Door::Socket {
        return Err(ApiError::forbidden(
            "`mcpm update` on the machine itself does this",
        ));
    }
    let drain = request.drain_seconds.unwrap_or(DRAIN_SECONDS);
    if drain > DRAIN_SECONDS_MAX {
        return Err(ApiError::bad_request("`drainSeconds` is a day at most"));
    }
    let order = |done| DaemonOrder::Update {
        program: request.program.into(),
        drain: Duration::from_secs(drain),
        done,
    };
    let updated: Updated = api.order(order, "not_updated").await?;
    let detail = format!("{} → {}", updated.from_version, updated.version);
    let entry = by.entry(words::DAEMON_UPDATE).with_detail(detail);
    api.audit.record(entry);
    Ok(Reply(updated))
}
