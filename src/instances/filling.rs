//! Fills the router's table after a start, and finds meanwhile what is not in it yet.
//!
//! Reading a million rows takes seconds, for which nobody should wait. The start reads the first of
//! them, so that a small table is whole at once; a task reads the others. Until it is done, whatever the
//! table does not know is looked up in the store ([`Instances::find`]), and an entry that was needed so is
//! in the table from then on. A change that comes in between wins (`table.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::ids::Timestamp;
use crate::instances::entry::InstanceEntry;
use crate::instances::lane::Order;
use crate::instances::registry::{Instances, Rooms};
use crate::instances::table::{SHARDS, shard_of};
use crate::store::{InstanceCursor, StoreError, StoredInstance};

/// Rows that are read at once: some milliseconds of work.
const PAGE: u32 = 1000;

/// Rows that the start waits for: a hundredth of a second. Most tables are whole with these.
const AT_START: usize = 2000;

/// A store that cannot be read now is asked again after this; what is needed is looked up meanwhile.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Maps of the table that are filled before other tasks get a turn.
const STEP: usize = 64;

/// Where filling goes on, after the start.
pub(super) struct Rest(InstanceCursor);

type Entries = Vec<([u8; 32], Arc<InstanceEntry>)>;

impl Rooms {
    /// Reads the first rows. `None` when these were all.
    pub(super) async fn fill_first(&self) -> Result<Option<Rest>, StoreError> {
        let (mut entries, mut after) = (Vec::new(), None);
        while entries.len() < AT_START {
            after = self.read_page(after, &mut entries).await?;
            if after.is_none() {
                break;
            }
        }
        self.table.offer(entries);
        if after.is_none() {
            self.table.set_whole();
        }
        Ok(after.map(Rest))
    }

    /// One page of active instances, each as an entry; answers where the next one begins.
    async fn read_page(
        &self,
        after: Option<InstanceCursor>,
        entries: &mut Entries,
    ) -> Result<Option<InstanceCursor>, StoreError> {
        let page = self.store.active_instances(Timestamp::now(), after, PAGE);
        let page = page.await?;
        entries.extend(page.items.into_iter().map(|stored| self.entry(stored)));
        Ok(page.next)
    }

    /// An entry of what the store holds, whose end is known from here on: one that is not taken leaves
    /// an end that means nothing.
    fn entry(&self, stored: StoredInstance) -> ([u8; 32], Arc<InstanceEntry>) {
        let hash = stored.row.hash;
        let entry = Arc::new(InstanceEntry::new(stored, self.vault.clone()));
        if let Some(end) = entry.expires_at() {
            self.ends(&entry.user).set(hash, None, Some(end));
        }
        (hash, entry)
    }

    /// Takes in a row that a lane has just read, before it changes something of its entry.
    pub(super) fn bring(&self, stored: &StoredInstance) {
        if !self.table.is_whole() && stored.row.is_active(Timestamp::now()) {
            self.table.offer(vec![self.entry(stored.clone())]);
        }
    }
}

/// Reads what the start has left, and ends with that or with the last handle.
pub(super) async fn run(rooms: Arc<Rooms>, lanes: Vec<mpsc::WeakSender<Order>>, rest: Rest) {
    let mut shards: Vec<Entries> = (0..SHARDS).map(|_| Entries::new()).collect();
    let (mut page, mut after) = (Entries::new(), Some(rest.0));
    while after.is_some() {
        if lanes.iter().all(|lane| lane.strong_count() == 0) {
            return;
        }
        match rooms.read_page(after, &mut page).await {
            Ok(next) => after = next,
            Err(error) => {
                tracing::error!(%error, "cannot read instances; trying again");
                sleep(AGAIN_AFTER).await;
                continue;
            }
        }
        for (hash, entry) in page.drain(..) {
            shards[shard_of(&hash)].push((hash, entry));
        }
    }
    // At last and each map once: a page at a time would copy nearly all maps for each page.
    for (at, entries) in shards.into_iter().enumerate() {
        rooms.table.offer(entries);
        if at % STEP == 0 {
            tokio::task::yield_now().await;
        }
    }
    rooms.table.set_whole();
    rooms.whole.send_replace(true);
    // Lanes that had no end to come look again.
    for lane in lanes.iter().filter_map(mpsc::WeakSender::upgrade) {
        let (caller, _) = tokio::sync::oneshot::channel();
        // One with a full queue is awake.
        let _ = lane.try_send(Order::Settle { caller });
    }
}

impl Instances {
    /// The active instance whose id has this keyed hash. Waits only after a start, for one look-up in the
    /// store of what the table does not hold yet; whether it is there or not makes no difference.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn find(&self, hash: &[u8; 32]) -> Result<Option<Arc<InstanceEntry>>, StoreError> {
        let table = self.table();
        match table.get(hash) {
            Some(entry) => Ok(Some(entry)),
            // Perhaps it came while the table was becoming whole.
            None if table.is_whole() => Ok(table.get(hash)),
            None => self.find_stored(hash).await,
        }
    }

    async fn find_stored(&self, hash: &[u8; 32]) -> Result<Option<Arc<InstanceEntry>>, StoreError> {
        let rooms = &self.rooms;
        // Never closed.
        let _turn = rooms.cold.acquire().await;
        if let Some(stored) = rooms.store.stored_by_hash(hash).await? {
            rooms.bring(&stored);
        }
        Ok(self.table().get(hash))
    }

    /// Ends when the table holds all that are active. Cancel-safe.
    pub async fn whole(&self) {
        // Its sender is in the same room.
        let _ = self.rooms.whole.subscribe().wait_for(|whole| *whole).await;
    }
}

#[cfg(test)]
mod tests;
