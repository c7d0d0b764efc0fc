//! `mcpm kill`: ends every process and the daemon, or with `--keep` the daemon only.

use crate::api::daemon::StopRequest;
use crate::control::client::ClientError;

use super::exit::Exit;
use super::session::Session;

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End the daemon only: processes go on, and the next daemon takes them over
    #[arg(long)]
    keep: bool,
}

/// Returns when the daemon's process is gone. No daemon is what was wanted.
pub(crate) async fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let output = &session.output;
    let mut daemon = match session.running_daemon().await {
        Err(ClientError::NoDaemon { .. }) => {
            let home = session.home.path().display();
            output.line(format_args!("no daemon runs in {home}"))?;
            return Ok(Exit::Fine);
        }
        answer => answer?,
    };
    daemon.stop(&StopRequest { keep: args.keep }).await?;
    output.line(if args.keep {
        "✓ daemon ended, processes go on"
    } else {
        "✓ processes stopped, daemon ended"
    })?;
    Ok(Exit::Fine)
}
