//! `mcpm stop`, `restart` and `delete`: what to do with processes that are listed already.
//!
//! Targets are names, ids, namespaces, `all`, or an ecosystem file (`-`: one on stdin). They are
//! taken one after the other, and the first that fails ends it, as in PM2.

use std::collections::BTreeSet;

use anyhow::bail;

use crate::api::List;
use crate::api::processes::{Outcome, TargetRequest};
use crate::config::spec::Env;
use crate::control::client::Client;

use super::exit::Exit;
use super::loading::{self, Selection};
use super::render::Output;
use super::session::Session;
use super::{list, start};

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// Names, ids, namespaces, `all`, or an ecosystem file
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Names, ids, namespaces, `all`, or an ecosystem file
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// Names, ids, namespaces, `all`, or an ecosystem file, whose missing apps are started
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Merge the variables of this shell into those of the processes
    #[arg(short = 'a', long)]
    update_env: bool,
    #[command(flatten)]
    selection: Selection,
}

/// Done when every process has ended.
pub(crate) async fn stop(args: StopArgs, session: &Session) -> anyhow::Result<Exit> {
    end(&args.targets, &args.selection, "stop", "stopped", session).await
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
    if args.selection.env.is_some() && !args.targets.iter().any(|t| loading::is_file(t)) {
        bail!("`--env` selects a block of an ecosystem file; name the file");
    }
    let mut daemon = session.daemon().await?;
    let mut exit = Exit::Fine;
    for target in &args.targets {
        exit = if loading::is_file(target) {
            start::restart_file(target, &args.selection, &mut daemon, session).await?
        } else {
            let outcomes = act(&mut daemon, "restart", target, env.clone()).await?;
            report(&session.output, "restarted", &outcomes)?
        };
        if exit == Exit::Failed {
            break;
        }
    }
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}

async fn end(
    targets: &[String],
    selection: &Selection,
    action: &str,
    done: &str,
    session: &Session,
) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let mut exit = Exit::Fine;
    for target in targets {
        let outcomes = if loading::is_file(target) {
            let outcomes = act_on_listed(&mut daemon, action, target, selection).await?;
            if outcomes.is_empty() {
                session
                    .output
                    .warning(format_args!("no app of `{target}` is listed"));
                continue;
            }
            outcomes
        } else {
            act(&mut daemon, action, target, None).await?
        };
        exit = report(&session.output, done, &outcomes)?;
        if exit == Exit::Failed {
            break;
        }
    }
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}

/// The apps of a file that are known here; the others are nobody's loss.
async fn act_on_listed(
    daemon: &mut Client,
    action: &str,
    file: &str,
    selection: &Selection,
) -> anyhow::Result<Vec<Outcome>> {
    let loaded = loading::load(file, selection)?;
    let listed: BTreeSet<_> = list::processes(daemon)
        .await?
        .into_iter()
        .map(|p| p.name)
        .collect();
    let names: BTreeSet<_> = loaded.apps.iter().map(|app| app.name.clone()).collect();
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
    let request = TargetRequest {
        target: target.to_owned(),
        env,
    };
    let path = format!("/api/v1/admin/processes/{action}");
    let outcomes: List<Outcome> = daemon.post(&path, &request).await?;
    Ok(outcomes.items)
}

/// Prints `✓ stopped web (0)` for what was done, and what was not to stderr.
pub(crate) fn report(output: &Output, done: &str, outcomes: &[Outcome]) -> anyhow::Result<Exit> {
    if outcomes.is_empty() {
        output.warning("there is no such process");
        return Ok(Exit::Failed);
    }
    let mut exit = Exit::Fine;
    for Outcome { pm_id, name, error } in outcomes {
        match error {
            None => output.line(format_args!("✓ {done} {name} ({pm_id})"))?,
            Some(error) => {
                output.failed(format_args!("{name} ({pm_id}): {error}"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}
