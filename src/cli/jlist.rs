//! `jlist`: processes as JSON in PM2's shape, for exporters, dashboards and deploy scripts. Pure.
//!
//! Holds the fields that such programs read, under PM2's names. What differs on purpose: a death by
//! signal is `128 + signal`, as in shells, where PM2 says 0; and no variable of an app can take the
//! place of a field of ours. `mcpm` is ours.

use std::borrow::Cow;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::api::processes::{LastExit, Process};
use crate::config::pm2_env;

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
    let mut spec = Cow::Borrowed(&process.spec);
    if let Some((name, value)) = process.spec.incremented(process.instance) {
        spec.to_mut().env.set(name, &value);
    }
    let mut fields = pm2_env::fields(&spec);
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    set("PM2_HOME", json!(home));
    set(&spec.instance_var, json!(process.instance));
    set("status", json!(process.status.as_str()));
    set("pm_id", json!(process.pm_id));
    set(
        "pm_out_log_path",
        json!(log_path(process.out_log.as_deref())),
    );
    set(
        "pm_err_log_path",
        json!(log_path(process.error_log.as_deref())),
    );
    if let Some(path) = &process.combined_log {
        set("pm_log_path", json!(path));
    }
    set("pm_pid_path", json!(process.pid_file));
    // Never started: PM2 has a number there, too.
    let started_at = process.started_at.unwrap_or(process.created_at);
    set("pm_uptime", json!(started_at.as_millis()));
    set("created_at", json!(process.created_at.as_millis()));
    set("restart_time", json!(process.restarts));
    set("unstable_restarts", json!(process.unstable_restarts));
    set("username", json!(process.user));
    set("unique_id", json!(process.unique_id));
    if let Some(code) = process.last_exit.as_ref().and_then(exit_code) {
        set("exit_code", json!(code));
    }
    set("pmx_module", json!(false));
    set("axm_actions", json!([]));
    set("axm_monitor", json!(process.metrics));
    for name in ["axm_options", "axm_dynamic"] {
        set(name, json!({}));
    }
    Value::Object(fields)
}

fn log_path(path: Option<&std::path::Path>) -> &std::path::Path {
    path.unwrap_or(std::path::Path::new("/dev/null"))
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
    use crate::ids::Timestamp;

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
        web.spec.env.set("status", "fine, thanks");
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
