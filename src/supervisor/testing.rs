//! Specs, and a clock that stands still, for this room's tests.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::machine::Policy;
use crate::config::AppSpec;
use crate::config::spec::{
    Env, ExecMode, LogFormat, LogSpec, LogTarget, Program, RestartPolicy, RotateSpec, StopPolicy,
    Triggers,
};
use crate::ids::AppName;

/// A plain app that sleeps.
pub(crate) fn spec(name: &str) -> AppSpec {
    AppSpec {
        name: AppName::parse(name).expect("a good name"),
        namespace: "default".into(),
        program: Program {
            script: PathBuf::from("/bin/sleep"),
            interpreter: None,
            interpreter_args: Vec::new(),
            args: vec!["1000".into()],
        },
        cwd: PathBuf::from("/"),
        env: Env::default(),
        exec_mode: ExecMode::ForkMode,
        instances: 1,
        instance_var: "NODE_APP_INSTANCE".into(),
        increment_var: None,
        autostart: true,
        restart: RestartPolicy {
            autorestart: true,
            max_restarts: 16,
            min_uptime: Duration::from_secs(1),
            restart_delay: None,
            exp_backoff_restart_delay: None,
            stop_exit_codes: Vec::new(),
        },
        triggers: Triggers::default(),
        ready_within: None,
        stop: StopPolicy {
            signal: 2,
            grace: Duration::from_millis(1600),
            treekill: true,
            message: false,
        },
        logs: LogSpec {
            out: LogTarget::Default,
            error: LogTarget::Default,
            combined: None,
            merge: true,
            disabled: false,
            format: LogFormat::default(),
            rotate: RotateSpec::default(),
        },
        pid_file: None,
        run_as: None,
        version: None,
        mcp: None,
    }
}

/// What the machine of such an app goes by.
pub(super) fn policy(spec: &AppSpec) -> Policy<'_> {
    Policy {
        restart: &spec.restart,
        stop: &spec.stop,
        service: false,
        ready_within: spec.ready_within,
        unshared: None,
    }
}

/// A moment of a clock that does not move, for properties: they run outside of any runtime.
pub(super) fn now() -> Instant {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without descriptors");
    runtime.block_on(async { Instant::now() })
}
