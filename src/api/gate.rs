//! Holds calls while the daemon hands over to the next one.
//!
//! What has begun is finished first; what comes meanwhile waits: on the socket of commands until the
//! next daemon takes it, on a connection to the router until it is clear which of the two goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{Notify, watch};

use super::daemon::{HEALTH_PATH, UPDATE_PATH};
use super::error::ApiError;

/// Is this daemon the one to ask?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Yes.
    Open,
    /// It will be clear in a moment.
    Closed,
    /// No: the next one is.
    Left,
}

/// The gate of both doors. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: watch::Sender<Phase>,
    calls: AtomicUsize,
    quiet: Notify,
}

/// One call, until its answer begins.
#[derive(Debug)]
pub struct Call(Arc<Inner>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Inner {
            phase: watch::Sender::new(Phase::Open),
            calls: AtomicUsize::new(0),
            quiet: Notify::new(),
        }))
    }
}

impl Gate {
    /// Lets no more calls in.
    pub fn close(&self) {
        self.0.phase.send_replace(Phase::Closed);
    }

    /// Lets them in again.
    pub fn open(&self) {
        self.0.phase.send_replace(Phase::Open);
    }

    /// Another daemon answers from now on.
    pub fn leave(&self) {
        self.0.phase.send_replace(Phase::Left);
    }

    /// Waits until every call that was let in is answered. Cancel-safe.
    pub async fn quiet(&self) {
        loop {
            let mut quiet = std::pin::pin!(self.0.quiet.notified());
            // Listen first, look second.
            quiet.as_mut().enable();
            if self.0.calls.load(Ordering::Acquire) == 0 {
                return;
            }
            quiet.await;
        }
    }

    /// Waits until calls are let in; `false` when never again.
    pub async fn opened(&self) -> bool {
        let mut phase = self.0.phase.subscribe();
        // The sender is here.
        let phase = phase.wait_for(|phase| *phase != Phase::Closed).await;
        phase.is_ok_and(|phase| *phase == Phase::Open)
    }

    /// Waits until no more calls are let in. Cancel-safe.
    pub async fn closed(&self) {
        let mut phase = self.0.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase != Phase::Open).await;
    }

    /// Waits until another daemon answers. Cancel-safe.
    pub async fn left(&self) {
        let mut phase = self.0.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase == Phase::Left).await;
    }

    /// Waits until calls are let in, and counts as one of them; `None` when another daemon is to be
    /// asked.
    pub async fn enter(&self) -> Option<Call> {
        loop {
            if !self.opened().await {
                return None;
            }
            self.0.calls.fetch_add(1, Ordering::AcqRel);
            let call = Call(self.0.clone());
            // It may have been closed just before this call was counted.
            if *self.0.phase.borrow() == Phase::Open {
                return Some(call);
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}

/// Lets a call through when it is time. The call that asks for a hand-over does not wait for its own
/// end, and whether the daemon lives is answered always.
pub(super) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), HEALTH_PATH | UPDATE_PATH) {
        return next.run(request).await;
    }
    let Some(_call) = gate.enter().await else {
        return ApiError::handed_over().into_response();
    };
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_begun_is_finished_and_what_comes_waits() {
        let gate = Gate::default();
        gate.quiet().await;
        let call = gate.enter().await.unwrap();
        gate.close();
        let (waiting, resting) = (gate.clone(), gate.clone());
        let waiting = tokio::spawn(async move { waiting.enter().await.is_some() });
        let resting = tokio::spawn(async move { resting.quiet().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && !resting.is_finished());
        drop(call);
        resting.await.unwrap();
        assert!(!waiting.is_finished());
        gate.open();
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn after_a_hand_over_another_daemon_is_to_be_asked() {
        let gate = Gate::default();
        gate.close();
        let waiting = gate.clone();
        let waiting = tokio::spawn(async move { waiting.enter().await.is_none() });
        gate.leave();
        assert!(waiting.await.unwrap());
        gate.left().await;
        assert!(gate.enter().await.is_none());
    }
}
