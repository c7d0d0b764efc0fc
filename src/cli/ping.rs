//! `mcpm ping`: is the daemon there? Starts it when not, as PM2 does.

use crate::api::daemon::DaemonInfo;

use super::exit::Exit;
use super::session::Session;

/// Arguments of `ping`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Prints PM2's answer, which scripts look for.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let _: DaemonInfo = daemon.get("/api/v1/admin/daemon").await?;
    if args.json {
        session.output.json(&serde_json::json!({ "msg": "pong" }))?;
    } else {
        session.output.data(b"{ msg: 'pong' }\n")?;
    }
    Ok(Exit::Fine)
}
