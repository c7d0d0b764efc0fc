//! The run that stands beside the main one while a process is reloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::channel::Lines;
use super::super::handle::{CommandError, Message, Reload, Reply};
use super::super::kill::Handle;
use super::super::last_exits::Who;
use super::super::machine::Event;
use super::super::overlap::{Beside, Pair};
use super::super::plan;
use super::super::reload::{self, How};
use super::super::snapshot::{Other, Role};
use super::super::spawn::{JOURNAL_PATIENCE, write_pid};
use super::super::waits::{Done, Goal, Wait};
use super::{Actor, Slot};
use crate::config::AppSpec;
use crate::ids::{PmId, Port, Timestamp};

/// The run beside the main one: the new one, or the old one once the new one has taken over.
pub(super) struct Second {
    pub(super) state: Beside,
    pub(super) generation: u64,
    pub(super) spec: Arc<AppSpec>,
    pub(super) instance: u32,
    pub(super) started_at: Option<Timestamp>,
    pub(super) handle: Option<Handle>,
    pub(super) lines: Lines,
}

impl Second {
    /// As others see it; `None` before it runs.
    pub(super) fn view(&self) -> Option<Other> {
        let (pid, role) = match self.state {
            Beside::Launching { .. } => return None,
            Beside::Proving { pid, .. } | Beside::Ending { pid, .. } => (pid, Role::Successor),
            Beside::Retiring { pid, .. } => (pid, Role::Predecessor),
        };
        Some(Other { pid, role })
    }
}

impl Actor {
    /// Puts a new run in the place of a process's run, if possible before that one ends.
    pub(super) fn reload(
        &mut self,
        asked: Reload,
        ports: BTreeSet<Port>,
        begun: oneshot::Sender<How>,
        reply: Reply,
    ) {
        let at_once = asked.at_once;
        match self.begin_reload(asked, ports) {
            Ok((id, how)) => {
                let goal = self.slots.get(&id).map(|slot| match how {
                    How::Beside => Goal::TakenOver {
                        generation: slot.newest,
                    },
                    How::InPlace(_) if at_once => Goal::Started {
                        generation: slot.next_generation(),
                    },
                    How::InPlace(_) => Goal::Ready {
                        generation: slot.next_generation(),
                    },
                });
                let event = (how != How::Beside).then_some((id, Event::RestartAsked));
                // Whoever asks waits for both answers.
                let _ = begun.send(how);
                let mut wait = Wait {
                    open: BTreeMap::new(),
                    outcomes: Vec::new(),
                    reply,
                };
                if let (Some(slot), Some(goal)) = (self.slots.get(&id), goal) {
                    let name = slot.process.spec.name.clone();
                    wait.open.insert(id, (name, goal, Done::AsAsked));
                }
                let who = if at_once { Who::Restart } else { Who::Reload };
                self.begin(wait, event.into_iter().collect(), Some(who));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn begin_reload(
        &mut self,
        asked: Reload,
        ports: BTreeSet<Port>,
    ) -> Result<(PmId, How), CommandError> {
        let Reload {
            id,
            spec,
            renamed_from,
            env,
            at_once,
        } = asked;
        if let Some(spec) = &spec {
            plan::clash(&self.snapshot(), std::slice::from_ref(spec))?;
        }
        if let Some(left) = self.unseen.get(&id) {
            let name = left.process.spec.name.to_string();
            let why = left.why();
            return Err(CommandError::Unseen { name, id, why });
        }
        let same_app = |slot: &&mut Slot| {
            let known = renamed_from
                .as_ref()
                .or(spec.as_ref().map(|spec| &spec.name));
            known.is_none_or(|name| slot.process.spec.name == *name)
        };
        let Some(slot) = self.slots.get_mut(&id).filter(same_app) else {
            return Err(CommandError::Unknown(id.to_string()));
        };
        if slot.beside.is_some() && !at_once {
            let name = slot.process.spec.name.to_string();
            return Err(CommandError::Reloading { name, id });
        }
        let (mut next, instance) = slot
            .next
            .take()
            .unwrap_or_else(|| (slot.process.spec.clone(), slot.process.instance));
        if let Some(spec) = spec {
            next = spec;
        }
        if let Some(env) = env {
            Arc::make_mut(&mut next).env.merge(env.iter());
        }
        let pair = Pair {
            main: slot.state.clone(),
            beside: None,
            held: None,
        };
        let can_double = pair.can_double() && !at_once;
        let how = reload::how(&slot.process, &next, ports, can_double);
        slot.gave_up = None;
        if how == How::Beside {
            slot.newest += 1;
            slot.beside = Some(Second {
                state: Beside::Launching { cancelled: None },
                generation: slot.newest,
                spec: next,
                instance,
                started_at: None,
                handle: None,
                lines: Lines::default(),
            });
            self.order_beside(id);
        } else {
            slot.next = Some((next, instance));
            slot.process.created_at = Timestamp::now();
        }
        Ok((id, how))
    }

    /// The two runs change places.
    pub(super) fn swap(&mut self, id: PmId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Some(second) = slot.beside.as_mut() else {
            return;
        };
        let process = &mut slot.process;
        std::mem::swap(&mut process.generation, &mut second.generation);
        std::mem::swap(&mut process.spec, &mut second.spec);
        std::mem::swap(&mut process.instance, &mut second.instance);
        std::mem::swap(&mut slot.handle, &mut second.handle);
        std::mem::swap(&mut slot.lines, &mut second.lines);
        if let Some(started_at) = second.started_at.take() {
            second.started_at = process.started_at.replace(started_at);
        }
        process.life = slot.handle.as_ref().map(Handle::life);
        process.created_at = Timestamp::now();
        process.reason = None;
        slot.unhealthy = None;
        slot.unshared = None;
        let mut process = process.clone();
        let former = process.pid_file.clone();
        self.place(&mut process);
        if process.pid_file != former {
            let _ = std::fs::remove_file(former);
        }
        let (pid_file, pid) = (process.pid_file.clone(), slot_pid(&self.slots, id));
        let app = process.spec.name.clone();
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.process = process;
        }
        tracing::info!(%app, pm_id = %id, pid, "the new run has taken over");
        if let Some(pid) = pid {
            self.tasks.spawn_blocking(move || {
                if let Err(error) = write_pid(&pid_file, pid) {
                    let file = pid_file.display();
                    tracing::warn!(%app, %file, %error, "cannot write its pid file");
                }
            });
        }
        // Its spec may name other files.
        if let Some(capture) = self.capture(id) {
            self.tasks.spawn(capture);
        }
    }

    /// The old run is told to end when the journal says that the new one is the process: a daemon that
    /// dies in between would leave a journal that keeps a run which is ending.
    pub(super) fn retire_once_written(&mut self, id: PmId, generation: u64) {
        self.write_down(id);
        let (journal, inbox) = (self.journal.clone(), self.inbox.clone());
        self.tasks.spawn_blocking(move || {
            journal.flush(JOURNAL_PATIENCE);
            let _ = inbox.blocking_send(Message::Retire { id, generation });
        });
    }

    /// Tells the old run to end.
    pub(super) fn retire(&mut self, id: PmId, generation: u64) {
        let second = self.slots.get(&id).and_then(|slot| slot.beside.as_ref());
        if second.is_some_and(|second| second.generation == generation) {
            self.terminate_beside(id);
        }
    }

    /// Nothing stands beside it any more.
    pub(super) fn end_reload(&mut self, id: PmId, failure: Option<String>) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        slot.beside = None;
        if let Some(why) = &failure {
            tracing::warn!(app = %slot.process.spec.name, pm_id = %id, "not reloaded: {why}");
        }
        slot.gave_up = failure;
    }
}

fn slot_pid(slots: &BTreeMap<PmId, Slot>, id: PmId) -> Option<u32> {
    let handle = slots.get(&id)?.handle.as_ref()?;
    Some(handle.pid())
}
