//! `mcpm stop`, `restart` and `delete`: what to do with processes that are listed already.
//!
//! Targets are names, ids, namespaces, `all`, `/regex/`, scripts, or an ecosystem file (`-`: one on
//! stdin). All are done, one after the other; one that fails is told, and fails the command.

use std::collections::BTreeSet;

use anyhow::bail;

use crate::api::List;
use crate::api::outcomes::{Done, Outcome};
use crate::api::process_orders::UnwatchRequest;
use crate::api::processes::TargetRequest;
use crate::config::spec::Env;
use crate::control::client::Client;
use crate::ids::AppName;

use super::change::Change;
use super::exit::Exit;
use super::loading::{self, Selection};
use super::render::Output;
use super::session::Session;
use super::targets::{Tally, for_target};
use super::{list, logs, start};

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// Names, ids, namespaces, `all`, `/regex/`, or an ecosystem file
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// And restart them for changed files no longer
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    selection: Selection,
}

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Names, ids, namespaces, `all`, `/regex/`, or an ecosystem file
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// Names, ids, namespaces, `all`, `/regex/`, or an ecosystem file, whose missing apps are started
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Merge the variables of this shell into those of the processes
    #[arg(short = 'a', long)]
    update_env: bool,
    /// Show what they write when they run again
    #[arg(long)]
    attach: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    change: Change,
}

/// Done when every process has ended.
pub(crate) async fn stop(args: StopArgs, session: &Session) -> anyhow::Result<Exit> {
    let exit = end(&args.targets, &args.selection, "stop", "stopped", session).await?;
    if args.watch && exit == Exit::Fine {
        let mut daemon = session.daemon().await?;
        for target in args
            .targets
            .into_iter()
            .filter(|target| !loading::is_file(target))
        {
            let path = "/api/v1/admin/processes/unwatch";
            let _: List<Outcome> = daemon.post(path, &UnwatchRequest { target }).await?;
        }
    }
    Ok(exit)
}

/// Done when every process has ended and is forgotten.
pub(crate) async fn delete(args: DeleteArgs, session: &Session) -> anyhow::Result<Exit> {
    end(&args.targets, &args.selection, "delete", "deleted", session).await
}

/// Done when every process runs again; not when a service is ready again.
pub(crate) async fn restart(args: RestartArgs, session: &Session) -> anyhow::Result<Exit> {
    let env = if args.update_env {
        Some(loading::shell_env()?)
    } else {
        None
    };
    args.selection.refuse_without_file(&args.targets)?;
    let mut daemon = session.daemon().await?;
    let is_file = |target: &String| loading::is_file(target);
    if args.change.is_given() && args.targets.iter().any(is_file) {
        session.output.warning(start::NOT_WITH_FILES);
    }
    if !args.targets.iter().all(is_file) {
        args.change.tell_of_instances(&session.output);
    }
    let mut tally = Tally::new(&session.output);
    for target in &args.targets {
        let done = if loading::is_file(target) {
            start::restart_file(target, &args.selection, &mut daemon, session).await
        } else {
            restarted(target, &args.change, env.clone(), &mut daemon)
                .await
                .and_then(|outcomes| report(&session.output, "restarted", &outcomes))
        };
        tally.add(done)?;
    }
    if tally.is_nothing_done() {
        return Ok(tally.exit());
    }
    list::print_table(&mut daemon, &session.output).await?;
    let mut exit = tally.exit();
    if args.attach {
        exit = exit.and(logs::attach(args.targets, session).await?);
    }
    Ok(exit)
}

async fn restarted(
    target: &str,
    change: &Change,
    env: Option<Env>,
    daemon: &mut Client,
) -> anyhow::Result<Vec<Outcome>> {
    if change.is_given() {
        change.restart(target, env.as_ref(), daemon).await
    } else {
        act(daemon, "restart", target, env).await
    }
}

async fn end(
    targets: &[String],
    selection: &Selection,
    action: &str,
    done: &str,
    session: &Session,
) -> anyhow::Result<Exit> {
    selection.refuse_without_file(targets)?;
    let mut daemon = session.daemon().await?;
    let mut tally = Tally::new(&session.output);
    for target in targets {
        let outcomes = if loading::is_file(target) {
            act_on_listed(&mut daemon, action, target, selection).await
        } else {
            act(&mut daemon, action, target, None).await
        };
        let ended = match outcomes {
            Ok(outcomes) if outcomes.is_empty() && loading::is_file(target) => {
                let warning = format_args!("no app of `{target}` is listed");
                session.output.warning(warning);
                Ok(Exit::Fine)
            }
            Ok(outcomes) => report(&session.output, done, &outcomes),
            Err(error) => Err(error),
        };
        tally.add(ended)?;
    }
    if !tally.is_nothing_done() {
        list::print_table(&mut daemon, &session.output).await?;
    }
    Ok(tally.exit())
}

/// The apps of a file that are known here; the others are nobody's loss.
async fn act_on_listed(
    daemon: &mut Client,
    action: &str,
    file: &str,
    selection: &Selection,
) -> anyhow::Result<Vec<Outcome>> {
    let loaded = loading::load(file, selection)?;
    if loaded.apps.is_empty() && loaded.failed.is_empty() {
        bail!("there is nothing to {action}: the file has no app, or none that `--only` names");
    }
    let rows = list::table(daemon).await?.rows;
    let listed: BTreeSet<_> = rows.into_iter().map(|row| row.name).collect();
    // What can't be started can be ended all the same.
    let failed = loaded.failed.iter();
    let failed = failed.filter_map(|failure| AppName::parse(&failure.name).ok());
    let apps = loaded.apps.iter().map(|app| app.name.clone());
    let names: BTreeSet<_> = apps.chain(failed).collect();
    let mut outcomes = Vec::new();
    for name in names.intersection(&listed) {
        outcomes.extend(act(daemon, action, name.as_str(), None).await?);
    }
    Ok(outcomes)
}

/// Asks the daemon to do it to all processes of a target.
pub(crate) async fn act(
    daemon: &mut Client,
    action: &str,
    target: &str,
    env: Option<Env>,
) -> anyhow::Result<Vec<Outcome>> {
    let path = format!("/api/v1/admin/processes/{action}");
    let request = |target: &str| TargetRequest {
        target: target.to_owned(),
        env: env.clone(),
    };
    let ask = async |word: &str| daemon.post(&path, &request(word)).await;
    let outcomes: List<Outcome> = for_target(target, ask).await?;
    Ok(outcomes.items)
}

/// Prints `✓ stopped web (0)` for what was done, and what was not to stderr.
pub(crate) fn report(output: &Output, done: &str, outcomes: &[Outcome]) -> anyhow::Result<Exit> {
    if outcomes.is_empty() {
        output.warning("there is no such process");
        return Ok(Exit::Failed);
    }
    let mut exit = Exit::Fine;
    for outcome in outcomes {
        let Outcome { pm_id, name, .. } = outcome;
        match (&outcome.error, outcome.done) {
            (None, Done::AsAsked) => output.line(format_args!("✓ {done} {name} ({pm_id})"))?,
            (None, Done::Restarted) => output.line(format_args!("✓ restarted {name} ({pm_id})"))?,
            (None, Done::Registered) => {
                output.line(format_args!("✓ registered {name} ({pm_id}), not started"))?;
            }
            (Some(error), _) => {
                output.failed(format_args!("{name} ({pm_id}): {error}"));
                exit = Exit::Failed;
            }
        }
        if let Some(note) = &outcome.note {
            output.warning(format_args!("{name} ({pm_id}): {note}"));
        }
    }
    Ok(exit)
}
