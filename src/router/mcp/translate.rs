//! What clients and services say to each other, each in its own words. Decides on the very bytes that
//! are sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::facts::{Facts, facts_of};
use super::names::{EventId, Kind as Sealed, Names, Seals, is_name};
use super::session::{Agreed, Session};
use super::sessions::Sessions;
use super::wire::endpoint;
use super::wire::events::{Event, Reader};
use super::wire::message::{self, Kind, Message, Scan, Span, splice};
use crate::instances::InstanceEntry;
use crate::router::path;
use crate::router::refusal::Refusal;
use crate::router::rpc::{Call, SESSIONLESS};
use crate::router::stream::BoxError;
use crate::router::tables::ServiceEntry;

/// Methods that change nothing, so that they may be sent twice.
const SAFE: [&str; 7] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
];
const CANCELLED: &str = "notifications/cancelled";
const PROGRESS: &str = "notifications/progress";
/// Of JSON-RPC: JSON, and no message.
const INVALID_REQUEST: i32 = -32600;
/// The service's parameters are not what it has given (JSON-RPC: invalid params).
const INVALID_PARAMS: i32 = -32602;

/// What a client has said.
pub(super) struct Heard(Scan);

/// The same for its service.
pub(super) struct Upward {
    pub(super) body: Bytes,
    /// Ids of its calls, as they were spelt.
    pub(super) calls: Vec<String>,
}

/// Reads a client's words.
///
/// # Errors
/// They are no JSON-RPC.
pub(super) fn hear(text: &[u8]) -> Result<Heard, Refusal> {
    let bad = |number: i32, why: String, id: Option<&Span>| Refusal::BadMessage {
        number,
        why,
        id: id.map(|id| spelt(text, id).into()),
    };
    let scan = message::scan(text)
        .map_err(|error| bad(error.number(), error.to_string(), error.id().as_ref()))?;
    if scan.messages.is_empty() {
        return Err(bad(
            INVALID_REQUEST,
            "there is no message in it".to_owned(),
            None,
        ));
    }
    for one in &scan.messages {
        if let Some(fault) = one.fault() {
            let id = one.id.as_ref().filter(|_| one.kind() == Kind::Request);
            return Err(bad(INVALID_REQUEST, fault.to_owned(), id));
        }
    }
    Ok(Heard(scan))
}

impl Heard {
    /// What was called, when it is JSON-RPC.
    pub(super) fn call(&self, text: &[u8]) -> Option<Call> {
        let Self(Scan { is_batch, messages }) = self;
        let calls = messages.iter().filter(|one| one.kind() == Kind::Request);
        let mut ids = calls.filter_map(|one| Some(spelt(text, one.id.as_ref()?).into()));
        if messages.iter().all(|one| one.kind() == Kind::Other) {
            return None;
        }
        if *is_batch {
            let ids: Vec<Box<str>> = ids.collect();
            return Some(if ids.is_empty() {
                Call::Notice
            } else {
                Call::Batch(ids)
            });
        }
        let opens = messages[0].is("initialize") || messages[0].is("server/discover");
        Some(match ids.next() {
            None => Call::Notice,
            Some(id) if opens => Call::Opening(id),
            Some(id) => Call::One(id),
        })
    }

    /// The first method in it.
    pub(super) fn method(&self) -> Option<&str> {
        let methods = self.0.messages.iter().map(|one| one.method.as_ref());
        methods.flatten().next().map(String::as_str)
    }

    /// The first id in it.
    pub(super) fn id(&self, text: &[u8]) -> Option<Box<str>> {
        let id = self.0.messages.iter().find_map(|one| one.id.as_ref())?;
        Some(spelt(text, id).into())
    }

    /// Does it belong to the revisions without sessions, as each of its requests says then?
    pub(super) fn is_modern(&self, text: &[u8]) -> bool {
        self.0.messages.iter().all(|one| {
            let revision = one.params.own_revision.as_ref();
            let revision = revision.and_then(|span| decoded(text, span));
            revision.is_some_and(|revision| revision.as_bytes() >= SESSIONLESS)
        })
    }

    /// Does it begin a session?
    pub(super) fn initializes(&self) -> bool {
        let Self(Scan { is_batch, messages }) = self;
        !is_batch && messages[0].is("initialize") && messages[0].kind() == Kind::Request
    }

    /// May all of it be sent twice?
    pub(super) fn is_safe(&self) -> bool {
        self.0.messages.iter().all(|one| match &one.method {
            Some(method) => SAFE.contains(&method.as_str()),
            None => false,
        })
    }

    /// The same in words for the service; `None` when nothing of it concerns that.
    ///
    /// # Errors
    /// It holds what this instance was never given.
    pub(super) fn upward(
        &self,
        text: &Bytes,
        names: &Names,
        seals: &Seals<'_>,
    ) -> Result<Option<Upward>, Refusal> {
        let Self(Scan { is_batch, messages }) = self;
        let mut calls = Vec::new();
        let mut parts: Vec<Option<Changes>> = Vec::new();
        for one in messages {
            let changes = up(text, one, names, seals)?;
            if one.kind() == Kind::Request
                && let Some(id) = &one.id
            {
                calls.push(spelt(text, id));
            }
            parts.push(changes);
        }
        Ok(assemble(text, *is_batch, messages, parts).map(|body| Upward { body, calls }))
    }

    /// Keeps what a run that comes must be told. `true` when there was something.
    pub(super) fn is_remembered(&self, text: &[u8], agreed: &mut Agreed) -> bool {
        let mut is_any = false;
        for one in &self.0.messages {
            let whole = || spelt(text, &one.span);
            let uri = || decoded(text, one.params.uri.as_ref()?);
            match one.method.as_deref() {
                Some("logging/setLevel") => agreed.level = Some(whole()),
                Some("resources/subscribe") => match uri() {
                    Some(uri) => agreed.subscribe(uri, whole()),
                    None => continue,
                },
                Some("resources/unsubscribe") => match uri() {
                    Some(uri) => drop(agreed.subscriptions.remove(&uri)),
                    None => continue,
                },
                _ => continue,
            }
            is_any = true;
        }
        is_any
    }
}

/// What of a message becomes something else.
type Changes = Vec<(Span, String)>;

fn spelt(text: &[u8], span: &Span) -> String {
    String::from_utf8_lossy(&text[span.clone()]).into_owned()
}

/// The text that stands there, if it is one.
pub(super) fn decoded(text: &[u8], span: &Span) -> Option<String> {
    serde_json::from_slice(&text[span.clone()]).ok()
}

fn bad_state(text: &[u8], one: &Message) -> Refusal {
    Refusal::BadMessage {
        number: INVALID_PARAMS,
        why: "`requestState` is not one that this instance was given".to_owned(),
        id: one.id.as_ref().map(|id| spelt(text, id).into()),
    }
}

/// A client's message, for its service; `None` for one that is not for it.
fn up(
    text: &[u8],
    one: &Message,
    names: &Names,
    seals: &Seals<'_>,
) -> Result<Option<Changes>, Refusal> {
    let mut changes = Changes::new();
    let mut name = |span: &Option<Span>| {
        let given = span
            .as_ref()
            .and_then(|span| names.given(&text[span.clone()]));
        match (span, given) {
            (Some(span), Some(given)) => {
                changes.push((span.clone(), given));
                true
            }
            _ => false,
        }
    };
    match one.kind() {
        Kind::Request => {
            name(&one.id);
            name(&one.params.token);
            if let Some(span) = &one.params.state {
                let sealed = decoded(text, span).ok_or_else(|| bad_state(text, one))?;
                let state = seals.open(Sealed::State, &sealed);
                let state = state.ok_or_else(|| bad_state(text, one))?;
                changes.push((span.clone(), Value::from(state).to_string()));
            }
        }
        Kind::Notification if one.is(CANCELLED) => {
            if !name(&one.params.cancelled) {
                return Ok(None);
            }
        }
        // Progress of what the service has asked is told under the service's own token.
        Kind::Notification | Kind::Other => {}
        Kind::Result | Kind::Error => {
            let Some(id) = one.id.as_ref() else {
                return Ok(None);
            };
            match seals.open_id(&text[id.clone()]) {
                Some(own) => changes.push((id.clone(), own)),
                // It answers what this instance was never asked.
                None => return Ok(None),
            }
        }
    }
    Ok(Some(changes))
}

/// The bytes of all messages that are left, with their changes.
fn assemble(
    text: &Bytes,
    is_batch: bool,
    messages: &[Message],
    parts: Vec<Option<Changes>>,
) -> Option<Bytes> {
    if parts
        .iter()
        .all(|part| part.as_ref().is_some_and(Vec::is_empty))
    {
        return Some(text.clone());
    }
    if parts.iter().all(Option::is_none) {
        return None;
    }
    if parts.iter().all(Option::is_some) {
        let mut changes: Changes = parts.into_iter().flatten().flatten().collect();
        changes.sort_by_key(|(span, _)| span.start);
        return Some(splice(text, &changes).into());
    }
    debug_assert!(is_batch, "one message is left, or is not");
    let mut written = BytesMut::from(&b"["[..]);
    for (one, changes) in messages.iter().zip(parts) {
        let Some(mut changes) = changes else {
            continue;
        };
        for (span, _) in &mut changes {
            *span = span.start - one.span.start..span.end - one.span.start;
        }
        changes.sort_by_key(|(span, _)| span.start);
        if written.len() > 1 {
            written.extend_from_slice(b",");
        }
        written.extend_from_slice(&splice(&text[one.span.clone()], &changes));
    }
    written.extend_from_slice(b"]");
    Some(written.freeze())
}

/// A message of a client, said once more.
pub(super) fn again(text: &Bytes, names: &Names) -> Bytes {
    let Ok(scan) = message::scan(text) else {
        return text.clone();
    };
    let mut changes = Changes::new();
    for one in &scan.messages {
        for span in [&one.id, &one.params.token].into_iter().flatten() {
            if let Some(given) = names.given(&text[span.clone()]) {
                changes.push((span.clone(), given));
            }
        }
    }
    changes.sort_by_key(|(span, _)| span.start);
    splice(text, &changes).into()
}

/// What a run that has just heard `initialize` is told next.
pub(super) fn reminders(agreed: &Agreed, names: &Names) -> Vec<Bytes> {
    let said = agreed.level.iter().chain(agreed.subscriptions.values());
    let said = said.map(|text| again(&Bytes::from(text.clone()), names));
    let initialized = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    std::iter::once(Bytes::from_static(initialized))
        .chain(said)
        .collect()
}

/// From the service's words to those of one client.
pub(super) struct Translator {
    pub(super) sessions: Sessions,
    pub(super) instance: Arc<InstanceEntry>,
    pub(super) names: Names,
    pub(super) session: Option<Arc<Session>>,
    /// Answers under these names are for the router itself.
    pub(super) own: Option<Names>,
}

/// What became of some bytes.
#[derive(Default)]
pub(super) struct Translated {
    pub(super) bytes: Bytes,
    /// Ids that were answered, as the client has spelt them.
    pub(super) answered: Vec<String>,
    /// What an answer to `initialize` has said, outside of sessions.
    pub(super) facts: Option<Facts>,
}

/// What a client hears of a service's words.
enum Down {
    /// The very same.
    Same,
    Other(Bytes),
    /// Nothing.
    Nothing,
}

impl Translator {
    /// All of an answer.
    pub(super) async fn whole(&self, text: Bytes) -> Bytes {
        let mut news = News::default();
        let down = self.down(&text, &mut news);
        self.learn(news.facts).await;
        match down {
            Down::Same => text,
            Down::Other(other) => other,
            Down::Nothing => Bytes::new(),
        }
    }

    /// Some bytes of a stream.
    ///
    /// # Errors
    /// An event is too large.
    pub(super) async fn events(
        &self,
        reader: &mut Reader,
        chunk: &[u8],
    ) -> Result<Translated, BoxError> {
        reader.push(chunk);
        let mut news = News::default();
        let mut written = BytesMut::new();
        let mut only = None;
        while let Some(event) = reader.event() {
            let translated = self.event(&event?, &mut news);
            // Mostly there is one.
            match (only.take(), written.is_empty()) {
                (None, true) => only = Some(translated),
                (None, false) => written.extend_from_slice(&translated),
                (Some(first), _) => {
                    written.extend_from_slice(&first);
                    written.extend_from_slice(&translated);
                }
            }
        }
        let facts = self.learn(news.facts).await;
        Ok(Translated {
            bytes: only.unwrap_or_else(|| written.freeze()),
            answered: news.answered,
            facts,
        })
    }

    /// The first event of a stream outside of sessions: it may begin one of the older transport, which
    /// its service calls so.
    ///
    /// # Errors
    /// It sends its client elsewhere.
    pub(super) fn begin(
        &mut self,
        first: &Event,
        public: &str,
        by: &ServiceEntry,
    ) -> Result<(Bytes, Option<String>), BoxError> {
        if first.name() != Some(b"endpoint") {
            return Ok((self.event(first, &mut News::default()), None));
        }
        let address = first.data().unwrap_or_default();
        let address = std::str::from_utf8(&address)?;
        let head = path::head(&by.spec, &self.instance.public);
        let seals = self.sessions.seals(&self.instance);
        let mut names = None;
        let rewritten = endpoint::public(address, (public, &head), by.spec.port, |session| {
            names = Some((seals.names(session), session.to_owned()));
            seals.seal(Sealed::Session, session)
        });
        let Some(rewritten) = rewritten else {
            let service = &by.spec.service;
            tracing::warn!(%service, "it sends its clients elsewhere, in its `endpoint` event");
            return Err("the service sends its clients elsewhere".into());
        };
        let id = first.id().map(|id| self.event_id(id));
        let written = first.with(Some(rewritten.as_bytes()), id.as_deref());
        let name = names.map(|(names, name)| {
            self.names = names;
            name
        });
        Ok((written.into(), name))
    }

    /// What the client calls an event.
    fn event_id(&self, id: &str) -> String {
        let epoch = self.session.as_ref().map_or(0, |session| session.epoch());
        let seals = self.sessions.seals(&self.instance);
        seals.seal(Sealed::Event, &EventId { epoch, own: id }.to_string())
    }

    fn event(&self, event: &Event, news: &mut News) -> Bytes {
        let id = event.id().filter(|id| !id.is_empty());
        let id = id.map(|id| self.event_id(id));
        let data = event.data();
        let down = match &data {
            Some(data) if !data.is_empty() => self.down(data, news),
            _ => Down::Same,
        };
        match (down, id) {
            (Down::Nothing, _) => Bytes::new(),
            (Down::Same, None) => event.raw().clone(),
            (Down::Same, Some(id)) => event.with(None, Some(&id)).into(),
            (Down::Other(other), id) => event.with(Some(&other), id.as_deref()).into(),
        }
    }

    fn down(&self, text: &[u8], news: &mut News) -> Down {
        let Ok(scan) = message::scan(text) else {
            return Down::Same;
        };
        let seals = self.sessions.seals(&self.instance);
        let mut parts = Vec::with_capacity(scan.messages.len());
        for one in &scan.messages {
            parts.push(self.down_one(text, one, &seals, news));
        }
        if parts
            .iter()
            .all(|part| part.as_ref().is_some_and(Vec::is_empty))
        {
            return Down::Same;
        }
        let text = Bytes::copy_from_slice(text);
        match assemble(&text, scan.is_batch, &scan.messages, parts) {
            Some(other) => Down::Other(other),
            None => Down::Nothing,
        }
    }

    /// A service's message, for its client; `None` for one that is not for it.
    fn down_one(
        &self,
        text: &[u8],
        one: &Message,
        seals: &Seals<'_>,
        news: &mut News,
    ) -> Option<Changes> {
        let mut changes = Changes::new();
        let at = |span: &Span| &text[span.clone()];
        let foreign = || {
            self.sessions.foreign_answer();
            let (instance, service) = (&self.instance.public, &self.instance.service);
            tracing::warn!(%instance, %service, "the service has answered the wrong client; nobody is shown that");
        };
        match one.kind() {
            Kind::Result | Kind::Error => {
                let Some(id) = one.id.as_ref().filter(|id| is_name(at(id))) else {
                    return Some(changes);
                };
                let Some(own) = self.names.meant(at(id)) else {
                    let is_own = self.own.as_ref().and_then(|own| own.meant(at(id)));
                    if is_own.is_none() {
                        foreign();
                    }
                    return None;
                };
                changes.push((id.clone(), own.clone()));
                if let Some(result) = &one.result {
                    if let Some(span) = &result.state
                        && let Some(state) = decoded(text, span)
                    {
                        let sealed = seals.seal(Sealed::State, &state);
                        changes.push((span.clone(), Value::from(sealed).to_string()));
                    }
                    if result.capabilities.is_some() && result.revision.is_some() {
                        news.facts = Some(facts_of(text, result));
                    }
                }
                news.answered.push(own);
            }
            Kind::Notification if one.is(PROGRESS) => {
                let span = one.params.progress.as_ref()?;
                match self.names.meant(at(span)) {
                    Some(token) => changes.push((span.clone(), token)),
                    None if is_name(at(span)) => {
                        foreign();
                        return None;
                    }
                    None => {}
                }
            }
            Kind::Notification if one.is(CANCELLED) => {
                let span = one.params.cancelled.as_ref()?;
                changes.push((span.clone(), seals.seal_id(at(span))?));
            }
            Kind::Request => {
                let span = one.id.as_ref()?;
                changes.push((span.clone(), seals.seal_id(at(span))?));
            }
            Kind::Notification | Kind::Other => {}
        }
        // What is told to a subscriber names the call that has subscribed.
        if let Some(span) = &one.params.subscription
            && let Some(own) = self.names.meant(at(span))
        {
            changes.push((span.clone(), own));
        }
        Some(changes)
    }

    /// Gives back what no session takes.
    async fn learn(&self, facts: Option<Facts>) -> Option<Facts> {
        let facts = facts?;
        let Some(session) = &self.session else {
            return Some(facts);
        };
        {
            let mut agreed = session.agreed();
            agreed.revision = facts.revision;
            agreed.lists = facts.lists;
        }
        self.sessions.keep(&self.instance, session).await;
        None
    }
}

/// What was heard on the way.
#[derive(Default)]
struct News {
    answered: Vec<String>,
    facts: Option<Facts>,
}
