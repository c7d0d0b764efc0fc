//! `mcpm import pm2`: starts here what PM2 runs, or has saved.
//!
//! In this order: read the list, make apps of it, see which of them this machine can start, and
//! only then, with `--take-over`, have PM2 let go of those. What PM2 has is saved first, so that
//! `pm2 resurrect` is the way back at every moment.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::config::{Loaded, Shell, load_app};
use crate::control::client::ClientError;
use crate::pm2::takeover::{self, App, Left, Takeover};
use crate::pm2::{Client, dump};

use super::exit::Exit;
use super::import_report::{self, Report};
use super::render::Output;
use super::session::Session;
use super::{list, loading, next, start};

/// PM2's `kill_timeout` of an app that names none.
const GRACE: Duration = Duration::from_millis(1600);
/// What PM2 keeps in its list and not in what it saves.
const NOT_SAVED: [&str; 3] = ["pm_id", "instances", "prev_restart_delay"];

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    from: Manager,
}

#[derive(Debug, clap::Subcommand)]
enum Manager {
    /// Start what PM2 runs, or has saved, with the same names, variables and attributes
    Pm2(Pm2),
}

#[derive(Debug, clap::Args)]
struct Pm2 {
    /// What `pm2 save` wrote [default: what the PM2 in $PM2_HOME or ~/.pm2 runs, else its dump.pm2]
    file: Option<PathBuf>,
    /// Have PM2 end and forget these processes first, so that their ports are free
    #[arg(long)]
    take_over: bool,
    /// Print what would be started, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Write an ecosystem file and start nothing; variables that are those of this shell are left out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["take_over", "dry_run"])]
    write: Option<PathBuf>,
}

/// Where the list comes from.
struct Source {
    entries: Vec<Value>,
    /// Where PM2 keeps its own files.
    home: PathBuf,
    /// In words.
    from: String,
}

/// What can be started here.
struct Plan {
    apps: Vec<App>,
    loaded: Loaded,
    left: Vec<Left>,
}

/// Fine when everything that is no module of PM2 was started, or would be.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let Manager::Pm2(args) = args.from;
    let output = &session.output;
    let home = pm2_home()?;
    let mut pm2 = None;
    if home.exists() {
        refuse_foreign(&home)?;
        pm2 = Client::connect(&home).await?;
    }
    let running = match &mut pm2 {
        Some(pm2) => Some(pm2.list().await?),
        None => None,
    };
    let source = read(
        args.file.as_deref(),
        home.clone(),
        running.as_deref(),
        output,
    )?;
    let shell = loading::shell()?;
    if let Some(file) = &args.write {
        let known = shell.passed_on().to_map();
        let takeover = takeover::apps(&source.entries, &source.home, Some(&known));
        return write(file, takeover, output);
    }
    let takeover = takeover::apps(&source.entries, &source.home, None);
    let plan = Plan::of(takeover, &listed_here(session).await?, &shell);
    let running = running.unwrap_or_default();
    let taken = of_plan(&running, &plan.apps);
    if args.dry_run {
        let report = Report {
            source: &source.from,
            apps: &plan.apps,
            left: &plan.left,
            stops: &taken
                .iter()
                .filter_map(|fields| pm_id(fields))
                .collect::<Vec<_>>(),
        };
        return import_report::print(&report, args.json, output);
    }
    output.line(format_args!("list    {}", source.from))?;
    let alive = taken.iter().filter(|fields| is_alive(fields)).count();
    if alive > 0 && !args.take_over {
        bail!(
            "PM2 runs {alive} of these processes: `--take-over` has it end them first, \
             `--dry-run` shows what would be started"
        );
    }
    let mut exit = plan.tell(output);
    if plan.apps.is_empty() {
        output.warning("there is nothing to start");
        return Ok(exit);
    }
    let mut plan = plan;
    let has_taken = args.take_over && !taken.is_empty();
    if let Some(pm2) = pm2.as_mut().filter(|_| has_taken) {
        let still_there = let_go(pm2, &home, &running, &taken, output).await?;
        exit = exit.and(Exit::fine_if(still_there.is_empty()));
        plan.without(&still_there);
    }
    let names = plan.names();
    let started = start_all(plan.loaded, session).await;
    if has_taken && !matches!(started, Ok(Exit::Fine)) {
        output.warning(format_args!(
            "PM2 no longer runs them; the way back: `mcpm delete {names}`, then `pm2 resurrect`"
        ));
    }
    let exit = exit.and(started?);
    if pm2.is_some() {
        output.line(
            "next    `mcpm save`; PM2 itself still runs: `pm2 kill` ends it, \
             `pm2 unstartup` keeps it from coming back at boot",
        )?;
    }
    Ok(exit)
}

/// `$PM2_HOME`, else `~/.pm2`, as PM2 has it.
fn pm2_home() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("PM2_HOME").filter(|home| !home.is_empty());
    let home = match given {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()
            .context("cannot tell where your home folder is; set PM2_HOME to PM2's folder")?
            .join(".pm2"),
    };
    std::path::absolute(home).context("PM2_HOME is relative, and the current folder is gone")
}

/// Root must not run as root what another user had PM2 run.
fn refuse_foreign(home: &Path) -> anyhow::Result<()> {
    let owner = home
        .metadata()
        .with_context(|| format!("cannot read `{}`", home.display()))?
        .uid();
    let me = rustix::process::geteuid().as_raw();
    if owner != me {
        bail!(
            "`{}` belongs to uid {owner}, and you are uid {me}: run this as that user",
            home.display()
        );
    }
    Ok(())
}

fn read(
    file: Option<&Path>,
    home: PathBuf,
    running: Option<&[Map<String, Value>]>,
    output: &Output,
) -> anyhow::Result<Source> {
    if let (None, Some(running)) = (file, running) {
        let from = format!("what the PM2 in `{}` runs", home.display());
        let entries = running.iter().cloned().map(Value::Object).collect();
        return Ok(Source {
            entries,
            home,
            from,
        });
    }
    let path = file.map_or_else(|| home.join("dump.pm2"), Path::to_owned);
    let dump::Entries { entries, warning } = match dump::read(&path) {
        Err(dump::DumpError::Missing(path)) if file.is_none() => bail!(
            "no PM2 runs in `{}`, and none has saved `{}`: set PM2_HOME, or name a file",
            home.display(),
            path.display()
        ),
        Err(dump::DumpError::Missing(path)) => bail!("there is no `{}`", path.display()),
        read => read?,
    };
    if let Some(warning) = warning {
        output.warning(warning);
    }
    let from = if file.is_none() {
        format!(
            "`{}`, what PM2 saved last (none runs in `{}`)",
            path.display(),
            home.display()
        )
    } else {
        format!("`{}`", path.display())
    };
    Ok(Source {
        entries,
        home,
        from,
    })
}

/// The apps that this daemon has already; none is started to ask.
async fn listed_here(session: &Session) -> anyhow::Result<BTreeSet<String>> {
    let mut daemon = match session.running_daemon().await {
        Err(ClientError::NoDaemon { .. }) => return Ok(BTreeSet::new()),
        answer => answer?,
    };
    let listed = list::table(&mut daemon).await?.rows;
    Ok(listed.iter().map(|row| row.name.to_string()).collect())
}

fn write(file: &Path, takeover: Takeover, output: &Output) -> anyhow::Result<Exit> {
    let exit = tell(&takeover.apps, &takeover.left, output);
    let entries: Vec<_> = takeover.apps.into_iter().map(|app| app.entry).collect();
    if entries.is_empty() {
        bail!("there is no app to write");
    }
    let apps = serde_json::to_string_pretty(&json!({ "apps": entries }))?;
    let text = in_the_language_of(file, &apps);
    // It holds environments, and these hold secrets.
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write `{}`", file.display()))?;
    let many = entries.len();
    output.line(format_args!(
        "✓ wrote {many} app{} to {}; `mcpm start {}` starts them",
        if many == 1 { "" } else { "s" },
        file.display(),
        file.display()
    ))?;
    Ok(exit)
}

/// JSON is YAML, too; a module exports it.
fn in_the_language_of(file: &Path, json: &str) -> String {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("js" | "cjs") => format!("module.exports = {json};\n"),
        Some("mjs") => format!("export default {json};\n"),
        _ => format!("{json}\n"),
    }
}

impl Plan {
    fn of(takeover: Takeover, listed: &BTreeSet<String>, shell: &Shell) -> Self {
        let mut plan = Self {
            apps: Vec::new(),
            loaded: Loaded::default(),
            left: takeover.left,
        };
        for app in takeover.apps {
            if listed.contains(&app.name) {
                let why = "it is listed here already, and left as it is".to_owned();
                plan.leave(app.name, why, false);
                continue;
            }
            let entry = Value::Object(app.entry.clone());
            let loaded = match load_app(&entry, shell) {
                Ok(loaded) => loaded,
                Err(error) => {
                    plan.leave(app.name, error.to_string(), true);
                    continue;
                }
            };
            if let Some(failed) = loaded.failed.into_iter().next() {
                plan.leave(app.name, failed.message, true);
                continue;
            }
            for mut warning in loaded.warnings {
                warning.message = format!("{}: {}", app.name, warning.message);
                plan.loaded.warnings.push(warning);
            }
            plan.loaded.apps.extend(loaded.apps);
            plan.apps.push(app);
        }
        plan
    }

    fn leave(&mut self, name: String, why: String, is_loss: bool) {
        self.left.push(Left { name, why, is_loss });
    }

    fn tell(&self, output: &Output) -> Exit {
        tell(&self.apps, &self.left, output)
    }

    /// Drops what PM2 did not let go of.
    fn without(&mut self, names: &BTreeSet<String>) {
        self.loaded
            .apps
            .retain(|app| !names.contains(app.name.as_str()));
    }

    fn names(&self) -> String {
        let names: BTreeSet<&str> = self
            .loaded
            .apps
            .iter()
            .map(|app| app.name.as_str())
            .collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    }
}

fn tell(apps: &[App], left: &[Left], output: &Output) -> Exit {
    for app in apps {
        for note in &app.notes {
            output.warning(format_args!("{}: {note}", app.name));
        }
    }
    let mut exit = Exit::Fine;
    for Left { name, why, is_loss } in left {
        if *is_loss {
            output.failed(format_args!("{name}: {why}"));
            exit = Exit::Failed;
        } else {
            output.warning(format_args!("{name}: {why}"));
        }
    }
    exit
}

/// The processes of PM2 that these apps take the place of.
fn of_plan<'a>(running: &'a [Map<String, Value>], apps: &[App]) -> Vec<&'a Map<String, Value>> {
    let is_taken = |fields: &&Map<String, Value>| {
        !takeover::is_module(fields)
            && apps.iter().any(|app| {
                fields.get("name") == Some(&json!(app.name))
                    && fields.get("pm_exec_path") == Some(&json!(app.script))
            })
    };
    running.iter().filter(is_taken).collect()
}

fn is_alive(fields: &Map<String, Value>) -> bool {
    let status = fields.get("status").and_then(Value::as_str);
    !matches!(status, Some("stopped" | "errored"))
}

fn pm_id(fields: &Map<String, Value>) -> Option<u64> {
    fields.get("pm_id").and_then(Value::as_u64)
}

/// Saves PM2's list as `pm2 save` does, then has it end and forget these. Returns the names of
/// those that it did not end.
async fn let_go(
    pm2: &mut Client,
    home: &Path,
    running: &[Map<String, Value>],
    taken: &[&Map<String, Value>],
    output: &Output,
) -> anyhow::Result<BTreeSet<String>> {
    let dump = home.join("dump.pm2");
    let saved = running.iter().filter(|fields| !takeover::is_module(fields));
    let saved: Vec<Value> = saved
        .map(|fields| {
            let mut fields = fields.clone();
            fields.retain(|key, _| !NOT_SAVED.contains(&key.as_str()));
            Value::Object(fields)
        })
        .collect();
    dump::write(&dump, &saved).with_context(|| {
        format!(
            "cannot save PM2's list in `{}`; PM2 was not asked",
            dump.display()
        )
    })?;
    let graces = taken
        .iter()
        .filter_map(|fields| fields.get("kill_timeout")?.as_u64());
    let grace = graces.map(Duration::from_millis).fold(GRACE, Duration::max);
    let ids: Vec<u64> = taken.iter().filter_map(|fields| pm_id(fields)).collect();
    let removed = pm2.remove(&ids, grace).await.with_context(|| {
        format!(
            "nothing was started; `pm2 resurrect` brings back what PM2 has ended, from `{}`",
            dump.display()
        )
    })?;
    let mut left = BTreeSet::new();
    for removed in &removed {
        let Some(error) = &removed.error else {
            continue;
        };
        let fields = taken
            .iter()
            .find(|fields| pm_id(fields) == Some(removed.pm_id));
        let name = fields.and_then(|fields| fields.get("name")?.as_str());
        let name = name.unwrap_or_default().to_owned();
        output.failed(format_args!(
            "{name} ({}): PM2 did not end it: {error}",
            removed.pm_id
        ));
        left.insert(name);
    }
    let gone = removed.len()
        - removed
            .iter()
            .filter(|removed| removed.error.is_some())
            .count();
    output.line(format_args!(
        "✓ PM2 has ended {gone} process{}; its list is saved in {}",
        if gone == 1 { "" } else { "es" },
        dump.display()
    ))?;
    Ok(left)
}

async fn start_all(loaded: Loaded, session: &Session) -> anyhow::Result<Exit> {
    if loaded.apps.is_empty() {
        return Ok(Exit::Failed);
    }
    let mut daemon = session.daemon().await?;
    let exit = start::start_loaded(loaded, &mut daemon, session).await?;
    list::print_table(&mut daemon, &session.output).await?;
    next::print(&mut daemon, &session.output).await?;
    Ok(exit)
}
