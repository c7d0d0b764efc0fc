//! One run of a process, from the order to the spawner to the news of its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;

use super::super::channel::{Lines, Listener};
use super::super::child_env;
use super::super::exits;
use super::super::handle::{Message, Trace};
use super::super::kill::Handle;
use super::super::listening;
use super::super::machine::{Event, Exit, State};
use super::super::run_lock::RunLock;
use super::super::snapshot::{Process, Readiness};
use super::super::spawn::{self, Order, Run, Spawned};
use super::super::tree::Root;
use super::{Actor, Slot};
use crate::config::AppSpec;
use crate::failpoint;
use crate::ids::{PmId, Timestamp};
use crate::logs::files::{self, LogFiles};
use crate::logs::pipes::Pipes;
use crate::logs::{Output, Source};

impl Actor {
    pub(super) fn register(&mut self, spec: Arc<AppSpec>, instance: u32) -> PmId {
        if self.slots.is_empty() && self.unseen.is_empty() {
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

    /// Fills in what its run is called, and where its files are.
    pub(super) fn place(&self, process: &mut Process) {
        let spec = &process.spec;
        process.unique_id = child_env::unique_id(&self.home_id, process.id, process.generation);
        process.logs = LogFiles::of(spec, process.id, &self.logs_dir);
        process.pid_file = files::pid_file(spec, process.id, &self.pids_dir);
    }

    pub(super) fn spawned(&mut self, spawned: Spawned) {
        self.under_way = self.under_way.saturating_sub(1);
        let Spawned {
            id,
            generation,
            outcome,
        } = spawned;
        let slot = self.slots.get(&id).filter(|slot| {
            let beside = slot.beside.as_ref().map(|second| second.generation);
            slot.process.generation == generation || beside == Some(generation)
        });
        match (outcome, slot.is_some()) {
            // Cannot be: a launch is waited for in every state. A run is not left unwatched.
            (Ok(run), false) => {
                run.handle.signal_group(Signal::KILL);
            }
            (Err(_), false) => {}
            (Ok(run), true) => self.has_started(id, generation, run),
            (Err(error), true) => {
                let transient = error.is_transient();
                if let spawn::SpawnError::PortTaken { .. } = &error
                    && let Some(slot) = self.slots.get_mut(&id)
                {
                    slot.process.health.readiness = Readiness::PortTaken;
                }
                let why = error.to_string();
                self.feed_run(id, generation, Event::SpawnFailed { why, transient }, None);
            }
        }
    }

    fn has_started(&mut self, id: PmId, generation: u64, run: Run) {
        let Run {
            handle,
            channel,
            notify,
        } = run;
        failpoint::reach("spawn.reported");
        let pid = handle.pid();
        let to = self.listener(id, generation);
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let second = slot
            .beside
            .as_mut()
            .filter(|second| second.generation == generation);
        let (lines, spec) = match second {
            Some(second) => {
                second.handle = Some(handle.clone());
                second.started_at = Some(Timestamp::now());
                (&mut second.lines, &second.spec)
            }
            None => {
                let process = &mut slot.process;
                process.life = Some(handle.life());
                process.started_at = Some(Timestamp::now());
                if process.spec.mcp.is_some() {
                    process.health.readiness = Readiness::Starting;
                }
                slot.handle = Some(handle.clone());
                (&mut slot.lines, &slot.process.spec)
            }
        };
        if let Some(end) = channel {
            lines.listen(end, to.clone(), &mut self.tasks);
        }
        if let Some(socket) = notify {
            let user = spec.run_as.map(|user| user.uid);
            lines.listen_notify(socket, user, to, &mut self.tasks);
        }
        let root = tree_of(
            (self.home_id.as_str(), self.run_dir.as_path()),
            (id, generation),
            handle,
            spec,
        );
        self.watch(id, generation, root);
        self.feed_run(id, generation, Event::Spawned { pid }, None);
        failpoint::reach("spawn.known");
    }

    pub(super) fn listener(&self, id: PmId, generation: u64) -> Listener {
        Listener {
            id,
            generation,
            inbox: self.inbox.clone(),
        }
    }

    /// Reports the end of a run: the root first, then all that it has started.
    pub(super) fn watch(&mut self, id: PmId, generation: u64, root: Root) {
        let (inbox, logs) = (self.inbox.clone(), self.logs.clone());
        let trees = self.trees.clone();
        let siblings = self
            .may_want_a_siblings_port(id)
            .then(|| self.publish.subscribe());
        self.tasks.spawn(async move {
            let exits::Ended { exit, peak_memory } = exits::root(&root.handle).await;
            failpoint::reach("exit.collected");
            match siblings {
                None => logs.settle(id).await,
                Some(table) => {
                    let words = logs.last_words(id).await;
                    let snapshot = table.borrow().clone();
                    if let Some(words) = words.filter(|_| exit != Exit::Code(0))
                        && let Some(unshared) =
                            listening::siblings_port(&words, id, &snapshot).await
                    {
                        let message = Message::Unshared {
                            id,
                            generation,
                            unshared,
                        };
                        let _ = inbox.send(message).await;
                    }
                }
            }
            let trace = Trace {
                peak_memory,
                output: logs.extents(id).await,
                is_seen: true,
            };
            let leftovers = !trees.is_gone(&root).await;
            if !leftovers {
                trees.release(&root, false);
            }
            let _ = inbox
                .send(Message::Ended {
                    id,
                    generation,
                    exit,
                    leftovers,
                    trace,
                })
                .await;
            if leftovers {
                let left = trees.gone(&root).await;
                trees.release(&root, left.is_some());
                if let Some(what) = left {
                    let message = Message::LeftBehind {
                        id,
                        generation,
                        what,
                    };
                    let _ = inbox.send(message).await;
                }
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

    /// Hands the next run to the spawner.
    pub(super) fn order(&mut self, id: PmId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if let Some((spec, instance)) = slot.next.take() {
            slot.process.spec = spec;
            slot.process.instance = instance;
        }
        slot.newest += 1;
        slot.process.generation = slot.newest;
        slot.handle = None;
        slot.lines = Lines::default();
        slot.unshared = None;
        slot.left_behind = false;
        slot.endings.begin();
        slot.process.life = None;
        let mut process = slot.process.clone();
        self.place(&mut process);
        process.health.readiness = match (&process.spec.mcp, &process.health.readiness) {
            // Until it runs nothing is known to have changed.
            (Some(_), Readiness::PortTaken) => Readiness::PortTaken,
            (Some(_), _) => Readiness::Starting,
            (None, _) => Readiness::Down,
        };
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.process = process;
        }
        self.write_down(id);
        let Some(Slot { process, .. }) = self.slots.get(&id) else {
            return;
        };
        self.dispatch(self.order_for(process, Some(process.pid_file.clone())));
    }

    /// Hands the run that is to stand beside the main one to the spawner. It writes into the same
    /// pipes, which are open; the pid file stays the main one's.
    pub(super) fn order_beside(&mut self, id: PmId) {
        let Some((slot, second)) = self
            .slots
            .get(&id)
            .and_then(|slot| Some((slot, slot.beside.as_ref()?)))
        else {
            return;
        };
        let mut process = slot.process.clone();
        process.generation = second.generation;
        process.spec = second.spec.clone();
        process.instance = second.instance;
        self.place(&mut process);
        self.write_down(id);
        self.dispatch(self.order_for(&process, None));
    }

    /// Its intent must be written down by now.
    fn order_for(&self, process: &Process, pid_file: Option<PathBuf>) -> Order {
        let service = process.spec.mcp.as_ref();
        let secret = service.map(|mcp| (self.router_secret)(&mcp.service));
        let secret = secret.as_ref().map(|secret| secret.expose().as_str());
        let env = child_env::own(process, &self.home, &self.home_id, secret);
        let run = child_env::run_name(&self.home_id, process.id, process.generation);
        Order {
            id: process.id,
            generation: process.generation,
            spec: process.spec.clone(),
            env,
            pipes: Pipes::of(&self.run_dir, process.id),
            lock: RunLock::of(&self.run_dir, &run),
            intent: self.journal.mark(),
            begun: None,
            pid_file,
        }
    }

    /// It is one of several that were not given a port each.
    fn may_want_a_siblings_port(&self, id: PmId) -> bool {
        self.slots.get(&id).is_some_and(|slot| {
            let spec = &slot.process.spec;
            let is_sibling =
                |(other, slot): (&PmId, &Slot)| *other != id && slot.process.spec.name == spec.name;
            spec.mcp.is_none()
                && spec.increment_var.is_none()
                && (spec.instances > 1 || self.slots.iter().any(is_sibling))
        })
    }

    /// Has its output read; done when its pipes are open. They are made here when they are not there
    /// yet. What runs is read from where it writes to, though the files of these pipes were removed.
    pub(super) fn capture(&self, id: PmId) -> Option<impl Future<Output = ()> + Send + use<>> {
        let slot = self.slots.get(&id)?;
        let process = &slot.process;
        let mut pipes = Pipes::of(&self.run_dir, id);
        if let Err(error) = pipes.make(process.spec.run_as) {
            tracing::error!(app = %process.spec.name, %error, "cannot make its pipes");
            return None;
        }
        if let Some(handle) = &slot.handle {
            let was_removed;
            (pipes, was_removed) = pipes.of_process(handle.pid());
            if was_removed {
                let (app, folder) = (&process.spec.name, self.run_dir.display());
                tracing::warn!(
                    %app, pm_id = %id, %folder,
                    "its pipes were removed: its output is read through the process itself, and nothing \
                     can be sent to it; restart it, and it gets new ones"
                );
            }
        }
        let source = Source {
            id,
            name: process.spec.name.clone(),
        };
        let output = Output {
            files: process.logs.clone(),
            spec: process.spec.logs.clone(),
            is_heard: self.may_want_a_siblings_port(id),
        };
        Some(self.logs.capture(source, pipes, output))
    }

    pub(super) fn forget(&mut self, id: PmId) {
        failpoint::reach("delete.forgetting");
        if let Some(slot) = self.slots.remove(&id) {
            let _ = std::fs::remove_file(&slot.process.pid_file);
            if !slot.endings.is_closing() {
                self.forget_exits(&slot.process);
            }
        }
        Pipes::of(&self.run_dir, id).remove();
        self.logs.release(id);
        failpoint::reach("delete.before_row");
        self.journal.forget(id);
        failpoint::reach("delete.forgotten");
        self.dirty.insert(id);
    }
}

/// A run, by its root process.
pub(super) fn tree_of(
    (home_id, run_dir): (&str, &Path),
    (id, generation): (PmId, u64),
    handle: Handle,
    spec: &AppSpec,
) -> Root {
    let name = child_env::run_name(home_id, id, generation);
    Root {
        handle,
        lock: RunLock::of(run_dir, &name),
        name: name.into(),
        is_whole: spec.stop.treekill,
    }
}
