//! `mcpm flush`: empties log files.

use serde_json::{Value, json};

use crate::control::client::{Client, ClientError};

use super::exit::Exit;
use super::session::Session;
use super::targets::{for_target, told};

/// Arguments of `flush`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, ids, namespaces, `all`, `/regex/`; without any also the daemon's own log
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Done when the files are empty.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    if args.targets.is_empty() {
        empty(&mut daemon, json!({})).await?;
        let done = "✓ emptied the logs of all processes and of the daemon";
        session.output.line(done)?;
        return Ok(Exit::Fine);
    }
    let mut exit = Exit::Fine;
    for target in &args.targets {
        let ask = async |word: &str| empty(&mut daemon, json!({ "target": word })).await;
        let emptied = match for_target(target, ask).await {
            Ok(()) => {
                let done = format_args!("✓ emptied the logs of {target}");
                session.output.line(done)?;
                Ok(Exit::Fine)
            }
            Err(error) => Err(error.into()),
        };
        exit = exit.and(told(emptied, &session.output)?);
    }
    Ok(exit)
}

async fn empty(daemon: &mut Client, body: Value) -> Result<(), ClientError> {
    let serde::de::IgnoredAny = daemon.post("/api/v1/admin/flush", &body).await?;
    Ok(())
}
