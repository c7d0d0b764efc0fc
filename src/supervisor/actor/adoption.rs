//! The beginning: takes over what the journal names.

use tokio::time::Instant;

use super::super::adopt::{self, Found};
use super::super::channel::Lines;
use super::super::handle::Unshared;
use super::super::journal::Row;
use super::super::kill::Handle;
use super::super::machine::{Effect, Event};
use super::super::overlap::{Beside, Order};
use super::super::snapshot::Readiness;
use super::endings::trace_of_the_dead;
use super::reload::Second;
use super::runs::tree_of;
use super::{Actor, Slot};
use crate::ids::{PmId, Timestamp};

impl Actor {
    /// Takes over what the journal names.
    pub(super) async fn adopt(&mut self, left: Vec<Row>) {
        let (home_id, run_dir) = (self.home_id.clone(), self.run_dir.clone());
        let (now, today) = (Instant::now(), Timestamp::now());
        let look = move || adopt::find_all(left, &home_id, &run_dir, now, today);
        let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let mut news = Vec::new();
        for Found {
            mut process,
            state,
            handle,
            channel,
            news: first,
            newest,
            beside,
        } in found
        {
            let id = process.id;
            self.place(&mut process);
            if let Some(handle) = &handle {
                tracing::info!(app = %process.spec.name, pid = handle.pid(), "adopted");
                if process.spec.mcp.is_some() {
                    process.health.readiness = Readiness::Starting;
                }
                let (generation, spec) = (process.generation, &process.spec);
                let home = (self.home_id.as_str(), self.run_dir.as_path());
                let root = tree_of(home, (id, generation), handle.clone(), spec);
                self.watch(id, generation, root);
            }
            process.life = handle.as_ref().map(Handle::life);
            let lives = handle.is_some();
            let to = self.listener(id, process.generation);
            let mut slot = Slot::new(process, state, handle);
            slot.newest = newest;
            slot.unshared = slot.process.unshared.map(|port| Unshared {
                port,
                why: slot.process.reason.clone().unwrap_or_default(),
            });
            if let Some(end) = channel {
                slot.lines.listen(end, to, &mut self.tasks);
            }
            self.slots.insert(id, slot);
            if lives && let Some(capture) = self.capture(id) {
                self.tasks.spawn(capture);
            }
            if let Some((generation, handle)) = beside {
                self.end_left_beside(id, generation, handle, now);
            }
            self.settle(id);
            news.extend(first.map(|event| (id, event)));
        }
        self.next_id = self
            .slots
            .last_key_value()
            .map_or(0, |(last, _)| last.0 + 1);
        for (id, event) in news {
            if let (Event::Exited { exit, .. }, Some(slot)) = (&event, self.slots.get(&id)) {
                let (generation, trace) =
                    (slot.process.generation, trace_of_the_dead(&slot.process));
                self.note_end(id, generation, *exit, trace);
            }
            self.feed(id, event, None);
        }
    }

    /// A daemon died during a reload. Its journal says which run is the process; the other is ended,
    /// whether it was to come or to go.
    fn end_left_beside(&mut self, id: PmId, generation: u64, handle: Handle, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let (pid, spec) = (handle.pid(), slot.process.spec.clone());
        tracing::info!(app = %spec.name, pid, "ended: the other run of a reload that was cut short");
        let kill_at = now + spec.stop.grace;
        let home = (self.home_id.as_str(), self.run_dir.as_path());
        let root = tree_of(home, (id, generation), handle.clone(), &spec);
        slot.beside = Some(Second {
            state: Beside::Retiring { pid, kill_at },
            generation,
            instance: slot.process.instance,
            started_at: None,
            handle: Some(handle),
            lines: Lines::default(),
            spec,
        });
        self.watch(id, generation, root);
        self.carry_out(id, Order::Beside(Effect::Terminate(pid)));
        self.carry_out(id, Order::Beside(Effect::WakeAt(kill_at)));
    }
}
