//! `mcpm save` and `mcpm resurrect`: the list of processes, kept over a reboot.

use serde::Deserialize;
use serde_json::json;

use crate::api::saved::{Resurrected, SaveRequest};

use super::actions::report;
use super::exit::Exit;
use super::list;
use super::session::Session;

#[derive(Deserialize)]
struct Saved {
    processes: u64,
}

/// Arguments of `save`.
#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    /// Save the list even when it is empty
    #[arg(short, long)]
    force: bool,
}

/// Writes the list. An empty one is left out with a warning and is no failure, as in PM2: deploy
/// scripts save after they have deleted everything.
pub(crate) async fn save(args: &SaveArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let request = SaveRequest { force: args.force };
    let saved: Saved = match daemon.post("/api/v1/admin/save", &request).await {
        Err(error) if error.is("empty_list") => {
            session
                .output
                .warning(format_args!("{error}; `--force` saves it all the same"));
            return Ok(Exit::Fine);
        }
        answer => answer?,
    };
    let dump = session.home.dump();
    let many = if saved.processes == 1 {
        "process"
    } else {
        "processes"
    };
    session.output.line(format_args!(
        "✓ saved {} {many} to {}",
        saved.processes,
        dump.display()
    ))?;
    Ok(Exit::Fine)
}

/// Empties the saved list.
pub(crate) async fn clear(session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    daemon.delete("/api/v1/admin/save").await?;
    let dump = session.home.dump();
    let done = format_args!("✓ emptied {}", dump.display());
    session.output.line(done)?;
    Ok(Exit::Fine)
}

/// Starts what was saved.
pub(crate) async fn resurrect(session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let outcomes: Resurrected = daemon.post("/api/v1/admin/resurrect", &json!({})).await?;
    if let Some(warning) = &outcomes.warning {
        session.output.warning(warning);
    }
    // What is listed already is left alone.
    let exit = if outcomes.saved == 0 && !outcomes.unreadable.is_empty() {
        Exit::Failed
    } else if outcomes.saved == 0 {
        let warning = "the saved list is empty: `mcpm save` saves what is listed";
        session.output.warning(warning);
        Exit::Fine
    } else if outcomes.items.is_empty() {
        session
            .output
            .line("✓ all that was saved is listed already")?;
        Exit::Fine
    } else {
        report(&session.output, "started", &outcomes.items)?
    };
    for entry in &outcomes.unreadable {
        session.output.failed(entry);
    }
    let exit = exit.and(Exit::fine_if(outcomes.unreadable.is_empty()));
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}
