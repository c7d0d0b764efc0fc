//! An event goes into a machine, and its effects are carried out.

use tokio::time::Instant;

use super::super::kill::Handle;
use super::super::machine::{self, Effect, Event, Policy, State};
use super::super::snapshot::{Readiness, Status};
use super::Actor;
use crate::ids::{PmId, Timestamp};

impl Actor {
    /// One step of one machine.
    pub(super) fn feed(&mut self, id: PmId, event: Event) {
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

    pub(super) fn carry_out(&mut self, id: PmId, effect: Effect) {
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

    pub(super) fn signal_group(&mut self, handle: Handle, signal: i32) {
        // At once where one system call does it; else `/proc` is walked, and that blocks.
        if !handle.signal_unreaped_group(signal) {
            self.tasks
                .spawn_blocking(move || handle.signal_group(signal));
        }
    }

    /// What every step ends with: the shown facts follow the state.
    pub(super) fn settle(&mut self, id: PmId) {
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
}
