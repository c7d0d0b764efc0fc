//! `mcpm start ./server --name x -- args` → the same [`Loaded`] as from a file.
//!
//! The options become the raw value that a file would hold, so that both are read by one set of
//! rules; messages name the attribute (`max_restarts`), which is also the option's name.

use std::collections::BTreeSet;

use super::error::ConfigError;
use super::load::{Loaded, Shell, build_one};
use super::syntax::{Entry, Node, Place, Value};

/// An app from a command line. Values are as typed; units are those of ecosystem files.
#[derive(Clone, Debug)]
pub struct CommandLineApp {
    /// File, program in `PATH`, or command line.
    pub script: String,
    /// `--name`
    pub name: Option<String>,
    /// `--namespace`
    pub namespace: Option<String>,
    /// `--interpreter`
    pub interpreter: Option<String>,
    /// `--node-args`, `--interpreter-args`: one string, split at spaces.
    pub interpreter_args: Option<String>,
    /// After `--`.
    pub args: Vec<String>,
    /// `--cwd`
    pub cwd: Option<String>,
    /// `--instances`
    pub instances: Option<String>,
    /// `--port`
    pub port: Option<String>,
    /// `--max-restarts`
    pub max_restarts: Option<u32>,
    /// `--min-uptime`
    pub min_uptime: Option<String>,
    /// `--restart-delay`
    pub restart_delay: Option<String>,
    /// `--exp-backoff-restart-delay`
    pub exp_backoff_restart_delay: Option<String>,
    /// `--stop-exit-codes`
    pub stop_exit_codes: Vec<String>,
    /// `--kill-timeout`
    pub kill_timeout: Option<String>,
    /// `--kill-signal`
    pub kill_signal: Option<String>,
    /// `false` for `--no-autorestart`.
    pub autorestart: bool,
    /// `false` for `--no-autostart`.
    pub autostart: bool,
    /// `false` for `--no-treekill`.
    pub treekill: bool,
    /// `-x`
    pub execute_command: bool,
    /// `--output`
    pub out_file: Option<String>,
    /// `--error`
    pub error_file: Option<String>,
    /// `--pid`
    pub pid_file: Option<String>,
    /// `--merge-logs`
    pub merge_logs: bool,
    /// `--disable-logs`
    pub disable_logs: bool,
    /// `--filter-env`, each a part of a name.
    pub filter_env: Vec<String>,
    /// `--uid`, `--user`
    pub uid: Option<String>,
    /// `--gid`
    pub gid: Option<String>,
    /// `--watch`, each a path; `true` is the working directory.
    pub watch: Vec<String>,
    /// `--ext`: endings of the files whose changes count; only with `watch`.
    pub extensions: Vec<String>,
    /// Any other attribute, by its name in a file and as typed: `("max_memory_restart", "200M")`;
    /// an option without a value is `("wait_ready", "true")`.
    pub others: Vec<(String, String)>,
}

impl Default for CommandLineApp {
    fn default() -> Self {
        Self {
            script: String::new(),
            name: None,
            namespace: None,
            interpreter: None,
            interpreter_args: None,
            args: Vec::new(),
            cwd: None,
            instances: None,
            port: None,
            max_restarts: None,
            min_uptime: None,
            restart_delay: None,
            exp_backoff_restart_delay: None,
            stop_exit_codes: Vec::new(),
            kill_timeout: None,
            kill_signal: None,
            autorestart: true,
            autostart: true,
            treekill: true,
            execute_command: false,
            out_file: None,
            error_file: None,
            pid_file: None,
            merge_logs: false,
            disable_logs: false,
            filter_env: Vec::new(),
            uid: None,
            gid: None,
            watch: Vec::new(),
            extensions: Vec::new(),
            others: Vec::new(),
        }
    }
}

/// Resolves it. `Loaded` has one app, or one failure. Relative paths start at the shell's folder.
///
/// # Errors
/// An option has a value that it can't have; all such are named.
pub fn from_command_line(app: &CommandLineApp, shell: &Shell) -> Result<Loaded, ConfigError> {
    let mut loaded = build_one(&to_node(app), shell)?;
    for spec in &mut loaded.apps {
        if let Some(watch) = &mut spec.triggers.watch {
            watch.extensions.clone_from(&app.extensions);
        }
    }
    Ok(loaded)
}

/// The attributes that its options name, as a file would; `ext` is no attribute of a file.
pub(crate) fn attributes(app: &CommandLineApp) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Value::Map(entries) = to_node(app).value {
        names.extend(entries.into_iter().map(|entry| entry.key));
    }
    names.remove("script");
    if !app.extensions.is_empty() {
        names.insert("ext".to_owned());
    }
    names
}

fn to_node(app: &CommandLineApp) -> Node {
    let mut entries = Vec::new();
    let mut put = |key: &str, value: Value| {
        let node = Node::placeless(value);
        entries.push(Entry {
            key: key.to_owned(),
            at: Place::default(),
            node,
        });
    };
    put("script", Value::Text(app.script.clone()));
    for (key, text) in [
        ("name", &app.name),
        ("namespace", &app.namespace),
        ("exec_interpreter", &app.interpreter),
        ("node_args", &app.interpreter_args),
        ("cwd", &app.cwd),
        ("instances", &app.instances),
        ("port", &app.port),
        ("min_uptime", &app.min_uptime),
        ("restart_delay", &app.restart_delay),
        ("exp_backoff_restart_delay", &app.exp_backoff_restart_delay),
        ("kill_timeout", &app.kill_timeout),
        ("kill_signal", &app.kill_signal),
        ("out_file", &app.out_file),
        ("error_file", &app.error_file),
        ("pid_file", &app.pid_file),
        ("uid", &app.uid),
        ("gid", &app.gid),
    ] {
        if let Some(text) = text {
            put(key, Value::Text(text.clone()));
        }
    }
    if let Some(max) = app.max_restarts {
        put("max_restarts", Value::Text(max.to_string()));
    }
    for (key, texts) in [
        ("args", &app.args),
        ("stop_exit_codes", &app.stop_exit_codes),
        ("filter_env", &app.filter_env),
    ] {
        if !texts.is_empty() {
            put(key, Value::List(texts.iter().map(Node::text).collect()));
        }
    }
    // Only what differs from the default: `merge_logs` has one that depends on others.
    for (key, given, default) in [
        ("autorestart", app.autorestart, true),
        ("autostart", app.autostart, true),
        ("treekill", app.treekill, true),
        ("execute_command", app.execute_command, false),
        ("merge_logs", app.merge_logs, false),
        ("disable_logs", app.disable_logs, false),
    ] {
        if given != default {
            put(key, Value::Bool(given));
        }
    }
    match app.watch.as_slice() {
        [] => {}
        [one] if one == "true" => put("watch", Value::Bool(true)),
        paths => {
            let named = paths.iter().filter(|path| *path != "true");
            put("watch", Value::List(named.map(Node::text).collect()));
        }
    }
    for (key, text) in &app.others {
        let value = match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::Text(text.clone()),
        };
        put(key, value);
    }
    Node::placeless(Value::Map(entries))
}
