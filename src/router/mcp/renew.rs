//! Makes a session known to a run that does not know it: what its client has said is said again.
//!
//! `initialize`, `notifications/initialized`, the level of the log and the resources it wants to hear
//! of. What else the service knew of it is lost, and its client hears that lists may have changed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::answer::read_answer;
use super::send::Letter;
use super::session::Session;
use super::translate;
use crate::router::headers;
use crate::router::refusal::Refusal;
use crate::router::rpc::{PROTOCOL_VERSION, SESSION_ID};
use crate::router::service::Service;
use crate::router::stream::Answer;
use crate::router::tables::ServiceEntry;
use crate::router::upstream::{Lease, SendError};

/// A service that was found to be ready answers `initialize` in so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What became of it.
pub(super) enum Renewal {
    /// The run knows it.
    Done,
    /// The run is not there any more.
    Gone,
}

/// What a service has said to one of ours.
pub(super) enum Said {
    Answer(Response<Incoming>, Lease),
    Gone,
}

impl Service {
    /// Answers when this run knows the session. One at a time does it.
    ///
    /// # Errors
    /// The service takes no session like this one any more.
    pub(super) async fn renew(
        &self,
        by: &ServiceEntry,
        session: &Arc<Session>,
        letter: &Letter<'_>,
    ) -> Result<Renewal, Refusal> {
        let _turn = session.renewal.lock().await;
        let run = by.upstream.run();
        if session.is_known_to(run) {
            return Ok(Renewal::Done);
        }
        match timeout(TIMEOUT, self.introduce(by, session, letter)).await {
            Ok(Ok(Some(id))) => {
                session.moved(run, id);
                by.counts.renewed.add();
                self.sessions.keep(letter.instance, session).await;
                tracing::debug!(instance = %letter.instance.public, "a session goes on with another run");
                Ok(Renewal::Done)
            }
            Ok(Ok(None)) => Ok(Renewal::Gone),
            Ok(Err(why)) => {
                let service = &by.spec.service;
                tracing::warn!(%service, why, "a session cannot go on with another run");
                Err(Refusal::Unavailable)
            }
            Err(_) => Err(Refusal::UpstreamTimeout),
        }
    }

    /// The id that the service has for it now, if it has one; `None` when the run has ended meanwhile.
    async fn introduce(
        &self,
        by: &ServiceEntry,
        session: &Session,
        letter: &Letter<'_>,
    ) -> Result<Option<Option<String>>, &'static str> {
        let mut head = letter.head.clone();
        head.method = Method::POST;
        let headers = &mut head.headers;
        headers.remove(PROTOCOL_VERSION);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let both = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(ACCEPT, both);
        let opening = translate::again(&session.opening, &session.names);
        let Said::Answer(response, lease) = self.say(by, &head, opening, letter).await? else {
            return Ok(None);
        };
        if !response.status().is_success() {
            return Err("it refuses `initialize`");
        }
        let id = match response.headers().get(SESSION_ID).map(HeaderValue::to_str) {
            None => None,
            Some(Ok(id)) => Some(id.to_owned()),
            Some(Err(_)) => return Err("its session id is not visible ASCII"),
        };
        let is_stream = headers::is_event_stream(response.headers());
        let (instance, meter) = (letter.instance.clone(), letter.meter.clone());
        let mut answer = Answer::finite(response.into_body(), lease, instance, meter);
        let answered = read_answer(&mut answer, is_stream, &session.names).await;
        let revision = match answered {
            Ok(facts) => facts.revision,
            Err(why) => return Err(why),
        };
        let revision = session.agreed().revision.clone().or(revision);
        if let Some(revision) = revision.and_then(|it| HeaderValue::try_from(it).ok()) {
            head.headers.insert(PROTOCOL_VERSION, revision);
        }
        if let Some(id) = id.as_ref().and_then(|id| HeaderValue::try_from(id).ok()) {
            head.headers.insert(SESSION_ID, id);
        }
        let reminders = translate::reminders(&session.agreed(), &session.names);
        for message in reminders {
            let Said::Answer(response, lease) = self.say(by, &head, message, letter).await? else {
                return Ok(None);
            };
            // Whatever it answers: it was asked once more, and nobody waits for that.
            let is_stream = headers::is_event_stream(response.headers());
            let (instance, meter) = (letter.instance.clone(), letter.meter.clone());
            let mut answer = Answer::finite(response.into_body(), lease, instance, meter);
            let _ = read_answer(&mut answer, is_stream, &session.names).await;
        }
        Ok(Some(id))
    }

    /// Says one message.
    pub(super) async fn say(
        &self,
        by: &ServiceEntry,
        head: &Parts,
        body: Bytes,
        letter: &Letter<'_>,
    ) -> Result<Said, &'static str> {
        let ours = Letter {
            head,
            body,
            session: None,
            thread: None,
            last: None,
            ..*letter
        };
        match by.upstream.send(ours.request(None)).await {
            Ok((response, lease)) => Ok(Said::Answer(response, lease)),
            Err(SendError::Connect(..) | SendError::Exchange(..)) => Ok(Said::Gone),
        }
    }
}
