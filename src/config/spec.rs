//! What an app is, complete and checked: [`AppSpec`].
//!
//! Made by the rest of this room from an ecosystem file or a command line, sent by the CLI to the
//! daemon, kept in `run.db`. Everything is resolved: paths are absolute, defaults are filled in,
//! names of users are numbers. Public fields, since any value of their types is legal; what two
//! apps may not share is checked in `check.rs`.
//!
//! Stored and sent as JSON. [`SPEC_VERSION`] goes up when an older reader could misread it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cron::Cron;
use super::interpreter::is_node;
use super::limits::ServiceLimits;
use crate::ids::{AppName, InstancePrefix, Port, ServiceType};

/// Version of the JSON form of an [`AppSpec`].
pub const SPEC_VERSION: u32 = 1;

pub use super::variables::Env;

/// One entry of an ecosystem file, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// Not unique: operations by name reach all of that name.
    pub name: AppName,
    /// PM2's group for bulk operations; `default` when not given.
    pub namespace: String,
    /// What is executed.
    pub program: Program,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// The variables that the child gets, before our own are added. Includes the CLI's environment.
    pub env: Env,
    /// As PM2 shows it. Replicas that share a port are a matter of its own.
    pub exec_mode: ExecMode,
    /// How many processes, at least 1.
    pub instances: u32,
    /// Name of the variable that tells a process which of the `instances` it is.
    pub instance_var: String,
    /// Name of a variable that counts up from process to process of the app, from the number that it
    /// has in `env`, or 0: `PORT`, so that each listens on a port of its own.
    #[serde(default)]
    pub increment_var: Option<String>,
    /// `false`: registered as `stopped`, not launched.
    pub autostart: bool,
    /// Whether and when an ended process comes back.
    pub restart: RestartPolicy,
    /// What else restarts it.
    #[serde(default)]
    pub triggers: Triggers,
    /// `wait_ready`: it is online when it says so, or after this time (`listen_timeout`).
    #[serde(default, with = "millis::option")]
    pub ready_within: Option<Duration>,
    /// How it is asked to end.
    pub stop: StopPolicy,
    /// Where its output goes.
    pub logs: LogSpec,
    /// Where its pid is written; `None` for `$MCPM_HOME/pids/NAME-ID.pid`.
    pub pid_file: Option<PathBuf>,
    /// Run as this user and group, by number; `None` for the daemon's own.
    pub run_as: Option<RunAs>,
    /// Shown by `ls`: from the nearest `package.json` above the script, else `N/A`.
    pub version: Option<String>,
    /// Present when the app is a service.
    pub mcp: Option<ServiceSpec>,
}

impl AppSpec {
    /// The variable that `increment_var` names, and its value in this process of the app. A value
    /// that is no number counts as 0, as in PM2.
    pub fn incremented(&self, instance: u32) -> Option<(&str, String)> {
        let name = self.increment_var.as_deref()?;
        let first = self.env.get(name);
        let first = first.and_then(|text| text.trim().parse().ok());
        let value: i64 = first.unwrap_or(0_i64).saturating_add(instance.into());
        Some((name, value.to_string()))
    }

    /// It gets Node's IPC channel: node and bun look for it, and so may whoever has to say or hear
    /// something.
    pub fn has_channel(&self) -> bool {
        let node = self.program.interpreter.as_deref().is_some_and(is_node);
        node || self.ready_within.is_some() || self.stop.message
    }
}

/// What `exec` gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// The script as PM2 would show it (`pm_exec_path`), absolute.
    pub script: PathBuf,
    /// Program that runs the script; `None` runs the script itself. Resolved when possible.
    pub interpreter: Option<String>,
    /// Between interpreter and script.
    pub interpreter_args: Vec<String>,
    /// After the script.
    pub args: Vec<String>,
}

/// PM2's `exec_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecMode {
    /// A process of its own.
    ForkMode,
    /// One of several that share a port.
    ClusterMode,
}

/// A user and a group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunAs {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Whether and when an ended process is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartPolicy {
    /// `false`: an exit is the end.
    pub autorestart: bool,
    /// Unstable exits in a row before a plain app is `errored`; 0 never restarts an unstable one.
    pub max_restarts: u32,
    /// A shorter run is unstable.
    #[serde(with = "millis")]
    pub min_uptime: Duration,
    /// Fixed wait before each restart; `None` restarts at once.
    #[serde(with = "millis::option")]
    pub restart_delay: Option<Duration>,
    /// First wait of a growing one (x 1.5 up to 15 s); wins over `restart_delay`.
    #[serde(with = "millis::option")]
    pub exp_backoff_restart_delay: Option<Duration>,
    /// Exit codes after which no restart follows.
    pub stop_exit_codes: Vec<i32>,
}

/// What restarts a process beside people and its own end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Triggers {
    /// `max_memory_restart`: more resident bytes than that in the process and its group.
    pub memory_max: Option<u64>,
    /// `cron_restart`: these times.
    pub cron: Option<Cron>,
    /// `watch`: changes of these files.
    pub watch: Option<WatchSpec>,
}

/// Files whose changes restart an app; `watch.rs` says which count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchSpec {
    /// Where patterns start: the app's working directory.
    pub base: PathBuf,
    /// Files and folders, absolute; never empty.
    pub paths: Vec<PathBuf>,
    /// `ignore_watch`, as written.
    pub ignore: Vec<String>,
    /// `--ext`: only files that end in a dot and one of these count; empty for all.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// `watch_delay`: how long it must be quiet before the restart.
    #[serde(with = "millis")]
    pub delay: Duration,
}

/// How a process is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopPolicy {
    /// First signal, by number; PM2's default is SIGINT.
    pub signal: i32,
    /// `kill_timeout`: time from that signal to SIGKILL.
    #[serde(with = "millis")]
    pub grace: Duration,
    /// `false`: the first signal goes to the root process only. SIGKILL goes to the group anyway.
    pub treekill: bool,
    /// `shutdown_with_message`: the message `"shutdown"` over Node's channel instead of the first
    /// signal.
    #[serde(default)]
    pub message: bool,
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogSpec {
    /// Standard output.
    pub out: LogTarget,
    /// Standard error.
    pub error: LogTarget,
    /// Both together in one more file.
    #[serde(default)]
    pub combined: Option<LogTarget>,
    /// One file for all processes of the app, without the pm_id in its name.
    pub merge: bool,
    /// `disable_logs`: not kept, and not shown to those who follow.
    #[serde(default)]
    pub disabled: bool,
    /// What is added to lines.
    #[serde(default)]
    pub format: LogFormat,
    /// When they are put aside.
    #[serde(default)]
    pub rotate: RotateSpec,
}

/// How lines are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFormat {
    /// `log_type: "json"`: each line an object.
    pub json: bool,
    /// `log_date_format`: the time of each line, in dayjs's tokens.
    pub stamp: Option<String>,
}

/// When a log file is put aside and a new one begun. What is `None` the daemon's settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RotateSpec {
    /// Above so many bytes; 0 for no limit.
    pub max_size: Option<u64>,
    /// When it is older; zero for no limit.
    #[serde(with = "millis::option")]
    pub max_age: Option<Duration>,
    /// So many that were put aside are kept; 0 keeps all.
    pub retain: Option<u32>,
    /// Those that were put aside are compressed.
    pub compress: Option<bool>,
}

impl RotateSpec {
    /// Nothing is ever put aside.
    pub const OFF: Self = Self {
        max_size: Some(0),
        max_age: Some(Duration::ZERO),
        retain: None,
        compress: None,
    };
}

/// One log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogTarget {
    /// `$MCPM_HOME/logs/NAME-out.log` and its like.
    Default,
    /// Absolute path as written; the pm_id is put in when not merged.
    File(PathBuf),
    /// `/dev/null`, `NULL` or `disable_logs`.
    Nowhere,
}

/// The `mcp` block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Service type in URLs.
    pub service: ServiceType,
    /// Name for people; the type when not given.
    pub display_name: String,
    /// For people.
    pub description: Option<String>,
    /// For people.
    pub category: Option<String>,
    /// For people.
    pub icon_url: Option<String>,
    /// The fixed port the service listens on.
    pub port: Port,
    /// Where an empty rest of the instance URL goes; starts with `/`.
    pub mcp_path: String,
    /// What the router knows of the traffic.
    pub protocol: Protocol,
    /// Starts with `/`; holds `{rest}` and perhaps `{instance_id}` (the public `ins_…`).
    pub upstream_path: String,
    /// First part of instance ids.
    pub prefix: InstancePrefix,
    /// How to see whether it is alive.
    pub health: HealthSpec,
    /// How long it may be not ready after a start.
    #[serde(with = "millis")]
    pub start_timeout: Duration,
    /// What a user must give, and where it goes.
    pub auth: AuthSpec,
    /// The caller must also show a token of the owner.
    pub require_auth: bool,
    /// Per instance.
    pub rate_limit: Option<RateLimit>,
    /// Of each instance and of the service, where they differ from the daemon's.
    #[serde(default)]
    pub limits: ServiceLimits,
    /// Validation and bridge calls may reach private addresses.
    pub allow_private: bool,
}

/// What the router knows of a service's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// MCP; an empty rest goes to `mcp_path`.
    Mcp,
    /// A plain reverse proxy with injection; an empty rest goes to `/`.
    Http,
}

/// How to see whether a service is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthSpec {
    /// What readiness after a start means.
    pub readiness: Probe,
    /// What is asked from then on, every `interval`.
    pub liveness: Probe,
    /// Between two probes.
    #[serde(with = "millis")]
    pub interval: Duration,
    /// For one probe.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// Failures in a row that make a restart, at least 1.
    pub unhealthy_after: u32,
    /// Statuses of an HTTP probe that are alive; empty: any below 500.
    pub expect: Vec<u16>,
}

/// One question to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp,
    /// `GET` of this path is answered.
    Http(String),
    /// Never asked: running is alive.
    None,
}

/// What a user must give, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthSpec {
    /// The kind.
    pub kind: AuthKind,
    /// What the user is asked for.
    pub fields: Vec<AuthField>,
    /// Where it goes in a request to the service.
    pub inject: InjectSpec,
    /// How to see whether it is right.
    pub validate: Option<ValidateSpec>,
    /// Where consent is given. `None` for every other kind, and for an `oauth2` whose block says too
    /// little: nobody gets an instance of that.
    #[serde(default, deserialize_with = "super::oauth::stored")]
    pub oauth: Option<OauthSpec>,
}

/// The field of an `oauth2` service that its provider fills, beside those that the user does.
pub const ACCESS_TOKEN: &str = "access_token";

/// Who gives out the tokens of an `oauth2` service, and as whom we ask. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OauthSpec {
    /// Where a user's browser is sent.
    pub authorization_url: String,
    /// Where codes and refresh tokens are exchanged.
    pub token_url: String,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_url: Option<String>,
    /// Who we are there.
    pub client_id: String,
    /// Where our secret is; `None`: a public client.
    pub client_secret: Option<ClientSecret>,
    /// How it is shown.
    pub client_auth: ClientAuth,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// What the provider must say as `iss` (RFC 9207).
    pub issuer: Option<String>,
    /// More parameters of the authorization address.
    pub authorize_params: Vec<(String, String)>,
}

/// Where a client's secret is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientSecret {
    /// In this variable of the daemon.
    Env(String),
    /// In this file.
    File(PathBuf),
}

/// How a client shows its secret (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientAuth {
    /// `Authorization: Basic`.
    #[default]
    Basic,
    /// In the body.
    Post,
}

/// `auth.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// Nothing is asked for.
    None,
    /// One key.
    ApiKey,
    /// One token, sent as `Authorization: Bearer`.
    BearerToken,
    /// User and password.
    BasicAuth,
    /// OAuth 2 tokens.
    Oauth2,
}

/// One thing the user is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthField {
    /// Name in templates (`{name}`) and in `additionalCredentials`.
    pub name: String,
    /// `true` for `password` and other hidden input types.
    pub secret: bool,
    /// Must be given.
    pub required: bool,
    /// For people.
    pub description: Option<String>,
    /// Taken when it is not given.
    pub default: Option<String>,
}

/// Where credentials go. Values are templates: `{field}` stands for the field's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InjectSpec {
    /// Header name and value template.
    pub headers: Vec<(String, String)>,
    /// Query parameter name and value template.
    pub query: Vec<(String, String)>,
    /// Templates of user and password of `Authorization: Basic`.
    pub basic: Option<(String, String)>,
}

/// How to ask the external service whether a credential is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidateSpec {
    /// Template of an `https` or `http` address.
    pub url: String,
    /// Method, `GET` when not given.
    pub method: String,
    /// How the credential is sent: the block's own headers, else all that is injected.
    pub send: InjectSpec,
    /// Statuses that say "right"; 200 when not given.
    pub expect: Vec<u16>,
    /// What such an answer must say as well.
    #[serde(default)]
    pub json: Option<JsonCheck>,
    /// So long a good answer counts; zero: never.
    #[serde(with = "millis", default = "ValidateSpec::default_cache")]
    pub cache: Duration,
}

impl ValidateSpec {
    /// Long enough for whoever tries again, short enough that a key which was withdrawn is of no use.
    pub const CACHE: Duration = Duration::from_secs(5 * 60);

    fn default_cache() -> Duration {
        Self::CACHE
    }
}

/// What a JSON answer must say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JsonCheck {
    /// Where: a JSON Pointer (RFC 6901).
    pub at: String,
    /// What must stand there; `None`: anything but `null` and `false`.
    pub is: Option<serde_json::Value>,
}

/// Token bucket per instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Refill.
    pub per_minute: u32,
    /// Size of the bucket, at least 1.
    pub burst: u32,
}

/// Durations as whole milliseconds.
mod millis {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }

    /// The same for a duration that may be absent.
    pub(super) mod option {
        use super::super::{Deserialize, Duration};
        use serde::{Deserializer, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            d: &Option<Duration>,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            match d {
                Some(d) => super::serialize(d, s),
                None => s.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            d: D,
        ) -> Result<Option<Duration>, D::Error> {
            Option::<u64>::deserialize(d).map(|ms| ms.map(Duration::from_millis))
        }
    }
}
