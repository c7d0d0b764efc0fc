//! One request of a client: what it says is read, its service asked, and the answer translated back.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::answer::{self, Stream, collect};
use super::names::{EventId, Kind, Names};
use super::older::{Older, Thread};
use super::push::Push;
use super::send::{LAST_EVENT_ID, Last, Letter, Reply, plain};
use super::session::{Place, Session};
use super::translate::{self, Heard, Translator, Upward};
use super::wire::endpoint;
use crate::router::headers;
use crate::router::origin;
use crate::router::refusal::Refusal;
use crate::router::rpc::{self, PROTOCOL_VERSION, SESSION_ID, SESSIONLESS};
use crate::router::service::{Errand, Service};
use crate::router::stream::{self, Answer, Body, Cut, RequestBody};
use crate::vault::random;

impl Service {
    /// Answers a request for a service that speaks MCP.
    pub(in crate::router) async fn mcp(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        errand: Errand<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let method = request.method();
        if *method == Method::POST && is_json(request.headers()) {
            return self.post(request, errand).await;
        }
        let named = request.headers().get(SESSION_ID).cloned();
        if *method == Method::GET && stream::is_asked_for(&request)
            || named.is_some() && matches!(*method, Method::GET | Method::DELETE)
        {
            return self.without_words(request, errand).await;
        }
        // What belongs to no session: the service never sees a name of ours.
        request.headers_mut().remove(SESSION_ID);
        self.pass_on(request, errand).await
    }

    /// A message, or several.
    async fn post(
        self: &Arc<Self>,
        request: Request<Incoming>,
        errand: Errand<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let host = origin::host(&request).map(str::to_owned);
        let (parts, body) = request.into_parts();
        let (pass, meter) = (errand.instance.clone(), errand.meter.clone());
        let (body, _) = RequestBody::new(body, self.config.max_body, pass, meter);
        let text = body.collect().await.map_err(|cut| match cut {
            Cut::TooLarge => Refusal::BodyTooLarge(self.config.max_body),
            Cut::Stalled => Refusal::BodyTimeout,
            Cut::Broken => Refusal::BadBody,
            Cut::Revoked => self.over(&errand.instance, &errand.target),
        })?;
        let heard = translate::hear(&text)?;
        if let (Some(record), Some(method)) = (errand.meter.record(), heard.method()) {
            record.calls(method);
        }
        let call = heard.call(&text);
        // Its clients read no body: an error in one would be an answer that never comes.
        let is_older = !parts.headers.contains_key(SESSION_ID)
            && endpoint::session(parts.uri.query().unwrap_or_default()) != Ok(None);
        let exchanged = self.exchange(parts, host.as_deref(), &text, heard, errand);
        exchanged.await.map_err(|refusal| {
            let is_plain = match &refusal {
                // Says itself to whom, or is not for clients that are in.
                Refusal::UnknownSession(_)
                | Refusal::BadMessage { .. }
                | Refusal::UnknownInstance
                | Refusal::Token { .. } => true,
                _ => is_older || call.as_ref().is_none_or(|call| call.opens()),
            };
            refusal.of(call.filter(|_| !is_plain))
        })
    }

    async fn exchange(
        self: &Arc<Self>,
        mut parts: Parts,
        host: Option<&str>,
        text: &Bytes,
        heard: Heard,
        errand: Errand<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let session = self
            .session(&parts.headers, heard.is_modern(text), &errand)
            .await;
        let session = session.map_err(|()| Refusal::UnknownSession(heard.id(text)))?;
        let older = match &session {
            None => Older::named(&parts.uri, &self.sessions.seals(&errand.instance))
                .map_err(|()| Refusal::UnknownSession(heard.id(text)))?,
            Some(_) => None,
        };
        let names = match (&session, &older) {
            (Some(session), _) => session.names.clone(),
            (None, Some(older)) => older.names.clone(),
            (None, None) => Names::of(random().map_err(|_| Refusal::Unavailable)?),
        };
        let seals = self.sessions.seals(&errand.instance);
        let up = heard.upward(text, &names, &seals)?;
        let Some(Upward { body, calls }) = up else {
            return Ok(accepted(errand.id));
        };
        if let Some(older) = &older {
            parts.uri = older.address(&parts.uri).ok_or(Refusal::BadPath)?;
        }
        let mut head = self.head(parts, host, &errand)?;
        plain(&mut head);
        let thread = older.as_ref().and_then(|older| {
            let public = &errand.instance.public;
            self.sessions.threads().find(public, &older.first)
        });
        let letter = Letter {
            head: &head,
            body,
            session: session.as_ref(),
            thread: thread.as_deref(),
            last: None,
            is_safe: heard.is_safe(),
            instance: &errand.instance,
            target: errand.target,
            meter: &errand.meter,
        };
        if let Some(thread) = &thread {
            // The answer may come before the service says that it has taken the call.
            thread.told().asked(&calls);
        }
        let Reply {
            response,
            lease,
            by,
        } = match (self.deliver(&letter).await, &thread) {
            (Ok(reply), _) => reply,
            // The client looks for what becomes of its call on the stream, and nowhere else.
            (Err(refusal), Some(thread)) if tells(thread, &refusal, &calls, errand.id) => {
                return Ok(accepted(errand.id));
            }
            (Err(refusal), _) => {
                if let Some(thread) = &thread {
                    thread.told().answered(&calls);
                }
                return Err(refusal);
            }
        };
        let instance = errand.instance.instance().clone();
        self.instances
            .answered(&instance, &by.spec, response.status());
        let is_good = response.status().is_success();
        if let Some(thread) = &thread {
            note(thread, is_good, &heard, text, &calls);
        }
        let given = response.headers().get(SESSION_ID).cloned();
        let (parts, inner) = response.into_parts();
        let mut parts = self.dress(parts, &errand.target, &instance, &by, errand.id);
        parts.headers.remove(SESSION_ID);
        let mut session = session;
        if let (Some(session), true) = (&session, is_good)
            && heard.is_remembered(text, &mut session.agreed())
        {
            self.sessions.keep(&instance, session).await;
        }
        // Some services name a new session in each answer: only `initialize` begins one.
        if let (true, true, Some(given)) = (heard.initializes(), is_good, given) {
            let place = Place {
                run: Some(by.upstream.run()),
                id: given.to_str().ok().map(str::to_owned),
                epoch: 0,
            };
            let begun = self
                .sessions
                .begin(&instance, text.clone(), names.clone(), place);
            let (begun, id) = begun.await.map_err(|_| Refusal::Unavailable)?;
            parts.headers.insert(SESSION_ID, id);
            session = Some(begun);
        }
        let translator = Translator {
            sessions: self.sessions.clone(),
            instance,
            names,
            session,
            own: None,
        };
        if headers::is_event_stream(&parts.headers) {
            let slot = self.open_stream(&by, errand.seat.as_ref(), errand.slot, false)?;
            parts.headers.remove(CONTENT_LENGTH);
            let end = stream::end(&errand.instance, &self.flight, false);
            let answer =
                Answer::endless(inner, lease, errand.instance, errand.meter, end, Some(slot));
            let failed = Refusal::UpstreamFailed.error(errand.id.to_str().unwrap_or_default());
            let stream = Stream::new(answer, translator, calls, failed);
            return Ok(Response::from_parts(parts, Body::events(stream.run())));
        }
        let mut answer = Answer::finite(inner, lease, errand.instance, errand.meter);
        if !is_json(&parts.headers) {
            return Ok(Response::from_parts(parts, Body::whole(answer)));
        }
        let Some(whole) = collect(&mut answer).await.map_err(answer::failed)? else {
            return Err(Refusal::AnswerTooLarge);
        };
        let whole = translator.whole(whole).await;
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
        Ok(Response::from_parts(parts, Body::fixed(whole)))
    }

    /// A stream that is asked for, or the end of a session.
    async fn without_words(
        self: &Arc<Self>,
        request: Request<Incoming>,
        errand: Errand<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let host = origin::host(&request).map(str::to_owned);
        let (parts, _) = request.into_parts();
        let session = self.session(&parts.headers, false, &errand).await;
        let session = session.map_err(|()| Refusal::UnknownSession(None))?;
        let last = parts
            .headers
            .get(LAST_EVENT_ID)
            .map(|last| {
                self.last(last, &errand)
                    .ok_or(Refusal::UnknownSession(None))
            })
            .transpose()?;
        let is_end = parts.method == Method::DELETE;
        let mut head = self.head(parts, host.as_deref(), &errand)?;
        plain(&mut head);
        let letter = Letter {
            head: &head,
            body: Bytes::new(),
            session: session.as_ref(),
            thread: None,
            last: last.as_ref(),
            is_safe: true,
            instance: &errand.instance,
            target: errand.target,
            meter: &errand.meter,
        };
        let Reply {
            response,
            lease,
            by,
        } = self.deliver(&letter).await?;
        let instance = errand.instance.instance().clone();
        self.instances
            .answered(&instance, &by.spec, response.status());
        let (parts, inner) = response.into_parts();
        let mut parts = self.dress(parts, &errand.target, &instance, &by, errand.id);
        parts.headers.remove(SESSION_ID);
        if is_end {
            let is_over = parts.status.is_success() || parts.status == StatusCode::NOT_FOUND;
            if let Some(session) = session.filter(|_| is_over) {
                self.sessions.end(&instance, &session).await;
            }
        } else if headers::is_event_stream(&parts.headers) {
            let slot = self.open_stream(&by, errand.seat.as_ref(), errand.slot, true)?;
            parts.headers.remove(CONTENT_LENGTH);
            let push = Push {
                service: Arc::clone(self),
                by,
                head,
                id: errand.id.to_str().unwrap_or_default().to_owned(),
                public: format!("/{}/{}", errand.target.id, errand.target.service),
                instance: errand.instance.for_stream(),
                meter: errand.meter,
                session,
                _slot: slot,
            };
            return Ok(Response::from_parts(
                parts,
                Body::events(push.run(inner, lease)),
            ));
        }
        let answer = Answer::finite(inner, lease, errand.instance, errand.meter);
        Ok(Response::from_parts(parts, Body::whole(answer)))
    }

    /// The event that a client has seen last, if this instance was told of it.
    fn last(&self, sealed: &HeaderValue, errand: &Errand<'_>) -> Option<Last> {
        let seals = self.sessions.seals(&errand.instance);
        let event = seals.open(Kind::Event, sealed.to_str().ok()?)?;
        let EventId { epoch, own } = EventId::parse(event)?;
        let id = HeaderValue::try_from(own).ok()?;
        Some(Last { epoch, id })
    }

    /// The session that a request names. Where there are none any more a name is no mistake.
    ///
    /// # Errors
    /// This instance has no such session.
    async fn session(
        &self,
        headers: &HeaderMap,
        is_modern: bool,
        errand: &Errand<'_>,
    ) -> Result<Option<Arc<Session>>, ()> {
        let Some(id) = headers.get(SESSION_ID) else {
            return Ok(None);
        };
        let found = self.sessions.find(errand.instance.instance(), id).await;
        let revision = headers.get(PROTOCOL_VERSION).map(HeaderValue::as_bytes);
        let is_modern = is_modern && revision.is_some_and(|revision| revision >= SESSIONLESS);
        match found {
            Some(session) => Ok(Some(session)),
            None if is_modern => Ok(None),
            None => Err(()),
        }
    }
}

/// The service has taken what was said, or not.
fn note(thread: &Thread, is_good: bool, heard: &Heard, text: &Bytes, calls: &[String]) {
    let mut told = thread.told();
    if !is_good {
        return told.answered(calls);
    }
    heard.is_remembered(text, &mut told.agreed);
    if heard.initializes() {
        told.opening = Some(text.clone());
    }
}

/// Tells the client on its stream what has become of its calls; `false` when there are none, or nobody
/// takes that.
fn tells(thread: &Thread, refusal: &Refusal, calls: &[String], id: &HeaderValue) -> bool {
    let is_over = matches!(refusal, Refusal::UnknownInstance | Refusal::Token { .. });
    let error = refusal.error(id.to_str().unwrap_or_default());
    let mut answers = calls.iter().map(|call| rpc::answer(call, &error));
    let is_told = !is_over && !calls.is_empty() && answers.all(|answer| thread.tell(answer));
    if is_told {
        thread.told().answered(calls);
    }
    is_told
}

/// What has no answer was taken.
fn accepted(id: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
        .headers_mut()
        .insert(headers::REQUEST_ID, id.clone());
    response
}

/// Is it a JSON text?
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = kind.and_then(|kind| kind.split(|&b| b == b';').next());
    essence.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
}
