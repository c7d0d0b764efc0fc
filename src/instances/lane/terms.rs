//! Label, expiry, switched off or on: changed by order, and by the clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Answer, Order, TRIES};
use crate::failpoint;
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::instances::change::Change;
use crate::instances::endings::Ending;
use crate::instances::error::InstanceError;
use crate::instances::registry::Rooms;
use crate::instances::version::{self, Version};
use crate::store::InstanceRow;

/// A lane with an end to come looks at the wall clock at least so often, since that may be set. New
/// requests look at it themselves; only what is open already waits for this.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The next order. Meanwhile, and before it, what has come to its end is ended; a lane without an end
/// to come does nothing for it.
pub(super) async fn next(
    rooms: &Arc<Rooms>,
    lane: usize,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<Order> {
    loop {
        let now = Timestamp::now();
        rooms.end_due(lane, now);
        let Some(end) = rooms.soonest_end(lane) else {
            return orders.recv().await;
        };
        let left = u64::try_from(end.as_millis().saturating_sub(now.as_millis())).unwrap_or(0);
        let pause = Duration::from_millis(left).min(LOOK_EVERY);
        // Receiving is cancel-safe: an order that comes late is there in the next round.
        if let Ok(order) = timeout(pause, orders.recv()).await {
            return order;
        }
    }
}

impl Rooms {
    /// `None` when there is none, or it is not the one that is meant.
    pub(super) async fn change(
        &self,
        user: &UserId,
        service: &ServiceType,
        only: Option<&PublicId>,
        change: &Change,
        seen: Option<&[Version]>,
    ) -> Answer<Option<InstanceRow>> {
        for _ in 0..TRIES {
            let Some(mut stored) = self.meant(user, service, only).await? else {
                return Ok(None);
            };
            version::admits(seen, &stored.row)?;
            let (before, now) = (stored.row.terms(), Timestamp::now());
            let after = change.apply(&before, now).map_err(|end| {
                let public = stored.row.public.clone();
                InstanceError::Expired { public, end }
            })?;
            if after == before {
                return Ok(Some(stored.row));
            }
            let public = &stored.row.public;
            failpoint::reach("instance.before_change");
            let changed = self
                .store
                .change_terms(public, before.clone(), after.clone());
            if !changed.await? {
                continue;
            }
            failpoint::reach("instance.changed");
            stored.row.set_terms(after);
            let row = stored.row.clone();
            match self.table.get(&row.hash) {
                // It goes on, and so does what streams on its behalf.
                Some(entry) if row.is_active(Timestamp::now()) => {
                    let end = entry.set_end(row.expires_at);
                    self.ends(user).set(row.hash, end, row.expires_at);
                    if end != row.expires_at {
                        self.endings.tell(Ending::Moved(entry.public.clone()));
                    }
                }
                _ => self.show(stored, None),
            }
            failpoint::reach("instance.change_shown");
            return Ok(Some(row));
        }
        Err(InstanceError::Contended)
    }

    /// Ends the entries of a lane whose time has come.
    fn end_due(&self, lane: usize, now: Timestamp) {
        for hash in self.take_due(lane, now) {
            let entry = self.table.get(&hash);
            let is_over = |end: Timestamp| end <= now;
            if entry.is_some_and(|entry| entry.expires_at().is_some_and(is_over)) {
                self.hide(&hash);
            }
        }
    }
}
