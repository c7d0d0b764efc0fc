//! `mcpm save` and `mcpm resurrect`: the list of processes, kept over a reboot.

use serde::Deserialize;
use serde_json::json;

use crate::api::List;
use crate::api::processes::Outcome;

use super::actions::report;
use super::exit::Exit;
use super::list;
use super::session::Session;

#[derive(Deserialize)]
struct Saved {
    processes: u64,
}

/// Writes the list.
pub(crate) async fn save(session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let saved: Saved = daemon.post("/api/v1/admin/save", &json!({})).await?;
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

/// Starts what was saved.
pub(crate) async fn resurrect(session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let outcomes: List<Outcome> = daemon.post("/api/v1/admin/resurrect", &json!({})).await?;
    let exit = report(&session.output, "started", &outcomes.items)?;
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}
