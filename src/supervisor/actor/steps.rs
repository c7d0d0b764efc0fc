//! An event goes into the machines of a process, and their orders are carried out.

use rustix::process::Signal;
use tokio::time::Instant;

use super::super::channel::Lines;
use super::super::last_exits::{Asked, End};
use super::super::machine::{Effect, Event, Policy, State};
use super::super::overlap::{self, Beside, Order, Pair, Policies, Whose};
use super::super::snapshot::{Readiness, Status};
use super::super::tree::Root;
use super::runs::tree_of;
use super::{Actor, Slot};
use crate::config::AppSpec;
use crate::config::spec::StopPolicy;
use crate::failpoint;
use crate::ids::{PmId, Timestamp};

impl Actor {
    /// Something happened to a process, or to its main run. Who wanted it is said where the event
    /// does not tell.
    pub(super) fn feed(&mut self, id: PmId, event: Event, asked: Option<Asked>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.note(&event);
            let asked = asked.or_else(|| Asked::of(&event));
            self.step(id, Whose::Main, event, asked);
        }
    }

    /// Something happened to one of a process's runs; news of a run that is over is dropped.
    pub(super) fn feed_run(
        &mut self,
        id: PmId,
        generation: u64,
        event: Event,
        asked: Option<Asked>,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.process.generation == generation {
            return self.feed(id, event, asked);
        }
        let Some(second) = slot.beside.as_mut() else {
            return;
        };
        if second.generation != generation {
            return;
        }
        if let Event::Exited { exit, .. } = &event {
            second.lines = Lines::default();
            if matches!(second.state, Beside::Retiring { .. }) {
                slot.process.last_exit = Some((*exit, Timestamp::now()));
                slot.process.ended_for = None;
            }
        }
        self.step(id, Whose::Beside, event, asked);
    }

    fn step(&mut self, id: PmId, whose: Whose, event: Event, asked: Option<Asked>) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let ended = match (&event, whose) {
            (Event::Exited { exit, .. }, Whose::Main) => Some(*exit),
            _ => None,
        };
        let has_started = whose == Whose::Main && matches!(event, Event::Spawned { .. });
        let spec = slot.process.spec.clone();
        let second = slot.beside.as_ref();
        let other = second.map_or_else(|| spec.clone(), |second| second.spec.clone());
        let unshared = slot.unshared.as_ref().map(|unshared| unshared.why.clone());
        let policies = Policies {
            main: Policy {
                unshared: unshared.as_deref(),
                ..policy(&spec)
            },
            beside: policy(&other),
        };
        let before = slot.state.clone();
        let pair = Pair {
            main: std::mem::replace(&mut slot.state, State::Stopped),
            beside: second.map(|second| second.state.clone()),
            held: slot.held.take(),
        };
        let (history, now) = (slot.process.history, Instant::now());
        let step = overlap::step(pair, whose, event, history, policies, now);
        slot.state = step.pair.main;
        slot.held = step.pair.held;
        slot.process.history = step.history;
        if let (Some(second), Some(state)) = (slot.beside.as_mut(), step.pair.beside) {
            second.state = state;
        }
        let failed = history.failed_starts;
        if has_started && failed > 0 {
            tracing::info!(app = %spec.name, pm_id = %id, failed, "started at last");
        }
        if step.history.unstable == 0 && step.history.failed_starts == 0 {
            // It ran well meanwhile: what comes now is news.
            slot.said = None;
        }
        let explained = |order: &Order| matches!(order, Order::Main(Effect::Explain(_)));
        if let Some(exit) = ended
            && !step.orders.iter().any(explained)
        {
            tracing::info!(app = %slot.process.spec.name, pm_id = %id, "{exit}");
        }
        slot.endings.note_wish(&before, &slot.state, asked);
        let is_closing = self.is_closing || slot.endings.is_closing();
        let decided = slot.endings.decided(|exit| {
            let end = End {
                exit,
                before: &before,
                after: &slot.state,
                has_swapped: step.orders.contains(&Order::Swap),
                is_closing,
                history: step.history,
                policy: policies.main,
                now,
            };
            end.decision()
        });
        let is_forgotten = step.orders.contains(&Order::Main(Effect::Forget));
        if let Some((ended, next, decision)) = decided
            && (is_closing || !is_forgotten)
        {
            self.write_exit(id, ended, next, decision);
        }
        let mut forget = false;
        for order in step.orders {
            forget |= order == Order::Main(Effect::Forget);
            self.carry_out(id, order);
        }
        if forget {
            self.forget(id);
        } else {
            self.settle(id);
        }
        self.check_waits(Some(id));
    }

    pub(super) fn carry_out(&mut self, id: PmId, order: Order) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        match order {
            Order::Main(Effect::Spawn) => self.order(id),
            Order::Main(Effect::Terminate(_)) => {
                let (stop, lines) = (slot.process.spec.stop.clone(), &slot.lines);
                if !(stop.message && lines.shut_down()) {
                    let root = self.main_run(id);
                    self.terminate(root, &stop);
                }
            }
            Order::Beside(Effect::Terminate(_)) => match &slot.beside {
                Some(second) if matches!(second.state, Beside::Retiring { .. }) => {
                    let generation = second.generation;
                    self.retire_once_written(id, generation);
                }
                _ => self.terminate_beside(id),
            },
            Order::Main(Effect::KillGroup(_)) => {
                let root = self.main_run(id);
                self.kill(root);
            }
            Order::Beside(Effect::KillGroup(_)) => {
                let root = self.run_beside(id);
                self.kill(root);
            }
            Order::Main(Effect::WakeAt(at)) | Order::Beside(Effect::WakeAt(at)) => {
                self.timers.insert((at, id));
            }
            Order::Main(Effect::Explain(why)) => slot.explain(why, Instant::now()),
            Order::Swap => {
                self.swap(id);
                failpoint::reach("reload.swapped");
            }
            Order::Alone(failure) => self.end_reload(id, failure),
            // The caller forgets it, after all orders; the rest is never said of a run beside.
            Order::Main(Effect::Forget)
            | Order::Beside(Effect::Spawn | Effect::Explain(_) | Effect::Forget) => {}
        }
    }

    pub(super) fn terminate_beside(&mut self, id: PmId) {
        let second = self.slots.get(&id).and_then(|slot| slot.beside.as_ref());
        if let Some(second) = second {
            let stop = second.spec.stop.clone();
            if !(stop.message && second.lines.shut_down()) {
                let root = self.run_beside(id);
                self.terminate(root, &stop);
            }
        }
    }

    fn main_run(&self, id: PmId) -> Option<Root> {
        let Slot {
            process, handle, ..
        } = self.slots.get(&id)?;
        let (handle, generation) = (handle.clone()?, process.generation);
        let home = (self.home_id.as_str(), self.run_dir.as_path());
        Some(tree_of(home, (id, generation), handle, &process.spec))
    }

    fn run_beside(&self, id: PmId) -> Option<Root> {
        let second = self.slots.get(&id)?.beside.as_ref()?;
        let (handle, generation) = (second.handle.clone()?, second.generation);
        let home = (self.home_id.as_str(), self.run_dir.as_path());
        Some(tree_of(home, (id, generation), handle, &second.spec))
    }

    fn terminate(&mut self, root: Option<Root>, stop: &StopPolicy) {
        let Some((root, signal)) = root.zip(Signal::from_named_raw(stop.signal)) else {
            return;
        };
        failpoint::reach("stop.before_signal");
        if stop.treekill {
            self.signal_tree(root, signal);
        } else {
            root.handle.signal_root(stop.signal);
        }
        failpoint::reach("stop.signalled");
    }

    fn kill(&mut self, root: Option<Root>) {
        if let Some(root) = root {
            failpoint::reach("stop.before_kill");
            self.signal_tree(root, Signal::KILL);
            failpoint::reach("stop.killed");
        }
    }

    /// The group at once where one system call does it; what is found in `/proc` a moment later.
    fn signal_tree(&mut self, root: Root, signal: Signal) {
        let group_is_told = root.handle.signal_group(signal);
        let trees = self.trees.clone();
        if signal == Signal::KILL {
            self.tasks.spawn(async move { trees.end(&root).await });
        } else if root.is_whole || !group_is_told {
            let rest = async move { trees.signal(&root, signal, group_is_told).await };
            self.tasks.spawn(rest);
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
        slot.process.beside = slot.beside.as_ref().and_then(super::reload::Second::view);
        let is_unshared = slot.state == State::Stopped;
        let unshared = slot.unshared.as_ref().filter(|_| is_unshared);
        slot.process.unshared = unshared.map(|unshared| unshared.port);
        // Nobody wants it to be tried again before somebody says so.
        slot.process.held |= slot.process.unshared.is_some();
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

impl Slot {
    /// Keeps what an event of the main run says beside what its machine makes of it.
    fn note(&mut self, event: &Event) {
        let is_reloaded = matches!(
            self.beside.as_ref().map(|second| &second.state),
            Some(Beside::Launching { .. } | Beside::Proving { .. })
        );
        match event {
            Event::Exited { exit, .. } => {
                if matches!(self.state, State::Starting { .. } | State::Online { .. }) {
                    self.fell = self.process.generation;
                }
                self.lines = Lines::default();
                self.process.last_exit = Some((*exit, Timestamp::now()));
                self.process.ended_for = self.unhealthy.take();
                self.process.health.readiness = Readiness::Down;
            }
            Event::Unhealthy { why }
                if !is_reloaded
                    && matches!(self.state, State::Starting { .. } | State::Online { .. }) =>
            {
                self.process.restarted_for = Some((why.clone(), Timestamp::now()));
                self.unhealthy = Some(why.clone());
            }
            Event::Spawned { .. } => self.process.reason = None,
            // What people want is what counts until they want something else.
            Event::StartAsked | Event::RestartAsked => {
                self.process.held = false;
                self.unshared = None;
            }
            Event::StopAsked => {
                self.process.held = true;
                self.unshared = None;
            }
            _ => {}
        }
    }
}

fn policy(spec: &AppSpec) -> Policy<'_> {
    Policy {
        restart: &spec.restart,
        stop: &spec.stop,
        service: spec.mcp.is_some(),
        ready_within: spec.ready_within,
        unshared: None,
    }
}
