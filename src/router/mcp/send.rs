//! To the service, however often it restarts meanwhile.
//!
//! Nothing that was read is sent again, but for what is safe by rule. What was written to a process that
//! had just been killed, and never read, waits for the next run (`sockets::Taken`). A session that the run does
//! not know is made known to it first (`renew.rs`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::older::{Thread, readdressed};
use super::renew::Renewal;
use super::session::Session;
use crate::instances::InstanceEntry;
use crate::problem;
use crate::router::counted::Meter;
use crate::router::hold;
use crate::router::pass::Pass;
use crate::router::path::Target;
use crate::router::refusal::Refusal;
use crate::router::rpc::SESSION_ID;
use crate::router::service::{HEAD_TIMEOUT, Service};
use crate::router::stream::RequestBody;
use crate::router::tables::ServiceEntry;
use crate::router::upstream::{Lease, SendError};
use crate::sockets::Taken;

/// `Last-Event-ID`.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A process that was killed closes its connections first, and has ended this much later.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often what is safe, or was not read, is sent again.
const TRIES_MAX: u32 = 3;

/// What goes to the service, as often as it must.
pub(super) struct Letter<'a> {
    /// The head, dressed for the service, without a session.
    pub(super) head: &'a Parts,
    pub(super) body: Bytes,
    pub(super) session: Option<&'a Arc<Session>>,
    /// The open stream on which it is answered, in the older transport.
    pub(super) thread: Option<&'a Thread>,
    /// The event behind which a stream is to go on.
    pub(super) last: Option<&'a Last>,
    /// To be sent again although it was written.
    pub(super) is_safe: bool,
    pub(super) instance: &'a Pass,
    pub(super) target: Target<'a>,
    pub(super) meter: &'a Meter,
}

/// An event that its service knows as long as the session is the same for it.
pub(super) struct Last {
    pub(super) epoch: u32,
    pub(super) id: HeaderValue,
}

/// What came back.
pub(super) struct Reply {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    /// Who has answered.
    pub(super) by: Arc<ServiceEntry>,
}

/// A head as all letters have it: of known length, and to be read on the way back.
pub(super) fn plain(head: &mut Parts) {
    let headers = &mut head.headers;
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.remove(SESSION_ID);
    headers.remove(LAST_EVENT_ID);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

impl Letter<'_> {
    /// As it is now; `name` is what the run calls the session of the older transport.
    pub(super) fn request(&self, name: Option<&str>) -> Request<RequestBody> {
        let mut head = self.head.clone();
        if let Some(uri) = name.and_then(|name| readdressed(&head.uri, name)) {
            head.uri = uri;
        }
        if let Some(id) = self.session.and_then(|session| session.id()) {
            head.headers.insert(SESSION_ID, id);
        }
        let epoch = self.session.map_or(0, |session| session.epoch());
        if let Some(last) = self.last.filter(|last| last.epoch == epoch) {
            head.headers.insert(LAST_EVENT_ID, last.id.clone());
        }
        let body = RequestBody::known(self.body.clone(), self.instance.clone(), self.meter.clone());
        Request::from_parts(head, body)
    }
}

impl Service {
    /// Sends it as soon as its service is there, and waits for the head of the answer.
    pub(super) async fn deliver(&self, letter: &Letter<'_>) -> Result<Reply, Refusal> {
        let delivering = tokio::time::timeout(HEAD_TIMEOUT, self.deliver_in_time(letter));
        let delivered = tokio::select! {
            biased;
            delivered = delivering => delivered,
            () = letter.instance.revoked() => return Err(self.over(letter.instance, &letter.target)),
        };
        // What was asked on behalf of an instance that is no more is answered to nobody.
        if letter.instance.is_revoked() {
            return Err(self.over(letter.instance, &letter.target));
        }
        delivered.unwrap_or(Err(Refusal::UpstreamTimeout))
    }

    async fn deliver_in_time(&self, letter: &Letter<'_>) -> Result<Reply, Refusal> {
        let deadline = Instant::now() + self.config.hold;
        let instance: &InstanceEntry = letter.instance;
        let mut stale: Option<Arc<ServiceEntry>> = None;
        let (mut tries, mut is_renewed) = (0, false);
        loop {
            let stale_now = stale.take();
            let ready = hold::ready(
                &self.services,
                &self.flight,
                instance,
                stale_now.as_deref(),
                deadline,
            );
            let by = ready.await?;
            if let Some(session) = letter.session
                && !session.is_known_to(by.upstream.run())
            {
                match self.renew(&by, session, letter).await? {
                    Renewal::Done => {}
                    Renewal::Gone => {
                        stale = Some(by);
                        continue;
                    }
                }
            }
            let name = match letter.thread {
                None => None,
                Some(thread) => {
                    let known = timeout_at(deadline, thread.known_to(by.upstream.run()));
                    Some(known.await.map_err(|_| Refusal::Unavailable)?)
                }
            };
            match by.upstream.send(letter.request(name.as_deref())).await {
                Ok((response, lease)) => {
                    let has_lost = response.status() == StatusCode::NOT_FOUND;
                    if let Some(session) = letter.session.filter(|_| has_lost && !is_renewed) {
                        // It has taken nothing: it knows the session no longer.
                        is_renewed = true;
                        session.forgotten();
                        continue;
                    }
                    return Ok(Reply {
                        response,
                        lease,
                        by,
                    });
                }
                Err(SendError::Connect(error, _)) => {
                    let service = &by.spec.service;
                    tracing::debug!(%service, %error, "a request waits for the next run");
                    stale = Some(by);
                }
                Err(SendError::Exchange(error, taken)) => {
                    tries += 1;
                    let ended = by.upstream.ends_within(LAST_WORDS);
                    let is_untaken = match taken {
                        Taken::No => true,
                        Taken::NotAll => ended.await,
                        Taken::Perhaps => false,
                    };
                    if !(letter.is_safe || is_untaken) || tries >= TRIES_MAX {
                        let service = &by.spec.service;
                        let error = problem::chain(&error);
                        tracing::warn!(%service, %error, "a request failed");
                        return Err(Refusal::UpstreamFailed);
                    }
                }
            }
        }
    }
}
