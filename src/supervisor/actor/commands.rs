//! Commands beside start, stop, restart and delete: to scale, to replace, to reset, to signal.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::handle::{Action, CommandError, Reply};
use super::super::machine::{Event, State};
use super::super::plan::{self, Count};
use super::super::waits::{Outcome, Wait};
use super::{Actor, Slot};
use crate::config::AppSpec;
use crate::ids::{AppName, PmId, Timestamp};

impl Actor {
    pub(super) fn scale(&mut self, target: &str, count: Count, reply: Reply) {
        let planned = self.selected(target).and_then(|ids| {
            let steps = plan::scale(&self.snapshot(), &ids, count)?;
            Ok(steps)
        });
        match planned {
            Ok(steps) => self.follow(steps, reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn replace(&mut self, id: PmId, name: &AppName, spec: Arc<AppSpec>, reply: Reply) {
        let snapshot = self.snapshot();
        if let Err(error) = plan::clash(&snapshot, std::slice::from_ref(&spec)) {
            return drop(reply.send(Err(error.into())));
        }
        let same_app = |slot: &&mut Slot| slot.process.spec.name == *name;
        let Some(slot) = self.slots.get_mut(&id).filter(same_app) else {
            return drop(reply.send(Err(CommandError::Unknown(id.to_string()))));
        };
        slot.next = Some((spec, slot.process.instance));
        slot.process.created_at = Timestamp::now();
        let mut wait = Wait {
            open: BTreeMap::new(),
            outcomes: Vec::new(),
            reply,
        };
        self.expect(&mut wait, id, Action::Restart);
        self.begin(wait, vec![(id, Event::RestartAsked)]);
    }

    pub(super) fn reset(&mut self, target: &str, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        for &id in &ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.process.history.restarts = 0;
                slot.process.history.unstable = 0;
            }
            self.write_down(id);
            self.dirty.insert(id);
        }
        let outcomes = self.outcomes(&ids, |_| None);
        drop(reply.send(Ok(outcomes)));
    }

    pub(super) fn unwatch(&mut self, target: &str, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        for &id in &ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                Arc::make_mut(&mut slot.process.spec).triggers.watch = None;
            }
            self.write_down(id);
            self.dirty.insert(id);
        }
        let outcomes = self.outcomes(&ids, |_| None);
        drop(reply.send(Ok(outcomes)));
    }

    pub(super) fn signal(&mut self, target: &str, signal: i32, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let outcomes = self.outcomes(&ids, |slot| {
            let lives = matches!(
                slot.state,
                State::Starting { .. } | State::Online { .. } | State::Stopping { .. }
            );
            match slot.handle.as_ref().filter(|_| lives) {
                Some(handle) => {
                    handle.signal_root(signal);
                    None
                }
                None => Some("it does not run".to_owned()),
            }
        });
        drop(reply.send(Ok(outcomes)));
    }

    /// What became of each, at once.
    fn outcomes(&self, ids: &[PmId], error: impl Fn(&Slot) -> Option<String>) -> Vec<Outcome> {
        let one = |&id: &PmId| {
            let slot = self.slots.get(&id)?;
            let name = slot.process.spec.name.clone();
            let error = error(slot);
            Some(Outcome { id, name, error })
        };
        ids.iter().filter_map(one).collect()
    }
}
