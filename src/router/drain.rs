//! Connections of clients, and waiting for them to end.
//!
//! Owned by the router. A connection that is asked to end finishes the requests that are under way on
//! it, to the last byte of their answers, and ends; an idle one ends at once. A push stream, which
//! never ends by itself, is ended when draining begins.
//!
//! When another daemon takes over, the connections of this one are left to end by themselves first:
//! streams go on, and a request that still comes is answered with the word that it was the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::Version;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How far the end of the router has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serves.
    Open,
    /// Another daemon takes new connections; those that are open end with their next answer.
    Leaving,
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

/// What goes on on one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    protocol: AtomicU8,
    /// Requests whose answers have not ended.
    busy: AtomicUsize,
    began: Instant,
    /// When the last answer has ended, in milliseconds after `began`.
    rested: AtomicU64,
}

/// One request, until the end of its answer.
#[derive(Debug)]
pub(super) struct Busy(Arc<Traffic>);

impl Traffic {
    /// A request came over HTTP/1.
    const PLAIN: u8 = 1;
    /// A request came over HTTP/2.
    const MULTIPLEXED: u8 = 2;

    /// Nothing was asked yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            protocol: AtomicU8::new(0),
            busy: AtomicUsize::new(0),
            began: Instant::now(),
            rested: AtomicU64::new(0),
        })
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Busy {
        let protocol = if version == Version::HTTP_2 {
            Self::MULTIPLEXED
        } else {
            Self::PLAIN
        };
        self.protocol.store(protocol, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Nothing was asked yet.
    pub(super) fn is_new(&self) -> bool {
        self.protocol.load(Ordering::Relaxed) == 0
    }

    /// Its protocol can say that no more requests are taken without losing one (RFC 9113 §6.8).
    pub(super) fn can_say_goodbye(&self) -> bool {
        self.protocol.load(Ordering::Relaxed) == Self::MULTIPLEXED
    }

    /// Since when nothing is under way; `None` while something is.
    pub(super) fn rests_since(&self) -> Option<Instant> {
        let rested = Duration::from_millis(self.rested.load(Ordering::Acquire));
        (self.busy.load(Ordering::Acquire) == 0).then(|| self.began + rested)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(traffic) = self;
        let rested = u64::try_from(traffic.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        traffic.rested.store(rested, Ordering::Release);
        traffic.busy.fetch_sub(1, Ordering::Release);
    }
}

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
    pub(super) fn takes_requests(&self) -> bool {
        *self.phase.borrow() < Phase::Draining
    }

    /// Is an answer that begins now the last one of its connection?
    pub(super) fn is_leaving(&self) -> bool {
        *self.phase.borrow() != Phase::Open
    }

    /// Lets the connections end by themselves, and returns when they have.
    pub(super) async fn leave(&self) {
        self.enter(Phase::Leaving);
        self.landed().await;
    }

    /// Begins to drain.
    pub(super) fn close(&self) {
        self.enter(Phase::Draining);
    }

    /// Never goes back.
    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_news = *phase < next;
            *phase = (*phase).max(next);
            is_news
        });
    }

    async fn landed(&self) {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            // Listen first, look second.
            landed.as_mut().enable();
            if self.connections.load(Ordering::Acquire) == 0 {
                return;
            }
            landed.await;
        }
    }

    /// Waits until all have ended, at most so long, cuts the rest, and answers how many they were.
    pub(super) async fn drain(&self, deadline: Duration) -> usize {
        self.close();
        let _ = tokio::time::timeout(deadline, self.landed()).await;
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
        assert!(!flight.takes_requests() && !drained.is_finished());
        drop(ticket);
        assert_eq!(drained.await.unwrap(), 0);

        let flight = Flight::new();
        let _ticket = flight.board();
        assert_eq!(flight.drain(Duration::from_secs(3)).await, 1);
        reached(flight.phase(), Phase::Ended).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_from_the_end_of_its_last_answer() {
        let traffic = Traffic::new();
        assert!(traffic.is_new() && traffic.rests_since().is_some());
        let (one, two) = (
            traffic.begin(Version::HTTP_11),
            traffic.begin(Version::HTTP_11),
        );
        assert!(!traffic.is_new() && !traffic.can_say_goodbye());
        drop(one);
        assert_eq!(traffic.rests_since(), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(two);
        assert_eq!(traffic.rests_since(), Some(Instant::now()));
        drop(traffic.begin(Version::HTTP_2));
        assert!(traffic.can_say_goodbye());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_still_takes_requests_and_ends_with_the_last_connection() {
        let flight = Flight::new();
        let ticket = flight.board();
        let leaving = flight.clone();
        let left = tokio::spawn(async move { leaving.leave().await });
        reached(flight.phase(), Phase::Leaving).await;
        assert!(flight.takes_requests() && flight.is_leaving() && !left.is_finished());
        flight.close();
        assert!(!flight.takes_requests());
        drop(ticket);
        left.await.unwrap();
        flight.leave().await;
        assert!(!flight.takes_requests(), "never back");
    }
}
