//! The task that owns every process: event in, [`machine::step`], effects out.
//!
//! Nothing is awaited between two messages but the inbox itself: starting, waiting for exits and
//! walking `/proc` are other tasks and threads, which report with an event. News of a run that is
//! over (an older generation) is dropped.

mod commands;
mod steps;
mod runs;
mod endings;
mod reload;
mod record;
mod adoption;
mod unseen;
mod freeze;
mod publish;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::endings::Endings;
use self::freeze::Freezing;
use self::publish::Pace;
use self::reload::Second;
use super::cgroup::Cgroups;
use super::channel::Lines;
use super::elsewhere::Elsewhere;
use super::exit_log::ExitLog;
use super::handle::{INBOX, Message, Reply, Supervisor, Unshared};
use super::journal::{Journal, Left, Row};
use super::kill::Handle;
use super::last_exits::{Asked, Who};
use super::machine::{self, Event, State, Wish};
use super::orphans::Orphans;
use super::snapshot::{Process, Snapshot};
use super::spawn::{self, OperatorLimits, Order};
use super::tree::Trees;
use super::waits::Wait;
use crate::config::AppSpec;
use crate::failpoint;
use crate::ids::{PmId, ServiceType};
use crate::logs::Logs;
use crate::secret::Secret;

/// Processes of one daemon, at most: what one machine's pids and descriptors allow.
pub const PROCESSES_MAX: usize = 10_000;
/// Messages that are dealt with before the table is published again.
const BATCH: usize = 256;
/// A reason that is the same as the last one is logged again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How long the end of the journal is waited for.
const JOURNAL_CLOSE: Duration = Duration::from_secs(2);

/// Derives the secret by which a service knows the router.
pub type RouterSecret = Arc<dyn Fn(&ServiceType) -> Secret<String> + Send + Sync>;

/// What the supervisor is given.
pub struct Setup {
    /// State folder.
    pub home: PathBuf,
    /// Where FIFOs are.
    pub run_dir: PathBuf,
    /// Where logs are.
    pub logs_dir: PathBuf,
    /// Where pid files are.
    pub pids_dir: PathBuf,
    /// The journal and what it held.
    pub journal: (Journal, Left),
    /// Ends of processes' pipes that somebody has kept open while no daemon lived.
    pub kept: BTreeMap<PmId, Vec<File>>,
    /// The thread that captures output.
    pub logs: Logs,
    /// Limits of children.
    pub limits: OperatorLimits,
    /// What apps leave behind.
    pub orphans: Orphans,
    /// Control groups of runs, where they can be had.
    pub cgroups: Cgroups,
    /// What runs and no row names.
    pub elsewhere: Elsewhere,
    /// Derives a service's router secret.
    pub router_secret: RouterSecret,
}

/// Starts the supervisor's task: adopts what lives, starts what should. When it returns, the table
/// shows all that was left: whoever looks now does not take a full house for an empty one.
///
/// # Errors
/// When the spawner's thread can't be had.
pub async fn start(setup: Setup) -> std::io::Result<Supervisor> {
    let (inbox, messages) = mpsc::channel(INBOX);
    let (publish, table) = watch::channel(Arc::default());
    // One for its main run and one for the run beside it, of each.
    let (orders, to_spawn) = mpsc::channel(2 * PROCESSES_MAX);
    let (journal, left) = setup.journal;
    let back = inbox.clone();
    let report = move |spawned| drop(back.blocking_send(Message::Spawned(spawned)));
    let cgroups = setup.cgroups;
    let groups = cgroups.clone();
    let (limits, elsewhere) = (setup.limits, setup.elsewhere);
    spawn::start(journal.clone(), limits, groups, elsewhere, to_spawn, report)?;
    let trees = Trees::start(setup.orphans, cgroups.clone())?;
    let exits = ExitLog::new(journal.clone());
    let told = journal.clone();
    let actor = Actor {
        home: setup.home,
        run_dir: setup.run_dir,
        logs_dir: setup.logs_dir,
        pids_dir: setup.pids_dir,
        home_id: left.home_id,
        journal,
        exits: exits.clone(),
        logs: setup.logs,
        router_secret: setup.router_secret,
        orders,
        trees,
        cgroups: cgroups.clone(),
        inbox: inbox.clone(),
        slots: BTreeMap::new(),
        unseen: BTreeMap::new(),
        next_id: 0,
        timers: BTreeSet::new(),
        waits: Vec::new(),
        dirty: BTreeSet::new(),
        pace: Pace::default(),
        is_closing: false,
        tasks: JoinSet::new(),
        under_way: 0,
        withheld: Vec::new(),
        freezing: None,
        publish,
    };
    let (adopted, done) = oneshot::channel();
    tokio::spawn(actor.run(messages, (left.rows, setup.kept), adopted));
    // Its failure is seen by whoever asks the supervisor next.
    let _ = done.await;
    Ok(Supervisor {
        inbox,
        table,
        exits,
        journal: told,
        cgroups,
    })
}

struct Actor {
    home: PathBuf,
    run_dir: PathBuf,
    logs_dir: PathBuf,
    pids_dir: PathBuf,
    home_id: String,
    journal: Journal,
    exits: ExitLog,
    logs: Logs,
    router_secret: RouterSecret,
    orders: mpsc::Sender<Order>,
    trees: Trees,
    cgroups: Cgroups,
    inbox: mpsc::Sender<Message>,
    slots: BTreeMap<PmId, Slot>,
    /// What could not be adopted yet.
    unseen: BTreeMap<PmId, unseen::Left>,
    /// Counts up, and from 0 again once the list is empty, as in PM2: a number that scripts and
    /// logs know does not come to mean another process.
    next_id: u32,
    timers: BTreeSet<(Instant, PmId)>,
    waits: Vec<Wait<Reply>>,
    /// What is to be published, and when.
    dirty: BTreeSet<PmId>,
    pace: Pace,
    /// The daemon is ending: what is deleted now is not deleted by anybody.
    is_closing: bool,
    tasks: JoinSet<()>,
    /// Orders that the spawner has not answered.
    under_way: usize,
    /// Orders that it was not given, since all comes to rest.
    withheld: Vec<Order>,
    freezing: Option<Freezing>,
    publish: watch::Sender<Arc<Snapshot>>,
}

/// One process: its machine, and what the machine does not know.
struct Slot {
    process: Process,
    state: State,
    handle: Option<Handle>,
    /// Node's channel and `NOTIFY_SOCKET` of this run.
    lines: Lines,
    /// Taken at the next start.
    next: Option<(Arc<AppSpec>, u32)>,
    /// What its health checks said, between that and its end.
    unhealthy: Option<String>,
    /// The other run, while it is reloaded.
    beside: Option<Second>,
    /// What the main run's machine is to hear once nothing stands beside it.
    held: Option<Event>,
    /// Why its last reload has left the old run where it was.
    gave_up: Option<String>,
    /// The generation of its newest run, which need not be the main one.
    newest: u64,
    /// The generation of the last main run that ended although nobody had asked.
    fell: u64,
    /// A sibling has the port that its last run wanted.
    unshared: Option<Unshared>,
    /// Something of its last run could not be ended.
    left_behind: bool,
    /// How its main run has ended, until it is written down.
    endings: Endings,
    /// The reason that was logged last, and when.
    said: Option<(String, Instant)>,
}

impl Slot {
    fn new(process: Process, state: State, handle: Option<Handle>) -> Self {
        Self {
            newest: process.generation,
            process,
            state,
            handle,
            lines: Lines::default(),
            next: None,
            unhealthy: None,
            beside: None,
            held: None,
            gave_up: None,
            fell: 0,
            unshared: None,
            left_behind: false,
            endings: Endings::default(),
            said: None,
        }
    }

    /// Of the run that a restart brings: the one that is being started, when there is one.
    fn next_generation(&self) -> u64 {
        let under_way = matches!(self.state, State::Launching { wish: Wish::Run });
        self.newest + u64::from(!under_way)
    }

    /// Shows why it is in its state. A crash loop says the same again and again: it is logged once
    /// in a while.
    fn explain(&mut self, why: String, now: Instant) {
        let process = &mut self.process;
        let cause = machine::without_next_start(&why);
        // What is missing for a start may be another thing each time.
        let is_same = |last: &str| last == cause || process.history.failed_starts > 1;
        let known = self
            .said
            .as_ref()
            .is_some_and(|(last, at)| is_same(last) && now - *at < SAY_AGAIN);
        if !known {
            let restarts = process.history.restarts;
            tracing::warn!(app = %process.spec.name, pm_id = %process.id, restarts, "{why}");
            self.said = Some((cause.to_owned(), now));
        }
        process.reason = Some(why);
    }
}

impl Actor {
    async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        (left, kept): (Vec<Row>, BTreeMap<PmId, Vec<File>>),
        adopted: oneshot::Sender<()>,
    ) {
        self.adopt(left, kept).await;
        self.publish();
        let _ = adopted.send(());
        while self.may_go_on().await {
            let timer = self.timers.first().map(|(at, _)| *at);
            let alarm = timer.into_iter().chain(self.publish_at()).min();
            tokio::select! {
                message = messages.recv() => {
                    let Some(message) = message else { return };
                    if self.take(message) { return }
                    for _ in 0..BATCH {
                        let Ok(message) = messages.try_recv() else { break };
                        if self.take(message) { return }
                    }
                }
                () = tokio::time::sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {
                    self.ring();
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a task of the supervisor failed");
                    }
                }
            }
            self.publish_when_due();
        }
        self.pass_on(messages).await;
    }

    /// Deals with one message; `true` ends the task.
    fn take(&mut self, message: Message) -> bool {
        self.pace.is_awaited |= !message.is_news();
        match message {
            Message::Start { specs, how, reply } => self.start(specs, how, reply),
            Message::Act {
                action,
                target,
                env,
                reply,
            } => self.act(action, &target, env, reply),
            Message::Resurrect { saved, reply } => self.resurrect(saved, reply),
            Message::Scale {
                target,
                count,
                reply,
            } => self.scale(&target, count, reply),
            Message::Reload {
                asked,
                ports,
                begun,
                reply,
            } => self.reload(asked, ports, begun, reply),
            Message::Reset { target, reply } => self.reset(&target, reply),
            Message::Unwatch { target, reply } => self.unwatch(&target, reply),
            Message::Signal {
                target,
                signal,
                reply,
            } => self.signal(&target, signal, reply),
            Message::Spawned(spawned) => self.spawned(spawned),
            Message::Happened {
                id,
                generation,
                event,
            } => self.feed_run(id, generation, event, None),
            Message::Ended {
                id,
                generation,
                exit,
                leftovers,
                trace,
            } => {
                failpoint::reach("exit.told");
                self.note_end(id, generation, exit, trace);
                self.feed_run(id, generation, Event::Exited { exit, leftovers }, None);
                failpoint::reach("exit.dealt_with");
            }
            Message::Overgrown {
                id,
                generation,
                why,
            } => {
                let asked = Asked::because(Who::Memory, &why);
                self.feed_run(id, generation, Event::Unhealthy { why }, Some(asked));
            }
            Message::Retire { id, generation } => self.retire(id, generation),
            Message::Unshared {
                id,
                generation,
                unshared,
            } => {
                if let Some(slot) = self.slots.get_mut(&id)
                    && slot.process.generation == generation
                {
                    slot.unshared = Some(unshared);
                }
            }
            Message::LeftBehind {
                id,
                generation,
                what,
            } => {
                if let Some(slot) = self.slots.get_mut(&id)
                    && slot.process.generation == generation
                {
                    slot.process.reason = Some(what);
                    slot.left_behind = true;
                    self.dirty.insert(id);
                }
            }
            Message::Health {
                id,
                generation,
                health,
            } => {
                if let Some(slot) = self.slots.get_mut(&id)
                    && slot.process.generation == generation
                    && matches!(slot.state, State::Online { .. })
                {
                    let is_news = !health.says_the_same(&slot.process.health);
                    slot.process.health = health;
                    if is_news {
                        self.dirty.insert(id);
                    } else {
                        self.pace.counted.insert(id);
                    }
                }
            }
            Message::Note { id, note } => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.process.note = Some(note);
                    self.dirty.insert(id);
                }
            }
            Message::Due { id, cause, why } => self.due(id, cause, why),
            Message::Seen(seen) => self.seen(seen),
            Message::Freeze { frozen, thawed } => self.freezing = Some(Freezing { frozen, thawed }),
            Message::Quiesce { reply } => {
                self.quiesce(reply);
                return true;
            }
        }
        false
    }

    /// Every timer that is due.
    fn ring(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            self.feed(id, Event::Woke, None);
        }
    }

    /// Ends nothing: the next daemon adopts all of it.
    fn quiesce(&mut self, reply: oneshot::Sender<()>) {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || {
            journal.close(JOURNAL_CLOSE);
            let _ = reply.send(());
        });
    }
}
