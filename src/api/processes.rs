//! `/api/v1/admin/processes`: what runs, and what to do with it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::door::{Admin, Json, Query, Reply};
use super::error::{Answer, ApiError};
use super::outcomes::{Outcome, outcomes};
use super::state::{Api, DaemonOrder};
use super::{List, Problem, logs};
use crate::audit::{By, words};
use crate::config::spec::{Env, SPEC_VERSION};
use crate::config::{AppSpec, Settings};
use crate::ids::{AppName, PmId, Port, Timestamp};
use crate::supervisor::machine::{Exit, signal_name};
use crate::supervisor::snapshot::Role;
use crate::supervisor::usage::{Usage, memory_of_limited};
use crate::supervisor::{self, Action};

/// PM2's words for the state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Started; not yet known to run, or not yet ready.
    Launching,
    /// Runs.
    Online,
    /// Was asked to end.
    Stopping,
    /// Does not run, and should not.
    Stopped,
    /// Ended; will be started again after a wait.
    #[serde(rename = "waiting restart")]
    WaitingRestart,
    /// Ended too often, or could not be started. Stays so until someone starts it.
    Errored,
}

impl Status {
    /// The word as PM2 shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::Online => "online",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::WaitingRestart => "waiting restart",
            Self::Errored => "errored",
        }
    }
}

/// May a service get traffic?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Does not run.
    Down,
    /// Runs, has not answered yet.
    Starting,
    /// Answers.
    Ready,
    /// Runs, has failed its last checks.
    Unhealthy,
    /// Somebody else listens on its port; nothing is routed there.
    PortTaken,
}

/// How an ended process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastExit {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal name such as `SIGKILL`, when it was ended by one. Neither: nobody can know.
    pub signal: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What its health checks had said, when it was ended for that.
    #[serde(default)]
    pub why: Option<String>,
}

/// Why a process that ran was restarted although nobody asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRestart {
    /// Memory, the clock, a changed file or failed health checks, in a sentence.
    pub why: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What the health checks of a service say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// May it get traffic?
    pub readiness: Readiness,
    /// When it was asked last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_check: Option<Timestamp>,
    /// How long the last answer took, in milliseconds.
    pub response_ms: Option<f64>,
    /// Failed checks in a row.
    pub consecutive_failures: u32,
    /// Share of good checks since it was first started, 0 to 100.
    pub uptime_percent: Option<f64>,
    /// What the last failed check said.
    pub last_failure: Option<String>,
}

/// One process, as the lists show it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its number.
    #[schema(value_type = u32)]
    pub pm_id: PmId,
    /// A UUID of its present run.
    pub unique_id: String,
    /// Its app's name.
    #[schema(value_type = String)]
    pub name: AppName,
    /// Which of the app's `instances` it is, from 0.
    pub instance: u32,
    /// 0 while none runs.
    pub pid: u32,
    /// PM2's word.
    pub status: Status,
    /// Why it is errored, waiting or unhealthy, in a sentence; `null` when all is well.
    pub reason: Option<String>,
    /// Restarts since it was registered, by hand and by itself.
    pub restarts: u32,
    /// Exits in a row that came before `min_uptime`.
    pub unstable_restarts: u32,
    /// Last start.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// First start, or last start by hand.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// How it ended last time.
    pub last_exit: Option<LastExit>,
    /// The last restart that neither people nor its own end caused.
    #[serde(default)]
    pub last_restart: Option<LastRestart>,
    /// Something that does not work, and does not keep it from running.
    #[serde(default)]
    pub note: Option<String>,
    /// Stopped, since another process of its app listens on this port and two can't share it; the
    /// reason says so.
    #[serde(default)]
    #[schema(value_type = Option<u16>)]
    pub unshared: Option<Port>,
    /// While it is reloaded: the new run, until it has taken over.
    #[serde(default)]
    pub successor_pid: Option<u32>,
    /// While it is reloaded: the old run, until it has ended.
    #[serde(default)]
    pub predecessor_pid: Option<u32>,
    /// Resident memory in bytes; 0 unless it runs.
    pub memory: u64,
    /// Resident memory of its whole process group in bytes, which is what `max_memory_restart` counts.
    /// Only with `?groups=true`, and of those that run and have such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_memory: Option<u64>,
    /// Percent of one core since the last sample; 0 unless it runs.
    pub cpu: f32,
    /// Operating-system user it runs as.
    pub user: String,
    /// Log of standard output; `null` when it goes nowhere.
    #[schema(value_type = Option<String>)]
    pub out_log: Option<PathBuf>,
    /// Log of standard error; `null` when it goes nowhere.
    #[schema(value_type = Option<String>)]
    pub error_log: Option<PathBuf>,
    /// Log of both together, when there is one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub combined_log: Option<PathBuf>,
    /// Pid file.
    #[schema(value_type = String)]
    pub pid_file: PathBuf,
    /// Folder of its control group, while it runs and has one of its own.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cgroup: Option<PathBuf>,
    /// What it says about itself over Node's channel (`axm:monitor`): by name `{value, unit, …}`.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    pub metrics: serde_json::Map<String, serde_json::Value>,
    /// For services only.
    pub health: Option<Health>,
    /// What it is made from. Values of variables with secret-looking names are `***` unless they
    /// were asked for with `?secrets=true`.
    #[schema(value_type = Object)]
    pub spec: AppSpec,
}

/// `POST /api/v1/admin/processes`: registers and starts apps. An app whose name is known already
/// is restarted with the new spec.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartRequest {
    /// Must be the daemon's own [`crate::config::spec::SPEC_VERSION`].
    pub spec_version: u32,
    /// What to start, in this order.
    #[schema(value_type = Vec<Object>)]
    pub apps: Vec<AppSpec>,
    /// Settings of the ecosystem file's `mcpm` block: one that differs from what is in force is
    /// refused.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub settings: crate::config::Settings,
    /// The file that they stand in, for `mcpm config` to name.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub settings_file: Option<PathBuf>,
    /// Start them beside processes of the same names, which are left alone.
    #[serde(default)]
    pub force: bool,
    /// Leave alone what runs already and is made from the same spec.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_unchanged: bool,
    /// Answer when each was started; one that says when it is ready is not waited for.
    #[serde(default)]
    pub no_wait: bool,
    /// `MCPM_LISTEN` and its kin in the caller's shell: the same holds for them.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// `POST /api/v1/admin/processes/{action}` where action is `start`, `stop`, `restart`, `delete`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRequest {
    /// `all`, `/regex/`, a name, a pm_id, or a namespace, looked up in PM2's order.
    pub target: String,
    /// For `start` and `restart`: variables to merge into the stored ones.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub env: Option<crate::config::spec::Env>,
}

// ── handlers ──

/// Names of variables whose values are shown to nobody who did not ask for them.
pub(crate) fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "secret", "pass", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

fn redacted(spec: &AppSpec) -> AppSpec {
    let mut spec = spec.clone();
    let shown = |(name, value)| match looks_secret(name) {
        true => (name, "***"),
        false => (name, value),
    };
    spec.env = spec.env.iter().map(shown).collect();
    spec
}

pub(super) fn status(status: supervisor::snapshot::Status) -> Status {
    use supervisor::snapshot::Status as Inner;
    match status {
        Inner::Launching => Status::Launching,
        Inner::Online => Status::Online,
        Inner::Stopping => Status::Stopping,
        Inner::Stopped => Status::Stopped,
        Inner::Waiting => Status::WaitingRestart,
        Inner::Errored => Status::Errored,
    }
}

pub(super) fn readiness(readiness: &supervisor::snapshot::Readiness) -> Readiness {
    use supervisor::snapshot::Readiness as Inner;
    match readiness {
        Inner::Down => Readiness::Down,
        Inner::Starting => Readiness::Starting,
        Inner::Ready => Readiness::Ready,
        Inner::Unhealthy => Readiness::Unhealthy,
        Inner::PortTaken => Readiness::PortTaken,
    }
}

/// Health as the API shows it.
pub(super) fn health(health: &supervisor::snapshot::Health) -> Health {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let percent = |good: u64, total: u64| good as f64 * 100.0 / total as f64;
    Health {
        readiness: readiness(&health.readiness),
        last_check: health.last_check,
        response_ms: health.response.map(|took| took.as_secs_f64() * 1000.0),
        consecutive_failures: health.failures,
        uptime_percent: (health.total > 0).then(|| percent(health.good, health.total)),
        last_failure: health.last_failure.clone(),
    }
}

fn view(process: &supervisor::Process, usage: Usage, spec: AppSpec, user: &str) -> Process {
    let last_exit = process.last_exit.map(|(exit, at)| {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(number) => (None, Some(signal_name(number))),
            Exit::Unknown => (None, None),
        };
        let why = process.ended_for.clone();
        LastExit {
            code,
            signal,
            at,
            why,
        }
    });
    let other = |role| {
        let run = process.beside.filter(|run| run.role == role);
        run.map(|run| run.pid)
    };
    Process {
        pm_id: process.id,
        unique_id: process.unique_id.clone(),
        name: process.spec.name.clone(),
        instance: process.instance,
        pid: process.pid.unwrap_or(0),
        status: status(process.status),
        reason: process.reason.clone(),
        restarts: process.history.restarts,
        unstable_restarts: process.history.unstable,
        started_at: process.started_at,
        created_at: process.created_at,
        last_exit,
        last_restart: process
            .restarted_for
            .clone()
            .map(|(why, at)| LastRestart { why, at }),
        note: process.note.clone(),
        unshared: process.unshared,
        successor_pid: other(Role::Successor),
        predecessor_pid: other(Role::Predecessor),
        memory: usage.memory,
        group_memory: None,
        cpu: usage.cpu,
        user: user.to_owned(),
        out_log: process.logs.out.clone(),
        error_log: process.logs.error.clone(),
        combined_log: process.logs.combined.clone(),
        pid_file: process.pid_file.clone(),
        cgroup: None,
        metrics: process.metrics.now(),
        health: process.spec.mcp.as_ref().map(|_| health(&process.health)),
        spec,
    }
}

/// Names of the users that processes run as, each looked up once.
#[derive(Default)]
pub(super) struct UserNames(HashMap<Option<u32>, String>);

impl UserNames {
    pub(super) fn of(&mut self, process: &supervisor::Process) -> &str {
        let uid = process.spec.run_as.map(|user| user.uid);
        self.0.entry(uid).or_insert_with(|| user_name(uid))
    }
}

fn user_name(uid: Option<u32>) -> String {
    let uid = uid.map_or_else(nix::unistd::geteuid, nix::unistd::Uid::from_raw);
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

fn views(
    processes: &[Arc<supervisor::Process>],
    usage: &HashMap<PmId, Usage>,
    spec: impl Fn(&AppSpec) -> AppSpec,
) -> List<Process> {
    let mut users = UserNames::default();
    let one = |process: &Arc<supervisor::Process>| {
        let usage = usage.get(&process.id).copied().unwrap_or_default();
        view(process, usage, spec(&process.spec), users.of(process))
    };
    List::whole(processes.iter().map(one).collect())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// As in `TargetRequest`; `all` when not given.
    target: Option<String>,
    /// Show values of variables with secret-looking names.
    #[serde(default)]
    secrets: bool,
    /// Look at the memory of whole process groups, too.
    #[serde(default)]
    groups: bool,
}

/// Processes, with their CPU and memory now.
#[utoipa::path(get, path = "/api/v1/admin/processes", params(ListQuery), tag = "processes",
    responses((status = 200, body = List<Process>), (status = 404, body = Problem)))]
pub(super) async fn list(
    _: Admin,
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Answer<Reply<List<Process>>> {
    let target = logs::target(query.target.as_deref())?;
    let snapshot = api.supervisor.snapshot();
    let processes = logs::selected(&snapshot, &target)?;
    let usage = api.sampler.sample(snapshot, processes.clone()).await;
    let groups = if query.groups {
        memory_of_limited(&processes).await
    } else {
        HashMap::new()
    };
    let spec = |spec: &AppSpec| {
        if query.secrets {
            spec.clone()
        } else {
            redacted(spec)
        }
    };
    let mut list = views(&processes, &usage, spec);
    for (shown, process) in list.items.iter_mut().zip(&processes) {
        shown.cgroup = api.supervisor.cgroup(process);
        shown.group_memory = groups.get(&shown.pm_id).copied();
    }
    Ok(Reply(list))
}

/// The list at once and again after each change, a line of JSON each, without environments.
#[utoipa::path(get, path = "/api/v1/admin/processes/watch", tag = "processes",
    responses((status = 200, body = List<Process>, content_type = "application/x-ndjson")))]
pub(super) async fn watch(_: Admin, State(api): State<Api>) -> Response {
    /// Changes that come faster than this are shown together.
    const PAUSE: Duration = Duration::from_millis(20);
    let bare = |spec: &AppSpec| AppSpec {
        env: Env::default(),
        ..spec.clone()
    };
    let (sender, lines) = mpsc::channel(1);
    let mut table = api.supervisor.subscribe();
    table.mark_changed();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = table.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
            let snapshot = table.borrow_and_update().clone();
            let list = views(&snapshot.processes, &HashMap::new(), bare);
            if sender.send(list).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    ndjson(lines)
}

/// Registers and starts apps; answers when each was started or has failed to.
#[utoipa::path(post, path = "/api/v1/admin/processes", tag = "processes",
    request_body = StartRequest,
    responses((status = 200, body = List<Outcome>), (status = 409, body = Problem)))]
pub(super) async fn start(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<StartRequest>,
) -> Answer<Reply<List<Outcome>>> {
    refuse_other_version(request.spec_version)?;
    if request.settings != Settings::default() || !request.environment.is_empty() {
        let order = |done| DaemonOrder::Apply {
            settings: Box::new(request.settings),
            file: request.settings_file,
            environment: request.environment,
            done,
        };
        api.order(order, "settings_differ").await?;
    }
    let how = supervisor::Start {
        beside: request.force,
        unready: request.no_wait,
        spares: request.keep_unchanged,
    };
    let names: Vec<&str> = request.apps.iter().map(|app| app.name.as_str()).collect();
    if names.is_empty() {
        return Ok(Reply(List::whole(Vec::new())));
    }
    let entry = by.entry(words::PROCESS_START).with_detail(names.join(", "));
    let started = api.supervisor.start(request.apps, how).await?;
    api.audit.record(entry);
    Ok(outcomes(started))
}

/// Specs of another version could be misread.
pub(super) fn refuse_other_version(theirs: u32) -> Answer<()> {
    if theirs == SPEC_VERSION {
        return Ok(());
    }
    let ours = SPEC_VERSION;
    let detail = format!(
        "this daemon reads specs of version {ours}, the request has version {theirs}; \
         restart the older of the two programs"
    );
    Err(ApiError::new(
        StatusCode::CONFLICT,
        "version_mismatch",
        detail,
    ))
}

/// Starts, stops, restarts or deletes; answers when each process is there or has failed.
#[utoipa::path(post, path = "/api/v1/admin/processes/{action}", tag = "processes",
    params(("action" = String, Path, description = "`start`, `stop`, `restart` or `delete`")),
    request_body = TargetRequest,
    responses((status = 200, body = List<Outcome>), (status = 404, body = Problem)))]
pub(super) async fn act(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(action): Path<String>,
    Json(request): Json<TargetRequest>,
) -> Answer<Reply<List<Outcome>>> {
    let (action, word) = match action.as_str() {
        "start" => (Action::Start, words::PROCESS_START),
        "stop" => (Action::Stop, words::PROCESS_STOP),
        "restart" => (Action::Restart, words::PROCESS_RESTART),
        "delete" => (Action::Delete, words::PROCESS_DELETE),
        _ => {
            let detail = "write `start`, `stop`, `restart` or `delete`";
            return Err(ApiError::not_found("unknown_action", detail));
        }
    };
    let TargetRequest { target, env } = request;
    let done = api.supervisor.act(action, &target, env).await?;
    api.audit.record(by.entry(word).with_detail(target));
    Ok(outcomes(done))
}

/// Streams values as lines of JSON.
pub(super) fn ndjson<T: Serialize + Send + 'static>(mut lines: mpsc::Receiver<T>) -> Response {
    let stream = futures_util::stream::poll_fn(move |context| {
        lines.poll_recv(context).map(|next| {
            next.map(|value| {
                let mut bytes = serde_json::to_vec(&value)?;
                bytes.push(b'\n');
                Ok::<_, serde_json::Error>(Bytes::from(bytes))
            })
        })
    });
    let mut response = Response::new(Body::from_stream(stream));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_looking_names_are_known() {
        for name in [
            "API_KEY",
            "githubToken",
            "DB_PASSWORD",
            "AWS_SECRET",
            "credentials",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in ["PATH", "PORT", "HOME"] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
