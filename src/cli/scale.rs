//! `mcpm scale`: more or fewer processes of an app.

use crate::api::List;
use crate::api::outcomes::Outcome;
use crate::api::process_orders::ScaleRequest;

use super::actions::report;
use super::exit::Exit;
use super::list;
use super::session::Session;
use super::targets::for_target;

/// Arguments of `scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, namespace, `all` or `/regex/`; each app that it means is scaled
    target: String,
    /// So many processes, or `+N` more, or `-N` fewer
    #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
    count: String,
}

/// Done when new processes run and surplus ones are gone. Nothing to do is a failure, as in PM2.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let before = list::selected(&mut daemon, &args.target, false).await?;
    let request = |word: &str| ScaleRequest {
        target: word.to_owned(),
        count: args.count.clone(),
    };
    let path = "/api/v1/admin/processes/scale";
    let ask = async |word: &str| daemon.post(path, &request(word)).await;
    let outcomes: List<Outcome> = for_target(&args.target, ask).await?;
    let output = &session.output;
    if outcomes.items.is_empty() {
        output.failed(format_args!(
            "nothing to do: `{}` has {} of them already",
            args.target,
            before.len()
        ));
        return Ok(Exit::Failed);
    }
    let is_old = |outcome: &Outcome| before.iter().any(|p| p.pm_id == outcome.pm_id);
    let (old, new): (Vec<_>, Vec<_>) = outcomes.items.into_iter().partition(is_old);
    let mut exit = Exit::Fine;
    for (done, outcomes) in [("started", new), ("deleted", old)] {
        if !outcomes.is_empty() {
            exit = exit.and(report(output, done, &outcomes)?);
        }
    }
    list::print_table(&mut daemon, output).await?;
    Ok(exit)
}
