//! What others see: the table, and the answers of commands whose processes have got there.

use std::sync::Arc;

use super::super::snapshot::Snapshot;
use super::super::waits::{self, Goal, Look, Outcome};
use super::{Actor, Slot};
use crate::ids::PmId;

/// What a command that has stopped a process says of it.
const LEFT_BEHIND: &str =
    "SIGKILL has not ended all that it has started; `describe` says what is left";

impl Actor {
    pub(super) fn check_waits(&mut self, changed: Option<PmId>) {
        let slots = &self.slots;
        for wait in &mut self.waits {
            let outcomes = &mut wait.outcomes;
            wait.open.retain(|&id, (name, goal, done)| {
                if changed.is_some_and(|changed| changed != id) {
                    return true;
                }
                let look = slots.get(&id).map(|slot| Look {
                    state: &slot.state,
                    generation: slot.process.generation,
                    alone: slot.beside.is_none() && slot.held.is_none(),
                    reason: slot.process.reason.as_deref(),
                    gave_up: slot.gave_up.as_deref(),
                    fell: slot.fell,
                    exit: slot.process.last_exit.map(|(exit, _)| exit),
                });
                let Some(end) = waits::reached(*goal, look) else {
                    return true;
                };
                let stopped = slots.get(&id).filter(|_| *goal == Goal::Stopped);
                let note = stopped.and_then(|slot| {
                    let comes_back = slot.process.spec.triggers.cron.is_some();
                    let clock = comes_back.then_some("its `cron_restart` starts it again");
                    let left = slot.left_behind.then_some(LEFT_BEHIND);
                    left.or(clock)
                });
                outcomes.push(Outcome {
                    id,
                    name: name.clone(),
                    error: end.err(),
                    done: *done,
                    note,
                });
                false
            });
        }
        for mut wait in self.waits.extract_if(.., |wait| wait.open.is_empty()) {
            wait.outcomes.sort_by_key(|outcome| outcome.id);
            let _ = wait.reply.send(Ok(wait.outcomes));
        }
    }

    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.publish();
        self.publish.borrow().clone()
    }

    pub(super) fn publish(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.dirty);
        let before = self.publish.borrow().clone();
        let view = |(id, slot): (&PmId, &Slot)| match before.get(*id) {
            Some(same) if !dirty.contains(id) => same.clone(),
            _ => {
                let mut process = slot.process.clone();
                process.metrics = slot.lines.metrics();
                Arc::new(process)
            }
        };
        let processes = self.slots.iter().map(view).collect();
        self.publish.send_replace(Arc::new(Snapshot { processes }));
    }
}
