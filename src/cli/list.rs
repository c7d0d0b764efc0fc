//! `mcpm ls` and `mcpm jlist`.

use crate::api::List;
use crate::api::processes::Process;
use crate::control::client::{Client, ClientError, segment};
use crate::ids::Timestamp;

use super::actions::{script_behind, told};
use super::exit::Exit;
use super::render::Output;
use super::session::Session;
use super::{jlist, process_table};

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `jlist`.
#[derive(Debug, clap::Args)]
pub(crate) struct JlistArgs {
    /// Print the values of variables whose names look secret, too
    #[arg(long)]
    show_secrets: bool,
}

/// Prints the table; an empty one is fine.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    if args.json {
        let list: List<Process> = daemon.get("/api/v1/admin/processes").await?;
        session.output.json(&list)?;
    } else {
        print_table(&mut daemon, &session.output).await?;
    }
    Ok(Exit::Fine)
}

/// Prints PM2's JSON, without an end of line, as PM2.
pub(crate) async fn jlist(args: &JlistArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let path = if args.show_secrets {
        "/api/v1/admin/processes?secrets=true"
    } else {
        "/api/v1/admin/processes"
    };
    let list: List<Process> = daemon.get(path).await?;
    let home = session.home.path().to_string_lossy();
    session
        .output
        .data(jlist::render(&list.items, &home).to_string().as_bytes())?;
    Ok(Exit::Fine)
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
    let processes = processes(daemon).await?;
    let columns = output.size().map(|size| size.columns);
    let table = process_table::render(&processes, Timestamp::now(), columns, output.palette());
    output.text(&table)?;
    Ok(())
}
