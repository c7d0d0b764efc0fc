//! Bodies on their way through: never collected, always bounded.
//!
//! * A request's body is counted while it passes, whatever it declared, and may not stall.
//! * An answer's body passes frame by frame. One that does not end by itself (an event stream) ends
//!   with its instance, and when the router does. A service that dies in the middle resets the
//!   client's stream: a clean end would make the answer look complete.
//! * Nothing passes once the instance has ended, or the token that was needed, in either direction;
//!   what has passed is counted.
//! * The last frame gives the connection back.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::header::{ACCEPT, HeaderValue};
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::counted::Meter;
use super::drain::{Busy, Flight, Phase, reached};
use super::headers;
use super::pass::Pass;
use super::upgrade;
use super::upstream::Lease;
use crate::access_log::Record;
use crate::limits::Slot;
use crate::metrics::Going;

/// A client may pause so long within its body.
const REQUEST_SILENCE_MAX: Duration = Duration::from_secs(60);
/// A service may pause so long within an answer that is no event stream.
const ANSWER_SILENCE_MAX: Duration = Duration::from_secs(5 * 60);

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a body was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    /// More bytes than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// It is not framed as HTTP is.
    #[error("the body is broken")]
    Broken,
    /// No byte for too long.
    #[error("the body has stalled")]
    Stalled,
    /// The instance was removed, rotated or disabled, or has expired; or it got another credential and
    /// this never ends by itself; or the token that was shown has ended.
    #[error("the instance has ended")]
    Revoked,
}

/// A client's body on its way to a service.
pub(super) struct RequestBody {
    inner: Words,
    left: u64,
    instance: Pass,
    meter: Meter,
    silence: Silence,
    fate: Fate,
}

/// Where a request's body comes from.
enum Words {
    /// The client, as it goes on.
    Client(Incoming),
    /// Whoever has read it, and counted it then.
    Known(Option<Bytes>),
}

/// What became of a request's body, for whoever sent it: hyper tells only that sending failed.
#[derive(Clone, Default)]
pub(super) struct Fate(Arc<OnceLock<Cut>>);

impl Fate {
    /// Why it was cut, if it was.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.0.get().copied()
    }
}

impl RequestBody {
    /// Passes at most `max` bytes.
    pub(super) fn new(inner: Incoming, max: u64, instance: Pass, meter: Meter) -> (Self, Fate) {
        let fate = Fate::default();
        let body = Self {
            inner: Words::Client(inner),
            left: max,
            instance,
            meter,
            silence: Silence::new(REQUEST_SILENCE_MAX),
            fate: fate.clone(),
        };
        (body, fate)
    }

    /// Words that are known, which may be none.
    pub(super) fn known(words: Bytes, instance: Pass, meter: Meter) -> Self {
        Self {
            inner: Words::Known((!words.is_empty()).then_some(words)),
            left: 0,
            instance,
            meter,
            silence: Silence::new(REQUEST_SILENCE_MAX),
            fate: Fate::default(),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// It was cut.
    pub(super) async fn collect(mut self) -> Result<Bytes, Cut> {
        let declared = self.size_hint().exact().unwrap_or(0).min(self.left);
        let mut whole = BytesMut::new();
        let mut first: Option<Bytes> = None;
        while let Some(frame) = self.frame().await {
            let Ok(frame) = frame else {
                return Err(self.fate.cut().unwrap_or(Cut::Broken));
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            // Mostly all of it comes at once.
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(before) => {
                    whole.reserve(usize::try_from(declared).unwrap_or(0));
                    whole.extend_from_slice(&before);
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| whole.freeze()))
    }

    fn cut(&self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Only the first reason counts.
        let _ = self.fate.0.set(cut);
        Poll::Ready(Some(Err(cut.into())))
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
        if this.instance.is_revoked() {
            return this.cut(Cut::Revoked);
        }
        let inner = match &mut this.inner {
            Words::Client(inner) => inner,
            Words::Known(words) => {
                return Poll::Ready(words.take().map(|words| Ok(Frame::data(words))));
            }
        };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            ready!(this.silence.poll_over(cx));
            return this.cut(Cut::Stalled);
        };
        this.silence.broken();
        let frame = match frame.transpose() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Poll::Ready(None),
            Err(_) => return this.cut(Cut::Broken),
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match this.left.checked_sub(length) {
            Some(left) => this.left = left,
            None => return this.cut(Cut::TooLarge),
        }
        if length > 0 {
            this.meter.received(length);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Words::Client(inner) => inner.is_end_stream(),
            Words::Known(words) => words.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Words::Client(inner) => inner.size_hint(),
            Words::Known(words) => SizeHint::with_exact(length(words.as_ref())),
        }
    }
}

fn length(words: Option<&Bytes>) -> u64 {
    words.map_or(0, |words| words.len() as u64)
}

/// What an open stream takes up, as long as this is kept.
pub(super) struct Place {
    /// Where streams are limited.
    pub(super) _slot: Option<Slot>,
    /// Where they are counted.
    pub(super) _going: Going,
}

/// What a client is answered.
pub(super) struct Body {
    source: Source,
    /// The same, as its service's numbers have it.
    _going: Option<Going>,
    /// Where it is told of.
    record: Option<Arc<Record>>,
    /// Its request is under way until this is dropped.
    _busy: Option<Busy>,
}

enum Source {
    /// Words of our own.
    Fixed(Option<Bytes>),
    /// The API's.
    Api(axum::body::Body),
    /// A service's.
    Service(Box<Answer>),
    /// A service's, as the client is to see it (`mcp`).
    Events(Events),
}

/// What of a service's events goes to the client.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// The rest of a service's answer.
pub(super) struct Answer {
    inner: Incoming,
    lease: Option<Lease>,
    instance: Pass,
    meter: Meter,
    silence: Option<Silence>,
    end: Option<End>,
    /// The stream is open as long as this.
    slot: Option<Place>,
}

/// Ends a stream from outside: cleanly with `Ok`, with a reset otherwise.
pub(super) type End = Pin<Box<dyn Future<Output = Result<(), Cut>> + Send>>;

/// A push stream ends cleanly when the router drains, an answer only when all ends.
pub(super) fn end(instance: &Pass, flight: &Flight, is_push: bool) -> End {
    let instance = instance.clone();
    let phase = if is_push {
        Phase::Draining
    } else {
        Phase::Ended
    };
    let reached = reached(flight.phase(), phase);
    Box::pin(async move {
        tokio::select! {
            () = instance.revoked() => Err(Cut::Revoked),
            () = reached => Ok(()),
        }
    })
}

/// Does a request ask for a stream, so that it can be refused before its service is asked? Whoever
/// sends anything takes an answer that is one, but does not ask for it.
pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    let takes_events = |value: &HeaderValue| {
        let mut kinds = value.as_bytes().split(|&b| b == b',');
        kinds.any(|kind| {
            let kind = kind.split(|&b| b == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        })
    };
    let accepted = || request.headers().get_all(ACCEPT).iter().any(takes_events);
    upgrade::is_asked_for(request) || (request.method() == Method::GET && accepted())
}

impl Body {
    fn of(source: Source) -> Self {
        Self {
            source,
            _going: None,
            record: None,
            _busy: None,
        }
    }

    /// Its request is under way until it has ended.
    pub(super) fn counted(self, busy: Busy) -> Self {
        Self {
            _busy: Some(busy),
            ..self
        }
    }

    /// It counts as a request of its service until it has ended.
    pub(super) fn going(self, going: Going) -> Self {
        Self {
            _going: Some(going),
            ..self
        }
    }

    /// It is told of when it has ended.
    pub(super) fn told(self, record: Arc<Record>) -> Self {
        Self {
            record: Some(record),
            ..self
        }
    }

    /// Words of our own.
    pub(super) fn fixed(bytes: Bytes) -> Self {
        Self::of(Source::Fixed((!bytes.is_empty()).then_some(bytes)))
    }

    /// No bytes.
    pub(super) fn empty() -> Self {
        Self::of(Source::Fixed(None))
    }

    /// The API's.
    pub(super) fn api(body: axum::body::Body) -> Self {
        Self::of(Source::Api(body))
    }

    /// A service's, which ends by itself.
    pub(super) fn answer(inner: Incoming, lease: Lease, instance: Pass, meter: Meter) -> Self {
        Self::whole(Answer::finite(inner, lease, instance, meter))
    }

    /// What was made of a service's events.
    pub(super) fn events(events: Events) -> Self {
        Self::of(Source::Events(events))
    }

    /// A service's, as it comes.
    pub(super) fn whole(answer: Answer) -> Self {
        Self::of(Source::Service(Box::new(answer)))
    }

    /// A service's event stream, which may be silent for as long as it likes.
    pub(super) fn event_stream(
        inner: Incoming,
        lease: Lease,
        instance: Pass,
        meter: Meter,
        end: End,
        slot: Option<Place>,
    ) -> Self {
        Self::whole(Answer::endless(inner, lease, instance, meter, end, slot))
    }
}

impl Answer {
    /// One that ends by itself.
    pub(super) fn finite(inner: Incoming, lease: Lease, instance: Pass, meter: Meter) -> Self {
        Self {
            inner,
            lease: Some(lease),
            instance,
            meter,
            silence: Some(Silence::new(ANSWER_SILENCE_MAX)),
            end: None,
            slot: None,
        }
    }

    /// One that may be silent for as long as it likes.
    pub(super) fn endless(
        inner: Incoming,
        lease: Lease,
        instance: Pass,
        meter: Meter,
        end: End,
        slot: Option<Place>,
    ) -> Self {
        Self {
            inner,
            lease: Some(lease),
            instance,
            meter,
            silence: None,
            end: Some(end),
            slot,
        }
    }

    /// The next bytes; `None` at its end. Cancel-safe.
    ///
    /// # Errors
    /// It was cut.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            let frame = std::future::poll_fn(|cx| self.poll(cx)).await;
            match frame.transpose()? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// How much is left, when it has said so.
    pub(super) fn length(&self) -> Option<u64> {
        self.inner.size_hint().exact()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // What is on its way belongs to the instance as it was: not a byte after its end.
        if self.instance.is_revoked() {
            return Poll::Ready(Some(Err(Cut::Revoked.into())));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let Some(silence) = &mut self.silence {
                silence.broken();
            }
            let mut frame = frame.transpose()?;
            if frame.is_none() {
                self.give_back();
                self.slot = None;
            }
            if let Some(data) = frame.as_ref().and_then(Frame::data_ref)
                && !data.is_empty()
            {
                self.meter.sent(data.len() as u64);
            }
            if let Some(trailers) = frame.as_mut().and_then(Frame::trailers_mut) {
                headers::strip_response(trailers);
            }
            return Poll::Ready(frame.map(Ok));
        }
        let instance = &self.instance;
        let end = self.end.get_or_insert_with(|| {
            let instance = instance.clone();
            Box::pin(async move {
                instance.revoked().await;
                Err(Cut::Revoked)
            })
        });
        if let Poll::Ready(ended) = end.as_mut().poll(cx) {
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
        let frame = match &mut self.source {
            Source::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Api(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Source::Service(answer) => answer.poll(cx),
            Source::Events(events) => {
                let next = ready!(events.as_mut().poll_next(cx));
                Poll::Ready(next.map(|words| words.map(Frame::data)))
            }
        };
        if let (Some(record), Poll::Ready(Some(Ok(frame)))) = (&self.record, &frame) {
            record.sent(length(frame.data_ref()));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Events(_) => false,
            Source::Fixed(bytes) => bytes.is_none(),
            Source::Api(body) => body.is_end_stream(),
            Source::Service(answer) => answer.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Events(_) => SizeHint::default(),
            Source::Fixed(bytes) => SizeHint::with_exact(length(bytes.as_ref())),
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
