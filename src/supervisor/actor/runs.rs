//! One run of a process, from the order to the spawner to the news of its end.

use std::sync::Arc;

use super::super::channel::Listener;
use super::super::child_env;
use super::super::exits;
use super::super::handle::Message;
use super::super::kill::Handle;
use super::super::machine::{Event, State};
use super::super::snapshot::{Process, Readiness};
use super::super::spawn::{self, Order, Run, Spawned};
use super::{Actor, Slot};
use crate::config::AppSpec;
use crate::ids::{PmId, Timestamp};
use crate::logs::files::{self, LogFiles};
use crate::logs::pipes::Pipes;
use crate::logs::{Output, Source};

impl Actor {
    pub(super) fn register(&mut self, spec: Arc<AppSpec>, instance: u32) -> PmId {
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
    pub(super) fn place(&self, process: &mut Process) {
        let spec = &process.spec;
        process.logs = LogFiles::of(spec, process.id, &self.logs_dir);
        process.pid_file = spec.pid_file.clone().unwrap_or_else(|| {
            let name = files::file_name(spec.name.as_str());
            self.pids_dir.join(format!("{name}-{}.pid", process.id))
        });
    }

    pub(super) fn spawned(
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
                let to = self.listener(id, generation);
                if let Some(slot) = self.slots.get_mut(&id) {
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

    pub(super) fn listener(&self, id: PmId, generation: u64) -> Listener {
        Listener {
            id,
            generation,
            inbox: self.inbox.clone(),
        }
    }

    /// Reports the end of a run: the root first, then its group.
    pub(super) fn watch(&mut self, id: PmId, generation: u64, handle: Handle) {
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

    /// Hands the next run to the spawner.
    pub(super) fn order(&mut self, id: PmId) {
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
    pub(super) fn capture(&self, id: PmId) -> Option<impl Future<Output = ()> + Send + 'static> {
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

    pub(super) fn forget(&mut self, id: PmId) {
        if let Some(slot) = self.slots.remove(&id) {
            let _ = std::fs::remove_file(&slot.process.pid_file);
        }
        Pipes::of(&self.run_dir, id).remove();
        self.logs.release(id);
        self.journal.forget(id);
        self.dirty.insert(id);
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
