//! `mcpm reload` and the `startOr…` verbs: one process after another gets a new run.
//!
//! The daemon starts the new run beside the old one, and ends the old one when the new one has proven
//! itself; a process that has a port is restarted in place. The next one follows only when the one
//! before is there (a service: ready). The first that is not ends it, and the others go on as they are.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tokio::time::Instant;

use crate::api::List;
use crate::api::outcomes::Outcome;
use crate::api::process_orders::{ReloadRequest, Reloaded, ScaleRequest};
use crate::api::processes::{Process, StartRequest, Status};
use crate::config::Loaded;
use crate::config::spec::{AppSpec, Env, SPEC_VERSION};
use crate::control::client::Client;
use crate::ids::{AppName, PmId};

use super::actions::report;
use super::change::Change;
use super::exit::Exit;
use super::loading::{self, Selection};
use super::session::Session;
use super::targets::told;
use super::{list, live, start, units};

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

/// One process to reload.
struct Turn {
    id: PmId,
    app: AppName,
    /// `web (0)`.
    label: String,
    /// Of the run that is there before.
    pid: u32,
    /// Where it says why it fails.
    log: Option<PathBuf>,
    /// What it is to be made from, when that may be new.
    spec: Option<AppSpec>,
}

/// Fine when every process is back. No table, as in PM2.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let env = args.update_env.then(loading::shell_env).transpose()?;
    args.selection.refuse_without_file(&args.targets)?;
    let mut daemon = session.daemon().await?;
    let mut exit = Exit::Fine;
    if !args.targets.iter().all(|target| loading::is_file(target)) {
        args.change.tell_of_instances(&session.output);
    }
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
        let spec = change.of(&process.spec)?;
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
    // What is not to start by itself, and does not run, is left to `start`, too.
    let is_listed = |app: &AppSpec| {
        let mut processes = listed.iter().filter(|process| process.name == app.name);
        processes.any(|process| app.autostart || process.status != Status::Stopped)
    };
    let (known, missing): (Vec<AppSpec>, Vec<AppSpec>) =
        loaded.apps.into_iter().partition(is_listed);
    // Settings, what is missing, and what was wrong: as `start`.
    let rest = Loaded {
        apps: missing,
        settings: loaded.settings.clone(),
        ..loaded
    };
    // What can't be started keeps nothing else from being reloaded; a release that does not come up
    // does.
    let mut exit = Exit::fine_if(rest.failed.is_empty());
    if known.is_empty() || !rest.apps.is_empty() {
        let started = start::start_loaded(rest, daemon, session).await?;
        exit = exit.and(started);
    } else {
        start::tell(&rest, &session.output);
        take_settings(rest, daemon).await?;
    }
    for app in known {
        let reloaded = reload_app(&app, &listed, daemon, session).await?;
        exit = exit.and(reloaded);
        if reloaded == Exit::Failed {
            break;
        }
    }
    Ok(exit)
}

/// The `mcpm` block counts, too, when every app is known.
async fn take_settings(loaded: Loaded, daemon: &mut Client) -> anyhow::Result<()> {
    let request = StartRequest {
        force: false,
        keep_unchanged: false,
        no_wait: true,
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
        app: process.name.clone(),
        label: format!("{} ({})", process.name, process.pm_id),
        pid: process.pid,
        log: process.error_log.clone(),
        spec: spec.cloned(),
    }
}

/// One after the other, until one does not get there.
async fn in_turn(
    turns: &[Turn],
    env: Option<Env>,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let output = &session.output;
    let mut said = BTreeSet::new();
    for (at, turn) in turns.iter().enumerate() {
        let began = Instant::now();
        let request = ReloadRequest {
            spec_version: SPEC_VERSION,
            pm_id: turn.id,
            spec: turn.spec.clone(),
            env: env.clone(),
            renamed_from: Some(turn.app.clone()),
            at_once: false,
        };
        let path = "/api/v1/admin/processes/reload";
        let done: Reloaded = daemon.post(path, &request).await?;
        if let Some(obstacle) = &done.obstacle
            && said.insert(&turn.app)
        {
            let several = turns.iter().filter(|other| other.app == turn.app).count() > 1;
            let order = if several { ", one after another" } else { "" };
            output.line(format_args!(
                "{} {obstacle}: restarted in place{order}",
                turn.app
            ))?;
        }
        let exit = match &done.error {
            Some(why) => {
                let kept = is_kept(turn, done.beside, daemon).await?;
                output.failed(failure(turn, why, kept));
                Exit::Failed
            }
            None if done.beside => {
                let took = units::took(began.elapsed());
                output.line(format_args!("✓ reloaded {} in {took}", turn.label))?;
                Exit::Fine
            }
            None => {
                let path = "/api/v1/admin/processes/watch";
                let lists = daemon.stream::<List<Process>>(path).await?;
                let progress = live::follow(&[turn.id], lists, began, None, output).await?;
                Exit::fine_if(!progress.has_failed())
            }
        };
        if exit == Exit::Fine {
            continue;
        }
        let rest: Vec<&str> = turns[at + 1..].iter().map(|t| t.label.as_str()).collect();
        if !rest.is_empty() {
            output.failed(format_args!(
                "the reload ends here; left as they are: {}",
                rest.join(", ")
            ));
        }
        return Ok(Exit::Failed);
    }
    Ok(Exit::Fine)
}

/// The run of before is there still.
async fn is_kept(turn: &Turn, beside: bool, daemon: &mut Client) -> anyhow::Result<bool> {
    if !beside {
        return Ok(false);
    }
    let listed = list::processes(daemon).await?;
    Ok(listed.iter().any(|process| {
        process.pm_id == turn.id && process.pid == turn.pid && process.status == Status::Online
    }))
}

/// Which process, what happened, what runs now, and where to read on.
fn failure(turn: &Turn, why: &str, kept: bool) -> String {
    let mut text = format!("{} is not reloaded: {why}", turn.label);
    if kept {
        text += &format!("; the old run (pid {}) goes on", turn.pid);
    }
    if let Some(log) = &turn.log {
        text += &format!("; its log: {}", log.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::process;

    #[test]
    fn a_failure_says_what_happened_what_runs_and_where_to_read_on() {
        let turn = turn(&process(1, "web"), None);
        assert_eq!(
            failure(&turn, "the new run exited with code 3 after 12 ms", true),
            "web (1) is not reloaded: the new run exited with code 3 after 12 ms; \
             the old run (pid 1001) goes on; its log: /h/logs/web-error.log"
        );
        let said = failure(&turn, "it was deleted", false);
        assert!(!said.contains("goes on"), "{said}");
    }
}
