//! How the other rooms talk to the supervisor.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::adopt::Seen;
use super::cgroup::Cgroups;
use super::exit_log::ExitLog;
use super::journal::{Journal, JournalError};
use super::last_exits::ExitRecord;
use super::listening;
use super::machine::{Event, Exit};
use super::plan::{Count, PlanError};
use super::reload::{How, Obstacle};
use super::snapshot::{Health, Process, Snapshot};
use super::spawn::Spawned;
use super::target::PatternError;
use super::triggers::Cause;
use super::waits::Outcome;
use crate::config::AppSpec;
use crate::config::spec::Env;
use crate::ids::{AppName, PmId, Port};
use crate::logs::Extent;

/// Messages under way to the supervisor. Each process has at most a few at a time, so a boot of
/// hundreds fits; a sender beyond that waits.
pub(super) const INBOX: usize = 4096;

/// What can be done with processes that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start, or restart what runs (as PM2's `start NAME`).
    Start,
    /// End it, keep it in the list.
    Stop,
    /// End it if it runs, start it.
    Restart,
    /// End it, drop it from the list.
    Delete,
    /// The same, since the daemon ends: what is known of its exits is kept. The last order of all.
    Close,
}

/// Why a command was not begun.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The word means no process.
    #[error("no process, namespace or id is `{0}`; `mcpm ls` shows what there is")]
    Unknown(String),
    /// The word is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The plan was refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Two at a time would be three runs.
    #[error("`{name}` ({id}) is being reloaded already; try again when that is done")]
    Reloading {
        /// Its app.
        name: String,
        /// Which.
        id: PmId,
    },
    /// It is not known whether it lives.
    #[error("`{name}` ({id}) is {why}")]
    Unseen {
        /// Its app.
        name: String,
        /// Which.
        id: PmId,
        /// Why nothing is done with it.
        why: String,
    },
    /// Too many processes.
    #[error("that would make more than {0} processes")]
    TooMany(usize),
    /// The daemon is ending.
    #[error("the daemon is stopping")]
    Closing,
}

/// Why the supervisor does not come to rest.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// What runs is not all written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It has ended.
    #[error("the supervisor has ended")]
    Ended,
}

/// A process that `resurrect` brings back.
#[derive(Clone, Debug)]
pub struct Saved {
    /// What it is made from.
    pub spec: Arc<AppSpec>,
    /// Which of its app's processes.
    pub instance: u32,
    /// It was stopped when it was saved.
    pub stopped: bool,
}

/// How apps are started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Beside processes of the same names, which are left alone.
    pub beside: bool,
    /// The answer does not wait for those that say when they are ready.
    pub unready: bool,
    /// What runs from the same spec is left alone.
    pub spares: bool,
}

/// One process is to get a new run.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Which.
    pub id: PmId,
    /// What it is to be made from; `None` for what it is made from.
    pub spec: Option<Arc<AppSpec>>,
    /// Its name so far, when the spec brings another.
    pub renamed_from: Option<AppName>,
    /// Merged into its variables.
    pub env: Option<Env>,
    /// The old run ends first, whatever it is.
    pub at_once: bool,
}

/// A run has ended since another process of its app has its port.
#[derive(Clone, Debug)]
pub(super) struct Unshared {
    pub(super) port: Port,
    /// For people.
    pub(super) why: String,
}

/// What is found when a run has ended.
pub(super) struct Trace {
    /// The most memory that it had, in bytes.
    pub(super) peak_memory: Option<u64>,
    /// What it has written comes here.
    pub(super) output: mpsc::Receiver<Extent>,
    /// A daemon ran when it ended.
    pub(super) is_seen: bool,
}

pub(super) type Reply = oneshot::Sender<Result<Vec<Outcome>, CommandError>>;

pub(super) enum Message {
    Start {
        specs: Vec<Arc<AppSpec>>,
        how: Start,
        reply: Reply,
    },
    Act {
        action: Action,
        target: String,
        env: Option<Env>,
        reply: Reply,
    },
    Resurrect {
        saved: Vec<Saved>,
        reply: Reply,
    },
    Scale {
        target: String,
        count: Count,
        reply: Reply,
    },
    Reload {
        asked: Reload,
        /// What its run listens on.
        ports: BTreeSet<Port>,
        begun: oneshot::Sender<How>,
        reply: Reply,
    },
    Reset {
        target: String,
        reply: Reply,
    },
    Unwatch {
        target: String,
        reply: Reply,
    },
    Signal {
        target: String,
        signal: i32,
        reply: Reply,
    },
    Spawned(Spawned),
    Happened {
        id: PmId,
        generation: u64,
        event: Event,
    },
    Ended {
        id: PmId,
        generation: u64,
        exit: Exit,
        /// Something that it has started lives.
        leftovers: bool,
        trace: Trace,
    },
    /// A run takes more memory than it may.
    Overgrown {
        id: PmId,
        generation: u64,
        why: String,
    },
    Retire {
        id: PmId,
        generation: u64,
    },
    Unshared {
        id: PmId,
        generation: u64,
        unshared: Unshared,
    },
    /// SIGKILL has not ended all of a run, and it is waited for no more.
    LeftBehind {
        id: PmId,
        generation: u64,
        what: String,
    },
    Health {
        id: PmId,
        generation: u64,
        health: Health,
    },
    Due {
        id: PmId,
        cause: Cause,
        why: String,
    },
    Note {
        id: PmId,
        note: String,
    },
    /// What could not be adopted has been looked at again.
    Seen(Vec<Seen>),
    Freeze {
        frozen: oneshot::Sender<Result<(), JournalError>>,
        thawed: oneshot::Receiver<()>,
    },
    Quiesce {
        reply: oneshot::Sender<()>,
    },
}

impl Message {
    /// Nobody who sent it looks at the table in the next moment.
    pub(super) fn is_news(&self) -> bool {
        match self {
            Self::Spawned(_)
            | Self::Happened { .. }
            | Self::Ended { .. }
            | Self::Overgrown { .. }
            | Self::Retire { .. }
            | Self::Unshared { .. }
            | Self::LeftBehind { .. }
            | Self::Health { .. }
            | Self::Due { .. }
            | Self::Note { .. }
            | Self::Seen(_) => true,
            Self::Start { .. }
            | Self::Act { .. }
            | Self::Resurrect { .. }
            | Self::Scale { .. }
            | Self::Reload { .. }
            | Self::Reset { .. }
            | Self::Unwatch { .. }
            | Self::Signal { .. }
            | Self::Freeze { .. }
            | Self::Quiesce { .. } => false,
        }
    }
}

/// Handle to the supervisor's task.
#[derive(Clone)]
pub struct Supervisor {
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) table: watch::Receiver<Arc<Snapshot>>,
    pub(super) exits: ExitLog,
    pub(super) journal: Journal,
    pub(super) cgroups: Cgroups,
}

impl Supervisor {
    /// The running table as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.table.borrow().clone()
    }

    /// The running table, and news of each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.table.clone()
    }

    /// The folder of a process's control group, while it runs and has one.
    pub fn cgroup(&self, process: &Process) -> Option<PathBuf> {
        self.cgroups.folder(process)
    }

    /// The last exits of these, newest first, not more than `limit` of each.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn exits(
        &self,
        processes: &[Arc<Process>],
        limit: usize,
    ) -> Result<Vec<Vec<ExitRecord>>, JournalError> {
        self.exits.of(processes, limit).await
    }

    /// Makes these apps run with these specs; answers when each was started or has failed to.
    ///
    /// # Errors
    /// When nothing was begun.
    pub async fn start(
        &self,
        specs: Vec<AppSpec>,
        how: Start,
    ) -> Result<Vec<Outcome>, CommandError> {
        let specs = specs.into_iter().map(Arc::new).collect();
        self.ask(|reply| Message::Start { specs, how, reply }).await
    }

    /// Does this to the processes that `target` means; answers when each is there or has failed.
    ///
    /// # Errors
    /// When `target` means none.
    pub async fn act(
        &self,
        action: Action,
        target: &str,
        env: Option<Env>,
    ) -> Result<Vec<Outcome>, CommandError> {
        let target = target.to_owned();
        self.ask(|reply| Message::Act {
            action,
            target,
            env,
            reply,
        })
        .await
    }

    /// Brings back saved processes; names that are in the list already are left alone.
    ///
    /// # Errors
    /// When the daemon is ending.
    pub async fn resurrect(&self, saved: Vec<Saved>) -> Result<Vec<Outcome>, CommandError> {
        self.ask(|reply| Message::Resurrect { saved, reply }).await
    }

    /// Gives each app that `target` means so many processes; answers when all are there or have
    /// failed.
    ///
    /// # Errors
    /// When nothing was begun.
    pub async fn scale(&self, target: &str, count: Count) -> Result<Vec<Outcome>, CommandError> {
        let target = target.to_owned();
        self.ask(|reply| Message::Scale {
            target,
            count,
            reply,
        })
        .await
    }

    /// Puts a new run in the place of a process's run; answers when it has taken over, or has failed
    /// to. One that is asked for at once has only to run.
    ///
    /// # Errors
    /// When there is no such process, it is being reloaded, or the spec clashes with another app's.
    pub async fn reload(&self, asked: Reload) -> Result<(How, Vec<Outcome>), CommandError> {
        let process = self.snapshot().get(asked.id).cloned();
        let pid = process.and_then(|process| process.pid);
        let ports = listening::now(pid.filter(|_| !asked.at_once)).await;
        let (begun, how) = oneshot::channel();
        let mut outcomes = self
            .ask(|reply| Message::Reload {
                asked,
                ports,
                begun,
                reply,
            })
            .await?;
        let how = how.await.map_err(|_| CommandError::Closing)?;
        if let How::InPlace(Some(Obstacle::Listens(_))) = &how {
            for outcome in outcomes
                .iter_mut()
                .filter(|outcome| outcome.error.is_none())
            {
                outcome.error = listening::again(self, outcome.id).await.err();
            }
        }
        Ok((how, outcomes))
    }

    /// Counts restarts from 0 again.
    ///
    /// # Errors
    /// When `target` means none.
    pub async fn reset(&self, target: &str) -> Result<Vec<Outcome>, CommandError> {
        let target = target.to_owned();
        self.ask(|reply| Message::Reset { target, reply }).await
    }

    /// Restarts these for changed files no longer.
    ///
    /// # Errors
    /// When `target` means none.
    pub async fn unwatch(&self, target: &str) -> Result<Vec<Outcome>, CommandError> {
        let target = target.to_owned();
        self.ask(|reply| Message::Unwatch { target, reply }).await
    }

    /// Sends a signal to the root process, and to it alone; its children are its own business.
    ///
    /// # Errors
    /// When `target` means none.
    pub async fn signal(&self, target: &str, signal: i32) -> Result<Vec<Outcome>, CommandError> {
        let target = target.to_owned();
        self.ask(|reply| Message::Signal {
            target,
            signal,
            reply,
        })
        .await
    }

    /// What the checks of one run say. News of an older run is ignored.
    pub async fn report_health(&self, id: PmId, generation: u64, health: Health) {
        let _ = self
            .inbox
            .send(Message::Health {
                id,
                generation,
                health,
            })
            .await;
    }

    /// One run failed its checks and should be restarted.
    pub async fn report_unhealthy(&self, id: PmId, generation: u64, why: String) {
        let event = Event::Unhealthy { why };
        let _ = self
            .inbox
            .send(Message::Happened {
                id,
                generation,
                event,
            })
            .await;
    }

    /// The clock or a changed file wants this process restarted.
    pub(super) async fn due(&self, id: PmId, cause: Cause, why: String) {
        let _ = self.inbox.send(Message::Due { id, cause, why }).await;
    }

    /// Something about this process that does not work, and does not keep it from running.
    pub(super) async fn note(&self, id: PmId, note: String) {
        let _ = self.inbox.send(Message::Note { id, note }).await;
    }

    /// Leaves every process as it is and does nothing more: the last call of a daemon that ends
    /// and lets its services live. All that is known is in the journal when it returns.
    pub async fn quiesce(&self) {
        self.exits.settled().await;
        let (reply, done) = oneshot::channel();
        if self.inbox.send(Message::Quiesce { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Comes to rest so that another daemon can take over: nothing is being started and everything is
    /// written when it returns. Goes on once `thawed` says so, and never when that is dropped.
    ///
    /// # Errors
    /// When what runs can't be written down, or the supervisor has ended.
    pub async fn freeze(&self, thawed: oneshot::Receiver<()>) -> Result<(), FreezeError> {
        let (frozen, at_rest) = oneshot::channel();
        let message = Message::Freeze { frozen, thawed };
        let sent = self.inbox.send(message).await;
        sent.map_err(|_| FreezeError::Ended)?;
        let rested = at_rest.await.map_err(|_| FreezeError::Ended)?;
        Ok(rested?)
    }

    /// That what runs can't be written down, and why, for people; `None` while it can.
    pub fn journal_trouble(&self) -> Option<String> {
        self.journal.trouble()
    }

    async fn ask(
        &self,
        message: impl FnOnce(Reply) -> Message,
    ) -> Result<Vec<Outcome>, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(message(reply))
            .await
            .map_err(|_| CommandError::Closing)?;
        answer.await.map_err(|_| CommandError::Closing)?
    }
}
