//! `mcpm ls` and `mcpm jlist`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::List;
use crate::api::processes::Process;
use crate::control::client::{Client, ClientError, segment};
use crate::ids::{AppName, Timestamp};

use super::actions::{script_behind, told};
use super::exit::Exit;
use super::inspect::inspect;
use super::process_table::Sort;
use super::render::Output;
use super::session::Session;
use super::{jlist, next, process_table};

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
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
}

/// Prints the table; an empty one is fine.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let processes = processes(&mut daemon).await?;
    let sort = args.sort.unwrap_or_default();
    if args.json {
        let list = match args.sort {
            Some(sort) => sort.apply(&processes).into_iter().cloned().collect(),
            None => processes,
        };
        session.output.json(&List::whole(list))?;
    } else if args.mini_list {
        let list = process_table::mini_list(&sort.apply(&processes), Timestamp::now());
        session.output.text(&list)?;
    } else {
        print(&processes, sort, &session.output)?;
    }
    next::warn(&mut daemon, &session.output).await?;
    Ok(Exit::Fine)
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
    session.output.data((inspect(&list) + "\n").as_bytes())?;
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

/// The processes that a target means.
///
/// # Errors
/// When it means none.
pub(crate) async fn selected(
    daemon: &mut Client,
    target: &str,
    secrets: bool,
) -> Result<Vec<Process>, ClientError> {
    let path = |word: &str| {
        let word = segment(word);
        format!("/api/v1/admin/processes?target={word}&secrets={secrets}")
    };
    let mut answer: Result<List<Process>, _> = daemon.get(&path(target)).await;
    if let Some(script) = script_behind(target, answer.as_ref().err()) {
        answer = match daemon.get(&path(&script)).await {
            Err(again) if again.is("unknown_process") => answer,
            again => again,
        };
    }
    Ok(answer?.items)
}

/// The processes that several targets mean, each once; what a target is refused for is told.
pub(crate) async fn selected_by_all(
    daemon: &mut Client,
    targets: &[String],
    secrets: bool,
    output: &Output,
) -> anyhow::Result<(Vec<Process>, Exit)> {
    let mut found: Vec<Process> = Vec::new();
    let mut exit = Exit::Fine;
    for target in targets {
        match selected(daemon, target, secrets).await {
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

/// Asks for the processes and prints their table.
pub(crate) async fn print_table(daemon: &mut Client, output: &Output) -> anyhow::Result<()> {
    print(&processes(daemon).await?, Sort::default(), output)?;
    Ok(())
}

/// Prints the table of these.
pub(crate) fn print(processes: &[Process], sort: Sort, output: &Output) -> std::io::Result<()> {
    let sorted = sort.apply(processes);
    let columns = output.size().map(|size| size.columns);
    let table = process_table::render(&sorted, Timestamp::now(), columns, output.palette());
    output.text(&table)?;
    for warning in spare(processes) {
        output.warning(warning);
    }
    Ok(())
}

/// Why replicas are stopped that nobody has stopped: one sentence for each app.
fn spare(processes: &[Process]) -> Vec<String> {
    let mut apps: BTreeMap<&AppName, Vec<&Process>> = BTreeMap::new();
    for process in processes.iter().filter(|p| p.unshared.is_some()) {
        apps.entry(&process.name).or_default().push(process);
    }
    let sentence = |(name, spare): (&AppName, Vec<&Process>)| {
        let ids: Vec<String> = spare.iter().map(|p| p.pm_id.to_string()).collect();
        let why = spare.first().and_then(|p| p.reason.as_deref());
        format!(
            "{name} ({}) stopped: {}",
            ids.join(", "),
            why.unwrap_or("its port is taken")
        )
    };
    apps.into_iter().map(sentence).collect()
}
