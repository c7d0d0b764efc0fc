//! `mcpm start`: an ecosystem file, a script, or processes that are listed already.
//!
//! Whatever can be refused is refused before the daemon is started or asked. Then every app is
//! waited for, the table is shown, and the next thing to type.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

use crate::api::List;
use crate::api::outcomes::{Done, Outcome};
use crate::api::process_table::Row;
use crate::api::processes::{Process, StartRequest, Status};
use crate::config::spec::{AppSpec, SPEC_VERSION};
use crate::config::{Loaded, Settings};
use crate::control::client::{Client, ClientError};
use crate::ids::PmId;
use crate::sockets::ephemeral;

use super::actions::{self, report};
use super::change::Change;
use super::exit::Exit;
use super::loading::{self, Selection};
use super::process_table::Sort;
use super::render::Output;
use super::session::Session;
use super::targets::{Tally, told};
use super::{list, live, logs, next, runtime};

/// Said where an option of an app meets an ecosystem file.
pub(crate) const NOT_WITH_FILES: &str =
    "options of a script do not count with an ecosystem file: write them there";

/// So many of those that failed are named for `logs`.
const LOGS_NAMED: usize = 3;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ecosystem file (`-`: stdin), script, or names, ids, namespaces, `all`, `/regex/`
    /// [default: ecosystem.config.js and its like in this folder]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Return when everything is started, not when it is ready
    #[arg(long)]
    no_wait: bool,
    /// Wait so many seconds for readiness, in place of each service's `start_timeout`
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    timeout: Option<u64>,
    /// Start a second one beside what is listed under its name
    #[arg(short, long)]
    force: bool,
    /// Show what they write when they are there
    #[arg(long)]
    attach: bool,
    /// Run the daemon in the foreground, in this process, when none runs
    #[arg(long)]
    pub(crate) no_daemon: bool,
    /// Merge the variables of this shell into those of processes that are listed
    #[arg(short = 'a', long)]
    update_env: bool,
    #[command(flatten)]
    change: Change,
}

impl Args {
    fn known(&self) -> Known {
        if self.force {
            Known::Beside
        } else {
            Known::Restart
        }
    }

    /// The same for the daemon in this process.
    pub(crate) fn in_foreground(self) -> runtime::Args {
        let (flags, script_args) = self.change.into_parts();
        runtime::Args::with_logs(self.targets, self.selection, flags, script_args)
    }
}

/// What a target turned out to be.
enum Wanted {
    /// The apps of a file.
    File(Loaded),
    /// The app of a script.
    Script(Loaded),
    /// A word: a process if the daemon knows it, else a script.
    Word(String),
}

impl Wanted {
    fn loaded(&self) -> Option<&Loaded> {
        match self {
            Self::File(loaded) | Self::Script(loaded) => Some(loaded),
            Self::Word(_) => None,
        }
    }

    /// Nothing of it can be started: no reason to start a daemon.
    fn is_hopeless(&self) -> bool {
        self.loaded()
            .is_some_and(|loaded| loaded.apps.is_empty() && !loaded.failed.is_empty())
    }
}

/// What a start has come to so far.
#[derive(Default)]
struct Started {
    /// All that the daemon has started.
    all: Vec<PmId>,
    /// Those that have been seen to be there.
    there: Vec<PmId>,
}

/// What becomes of processes that have the name of a new app.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// They are restarted as the new app.
    Restart,
    /// They are left alone.
    Beside,
}

/// How long to wait for what was started.
#[derive(Clone, Copy)]
enum Wait {
    No,
    /// As long as the daemon takes.
    ForTheAnswer,
    UntilReady(Option<Duration>),
}

/// Fine when everything that was asked for is there.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let wait = if args.no_wait {
        Wait::No
    } else {
        Wait::UntilReady(args.timeout.map(Duration::from_secs))
    };
    // What is listed would be started whole: the opposite of what was meant.
    if args.selection.selects_apps() && args.targets.iter().any(|target| is_word(target)) {
        args.selection.refuse_without_file(&args.targets)?;
    }
    if !args.targets.is_empty()
        && let Some(why) = args.selection.meaningless(&args.targets)
    {
        session
            .output
            .warning(format_args!("{why}, and has no effect here"));
    }
    let mut exit = Exit::Fine;
    let mut wanted = Vec::new();
    for read in read_targets(&args)? {
        match read {
            Ok(read) => wanted.push(read),
            Err(error) => exit = exit.and(told(Err(error), &session.output)?),
        }
    }
    if args.change.flags().are_for_scripts()
        && wanted
            .iter()
            .any(|wanted| matches!(wanted, Wanted::File(_)))
    {
        session.output.warning(NOT_WITH_FILES);
    }
    if wanted.iter().all(Wanted::is_hopeless) {
        wanted
            .iter()
            .filter_map(Wanted::loaded)
            .for_each(|loaded| tell(loaded, &session.output));
        return Ok(Exit::Failed);
    }
    let mut daemon = session.daemon().await?;
    let mut started = Started::default();
    let mut tally = Tally::new(&session.output);
    for wanted in wanted {
        let (daemon, started) = (&mut daemon, &mut started);
        let done = match wanted {
            Wanted::File(loaded) => {
                start_apps(loaded, Known::Restart, wait, daemon, session, started).await
            }
            Wanted::Script(loaded) => {
                start_given(loaded, &args, wait, daemon, session, started).await
            }
            Wanted::Word(word) => start_word(&word, &args, wait, daemon, session, started).await,
        };
        tally.add(done)?;
    }
    exit = exit.and(tally.exit());
    if tally.is_nothing_done() {
        return Ok(exit);
    }
    // The list that is shown decides: what was online a moment ago may have ended since.
    let mut listed = list::table(&mut daemon).await?.rows;
    for process in fallen(&listed, &started.there) {
        let why = process.reason.as_deref();
        let why = why.unwrap_or_else(|| process.status.as_str());
        session.output.failed(format_args!(
            "{} ({}) has ended again: {why}",
            process.name, process.pm_id
        ));
        exit = Exit::Failed;
    }
    Sort::default().apply(&mut listed);
    list::print(&listed, &session.output)?;
    let ports = service_ports(&listed, &started.all);
    if let Some(warning) = ephemeral::warning(&ports) {
        session.output.warning(warning);
    }
    let has_router = next::print(&mut daemon, &session.output).await?;
    if (args.attach || args.no_daemon) && !started.all.is_empty() {
        let ids = started.all.iter().map(PmId::to_string).collect();
        exit = exit.and(logs::attach(ids, session).await?);
    }
    Ok(exit.and(Exit::fine_if(has_router || ports.is_empty())))
}

/// Those that were there and no longer are.
fn fallen<'a>(listed: &'a [Row], there: &[PmId]) -> impl Iterator<Item = &'a Row> {
    listed.iter().filter(|process| {
        there.contains(&process.pm_id)
            && matches!(process.status, Status::Errored | Status::WaitingRestart)
    })
}

fn service_ports(listed: &[Row], started: &[PmId]) -> Vec<u16> {
    let ours = listed.iter().filter(|row| started.contains(&row.pm_id));
    ours.filter_map(|row| row.port).collect()
}

/// `restart FILE`: known apps are restarted with what the file says now, missing ones started.
pub(crate) async fn restart_file(
    target: &str,
    selection: &Selection,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let loaded = loading::load(target, selection)?;
    let started = &mut Started::default();
    let wait = Wait::ForTheAnswer;
    start_apps(loaded, Known::Restart, wait, daemon, session, started).await
}

/// Starts what was read, and waits for it.
pub(crate) async fn start_loaded(
    loaded: Loaded,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let (wait, mut started) = (Wait::UntilReady(None), Started::default());
    start_apps(loaded, Known::Restart, wait, daemon, session, &mut started).await
}

/// Starts an app that is not listed, or has ended, and waits for it.
///
/// # Errors
/// Also when it runs already, or another app has the name.
pub(crate) async fn start_new(
    loaded: Loaded,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let (wait, mut started) = (Wait::UntilReady(None), Started::default());
    start_script(loaded, Known::Restart, wait, daemon, session, &mut started).await
}

fn read_targets(args: &Args) -> anyhow::Result<Vec<anyhow::Result<Wanted>>> {
    let file = |target: &str| {
        loading::load_to_start(target, &args.selection, args.change.flags()).map(Wanted::File)
    };
    if args.targets.is_empty() {
        return Ok(vec![file(&loading::default_file()?)]);
    }
    let read = |target: &String| {
        Ok(if loading::is_file(target) {
            file(target)?
        } else if is_word(target) {
            Wanted::Word(target.clone())
        } else {
            Wanted::Script(script(target, args)?)
        })
    };
    Ok(args.targets.iter().map(read).collect())
}

fn script(target: &str, args: &Args) -> anyhow::Result<Loaded> {
    args.change.script(target)
}

/// Without a slash or an extension it may be the name of a process; between two slashes it is a
/// pattern of names.
fn is_word(target: &str) -> bool {
    is_pattern(target) || !target.contains(['/', '.', ' '])
}

fn is_pattern(target: &str) -> bool {
    let inside = target.strip_prefix('/').and_then(|t| t.strip_suffix('/'));
    inside.is_some_and(|inside| !inside.is_empty()) && !Path::new(target).is_dir()
}

/// What can mean processes only, and never a script.
fn is_selector(word: &str) -> bool {
    word == "all" || is_pattern(word) || word.bytes().all(|b| b.is_ascii_digit())
}

async fn start_word(
    word: &str,
    args: &Args,
    wait: Wait,
    daemon: &mut Client,
    session: &Session,
    started: &mut Started,
) -> anyhow::Result<Exit> {
    let began = Instant::now();
    if args.force && !is_selector(word) {
        return start_given(script(word, args)?, args, wait, daemon, session, started).await;
    }
    let outcomes = match start_listed(word, args, daemon).await {
        Ok(outcomes) => outcomes,
        Err(error) if !is_unknown(&error) || is_selector(word) => return Err(error),
        Err(_) => {
            return start_given(script(word, args)?, args, wait, daemon, session, started).await;
        }
    };
    args.change.tell_of_instances(&session.output);
    settle(&outcomes, wait, began, daemon, session, started).await
}

/// What is listed under a word, with what is given of it now and everything else as it was.
async fn start_listed(
    word: &str,
    args: &Args,
    daemon: &mut Client,
) -> anyhow::Result<Vec<Outcome>> {
    let env = args.update_env.then(loading::shell_env).transpose()?;
    if args.change.is_given() {
        return args.change.restart(word, env.as_ref(), daemon).await;
    }
    actions::act(daemon, "start", word, env).await
}

/// A script whose processes are listed and at rest is started as those, so that their settings and
/// their number stay what they were; any other is a new app.
async fn start_given(
    loaded: Loaded,
    args: &Args,
    wait: Wait,
    daemon: &mut Client,
    session: &Session,
    started: &mut Started,
) -> anyhow::Result<Exit> {
    let listed = list::processes(daemon).await?;
    let at_rest = loaded.apps.first().map(|app| at_rest(app, &listed));
    let at_rest = at_rest.unwrap_or_default();
    if at_rest.is_empty() {
        return start_script(loaded, args.known(), wait, daemon, session, started).await;
    }
    tell(&loaded, &session.output);
    args.change.tell_of_instances(&session.output);
    let began = Instant::now();
    let mut outcomes = Vec::new();
    for id in at_rest {
        outcomes.extend(start_listed(&id.to_string(), args, daemon).await?);
    }
    settle(&outcomes, wait, began, daemon, session, started).await
}

/// The processes of this app's name, when all are of its script and none runs.
fn at_rest(app: &AppSpec, listed: &[Process]) -> Vec<PmId> {
    let same = || listed.iter().filter(|process| process.name == app.name);
    let rests = |process: &Process| {
        process.spec.program.script == app.program.script
            && matches!(process.status, Status::Stopped | Status::Errored)
    };
    if !same().all(rests) {
        return Vec::new();
    }
    same().map(|process| process.pm_id).collect()
}

fn is_unknown(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<ClientError>()
        .is_some_and(|error| error.is("unknown_process"))
}

/// A script that runs already under this name is refused; another one, and one by force, comes
/// beside what has the name.
async fn start_script(
    loaded: Loaded,
    known: Known,
    wait: Wait,
    daemon: &mut Client,
    session: &Session,
    started: &mut Started,
) -> anyhow::Result<Exit> {
    let listed = list::processes(daemon).await?;
    let known = match (known, loaded.apps.first()) {
        (Known::Restart, Some(app)) => beside(app, &listed, &session.output)?,
        _ => known,
    };
    start_apps(loaded, known, wait, daemon, session, started).await
}

/// An app whose script runs already under its name is refused; other scripts of that name are told.
fn beside(app: &AppSpec, listed: &[Process], output: &Output) -> anyhow::Result<Known> {
    let mut known = Known::Restart;
    for process in listed.iter().filter(|process| process.name == app.name) {
        let (name, id) = (&process.name, process.pm_id);
        if process.spec.program.script != app.program.script {
            output.warning(format_args!(
                "`{name}` ({id}) is another script, `{}`: both answer to that name; `--name` gives \
                 this one its own",
                process.spec.program.script.display()
            ));
            known = Known::Beside;
        } else if !matches!(
            process.status,
            Status::Stopped | Status::Stopping | Status::Errored
        ) {
            bail!("`{name}` ({id}) runs already: `mcpm restart {name}` restarts it");
        }
    }
    Ok(known)
}

async fn start_apps(
    loaded: Loaded,
    known: Known,
    wait: Wait,
    daemon: &mut Client,
    session: &Session,
    started: &mut Started,
) -> anyhow::Result<Exit> {
    let output = &session.output;
    for warning in &loaded.warnings {
        output.warning(warning);
    }
    let is_empty = loaded.apps.is_empty() && loaded.failed.is_empty();
    if is_empty && loaded.settings != Settings::default() {
        return take_settings(loaded, daemon, output).await;
    }
    if is_empty {
        bail!("there is nothing to start: the file has no app, or none that `--only` names");
    }
    let mut exit = Exit::fine_if(loaded.failed.is_empty());
    if !loaded.apps.is_empty() {
        let request = StartRequest {
            force: known == Known::Beside,
            no_wait: !matches!(wait, Wait::ForTheAnswer),
            ..request(loaded.apps, loaded.settings, loaded.file)
        };
        let began = Instant::now();
        let path = "/api/v1/admin/processes";
        let outcomes: List<Outcome> = daemon.post(path, &request).await?;
        exit = exit.and(settle(&outcomes.items, wait, began, daemon, session, started).await?);
    }
    for failure in &loaded.failed {
        output.failed(failure);
    }
    Ok(exit)
}

fn request(apps: Vec<AppSpec>, settings: Settings, file: Option<PathBuf>) -> StartRequest {
    StartRequest {
        spec_version: SPEC_VERSION,
        apps,
        settings,
        settings_file: file,
        force: false,
        keep_unchanged: false,
        no_wait: false,
        environment: loading::daemon_variables(),
    }
}

/// A file of settings alone: they are put in force, and nothing is started.
async fn take_settings(
    loaded: Loaded,
    daemon: &mut Client,
    output: &Output,
) -> anyhow::Result<Exit> {
    let request = request(Vec::new(), loaded.settings, loaded.file);
    let _: List<Outcome> = daemon.post("/api/v1/admin/processes", &request).await?;
    output.line("✓ these settings are in force; `mcpm config` shows all")?;
    Ok(Exit::Fine)
}

/// Says what was wrong with what was read.
pub(crate) fn tell(loaded: &Loaded, output: &Output) {
    for warning in &loaded.warnings {
        output.warning(warning);
    }
    for failure in &loaded.failed {
        output.failed(failure);
    }
}

/// Tells what was started, and waits for it.
async fn settle(
    outcomes: &[Outcome],
    wait: Wait,
    began: Instant,
    daemon: &mut Client,
    session: &Session,
    started: &mut Started,
) -> anyhow::Result<Exit> {
    let output = &session.output;
    let is_done = |outcome: &&Outcome| outcome.error.is_none();
    let done = outcomes.iter().filter(is_done);
    started.all.extend(done.map(|outcome| outcome.pm_id));
    let Wait::UntilReady(limit) = wait else {
        return report(output, "started", outcomes);
    };
    let (done, rest): (Vec<_>, Vec<_>) = outcomes
        .iter()
        .cloned()
        .partition(|outcome| outcome.error.is_none() && outcome.done != Done::Registered);
    let mut exit = Exit::Fine;
    if !rest.is_empty() || outcomes.is_empty() {
        exit = report(output, "started", &rest)?;
    }
    let ids: Vec<PmId> = done.iter().map(|outcome| outcome.pm_id).collect();
    let lists = daemon
        .stream::<List<Process>>("/api/v1/admin/processes/watch")
        .await?;
    let progress = live::follow(&ids, lists, began, limit, output).await?;
    started.there.extend(progress.done());
    if progress.has_failed() {
        let ids: Vec<String> = progress
            .failed()
            .take(LOGS_NAMED)
            .map(|id| id.to_string())
            .collect();
        output.hint(format_args!(
            "why     mcpm logs {} --nostream",
            ids.join(" ")
        ));
    }
    Ok(exit.and(Exit::fine_if(!progress.has_failed())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::process;

    #[test]
    fn words_may_be_names_and_the_rest_is_scripts() {
        for word in ["web", "0", "all", "my-app_2", "/^web/"] {
            assert!(is_word(word), "{word}");
        }
        for script in [
            "app.js",
            "./run",
            "bin/x",
            "python app.py",
            "/bin/x",
            "/tmp/",
        ] {
            assert!(!is_word(script), "{script}");
        }
    }

    #[test]
    fn what_was_there_and_has_ended_is_no_success() {
        let mut listed = [process(0, "a"), process(1, "b"), process(2, "c")];
        listed[1].status = Status::Errored;
        listed[2].status = Status::WaitingRestart;
        let listed = listed.each_ref().map(Row::from);
        let fallen = |there: &[PmId]| fallen(&listed, there).count();
        assert_eq!(fallen(&[PmId(0), PmId(1), PmId(2)]), 2);
        assert_eq!(fallen(&[PmId(0)]), 0, "others are not its business");
    }

    #[test]
    fn a_second_start_of_a_script_is_refused_unless_the_first_has_ended() {
        let output = Output::new(true, true);
        let mut listed = [process(3, "web")];
        let same = listed[0].spec.clone();
        let message = beside(&same, &listed, &output).err().unwrap().to_string();
        assert_eq!(
            message,
            "`web` (3) runs already: `mcpm restart web` restarts it"
        );
        listed[0].status = Status::Errored;
        assert!(beside(&same, &listed, &output).unwrap() == Known::Restart);
        listed[0].status = Status::Online;
        listed[0].spec.program.script = "/srv/other.js".into();
        assert!(beside(&same, &listed, &output).unwrap() == Known::Beside);
        listed[0].name = crate::ids::AppName::parse("api").unwrap();
        assert!(beside(&same, &listed, &output).unwrap() == Known::Restart);
    }
}
