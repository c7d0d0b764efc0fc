//! A [`Draft`] and this machine → an [`AppSpec`], or why this one app can't be started.

use std::path::Path;

use super::app::{self, Draft};
use super::fields::Fields;
use super::interpreter::{is_node, is_python};
use super::logs;
use super::program::{self, Found, Missing, Wanted};
use super::resolve::{self, Bases, cpus, variable};
use super::spec::{AppSpec, Env, ExecMode, Program};
use super::triggers;

const INSTANCE_VAR: &str = "NODE_APP_INSTANCE";

/// Resolves what the draft names.
///
/// # Errors
/// The key at fault, and what is missing.
pub(crate) fn finish(draft: Draft, bases: Bases<'_>, own: &Path) -> Result<AppSpec, Missing> {
    let Draft {
        name,
        namespace,
        fields,
        script,
        mut env,
        sets_home,
        log_rotate,
        service,
        ..
    } = draft;
    let wanted = Wanted {
        script: &script,
        args: fields.texts("args"),
        interpreter: fields.text("exec_interpreter"),
        interpreter_args: fields.texts("node_args"),
        cwd: fields.text("cwd").filter(|cwd| !cwd.is_empty()),
        path: variable(&env, "PATH"),
        own,
    };
    let Found { program, cwd } = program::find(wanted, bases)?;
    if program.interpreter.as_deref().is_some_and(is_python) {
        env.entry("PYTHONUNBUFFERED".to_owned())
            .or_insert_with(|| "1".to_owned());
    }
    let user = resolve::run_as(fields.text("uid"), fields.text("gid"))
        .map_err(|message| (if fields.has("uid") { "uid" } else { "gid" }, message))?;
    if let Some((_, Some(home))) = &user
        && !sets_home
    {
        env.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
    }
    let exec_mode = exec_mode(&fields, &program);
    Ok(AppSpec {
        name,
        namespace,
        version: resolve::version(&program.script),
        exec_mode,
        // A service has one fixed port, which one process can listen on.
        instances: match service {
            Some(_) => 1,
            None => instances(fields.count("instances"), cpus()),
        },
        instance_var: fields
            .owned_text("instance_var")
            .unwrap_or_else(|| INSTANCE_VAR.to_owned()),
        increment_var: fields.owned_text("increment_var"),
        autostart: fields.flag("autostart").unwrap_or(true),
        restart: app::restart(&fields),
        triggers: triggers::read(&fields, &cwd, bases),
        ready_within: app::ready_within(&fields),
        stop: app::stop(&fields),
        logs: logs::read(&fields, log_rotate, &cwd, bases, exec_mode),
        pid_file: logs::pid_file(&fields, &cwd, bases),
        run_as: user.map(|(run_as, _)| run_as),
        mcp: service.map(|service| service.spec),
        program,
        cwd,
        env: Env::from(&env),
    })
}

/// PM2's rule: cluster when asked for, or when node or bun gets `instances`.
fn exec_mode(fields: &Fields, program: &Program) -> ExecMode {
    if fields.flag("execute_command") == Some(true) {
        return ExecMode::ForkMode;
    }
    match fields.text("exec_mode") {
        Some(mode) if mode.starts_with("cluster") => ExecMode::ClusterMode,
        Some(_) => ExecMode::ForkMode,
        None if fields.has("instances") && program.interpreter.as_deref().is_some_and(is_node) => {
            ExecMode::ClusterMode
        }
        None => ExecMode::ForkMode,
    }
}

/// 0: one per CPU; negative: that many fewer; at least 1.
fn instances(given: Option<i64>, cpus: i64) -> u32 {
    let count = match given {
        None => 1,
        Some(0) => cpus,
        Some(n) if n < 0 => cpus + n,
        Some(n) => n,
    };
    u32::try_from(count.max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::instances;

    #[test]
    fn instances_are_counted_from_the_cpus() {
        for (given, count) in [
            (None, 1),
            (Some(3), 3),
            (Some(0), 4),
            (Some(-1), 3),
            (Some(-9), 1),
        ] {
            assert_eq!(instances(given, 4), count);
        }
    }
}
