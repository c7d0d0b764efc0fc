//! `mcpm update`: another mcpm takes over from the running daemon, and no process notices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::api::daemon::{UpdateRequest, Updated};
use crate::api::process_table::ProcessTable;
use crate::config::units;
use crate::control::client::{Client, ClientError};
use crate::ids::PmId;

use super::daemon_start;
use super::exit::Exit;
use super::session::Session;

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The mcpm that takes over [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// How long the old daemon finishes what clients have begun, such as `30s` [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    drain: Option<Duration>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    units::duration(text).ok_or("write a time such as `30s` or `10m`")
}

/// Returns when the new daemon answers.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let output = &session.output;
    let program = program(args.program.as_deref())?;
    // A daemon of another version is what this is for.
    let asked = Client::connect(&session.home.socket(), Box::new(|_| ())).await;
    let mut daemon = match asked {
        Err(ClientError::NoDaemon { .. }) => {
            let home = session.home.path().display();
            output.line(format_args!(
                "no daemon runs in {home}; the next command starts this version"
            ))?;
            if args.json {
                output.json(&None::<Updated>)?;
            }
            return Ok(Exit::Fine);
        }
        answer => answer?,
    };
    let before = pids(&mut daemon).await?;
    let request = UpdateRequest {
        program: program.display().to_string(),
        drain_seconds: args.drain.map(|drain| drain.as_secs()),
    };
    let updated: Updated = daemon.post("/api/v1/admin/daemon/update", &request).await?;
    // It takes commands once it has adopted all.
    let mut daemon = daemon_start::connect(&session.home, || Box::new(|_| ())).await?;
    let after = pids(&mut daemon).await?;
    if args.json {
        output.json(&updated)?;
        return Ok(Exit::Fine);
    }
    let Updated {
        from_pid,
        from_version,
        pid,
        version,
    } = updated;
    output.line(format_args!(
        "✓ mcpm {version} (pid {pid}) has taken over from {from_version} (pid {from_pid}); {}",
        went_on(&before, &after)
    ))?;
    Ok(Exit::Fine)
}

/// The program as the daemon can find it.
fn program(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    match asked {
        Some(path) => path
            .canonicalize()
            .with_context(|| format!("cannot use `{}`", path.display())),
        None => std::env::current_exe().context("cannot find this program's own file"),
    }
}

/// The processes that run.
async fn pids(daemon: &mut Client) -> Result<BTreeMap<PmId, u32>, ClientError> {
    let table: ProcessTable = daemon.get("/api/v1/admin/processes/table").await?;
    let running = table.rows.iter().filter(|row| row.pid > 0);
    Ok(running.map(|row| (row.pm_id, row.pid)).collect())
}

/// What has become of them. Pure.
fn went_on(before: &BTreeMap<PmId, u32>, after: &BTreeMap<PmId, u32>) -> String {
    let same = before.iter().filter(|(id, pid)| after.get(id) == Some(pid));
    let same = same.count();
    let plural = if same == 1 { "process" } else { "processes" };
    match before.len() - same {
        0 => format!("{same} {plural} went on"),
        others => format!("{same} {plural} went on, {others} ended or restarted meanwhile"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_on_is_counted() {
        let all = BTreeMap::from([(PmId(0), 10), (PmId(1), 11)]);
        let one = BTreeMap::from([(PmId(0), 10), (PmId(1), 12), (PmId(2), 13)]);
        assert_eq!(went_on(&all, &all), "2 processes went on");
        assert_eq!(
            went_on(&all, &one),
            "1 process went on, 1 ended or restarted meanwhile"
        );
        assert_eq!(went_on(&BTreeMap::new(), &one), "0 processes went on");
    }
}
