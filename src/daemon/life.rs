//! The life of a daemon that is up: orders of commands and signals, until one of them ends it.
//!
//! They are heard while it hands over, too. What ends the daemon ends the one that comes first. Until
//! everything is at rest settings may still change; from then on whoever wants that is told to ask
//! again, and is heard when it is clear which of the two goes on.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::close::Reason;
use super::handover::give::{Coming, Failure, Given, Going, Launch};
use super::listen::Front;
use super::lock::Lock;
use super::log::OwnLog;
use super::record::Recorder;
use super::run::DaemonOptions;
use super::settings::{Retention, Sources};
use super::signals::Signals;
use super::sources::{self, Asked, Block};
use crate::access_log::AccessLog;
use crate::api::Gate;
use crate::api::daemon::Updated;
use crate::api::state::{DaemonOrder, Done, NotDone};
use crate::audit::Audit;
use crate::config::Settings;
use crate::home::Home;
use crate::instances::Instances;
use crate::limits::Limits;
use crate::logs::Logs;
use crate::logs::append::Rules;
use crate::store::StoreHandle;
use crate::supervisor::Supervisor;
use crate::supervisor::spawn::OperatorLimits;
use crate::usage::Ledger;
use crate::users::Users;

/// A table of millions of instances is filled within this after a start; one that is not by then has a
/// store that cannot be read.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// How long commands under way are waited for when all is to come to rest; one that stops a slow
/// service is cut after it.
const COMMANDS_WITHIN: Duration = Duration::from_secs(10);

/// Why a daemon's life ends.
pub(super) enum End {
    /// It was told to; whoever waits for that is answered.
    Close(Reason, Option<Done<()>>),
    /// Another daemon goes on, and this one finishes what was begun for so long.
    HandedOver(Box<Given>, Duration),
    /// This part of it is gone.
    Broken(&'static str),
}

/// All that orders may concern.
pub(super) struct Life<'a> {
    pub(super) options: &'a DaemonOptions,
    pub(super) home: &'a Home,
    pub(super) log: &'a OwnLog,
    pub(super) limits: OperatorLimits,
    pub(super) lock: &'a Lock,
    pub(super) commands: &'a OwnedFd,
    pub(super) gate: &'a Gate,
    pub(super) front: &'a Front,
    pub(super) supervisor: &'a Supervisor,
    pub(super) logs: &'a Logs,
    pub(super) instances: &'a Instances,
    pub(super) users: &'a Users,
    pub(super) ledger: &'a Ledger,
    pub(super) recorder: &'a Recorder,
    pub(super) quotas: &'a Limits,
    pub(super) retention: &'a watch::Sender<Retention>,
    pub(super) audit: &'a Audit,
    pub(super) store: &'a StoreHandle,
    pub(super) sources: Sources,
    pub(super) rules: Rules,
    pub(super) access_log: &'a AccessLog,
    pub(super) inbox: mpsc::Receiver<DaemonOrder>,
    pub(super) signals: Signals,
    pub(super) reopen_asked: Signal,
    pub(super) tasks: &'a mut JoinSet<()>,
    pub(super) scribes: &'a mut JoinSet<()>,
    pub(super) doors: &'a mut JoinSet<()>,
}

/// What is to be done.
enum Heard {
    Apply(Box<Asked>, Done<()>),
    Reopen(Option<Done<()>>),
    Update(Wish, Duration),
    End(End),
}

impl From<DaemonOrder> for Heard {
    fn from(order: DaemonOrder) -> Self {
        match order {
            DaemonOrder::Stop { keep, done } => {
                let reason = if keep { Reason::Keep } else { Reason::Kill };
                Self::End(End::Close(reason, Some(done)))
            }
            DaemonOrder::Update {
                program,
                drain,
                done,
            } => Self::Update(Wish { program, done }, drain),
            DaemonOrder::ReopenLogs { done } => Self::Reopen(Some(done)),
            DaemonOrder::Apply {
                settings,
                file,
                environment,
                done,
            } => {
                let settings = *settings;
                let is_any = settings != Settings::default();
                let block = is_any.then_some(Block { file, settings });
                Self::Apply(Box::new(Asked { block, environment }), done)
            }
        }
    }
}

/// Somebody wants this program to be the daemon.
struct Wish {
    program: PathBuf,
    done: Done<Updated>,
}

impl Wish {
    fn refuse(self, why: String) {
        let _ = self.done.send(Err(NotDone::Why(why)));
    }

    /// Another daemon has taken over: the one that was wished for, or not.
    fn answer(self, given: &Given) {
        let Given {
            program,
            pid,
            version,
            ..
        } = given;
        if self.program == *program {
            let _ = self.done.send(Ok(Updated {
                from_pid: std::process::id(),
                from_version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: *pid,
                version: version.clone(),
            }));
            return;
        }
        let why = format!(
            "another update was under way: mcpm {version} (pid {pid}, `{}`) is the daemon now; update \
             again if it is to be `{}`",
            program.display(),
            self.program.display()
        );
        self.refuse(why);
    }
}

/// Why another daemon was not given everything.
enum Halt<W> {
    /// One of the two can't.
    Failed(W),
    /// This one is to end instead.
    End(End),
}

impl<W> From<End> for Halt<W> {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Failure> for Halt<Failure> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// May settings change?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settable {
    Yes,
    /// They are on their way to another daemon.
    No,
}

impl DaemonOptions {
    /// All ends with this process: it is the first of a container, or `mcpm runtime`, which is its
    /// program.
    pub(super) fn is_container(&self) -> bool {
        self.ready.is_some() || std::process::id() == 1
    }
}

impl Life<'_> {
    /// Obeys until an order, a signal or a failure ends it.
    pub(super) async fn run(&mut self) -> End {
        loop {
            match self.next().await {
                Heard::End(end) => return end,
                Heard::Apply(asked, done) => self.apply(*asked, done).await,
                Heard::Reopen(done) => self.reopen(done).await,
                Heard::Update(wish, drain) => {
                    if let Some(end) = self.update(wish, drain).await {
                        return end;
                    }
                }
            }
        }
    }

    /// What comes next. Cancel-safe.
    async fn next(&mut self) -> Heard {
        let broken = |part| Heard::End(End::Broken(part));
        tokio::select! {
            order = self.inbox.recv() => order.map_or_else(|| broken("the API"), Heard::from),
            _ = self.reopen_asked.recv() => Heard::Reopen(None),
            name = self.signals.next() => {
                tracing::info!(signal = name, "stopping");
                Heard::End(End::Close(Reason::Signal, None))
            }
            _ = self.tasks.join_next() => broken("a part of the daemon"),
            _ = self.scribes.join_next() => broken("the audit log"),
            _ = self.doors.join_next() => broken("the socket of commands"),
        }
    }

    /// Takes the settings of a start.
    async fn apply(&mut self, asked: Asked, done: Done<()>) {
        let idle = self.supervisor.snapshot().processes.is_empty();
        let own = self.home.settings().display().to_string();
        let (front, store) = (self.front, self.store);
        let applied = sources::apply(&mut self.sources, asked, idle, &own, front, store).await;
        if let Ok(Some(chosen)) = &applied {
            let kept = chosen.retention;
            self.retention
                .send_if_modified(|now| std::mem::replace(now, kept) != kept);
        }
        if let Ok(Some(chosen)) = &applied
            && chosen.log_rotate != self.rules.daemon
        {
            self.rules.daemon = chosen.log_rotate;
            self.logs.rotate(self.rules.daemon).await;
            self.log.attach(self.rules.clone(), self.logs.clone());
        }
        if let Ok(Some(chosen)) = &applied {
            self.audit.set_webhook(chosen.webhook());
            self.quotas.apply(&chosen.limits);
            self.access_log.apply(chosen.access_log, self.rules.clone());
        }
        let _ = done.send(applied.map(drop).map_err(NotDone::Why));
    }

    /// For an outside logrotate, as PM2's SIGUSR2.
    async fn reopen(&self, done: Option<Done<()>>) {
        self.log.reopen();
        self.logs.reopen().await;
        tracing::info!("opened all logs anew");
        if let Some(done) = done {
            let _ = done.send(Ok(()));
        }
    }

    /// Hands over to another daemon. `None` when that one does not go on, and this one does.
    async fn update(&mut self, wish: Wish, drain: Duration) -> Option<End> {
        if self.options.is_container() {
            let why = "this daemon is the first process of a container; start a new container in its \
                       place";
            wish.refuse(why.to_owned());
            return None;
        }
        let program = wish.program.clone();
        let mut wishes = vec![wish];
        match self.hand_over(&program, &mut wishes).await {
            Ok(given) => {
                for wish in wishes {
                    wish.answer(&given);
                }
                Some(End::HandedOver(Box::new(given), drain))
            }
            Err(Halt::Failed(why)) => {
                tracing::error!("not handed over: {why}");
                for wish in wishes {
                    let why = if wish.program == program {
                        why.clone()
                    } else {
                        format!("another update was under way, which has failed ({why}); try again")
                    };
                    wish.refuse(why);
                }
                None
            }
            Err(Halt::End(end)) => {
                for wish in wishes {
                    wish.refuse("the daemon was told to end meanwhile".to_owned());
                }
                Some(end)
            }
        }
    }

    /// Starts this program and gives it everything, or ends it. Whoever wishes for a daemon meanwhile
    /// is put to the others: no more than may ask at once.
    async fn hand_over(
        &mut self,
        program: &Path,
        wishes: &mut Vec<Wish>,
    ) -> Result<Given, Halt<String>> {
        let launch = Launch {
            home: self.home,
            detached: self.options.detached,
            limits: self.limits,
        };
        // Its router serves on when the store is closed: then it must know all instances.
        let whole = timeout(WHOLE_WITHIN, self.instances.whole());
        let whole = self.beside(whole, Settable::Yes, wishes).await?;
        if whole.is_err() {
            let why = "instances are still being read; try again later";
            return Err(Halt::Failed(why.to_owned()));
        }
        let coming = Coming::start(program, launch).await;
        let mut coming = coming.map_err(Halt::Failed)?;
        match self.give(&mut coming, wishes).await {
            Ok(()) => Ok(coming.given()),
            Err(Halt::Failed(failure)) => Err(Halt::Failed(coming.end().await.why(failure))),
            Err(Halt::End(end)) => {
                coming.end().await;
                Err(Halt::End(end))
            }
        }
    }

    /// From the first word to the last.
    async fn give(
        &mut self,
        coming: &mut Coming,
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Halt<Failure>> {
        self.beside(coming.prepared(), Settable::Yes, wishes)
            .await??;
        let gate = self.gate;
        gate.close();
        let (thaw, thawed) = oneshot::channel();
        let given = self.give_at_rest(coming, thawed, wishes).await;
        if given.is_ok() {
            // Without a word, so that the supervisor ends as it stands.
            drop(thaw);
        } else {
            let _ = thaw.send(());
            gate.open();
        }
        given
    }

    /// Behind the closed gate.
    async fn give_at_rest(
        &mut self,
        coming: &Coming,
        thawed: oneshot::Receiver<()>,
        wishes: &mut Vec<Wish>,
    ) -> Result<(), Halt<Failure>> {
        // Some of them wait for this very loop.
        let gate = self.gate;
        let quiet = timeout(COMMANDS_WITHIN, gate.quiet());
        let quiet = self.beside(quiet, Settable::Yes, wishes).await?;
        if quiet.is_err() {
            tracing::warn!("commands that are still under way are cut");
        }
        let (lock, commands) = (self.lock, self.commands);
        let going = Going {
            strong: self.sources.strong.clone(),
            lock: lock.descriptor(),
            commands: commands.as_fd(),
            router: self.front.listener().ok().flatten(),
            supervisor: self.supervisor,
            logs: self.logs,
            instances: self.instances,
            users: self.users,
            ledger: self.ledger,
            recorder: self.recorder,
            audit: self.audit,
        };
        self.beside(coming.take(going, thawed), Settable::No, wishes)
            .await??;
        Ok(())
    }

    /// Obeys until this step is done.
    ///
    /// # Errors
    /// When the daemon's life ends before, and what is left of the step is not done.
    async fn beside<T>(
        &mut self,
        step: impl Future<Output = T>,
        settable: Settable,
        wishes: &mut Vec<Wish>,
    ) -> Result<T, End> {
        let mut step = pin!(step);
        loop {
            let heard = tokio::select! {
                done = &mut step => return Ok(done),
                heard = self.next() => heard,
            };
            match heard {
                Heard::End(end) => return Err(end),
                Heard::Apply(asked, done) if settable == Settable::Yes => {
                    self.apply(*asked, done).await;
                }
                Heard::Apply(_, done) => drop(done.send(Err(NotDone::HandedOver))),
                Heard::Reopen(done) => self.reopen(done).await,
                Heard::Update(wish, _) => {
                    let program = wish.program.display();
                    tracing::info!(%program, "an update is under way already; this one waits for it");
                    wishes.push(wish);
                }
            }
        }
    }
}

/// Answers what is still asked of a daemon that has handed over.
pub(super) async fn answer_late(
    mut inbox: mpsc::Receiver<DaemonOrder>,
    given: &Given,
) -> Infallible {
    while let Some(order) = inbox.recv().await {
        match order {
            DaemonOrder::Update { program, done, .. } => Wish { program, done }.answer(given),
            other => other.handed_over(),
        }
    }
    std::future::pending().await
}
