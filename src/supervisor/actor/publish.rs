//! What others see: the table, and the answers of commands whose processes have got there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::snapshot::Snapshot;
use super::super::waits::{self, Goal, Look, Outcome};
use super::{Actor, Slot};
use crate::ids::PmId;

/// What a command that has stopped a process says of it.
const LEFT_BEHIND: &str =
    "SIGKILL has not ended all that it has started; `describe` says what is left";

/// The shortest time between two tables, when nobody waits for one: each costs every reader a walk over
/// all processes, and a boot or a bad moment brings hundreds of changes.
const GAP: Duration = Duration::from_millis(5);
/// Counts of health checks that found nothing new may be so old.
const COUNTS: Duration = Duration::from_secs(1);

/// When the next table is due.
#[derive(Default)]
pub(super) struct Pace {
    /// A command has been dealt with: who sent it may look at once.
    pub(super) is_awaited: bool,
    /// Processes of which only counts have changed.
    pub(super) counted: BTreeSet<PmId>,
    last: Option<Instant>,
}

impl Pace {
    /// `None`: there is nothing to publish.
    fn due(&self, has_changes: bool) -> Option<Instant> {
        let after = |gap: Duration| self.last.map_or_else(Instant::now, |last| last + gap);
        match (has_changes, self.counted.is_empty()) {
            (true, _) if self.is_awaited => Some(Instant::now()),
            (true, _) => Some(after(GAP)),
            (false, false) => Some(after(COUNTS)),
            (false, true) => None,
        }
    }
}

impl Actor {
    /// When the next table is due; `None` when there is nothing new.
    pub(super) fn publish_at(&self) -> Option<Instant> {
        self.pace.due(!self.dirty.is_empty())
    }

    pub(super) fn publish_when_due(&mut self) {
        if self.publish_at().is_some_and(|at| at <= Instant::now()) {
            self.publish();
        }
        self.pace.is_awaited = false;
    }

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
            self.pace.is_awaited = true;
            let _ = wait.reply.send(Ok(wait.outcomes));
        }
    }

    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.publish();
        self.publish.borrow().clone()
    }

    pub(super) fn publish(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.append(&mut self.pace.counted);
        if dirty.is_empty() {
            return;
        }
        self.pace.last = Some(Instant::now());
        let before = self.publish.borrow().clone();
        let view = |(id, slot): (&PmId, &Slot)| match before.get(*id) {
            Some(same) if !dirty.contains(id) => same.clone(),
            _ => {
                let mut process = slot.process.clone();
                process.metrics = slot.lines.metrics();
                Arc::new(process)
            }
        };
        let mut processes: Vec<_> = self.slots.iter().map(view).collect();
        if !self.unseen.is_empty() {
            let left = self.unseen.values().map(|left| left.process.clone());
            processes.extend(left.map(Arc::new));
            processes.sort_by_key(|process| process.id);
        }
        self.publish.send_replace(Arc::new(Snapshot { processes }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_due_at_once_after_a_gap_or_a_second() {
        let now = Instant::now();
        let due = |last: Option<Instant>, is_awaited: bool, has_counts: bool, has_changes: bool| {
            let counted = has_counts.then_some(PmId(1)).into_iter().collect();
            let pace = Pace {
                is_awaited,
                counted,
                last,
            };
            pace.due(has_changes)
        };
        assert_eq!(due(Some(now), true, false, false), None);
        assert_eq!(due(Some(now), false, false, true), Some(now + GAP));
        assert_eq!(due(Some(now), true, true, false), Some(now + COUNTS));
        assert_eq!(due(Some(now), false, true, true), Some(now + GAP));
        for (last, is_awaited) in [(None, false), (Some(now + COUNTS), true)] {
            let at = due(last, is_awaited, false, true);
            assert!(at.is_some_and(|at| at <= Instant::now()));
        }
    }
}
