//! `mcpm flush`: empties log files.

use serde_json::json;

use super::exit::Exit;
use super::session::Session;

/// Arguments of `flush`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, namespace or `all`; without it also the daemon's own log
    target: Option<String>,
}

/// Done when the files are empty.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let body = args
        .target
        .as_ref()
        .map_or_else(|| json!({}), |target| json!({"target": target}));
    let _: serde::de::IgnoredAny = daemon.post("/api/v1/admin/flush", &body).await?;
    let what = args
        .target
        .as_deref()
        .unwrap_or("all processes and of the daemon");
    session
        .output
        .line(format_args!("✓ emptied the logs of {what}"))?;
    Ok(Exit::Fine)
}
