//! `jlist`: processes as JSON in PM2's shape, for exporters, dashboards and deploy scripts. Pure.
//!
//! Holds the fields that such programs read, under PM2's names. What differs on purpose: a death by
//! signal is `128 + signal`, as in shells, where PM2 says 0; and no variable of an app can take the
//! place of a field of ours. `mcpm` is ours.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::api::processes::{LastExit, Process};
use crate::config::spec::ExecMode;
use crate::ids::Timestamp;

/// The list, in the order given.
pub(crate) fn render(processes: &[Process], home: &str) -> Value {
    let mut ordered: Vec<&Process> = processes.iter().collect();
    ordered.sort_by_key(|process| process.pm_id);
    ordered
        .into_iter()
        .map(|process| entry(process, home))
        .collect()
}

fn entry(process: &Process, home: &str) -> Value {
    let mut entry = json!({
        "pid": process.pid,
        "name": process.name,
        "pm2_env": pm2_env(process, home),
        "pm_id": process.pm_id,
        "monit": {"memory": process.memory, "cpu": one_decimal(process.cpu)},
    });
    if let (Some(mcp), Some(health)) = (&process.spec.mcp, &process.health) {
        entry["mcpm"] = json!({"service": mcp.service, "port": mcp.port, "health": health});
    }
    if let Some(port) = process.unshared {
        entry["mcpm"] = json!({"unshared": port, "reason": process.reason});
    }
    entry
}

fn pm2_env(process: &Process, home: &str) -> Value {
    let spec = &process.spec;
    let mut fields: Map<String, Value> = spec
        .env
        .0
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    fields.insert("PM2_HOME".to_owned(), json!(home));
    fields.insert(spec.instance_var.clone(), json!(process.instance));
    let mut env = spec.env.clone();
    if let Some((name, value)) = spec.incremented(process.instance) {
        fields.insert(name.to_owned(), json!(value));
        env.0.insert(name.to_owned(), value);
    }
    let ours = json!({
        "name": process.name,
        "namespace": spec.namespace,
        "version": spec.version.as_deref().unwrap_or("N/A"),
        "status": process.status.as_str(),
        "pm_id": process.pm_id,
        "pm_exec_path": spec.program.script,
        "pm_cwd": spec.cwd,
        "exec_interpreter": spec.program.interpreter.as_deref().unwrap_or("none"),
        "node_args": spec.program.interpreter_args,
        "exec_mode": match spec.exec_mode {
            ExecMode::ForkMode => "fork_mode",
            ExecMode::ClusterMode => "cluster_mode",
        },
        "instances": spec.instances,
        "instance_var": spec.instance_var,
        "pm_out_log_path": log_path(process.out_log.as_deref()),
        "pm_err_log_path": log_path(process.error_log.as_deref()),
        "pm_pid_path": process.pid_file,
        "pm_uptime": process.started_at.map(Timestamp::as_millis),
        "created_at": process.created_at.as_millis(),
        "restart_time": process.restarts,
        "unstable_restarts": process.unstable_restarts,
        "autorestart": spec.restart.autorestart,
        "autostart": spec.autostart,
        "max_restarts": spec.restart.max_restarts,
        "min_uptime": millis(spec.restart.min_uptime),
        "kill_timeout": millis(spec.stop.grace),
        "treekill": spec.stop.treekill,
        "merge_logs": spec.logs.merge,
        "watch": false,
        "username": process.user,
        "env": env,
        "vizion": false,
        "pmx": false,
        "automation": false,
        "pmx_module": false,
        "axm_actions": [],
        "axm_monitor": {},
        "axm_options": {},
        "axm_dynamic": {},
    });
    if let Value::Object(ours) = ours {
        fields.extend(ours);
    }
    fields.extend(only_when_set(process));
    Value::Object(fields)
}

/// Fields that PM2 has only when there is something to say.
fn only_when_set(process: &Process) -> Map<String, Value> {
    let spec = &process.spec;
    let mut fields = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let restart = &spec.restart;
    set(
        "increment_var",
        spec.increment_var.as_ref().map(|name| json!(name)),
    );
    set(
        "args",
        (!spec.program.args.is_empty()).then(|| json!(spec.program.args)),
    );
    set(
        "pm_log_path",
        process.combined_log.as_ref().map(|path| json!(path)),
    );
    set(
        "log_date_format",
        spec.logs.format.stamp.as_ref().map(|format| json!(format)),
    );
    set("log_type", spec.logs.format.json.then(|| json!("json")));
    set("disable_logs", spec.logs.disabled.then(|| json!(true)));
    set("restart_delay", restart.restart_delay.map(millis));
    set(
        "exp_backoff_restart_delay",
        restart.exp_backoff_restart_delay.map(millis),
    );
    let codes = &restart.stop_exit_codes;
    set("stop_exit_codes", (!codes.is_empty()).then(|| json!(codes)));
    set("uid", spec.run_as.map(|user| json!(user.uid)));
    set("gid", spec.run_as.map(|user| json!(user.gid)));
    set(
        "exit_code",
        process
            .last_exit
            .as_ref()
            .and_then(exit_code)
            .map(Value::from),
    );
    fields
}

fn log_path(path: Option<&std::path::Path>) -> &std::path::Path {
    path.unwrap_or(std::path::Path::new("/dev/null"))
}

fn millis(time: std::time::Duration) -> Value {
    json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn exit_code(exit: &LastExit) -> Option<i32> {
    let signal = || {
        let name = exit.signal.as_deref()?;
        Some(128 + nix::sys::signal::Signal::from_str(name).ok()? as i32)
    };
    exit.code.or_else(signal)
}

fn one_decimal(share: f32) -> f64 {
    (f64::from(share) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::processes::{Readiness, Status};
    use crate::cli::samples::{process, service};

    #[test]
    fn every_field_that_scripts_read_is_there() {
        let list = render(&[process(0, "web")], "/h");
        for path in [
            "/0/pid",
            "/0/name",
            "/0/pm_id",
            "/0/monit/memory",
            "/0/monit/cpu",
            "/0/pm2_env/status",
            "/0/pm2_env/restart_time",
            "/0/pm2_env/unstable_restarts",
            "/0/pm2_env/pm_uptime",
            "/0/pm2_env/created_at",
            "/0/pm2_env/exec_mode",
            "/0/pm2_env/pm_exec_path",
            "/0/pm2_env/pm_cwd",
            "/0/pm2_env/pm_out_log_path",
            "/0/pm2_env/pm_err_log_path",
            "/0/pm2_env/pm_pid_path",
            "/0/pm2_env/exec_interpreter",
            "/0/pm2_env/node_args",
            "/0/pm2_env/args",
            "/0/pm2_env/namespace",
            "/0/pm2_env/version",
            "/0/pm2_env/instances",
            "/0/pm2_env/NODE_APP_INSTANCE",
            "/0/pm2_env/watch",
            "/0/pm2_env/env/PORT",
            "/0/pm2_env/PORT",
            "/0/pm2_env/username",
            "/0/pm2_env/axm_monitor",
        ] {
            assert!(list.pointer(path).is_some_and(|v| !v.is_null()), "{path}");
        }
        assert_eq!(list[0]["pm2_env"]["exec_mode"], "fork_mode");
        assert_eq!(list[0]["pm2_env"]["version"], "N/A");
        assert!(list[0].get("mcpm").is_none());
    }

    #[test]
    fn times_are_milliseconds() {
        let list = render(&[process(0, "web")], "/h");
        assert_eq!(list[0]["pm2_env"]["pm_uptime"], 1_795_392_000_000_i64);
    }

    #[test]
    fn a_variable_cannot_take_the_place_of_a_field() {
        let mut web = process(0, "web");
        web.spec
            .env
            .0
            .insert("status".into(), "fine, thanks".into());
        web.status = Status::Errored;
        let list = render(&[web], "/h");
        assert_eq!(list[0]["pm2_env"]["status"], "errored");
        assert_eq!(list[0]["pm2_env"]["env"]["status"], "fine, thanks");
    }

    #[test]
    fn a_death_by_signal_is_no_success() {
        let exit = |code, signal: Option<&str>| {
            let signal = signal.map(str::to_owned);
            exit_code(&LastExit {
                code,
                signal,
                at: Timestamp::default(),
                why: None,
            })
        };
        assert_eq!(exit(Some(3), None), Some(3));
        assert_eq!(exit(None, Some("SIGKILL")), Some(137));
        assert_eq!(exit(None, None), None);
    }

    #[test]
    fn services_tell_their_port() {
        let list = render(&[service(0, "demo", 49160, Readiness::Ready)], "/h");
        assert_eq!(list[0]["mcpm"]["port"], 49160);
        assert_eq!(list[0]["mcpm"]["health"]["readiness"], "ready");
    }
}
