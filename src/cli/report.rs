//! `mcpm report`: what helps to find a mistake, to be pasted into a ticket.

use std::fs;
use std::path::Path;

use crate::api::daemon::DaemonInfo;
use crate::ids::Timestamp;

use super::exit::Exit;
use super::process_table::Sort;
use super::session::Session;
use super::style::{Palette, tame};
use super::{list, process_table};

/// Lines of the daemon's log that are shown.
const LOG_LINES: usize = 20;
/// As much of the end of the log is read, in bytes.
const LOG_BYTES: usize = 64 * 1024;

/// Prints it. No environment and no secret is in it.
pub(crate) async fn run(session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let info: DaemonInfo = daemon.get("/api/v1/admin/daemon").await?;
    let mut rows = list::table(&mut daemon).await?.rows;
    Sort::default().apply(&mut rows);
    let now = Timestamp::now();
    let system = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let up = (now.as_millis() - info.started_at.as_millis()).max(0) / 60_000;
    let mut text = format!("```\n{}", heading("mcpm report"));
    let mut row = |name: &str, value: &str| text += &format!("{name:<21}: {}\n", tame(value));
    row("Date", &now.to_string());
    row("mcpm (daemon)", &info.version);
    row("mcpm (command)", env!("CARGO_PKG_VERSION"));
    row("daemon pid", &info.pid.to_string());
    row("uid", &rustix::process::geteuid().as_raw().to_string());
    row("uptime", &format!("{up}min"));
    row("home", &info.home);
    row("router", info.listen.as_deref().unwrap_or("none"));
    for warning in &info.warnings {
        row("warning", warning);
    }
    row("arch", std::env::consts::ARCH);
    row(
        "kernel",
        &format!("{} {}", word(system.sysname()), word(system.release())),
    );
    row("cpus", &cpus.to_string());
    text += &heading("mcpm list");
    text += &process_table::render(&rows, now, None, Palette { on: false });
    text += &heading("Daemon log");
    for line in last_lines(&session.home.log()) {
        text += &format!("{}\n", tame(&line));
    }
    text += "```\n";
    session.output.data(text.as_bytes())?;
    Ok(Exit::Fine)
}

fn heading(title: &str) -> String {
    format!(
        "--- {title} {}\n",
        "-".repeat(70usize.saturating_sub(title.len()))
    )
}

fn last_lines(log: &Path) -> Vec<String> {
    let bytes = fs::read(log).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(LOG_BYTES)..];
    let text = String::from_utf8_lossy(end);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LOG_LINES);
    lines[skipped..]
        .iter()
        .map(|&line| line.to_owned())
        .collect()
}
