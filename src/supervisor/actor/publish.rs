//! What others see: the table, and the answers of commands whose processes have got there.

use std::sync::Arc;

use super::super::snapshot::Snapshot;
use super::super::waits::{self, Outcome};
use super::{Actor, Slot};
use crate::ids::PmId;

impl Actor {
    pub(super) fn check_waits(&mut self, changed: Option<PmId>) {
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
            _ => Arc::new(slot.process.clone()),
        };
        let processes = self.slots.iter().map(view).collect();
        self.publish.send_replace(Arc::new(Snapshot { processes }));
    }
}
