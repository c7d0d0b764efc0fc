//! The task that owns every process: event in, [`machine::step`], effects out.
//!
//! Nothing is awaited between two messages but the inbox itself: starting, waiting for exits and
//! walking `/proc` are other tasks and threads, which report with an event. News of a run that is
//! over (an older generation) is dropped.

mod commands;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::adopt::{self, Found};
use super::channel::{Lines, Listener};
use super::child_env;
use super::exits;
use super::handle::{Action, CommandError, INBOX, Message, Reply, Saved, Supervisor};
use super::journal::{Journal, Left, Record, Row, Wanted};
use super::kill::Handle;
use super::machine::{self, Effect, Event, Exit, Policy, State, Then, Wish};
use super::metrics::Metrics;
use super::plan;
use super::snapshot::{Process, Readiness, Snapshot, Status};
use super::spawn::{self, OperatorLimits, Order, Run, Spawned};
use super::target::Target;
use super::triggers::{self, Cause};
use super::waits::{self, Goal, Outcome, Wait};
use crate::config::AppSpec;
use crate::config::spec::Env;
use crate::ids::{PmId, ServiceType, Timestamp};
use crate::logs::files::{self, LogFiles};
use crate::logs::pipes::Pipes;
use crate::logs::{Logs, Output, Source};
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
    /// The thread that captures output.
    pub logs: Logs,
    /// Limits of children.
    pub limits: OperatorLimits,
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
    let (orders, to_spawn) = mpsc::channel(PROCESSES_MAX);
    let (journal, left) = setup.journal;
    let back = inbox.clone();
    let report = move |spawned| drop(back.blocking_send(Message::Spawned(spawned)));
    spawn::start(journal.clone(), setup.limits, to_spawn, report)?;
    let actor = Actor {
        home: setup.home,
        run_dir: setup.run_dir,
        logs_dir: setup.logs_dir,
        pids_dir: setup.pids_dir,
        home_id: left.home_id,
        journal,
        logs: setup.logs,
        router_secret: setup.router_secret,
        orders,
        inbox: inbox.clone(),
        slots: BTreeMap::new(),
        next_id: 0,
        timers: BTreeSet::new(),
        waits: Vec::new(),
        dirty: BTreeSet::new(),
        tasks: JoinSet::new(),
        publish,
    };
    let (adopted, done) = oneshot::channel();
    tokio::spawn(actor.run(messages, left.rows, adopted));
    // Its failure is seen by whoever asks the supervisor next.
    let _ = done.await;
    Ok(Supervisor { inbox, table })
}

struct Actor {
    home: PathBuf,
    run_dir: PathBuf,
    logs_dir: PathBuf,
    pids_dir: PathBuf,
    home_id: String,
    journal: Journal,
    logs: Logs,
    router_secret: RouterSecret,
    orders: mpsc::Sender<Order>,
    inbox: mpsc::Sender<Message>,
    slots: BTreeMap<PmId, Slot>,
    /// Counts up, and from 0 again once the list is empty, as in PM2: a number that scripts and
    /// logs know does not come to mean another process.
    next_id: u32,
    timers: BTreeSet<(Instant, PmId)>,
    waits: Vec<Wait<Reply>>,
    dirty: BTreeSet<PmId>,
    tasks: JoinSet<()>,
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
    /// The reason that was logged last, and when.
    said: Option<(String, Instant)>,
}

impl Slot {
    fn new(process: Process, state: State, handle: Option<Handle>) -> Self {
        Self {
            process,
            state,
            handle,
            lines: Lines::default(),
            next: None,
            unhealthy: None,
            said: None,
        }
    }

    /// Shows why it is in its state. A crash loop says the same again and again: it is logged once
    /// in a while.
    fn explain(&mut self, why: String, now: Instant) {
        let process = &mut self.process;
        let known = self
            .said
            .as_ref()
            .is_some_and(|(last, at)| *last == why && now - *at < SAY_AGAIN);
        if !known {
            let restarts = process.history.restarts;
            tracing::warn!(app = %process.spec.name, pm_id = %process.id, restarts, "{why}");
            self.said = Some((why.clone(), now));
        }
        process.reason = Some(why);
    }
}

impl Actor {
    async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        left: Vec<Row>,
        adopted: oneshot::Sender<()>,
    ) {
        self.adopt(left).await;
        self.publish();
        let _ = adopted.send(());
        loop {
            let alarm = self.timers.first().map(|(at, _)| *at);
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
            self.publish();
        }
    }

    /// Deals with one message; `true` ends the task.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Start { specs, reply } => self.start(specs, reply),
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
            Message::Replace { id, spec, reply } => self.replace(id, spec, reply),
            Message::Reset { target, reply } => self.reset(&target, reply),
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
            } => {
                if self
                    .slots
                    .get(&id)
                    .is_some_and(|slot| slot.process.generation == generation)
                {
                    self.feed(id, event);
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
                    slot.process.health = health;
                    self.dirty.insert(id);
                }
            }
            Message::Note { id, note } => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.process.note = Some(note);
                    self.dirty.insert(id);
                }
            }
            Message::Due { id, cause, why } => self.due(id, cause, why),
            Message::Quiesce { reply } => {
                self.quiesce(reply);
                return true;
            }
        }
        false
    }

    // ── commands ──

    fn start(&mut self, specs: Vec<Arc<AppSpec>>, reply: Reply) {
        let snapshot = self.snapshot();
        let steps = match plan::start(&snapshot, specs) {
            Ok(steps) => steps,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        self.follow(steps, reply);
    }

    /// Does what was planned.
    fn follow(&mut self, steps: Vec<plan::Step>, reply: Reply) {
        let new = steps
            .iter()
            .filter(|step| matches!(step, plan::Step::Start { .. }))
            .count();
        if self.slots.len() + new > PROCESSES_MAX {
            return drop(reply.send(Err(CommandError::TooMany(PROCESSES_MAX))));
        }
        let mut wait = Wait {
            open: BTreeMap::new(),
            outcomes: Vec::new(),
            reply,
        };
        let mut events = Vec::new();
        for step in steps {
            match step {
                plan::Step::Start { spec, instance } => {
                    let id = self.register(spec.clone(), instance);
                    if spec.autostart {
                        self.expect(&mut wait, id, Action::Start);
                        events.push((id, Event::StartAsked));
                    } else {
                        let name = spec.name.clone();
                        wait.outcomes.push(Outcome {
                            id,
                            name,
                            error: None,
                        });
                    }
                }
                plan::Step::Restart { id, spec, instance } => {
                    self.expect(&mut wait, id, Action::Restart);
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.next = Some((spec, instance));
                        slot.process.created_at = Timestamp::now();
                    }
                    events.push((id, Event::RestartAsked));
                }
                plan::Step::Remove { id } => {
                    self.expect(&mut wait, id, Action::Delete);
                    events.push((id, Event::DeleteAsked));
                }
            }
        }
        self.begin(wait, events);
    }

    fn act(&mut self, action: Action, target: &str, env: Option<Env>, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let mut wait = Wait {
            open: BTreeMap::new(),
            outcomes: Vec::new(),
            reply,
        };
        let mut events = Vec::new();
        for id in ids {
            self.expect(&mut wait, id, action);
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            if matches!(action, Action::Start | Action::Restart) {
                slot.process.created_at = Timestamp::now();
                if let Some(env) = &env {
                    let (spec, instance) = slot
                        .next
                        .take()
                        .unwrap_or_else(|| (slot.process.spec.clone(), slot.process.instance));
                    let mut spec = AppSpec::clone(&spec);
                    spec.env.0.extend(env.0.clone());
                    slot.next = Some((Arc::new(spec), instance));
                }
            }
            events.push((
                id,
                match action {
                    Action::Start | Action::Restart => Event::RestartAsked,
                    Action::Stop => Event::StopAsked,
                    Action::Delete => Event::DeleteAsked,
                },
            ));
        }
        self.begin(wait, events);
    }

    /// The processes that a word means.
    fn selected(&mut self, word: &str) -> Result<Vec<PmId>, CommandError> {
        let target = Target::parse(word)?;
        let ids = target.select(&self.snapshot());
        if ids.is_empty() && !target.is_all() {
            return Err(CommandError::Unknown(word.to_owned()));
        }
        Ok(ids)
    }

    fn resurrect(&mut self, saved: Vec<Saved>, reply: Reply) {
        let known: BTreeSet<_> = self
            .slots
            .values()
            .map(|slot| slot.process.spec.name.clone())
            .collect();
        let mut wait = Wait {
            open: BTreeMap::new(),
            outcomes: Vec::new(),
            reply,
        };
        let mut events = Vec::new();
        for Saved {
            spec,
            instance,
            stopped,
        } in saved
        {
            if known.contains(&spec.name) || self.slots.len() >= PROCESSES_MAX {
                continue;
            }
            let id = self.register(spec, instance);
            if !stopped {
                self.expect(&mut wait, id, Action::Start);
                events.push((id, Event::StartAsked));
            }
        }
        self.begin(wait, events);
    }

    /// Adds to the command's list where this process should get.
    fn expect(&self, wait: &mut Wait<Reply>, id: PmId, action: Action) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let goal = match action {
            Action::Stop => Goal::Stopped,
            Action::Delete => Goal::Gone,
            Action::Start | Action::Restart => {
                let under_way = matches!(slot.state, State::Launching { wish: Wish::Run });
                let next = u64::from(!under_way);
                Goal::Started {
                    generation: slot.process.generation + next,
                }
            }
        };
        wait.open.insert(id, (slot.process.spec.name.clone(), goal));
    }

    fn begin(&mut self, wait: Wait<Reply>, events: Vec<(PmId, Event)>) {
        self.waits.push(wait);
        for (id, event) in events {
            self.feed(id, event);
        }
        self.check_waits(None);
    }

    /// The clock or a changed file wants it restarted.
    fn due(&mut self, id: PmId, cause: Cause, why: String) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if !triggers::restarts(cause, &slot.state, slot.process.held) {
            return;
        }
        tracing::info!(app = %slot.process.spec.name, pm_id = %id, "restarted: {why}");
        slot.process.held = false;
        slot.process.restarted_for = Some((why, Timestamp::now()));
        self.feed(id, Event::RestartAsked);
    }

    /// Ends nothing: the next daemon adopts all of it.
    fn quiesce(&mut self, reply: oneshot::Sender<()>) {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || {
            journal.close(JOURNAL_CLOSE);
            let _ = reply.send(());
        });
    }

    // ── processes ──

    fn register(&mut self, spec: Arc<AppSpec>, instance: u32) -> PmId {
        if self.slots.is_empty() {
            self.next_id = 0;
        }
        let id = PmId(self.next_id);
        self.next_id += 1;
        let mut process = Process::registered(id, instance, spec);
        process.created_at = Timestamp::now();
        self.place(&mut process);
        self.slots
            .insert(id, Slot::new(process, State::Stopped, None));
        self.write_down(id);
        self.dirty.insert(id);
        id
    }

    /// Fills in where its files are.
    fn place(&self, process: &mut Process) {
        let spec = &process.spec;
        process.logs = LogFiles::of(spec, process.id, &self.logs_dir);
        process.pid_file = spec.pid_file.clone().unwrap_or_else(|| {
            let name = files::file_name(spec.name.as_str());
            self.pids_dir.join(format!("{name}-{}.pid", process.id))
        });
    }

    fn spawned(
        &mut self,
        Spawned {
            id,
            generation,
            outcome,
        }: Spawned,
    ) {
        let current = self
            .slots
            .get(&id)
            .filter(|slot| slot.process.generation == generation);
        if current.is_none() {
            // Cannot be: a launch is waited for in every state. A run is not left unwatched.
            if let Ok(run) = outcome {
                run.handle
                    .signal_group(rustix::process::Signal::KILL.as_raw());
            }
            return;
        }
        match outcome {
            Ok(Run {
                handle,
                channel,
                notify,
            }) => {
                self.watch(id, generation, handle.clone());
                let pid = handle.pid();
                let metrics = Metrics::default();
                let to = self.listener(id, generation, metrics.clone());
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.process.metrics = metrics;
                    if let Some(end) = channel {
                        slot.lines.listen(end, to.clone(), &mut self.tasks);
                    }
                    if let Some(socket) = notify {
                        let user = slot.process.spec.run_as.map(|user| user.uid);
                        slot.lines.listen_notify(socket, user, to, &mut self.tasks);
                    }
                    slot.process.life = Some(handle.life());
                    slot.handle = Some(handle);
                    slot.process.started_at = Some(Timestamp::now());
                    if slot.process.spec.mcp.is_some() {
                        slot.process.health.readiness = Readiness::Starting;
                    }
                }
                self.feed(id, Event::Spawned { pid });
            }
            Err(error) => {
                let transient = error.is_transient();
                if let spawn::SpawnError::PortTaken { .. } = &error
                    && let Some(slot) = self.slots.get_mut(&id)
                {
                    slot.process.health.readiness = Readiness::PortTaken;
                }
                self.feed(
                    id,
                    Event::SpawnFailed {
                        why: error.to_string(),
                        transient,
                    },
                );
            }
        }
    }

    fn listener(&self, id: PmId, generation: u64, metrics: Metrics) -> Listener {
        Listener {
            id,
            generation,
            inbox: self.inbox.clone(),
            metrics,
        }
    }

    /// Reports the end of a run: the root first, then its group.
    fn watch(&mut self, id: PmId, generation: u64, handle: Handle) {
        let (inbox, logs) = (self.inbox.clone(), self.logs.clone());
        self.tasks.spawn(async move {
            let exit = exits::root(&handle).await;
            logs.settle(id).await;
            let leftovers = !handle.group_is_gone();
            let event = Event::Exited { exit, leftovers };
            let _ = inbox
                .send(Message::Happened {
                    id,
                    generation,
                    event,
                })
                .await;
            if leftovers {
                exits::group(&handle).await;
                let event = Event::GroupGone;
                let _ = inbox
                    .send(Message::Happened {
                        id,
                        generation,
                        event,
                    })
                    .await;
            }
        });
    }

    /// One step of one machine.
    fn feed(&mut self, id: PmId, event: Event) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let now = Instant::now();
        let mut ended = None;
        match &event {
            Event::Exited { exit, .. } => {
                slot.lines = Lines::default();
                slot.process.last_exit = Some((*exit, Timestamp::now()));
                slot.process.ended_for = slot.unhealthy.take();
                slot.process.health.readiness = Readiness::Down;
                ended = Some(*exit);
            }
            Event::Unhealthy { why }
                if matches!(slot.state, State::Starting { .. } | State::Online { .. }) =>
            {
                slot.process.restarted_for = Some((why.clone(), Timestamp::now()));
                slot.unhealthy = Some(why.clone());
            }
            Event::Spawned { .. } => slot.process.reason = None,
            // What people want is what counts until they want something else.
            Event::StartAsked | Event::RestartAsked => slot.process.held = false,
            Event::StopAsked => slot.process.held = true,
            _ => {}
        }
        let spec = slot.process.spec.clone();
        let policy = Policy {
            restart: &spec.restart,
            stop: &spec.stop,
            service: spec.mcp.is_some(),
            ready_within: spec.ready_within,
        };
        let state = std::mem::replace(&mut slot.state, State::Stopped);
        let step = machine::step(state, event, slot.process.history, policy, now);
        slot.state = step.state;
        slot.process.history = step.history;
        if step.history.unstable == 0 {
            // It ran well meanwhile: what comes now is news.
            slot.said = None;
        }
        let explained = |effect: &Effect| matches!(effect, Effect::Explain(_));
        if let Some(exit) = ended
            && !step.effects.iter().any(explained)
        {
            tracing::info!(app = %slot.process.spec.name, pm_id = %id, "{exit}");
        }
        let mut forget = false;
        for effect in step.effects {
            forget |= effect == Effect::Forget;
            self.carry_out(id, effect);
        }
        if forget {
            self.forget(id);
        } else {
            self.settle(id);
        }
        self.check_waits(Some(id));
    }

    fn carry_out(&mut self, id: PmId, effect: Effect) {
        match effect {
            Effect::Spawn => self.order(id),
            Effect::Terminate(_) => {
                let Some(slot) = self.slots.get(&id) else {
                    return;
                };
                if slot.process.spec.stop.message && slot.lines.shut_down() {
                    return;
                }
                let (signal, tree) = (
                    slot.process.spec.stop.signal,
                    slot.process.spec.stop.treekill,
                );
                if let Some(handle) = slot.handle.clone() {
                    if tree {
                        self.signal_group(handle, signal);
                    } else {
                        handle.signal_root(signal);
                    }
                }
            }
            Effect::KillGroup(_) => {
                if let Some(handle) = self.slots.get(&id).and_then(|slot| slot.handle.clone()) {
                    self.signal_group(handle, rustix::process::Signal::KILL.as_raw());
                }
            }
            Effect::WakeAt(at) => drop(self.timers.insert((at, id))),
            Effect::Explain(why) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.explain(why, Instant::now());
                }
            }
            // The caller forgets it, after all effects.
            Effect::Forget => {}
        }
    }

    fn signal_group(&mut self, handle: Handle, signal: i32) {
        // At once where one system call does it; else `/proc` is walked, and that blocks.
        if !handle.signal_unreaped_group(signal) {
            self.tasks
                .spawn_blocking(move || handle.signal_group(signal));
        }
    }

    /// Hands the next run to the spawner.
    fn order(&mut self, id: PmId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if let Some((spec, instance)) = slot.next.take() {
            slot.process.spec = spec;
            slot.process.instance = instance;
        }
        slot.process.generation += 1;
        slot.handle = None;
        slot.lines = Lines::default();
        slot.process.life = None;
        slot.process.metrics = Metrics::default();
        let mut process = slot.process.clone();
        self.place(&mut process);
        let service = process.spec.mcp.as_ref();
        process.health.readiness = match (service, &process.health.readiness) {
            // Until it runs nothing is known to have changed.
            (Some(_), Readiness::PortTaken) => Readiness::PortTaken,
            (Some(_), _) => Readiness::Starting,
            (None, _) => Readiness::Down,
        };
        let secret = service.map(|mcp| (self.router_secret)(&mcp.service));
        let secret = secret.as_ref().map(|secret| secret.expose().as_str());
        let unique = unique_id();
        let env = child_env::environment(&process, &self.home, &self.home_id, &unique, secret);
        let order = Order {
            id,
            generation: process.generation,
            spec: process.spec.clone(),
            env,
            pipes: Pipes::of(&self.run_dir, id),
            pid_file: process.pid_file.clone(),
        };
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.process = process;
        }
        self.write_down(id);
        let capture = self.capture(id);
        let orders = self.orders.clone();
        self.tasks.spawn(async move {
            if let Some(capture) = capture {
                capture.await;
            }
            if orders.send(order).await.is_err() {
                tracing::error!(pm_id = %id, "the spawner is gone");
            }
        });
    }

    /// Has its output read; done when its pipes are open. They are made here when they are not there
    /// yet.
    fn capture(&self, id: PmId) -> Option<impl Future<Output = ()> + Send + 'static> {
        let process = &self.slots.get(&id)?.process;
        let pipes = Pipes::of(&self.run_dir, id);
        if let Err(error) = pipes.make(process.spec.run_as) {
            tracing::error!(app = %process.spec.name, %error, "cannot make its pipes");
            return None;
        }
        let source = Source {
            id,
            name: process.spec.name.clone(),
        };
        let output = Output {
            files: process.logs.clone(),
            spec: process.spec.logs.clone(),
        };
        Some(self.logs.capture(source, pipes, output))
    }

    /// What every step ends with: the shown facts follow the state.
    fn settle(&mut self, id: PmId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let (status, pid) = match &slot.state {
            State::Stopped => (Status::Stopped, None),
            State::Launching { .. } => (Status::Launching, None),
            State::Starting { pid, .. } => (Status::Launching, Some(*pid)),
            State::Online { pid, .. } => (Status::Online, Some(*pid)),
            State::Stopping { pid, .. } => (Status::Stopping, Some(*pid)),
            State::Clearing { .. } => (Status::Stopping, None),
            State::Waiting { .. } => (Status::Waiting, None),
            State::Errored => (Status::Errored, None),
        };
        slot.process.status = status;
        slot.process.pid = pid;
        if pid.is_none() && !matches!(slot.state, State::Launching { .. }) {
            let _ = std::fs::remove_file(&slot.process.pid_file);
            let waits = matches!(slot.state, State::Waiting { .. });
            if !waits || slot.process.health.readiness != Readiness::PortTaken {
                slot.process.health.readiness = Readiness::Down;
            }
        }
        self.write_down(id);
        self.dirty.insert(id);
    }

    fn forget(&mut self, id: PmId) {
        if let Some(slot) = self.slots.remove(&id) {
            let _ = std::fs::remove_file(&slot.process.pid_file);
        }
        Pipes::of(&self.run_dir, id).remove();
        self.logs.release(id);
        self.journal.forget(id);
        self.dirty.insert(id);
    }

    fn write_down(&self, id: PmId) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let process = &slot.process;
        let wanted = match &slot.state {
            State::Launching {
                wish: Wish::Stop | Wish::Forget,
            }
            | State::Clearing {
                wish: Wish::Stop | Wish::Forget,
                ..
            }
            | State::Stopping {
                then: Then::Stay | Then::Forget,
                ..
            }
            | State::Stopped => Wanted::Down,
            State::Errored => Wanted::Errored,
            State::Launching { .. }
            | State::Clearing { .. }
            | State::Stopping { .. }
            | State::Starting { .. }
            | State::Online { .. }
            | State::Waiting { .. } => Wanted::Up,
        };
        let alive = matches!(
            slot.state,
            State::Starting { .. } | State::Online { .. } | State::Stopping { .. }
        );
        let handle = slot.handle.as_ref().filter(|_| alive);
        let split = |exit: Exit| match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        self.journal.put(Row {
            id,
            generation: process.generation,
            instance: process.instance,
            wanted,
            identity: handle.map(|handle| (handle.pid(), handle.start_time())),
            record: Record {
                restarts: process.history.restarts,
                unstable: process.history.unstable,
                delay_ms: u64::try_from(process.history.delay.as_millis()).unwrap_or(u64::MAX),
                created_at: process.created_at,
                started_at: process.started_at,
                last_exit: process.last_exit.map(|(exit, at)| {
                    let (code, signal) = split(exit);
                    (code, signal, at)
                }),
                ended_for: process.ended_for.clone(),
                reason: process.reason.clone(),
                restarted_for: process.restarted_for.clone(),
                held: process.held,
                channel: slot
                    .lines
                    .identity()
                    .map(|identity| (identity.number, identity.inode)),
            },
            spec: process.spec.clone(),
        });
    }

    /// Every timer that is due.
    fn ring(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            self.feed(id, Event::Woke);
        }
    }

    // ── beginning, and what others see ──

    /// Takes over what the journal names.
    async fn adopt(&mut self, left: Vec<Row>) {
        let home_id = self.home_id.clone();
        let (now, today) = (Instant::now(), Timestamp::now());
        let look = move || adopt::find_all(left, &home_id, now, today);
        let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let mut news = Vec::new();
        for Found {
            mut process,
            state,
            handle,
            channel,
            news: first,
        } in found
        {
            let id = process.id;
            self.place(&mut process);
            if let Some(handle) = &handle {
                tracing::info!(app = %process.spec.name, pid = handle.pid(), "adopted");
                if process.spec.mcp.is_some() {
                    process.health.readiness = Readiness::Starting;
                }
                self.watch(id, process.generation, handle.clone());
            }
            process.life = handle.as_ref().map(Handle::life);
            let lives = handle.is_some();
            let to = self.listener(id, process.generation, process.metrics.clone());
            let mut slot = Slot::new(process, state, handle);
            if let Some(end) = channel {
                slot.lines.listen(end, to, &mut self.tasks);
            }
            self.slots.insert(id, slot);
            if lives && let Some(capture) = self.capture(id) {
                self.tasks.spawn(capture);
            }
            self.settle(id);
            news.extend(first.map(|event| (id, event)));
        }
        self.next_id = self
            .slots
            .last_key_value()
            .map_or(0, |(last, _)| last.0 + 1);
        for (id, event) in news {
            self.feed(id, event);
        }
    }

    fn check_waits(&mut self, changed: Option<PmId>) {
        let slots = &self.slots;
        for wait in &mut self.waits {
            let outcomes = &mut wait.outcomes;
            wait.open.retain(|&id, (name, goal)| {
                if changed.is_some_and(|changed| changed != id) {
                    return true;
                }
                let slot = slots.get(&id);
                let generation = slot.map_or(0, |slot| slot.process.generation);
                let reason = slot.and_then(|slot| slot.process.reason.as_deref());
                let state = slot.map(|slot| &slot.state);
                let Some(end) = waits::reached(*goal, state, generation, reason) else {
                    return true;
                };
                outcomes.push(Outcome {
                    id,
                    name: name.clone(),
                    error: end.err(),
                });
                false
            });
        }
        for mut wait in self.waits.extract_if(.., |wait| wait.open.is_empty()) {
            wait.outcomes.sort_by_key(|outcome| outcome.id);
            let _ = wait.reply.send(Ok(wait.outcomes));
        }
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        self.publish();
        self.publish.borrow().clone()
    }

    fn publish(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.dirty);
        let before = self.publish.borrow().clone();
        let view = |(id, slot): (&PmId, &Slot)| match before.get(*id) {
            Some(same) if !dirty.contains(id) => same.clone(),
            _ => Arc::new(slot.process.clone()),
        };
        let processes = self.slots.iter().map(view).collect();
        self.publish.send_replace(Arc::new(Snapshot { processes }));
    }
}

/// PM2's `unique_id`: a random UUID (RFC 9562 §5.4) for each start.
fn unique_id() -> String {
    let mut bytes = [0; 16];
    // Only a label: without random numbers it is the same one again.
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
