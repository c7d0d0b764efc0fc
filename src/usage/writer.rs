//! The task that brings what was counted into the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::pending::Pending;
use crate::ids::{Day, Timestamp};
use crate::instances::Tallies;
use crate::store::{StoreError, StoreHandle, UsageKey, UsageRow};

/// So long after a count it is written, together with all that came meanwhile: what a killed daemon may
/// lose. As long again after a write that failed.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// To write at once, and to end when it is the last word. Answered when that is done.
pub(super) struct Order {
    pub(super) is_last: bool,
    pub(super) done: oneshot::Sender<()>,
}

/// Writes until it is told to end, or nobody is left who could.
pub(super) async fn run(
    tallies: Arc<Tallies>,
    store: StoreHandle,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut writer = Writer {
        tallies,
        store,
        pending: Pending::default(),
        is_failing: false,
    };
    let mut due = None;
    loop {
        // Nothing counted, nothing to do: an idle daemon is not woken.
        let order = tokio::select! {
            () = writer.tallies.counted(), if due.is_none() => {
                due = Some(Instant::now() + WRITE_EVERY);
                continue;
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            order = orders.recv() => match order {
                Some(order) => Some(order),
                None => return,
            },
        };
        let is_written = writer.write(Timestamp::now()).await;
        due = (!is_written).then(|| Instant::now() + WRITE_EVERY);
        if let Some(Order { is_last, done }) = order {
            if is_last && !is_written {
                tracing::error!("usage that could not be written is lost");
            }
            let _ = done.send(());
            if is_last {
                return;
            }
        }
    }
}

struct Writer {
    tallies: Arc<Tallies>,
    store: StoreHandle,
    pending: Pending,
    is_failing: bool,
}

impl Writer {
    /// Collects and writes; `false` when something is left to be written.
    async fn write(&mut self, now: Timestamp) -> bool {
        self.collect(Day::of(now));
        match self.store_all().await {
            Ok(()) => {
                if self.is_failing {
                    tracing::info!("usage is written again; nothing was lost");
                }
                self.is_failing = false;
            }
            Err(error) => {
                if !self.is_failing {
                    tracing::warn!(%error, "cannot write usage; it is kept, and written when that works");
                }
                self.is_failing = true;
            }
        }
        !self.is_failing
    }

    fn collect(&mut self, day: Day) {
        if self.pending.is_full() {
            return;
        }
        let pending = &mut self.pending;
        self.tallies.collect(|user, service, usage| {
            let key = UsageKey {
                day,
                user: user.clone(),
                service: service.clone(),
            };
            pending.put([UsageRow { key, usage }]);
        });
    }

    async fn store_all(&mut self) -> Result<(), StoreError> {
        while !self.pending.is_empty() {
            let batch = self.pending.batch();
            if let Err(error) = self.store.add_usage(batch.clone()).await {
                self.pending.put(batch);
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
