//! `/api/v1/admin/processes/…`: what can be done with processes beside starting and ending them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::{Admin, Json, Reply};
use super::error::{Answer, ApiError};
use super::outcomes::{Outcome, outcomes};
use super::processes::refuse_other_version;
use super::state::Api;
use super::{List, Problem, logs};
use crate::audit::{By, words};
use crate::config::AppSpec;
use crate::config::spec::Env;
use crate::ids::{AppName, PmId};
use crate::logs::pipes::Pipes;
use crate::supervisor::machine::signal_number;
use crate::supervisor::reload::How;
use crate::supervisor::{self, CommandError, Count};

/// Longest line that `send` takes: what a pipe holds.
const LINE_MAX: usize = 64 * 1024;
/// How long a process may take until it reads its standard input.
const PATIENCE: Duration = Duration::from_secs(2);

/// `POST /api/v1/admin/processes/scale`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleRequest {
    /// As in `TargetRequest`; each app that it means is scaled.
    pub target: String,
    /// `3`: so many; `+3`, `-3`: so many more or fewer.
    pub count: String,
}

/// `POST /api/v1/admin/processes/reload`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReloadRequest {
    /// As in `StartRequest`.
    pub spec_version: u32,
    /// Which process.
    #[schema(value_type = u32)]
    pub pm_id: PmId,
    /// What it is to be made from; `null` for what it is made from now.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub spec: Option<AppSpec>,
    /// Variables to merge into those of the spec.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub env: Option<Env>,
    /// The name that it has now, when the spec brings another one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub renamed_from: Option<AppName>,
    /// Restart it rather: the run that is there ends first, whatever it is, and the answer does not
    /// wait until the new one is ready.
    #[serde(default)]
    pub at_once: bool,
}

/// What became of a reload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Which process.
    #[schema(value_type = u32)]
    pub pm_id: PmId,
    /// Its app's name.
    #[schema(value_type = String)]
    pub name: AppName,
    /// The new run was started beside the old one, and has taken over from it. Otherwise the old one
    /// ended first.
    pub beside: bool,
    /// What stood in the way of a second run beside the first: `listens on port 3000`.
    pub obstacle: Option<String>,
    /// Why it could not be done; `null` when it was. With `beside` the old run goes on.
    pub error: Option<String>,
}

/// `POST /api/v1/admin/processes/reset`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetRequest {
    /// As in `TargetRequest`.
    pub target: String,
}

/// `POST /api/v1/admin/processes/unwatch`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnwatchRequest {
    /// As in `TargetRequest`.
    pub target: String,
}

/// `POST /api/v1/admin/processes/signal`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalRequest {
    /// As in `TargetRequest`.
    pub target: String,
    /// `SIGUSR2`, `USR2` or a number.
    pub signal: String,
}

/// `POST /api/v1/admin/processes/send`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendRequest {
    /// As in `TargetRequest`.
    pub target: String,
    /// What each gets on its standard input, with a line end after it.
    pub line: String,
}

// ── handlers ──

/// Gives apps more or fewer processes; answers when each is there, gone, or has failed.
#[utoipa::path(post, path = "/api/v1/admin/processes/scale", tag = "processes",
    request_body = ScaleRequest, responses((status = 200, body = List<Outcome>),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn scale(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<ScaleRequest>,
) -> Answer<Reply<List<Outcome>>> {
    let Some(count) = Count::parse(&request.count) else {
        let detail = format!("`{}`: write a number, `+N` or `-N`", request.count);
        return Err(ApiError::bad_request(detail));
    };
    let scaled = api.supervisor.scale(&request.target, count).await?;
    let detail = format!("{} to {}", request.target, request.count);
    api.audit
        .record(by.entry(words::PROCESS_SCALE).with_detail(detail));
    Ok(outcomes(scaled))
}

/// Puts a new run in the place of one process's run: beside it where nothing stands in the way, else
/// after it, or at once after it when that is asked for. Answers when the new one has taken over, or
/// has failed to.
#[utoipa::path(post, path = "/api/v1/admin/processes/reload", tag = "processes",
    request_body = ReloadRequest, responses((status = 200, body = Reloaded),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn reload(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<ReloadRequest>,
) -> Answer<Reply<Reloaded>> {
    let ReloadRequest {
        spec_version,
        pm_id,
        spec,
        env,
        renamed_from,
        at_once,
    } = request;
    refuse_other_version(spec_version)?;
    let order = supervisor::Reload {
        id: pm_id,
        spec: spec.map(Arc::new),
        renamed_from,
        env,
        at_once,
    };
    let (how, outcomes) = api.supervisor.reload(order).await?;
    let Some(outcome) = outcomes.into_iter().next() else {
        return Err(CommandError::Unknown(pm_id.to_string()).into());
    };
    let detail = format!("{} ({})", outcome.name, outcome.id);
    api.audit
        .record(by.entry(words::PROCESS_RELOAD).with_detail(detail));
    Ok(Reply(Reloaded {
        pm_id: outcome.id,
        name: outcome.name,
        beside: how == How::Beside,
        obstacle: match how {
            How::InPlace(Some(obstacle)) => Some(obstacle.to_string()),
            How::InPlace(None) | How::Beside => None,
        },
        error: outcome.error,
    }))
}

/// Counts restarts and lost log lines from 0 again.
#[utoipa::path(post, path = "/api/v1/admin/processes/reset", tag = "processes",
    request_body = ResetRequest,
    responses((status = 200, body = List<Outcome>), (status = 404, body = Problem)))]
pub(super) async fn reset(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<ResetRequest>,
) -> Answer<Reply<List<Outcome>>> {
    let reset = api.supervisor.reset(&request.target).await?;
    for process in &reset {
        api.logs.losses().forget(process.id);
    }
    api.audit
        .record(by.entry(words::PROCESS_RESET).with_detail(request.target));
    Ok(outcomes(reset))
}

/// Changed files restart these no longer.
#[utoipa::path(post, path = "/api/v1/admin/processes/unwatch", tag = "processes",
    request_body = UnwatchRequest,
    responses((status = 200, body = List<Outcome>), (status = 404, body = Problem)))]
pub(super) async fn unwatch(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<UnwatchRequest>,
) -> Answer<Reply<List<Outcome>>> {
    let unwatched = api.supervisor.unwatch(&request.target).await?;
    api.audit
        .record(by.entry(words::PROCESS_UNWATCH).with_detail(request.target));
    Ok(outcomes(unwatched))
}

/// Sends a signal to the root process of each.
#[utoipa::path(post, path = "/api/v1/admin/processes/signal", tag = "processes",
    request_body = SignalRequest,
    responses((status = 200, body = List<Outcome>), (status = 404, body = Problem)))]
pub(super) async fn signal(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<SignalRequest>,
) -> Answer<Reply<List<Outcome>>> {
    let Some(signal) = signal_number(&request.signal) else {
        let given = &request.signal;
        let detail = format!("`{given}` is no signal; write a name such as `SIGUSR2`, or a number");
        return Err(ApiError::bad_request(detail));
    };
    let sent = api.supervisor.signal(&request.target, signal).await?;
    let detail = format!("{} to {}", request.signal, request.target);
    api.audit
        .record(by.entry(words::PROCESS_SIGNAL).with_detail(detail));
    Ok(outcomes(sent))
}

/// Writes a line to the standard input of each.
#[utoipa::path(post, path = "/api/v1/admin/processes/send", tag = "processes",
    request_body = SendRequest,
    responses((status = 200, body = List<Outcome>), (status = 404, body = Problem)))]
pub(super) async fn send(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<SendRequest>,
) -> Answer<Reply<List<Outcome>>> {
    if request.line.len() >= LINE_MAX {
        let detail = format!("a line has less than {LINE_MAX} bytes");
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            detail,
        ));
    }
    let processes = logs::selected(
        &api.supervisor.snapshot(),
        &logs::target(Some(&request.target))?,
    )?;
    let (run_dir, line) = (api.home.run_dir(), request.line + "\n");
    let write = move |process: &supervisor::Process| {
        if process.pid.is_none() {
            return Some("it does not run".to_owned());
        }
        let written = Pipes::of(&run_dir, process.id).write_stdin(line.as_bytes(), PATIENCE);
        written.err().map(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => "it does not read its standard input".to_owned(),
            _ => format!("its standard input cannot be written: {error}"),
        })
    };
    let sent = tokio::task::spawn_blocking(move || {
        let one = |process: &Arc<supervisor::Process>| {
            let name = process.spec.name.clone();
            supervisor::waits::Outcome::at_once(process.id, name, write(process))
        };
        processes.iter().map(one).collect()
    });
    match sent.await {
        Ok(sent) => {
            // The line may be a secret.
            api.audit
                .record(by.entry(words::PROCESS_SEND).with_detail(request.target));
            Ok(outcomes(sent))
        }
        Err(error) => Err(ApiError::internal(&error)),
    }
}
