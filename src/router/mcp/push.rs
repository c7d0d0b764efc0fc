//! A stream on which a service tells its client what nobody has asked: it stays open while the service
//! restarts. In the older transport all answers come on it, too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::request::Parts;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{COMMENT, SILENCE_MAX, event};
use super::names::Names;
use super::older::Thread;
use super::send::{LAST_WORDS, Letter};
use super::session::Session;
use super::translate::Translator;
use super::wire::events::Reader;
use crate::router::counted::Meter;
use crate::router::headers;
use crate::router::pass::Pass;
use crate::router::path::Target;
use crate::router::refusal::Refusal;
use crate::router::rpc;
use crate::router::service::Service;
use crate::router::stream::{self, Answer, BoxError, Cut, Events, Place};
use crate::router::tables::{Routable, ServiceEntry};
use crate::router::upstream::Lease;

/// How long a stream stays open for a service that does not come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a service that was stopped.
const PAUSE: Duration = Duration::from_millis(250);

/// What a stream goes on with.
pub(super) struct Push {
    pub(super) service: Arc<Service>,
    /// Whose stream it is.
    pub(super) by: Arc<ServiceEntry>,
    /// The head of the request, dressed for the service.
    pub(super) head: Parts,
    /// Path of the instance, as its client knows it.
    pub(super) public: String,
    /// Of the request.
    pub(super) id: String,
    pub(super) instance: Pass,
    pub(super) meter: Meter,
    /// `None` outside of sessions.
    pub(super) session: Option<Arc<Session>>,
    /// Open as long as this.
    pub(super) _slot: Place,
}

/// The same, and the stream.
struct Pushing {
    push: Push,
    answer: Answer,
    reader: Reader,
    translator: Translator,
    /// The session of the older transport that lives with the stream, and what others tell on it.
    older: Option<(Arc<Thread>, mpsc::Receiver<String>)>,
    /// The next event is the first one.
    is_new: bool,
    is_over: bool,
}

impl Push {
    /// As the client gets it.
    pub(super) fn run(self, inner: Incoming, lease: Lease) -> Events {
        let names = match &self.session {
            Some(session) => session.names.clone(),
            // Without a session no answer comes here, unless the first event begins one.
            None => Names::of([0; 10]),
        };
        let translator = Translator {
            sessions: self.service.sessions.clone(),
            instance: self.instance.instance().clone(),
            names,
            session: self.session.clone(),
            own: None,
        };
        let pushing = Pushing {
            answer: self.answer(inner, lease),
            is_new: self.session.is_none(),
            push: self,
            reader: Reader::default(),
            translator,
            older: None,
            is_over: false,
        };
        Box::pin(unfold(Some(pushing), |pushing| async {
            let mut pushing = pushing?;
            match pushing.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(pushing))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    fn answer(&self, inner: Incoming, lease: Lease) -> Answer {
        let end = stream::end(&self.instance, &self.service.flight, true);
        let (instance, meter) = (self.instance.clone(), self.meter.clone());
        Answer::endless(inner, lease, instance, meter, end, None)
    }

    /// Has the run ended, or is about to?
    async fn has_ended(&self) -> bool {
        if self.by.upstream.ends_within(LAST_WORDS).await {
            return true;
        }
        let table = self.service.services.load();
        let now = table.get(&self.by.spec.service);
        now.is_none_or(|now| {
            now.state != Routable::Ready || now.upstream.run() != self.by.upstream.run()
        })
    }

    pub(super) fn letter<'a>(&'a self, session: Option<&'a Arc<Session>>) -> Letter<'a> {
        Letter {
            head: &self.head,
            body: Bytes::new(),
            session,
            thread: None,
            // The next run does not know what this one has told.
            last: None,
            is_safe: true,
            instance: &self.instance,
            target: Target {
                id: "",
                service: self.by.spec.service.as_str(),
                rest: "",
            },
            meter: &self.meter,
        }
    }

    /// The stream of the next run; `None` when there is none.
    async fn reopen(&mut self) -> Option<(Incoming, Lease)> {
        let session = self.session.clone();
        let is_over = || session.as_ref().is_some_and(|session| session.is_over());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.service.flight.takes_requests() && !is_over() {
            match self.service.deliver(&self.letter(session.as_ref())).await {
                Ok(reply) => {
                    let response = reply.response;
                    let goes_on = response.status().is_success()
                        && headers::is_event_stream(response.headers());
                    self.by = reply.by;
                    return goes_on.then(|| (response.into_body(), reply.lease));
                }
                Err(_) if self.instance.is_revoked() => return None,
                Err(_) => sleep(PAUSE).await,
            }
        }
        None
    }
}

impl Pushing {
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        while !self.is_over {
            let next = tokio::select! {
                biased;
                next = timeout(SILENCE_MAX, self.answer.next()) => next,
                Some(message) = mail(&mut self.older) => {
                    return Ok(Some(event(&message).into()));
                }
            };
            match next {
                Err(_) if self.reader.is_between() => return Ok(Some(Bytes::from_static(COMMENT))),
                Err(_) => {}
                Ok(Ok(Some(chunk))) => {
                    let bytes = self.translate(&chunk).await?;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Ok(None)) => {
                    if let Some(news) = self.goes_on().await {
                        return Ok(Some(news));
                    }
                    self.is_over = true;
                    let rest = self.reader.rest();
                    return Ok((!rest.is_empty()).then_some(rest));
                }
                Ok(Err(error)) if error.is::<Cut>() => return Err(error),
                Ok(Err(error)) => match self.goes_on().await {
                    Some(news) => return Ok(Some(news)),
                    None => return Err(error),
                },
            }
        }
        Ok(None)
    }

    async fn translate(&mut self, chunk: &[u8]) -> Result<Bytes, BoxError> {
        if !self.is_new {
            let translated = self.translator.events(&mut self.reader, chunk).await?;
            if let (Some((thread, _)), false) = (&self.older, translated.answered.is_empty()) {
                thread.told().answered(&translated.answered);
            }
            if let (Some((thread, _)), Some(facts)) = (&self.older, translated.facts) {
                thread.told().agreed.lists = facts.lists;
            }
            return Ok(translated.bytes);
        }
        self.reader.push(chunk);
        let Some(first) = self.reader.event() else {
            return Ok(Bytes::new());
        };
        self.is_new = false;
        let (public, by) = (&self.push.public, &self.push.by);
        let (begun, name) = self.translator.begin(&first?, public, by)?;
        if let Some(name) = name {
            let (thread, mail) = Thread::new(by.upstream.run(), name.clone());
            let threads = self.push.service.sessions.threads();
            threads.open(&self.push.instance.public, name, &thread);
            self.older = Some((thread, mail));
        }
        let more = self.translator.events(&mut self.reader, &[]).await?;
        Ok(Bytes::from([begun, more.bytes].concat()))
    }

    /// The service has restarted, and the stream is one of the next run: what the client must hear of
    /// that.
    async fn goes_on(&mut self) -> Option<Bytes> {
        let is_in_session = self.push.session.is_some() || self.older.is_some();
        let takes_requests = self.push.service.flight.takes_requests();
        if !is_in_session || !takes_requests || !self.push.has_ended().await {
            return None;
        }
        let (inner, lease) = self.push.reopen().await?;
        self.answer = self.push.answer(inner, lease);
        self.reader = Reader::default();
        let mut news = String::new();
        let lists = match (&self.push.session, &self.older) {
            (Some(session), _) => session.agreed().lists.clone(),
            (None, Some((thread, _))) => {
                let thread = Arc::clone(thread);
                let (answer, reader) = (&mut self.answer, &mut self.reader);
                let begun = self
                    .push
                    .begin_again(&thread, &self.translator.names, answer, reader);
                match begun.await {
                    Ok(own) => self.translator.own = own,
                    Err(why) => {
                        let service = &self.push.by.spec.service;
                        tracing::warn!(%service, why, "a session cannot go on with another run");
                        return None;
                    }
                }
                let failed = Refusal::UpstreamFailed.error(&self.push.id);
                let mut told = thread.told();
                for call in told.given_up() {
                    news.push_str(&event(&rpc::answer(&call, &failed)));
                }
                told.agreed.lists.clone()
            }
            (None, None) => Vec::new(),
        };
        for list in lists {
            let changed =
                format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#);
            news.push_str(&event(&changed));
        }
        // Never nothing: that would look like an end.
        Some(if news.is_empty() {
            Bytes::from_static(COMMENT)
        } else {
            news.into()
        })
    }
}

/// What is to be told beside; never anything where nobody may.
async fn mail(older: &mut Option<(Arc<Thread>, mpsc::Receiver<String>)>) -> Option<String> {
    match older {
        Some((_, mail)) => mail.recv().await,
        None => std::future::pending().await,
    }
}
