//! Bodies on their way through: never collected, always bounded.
//!
//! * A request's body is counted while it passes, whatever it declared, and may not stall.
//! * An answer's body passes frame by frame. One that does not end by itself (an event stream) ends
//!   with its instance, and when the router does. A service that dies in the middle resets the
//!   client's stream: a clean end would make the answer look complete
//!   (`reference/mcp-transport.md` §6).
//! * The last frame gives the connection back and lets the request land.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::drain::Ticket;
use super::upstream::Lease;
use crate::instances::InstanceEntry;

/// A client may pause so long within its body.
const REQUEST_SILENCE_MAX: Duration = Duration::from_secs(60);
/// A service may pause so long within an answer that is no event stream.
const ANSWER_SILENCE_MAX: Duration = Duration::from_secs(5 * 60);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a body was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    /// More bytes than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// No byte for too long.
    #[error("the body has stalled")]
    Stalled,
    /// The instance was removed, rotated, or got another credential.
    #[error("the instance has ended")]
    Revoked,
}

/// A client's body on its way to a service.
pub(super) struct RequestBody {
    inner: Incoming,
    left: u64,
    silence: Silence,
    fate: Fate,
}

/// What became of a request's body, for whoever sent it: hyper tells only that sending failed.
#[derive(Clone, Default)]
pub(super) struct Fate(Arc<AtomicU8>);

impl Fate {
    fn set(&self, cut: Cut) {
        self.0
            .store(if cut == Cut::TooLarge { 1 } else { 2 }, Ordering::Relaxed);
    }

    /// Why it was cut, if it was.
    pub(super) fn cut(&self) -> Option<Cut> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Cut::TooLarge),
            _ => Some(Cut::Stalled),
        }
    }
}

impl RequestBody {
    /// Passes at most `max` bytes.
    pub(super) fn new(inner: Incoming, max: u64) -> (Self, Fate) {
        let fate = Fate::default();
        let silence = Silence::new(REQUEST_SILENCE_MAX);
        (
            Self {
                inner,
                left: max,
                silence,
                fate: fate.clone(),
            },
            fate,
        )
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.silence.poll_over(cx));
                this.fate.set(Cut::Stalled);
                return Poll::Ready(Some(Err(Cut::Stalled.into())));
            }
        };
        this.silence.broken();
        let Some(frame) = frame.transpose()? else {
            return Poll::Ready(None);
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match this.left.checked_sub(length) {
            Some(left) => this.left = left,
            None => {
                this.fate.set(Cut::TooLarge);
                return Poll::Ready(Some(Err(Cut::TooLarge.into())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a client is answered.
pub(super) struct Body(Source);

enum Source {
    /// Words of our own.
    Fixed(Option<Bytes>),
    /// The API's.
    Api(axum::body::Body),
    /// A service's.
    Service(Box<Answer>),
}

/// The rest of a service's answer.
pub(super) struct Answer {
    inner: Incoming,
    lease: Option<Lease>,
    instance: Arc<InstanceEntry>,
    silence: Option<Silence>,
    end: Option<End>,
    _ticket: Option<Ticket>,
}

/// Ends a stream from outside: cleanly with `Ok`, with a reset otherwise.
pub(super) type End = Pin<Box<dyn Future<Output = Result<(), Cut>> + Send>>;

impl Body {
    /// Words of our own.
    pub(super) fn fixed(bytes: Bytes) -> Self {
        Self(Source::Fixed((!bytes.is_empty()).then_some(bytes)))
    }

    /// No bytes.
    pub(super) fn empty() -> Self {
        Self(Source::Fixed(None))
    }

    /// The API's.
    pub(super) fn api(body: axum::body::Body) -> Self {
        Self(Source::Api(body))
    }

    /// A service's, which ends by itself and counts as a request until then.
    pub(super) fn answer(
        inner: Incoming,
        lease: Lease,
        instance: Arc<InstanceEntry>,
        ticket: Ticket,
    ) -> Self {
        Self(Source::Service(Box::new(Answer {
            inner,
            lease: Some(lease),
            instance,
            silence: Some(Silence::new(ANSWER_SILENCE_MAX)),
            end: None,
            _ticket: Some(ticket),
        })))
    }

    /// A service's event stream. Without a ticket it is a push stream, which no drain waits for.
    pub(super) fn event_stream(
        inner: Incoming,
        lease: Lease,
        instance: Arc<InstanceEntry>,
        ticket: Option<Ticket>,
        end: End,
    ) -> Self {
        Self(Source::Service(Box::new(Answer {
            inner,
            lease: Some(lease),
            instance,
            silence: None,
            end: Some(end),
            _ticket: ticket,
        })))
    }
}

impl Answer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // What is on its way belongs to the instance as it was: not a byte after its end.
        if self.instance.is_revoked() {
            return Poll::Ready(Some(Err(Cut::Revoked.into())));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let Some(silence) = &mut self.silence {
                silence.broken();
            }
            let frame = frame.transpose()?;
            if frame.is_none() {
                self.give_back();
            }
            return Poll::Ready(frame.map(Ok));
        }
        if let Some(end) = &mut self.end {
            let ended = ready!(end.as_mut().poll(cx));
            return Poll::Ready(ended.err().map(|cut| Err(cut.into())));
        }
        if let Some(silence) = &mut self.silence {
            ready!(silence.poll_over(cx));
            return Poll::Ready(Some(Err(Cut::Stalled.into())));
        }
        Poll::Pending
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // An answer of known length is read to its end without a last empty frame.
        if self.inner.is_end_stream() {
            self.give_back();
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Source::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Api(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Source::Service(answer) => answer.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Fixed(bytes) => bytes.is_none(),
            Source::Api(body) => body.is_end_stream(),
            Source::Service(answer) => answer.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Fixed(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Api(body) => body.size_hint(),
            Source::Service(answer) => answer.inner.size_hint(),
        }
    }
}

/// Counts the time in which nothing comes. Costs a timer only where there is a pause.
struct Silence {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Silence {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: None,
            running: false,
        }
    }

    /// Something came.
    fn broken(&mut self) {
        self.running = false;
    }

    /// Nothing has come; ready when that has lasted too long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.running {
            timer.as_mut().reset(Instant::now() + limit);
            self.running = true;
        }
        timer.as_mut().poll(cx)
    }
}
