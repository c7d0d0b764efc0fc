//! `mcpm reset`, `sendSignal` and `send`: what can be told to processes without ending them.

use crate::api::List;
use crate::api::process_orders::{ResetRequest, SendRequest, SignalRequest};
use crate::api::processes::Outcome;
use serde::Serialize;

use super::actions::{report, told};
use super::exit::Exit;
use super::list;
use super::session::Session;

/// Arguments of `reset`.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// Names, ids, namespaces, `all`, `/regex/`
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

/// Arguments of `sendSignal`.
#[derive(Debug, clap::Args)]
pub(crate) struct SignalArgs {
    /// `SIGUSR2`, `USR2` or a number
    signal: String,
    /// Names, ids, namespaces, `all`, `/regex/`
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub(crate) struct SendArgs {
    /// Name, id, namespace, `all`, `/regex/`
    target: String,
    /// What it gets on its standard input, with a line end after it
    #[arg(allow_hyphen_values = true)]
    line: String,
}

/// Counts restarts from 0 again.
pub(crate) async fn reset(args: ResetArgs, session: &Session) -> anyhow::Result<Exit> {
    let requests = args
        .targets
        .into_iter()
        .map(|target| ResetRequest { target });
    order("reset", "reset", requests, session).await
}

/// Sends a signal to the root process of each, as PM2.
pub(crate) async fn signal(args: SignalArgs, session: &Session) -> anyhow::Result<Exit> {
    let requests = args.targets.into_iter().map(|target| SignalRequest {
        target,
        signal: args.signal.clone(),
    });
    order("signal", "signalled", requests, session).await
}

/// Writes a line to the standard input of each.
pub(crate) async fn send(args: SendArgs, session: &Session) -> anyhow::Result<Exit> {
    let request = SendRequest {
        target: args.target,
        line: args.line,
    };
    order("send", "sent to", [request], session).await
}

async fn order<T: Serialize>(
    verb: &str,
    done: &str,
    requests: impl IntoIterator<Item = T>,
    session: &Session,
) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let path = format!("/api/v1/admin/processes/{verb}");
    let mut exit = Exit::Fine;
    for request in requests {
        let outcomes: Result<List<Outcome>, _> = daemon.post(&path, &request).await;
        let ended = match outcomes {
            Ok(outcomes) => report(&session.output, done, &outcomes.items),
            Err(error) => Err(error.into()),
        };
        exit = exit.and(told(ended, &session.output)?);
    }
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}
