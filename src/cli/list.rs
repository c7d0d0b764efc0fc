//! `mcpm ls` and `mcpm jlist`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::api::List;
use crate::api::process_table::{ProcessTable, Row};
use crate::api::processes::{Process, Status};
use crate::control::client::{Client, ClientError, segment};
use crate::ids::{AppName, Timestamp};
use crate::supervisor::adopt::NOT_ADOPTED;

use super::exit::Exit;
use super::inspect::inspect;
use super::process_table::Sort;
use super::render::Output;
use super::session::Session;
use super::targets::{for_target, told};
use super::{jlist, next, process_table};

/// Between two tables of `--watch`, as in PM2.
const REDRAW: Duration = Duration::from_millis(900);
/// Of more processes it is not said below the table why they wait.
const WAITING_SHOWN: usize = 10;
/// To the first line of a terminal, and all below it is cleared.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these: names, ids, namespaces, `/regex/`
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Print it again and again, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// A block of lines for each process in place of the table
    #[arg(short, long, conflicts_with = "json")]
    mini_list: bool,
    /// Order: name, namespace, pid, id, cpu, memory, uptime or status [default: name:asc]
    #[arg(long, value_name = "FIELD[:asc|:desc]", value_parser = Sort::parse)]
    sort: Option<Sort>,
}

/// Arguments of `jlist` and `prettylist`.
#[derive(Debug, clap::Args)]
pub(crate) struct JlistArgs {
    /// Print the values of variables whose names look secret, too
    #[arg(long)]
    show_secrets: bool,
    /// What `jlist` prints anyway, for `prettylist`, too
    #[arg(long, hide = true)]
    json: bool,
}

/// Prints the table, or the list as JSON.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    if args.json {
        return as_json(args, &mut daemon, session).await;
    }
    let mut is_first = true;
    loop {
        let exit = show(args, &mut daemon, session).await?;
        // What is unknown from the beginning is a typo; what is gone later may come back.
        if !args.watch || (is_first && exit == Exit::Failed) {
            return Ok(exit);
        }
        is_first = false;
        tokio::time::sleep(REDRAW).await;
    }
}

async fn as_json(args: &Args, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    let output = &session.output;
    let (mut list, exit) = if args.targets.is_empty() {
        (processes(daemon).await?, Exit::Fine)
    } else {
        selected_by_all(daemon, &args.targets, With::Nothing, output).await?
    };
    if let Some(sort) = args.sort {
        list.sort_by(|a, b| sort.compare(&Row::from(a), &Row::from(b)));
    }
    output.json(&List::whole(list))?;
    next::warn(daemon, output).await?;
    Ok(exit)
}

async fn show(args: &Args, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    let output = &session.output;
    let (ProcessTable { mut rows, warnings }, exit) = if args.targets.is_empty() {
        (table(daemon).await?, Exit::Fine)
    } else {
        let (found, exit) = table_of(daemon, &args.targets, output).await?;
        if found.rows.is_empty() {
            return Ok(exit);
        }
        (found, exit)
    };
    args.sort.unwrap_or_default().apply(&mut rows);
    if args.watch && output.is_live() {
        output.text(CLEAR)?;
    }
    if args.mini_list {
        let list = process_table::mini_list(&rows, Timestamp::now());
        output.text(&list)?;
    } else {
        print(&rows, output)?;
        for warning in waiting(&rows).take(WAITING_SHOWN) {
            output.warning(warning);
        }
    }
    for warning in warnings {
        output.warning(warning);
    }
    Ok(exit)
}

/// Prints PM2's JSON, without an end of line, as PM2.
pub(crate) async fn jlist(args: &JlistArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let list = pm2_list(args, &mut daemon, session).await?;
    session.output.data(list.to_string().as_bytes())?;
    Ok(Exit::Fine)
}

/// Prints the same as `jlist` in Node's text form, as PM2.
pub(crate) async fn prettylist(args: &JlistArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let list = pm2_list(args, &mut daemon, session).await?;
    let text = if args.json {
        list.to_string()
    } else {
        inspect(&list) + "\n"
    };
    session.output.data(text.as_bytes())?;
    Ok(Exit::Fine)
}

async fn pm2_list(
    args: &JlistArgs,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Value> {
    let list = selected(daemon, "all", args.show_secrets).await?;
    let home = session.home.path().to_string_lossy();
    Ok(jlist::render(&list, &home))
}

/// All processes.
pub(crate) async fn processes(daemon: &mut Client) -> Result<Vec<Process>, ClientError> {
    let list: List<Process> = daemon.get("/api/v1/admin/processes").await?;
    Ok(list.items)
}

/// What is asked for beside what a list has anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    Nothing,
    /// Values of variables whose names look secret.
    Secrets,
    /// The memory of whole groups, of those that have a limit.
    GroupMemory,
}

/// The processes that a target means.
///
/// # Errors
/// When it means none.
pub(crate) async fn selected(
    daemon: &mut Client,
    target: &str,
    secrets: bool,
) -> Result<Vec<Process>, ClientError> {
    let with = if secrets {
        With::Secrets
    } else {
        With::Nothing
    };
    selected_with(daemon, target, with).await
}

async fn selected_with(
    daemon: &mut Client,
    target: &str,
    with: With,
) -> Result<Vec<Process>, ClientError> {
    let path = |word: &str| {
        let also = match with {
            With::Nothing => "",
            With::Secrets => "&secrets=true",
            With::GroupMemory => "&groups=true",
        };
        format!("/api/v1/admin/processes?target={}{also}", segment(word))
    };
    let ask = async |word: &str| daemon.get(&path(word)).await;
    let list: List<Process> = for_target(target, ask).await?;
    Ok(list.items)
}

/// The processes that several targets mean, each once; what a target is refused for is told.
pub(crate) async fn selected_by_all(
    daemon: &mut Client,
    targets: &[String],
    with: With,
    output: &Output,
) -> anyhow::Result<(Vec<Process>, Exit)> {
    let mut found: Vec<Process> = Vec::new();
    let mut exit = Exit::Fine;
    for target in targets {
        match selected_with(daemon, target, with).await {
            Ok(processes) => {
                for process in processes {
                    if found.iter().all(|known| known.pm_id != process.pm_id) {
                        found.push(process);
                    }
                }
            }
            Err(error) => exit = exit.and(told(Err(error.into()), output)?),
        }
    }
    Ok((found, exit))
}

/// Rows of all processes, by id.
pub(crate) async fn table(daemon: &mut Client) -> Result<ProcessTable, ClientError> {
    daemon.get("/api/v1/admin/processes/table").await
}

/// Rows of the processes that several targets mean, each once; what a target is refused for is told.
async fn table_of(
    daemon: &mut Client,
    targets: &[String],
    output: &Output,
) -> anyhow::Result<(ProcessTable, Exit)> {
    let path = |word: &str| format!("/api/v1/admin/processes/table?target={}", segment(word));
    let mut table = ProcessTable {
        rows: Vec::new(),
        warnings: Vec::new(),
    };
    let mut exit = Exit::Fine;
    for target in targets {
        let ask = async |word: &str| daemon.get(&path(word)).await;
        let found: ProcessTable = match for_target(target, ask).await {
            Ok(found) => found,
            Err(error) => {
                exit = exit.and(told(Err(error.into()), output)?);
                continue;
            }
        };
        for row in found.rows {
            if table.rows.iter().all(|known| known.pm_id != row.pm_id) {
                table.rows.push(row);
            }
        }
        table.warnings = found.warnings;
    }
    Ok((table, exit))
}

/// Asks for the processes and prints their table.
pub(crate) async fn print_table(daemon: &mut Client, output: &Output) -> anyhow::Result<()> {
    let mut rows = table(daemon).await?.rows;
    Sort::default().apply(&mut rows);
    print(&rows, output)?;
    Ok(())
}

/// Prints the table of these, in this order.
pub(crate) fn print(rows: &[Row], output: &Output) -> std::io::Result<()> {
    let columns = output.size().map(|size| size.columns);
    let table = process_table::render(rows, Timestamp::now(), columns, output.palette());
    output.text(&table)?;
    for warning in spare(rows) {
        output.warning(warning);
    }
    Ok(())
}

/// Why some are to be started and are not: a sentence for each.
fn waiting(rows: &[Row]) -> impl Iterator<Item = String> {
    rows.iter().filter_map(|row| {
        let why = row.reason.as_deref()?;
        let (name, id) = (&row.name, row.pm_id);
        match row.status {
            Status::WaitingRestart => Some(format!("{name} ({id}) waits: {why}")),
            _ if why.starts_with(NOT_ADOPTED) => Some(format!("{name} ({id}) is {why}")),
            _ => None,
        }
    })
}

/// Why replicas are stopped that nobody has stopped: one sentence for each app.
fn spare(rows: &[Row]) -> Vec<String> {
    let mut apps: BTreeMap<&AppName, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.unshared.is_some()) {
        apps.entry(&row.name).or_default().push(row);
    }
    let sentence = |(name, spare): (&AppName, Vec<&Row>)| {
        let ids: Vec<String> = spare.iter().map(|row| row.pm_id.to_string()).collect();
        let why = spare.first().and_then(|row| row.reason.as_deref());
        format!(
            "{name} ({}) stopped: {}",
            ids.join(", "),
            why.unwrap_or("its port is taken")
        )
    };
    apps.into_iter().map(sentence).collect()
}
