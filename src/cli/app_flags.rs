//! Flags that make an app of a script, or change a listed one: PM2's, each the attribute of an
//! ecosystem file.
//!
//! An attribute that is known and not acted upon yet is passed on all the same: `config` warns by
//! name, as it does for a file.

use crate::config::{CommandLineApp, GivenAttribute};

/// What a script is to be, or a listed process from now on. With an ecosystem file the file decides,
/// but for [`AppFlags::for_files`].
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "What the app is to be")]
pub(crate) struct AppFlags {
    /// Name of the app [default: that of the script]
    #[arg(short, long)]
    name: Option<String>,
    /// Group for bulk operations
    #[arg(long)]
    namespace: Option<String>,
    /// How many processes, or `max`
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    instances: Option<String>,
    /// Program that runs the script; `none` runs the script itself
    #[arg(long, value_name = "PROGRAM")]
    interpreter: Option<String>,
    /// Arguments of the interpreter
    #[arg(
        long,
        visible_alias = "node-args",
        value_name = "ARGS",
        allow_hyphen_values = true
    )]
    interpreter_args: Option<String>,
    /// Working directory
    #[arg(long, value_name = "FOLDER")]
    cwd: Option<String>,
    /// Sets the variable PORT
    #[arg(long)]
    port: Option<String>,
    /// Do not start again what has ended
    #[arg(long)]
    no_autorestart: bool,
    /// List it as stopped, and do not start it
    #[arg(long)]
    no_autostart: bool,
    /// Unstable exits in a row before it is `errored`
    #[arg(long, value_name = "N")]
    max_restarts: Option<u32>,
    /// A shorter run is unstable
    #[arg(long, value_name = "TIME")]
    min_uptime: Option<String>,
    /// Wait before each restart
    #[arg(long, value_name = "MS")]
    restart_delay: Option<String>,
    /// First wait of a growing one
    #[arg(long, value_name = "MS")]
    exp_backoff_restart_delay: Option<String>,
    /// Exit codes after which it is not started again: 0,3 or 0 3
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    stop_exit_codes: Vec<String>,
    /// Time to end before SIGKILL
    #[arg(short, long, value_name = "MS")]
    kill_timeout: Option<String>,
    /// First signal of a stop
    #[arg(long, value_name = "SIGNAL")]
    kill_signal: Option<String>,
    /// Send the first signal to the process alone, not to its children
    #[arg(long)]
    no_treekill: bool,
    /// Run the script itself, without cluster mode
    #[arg(short = 'x', long)]
    execute_command: bool,
    /// Log of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Log of standard error
    #[arg(short, long, value_name = "FILE")]
    error: Option<String>,
    /// Pid file
    #[arg(short, long, value_name = "FILE")]
    pid: Option<String>,
    /// One log for all processes of the app
    #[arg(long)]
    merge_logs: bool,
    /// Keep no logs
    #[arg(long)]
    disable_logs: bool,
    /// Keep variables with this in their names from the app
    #[arg(long, value_name = "NAME")]
    filter_env: Vec<String>,
    /// Run as this user (needs root)
    #[arg(short = 'u', long, visible_alias = "user")]
    uid: Option<String>,
    /// Run as this group (needs root)
    #[arg(long)]
    gid: Option<String>,
    /// Restart when files change, in the working directory or below these paths
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "true")]
    watch: Vec<String>,
    /// Only files with these endings count for --watch: js,json
    #[arg(long, value_name = "ENDINGS", value_delimiter = ',')]
    ext: Vec<String>,
    #[command(flatten)]
    others: Others,
}

/// Attributes that are passed on by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
struct Others {
    /// Restart when it takes more memory
    #[arg(long, value_name = "SIZE")]
    max_memory_restart: Option<String>,
    /// Restart at these times
    #[arg(short = 'c', long, visible_alias = "cron", value_name = "PATTERN")]
    cron_restart: Option<String>,
    /// Files that do not count: paths, globs, regular expressions, with spaces between them
    #[arg(long, value_name = "PATTERNS")]
    ignore_watch: Option<String>,
    /// How long no file must change: 4 (seconds) or 4000ms
    #[arg(long, value_name = "TIME")]
    watch_delay: Option<String>,
    /// The app says when it is ready
    #[arg(long)]
    wait_ready: bool,
    /// How long to wait for that
    #[arg(long, value_name = "MS")]
    listen_timeout: Option<String>,
    /// Stop with a message over Node's channel
    #[arg(long)]
    shutdown_with_message: bool,
    /// Log of both outputs together [default: $MCPM_HOME/logs/NAME.log]
    #[arg(short, long, value_name = "FILE", num_args = 0..=1, default_missing_value = "true")]
    log: Option<String>,
    /// `json`
    #[arg(long, value_name = "TYPE")]
    log_type: Option<String>,
    /// Time before each line of a log
    #[arg(long, value_name = "FORMAT")]
    log_date_format: Option<String>,
    /// The same in a usual format
    #[arg(long)]
    time: bool,
}

impl AppFlags {
    /// Is there any?
    pub(crate) fn are_given(&self) -> bool {
        *self != Self::default()
    }

    /// `-i`.
    pub(crate) fn instances(&self) -> Option<&str> {
        self.instances.as_deref()
    }

    /// Is there any that does not count with an ecosystem file?
    pub(crate) fn are_for_scripts(&self) -> bool {
        let rest = Self {
            namespace: None,
            cwd: None,
            watch: Vec::new(),
            uid: None,
            gid: None,
            ..self.clone()
        };
        rest.are_given()
    }

    /// Those that count with an ecosystem file, as in PM2: some where the app says nothing, some
    /// over what it says.
    pub(crate) fn for_files(&self) -> Vec<GivenAttribute> {
        let given = |key: &'static str, wins: bool, text: &Option<String>| {
            let text = text.clone()?;
            Some(GivenAttribute { key, wins, text })
        };
        let watch = self.watch.first().cloned();
        [
            given("namespace", false, &self.namespace),
            given("watch", false, &watch),
            given("cwd", true, &self.cwd),
            given("uid", true, &self.uid),
            given("gid", true, &self.gid),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The app that a script and these flags make.
    pub(crate) fn app(&self, script: &str, args: &[String]) -> CommandLineApp {
        CommandLineApp {
            script: script.to_owned(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            interpreter: self.interpreter.clone(),
            interpreter_args: self.interpreter_args.clone(),
            args: args.to_vec(),
            cwd: self.cwd.clone(),
            instances: self.instances.clone(),
            port: self.port.clone(),
            max_restarts: self.max_restarts,
            min_uptime: self.min_uptime.clone(),
            restart_delay: self.restart_delay.clone(),
            exp_backoff_restart_delay: self.exp_backoff_restart_delay.clone(),
            stop_exit_codes: self.stop_exit_codes.clone(),
            kill_timeout: self.kill_timeout.clone(),
            kill_signal: self.kill_signal.clone(),
            autorestart: !self.no_autorestart,
            autostart: !self.no_autostart,
            treekill: !self.no_treekill,
            execute_command: self.execute_command,
            out_file: self.output.clone(),
            error_file: self.error.clone(),
            pid_file: self.pid.clone(),
            merge_logs: self.merge_logs,
            disable_logs: self.disable_logs,
            filter_env: self.filter_env.clone(),
            uid: self.uid.clone(),
            gid: self.gid.clone(),
            watch: self.watch.clone(),
            extensions: self.ext.clone(),
            others: self.others.by_name(),
        }
    }
}

/// PM2's one flag whose bare number is seconds.
fn in_seconds(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{text}s")
    } else {
        text.to_owned()
    }
}

impl Others {
    fn by_name(&self) -> Vec<(String, String)> {
        let is_on = |on: bool| on.then(|| "true".to_owned());
        let all = [
            ("max_memory_restart", self.max_memory_restart.clone()),
            ("cron_restart", self.cron_restart.clone()),
            ("ignore_watch", self.ignore_watch.clone()),
            ("watch_delay", self.watch_delay.as_deref().map(in_seconds)),
            ("wait_ready", is_on(self.wait_ready)),
            ("listen_timeout", self.listen_timeout.clone()),
            ("shutdown_with_message", is_on(self.shutdown_with_message)),
            ("log_file", self.log.clone()),
            ("log_type", self.log_type.clone()),
            ("log_date_format", self.log_date_format.clone()),
            ("time", is_on(self.time)),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: AppFlags,
    }

    fn app(line: &str) -> CommandLineApp {
        let flags = Line::try_parse_from(line.split(' ')).unwrap().flags;
        flags.app("app.js", &["--x".to_owned()])
    }

    #[test]
    fn flags_are_noticed() {
        let given = |line: &str| {
            Line::try_parse_from(line.split(' '))
                .unwrap()
                .flags
                .are_given()
        };
        assert!(!given("start"));
        assert!(given("start --time") && given("start -n web"));
    }

    #[test]
    fn no_flags_leave_the_defaults() {
        let app = app("start");
        assert_eq!((app.script.as_str(), app.args.len()), ("app.js", 1));
        assert!(app.autorestart && app.autostart && app.treekill);
        assert!(app.name.is_none() && app.others.is_empty() && app.stop_exit_codes.is_empty());
    }

    #[test]
    fn flags_become_attributes() {
        let app = app(
            "start -n web -i -1 -k 3000 --no-autorestart --stop-exit-codes 0,3 -e /tmp/e --node-args \
             --inspect --user www --max-memory-restart 200M --time \
             --watch-delay 4 --watch src --watch lib",
        );
        assert_eq!(app.name.as_deref(), Some("web"));
        assert_eq!(app.instances.as_deref(), Some("-1"));
        assert_eq!(app.kill_timeout.as_deref(), Some("3000"));
        assert_eq!(app.stop_exit_codes, ["0", "3"]);
        assert_eq!(app.error_file.as_deref(), Some("/tmp/e"));
        assert_eq!(app.interpreter_args.as_deref(), Some("--inspect"));
        assert_eq!(app.uid.as_deref(), Some("www"));
        assert!(!app.autorestart);
        let others = app
            .others
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>();
        assert_eq!(
            others,
            ["max_memory_restart=200M", "watch_delay=4s", "time=true"]
        );
        assert_eq!(app.watch, ["src", "lib"]);
    }
}
