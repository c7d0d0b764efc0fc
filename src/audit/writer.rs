//! [`Writer`]: the task that writes what the desk has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::desk::{Desk, Which};
use crate::problem::chain;
use crate::store::{AuditEntry, StoreError, StoreHandle};

/// Entries that are written in one transaction.
const BATCH_MAX: usize = 256;
/// After a failure, which a full disk is mostly.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What handles and the writer share.
pub(super) struct Shared {
    desk: Mutex<Desk>,
    /// There is something on an empty desk.
    pub(super) news: Notify,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            desk: Mutex::new(Desk::new()),
            news: Notify::new(),
        }
    }

    /// Nobody holds it for long, or waits while holding it.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handle says to the writer: to write this now, and to end when it is the last word. Answered
/// when that is done, or has failed and will be tried again.
pub(super) struct Order {
    pub(super) which: Which,
    pub(super) is_last: bool,
    pub(super) done: oneshot::Sender<()>,
}

/// Writes.
pub struct Writer {
    store: StoreHandle,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    /// Taken from the desk and not written yet.
    batch: Vec<AuditEntry>,
    /// Since the last try has failed.
    retry_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        store: StoreHandle,
        shared: Arc<Shared>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Self {
            store,
            shared,
            orders,
            batch: Vec::new(),
            retry_at: None,
        }
    }

    /// Writes until it is told to end, or all handles are gone.
    pub async fn run(mut self) {
        loop {
            let due = self.retry_at.or_else(|| self.shared.desk().due());
            tokio::select! {
                order = self.orders.recv() => {
                    let Some(Order { which, is_last, done }) = order else {
                        return;
                    };
                    self.write(which).await;
                    // Whoever does not wait any more does not want to know.
                    let _ = done.send(());
                    if is_last {
                        return;
                    }
                }
                () = self.shared.news.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.write(Which::Due).await;
                }
            }
        }
    }

    /// What could not be written before comes first, and keeps the rest on the desk, which is bounded.
    async fn write(&mut self, which: Which) {
        self.write_batch().await;
        if !self.batch.is_empty() {
            return;
        }
        let (batch, lost) = {
            let mut desk = self.shared.desk();
            (desk.take(which, Instant::now()), desk.take_lost())
        };
        self.batch = batch;
        if lost > 0 {
            tracing::warn!(entries = lost, "lost for the audit log, which was full");
        }
        self.write_batch().await;
    }

    async fn write_batch(&mut self) {
        while !self.batch.is_empty() {
            let count = self.batch.len().min(BATCH_MAX);
            let some = self.batch[..count].to_vec();
            match self.store.append_audit(some).await {
                Ok(()) => {
                    if self.retry_at.take().is_some() {
                        tracing::info!("the audit log is written again");
                    }
                }
                Err(error @ (StoreError::Full(_) | StoreError::Unavailable(_))) => {
                    if self.retry_at.is_none() {
                        let error = chain(&error);
                        tracing::warn!(%error, "cannot write the audit log; trying again");
                    }
                    self.retry_at = Some(Instant::now() + RETRY_AFTER);
                    return;
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(%error, entries = count, "lost for the audit log");
                    self.retry_at = None;
                }
            }
            self.batch.drain(..count);
        }
    }
}
