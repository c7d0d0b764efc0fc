//! An [`AppSpec`] as PM2's `pm2_env` fields, and back (pure): the form of `jlist` and `dump.pm2`.
//!
//! Field names and meanings are PM2's. PM2 ignores what it does not know, so our own
//! spec travels along under [`OWN_KEY`], without the variables, which PM2's `env` holds already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::AppSpec;
use super::cron::Cron;
use super::spec::{
    Env, ExecMode, LogFormat, LogSpec, LogTarget, Program, RestartPolicy, RotateSpec, RunAs,
    StopPolicy, Triggers, WatchSpec,
};
use crate::ids::{AppName, IdError};

/// Under this name `dump.pm2` keeps what PM2 has no fields for.
pub const OWN_KEY: &str = "mcpm_spec";

/// The fields that follow from the spec alone. Variables come first and flattened, as in PM2, but
/// none of them takes the place of a field.
pub fn fields(spec: &AppSpec) -> Map<String, Value> {
    let mut fields: Map<String, Value> = spec
        .env
        .iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    set("name", json!(spec.name));
    set("namespace", json!(spec.namespace));
    set("version", json!(spec.version.as_deref().unwrap_or("N/A")));
    set("pm_exec_path", json!(spec.program.script));
    set("pm_cwd", json!(spec.cwd));
    set("exec_interpreter", json!(interpreter(spec)));
    set("node_args", json!(spec.program.interpreter_args));
    set("exec_mode", json!(spec.exec_mode));
    set("instances", json!(spec.instances));
    set("instance_var", json!(spec.instance_var));
    if let Some(name) = &spec.increment_var {
        set("increment_var", json!(name));
    }
    set("autorestart", json!(spec.restart.autorestart));
    set("autostart", json!(spec.autostart));
    set("max_restarts", json!(spec.restart.max_restarts));
    set("min_uptime", millis(spec.restart.min_uptime));
    set("kill_timeout", millis(spec.stop.grace));
    set("treekill", json!(spec.stop.treekill));
    set("merge_logs", json!(spec.logs.merge));
    if let Some(format) = &spec.logs.format.stamp {
        set("log_date_format", json!(format));
    }
    if spec.logs.format.json {
        set("log_type", json!("json"));
    }
    if spec.logs.disabled {
        set("disable_logs", json!(true));
    }
    set("watch", watched(spec));
    set("env", json!(spec.env));
    set("vizion", json!(false));
    set("pmx", json!(false));
    set("automation", json!(false));
    if !spec.program.args.is_empty() {
        set("args", json!(spec.program.args));
    }
    if let Some(delay) = spec.restart.restart_delay {
        set("restart_delay", millis(delay));
    }
    if let Some(delay) = spec.restart.exp_backoff_restart_delay {
        set("exp_backoff_restart_delay", millis(delay));
    }
    if !spec.restart.stop_exit_codes.is_empty() {
        set("stop_exit_codes", json!(spec.restart.stop_exit_codes));
    }
    if let Some(within) = spec.ready_within {
        set("wait_ready", json!(true));
        set("listen_timeout", millis(within));
    }
    if spec.stop.message {
        set("shutdown_with_message", json!(true));
    }
    if let Some(limit) = spec.triggers.memory_max {
        set("max_memory_restart", json!(limit));
    }
    if let Some(cron) = &spec.triggers.cron {
        set("cron_restart", json!(cron));
    }
    if let Some(watch) = &spec.triggers.watch {
        set("ignore_watch", json!(watch.ignore));
        set("watch_delay", millis(watch.delay));
    }
    if let Some(user) = spec.run_as {
        set("uid", json!(user.uid));
        set("gid", json!(user.gid));
    }
    fields
}

/// `node` for one that the app's `PATH` leads to, else its path.
fn interpreter(spec: &AppSpec) -> &str {
    let Some(path) = spec.program.interpreter.as_deref() else {
        return "none";
    };
    let search = spec.env.get("PATH").unwrap_or("");
    match path.rsplit_once('/') {
        Some((folder, name)) if search.split(':').any(|known| known == folder) => name,
        _ => path,
    }
}

/// `true` for the working directory, else the paths, from there where they lie below it.
fn watched(spec: &AppSpec) -> Value {
    match &spec.triggers.watch {
        None => json!(false),
        Some(watch) if watch.paths == [watch.base.clone()] => json!(true),
        Some(watch) => {
            let below = |path: &PathBuf| json!(path.strip_prefix(&watch.base).unwrap_or(path));
            watch.paths.iter().map(below).collect()
        }
    }
}

fn millis(time: Duration) -> Value {
    json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Adds what PM2 has no fields for.
pub fn add_own(fields: &mut Map<String, Value>, spec: &AppSpec) {
    let bare = AppSpec {
        env: Env::default(),
        ..spec.clone()
    };
    fields.insert(OWN_KEY.to_owned(), json!(bare));
}

/// Why an entry of a dump is not an app.
#[derive(Debug, thiserror::Error)]
pub enum FieldsError {
    /// A field that must be there is not, or is of another type.
    #[error("`{0}` is missing or not of the type it must have")]
    Missing(&'static str),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] IdError),
    /// Our own spec is not of this release's form.
    #[error("`{OWN_KEY}` is not of the form it must have")]
    Own(#[source] serde_json::Error),
}

/// The spec behind the fields, ours or PM2's own.
///
/// # Errors
/// When a field that must be there is not.
pub fn spec(fields: &Map<String, Value>) -> Result<AppSpec, FieldsError> {
    let env = env(fields);
    if let Some(own) = fields.get(OWN_KEY) {
        let spec: AppSpec = serde_json::from_value(own.clone()).map_err(FieldsError::Own)?;
        return Ok(AppSpec { env, ..spec });
    }
    let text = |key: &'static str| {
        fields
            .get(key)
            .and_then(Value::as_str)
            .ok_or(FieldsError::Missing(key))
    };
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    let flag = |key: &str, default| fields.get(key).and_then(Value::as_bool).unwrap_or(default);
    let time = |key: &str| number(key).map(Duration::from_millis);
    let small = |key: &str| number(key).and_then(|n| u32::try_from(n).ok());
    let target = |key: &str| match fields.get(key).and_then(Value::as_str) {
        Some("/dev/null" | "NULL") => LogTarget::Nowhere,
        Some(path) => LogTarget::File(PathBuf::from(path)),
        None => LogTarget::Default,
    };
    let cwd = PathBuf::from(text("pm_cwd")?);
    let interpreter = text("exec_interpreter").ok().filter(|&name| name != "none");
    let uid = small("uid");
    Ok(AppSpec {
        name: AppName::parse(text("name")?)?,
        namespace: text("namespace").unwrap_or("default").to_owned(),
        program: Program {
            script: PathBuf::from(text("pm_exec_path")?),
            interpreter: interpreter.map(str::to_owned),
            interpreter_args: texts(fields.get("node_args")),
            args: texts(fields.get("args")),
        },
        triggers: triggers(fields, &cwd),
        ready_within: flag("wait_ready", false)
            .then(|| time("listen_timeout").unwrap_or(Duration::from_secs(3))),
        cwd,
        env,
        exec_mode: match text("exec_mode") {
            Ok("cluster_mode") => ExecMode::ClusterMode,
            _ => ExecMode::ForkMode,
        },
        instances: small("instances").unwrap_or(1).max(1),
        instance_var: text("instance_var")
            .unwrap_or("NODE_APP_INSTANCE")
            .to_owned(),
        // PM2 keeps each process's own value in its `env`.
        increment_var: None,
        autostart: flag("autostart", true),
        restart: RestartPolicy {
            autorestart: flag("autorestart", true),
            max_restarts: small("max_restarts").unwrap_or(16),
            min_uptime: time("min_uptime").unwrap_or(Duration::from_secs(1)),
            restart_delay: time("restart_delay"),
            exp_backoff_restart_delay: time("exp_backoff_restart_delay"),
            stop_exit_codes: codes(fields.get("stop_exit_codes")),
        },
        stop: StopPolicy {
            signal: rustix::process::Signal::INT.as_raw(),
            grace: time("kill_timeout").unwrap_or(Duration::from_millis(1600)),
            treekill: flag("treekill", true),
            message: flag("shutdown_with_message", false),
        },
        // A path in a dump has its number already.
        logs: LogSpec {
            out: target("pm_out_log_path"),
            error: target("pm_err_log_path"),
            combined: fields
                .contains_key("pm_log_path")
                .then(|| target("pm_log_path"))
                .filter(|target| *target != LogTarget::Nowhere),
            merge: true,
            disabled: flag("disable_logs", false),
            format: LogFormat {
                json: text("log_type").is_ok_and(|kind| kind == "json"),
                stamp: text("log_date_format").ok().map(str::to_owned),
            },
            rotate: RotateSpec::default(),
        },
        pid_file: None,
        run_as: uid.map(|uid| RunAs {
            uid,
            gid: small("gid").unwrap_or(uid),
        }),
        version: text("version")
            .ok()
            .filter(|&text| text != "N/A")
            .map(str::to_owned),
        mcp: None,
    })
}

/// A pattern that PM2 took and we don't is left out: the app is more than its clock.
fn triggers(fields: &Map<String, Value>, cwd: &Path) -> Triggers {
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    let cron = fields.get("cron_restart").and_then(Value::as_str);
    let paths = match fields.get("watch") {
        Some(Value::Bool(true)) => Some(Vec::new()),
        list @ Some(Value::Array(_) | Value::String(_)) => Some(texts(list)),
        _ => None,
    };
    let watch = paths.map(|paths| {
        let mut paths: Vec<PathBuf> = paths.iter().map(|path| cwd.join(path)).collect();
        if paths.is_empty() {
            paths.push(cwd.to_owned());
        }
        WatchSpec {
            base: cwd.to_owned(),
            paths,
            ignore: texts(fields.get("ignore_watch")),
            extensions: Vec::new(),
            delay: Duration::from_millis(number("watch_delay").unwrap_or(0)),
        }
    });
    Triggers {
        memory_max: number("max_memory_restart").filter(|&limit| limit > 0),
        cron: cron.and_then(|text| Cron::parse(text).ok()),
        watch,
    }
}

fn env(fields: &Map<String, Value>) -> Env {
    let Some(Value::Object(env)) = fields.get("env") else {
        return Env::default();
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let texts: BTreeMap<String, String> = env
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    Env::from(&texts)
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}

fn codes(value: Option<&Value>) -> Vec<i32> {
    let code = |value: &Value| value.as_i64().and_then(|code| i32::try_from(code).ok());
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(code).collect(),
        Some(one) => code(one).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_pm2_wrote_is_read() {
        let entry = json!({
            "name": "web", "pm_exec_path": "/srv/app.js", "pm_cwd": "/srv", "args": ["a"],
            "exec_interpreter": "node", "node_args": [], "exec_mode": "fork_mode",
            "env": {"PORT": 80, "A": "b"}, "kill_timeout": 3000, "stop_exit_codes": [0],
            "pm_out_log_path": "/l/web-out.log", "merge_logs": true, "status": "online",
            "watch": ["src"], "cron_restart": "0 4 * * *", "max_memory_restart": 1000,
        });
        let spec = spec(entry.as_object().unwrap()).unwrap();
        assert_eq!(spec.name.as_str(), "web");
        assert_eq!(spec.program.interpreter.as_deref(), Some("node"));
        assert_eq!(spec.env.get("PORT"), Some("80"));
        assert_eq!(spec.stop.grace, Duration::from_secs(3));
        assert_eq!(spec.restart.stop_exit_codes, [0]);
        assert_eq!(spec.logs.out, LogTarget::File("/l/web-out.log".into()));
        assert_eq!(spec.triggers.memory_max, Some(1000));
        assert_eq!(spec.triggers.cron.as_ref().unwrap().as_str(), "0 4 * * *");
        assert_eq!(
            spec.triggers.watch.as_ref().unwrap().paths,
            [Path::new("/srv/src")]
        );
        // And once more through our own form.
        let mut own = fields(&spec);
        add_own(&mut own, &spec);
        assert_eq!(super::spec(&own).unwrap(), spec);
    }

    #[test]
    fn an_entry_without_a_script_is_refused() {
        let entry = json!({"name": "web", "pm_cwd": "/"});
        let error = spec(entry.as_object().unwrap()).unwrap_err();
        assert!(error.to_string().contains("pm_exec_path"), "{error}");
    }

    #[test]
    fn no_variable_takes_the_place_of_a_field() {
        let entry = json!({"name": "web", "pm_exec_path": "/a", "pm_cwd": "/",
                           "env": {"name": "x", "KEEP": "y"}});
        let fields = fields(&spec(entry.as_object().unwrap()).unwrap());
        assert_eq!(fields["name"], "web");
        assert_eq!(fields["KEEP"], "y");
    }
}
