//! `mcpm ls` and `mcpm jlist`.

use crate::api::List;
use crate::api::processes::Process;
use crate::control::client::{Client, ClientError};
use crate::ids::Timestamp;

use super::exit::Exit;
use super::render::Output;
use super::session::Session;
use super::{jlist, next, process_table};

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
    next::warn(&mut daemon, &session.output).await?;
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

/// Asks for the processes and prints their table.
pub(crate) async fn print_table(daemon: &mut Client, output: &Output) -> anyhow::Result<()> {
    print(&processes(daemon).await?, output)?;
    Ok(())
}

/// Prints the table of these.
pub(crate) fn print(processes: &[Process], output: &Output) -> std::io::Result<()> {
    let columns = output.size().map(|size| size.columns);
    let table = process_table::render(processes, Timestamp::now(), columns, output.palette());
    output.text(&table)
}
