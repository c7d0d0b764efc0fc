//! Coming to rest, so that another daemon can take over, and waking when that one does not come.
//!
//! At rest nothing is being started, every row is written, and no message is dealt with. What should
//! be started meanwhile is withheld: its row says that it is wanted, which is enough for whoever
//! reads it next.

use tokio::sync::oneshot;

use super::super::spawn::Order;
use super::{Actor, JOURNAL_CLOSE};
use crate::ids::PmId;

/// Somebody waits for rest.
pub(super) struct Freezing {
    /// Told when all is at rest.
    pub(super) frozen: oneshot::Sender<()>,
    /// Says that it goes on; closed without a word when it does not.
    pub(super) thawed: oneshot::Receiver<()>,
}

impl Actor {
    /// Hands an order to the spawner, or withholds it.
    pub(super) fn dispatch(&mut self, order: Order) {
        if self.freezing.is_some() {
            self.withheld.push(order);
            return;
        }
        self.under_way += 1;
        // A run that stands beside another writes into pipes that are read.
        let is_main = order.pid_file.is_some();
        let capture = is_main.then(|| self.capture(order.id)).flatten();
        // Taken in this order: when the run may begin its pipes are open, too.
        let begun = capture.map(|_| self.logs.begin(order.id));
        let orders = self.orders.clone();
        self.tasks.spawn(async move {
            if let Some(begun) = begun {
                begun.await;
            }
            let id = order.id;
            if orders.send(order).await.is_err() {
                tracing::error!(pm_id = %id, "the spawner is gone");
            }
        });
    }

    /// Rests when that was asked for and is possible now; `false` when another daemon has taken over.
    pub(super) async fn may_go_on(&mut self) -> bool {
        if self.under_way > 0 {
            return true;
        }
        let Some(Freezing { frozen, thawed }) = self.freezing.take() else {
            return true;
        };
        self.exits.settled().await;
        let journal = self.journal.clone();
        let flushed = tokio::task::spawn_blocking(move || journal.flush(JOURNAL_CLOSE));
        let _ = flushed.await;
        let _ = frozen.send(());
        let goes_on = thawed.await.is_ok();
        if goes_on {
            self.wake();
        }
        goes_on
    }

    fn wake(&mut self) {
        let runs = |(id, slot): (&PmId, &super::Slot)| slot.handle.is_some().then_some(*id);
        let running: Vec<PmId> = self.slots.iter().filter_map(runs).collect();
        for id in running {
            if let Some(capture) = self.capture(id) {
                self.tasks.spawn(capture);
            }
        }
        for order in std::mem::take(&mut self.withheld) {
            self.dispatch(order);
        }
    }
}
