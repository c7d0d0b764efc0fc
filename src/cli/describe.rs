//! `mcpm describe`: all about one process, why it is as it is, and its last log lines.

use crate::api::logs::{LogEvent, Stream};
use crate::api::processes::{Health, LastExit, Process, Readiness};
use crate::config::spec::{ExecMode, ServiceSpec};
use crate::control::client::{Client, segment};
use crate::ids::Timestamp;
use crate::sockets::ephemeral;

use super::exit::Exit;
use super::grid::{Cell, Grid};
use super::list::With;
use super::log_text::LogText;
use super::session::Session;
use super::style::Paint;
use super::{list, process_table, units};

/// Log lines of each stream that are shown.
const LOG_LINES: usize = 10;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, ids, namespaces, `all`, `/regex/`
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Prints a block for each process that is meant.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let (found, exit) = list::selected_by_all(
        &mut daemon,
        &args.targets,
        With::GroupMemory,
        &session.output,
    )
    .await?;
    if args.json {
        session.output.json(&crate::api::List::whole(found))?;
        return Ok(exit);
    }
    let now = Timestamp::now();
    for (at, process) in found.iter().enumerate() {
        let output = &session.output;
        if at > 0 {
            output.line("")?;
        }
        output.line(format_args!(
            "Describing process with id {} - name {}",
            process.pm_id, process.name
        ))?;
        output.table(&grid(process, now))?;
        if let Some(metrics) = metrics(process) {
            output.line("Code metrics value")?;
            output.table(&metrics)?;
        }
        for stream in [Stream::Error, Stream::Out] {
            let text = last_lines(&mut daemon, process, stream).await?;
            if !text.is_empty() {
                output.line("")?;
                output.text(&String::from_utf8_lossy(&text))?;
            }
        }
        if process.last_exit.is_some() {
            let name = &process.name;
            output.hint(format_args!("`mcpm why {name}` tells how it has ended"));
        }
    }
    let services = found.iter().filter_map(|p| p.spec.mcp.as_ref());
    let ports: Vec<u16> = services.map(|mcp| mcp.port.get()).collect();
    if let Some(warning) = ephemeral::warning(&ports) {
        session.output.warning(warning);
    }
    Ok(exit)
}

async fn last_lines(
    daemon: &mut Client,
    process: &Process,
    stream: Stream,
) -> anyhow::Result<Vec<u8>> {
    let name = match stream {
        Stream::Out => "out",
        Stream::Error => "error",
    };
    let path = format!(
        "/api/v1/admin/logs?target={}&lines={LOG_LINES}&follow=false&stream={name}",
        segment(&process.pm_id.to_string())
    );
    let mut events = daemon.stream::<LogEvent>(&path).await?;
    let mut text = LogText::only_messages(LOG_LINES);
    let mut any = false;
    while let Some(event) = events.next().await? {
        any |= matches!(event, LogEvent::Line { .. });
        text.add(&event, Timestamp::now());
    }
    // The title of a file without lines says nothing.
    Ok(if any { text.take().0 } else { Vec::new() })
}

fn grid(process: &Process, now: Timestamp) -> Grid {
    let mut grid = Grid::facts();
    let mut row = |name: &str, value: Cell| grid.row(vec![Cell::painted(name, Paint::Head), value]);
    let status = process.status;
    row(
        "status",
        Cell::painted(status.as_str(), process_table::colour(status)),
    );
    if let Some(reason) = &process.reason {
        row("reason", Cell::painted(reason, Paint::Bad));
    }
    for (name, value) in pm2_rows(process, now) {
        row(name, Cell::new(value));
    }
    if let Some(memory) = group_memory(process) {
        row("group memory", Cell::new(memory));
    }
    for (name, pid) in [
        ("successor pid", process.successor_pid),
        ("predecessor pid", process.predecessor_pid),
    ] {
        if let Some(pid) = pid {
            row(name, Cell::painted(pid.to_string(), Paint::Busy));
        }
    }
    if let Some(folder) = &process.cgroup {
        row("cgroup", Cell::new(folder.display().to_string()));
    }
    if let Some(exit) = &process.last_exit {
        row("last exit", Cell::new(last_exit(exit)));
    }
    if let Some(note) = &process.note {
        row("note", Cell::painted(note, Paint::Bad));
    }
    if let Some(restart) = &process.last_restart {
        let text = format!("{} ({})", restart.why, restart.at);
        row("last restart", Cell::new(text));
    }
    if let (Some(mcp), Some(health)) = (&process.spec.mcp, &process.health) {
        let (word, paint) = readiness(health.readiness);
        row("health", Cell::painted(word, paint));
        for (name, value) in service_rows(mcp, health) {
            row(name, Cell::new(value));
        }
    }
    grid
}

/// What the limit counts: `memory` is that of the root process alone, as in PM2.
fn group_memory(process: &Process) -> Option<String> {
    let limit = process.spec.triggers.memory_max?;
    let all = units::memory(process.group_memory?);
    let limit = units::memory(limit);
    Some(format!("{all} with its children; restarted above {limit}"))
}

/// What an app says about itself, as in PM2; `None` when it says nothing.
fn metrics(process: &Process) -> Option<Grid> {
    if process.metrics.is_empty() {
        return None;
    }
    let mut grid = Grid::facts();
    for (name, metric) in &process.metrics {
        let text = |field: &str| match metric.get(field) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let shown = format!("{} {}", text("value"), text("unit"));
        grid.row(vec![
            Cell::painted(name, Paint::Head),
            Cell::new(shown.trim()),
        ]);
    }
    Some(grid)
}

/// Where PM2 puts rows that not every process has.
const AFTER_RESTARTS: usize = 4;

/// PM2's rows, in its order.
fn pm2_rows(process: &Process, now: Timestamp) -> Vec<(&'static str, String)> {
    let spec = &process.spec;
    let missing = || "N/A".to_owned();
    let log = |path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map_or_else(missing, |path| path.display().to_string())
    };
    let words = |list: &[String]| {
        if list.is_empty() {
            missing()
        } else {
            list.join(" ")
        }
    };
    let mode = match spec.exec_mode {
        ExecMode::ForkMode => "fork_mode",
        ExecMode::ClusterMode => "cluster_mode",
    };
    let interpreter = spec.program.interpreter.clone();
    let watch = if spec.triggers.watch.is_some() {
        "✔"
    } else {
        "✘"
    };
    let mut rows = vec![
        ("name", process.name.to_string()),
        ("namespace", spec.namespace.clone()),
        ("version", spec.version.clone().unwrap_or_else(missing)),
        ("restarts", process.restarts.to_string()),
        (
            "uptime",
            process_table::uptime(process.status, process.started_at, now),
        ),
        ("script path", spec.program.script.display().to_string()),
        ("script args", words(&spec.program.args)),
        ("entire log path", log(&process.combined_log)),
        ("error log path", log(&process.error_log)),
        ("out log path", log(&process.out_log)),
        ("pid path", process.pid_file.display().to_string()),
        (
            "interpreter",
            interpreter.unwrap_or_else(|| "none".to_owned()),
        ),
        ("interpreter args", words(&spec.program.interpreter_args)),
        ("script id", process.pm_id.to_string()),
        ("pid", process.pid.to_string()),
        ("user", process.user.clone()),
        ("exec cwd", spec.cwd.display().to_string()),
        ("exec mode", mode.to_owned()),
        (
            "node env",
            spec.env.get("NODE_ENV").map_or_else(missing, str::to_owned),
        ),
        ("watch & reload", watch.to_owned()),
        ("unstable restarts", process.unstable_restarts.to_string()),
        (
            "cpu, memory",
            format!(
                "{}, {}",
                units::percent(process.cpu),
                units::memory(process.memory)
            ),
        ),
        ("created at", process.created_at.to_string()),
    ];
    // Only when they are set, as in PM2.
    let cron = spec.triggers.cron.as_ref();
    let set = [
        (
            "max memory restart",
            spec.triggers.memory_max.map(units::memory),
        ),
        ("cron restart", cron.map(|cron| cron.as_str().to_owned())),
    ];
    let set = set
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    rows.splice(AFTER_RESTARTS..AFTER_RESTARTS, set);
    // Only when it is there, as in PM2.
    rows.retain(|(name, _)| *name != "entire log path" || process.combined_log.is_some());
    rows
}

fn service_rows(mcp: &ServiceSpec, health: &Health) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("service", format!("{} ({})", mcp.service, mcp.display_name)),
        ("port", mcp.port.to_string()),
    ];
    if let Some(at) = health.last_check {
        let took = health
            .response_ms
            .map_or(String::new(), |ms| format!(", {ms:.1} ms"));
        rows.push(("last check", format!("{at}{took}")));
    }
    if health.consecutive_failures > 0 {
        rows.push((
            "failed checks in a row",
            health.consecutive_failures.to_string(),
        ));
    }
    if let Some(failure) = &health.last_failure {
        rows.push(("last failed check", failure.clone()));
    }
    if let Some(share) = health.uptime_percent {
        rows.push(("good checks", format!("{share:.2}%")));
    }
    rows
}

/// How a process ended: `code 1 at …`, `SIGKILL at …`.
fn last_exit(exit: &LastExit) -> String {
    let how = match (exit.code, &exit.signal) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => signal.clone(),
        (None, None) => "unknown: no daemon saw it".to_owned(),
    };
    let why = exit.why.as_ref();
    let why = why.map_or_else(String::new, |why| format!(", after {why}"));
    format!("{how} at {}{why}", exit.at)
}

/// The word for a service's readiness, and its colour.
pub(crate) fn readiness(readiness: Readiness) -> (&'static str, Paint) {
    match readiness {
        Readiness::Down => ("down", Paint::Bad),
        Readiness::Starting => ("starting", Paint::Busy),
        Readiness::Ready => ("ready", Paint::Good),
        Readiness::Unhealthy => ("unhealthy", Paint::Bad),
        Readiness::PortTaken => ("port taken", Paint::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::processes::Status;
    use crate::cli::samples::{process, service};
    use crate::cli::style::Palette;

    #[test]
    fn what_went_wrong_is_told() {
        let mut web = service(0, "demo", 49160, Readiness::Unhealthy);
        web.status = Status::WaitingRestart;
        web.reason = Some("exited with code 1 three times".into());
        let at = Timestamp::from_millis(0);
        web.last_exit = Some(LastExit {
            code: None,
            signal: Some("SIGKILL".into()),
            at,
            why: Some("3 failed health checks in a row".into()),
        });
        let text = grid(&web, Timestamp::from_millis(0)).render(Palette::PLAIN);
        for part in [
            "waiting restart",
            "exited with code 1 three times",
            "SIGKILL at 1970-01-01",
            ", after 3 failed health checks in a row",
            "unhealthy",
            "49160",
            "fork_mode",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn what_a_memory_limit_counts_is_told_beside_the_root_processs() {
        let mut web = process(0, "web");
        (web.memory, web.group_memory) = (10 << 20, Some(300 << 20));
        let shown = |web: &Process| grid(web, Timestamp::from_millis(0)).render(Palette::PLAIN);
        assert!(!shown(&web).contains("group memory"), "there is no limit");
        web.spec.triggers.memory_max = Some(500 << 20);
        let text = shown(&web);
        for part in [
            "0%, 10.0mb",
            "300.0mb with its children; restarted above 500.0mb",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn what_an_app_says_about_itself_is_shown() {
        let mut web = process(0, "web");
        assert!(metrics(&web).is_none());
        let said = serde_json::json!({ "Users": { "value": 3, "unit": "people" }, "x": {} });
        web.metrics = said.as_object().unwrap().clone();
        let text = metrics(&web).unwrap().render(Palette::PLAIN);
        assert!(text.contains("│ Users │ 3 people │"), "{text}");
    }

    #[test]
    fn variables_other_than_node_env_are_not_shown() {
        let text = grid(&process(0, "web"), Timestamp::from_millis(0)).render(Palette::PLAIN);
        assert!(!text.contains("API_KEY") && !text.contains("***"));
    }
}
