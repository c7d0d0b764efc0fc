//! Coming to rest, so that another daemon can take over, and waking when that one does not come.
//!
//! At rest nothing is being started, every row is written to the file that the other daemon opens, and
//! no message is dealt with. What should be started meanwhile is withheld: its row says that it is
//! wanted, which is enough for whoever reads it next.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::handle::Message;
use super::super::journal::JournalError;
use super::super::machine::Event;
use super::super::spawn::Order;
use super::super::{channel, child_env};
use super::Actor;
use crate::ids::PmId;

/// How long the journal may take, which may have to make its file anew.
const SECURED_WITHIN: Duration = Duration::from_secs(10);

/// Somebody waits for rest.
pub(super) struct Freezing {
    /// Told when all is at rest; or why what runs could not be written down.
    pub(super) frozen: oneshot::Sender<Result<(), JournalError>>,
    /// Says that it goes on; closed without a word when it does not.
    pub(super) thawed: oneshot::Receiver<()>,
}

impl Actor {
    /// Hands an order to the spawner, or withholds it.
    pub(super) fn dispatch(&mut self, mut order: Order) {
        if self.freezing.is_some() {
            self.withheld.push(order);
            return;
        }
        self.under_way += 1;
        // A run that stands beside another writes into pipes that are read.
        let is_main = order.pid_file.is_some();
        let capture = is_main.then(|| self.capture(order.id)).flatten();
        // Taken in this order: when the run may begin its pipes are open, too.
        order.begun = capture.map(|_| self.logs.begin(order.id));
        // There is a place for each run.
        if let Err(error) = self.orders.try_send(order) {
            tracing::error!(%error, "the spawner takes no order");
        }
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
        let secured = tokio::task::spawn_blocking(move || journal.secure(SECURED_WITHIN));
        match secured.await {
            Ok(secured) => drop(frozen.send(secured)),
            // It has panicked, which is no rest.
            Err(_) => drop(frozen),
        }
        let goes_on = thawed.await.is_ok();
        if goes_on {
            self.wake();
        }
        goes_on
    }

    /// Another daemon has taken over. Who has said since then that it is ready has said it here: that
    /// daemon is told.
    pub(super) async fn pass_on(mut self, mut messages: mpsc::Receiver<Message>) {
        let home_id = std::mem::take(&mut self.home_id);
        // Nobody listens here any more, and no command waits.
        self.tasks.shutdown().await;
        drop(self);
        while let Ok(message) = messages.try_recv() {
            let Message::Happened {
                id,
                generation,
                event: Event::Ready,
            } = message
            else {
                continue;
            };
            let run = child_env::run_name(&home_id, id, generation);
            if let Err(error) = channel::say_ready(&run).await {
                tracing::debug!(%run, %error, "nobody wants to hear that it is ready");
            }
        }
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
