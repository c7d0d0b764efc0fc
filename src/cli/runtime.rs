//! `mcpm runtime` (`pm2-runtime`): apps and daemon in the foreground, as the one program of a
//! container.
//!
//! The daemon runs in this process; a thread beside it asks, as every command does, over the socket.
//! Output of the apps goes to stdout and stderr and to no file, unless the ecosystem file names one.
//! SIGTERM and SIGINT stop all: exit 0. When nothing has run for a while: exit 2.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::time::{Instant, sleep, sleep_until};

use crate::api::List;
use crate::api::daemon::StopRequest;
use crate::api::logs::LogEvent;
use crate::api::outcomes::Outcome;
use crate::api::processes::{Process, StartRequest, Status};
use crate::config::spec::{LogTarget, SPEC_VERSION};
use crate::config::{Loaded, Settings};
use crate::control::client::Client;
use crate::daemon::{self, DaemonOptions};
use crate::ids::Timestamp;

use super::actions::report;
use super::app_flags::AppFlags;
use super::exit::Exit;
use super::loading::{self, Selection};
use super::log_text::{LogText, Shape};
use super::render::Output;
use super::session::Session;
use super::start;
use super::style::Palette;

/// So long nothing may run before it is over: PM2 looks four times, every two seconds.
const IDLE: Duration = Duration::from_secs(8);

/// Arguments of `runtime`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ecosystem file or script; `start` in front of it is fine
    #[arg(required = true, value_name = "FILE")]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    flags: AppFlags,
    /// Print the apps' output as it is, which is the default
    #[arg(long)]
    raw: bool,
    /// Print one JSON object per line of output
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Print ID and name before each line of output
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    formatted: bool,
    /// Go on when nothing runs any more
    #[arg(long)]
    no_auto_exit: bool,
    /// Keep log files as a daemon in the background does
    #[arg(long)]
    keep_logs: bool,
    /// Wait so many seconds before anything is started
    #[arg(long, value_name = "SECONDS")]
    delay: Option<u64>,
    /// Arguments of the script
    #[arg(last = true, value_name = "ARGS")]
    script_args: Vec<String>,
}

impl Args {
    /// `start --no-daemon`: logs are kept, lines are named, and it goes on when nothing runs.
    pub(crate) fn with_logs(
        targets: Vec<String>,
        selection: Selection,
        flags: AppFlags,
        script_args: Vec<String>,
    ) -> Self {
        Self {
            targets,
            selection,
            flags,
            raw: false,
            json: false,
            formatted: true,
            no_auto_exit: true,
            keep_logs: true,
            delay: None,
            script_args,
        }
    }
}

/// Returns when all is stopped.
pub(crate) fn run(args: &Args, session: Session) -> anyhow::Result<Exit> {
    let loaded = read(args)?;
    start::tell(&loaded, &session.output);
    if loaded.apps.is_empty() {
        if loaded.failed.is_empty() {
            bail!("there is nothing to start: the file has no app, or none that `--only` names");
        }
        return Ok(Exit::Failed);
    }
    let (ready, up) = sync_channel(1);
    let plan = Plan {
        loaded,
        shape: shape(args),
        auto_exit: !args.no_auto_exit,
        delay: Duration::from_secs(args.delay.unwrap_or(0)),
    };
    let client = std::thread::Builder::new().name("runtime".to_owned());
    let client = client.spawn(move || attend(plan, &up, &session))?;
    let options = DaemonOptions {
        ready: Some(ready),
        ..DaemonOptions::default()
    };
    let ended = daemon::run(&options);
    // A daemon that did not get up will not say that it is ready.
    drop(options);
    let exit = client
        .join()
        .map_err(|_| anyhow!("a part of `mcpm runtime` failed"))?;
    ended.context("the daemon cannot run in this process")?;
    exit
}

struct Plan {
    loaded: Loaded,
    shape: Shape,
    auto_exit: bool,
    delay: Duration,
}

fn read(args: &Args) -> anyhow::Result<Loaded> {
    if args.targets.is_empty() {
        return loading::load(&loading::default_file()?, &args.selection);
    }
    let is_start = |(at, word): &(usize, &String)| *at == 0 && *word == "start";
    let several = args.targets.len() > 1;
    let targets = args.targets.iter().enumerate();
    let mut all = Loaded::default();
    for (_, target) in targets.filter(|target| !(several && is_start(target))) {
        let loaded = if loading::is_file(target) {
            loading::load(target, &args.selection)?
        } else {
            loading::from_script(target, &args.script_args, &args.flags)?
        };
        all.apps.extend(loaded.apps);
        all.failed.extend(loaded.failed);
        all.warnings.extend(loaded.warnings);
        if loaded.settings != Settings::default() {
            all.settings = loaded.settings;
            all.file = loaded.file;
        }
    }
    for app in all.apps.iter_mut().filter(|_| !args.keep_logs) {
        for target in [&mut app.logs.out, &mut app.logs.error] {
            if *target == LogTarget::Default {
                *target = LogTarget::Nowhere;
            }
        }
    }
    Ok(all)
}

fn shape(args: &Args) -> Shape {
    if args.json {
        Shape::Json
    } else if args.formatted {
        Shape::Prefixed(Palette { on: false })
    } else {
        Shape::Raw
    }
}

/// Waits for the daemon, starts the apps, prints their output, and ends the daemon when nothing
/// runs any more.
fn attend(plan: Plan, up: &Receiver<()>, session: &Session) -> anyhow::Result<Exit> {
    if up.recv().is_err() {
        // The daemon did not get up, and has said why.
        return Ok(Exit::Failed);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut daemon = session.running_daemon().await?;
        let exit = match follow(plan, &mut daemon, session).await {
            // The daemon is on its way down already, or our output is not read any more.
            Ok(Exit::Fine) => return Ok(Exit::Fine),
            ended => ended,
        };
        let order = StopRequest { keep: false };
        let stopped: Result<serde::de::IgnoredAny, _> =
            daemon.post("/api/v1/admin/daemon/stop", &order).await;
        // It may have begun to end by itself.
        drop(stopped);
        exit
    })
}

async fn follow(plan: Plan, daemon: &mut Client, session: &Session) -> anyhow::Result<Exit> {
    sleep(plan.delay).await;
    // Before the start, so that no line is missed; what was adopted has begun already.
    let path = "/api/v1/admin/logs?target=all&lines=0&follow=true&resume=true";
    let mut logs = daemon.stream::<LogEvent>(path).await?;
    tell_others(&plan.loaded, daemon, &session.output).await?;
    start_apps(plan.loaded, daemon, &session.output).await?;
    let path = "/api/v1/admin/processes/watch";
    let mut lists = daemon.stream::<List<Process>>(path).await?;
    let mut text = LogText::new(plan.shape, 0);
    let mut idle_until = None;
    loop {
        tokio::select! {
            event = logs.next() => {
                let Ok(Some(event)) = event else { return Ok(Exit::Fine) };
                text.add(&event, Timestamp::now());
                let (out, error) = text.take();
                session.output.data(&out)?;
                session.output.data_to_stderr(&error)?;
            }
            list = lists.next() => {
                let Ok(Some(list)) = list else { return Ok(Exit::Fine) };
                let idle = plan.auto_exit && !list.items.iter().any(is_at_work);
                idle_until = idle.then(|| idle_until.unwrap_or(Instant::now() + IDLE));
            }
            () = sleep_until(idle_until.unwrap_or_else(Instant::now)), if idle_until.is_some() => {
                let secs = IDLE.as_secs();
                session.output.warning(format_args!("nothing has run for {secs} s; the end"));
                return Ok(Exit::Idle);
            }
        }
    }
}

/// Names what the file does not name and the state folder does: a killed run of this container has
/// left it, and it is as it was.
async fn tell_others(loaded: &Loaded, daemon: &mut Client, output: &Output) -> anyhow::Result<()> {
    let named: BTreeSet<_> = loaded.apps.iter().map(|app| app.name.as_str()).collect();
    let listed: List<Process> = daemon.get("/api/v1/admin/processes").await?;
    for process in listed.items.iter().filter(|process| is_at_work(process)) {
        let (name, id) = (process.name.as_str(), process.pm_id);
        if !named.contains(name) {
            output.warning(format_args!(
                "`{name}` ({id}) is not in the file and was up before: it goes on; `mcpm delete {id}` \
                 ends it"
            ));
        }
    }
    Ok(())
}

/// What runs already as the file wants it was taken over from a daemon that was killed: it is not
/// started twice.
async fn start_apps(loaded: Loaded, daemon: &mut Client, output: &Output) -> anyhow::Result<()> {
    let request = StartRequest {
        force: false,
        keep_unchanged: true,
        no_wait: true,
        spec_version: SPEC_VERSION,
        apps: loaded.apps,
        settings: loaded.settings,
        settings_file: loaded.file,
        environment: loading::daemon_variables(),
    };
    let path = "/api/v1/admin/processes";
    let outcomes: List<Outcome> = daemon.post(path, &request).await?;
    let failed: Vec<Outcome> = outcomes
        .items
        .into_iter()
        .filter(|o| o.error.is_some())
        .collect();
    if !failed.is_empty() {
        // Told; whether it is over is decided as for any other app that ends.
        let _told = report(output, "started", &failed)?;
    }
    Ok(())
}

/// PM2 counts `online` and `launching`.
fn is_at_work(process: &Process) -> bool {
    matches!(process.status, Status::Online | Status::Launching)
}
