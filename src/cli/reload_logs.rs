//! `mcpm reloadLogs`: opens all log files anew, after an outside logrotate has moved them.

use serde_json::json;

use super::exit::Exit;
use super::session::Session;

/// Done when what comes next goes to new files.
pub(crate) async fn run(session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let nothing = json!({});
    let answer = daemon.post("/api/v1/admin/logs/reopen", &nothing);
    let _: Option<serde::de::IgnoredAny> = answer.await?;
    session.output.line("✓ opened all log files anew")?;
    Ok(Exit::Fine)
}
