//! Every deliberate difference from PM2 that the recorded cases show, each with its reason;
//! `docs/pm2-differences.md` tells users the same.

/// One fact of one case that is not as in PM2.
pub(super) struct Difference {
    pub(super) topic: &'static str,
    /// The case; `*` for any.
    pub(super) case: &'static str,
    /// `web.pm_cwd`, `codes`; `*` at its beginning or end stands for anything.
    pub(super) what: &'static str,
    /// Why it is so.
    #[expect(dead_code, reason = "for who reads the table")]
    pub(super) why: &'static str,
}

impl Difference {
    /// Is this the one?
    pub(super) fn fits(&self, topic: &str, case: &str, what: &str) -> bool {
        self.topic == topic && like(self.case, case) && like(self.what, what)
    }
}

fn like(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        topic: "files",
        case: "*",
        what: "*.listen_timeout",
        why: "shown where something listens for readiness: it counts with `wait_ready` alone",
    },
    Difference {
        topic: "lines",
        case: "*",
        what: "*.listen_timeout",
        why: "shown where something listens for readiness: it counts with `wait_ready` alone",
    },
    Difference {
        topic: "files",
        case: "bare-list.json",
        what: "*.pm_pid_path",
        why: "PM2 takes the number at the end of a name for that of a process",
    },
    Difference {
        topic: "files",
        case: "replicas.config.js",
        what: "*.pm_pid_path",
        why: "PM2 takes the number at the end of a name for that of a process",
    },
    Difference {
        topic: "files",
        case: "extensions.config.js",
        what: "line.*",
        why: "a file with a `#!` line is run by it; PM2 gives it to node, which fails",
    },
    Difference {
        topic: "lines",
        case: "several",
        what: "said-by-line.*",
        why: "a file with a `#!` line is run by it; PM2 gives it to node, which fails",
    },
    Difference {
        topic: "files",
        case: "filtered.config.js",
        what: "*.APP_SECRET",
        why: "PM2 filters for an app what an app before it has filtered",
    },
    Difference {
        topic: "files",
        case: "logs.config.js",
        what: "off.pm_*",
        why: "without logs there is no file to name",
    },
    Difference {
        topic: "lines",
        case: "--disable-logs",
        what: "say.pm_*",
        why: "without logs there is no file to name",
    },
    Difference {
        topic: "files",
        case: "max.config.js",
        what: "max.merge_logs",
        why: "PM2 writes `max` replicas to one file, and counted ones to a file each; here always a file each",
    },
    Difference {
        topic: "files",
        case: "max.config.js",
        what: "max.pm_*",
        why: "PM2 writes `max` replicas to one file, and counted ones to a file each; here always a file each",
    },
    Difference {
        topic: "files",
        case: "zero.config.js",
        what: "zero.merge_logs",
        why: "as `max`",
    },
    Difference {
        topic: "files",
        case: "zero.config.js",
        what: "zero.pm_*",
        why: "as `max`",
    },
    Difference {
        topic: "lines",
        case: "-i 0",
        what: "say.merge_logs",
        why: "as `max`",
    },
    Difference {
        topic: "lines",
        case: "-i 0",
        what: "say.pm_*",
        why: "as `max`",
    },
    Difference {
        topic: "lines",
        case: "-i max",
        what: "say.merge_logs",
        why: "as `max`",
    },
    Difference {
        topic: "lines",
        case: "-i max",
        what: "say.pm_*",
        why: "as `max`",
    },
    Difference {
        topic: "files",
        case: "npm.config.js",
        what: "*.exec_interpreter",
        why: "npm is a program: it is run by its `#!` line",
    },
    Difference {
        topic: "files",
        case: "npx.config.js",
        what: "*.exec_interpreter",
        why: "npx is a program: it is run by its `#!` line",
    },
    Difference {
        topic: "lines",
        case: "npm",
        what: "*.exec_interpreter",
        why: "npm is a program: it is run by its `#!` line",
    },
    Difference {
        topic: "files",
        case: "odd-units.config.js",
        what: "codes",
        why: "units in small letters, and times with a unit, are understood",
    },
    Difference {
        topic: "files",
        case: "odd-units.config.js",
        what: "odd.*",
        why: "units in small letters, and times with a unit, are understood",
    },
    Difference {
        topic: "files",
        case: "fleet.config.js",
        what: "later.version",
        why: "PM2 looks for the version when it starts an app",
    },
    Difference {
        topic: "files",
        case: "restarts.config.js",
        what: "later.version",
        why: "PM2 looks for the version when it starts an app",
    },
    Difference {
        topic: "lines",
        case: "--no-autostart",
        what: "say.version",
        why: "PM2 looks for the version when it starts an app",
    },
    Difference {
        topic: "files",
        case: "spaces.config.js",
        what: "path.*",
        why: "a script that is a file is one, spaces or not",
    },
    Difference {
        topic: "files",
        case: "zeros.config.js",
        what: "zeros.kill_timeout",
        why: "0 is 0, and not \"nothing was said\"",
    },
    Difference {
        topic: "files",
        case: "zeros.config.js",
        what: "zeros.max_restarts",
        why: "0 is 0, and not \"nothing was said\"",
    },
    Difference {
        topic: "lines",
        case: "--ext",
        what: "say.ignore_watch",
        why: "files with other endings never count, those that come later included",
    },
    Difference {
        topic: "lines",
        case: "--stop-exit-codes, two",
        what: "codes",
        why: "both are codes; PM2 takes the second for a target",
    },
    Difference {
        topic: "lines",
        case: "--stop-exit-codes, two",
        what: "say.stop_exit_codes",
        why: "both are codes; PM2 takes the second for a target",
    },
    Difference {
        topic: "lines",
        case: "restart --name",
        what: "new.pm_*",
        why: "files and variables follow the name",
    },
    Difference {
        topic: "lines",
        case: "restart --name",
        what: "new.said.env.name",
        why: "files and variables follow the name",
    },
    Difference {
        topic: "lines",
        case: "start NAME with options",
        what: "renamed.pm_*",
        why: "files follow the name",
    },
    Difference {
        topic: "lines",
        case: "restart --namespace",
        what: "say.said.env.namespace",
        why: "what is changed is told to the program, too",
    },
    Difference {
        topic: "lines",
        case: "restart --node-args",
        what: "say.said.flags",
        why: "every option counts for a listed app",
    },
    Difference {
        topic: "lines",
        case: "restart -o",
        what: "say.pm_out_log_path",
        why: "every option counts for a listed app",
    },
    Difference {
        topic: "lines",
        case: "several, the second is missing",
        what: "say.count",
        why: "one target that fails does not keep the next from being started",
    },
    Difference {
        topic: "files",
        case: "computed.config.js, none of them",
        what: "codes",
        why: "a start that starts nothing has failed",
    },
    Difference {
        topic: "files",
        case: "files and options",
        what: "codes",
        why: "a relative script is looked for beside its file first",
    },
    Difference {
        topic: "files",
        case: "files and options",
        what: "alone.*",
        why: "a relative script is looked for beside its file first",
    },
    Difference {
        topic: "files",
        case: "same-name.config.js",
        what: "twin#1.said.env.NODE_APP_INSTANCE",
        why: "PM2 counts what runs at that moment, and starts two at once",
    },
    Difference {
        topic: "files",
        case: "two-apps.config.js by startOrRestart",
        what: "api.env.*",
        why: "PM2 shows what the file says, and gives the program the rest all the same",
    },
    Difference {
        topic: "files",
        case: "two-apps.config.js, one restarted by file",
        what: "api.env.*",
        why: "PM2 shows what the file says, and gives the program the rest all the same",
    },
    Difference {
        topic: "lines",
        case: "--watch before the script",
        what: "app1.watch",
        why: "both take the script for the path to watch; PM2 then forgets it",
    },
    Difference {
        topic: "verbs",
        case: "*",
        what: "later.version",
        why: "PM2 looks for the version when it starts an app",
    },
    Difference {
        topic: "verbs",
        case: "*",
        what: "*.merge_logs",
        why: "PM2 forgets with a restart that replicas have a file each",
    },
    Difference {
        topic: "verbs",
        case: "restart all",
        what: "later.*",
        why: "`autostart: false` is about the file; PM2 starts it by its id alone",
    },
    Difference {
        topic: "verbs",
        case: "restart later",
        what: "later.*",
        why: "`autostart: false` is about the file; PM2 starts it by its id alone",
    },
    Difference {
        topic: "verbs",
        case: "start all",
        what: "later.*",
        why: "`autostart: false` is about the file; PM2 starts it by its id alone",
    },
    Difference {
        topic: "verbs",
        case: "start later",
        what: "later.*",
        why: "`autostart: false` is about the file; PM2 starts it by its id alone",
    },
    Difference {
        topic: "verbs",
        case: "scale pool 1",
        what: "pool.said.env.NODE_APP_INSTANCE",
        why: "the newest is removed first",
    },
    Difference {
        topic: "verbs",
        case: "flush nobody",
        what: "codes",
        why: "what means nothing is refused",
    },
    Difference {
        topic: "verbs",
        case: "logs nobody --nostream",
        what: "codes",
        why: "what means nothing is refused",
    },
    Difference {
        topic: "verbs",
        case: "stop nobody web",
        what: "web.status",
        why: "one target that fails does not keep the next from being done",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.node_version",
        why: "which version an interpreter is, the interpreter knows",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.time",
        why: "it is shown as the `log_date_format` that it stands for",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.filter_env",
        why: "PM2 lists what is left out anyway once something was restarted",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.kill_retry_time",
        why: "a process that ignores SIGKILL is not asked again: there is nothing to set",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.km_link",
        why: "of PM2's own machinery",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.vizion_running",
        why: "of PM2's own machinery",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.windowsHide",
        why: "of PM2's own machinery",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env._tree_pids",
        why: "of PM2's own machinery",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.prev_restart_delay",
        why: "of PM2's own machinery",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env._pm2_version",
        why: "of PM2's own machinery",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.listen_timeout",
        why: "shown where something listens for readiness: it counts with `wait_ready` alone",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.stop_exit_codes",
        why: "a list, also when it is one code",
    },
    Difference {
        topic: "types",
        case: "*",
        what: "*.pm2_env.cwd",
        why: "it is `pm_cwd`",
    },
];
