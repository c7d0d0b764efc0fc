//! The beginning: takes over what the journal names.

use tokio::time::Instant;

use super::super::adopt::{self, Found};
use super::super::journal::Row;
use super::super::kill::Handle;
use super::super::snapshot::Readiness;
use super::{Actor, Slot};
use crate::ids::Timestamp;

impl Actor {
    /// Takes over what the journal names.
    pub(super) async fn adopt(&mut self, left: Vec<Row>) {
        let home_id = self.home_id.clone();
        let (now, today) = (Instant::now(), Timestamp::now());
        let look = move || adopt::find_all(left, &home_id, now, today);
        let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let mut news = Vec::new();
        for Found {
            mut process,
            state,
            handle,
            channel,
            news: first,
        } in found
        {
            let id = process.id;
            self.place(&mut process);
            if let Some(handle) = &handle {
                tracing::info!(app = %process.spec.name, pid = handle.pid(), "adopted");
                if process.spec.mcp.is_some() {
                    process.health.readiness = Readiness::Starting;
                }
                self.watch(id, process.generation, handle.clone());
            }
            process.life = handle.as_ref().map(Handle::life);
            let lives = handle.is_some();
            let to = self.listener(id, process.generation);
            let mut slot = Slot::new(process, state, handle);
            if let Some(end) = channel {
                slot.lines.listen(end, to, &mut self.tasks);
            }
            self.slots.insert(id, slot);
            if lives && let Some(capture) = self.capture(id) {
                self.tasks.spawn(capture);
            }
            self.settle(id);
            news.extend(first.map(|event| (id, event)));
        }
        self.next_id = self
            .slots
            .last_key_value()
            .map_or(0, |(last, _)| last.0 + 1);
        for (id, event) in news {
            self.feed(id, event);
        }
    }
}
