//! `/api/v1/admin/processes`: what runs, and what to do with it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::AppSpec;
use crate::ids::{AppName, PmId, Timestamp};

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
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// What the health checks of a service say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// May it get traffic?
    pub readiness: Readiness,
    /// When it was asked last.
    #[schema(value_type = Option<String>)]
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
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
    /// First start, or last start by hand.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// How it ended last time.
    pub last_exit: Option<LastExit>,
    /// Resident memory in bytes; 0 unless it runs.
    pub memory: u64,
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
    /// Pid file.
    #[schema(value_type = String)]
    pub pid_file: PathBuf,
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
#[serde(rename_all = "camelCase")]
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
}

/// `POST /api/v1/admin/processes/{action}` where action is `start`, `stop`, `restart`, `delete`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRequest {
    /// `all`, a name, a pm_id, or a namespace, looked up in PM2's order.
    pub target: String,
    /// For `start` and `restart`: variables to merge into the stored ones.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub env: Option<crate::config::spec::Env>,
}

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
}

/// A line of the answer to `GET /api/v1/admin/logs?target=…&lines=15&follow=true`, one JSON
/// object per line: first the history of each file, then what arrives.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum LogEvent {
    /// The history of one file follows.
    #[serde(rename_all = "camelCase")]
    File {
        /// Which file.
        #[schema(value_type = String)]
        path: PathBuf,
        /// Whose.
        #[schema(value_type = u32)]
        pm_id: PmId,
        /// Whose.
        #[schema(value_type = String)]
        name: AppName,
        /// Which of its streams.
        stream: Stream,
    },
    /// One line.
    #[serde(rename_all = "camelCase")]
    Line {
        /// Whose.
        #[schema(value_type = u32)]
        pm_id: PmId,
        /// Whose.
        #[schema(value_type = String)]
        name: AppName,
        /// Which of its streams.
        stream: Stream,
        /// The line without its line end, when it is UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The line without its line end in base64, when it is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    /// The reader was too slow and so many lines are not here (they are in the file).
    Missed {
        /// How many.
        lines: u64,
    },
}

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}
