//! `mcpm restart web --kill-timeout 3000`: options over what a process is made from.
//!
//! The options are read as those of a new app with the same script would be, and each brings the
//! part of the spec that it speaks of (`PARTS`); everything else stays.

use std::path::Path;

use super::command_line::{CommandLineApp, attributes, from_command_line};
use super::error::ConfigError;
use super::load::{Loaded, Shell};
use super::spec::{AppSpec, WatchSpec};

type Part = fn(&mut AppSpec, &AppSpec);

/// Which part of a spec an attribute decides. `instances` is `scale`'s, and `autostart` would mean
/// nothing.
const PARTS: &[(&str, Part)] = &[
    ("name", |to, from| to.name.clone_from(&from.name)),
    ("namespace", |to, from| {
        to.namespace.clone_from(&from.namespace)
    }),
    ("exec_interpreter", |to, from| {
        to.program.interpreter.clone_from(&from.program.interpreter);
        to.exec_mode = from.exec_mode;
    }),
    ("node_args", |to, from| {
        to.program
            .interpreter_args
            .clone_from(&from.program.interpreter_args);
    }),
    ("args", |to, from| {
        to.program.args.clone_from(&from.program.args)
    }),
    ("cwd", |to, from| to.cwd.clone_from(&from.cwd)),
    ("execute_command", |to, from| to.exec_mode = from.exec_mode),
    ("port", |to, from| {
        if let Some(port) = from.env.get("PORT") {
            to.env.set("PORT", port);
        }
    }),
    ("out_file", |to, from| to.logs.out = from.logs.out.clone()),
    ("error_file", |to, from| {
        to.logs.error = from.logs.error.clone()
    }),
    ("log_file", |to, from| {
        to.logs.combined = from.logs.combined.clone()
    }),
    ("merge_logs", |to, from| to.logs.merge = from.logs.merge),
    ("disable_logs", |to, from| {
        to.logs.disabled = from.logs.disabled;
        to.logs.out = from.logs.out.clone();
        to.logs.error = from.logs.error.clone();
        to.logs.combined = from.logs.combined.clone();
    }),
    ("log_type", |to, from| {
        to.logs.format.json = from.logs.format.json
    }),
    ("log_date_format", |to, from| {
        to.logs.format.stamp = from.logs.format.stamp.clone()
    }),
    ("time", |to, from| {
        to.logs.format.stamp = from.logs.format.stamp.clone()
    }),
    ("pid_file", |to, from| {
        to.pid_file.clone_from(&from.pid_file)
    }),
    ("autorestart", |to, from| {
        to.restart.autorestart = from.restart.autorestart
    }),
    ("max_restarts", |to, from| {
        to.restart.max_restarts = from.restart.max_restarts
    }),
    ("min_uptime", |to, from| {
        to.restart.min_uptime = from.restart.min_uptime
    }),
    ("restart_delay", |to, from| {
        to.restart.restart_delay = from.restart.restart_delay
    }),
    ("exp_backoff_restart_delay", |to, from| {
        to.restart.exp_backoff_restart_delay = from.restart.exp_backoff_restart_delay;
    }),
    ("stop_exit_codes", |to, from| {
        to.restart
            .stop_exit_codes
            .clone_from(&from.restart.stop_exit_codes);
    }),
    ("kill_timeout", |to, from| to.stop.grace = from.stop.grace),
    ("kill_signal", |to, from| to.stop.signal = from.stop.signal),
    ("treekill", |to, from| to.stop.treekill = from.stop.treekill),
    ("shutdown_with_message", |to, from| {
        to.stop.message = from.stop.message
    }),
    ("wait_ready", |to, from| to.ready_within = from.ready_within),
    ("listen_timeout", |to, from| {
        if to.ready_within.is_some() {
            to.ready_within = from.ready_within;
        }
    }),
    ("max_memory_restart", |to, from| {
        to.triggers.memory_max = from.triggers.memory_max
    }),
    ("cron_restart", |to, from| {
        to.triggers.cron.clone_from(&from.triggers.cron)
    }),
    ("watch", |to, from| {
        to.triggers.watch.clone_from(&from.triggers.watch)
    }),
    ("ignore_watch", |to, from| {
        watched(to, from, |to, from| to.ignore.clone_from(&from.ignore));
    }),
    ("watch_delay", |to, from| {
        watched(to, from, |to, from| to.delay = from.delay)
    }),
    ("ext", |to, from| {
        watched(to, from, |to, from| {
            to.extensions.clone_from(&from.extensions)
        });
    }),
    ("uid", run_as),
    ("gid", run_as),
];

/// Where both watch.
fn watched(to: &mut AppSpec, from: &AppSpec, part: impl Fn(&mut WatchSpec, &WatchSpec)) {
    if let (Some(to), Some(from)) = (&mut to.triggers.watch, &from.triggers.watch) {
        part(to, from);
    }
}

fn run_as(to: &mut AppSpec, from: &AppSpec) {
    to.run_as = from.run_as;
    if let Some(home) = from.env.get("HOME") {
        to.env.set("HOME", home);
    }
}

/// The spec with these options over it, as the one app or the one failure of a [`Loaded`].
///
/// `--watch` alone turns watching off where it is on, as in PM2.
///
/// # Errors
/// An option has a value that it can't have; all such are named.
pub fn amend(
    spec: &AppSpec,
    options: &CommandLineApp,
    shell: &Shell,
) -> Result<Loaded, ConfigError> {
    let given = attributes(options);
    let mut loaded = from_command_line(&completed(spec, options), shell)?;
    for built in &mut loaded.apps {
        let mut amended = spec.clone();
        for (_, part) in PARTS.iter().filter(|(key, _)| given.contains(*key)) {
            part(&mut amended, built);
        }
        if options.watch == ["true"] && spec.triggers.watch.is_some() {
            amended.triggers.watch = None;
        }
        *built = amended;
    }
    Ok(loaded)
}

/// With what paths start at, what arguments go to and what times belong to, where the options leave
/// these as they are.
fn completed(spec: &AppSpec, options: &CommandLineApp) -> CommandLineApp {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut whole = CommandLineApp {
        script: text(&spec.program.script),
        ..options.clone()
    };
    whole.name.get_or_insert_with(|| spec.name.to_string());
    whole.cwd.get_or_insert_with(|| text(&spec.cwd));
    whole.interpreter.get_or_insert_with(|| {
        let own = spec.program.interpreter.as_deref();
        own.unwrap_or("none").to_owned()
    });
    if let (Some(watch), true) = (&spec.triggers.watch, whole.watch.is_empty()) {
        whole.watch = watch.paths.iter().map(|path| text(path)).collect();
    }
    let says_when = |(key, _): &(String, String)| key == "wait_ready";
    if spec.ready_within.is_some() && !whole.others.iter().any(says_when) {
        whole
            .others
            .push(("wait_ready".to_owned(), "true".to_owned()));
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::spec::LogTarget;

    fn shell() -> Shell {
        Shell {
            cwd: "/tmp".into(),
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            program: "/usr/bin/mcpm".into(),
        }
    }

    fn app() -> AppSpec {
        let options = CommandLineApp {
            script: "/bin/sleep".to_owned(),
            name: Some("web".to_owned()),
            args: vec!["1".to_owned()],
            kill_timeout: Some("2s".to_owned()),
            ..CommandLineApp::default()
        };
        from_command_line(&options, &shell())
            .unwrap()
            .apps
            .remove(0)
    }

    fn others(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn amended(spec: &AppSpec, options: &CommandLineApp) -> AppSpec {
        let mut loaded = amend(spec, options, &shell()).unwrap();
        assert!(loaded.failed.is_empty(), "{:?}", loaded.failed);
        loaded.apps.remove(0)
    }

    #[test]
    fn nothing_given_changes_nothing() {
        assert_eq!(amended(&app(), &CommandLineApp::default()), app());
    }

    #[test]
    fn each_option_changes_its_part_alone() {
        let options = CommandLineApp {
            name: Some("other".to_owned()),
            args: vec!["2".to_owned()],
            autorestart: false,
            out_file: Some("o.log".to_owned()),
            cwd: Some("/".to_owned()),
            others: others(&[("max_memory_restart", "50M"), ("cron_restart", "0 4 * * *")]),
            ..CommandLineApp::default()
        };
        let after = amended(&app(), &options);
        assert_eq!(after.name.as_str(), "other");
        assert_eq!(after.program.args, ["2"]);
        assert!(!after.restart.autorestart);
        assert_eq!(after.logs.out, LogTarget::File("/o.log".into()));
        assert_eq!(after.triggers.memory_max, Some(50 << 20));
        assert!(after.triggers.cron.is_some());
        assert_eq!(after.stop.grace, Duration::from_secs(2), "it was not named");
        let off = CommandLineApp {
            others: others(&[("cron_restart", "0")]),
            ..CommandLineApp::default()
        };
        let last = amended(&after, &off);
        assert!(last.triggers.cron.is_none());
        assert_eq!(last.triggers.memory_max, after.triggers.memory_max);
    }

    #[test]
    fn watch_is_a_switch_and_its_options_reach_what_is_watched() {
        let watch = |paths: &[&str]| CommandLineApp {
            watch: paths.iter().map(|&path| path.to_owned()).collect(),
            ..CommandLineApp::default()
        };
        let on = amended(&app(), &watch(&["true"]));
        assert!(on.triggers.watch.is_some());
        let ignoring = CommandLineApp {
            others: others(&[("ignore_watch", "tmp"), ("watch_delay", "2s")]),
            extensions: vec!["js".to_owned()],
            ..CommandLineApp::default()
        };
        let ignoring = amended(&on, &ignoring).triggers.watch.unwrap();
        assert_eq!(
            (&ignoring.ignore[..], ignoring.delay),
            (&["tmp".to_owned()][..], Duration::from_secs(2))
        );
        assert_eq!(ignoring.extensions, ["js"]);
        assert_eq!(ignoring.paths, on.triggers.watch.as_ref().unwrap().paths);
        let moved = amended(&on, &watch(&["src"])).triggers.watch.unwrap();
        assert!(moved.paths[0].ends_with("src"));
        assert!(amended(&on, &watch(&["true"])).triggers.watch.is_none());
    }

    #[test]
    fn a_new_limit_for_being_ready_counts_where_that_is_awaited() {
        let limit = CommandLineApp {
            others: others(&[("listen_timeout", "9000")]),
            ..CommandLineApp::default()
        };
        assert_eq!(amended(&app(), &limit).ready_within, None);
        let awaited = AppSpec {
            ready_within: Some(Duration::from_secs(1)),
            ..app()
        };
        let after = amended(&awaited, &limit);
        assert_eq!(after.ready_within, Some(Duration::from_secs(9)));
    }

    #[test]
    fn what_cannot_be_is_refused_as_for_a_new_app() {
        let refused = |pair: (&str, &str)| {
            let options = CommandLineApp {
                others: others(&[pair]),
                ..CommandLineApp::default()
            };
            amend(&app(), &options, &shell()).unwrap_err().to_string()
        };
        assert!(refused(("cron_restart", "* potato")).contains("cron_restart"));
        assert!(refused(("max_memory_restart", "lots")).contains("200M"));
        let options = CommandLineApp {
            interpreter: Some("nowhere".to_owned()),
            ..CommandLineApp::default()
        };
        assert_eq!(amend(&app(), &options, &shell()).unwrap().failed.len(), 1);
    }
}
