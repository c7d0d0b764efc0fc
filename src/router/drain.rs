//! Connections of clients, and waiting for them to end.
//!
//! Owned by the router. A connection that is asked to end finishes the requests that are under way on
//! it, to the last byte of their answers, and ends; an idle one ends at once. A push stream, which
//! never ends by itself, is ended when draining begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How far the end of the router has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serves.
    Open,
    /// Takes no more requests; those under way are finished.
    Draining,
    /// Whatever is left is cut.
    Ended,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Flight {
    connections: AtomicUsize,
    landed: Notify,
    phase: watch::Sender<Phase>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Flight>);

impl Flight {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            connections: AtomicUsize::new(0),
            landed: Notify::new(),
            phase: watch::Sender::new(Phase::Open),
        })
    }

    /// Counts a connection until the ticket is dropped.
    pub(super) fn board(self: &Arc<Self>) -> Ticket {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ticket(Arc::clone(self))
    }

    /// News of the phase.
    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// May new requests begin?
    pub(super) fn is_open(&self) -> bool {
        *self.phase.borrow() == Phase::Open
    }

    /// Begins to drain.
    pub(super) fn close(&self) {
        self.phase.send_if_modified(|phase| {
            let open = *phase == Phase::Open;
            *phase = (*phase).max(Phase::Draining);
            open
        });
    }

    /// Waits until all have ended, at most so long, cuts the rest, and answers how many they were.
    pub(super) async fn drain(&self, deadline: Duration) -> usize {
        self.close();
        let landed = async {
            loop {
                let mut landed = std::pin::pin!(self.landed.notified());
                // Listen first, look second.
                landed.as_mut().enable();
                if self.connections.load(Ordering::Acquire) == 0 {
                    return;
                }
                landed.await;
            }
        };
        let _ = tokio::time::timeout(deadline, landed).await;
        let left = self.connections.load(Ordering::Acquire);
        self.phase.send_replace(Phase::Ended);
        left
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::Release) == 1 {
            self.0.landed.notify_waiters();
        }
    }
}

/// Ends when the phase is reached. Cancel-safe.
pub(super) async fn reached(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    // The sender lives in the router; when it is gone, so is everything.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_connections_and_no_longer_than_told() {
        let flight = Flight::new();
        assert_eq!(flight.drain(Duration::from_secs(3)).await, 0);

        let flight = Flight::new();
        let ticket = flight.board();
        let waiting = flight.clone();
        let drained = tokio::spawn(async move { waiting.drain(Duration::from_secs(3)).await });
        reached(flight.phase(), Phase::Draining).await;
        assert!(!flight.is_open() && !drained.is_finished());
        drop(ticket);
        assert_eq!(drained.await.unwrap(), 0);

        let flight = Flight::new();
        let _ticket = flight.board();
        assert_eq!(flight.drain(Duration::from_secs(3)).await, 1);
        reached(flight.phase(), Phase::Ended).await;
    }
}
