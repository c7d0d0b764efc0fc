//! The way up: home, lock, log, limits, store, processes, doors; then life (`life.rs`), and the way
//! down that it ends with.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch as tokio_watch};
use tokio::task::JoinSet;

use super::close::{self, Ending, Reason};
use super::footprint;
use super::handover::follow::{self, Follower};
use super::handover::{self, Line, take};
use super::keep::{Keeping, Kept};
use super::life::{self, End, Life};
use super::limits;
use super::listen::{Front, Parts};
use super::lock::{self, Lock, LockError};
use super::log::OwnLog;
use super::pid_file;
use super::publish::Publisher;
use super::recheck::Rechecker;
use super::record::{self, Recorder};
use super::rekey;
use super::retention;
use super::settings::{self, Contradiction};
use super::signals::Signals;
use super::sources;
use crate::access_log::AccessLog;
use crate::api::state::{InForce, Rooms};
use crate::api::{Api, Door, Gate, routes};
use crate::audit::{Audit, By, words};
use crate::control::presence;
use crate::control::readiness::{Starter, Word};
use crate::control::{server, service_manager};
use crate::health;
use crate::home::{Home, HomeError};
use crate::ids::{ServiceType, Timestamp};
use crate::instances::{Checker, Instances};
use crate::limits::Limits;
use crate::logs::Logs;
use crate::logs::append::Rules;
use crate::logs::aside::Tidier;
use crate::oauth::OAuth;
use crate::outbound::{Outbound, Policy};
use crate::problem::{advised, chain};
use crate::router::{Figures, Services, Sessions};
use crate::store::{OpenError, Sqlite, StoreError, StoreHandle};
use crate::supervisor::dump::Read;
use crate::supervisor::journal::{Journal, JournalError};
use crate::supervisor::orphans::{self, Orphans};
use crate::supervisor::usage::Sampler;
use crate::supervisor::{Setup, Supervisor, actor, clock, dump, elsewhere, proc, watch};
use crate::usage::Ledger;
use crate::users::Users;
use crate::vault::{KeyError, KeySource, UnlockError, unlock};

/// Orders to the daemon that may wait; they are few.
const ORDERS: usize = 16;
/// How long what is left of a killed daemon may hold its home, and one that starts may take to answer.
const HOLDER_PATIENCE: Duration = Duration::from_secs(10);
/// Times of last use are written this often; a crash loses that much of them.
const LAST_USED_EVERY: Duration = Duration::from_secs(30);
/// Limits of calls that check a credential.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(10);
const VALIDATION_ANSWER_MAX: usize = 256 * 1024;

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
    /// Started by another daemon, which hands over to this one.
    pub take_over: bool,
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
    /// The daemon that was to hand over has not.
    #[error("{0}")]
    Handover(String),
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
    footprint::limit_arenas();
    // Before any descriptor is opened: the numbers of those that were passed mean them only now.
    let mut starter = Starter::take();
    let kept = Kept::take(options);
    let passed = options.take_over.then(handover::inherited);
    let result = match passed {
        Some(None) => Err(DaemonError::Handover(
            "`--take-over` is said by a daemon that hands over; `mcpm update` asks it to"
                .to_owned(),
        )),
        passed => up(options, &mut starter, passed.flatten(), kept),
    };
    if let (Err(error), Some(starter)) = (&result, starter) {
        let word = match error {
            DaemonError::Running(_) => Word::AlreadyRunning,
            other => Word::Error(advised(&chain(other))),
        };
        let _ = starter.tell(&word);
    }
    result
}

/// What a daemon begins with.
struct Beginning {
    home: Home,
    log: OwnLog,
    orphans: Orphans,
    /// `None` while another daemon has it, which will pass it.
    lock: Option<Lock>,
    /// To that daemon.
    line: Option<Arc<Line>>,
    /// What the service manager had for this one.
    kept: Kept,
}

fn up(
    options: &DaemonOptions,
    starter: &mut Option<Starter>,
    passed: Option<OwnedFd>,
    kept: Kept,
) -> Result<(), DaemonError> {
    let home = Home::find()?;
    home.create()?;
    let lock = match passed {
        Some(_) => None,
        None => Some(own(&home).map_err(|error| match error {
            LockError::Held(_) => {
                kept.leave_router();
                DaemonError::Running(error.to_string())
            }
            LockError::Open(source) => DaemonError::Lock(source),
        })?),
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
        let line = passed.map(Line::over).transpose();
        let line = line
            .map_err(system("speak with the daemon that hands over"))?
            .map(Arc::new);
        let beginning = Beginning {
            home,
            log,
            orphans,
            lock,
            line: line.clone(),
            kept,
        };
        let ended = tokio::select! {
            ended = live(options, beginning, starter) => ended,
            never = keeper.run() => match never {},
        };
        if let (Err(error), Some(line)) = (&ended, line) {
            take::failed(&line, chain(error)).await;
        }
        ended
    });
    // Blocking work that hangs (a dead disk) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The home, or that another daemon is up there.
fn own(home: &Home) -> Result<Lock, LockError> {
    let socket = home.socket();
    lock::take_within(HOLDER_PATIENCE, &home.lock(), || presence::listens(&socket))
}

async fn live(
    options: &DaemonOptions,
    beginning: Beginning,
    starter: &mut Option<Starter>,
) -> Result<(), DaemonError> {
    let Beginning {
        home,
        log,
        orphans,
        lock,
        line,
        mut kept,
    } = beginning;
    let system = |what| move |source| DaemonError::System { what, source };
    let signals = Signals::catch().map_err(system("catch signals"))?;
    let reopen_asked = signal(SignalKind::user_defined2()).map_err(system("catch signals"))?;
    let (limits, warning) = limits::raise();
    let taken = match &line {
        Some(line) => Some(
            take::everything(line)
                .await
                .map_err(DaemonError::Handover)?,
        ),
        None => None,
    };

    // ── what must survive ──
    let store: StoreHandle = Arc::new(Sqlite::open(&home.db())?);
    let source = KeySource::choose(home.path(), |name| std::env::var_os(name))?;
    let master_keys = unlock(&store, source).await?;
    let vault = master_keys.vault().clone();
    let users = Users::new(store.clone(), vault.clone());
    users.groups().load().await?;
    let (instances, lanes) = Instances::open(store.clone(), vault.clone()).await?;
    let (ledger, writing) = Ledger::start(instances.tallies().clone(), store.clone());
    let strong = match &taken {
        Some(taken) => taken.strong.clone(),
        None => sources::strong(options)?,
    };
    let sources = sources::sources(strong, &home, &store).await?;
    let chosen = settings::choose(&sources)?;
    let quotas = Limits::new(users.groups().clone());
    quotas.apply(&chosen.limits);
    let (retain, retained) = tokio_watch::channel(chosen.retention);

    // ── processes ──
    let rules = Rules {
        daemon: chosen.log_rotate,
        tidier: Tidier::start().map_err(system("start the thread that compresses logs"))?,
        zone: TimeZone::system(),
    };
    let logs = Logs::start(rules.clone(), &home.run_dir())
        .map_err(system("start the thread that captures logs"))?;
    if line.is_some() || options.ready.is_some() {
        logs.expect_followers();
    }
    log.attach(rules.clone(), logs.clone());
    let (run_db, boot_id) = (home.run_db(), proc::boot_id());
    let (journal, left) = match &taken {
        Some(_) => Journal::take_over(&run_db, &boot_id)?,
        None => Journal::open(&run_db, &boot_id)?,
    };
    let mut warnings: Vec<String> = warning.into_iter().collect();
    warnings.extend(left.warning.clone());
    let looked = elsewhere::look(left, &home).await;
    let (left, elsewhere, warning) =
        looked.ok_or(DaemonError::Bug("the search for processes of this home"))?;
    warnings.extend(warning);
    // ── from here on this is the daemon ──
    let (lock, commands, passed) = match (taken, &line) {
        (Some(taken), Some(line)) => {
            take::yours(line).await.map_err(DaemonError::Handover)?;
            let lock = Lock::passed(taken.lock, &home.lock()).map_err(DaemonError::Lock)?;
            (Some(lock), Some(taken.commands), taken.router)
        }
        _ => (lock, None, kept.router.take()),
    };
    let lock = lock.ok_or(DaemonError::Bug("the lock of the state folder"))?;
    let (cgroups, warning) = limits::cgroups(options.detached, &left.home_id);
    warnings.extend(warning);
    let keys = vault.clone();
    let supervisor = actor::start(Setup {
        home: home.path().to_owned(),
        run_dir: home.run_dir(),
        logs_dir: home.logs_dir(),
        pids_dir: home.pids_dir(),
        journal: (journal, left),
        kept: std::mem::take(&mut kept.pipes),
        logs: logs.clone(),
        limits,
        orphans,
        cgroups,
        elsewhere,
        router_secret: Arc::new(move |service: &ServiceType| keys.router_secret(service)),
    })
    .await
    .map_err(system("start the thread that starts processes"))?;

    // ── doors ──
    let in_force = Arc::new(ArcSwap::from_pointee(InForce::default()));
    let (orders, inbox) = mpsc::channel(ORDERS);
    let outbound = |allow_private| {
        Outbound::new(Policy {
            allow_private,
            timeout: VALIDATION_TIMEOUT,
            max_answer: VALIDATION_ANSWER_MAX,
        })
    };
    let (audit, writer, poster) = Audit::new(store.clone(), outbound(true));
    audit.set_webhook(chosen.webhook());
    let (public, private) = (outbound(false), outbound(true));
    let (oauth, refreshing) = OAuth::new(instances.clone(), audit.clone(), public, private);
    let checker = Checker::new(
        instances.clone(),
        outbound(false),
        outbound(true),
        quotas.clone(),
    );
    let services = Arc::new(Services::default());
    let sessions = Sessions::new(store.clone(), vault.clone());
    let access_log = AccessLog::new(home.access_log());
    access_log.apply(chosen.access_log, rules.clone());
    let figures = Figures {
        services: services.clone(),
        refused: Arc::default(),
        sessions: sessions.clone(),
        access_log: access_log.clone(),
    };
    let api = Api::new(Rooms {
        figures: figures.clone(),
        home: home.clone(),
        is_container: options.is_container(),
        started_at: Timestamp::now(),
        supervisor: supervisor.clone(),
        sampler: Sampler::default(),
        logs: logs.clone(),
        users: users.clone(),
        limits: quotas.clone(),
        instances: instances.clone(),
        keys: master_keys.clone(),
        ledger: ledger.clone(),
        audit: audit.clone(),
        oauth: oauth.clone(),
        checker: checker.clone(),
        in_force: in_force.clone(),
        orders,
    });
    let publisher = Publisher::new(&supervisor, vault.clone(), services.clone());
    let follower = Follower::new(services, vault, (&instances, &users));
    let gate = Gate::default();
    let front = Front::open(
        Parts {
            figures,
            instances: instances.clone(),
            users: users.clone(),
            limits: quotas.clone(),
            audit: audit.clone(),
            oauth: oauth.clone(),
            api: routes::service(api.clone(), Door::Tcp, gate.clone()),
            in_force,
            warnings,
        },
        chosen,
        passed,
    )
    .await;
    let socket = match commands {
        Some(passed) => server::passed(passed),
        None => server::bind(&home.socket()),
    };
    let socket = socket.map_err(system("open its socket"))?;
    let commands = socket.as_fd().try_clone_to_owned();
    let commands = commands.map_err(system("open its socket"))?;
    pid_file::write(&home.pid_file());
    if let Some(line) = &line {
        // Before any command is answered: whoever has an answer from here may signal the other one.
        take::up(line).await;
    }

    let mut tasks = JoinSet::new();
    // These write as long as there are requests, of a daemon that has handed over, too.
    let mut scribes = JoinSet::new();
    scribes.spawn(writer.run());
    scribes.spawn(poster.run());
    scribes.spawn(refreshing.run());
    scribes.spawn(sessions.look_after());
    let called = Arc::new(Notify::new());
    let api = routes::service(api, Door::Socket, gate.clone());
    let mut doors = JoinSet::new();
    doors.spawn(server::serve(socket, api, called.clone(), gate.clone()));
    tasks.spawn(publisher.run());
    let (recorder, end) = Recorder::new();
    tasks.spawn(record::run(supervisor.clone(), store.clone(), end));
    let seen = store.health().await?;
    tasks.spawn(health::watch::run(supervisor.clone(), seen));
    tasks.spawn(crate::supervisor::guard(supervisor.clone()));
    tasks.spawn(clock::run(supervisor.clone()));
    tasks.spawn(watch::run(supervisor.clone(), home.path().to_owned()));
    tasks.spawn(keep_last_used(instances.clone(), users.clone()));
    tasks.spawn(rekey::run(
        master_keys,
        instances.clone(),
        audit.clone(),
        gate.clone(),
    ));
    tasks.spawn(retention::run(store.clone(), retained));
    // Beside the scribes: what the router of a daemon that has handed over sees is found out, too.
    let rechecker = Rechecker::new(&instances, checker, &oauth, &audit);
    scribes.spawn(rechecker.run());
    tasks.spawn(footprint::run(called));
    tasks.spawn(async move { drop(lanes.await) });
    // Not ended with the others: requests count as long as the router has any.
    tasks.spawn(async move { drop(writing.await) });
    if let Some(line) = line.clone() {
        tasks.spawn(take::pass_on(line.clone(), instances.endings()));
        tasks.spawn(take::pass_on(line.clone(), users.endings()));
        tasks.spawn(follow::tell(line, supervisor.subscribe()));
    }
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
    let mut keeping = Keeping::default();
    if managed {
        service_manager::tell(&service_manager::ready());
        tasks.spawn(service_manager::keep_alive());
        keeping = kept.go_on(&home, &supervisor, &front);
    }
    if let Some(ready) = &options.ready {
        let _ = ready.send(());
    }

    // ── life ──
    let (end, inbox, mut signals) = {
        let mut life = Life {
            options,
            home: &home,
            log: &log,
            limits,
            lock: &lock,
            commands: &commands,
            gate: &gate,
            front: &front,
            supervisor: &supervisor,
            logs: &logs,
            instances: &instances,
            users: &users,
            ledger: &ledger,
            recorder: &recorder,
            quotas: &quotas,
            retention: &retain,
            audit: &audit,
            store: &store,
            sources,
            rules,
            access_log: &access_log,
            inbox,
            signals,
            reopen_asked,
            tasks: &mut tasks,
            scribes: &mut scribes,
            doors: &mut doors,
        };
        (life.run().await, life.inbox, life.signals)
    };
    let (reason, done) = match end {
        End::Broken(part) => return Err(DaemonError::Bug(part)),
        End::Close(reason, done) => (reason, done),
        End::HandedOver(given, drain) => {
            logs.dismiss_followers();
            gate.leave();
            drop((lock, commands));
            let leave = async {
                doors.join_all().await;
                drop(keeping);
                tasks.shutdown().await;
                close::leave(front, follower, &given, line, drain, &mut signals).await;
            };
            tokio::select! {
                () = leave => {}
                never = life::answer_late(inbox, &given) => match never {},
            }
            access_log.close().await;
            oauth.close().await;
            ledger.close().await;
            audit.close().await;
            if let Err(error) = store.close().await {
                tracing::debug!(%error, "the database was not closed in order");
            }
            tracing::info!("all that was begun before the hand-over is done; ended");
            return Ok(());
        }
    };
    if reason == Reason::Signal {
        let entry = By::system().entry(words::DAEMON_STOP);
        audit.record(entry.with_detail("told by a signal"));
    }
    if managed {
        service_manager::tell(service_manager::STOPPING);
    }
    if reason == Reason::Keep {
        // The next one is to find all that is kept, and the router's clients wait for it.
        keeping = Keeping::default();
    }
    close::close(
        Ending {
            home,
            front,
            recorder,
            supervisor,
            instances,
            users,
            ledger,
            audit,
            oauth,
            store,
            predecessor: line,
        },
        reason,
    )
    .await;
    access_log.close().await;
    keeping.finish().await;
    if let Some(done) = done {
        let _ = done.send(Ok(()));
        // The answer is on its way to the command that asked.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tasks.shutdown().await;
    tracing::info!("ended");
    Ok(())
}

async fn resurrect(home: &Home, supervisor: &Supervisor) {
    match dump::read(&home.dump()) {
        Ok(Read { saved, warning, .. }) => {
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

async fn keep_last_used(instances: Instances, users: Users) {
    loop {
        tokio::time::sleep(LAST_USED_EVERY).await;
        let written = instances.flush_last_used().await;
        if let Err(error) = written.and(users.flush_last_used().await) {
            tracing::warn!(%error, "cannot write times of last use; trying again");
        }
    }
}
