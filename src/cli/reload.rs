//! `mcpm reload` and the `startOr…` verbs: restart one process after another.
//!
//! The next one is restarted only when the one before is up (a service: ready). The first that does
//! not come back ends it, and the others go on as they are. The process itself is restarted: a
//! second one that takes over while the first still runs needs a port that both can listen on.

use tokio::time::Instant;

use crate::api::List;
use crate::api::process_orders::{ReplaceRequest, ScaleRequest};
use crate::api::processes::{Outcome, Process, StartRequest};
use crate::config::Loaded;
use crate::config::spec::{AppSpec, Env, SPEC_VERSION};
use crate::control::client::Client;
use crate::ids::{AppName, PmId};

use super::actions::{self, report, told};
use super::change::Change;
use super::exit::Exit;
use super::loading::{self, Selection};
use super::session::Session;
use super::{list, live, start};

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, ids, namespaces, `all`, `/regex/`, or an ecosystem file, whose missing apps are started
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Merge the variables of this shell into those of the processes
    #[arg(short = 'a', long)]
    update_env: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    change: Change,
}

/// Arguments of the `startOr…` verbs.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// Ecosystem file, or `-` for one on stdin
    file: String,
    /// As always: a file's apps get the variables of this shell
    #[arg(short = 'a', long, hide = true)]
    update_env: bool,
    #[command(flatten)]
    selection: Selection,
}

/// One process to restart.
struct Turn {
    id: PmId,
    /// `web (0)`.
    label: String,
    /// What it is to be made from, when that may be new.
    spec: Option<AppSpec>,
    /// Its name so far.
    name: Option<AppName>,
}

/// Fine when every process is back. No table, as in PM2.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let env = args.update_env.then(loading::shell_env).transpose()?;
    loading::refuse_env_without_file(&args.selection, &args.targets)?;
    let mut daemon = session.daemon().await?;
    let mut exit = Exit::Fine;
    for target in &args.targets {
        let done = if loading::is_file(target) {
            file(target, &args.selection, &mut daemon, session).await
        } else {
            let change = &args.change;
            listed(target, change, env.clone(), &mut daemon, session).await
        };
        exit = exit.and(told(done, &session.output)?);
    }
    Ok(exit)
}

/// `startOrReload FILE`, `startOrGracefulReload FILE`: the same, and the table.
pub(crate) async fn start_or_reload(args: FileArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let exit = file(&args.file, &args.selection, &mut daemon, session).await?;
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}

/// `startOrRestart FILE`: all at once.
pub(crate) async fn start_or_restart(args: FileArgs, session: &Session) -> anyhow::Result<Exit> {
    let mut daemon = session.daemon().await?;
    let exit = start::restart_file(&args.file, &args.selection, &mut daemon, session).await?;
    list::print_table(&mut daemon, &session.output).await?;
    Ok(exit)
}

async fn listed(
    target: &str,
    change: &Change,
    env: Option<Env>,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let found = list::selected(daemon, target, true).await?;
    if found.is_empty() {
        return report(&session.output, "reloaded", &[]);
    }
    let mut turns = Vec::new();
    for process in &found {
        let spec = change.of(&process.spec, env.as_ref())?;
        turns.push(turn(process, spec.as_ref()));
    }
    in_turn(&turns, env, daemon, session).await
}

async fn file(
    target: &str,
    selection: &Selection,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let loaded = loading::load(target, selection)?;
    let listed = list::processes(daemon).await?;
    let is_listed = |app: &AppSpec| listed.iter().any(|process| process.name == app.name);
    let (known, missing): (Vec<AppSpec>, Vec<AppSpec>) =
        loaded.apps.into_iter().partition(is_listed);
    // Settings, what is missing, and what was wrong: as `start`.
    let rest = Loaded {
        apps: missing,
        settings: loaded.settings.clone(),
        ..loaded
    };
    let mut exit = Exit::Fine;
    if known.is_empty() || !rest.apps.is_empty() || !rest.failed.is_empty() {
        exit = start::start_loaded(rest, daemon, session).await?;
    } else {
        start::tell(&rest, &session.output);
        take_settings(rest, daemon).await?;
    }
    for app in known {
        if exit == Exit::Failed {
            break;
        }
        exit = reload_app(&app, &listed, daemon, session).await?;
    }
    Ok(exit)
}

/// The `mcpm` block counts, too, when every app is known.
async fn take_settings(loaded: Loaded, daemon: &mut Client) -> anyhow::Result<()> {
    let request = StartRequest {
        force: false,
        spec_version: SPEC_VERSION,
        apps: Vec::new(),
        settings: loaded.settings,
        settings_file: loaded.file,
        environment: loading::daemon_variables(),
    };
    let path = "/api/v1/admin/processes";
    let _: List<Outcome> = daemon.post(path, &request).await?;
    Ok(())
}

async fn reload_app(
    app: &AppSpec,
    listed: &[Process],
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let processes: Vec<&Process> = listed.iter().filter(|p| p.name == app.name).collect();
    let wanted = usize::try_from(app.instances).unwrap_or(usize::MAX);
    let staying = processes.iter().take(wanted);
    let turns: Vec<Turn> = staying.map(|process| turn(process, Some(app))).collect();
    let exit = in_turn(&turns, None, daemon, session).await?;
    if exit == Exit::Failed || processes.len() == wanted {
        return Ok(exit);
    }
    let request = ScaleRequest {
        target: app.name.to_string(),
        count: app.instances.to_string(),
    };
    let path = "/api/v1/admin/processes/scale";
    let outcomes: List<Outcome> = daemon.post(path, &request).await?;
    report(&session.output, "scaled", &outcomes.items)
}

fn turn(process: &Process, spec: Option<&AppSpec>) -> Turn {
    Turn {
        id: process.pm_id,
        label: format!("{} ({})", process.name, process.pm_id),
        spec: spec.cloned(),
        name: Some(process.name.clone()),
    }
}

/// One after the other, until one does not come back.
async fn in_turn(
    turns: &[Turn],
    env: Option<Env>,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    for (at, turn) in turns.iter().enumerate() {
        if one(turn, env.clone(), daemon, session).await? == Exit::Fine {
            continue;
        }
        let rest: Vec<&str> = turns[at + 1..].iter().map(|t| t.label.as_str()).collect();
        if !rest.is_empty() {
            session.output.failed(format_args!(
                "the reload ends here, since {} is not back; not restarted: {}",
                turn.label,
                rest.join(", ")
            ));
        }
        return Ok(Exit::Failed);
    }
    Ok(Exit::Fine)
}

async fn one(
    turn: &Turn,
    env: Option<Env>,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let outcomes = match &turn.spec {
        None => actions::act(daemon, "restart", &turn.id.to_string(), env).await?,
        Some(spec) => {
            let request = ReplaceRequest {
                renamed_from: turn.name.clone(),
                spec_version: SPEC_VERSION,
                pm_id: turn.id,
                spec: spec.clone(),
            };
            let path = "/api/v1/admin/processes/replace";
            let outcomes: List<Outcome> = daemon.post(path, &request).await?;
            outcomes.items
        }
    };
    let refused: Vec<Outcome> = outcomes.into_iter().filter(|o| o.error.is_some()).collect();
    if !refused.is_empty() {
        return report(&session.output, "reloaded", &refused);
    }
    let path = "/api/v1/admin/processes/watch";
    let lists = daemon.stream::<List<Process>>(path).await?;
    let progress = live::follow(&[turn.id], lists, began, None, &session.output).await?;
    Ok(Exit::fine_if(!progress.has_failed()))
}
