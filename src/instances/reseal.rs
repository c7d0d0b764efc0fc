//! Seals everything anew, with the master key that seals now: rows and entries of the table.
//!
//! While this goes on users make, change and remove instances as ever. What they write is sealed with
//! that key already, and a row that they have changed meanwhile is left as they want it: a value is
//! put in the place of exactly the one that it was made of. It may be ended at any moment and begun
//! again; rows that are done are passed over.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::failpoint;
use crate::instances::error::InstanceError;
use crate::instances::lane::{Order, place};
use crate::instances::registry::Instances;
use crate::instances::table::SHARDS;
use crate::store::{InstanceCursor, Reseal, StoredInstance, Swap};
use crate::vault::{Purpose, Resealed};

/// Rows that are read, sealed and written at once: some milliseconds of work, in which nobody waits.
const PAGE: u32 = 128;

/// How far a walk over all rows has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Instances that it has looked at.
    pub seen: u64,
    /// Values that it has sealed anew.
    pub fresh: u64,
    /// Values that open with no key, and are left as they are.
    pub unreadable: u64,
}

impl Instances {
    /// Seals all that is stored, and all that waits in the table, with the master key that seals now.
    /// When this is done well nothing is left that another key has sealed, and nothing of the kind is
    /// on its way into the store. `told` hears how far it is.
    ///
    /// # Errors
    /// Something could not be read or written; what was done stays done.
    pub async fn reseal(&self, mut told: impl FnMut(Walk)) -> Result<Walk, InstanceError> {
        // What comes into the table later may have been read before.
        self.whole().await;
        // What is being written now may have been sealed before the keys changed.
        self.settle().await?;
        let mut walk = Walk::default();
        let mut after = None;
        loop {
            after = self.reseal_page(after, PAGE, &mut walk).await?;
            told(walk);
            if after.is_none() {
                break;
            }
        }
        // An order that has read a row before it was sealed anew puts that into the table.
        self.settle().await?;
        for shard in 0..SHARDS {
            for entry in self.table().sweep(shard, |entry| Some(Arc::clone(entry))) {
                entry.renew()?;
            }
            tokio::task::yield_now().await;
        }
        Ok(walk)
    }

    /// Waits until all that was asked for before is done.
    async fn settle(&self) -> Result<(), InstanceError> {
        for lane in self.lanes.iter() {
            let (caller, done) = oneshot::channel();
            let sent = lane.send(Order::Settle { caller }).await;
            sent.map_err(|_| InstanceError::Stopped)?;
            done.await.map_err(|_| InstanceError::Stopped)?;
        }
        Ok(())
    }

    /// One page of it; answers where the next one begins.
    async fn reseal_page(
        &self,
        after: Option<InstanceCursor>,
        limit: u32,
        walk: &mut Walk,
    ) -> Result<Option<InstanceCursor>, InstanceError> {
        let page = self.rooms.store.stored_instances(after, limit).await?;
        let mut values = Vec::new();
        for stored in page.items {
            walk.seen += 1;
            let value = Reseal {
                id: self.swap(&stored, Purpose::InstanceId, walk)?,
                credential: self.swap(&stored, Purpose::Credential, walk)?,
                public: stored.row.public,
            };
            if value.id.is_some() || value.credential.is_some() {
                values.push(value);
            }
        }
        if !values.is_empty() {
            failpoint::reach("keys.before_batch");
            self.rooms.store.reseal(values).await?;
            failpoint::reach("keys.batch");
        }
        Ok(page.next)
    }

    /// A value sealed anew, unless it is already or cannot be.
    fn swap(
        &self,
        stored: &StoredInstance,
        purpose: Purpose,
        walk: &mut Walk,
    ) -> Result<Option<Swap>, InstanceError> {
        let old = match purpose {
            Purpose::InstanceId => &stored.sealed_id,
            Purpose::Credential => &stored.sealed_credential,
        };
        let resealed = self.rooms.vault.reseal(&place(&stored.row, purpose), old)?;
        Ok(match resealed {
            Resealed::Already => None,
            Resealed::Fresh(new) => {
                walk.fresh += 1;
                let old = old.clone();
                Some(Swap { old, new })
            }
            Resealed::Unreadable(error) => {
                walk.unreadable += 1;
                tracing::warn!(instance = %stored.row.public, %error, "cannot be sealed anew");
                None
            }
        })
    }
}

#[cfg(test)]
mod tests;
