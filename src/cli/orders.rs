//! `mcpm reset`, `sendSignal` and `send`: what can be told to processes without ending them.

use crate::api::List;
use crate::api::outcomes::Outcome;
use crate::api::process_orders::{ResetRequest, SendRequest, SignalRequest};
use serde::Serialize;

use super::actions::report;
use super::exit::Exit;
use super::list;
use super::session::Session;
use super::targets::{Tally, for_target};

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
    let request = |target| ResetRequest { target };
    order("reset", "reset", &args.targets, request, session).await
}

/// Sends a signal to the root process of each, as PM2.
pub(crate) async fn signal(args: SignalArgs, session: &Session) -> anyhow::Result<Exit> {
    let request = |target| SignalRequest {
        target,
        signal: args.signal.clone(),
    };
    order("signal", "signalled", &args.targets, request, session).await
}

/// Writes a line to the standard input of each.
pub(crate) async fn send(args: SendArgs, session: &Session) -> anyhow::Result<Exit> {
    let request = |target| SendRequest {
        target,
        line: args.line.clone(),
    };
    order("send", "sent to", &[args.target], request, session).await
}

async fn order<T: Serialize>(
    verb: &str,
    done: &str,
    targets: &[String],
    request: impl Fn(String) -> T,
    session: &Session,
) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let path = format!("/api/v1/admin/processes/{verb}");
    let mut tally = Tally::new(&session.output);
    for target in targets {
        let ask = async |word: &str| daemon.post(&path, &request(word.to_owned())).await;
        let outcomes: Result<List<Outcome>, _> = for_target(target, ask).await;
        let ended = match outcomes {
            Ok(outcomes) => report(&session.output, done, &outcomes.items),
            Err(error) => Err(error.into()),
        };
        tally.add(ended)?;
    }
    if !tally.is_nothing_done() {
        list::print_table(&mut daemon, &session.output).await?;
    }
    Ok(tally.exit())
}
