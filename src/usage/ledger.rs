//! The handle to what was used: has it written, and reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::writer::{self, Order};
use crate::ids::{Day, ServiceType, UserId};
use crate::instances::Tallies;
use crate::store::{Page, StoreError, StoreHandle, Usage, UsageFilter, UsageKey, UsageRow};

/// Rows that are read at once where all are added up.
const PAGE: u32 = 1000;

/// Handle to the books. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    store: StoreHandle,
    orders: mpsc::Sender<Order>,
}

impl Ledger {
    /// Starts the task that writes. It ends with [`Ledger::close`], or when the last handle is
    /// dropped, and is not to be aborted: a write that is under way would be done twice or never.
    pub fn start(tallies: Arc<Tallies>, store: StoreHandle) -> (Self, JoinHandle<()>) {
        let (orders, queue) = mpsc::channel(1);
        let task = tokio::spawn(writer::run(tallies, store.clone(), queue));
        (Self { store, orders }, task)
    }

    /// Has written what was counted before. Done when it returns.
    pub async fn flush(&self) {
        self.order(false).await;
    }

    /// Has written what was counted before, and writes no more. Done when it returns.
    pub async fn close(&self) {
        self.order(true).await;
    }

    async fn order(&self, is_last: bool) {
        let (done, written) = oneshot::channel();
        if self.orders.send(Order { is_last, done }).await.is_ok() {
            let _ = written.await;
        }
    }

    /// A page of what was used, the oldest day first. What was counted less than a second ago may not
    /// be there yet.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn page(
        &self,
        filter: &UsageFilter,
        after: Option<&UsageKey>,
        limit: u32,
    ) -> Result<Page<UsageRow, UsageKey>, StoreError> {
        self.store.usage(filter, after, limit).await
    }

    /// All that the filter lets through, added up.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn total(&self, filter: &UsageFilter) -> Result<Usage, StoreError> {
        let mut total = Usage::default();
        let mut after = None;
        loop {
            // Page by page, so that nobody's look-up waits for all of it.
            let page = self.store.usage(filter, after.as_ref(), PAGE).await?;
            for row in &page.items {
                total.add(&row.usage);
            }
            after = page.next;
            if after.is_none() {
                return Ok(total);
            }
        }
    }

    /// What a user may see of their own: from the day on which they were added. What an earlier user
    /// of the same id has used is the operator's to know.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn own(&self, user: &UserId, filter: UsageFilter) -> Result<UsageFilter, StoreError> {
        let row = self.store.user(user).await?;
        let since = row.map(|row| Day::of(row.created_at));
        Ok(UsageFilter {
            user: Some(user.clone()),
            from: filter.from.max(since),
            ..filter
        })
    }

    /// How many requests a user has sent to each service, as far as they may see it.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn requests(&self, user: &UserId) -> Result<BTreeMap<ServiceType, u64>, StoreError> {
        let own = self.own(user, UsageFilter::default()).await?;
        let from = own.from.unwrap_or(Day::from_number(0));
        let counts = self.store.request_counts(user, from).await?;
        Ok(counts.into_iter().collect())
    }
}
