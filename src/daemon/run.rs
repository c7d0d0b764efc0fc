//! The way up: home, lock, log, limits, store, processes, doors; then orders and signals until one
//! of them says to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::close::{self, Ending, Reason};
use super::footprint;
use super::limits;
use super::listen::{Front, Parts};
use super::lock::{self, LockError};
use super::log::OwnLog;
use super::publish;
use super::record::{self, Recorder};
use super::settings::{self, Chosen, Contradiction, Source, Sources};
use crate::api::state::{DaemonOrder, InForce, Rooms};
use crate::api::{Api, Door, routes};
use crate::config::Settings;
use crate::config::load::load_settings;
use crate::control::readiness::{Starter, Word};
use crate::control::{server, service_manager};
use crate::health;
use crate::home::{Home, HomeError};
use crate::ids::{ServiceType, Timestamp};
use crate::instances::Instances;
use crate::logs::Logs;
use crate::logs::append::Rules;
use crate::logs::aside::Tidier;
use crate::outbound::{Outbound, Policy};
use crate::problem::chain;
use crate::router::Services;
use crate::store::{OpenError, Sqlite, StoreError, StoreHandle};
use crate::supervisor::dump::Read;
use crate::supervisor::journal::{Journal, JournalError, Left};
use crate::supervisor::orphans::{self, Orphans};
use crate::supervisor::usage::Sampler;
use crate::supervisor::{Setup, Supervisor, actor, adopt, clock, dump, proc, watch};
use crate::users::Users;
use crate::vault::{KeyError, KeySource, UnlockError, unlock};

/// Orders to the daemon that may wait; they are few.
const ORDERS: usize = 16;
/// Times of last use are written this often; a crash loses that much of them.
const LAST_USED_EVERY: Duration = Duration::from_secs(30);
/// Limits of calls that check a credential.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(10);
const VALIDATION_ANSWER_MAX: usize = 256 * 1024;
/// Where the store keeps the settings of the ecosystem file's block.
const BLOCK_SETTING: &str = "ecosystem_block";

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// Started by a command: standard error is `mcpm.log`.
    pub detached: bool,
    /// Address of router and API.
    pub listen: Option<SocketAddr>,
    /// Origin of handed-out URLs.
    pub public_url: Option<String>,
    /// Bring back the saved list.
    pub resurrect: bool,
    /// Told once, when it answers; for who runs it in its own process.
    pub ready: Option<SyncSender<()>>,
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No state folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Another daemon has it.
    #[error("{0}")]
    Running(String),
    /// The lock file can't be had.
    #[error("cannot lock the state folder")]
    Lock(#[source] std::io::Error),
    /// The system refuses something a daemon needs.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The master key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The master key and the database.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// The database does not answer.
    #[error("cannot read the database")]
    Read(#[from] StoreError),
    /// `run.db`.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Settings.
    #[error("{0}")]
    Settings(String),
    /// A bug: a part that must live has ended.
    #[error("{0} has ended; the services go on, start the daemon again and send us its log")]
    Bug(&'static str),
}

impl From<Contradiction> for DaemonError {
    fn from(error: Contradiction) -> Self {
        Self::Settings(error.to_string())
    }
}

/// Runs the daemon until it is told to end. Blocks.
///
/// # Errors
/// When it can't start, or a part of it fails. Services that run are left running.
pub fn run(options: &DaemonOptions) -> Result<(), DaemonError> {
    // Before any descriptor is opened: the number of the starter's pipe means it only now.
    let mut starter = Starter::take();
    let result = up(options, &mut starter);
    if let (Err(error), Some(starter)) = (&result, starter) {
        let word = match error {
            DaemonError::Running(_) => Word::AlreadyRunning,
            other => Word::Error(chain(other)),
        };
        let _ = starter.tell(&word);
    }
    result
}

fn up(options: &DaemonOptions, starter: &mut Option<Starter>) -> Result<(), DaemonError> {
    let home = Home::find()?;
    home.create()?;
    let _lock = match lock::take(&home.lock()) {
        Ok(lock) => lock,
        Err(error @ LockError::Held(_)) => return Err(DaemonError::Running(error.to_string())),
        Err(LockError::Open(source)) => return Err(DaemonError::Lock(source)),
    };
    let log = OwnLog::start(&home.log());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("mcpm")
        .build()
        .map_err(|source| DaemonError::System {
            what: "start its threads",
            source,
        })?;
    let system = |what| move |source| DaemonError::System { what, source };
    let result = runtime.block_on(async {
        let (orphans, keeper) = orphans::keep().map_err(system("become the parent of orphans"))?;
        tokio::select! {
            ended = live(options, home, log, starter, orphans) => ended,
            never = keeper.run() => match never {},
        }
    });
    // Blocking work that hangs (a dead disk) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn live(
    options: &DaemonOptions,
    home: Home,
    log: OwnLog,
    starter: &mut Option<Starter>,
    orphans: Orphans,
) -> Result<(), DaemonError> {
    let system = |what| move |source| DaemonError::System { what, source };
    let mut signals = Signals::catch().map_err(system("catch signals"))?;
    let mut reopen_asked = signal(SignalKind::user_defined2()).map_err(system("catch signals"))?;
    let (limits, warning) = limits::raise();

    // ── what must survive ──
    let store: StoreHandle = Arc::new(Sqlite::open(&home.db())?);
    let source = KeySource::choose(home.path(), |name| std::env::var_os(name))?;
    let vault = unlock(&store, &source).await?;
    let users = Users::new(store.clone(), vault.clone());
    let (instances, lanes) = Instances::open(store.clone(), vault.clone()).await?;
    let mut sources = sources(options, &home, &store).await?;
    let own = home.settings().display().to_string();
    let chosen = settings::choose(&sources)?;

    // ── processes ──
    let mut rules = Rules {
        daemon: chosen.log_rotate,
        tidier: Tidier::start().map_err(system("start the thread that compresses logs"))?,
        zone: TimeZone::system(),
    };
    let logs = Logs::start(rules.clone()).map_err(system("start the thread that captures logs"))?;
    log.attach(rules.clone(), logs.clone());
    let (journal, left) = Journal::open(&home.run_db(), &proc::boot_id())?;
    let mut warnings: Vec<String> = warning.into_iter().collect();
    warnings.extend(left.warning.clone());
    let (left, unlisted) = unlisted(left, &home).await?;
    warnings.extend(unlisted);
    let keys = vault.clone();
    let supervisor = actor::start(Setup {
        home: home.path().to_owned(),
        run_dir: home.run_dir(),
        logs_dir: home.logs_dir(),
        pids_dir: home.pids_dir(),
        journal: (journal, left),
        logs: logs.clone(),
        limits,
        orphans,
        router_secret: Arc::new(move |service: &ServiceType| keys.router_secret(service)),
    })
    .await
    .map_err(system("start the thread that starts processes"))?;

    // ── doors ──
    let in_force = Arc::new(ArcSwap::from_pointee(InForce::default()));
    let (orders, mut inbox) = mpsc::channel(ORDERS);
    let outbound = |allow_private| {
        Outbound::new(Policy {
            allow_private,
            timeout: VALIDATION_TIMEOUT,
            max_answer: VALIDATION_ANSWER_MAX,
        })
    };
    let api = Api::new(Rooms {
        home: home.clone(),
        started_at: Timestamp::now(),
        supervisor: supervisor.clone(),
        sampler: Sampler::default(),
        logs: logs.clone(),
        users: users.clone(),
        instances: instances.clone(),
        outbound: outbound(false),
        outbound_private: outbound(true),
        in_force: in_force.clone(),
        orders,
    });
    let services = Arc::new(Services::default());
    let front = Front::open(
        Parts {
            services: services.clone(),
            instances: instances.clone(),
            users,
            api: routes::service(api.clone(), Door::Tcp),
            in_force,
            warnings,
        },
        chosen,
    )
    .await;
    let socket = server::bind(&home.socket()).map_err(system("open its socket"))?;
    write_pid(&home.pid_file()).map_err(system("write its pid file"))?;

    let mut tasks = JoinSet::new();
    let called = Arc::new(Notify::new());
    let api = routes::service(api, Door::Socket);
    tasks.spawn(server::serve(socket, api, called.clone()));
    tasks.spawn(publish::run(supervisor.clone(), vault, services));
    let (recorder, end) = Recorder::new();
    tasks.spawn(record::run(supervisor.clone(), store.clone(), end));
    let seen = store.health().await?;
    tasks.spawn(health::watch::run(supervisor.clone(), seen));
    tasks.spawn(crate::supervisor::guard(supervisor.clone()));
    tasks.spawn(clock::run(supervisor.clone()));
    tasks.spawn(watch::run(supervisor.clone(), home.path().to_owned()));
    tasks.spawn(keep_last_used(instances.clone()));
    tasks.spawn(footprint::run(called));
    tasks.spawn(async move { drop(lanes.await) });
    if options.resurrect {
        resurrect(&home, &supervisor).await;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        "ready"
    );
    if let Some(starter) = starter.take() {
        // A command that has been interrupted does not hear it; the daemon lives on.
        let _ = starter.tell(&Word::Ok);
    }

    // A daemon of a command is not the service that the command runs in.
    let managed = !options.detached;
    if managed {
        service_manager::tell(service_manager::READY);
        tasks.spawn(service_manager::keep_alive());
    }
    if let Some(ready) = &options.ready {
        let _ = ready.send(());
    }

    // ── life ──
    let (reason, done) = loop {
        tokio::select! {
            order = inbox.recv() => match order {
                Some(DaemonOrder::Stop { keep, done }) => {
                    break (if keep { Reason::Keep } else { Reason::Kill }, Some(done));
                }
                Some(DaemonOrder::Apply { settings, file, environment, done }) => {
                    let idle = supervisor.snapshot().processes.is_empty();
                    let block = (settings != Settings::default())
                        .then_some(Block { file, settings });
                    let asked = Asked { block, environment };
                    let applied = apply(&mut sources, asked, idle, &own, &front, &store).await;
                    if let Ok(Some(chosen)) = &applied && chosen.log_rotate != rules.daemon {
                        rules.daemon = chosen.log_rotate;
                        logs.rotate(rules.daemon).await;
                        log.attach(rules.clone(), logs.clone());
                    }
                    let _ = done.send(applied.map(drop));
                }
                Some(DaemonOrder::ReopenLogs { done }) => {
                    reopen(&log, &logs).await;
                    let _ = done.send(());
                }
                None => return Err(DaemonError::Bug("the API")),
            },
            _ = reopen_asked.recv() => reopen(&log, &logs).await,
            name = signals.next() => {
                tracing::info!(signal = name, "stopping");
                break (Reason::Signal, None);
            }
            _ = tasks.join_next() => return Err(DaemonError::Bug("a part of the daemon")),
        }
    };
    if managed {
        service_manager::tell(service_manager::STOPPING);
    }
    close::close(
        Ending {
            home,
            front,
            recorder,
            supervisor,
            instances,
            store,
        },
        reason,
    )
    .await;
    if let Some(done) = done {
        let _ = done.send(());
        // The answer is on its way to the command that asked.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tasks.shutdown().await;
    tracing::info!("ended");
    Ok(())
}

/// For an outside logrotate, as PM2's SIGUSR2.
async fn reopen(log: &OwnLog, logs: &Logs) {
    log.reopen();
    logs.reopen().await;
    tracing::info!("opened all logs anew");
}

/// Whole from the moment it is there: scripts wait for it and read it at once.
fn write_pid(path: &Path) -> std::io::Result<()> {
    let new = path.with_extension("pid.new");
    std::fs::write(&new, std::process::id().to_string())?;
    std::fs::rename(new, path)
}

/// Looks for what an earlier daemon left running and no row names, and says so.
async fn unlisted(left: Left, home: &Home) -> Result<(Left, Option<String>), DaemonError> {
    let path = home.path().to_owned();
    let look = move || {
        let found = adopt::unlisted(&left.rows, &path, &left.home_id);
        (left, adopt::warning(&found))
    };
    let (left, warning) = tokio::task::spawn_blocking(look)
        .await
        .map_err(|_| DaemonError::Bug("the search for processes of this home"))?;
    if let Some(warning) = &warning {
        tracing::warn!("{warning}");
    }
    Ok((left, warning))
}

/// What flags, environment and files say.
async fn sources(
    options: &DaemonOptions,
    home: &Home,
    store: &StoreHandle,
) -> Result<Sources, DaemonError> {
    let flags = Settings {
        listen: options.listen,
        public_url: options.public_url.clone(),
        ..Settings::default()
    };
    let mut strong = vec![Source {
        name: settings::FLAG.into(),
        settings: flags,
    }];
    let environment = settings::from_environment(|name| std::env::var(name).ok());
    strong.extend(environment.map_err(DaemonError::Settings)?);
    let mut files = Vec::new();
    if let Some(kept) = store.setting(BLOCK_SETTING).await? {
        match serde_json::from_slice(&kept) {
            Ok(block) => files.push(Block::source(&block)),
            Err(error) => tracing::warn!(%error, "stored settings are not readable; left out"),
        }
    }
    let path = home.settings();
    if path.exists() {
        let (settings, warnings) =
            load_settings(&path).map_err(|error| DaemonError::Settings(chain(&error)))?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        files.push(Source {
            name: path.display().to_string(),
            settings,
        });
    }
    Ok(Sources { strong, files })
}

/// The `mcpm` block of an ecosystem file, as the store keeps it for a daemon that sees no file.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Block {
    /// Where it stands; `None` when it came from standard input.
    file: Option<PathBuf>,
    /// What it says.
    settings: Settings,
}

impl Block {
    fn source(&self) -> Source {
        let name = match &self.file {
            Some(file) => file.display().to_string(),
            None => "an ecosystem file that came from standard input".to_owned(),
        };
        Source {
            name,
            settings: self.settings.clone(),
        }
    }
}

/// What one `start` says about settings.
struct Asked {
    /// Of its ecosystem file.
    block: Option<Block>,
    /// Of its shell.
    environment: BTreeMap<String, String>,
}

/// Takes the settings of a start. What contradicts those in force is refused while processes run;
/// an idle daemon moves. Returns the new settings when they are others.
async fn apply(
    sources: &mut Sources,
    Asked { block, environment }: Asked,
    idle: bool,
    settings_file: &str,
    front: &Front,
    store: &StoreHandle,
) -> Result<Option<Chosen>, String> {
    let before = settings::choose(sources).map_err(|error| error.to_string())?;
    let shell = settings::from_environment(|name| environment.get(name).cloned())?;
    let mut next = sources.clone();
    next.take_shell(&shell);
    if let Some(block) = &block {
        // One block is in force; `mcpm.json` is the other file, and the last.
        next.files.retain(|file| file.name == settings_file);
        next.files.insert(0, block.source());
    }
    let after = settings::choose(&next).map_err(|error| error.to_string())?;
    let wished = settings::choose(&Sources {
        strong: shell,
        files: block.iter().map(Block::source).collect(),
    });
    let wished = wished.map_err(|error| error.to_string())?;
    let moves = idle || before.only_defaults_change(&after);
    let mut refused = if moves { &after } else { &before }.refused(&wished);
    if refused.is_empty() && !moves {
        // What the last file said and this one does not.
        refused = before.difference(&after);
    }
    if !refused.is_empty() && !idle {
        return Err(format!(
            "the running daemon has other settings than this start ({refused}): `mcpm kill` and \
             start again, or make them equal"
        ));
    }
    if !refused.is_empty() {
        tracing::warn!("a stronger setting is in force: {refused}");
    }
    if let Some(block) = block {
        let kept = serde_json::to_vec(&block).expect("settings hold nothing that JSON can't");
        if let Err(error) = store.put_setting(BLOCK_SETTING, kept).await {
            return Err(format!("the settings could not be kept: {error}"));
        }
    }
    *sources = next;
    if after.same_values(&before) {
        return Ok(None);
    }
    front.apply(after.clone());
    Ok(Some(after))
}

async fn resurrect(home: &Home, supervisor: &Supervisor) {
    match dump::read(&home.dump()) {
        Ok(Read { saved, warning }) => {
            if let Some(warning) = warning {
                tracing::warn!("{warning}");
            }
            if let Err(error) = supervisor.resurrect(saved).await {
                tracing::error!(%error, "cannot bring back the saved list");
            }
        }
        Err(dump::DumpError::Missing(_)) => tracing::info!("no list was saved"),
        Err(error) => tracing::error!(%error, "cannot bring back the saved list"),
    }
}

async fn keep_last_used(instances: Instances) {
    loop {
        tokio::time::sleep(LAST_USED_EVERY).await;
        if let Err(error) = instances.flush_last_used().await {
            tracing::warn!(%error, "cannot write times of last use; trying again");
        }
    }
}

/// The signals that end the daemon. SIGHUP is taken and ignored: a closed terminal is no reason.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    _hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}
