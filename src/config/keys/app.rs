//! Keys of an app: every attribute of PM2 (reference: its ecosystem file), and mcpm's own.

use super::Treatment::{Invisible, Never, NotYet};
use super::{Key, Kind, MCP, Short, Table};

/// An entry of `apps`.
pub static APP: Table = Table::new("app", KEYS).with_env_blocks();

/// Far above what one machine carries, so that a slip of the finger doesn't try it.
const INSTANCES_MAX: i64 = 10_000;
/// Counters are 32 bits wide.
const COUNT_MAX: i64 = u32::MAX as i64;

const MODES: &[&str] = &["fork", "cluster", "fork_mode", "cluster_mode"];

const KEYS: &[Key] = &[
    // -- what runs --
    Key::new(
        "script",
        Kind::Text,
        "required",
        "file, program in `PATH` or command line; `mcpm` is this program itself",
    )
    .aka(&["exec", "cmd", "command"]),
    Key::new(
        "name",
        Kind::Text,
        "the script's name without its extension",
        "not unique: operations by name reach all of that name",
    ),
    Key::new(
        "namespace",
        Kind::Text,
        "`default`",
        "group for operations on many apps",
    ),
    Key::new(
        "name_prefix",
        Kind::Text,
        "",
        "put before the name, with a colon",
    ),
    Key::new(
        "cwd",
        Kind::Text,
        "where the script was found: the file's folder or the shell's",
        "working directory; relative to the file's folder, else to the shell's",
    ),
    Key::new("args", Kind::Words, "", "after the script"),
    Key::new(
        "exec_interpreter",
        Kind::Text,
        "by the script's extension",
        "program that runs the script; `none` runs the script itself",
    )
    .aka(&["interpreter"]),
    Key::new(
        "node_args",
        Kind::Words,
        "",
        "between interpreter and script",
    )
    .aka(&["interpreter_args"]),
    Key::new(
        "instances",
        Kind::Instances,
        "1",
        "number of processes; 0 or `max`: one per CPU, negative: that many fewer; a service has one so far",
    ),
    Key::new(
        "exec_mode",
        Kind::Word(MODES),
        "`cluster` for node or bun with `instances`, else `fork`",
        "as PM2 shows it",
    ),
    Key::new("execute_command", Kind::Flag, "`false`", "forces fork mode"),
    // -- environment --
    Key::new("env", Kind::Env, "", "variables, over those of the shell"),
    Key::new(
        "filter_env",
        Kind::FlagOrTexts,
        "",
        "keeps variables of the shell away: a text by name, a list by part of the name, `true` all",
    ),
    Key::new(
        "append_env_to_name",
        Kind::Flag,
        "`false`",
        "with `--env x`, the name becomes `NAME-x`",
    ),
    Key::new("port", Kind::Port, "", "sets `PORT`"),
    Key::new(
        "instance_var",
        Kind::Text,
        "`NODE_APP_INSTANCE`",
        "variable that holds the number of the replica",
    ),
    Key::new(
        "increment_var",
        Kind::Text,
        "",
        "variable that counts up from replica to replica, from its value in `env` or 0: `PORT`",
    ),
    // -- logs --
    Key::new(
        "out_file",
        Kind::Text,
        "`$MCPM_HOME/logs/NAME-out.log`",
        "standard output; `/dev/null` or `NULL` for nowhere",
    )
    .aka(&["out", "output", "out_log"]),
    Key::new(
        "error_file",
        Kind::Text,
        "`$MCPM_HOME/logs/NAME-error.log`",
        "standard error",
    )
    .aka(&["error", "err", "err_file", "err_log"]),
    Key::new(
        "log_file",
        Kind::FlagOrText,
        "`false`",
        "both in one more file; `true`: `$MCPM_HOME/logs/NAME.log`",
    )
    .aka(&["log"]),
    Key::new(
        "merge_logs",
        Kind::Flag,
        "`true` in fork mode without `instances`",
        "one file for all replicas",
    )
    .aka(&["combine_logs"]),
    Key::new("disable_logs", Kind::Flag, "`false`", "output goes nowhere"),
    Key::new(
        "log_type",
        Kind::Word(&["json", "raw"]),
        "`raw`",
        "`json`: each line an object",
    ),
    Key::new(
        "log_date_format",
        Kind::FlagOrText,
        "",
        "time before each line, in dayjs's tokens: `YYYY-MM-DD HH:mm:ss.SSS Z`",
    ),
    Key::new(
        "time",
        Kind::Flag,
        "`false`",
        "the same as `YYYY-MM-DDTHH:mm:ss`",
    ),
    Key::new(
        "log_rotate",
        super::daemon::ROTATE,
        "what the `mcpm` block says",
        "when its logs are put aside; `false` or 0: never",
    ),
    Key::new(
        "pid_file",
        Kind::Text,
        "`$MCPM_HOME/pids/NAME-ID.pid`",
        "where the pid is written; `-ID` is put before `.pid`",
    )
    .aka(&["pid"]),
    Key::new(
        "stdio",
        Kind::Word(&["pipe", "file"]),
        "`pipe`",
        "`file`: output is appended to the log directly, and never waits",
    )
    .but(NotYet),
    // -- restarts --
    Key::new(
        "autostart",
        Kind::Flag,
        "`true`",
        "`false`: registered as stopped, and left so by every start of the file; `start NAME` starts it",
    ),
    Key::new(
        "autorestart",
        Kind::Flag,
        "`true`",
        "restart after any exit",
    ),
    Key::new(
        "max_restarts",
        Kind::Count {
            min: 0,
            max: COUNT_MAX,
        },
        "16",
        "unstable exits in a row before it is `errored`; 0: never restart an unstable one",
    ),
    Key::new(
        "min_uptime",
        Kind::Duration,
        "1000",
        "a shorter run is unstable",
    ),
    Key::new(
        "restart_delay",
        Kind::Duration,
        "0",
        "wait before a restart",
    ),
    Key::new(
        "exp_backoff_restart_delay",
        Kind::Duration,
        "0",
        "first wait of a growing one (x 1.5, up to 15 s)",
    ),
    Key::new(
        "stop_exit_codes",
        Kind::Numbers { min: 0, max: 255 },
        "",
        "exit codes after which no restart follows",
    ),
    Key::new(
        "max_memory_restart",
        Kind::Size,
        "",
        "restart when the process and its group take more memory; 0 is off",
    ),
    Key::new(
        "cron_restart",
        Kind::FlagOrText,
        "",
        "restart by the clock, `\"0 4 * * *\"`; 5 fields, or 6 with seconds first; 0 is off",
    )
    .aka(&["cron"]),
    Key::new(
        "watch",
        Kind::FlagOrTexts,
        "`false`",
        "restart when files change: `true` below `cwd`, else these files and folders",
    ),
    Key::new(
        "ignore_watch",
        Kind::Words,
        "",
        "files that do not count: paths, globs, regular expressions; dotfiles and `node_modules` never do",
    ),
    Key::new(
        "watch_delay",
        Kind::Duration,
        "0",
        "how long no file must change before the restart",
    ),
    Key::new("watch_options", Kind::Any, "", "options of PM2's watcher").but(Invisible),
    Key::new(
        "depends_on",
        Kind::Texts,
        "",
        "apps that must be ready before this one starts",
    )
    .but(NotYet),
    // -- stops and readiness --
    Key::new(
        "kill_timeout",
        Kind::Duration,
        "1600",
        "time from the first signal to SIGKILL",
    ),
    Key::new("kill_signal", Kind::Signal, "`SIGINT`", "first signal"),
    Key::new(
        "kill_retry_time",
        Kind::Duration,
        "",
        "PM2's poll interval; exits are seen at once here",
    )
    .but(Invisible),
    Key::new(
        "treekill",
        Kind::Flag,
        "`true`",
        "`false`: the first signal goes to the root process only, and what has left its process group is left alone",
    ),
    Key::new(
        "shutdown_with_message",
        Kind::Flag,
        "`false`",
        "the message `shutdown` over Node's channel instead of the first signal",
    ),
    Key::new(
        "wait_ready",
        Kind::Flag,
        "`false`",
        "online when it says so: `\"ready\"` over Node's channel, or `READY=1` to `NOTIFY_SOCKET`",
    ),
    Key::new(
        "listen_timeout",
        Kind::Duration,
        "3000",
        "longest wait for that; then it counts as online",
    ),
    // -- who runs it --
    Key::new(
        "uid",
        Kind::Text,
        "yours",
        "user by name or number; needs root",
    )
    .aka(&["user"]),
    Key::new(
        "gid",
        Kind::Text,
        "the user's own",
        "group by name or number; needs root",
    ),
    // -- services --
    Key::new(
        "mcp",
        Kind::Block(&MCP, &[Short::False]),
        "",
        "makes the app a service",
    ),
    // -- the rest of PM2's --
    Key::new(
        "force",
        Kind::Flag,
        "`false`",
        "PM2's for scripts (`start -f`); an app of a file that is listed is restarted all the same",
    )
    .but(Invisible),
    Key::new("write", Kind::Flag, "", "write the app as a file").but(NotYet),
    Key::new("post_update", Kind::Texts, "", "commands after `pull`").but(NotYet),
    Key::new(
        "source_map_support",
        Kind::Flag,
        "",
        "Node's source maps; `node_args: \"--enable-source-maps\"` does it",
    )
    .but(NotYet),
    Key::new(
        "disable_source_map_support",
        Kind::Any,
        "",
        "Node instrumentation",
    )
    .but(Invisible),
    Key::new("windowsHide", Kind::Any, "", "Windows").but(Invisible),
    Key::new("vizion", Kind::Any, "", "git data").but(Invisible),
    Key::new("pmx", Kind::Any, "", "Node instrumentation").but(Invisible),
    Key::new("automation", Kind::Any, "", "Node instrumentation").but(Invisible),
    Key::new("trace", Kind::Any, "", "PM2's cloud").but(Never),
    Key::new("disable_trace", Kind::Any, "", "PM2's cloud").but(Invisible),
    Key::new("v8", Kind::Any, "", "PM2's cloud").but(Never),
    Key::new("event_loop_inspector", Kind::Any, "", "PM2's cloud").but(Never),
    Key::new("deep_monitoring", Kind::Any, "", "PM2's cloud").but(Never),
    Key::new("io", Kind::Any, "", "PM2's cloud").but(Never),
    Key::new("install_url", Kind::Any, "", "PM2's own").but(Invisible),
    Key::new("username", Kind::Any, "", "PM2's own").but(Invisible),
];

/// Bounds of `instances`, which is read by a rule of its own.
pub(crate) const INSTANCES: std::ops::RangeInclusive<i64> = -INSTANCES_MAX..=INSTANCES_MAX;
