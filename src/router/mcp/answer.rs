//! Answers on their way back to the client, event by event.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use tokio::time::timeout;

use super::facts::{self, Facts};
use super::names::Names;
use super::translate::Translator;
use super::wire::events::{EVENT_MAX, Reader};
use crate::router::refusal::Refusal;
use crate::router::rpc;
use crate::router::stream::{Answer, BoxError, Cut, Events};

/// Silence after which a comment is written: balancers end connections that are silent for 30 s.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);
/// No event of its own: clients pass over it (HTML §9.2.6).
pub(super) const COMMENT: &[u8] = b":\n\n";
/// Largest answer that is one JSON text.
const ANSWER_MAX: usize = EVENT_MAX;
/// And one to what the router itself has asked.
const OWN_MAX: usize = 1024 * 1024;

/// A service's answer to messages, as a stream of events.
pub(super) struct Stream {
    answer: Answer,
    reader: Reader,
    translator: Translator,
    /// Ids of the calls that have no answer yet, as their client has spelt them.
    open: Vec<String>,
    /// The error that these get when their service dies, as JSON.
    failed: String,
    is_over: bool,
}

impl Stream {
    pub(super) fn new(
        answer: Answer,
        translator: Translator,
        open: Vec<String>,
        failed: String,
    ) -> Self {
        Self {
            answer,
            reader: Reader::default(),
            translator,
            open,
            failed,
            is_over: false,
        }
    }

    /// As the client gets it.
    pub(super) fn run(self) -> Events {
        Box::pin(unfold(Some(self), |stream| async {
            let mut stream = stream?;
            match stream.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(stream))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        while !self.is_over {
            match timeout(SILENCE_MAX, self.answer.next()).await {
                Err(_) if self.reader.is_between() => return Ok(Some(Bytes::from_static(COMMENT))),
                Err(_) => {}
                Ok(Ok(Some(chunk))) => {
                    let translated = self.translator.events(&mut self.reader, &chunk).await?;
                    self.open.retain(|id| !translated.answered.contains(id));
                    if !translated.bytes.is_empty() {
                        return Ok(Some(translated.bytes));
                    }
                }
                Ok(Ok(None)) => {
                    self.is_over = true;
                    let rest = self.reader.rest();
                    return Ok((!rest.is_empty()).then_some(rest));
                }
                // Nothing of what was begun is shown; who has asked hears what became of it.
                Ok(Err(error)) => {
                    if error.is::<Cut>() || self.open.is_empty() {
                        return Err(error);
                    }
                    self.is_over = true;
                    return Ok(Some(self.failures()));
                }
            }
        }
        Ok(None)
    }

    fn failures(&self) -> Bytes {
        let failures = self.open.iter().map(|id| rpc::answer(id, &self.failed));
        let events: String = failures.map(|text| event(&text)).collect();
        events.into()
    }
}

/// A message of our own as an event.
pub(super) fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// All of an answer; `None` when that is too large.
///
/// # Errors
/// It was cut.
pub(super) async fn collect(answer: &mut Answer) -> Result<Option<Bytes>, BoxError> {
    collect_at_most(answer, ANSWER_MAX).await
}

async fn collect_at_most(answer: &mut Answer, max: usize) -> Result<Option<Bytes>, BoxError> {
    let Some(first) = answer.next().await? else {
        return Ok(Some(Bytes::new()));
    };
    let Some(second) = answer.next().await? else {
        return Ok(Some(first));
    };
    let declared = answer.length().and_then(|left| usize::try_from(left).ok());
    let mut whole =
        BytesMut::with_capacity((first.len() + second.len() + declared.unwrap_or(0)).min(max));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(more) = answer.next().await? {
        if more.len() > max.saturating_sub(whole.len()) {
            return Ok(None);
        }
        whole.extend_from_slice(&more);
    }
    Ok(Some(whole.freeze()))
}

/// What a client is told whose answer was cut before its head was sent.
pub(super) fn failed(error: BoxError) -> Refusal {
    match error.downcast_ref::<Cut>() {
        Some(Cut::Revoked) => Refusal::UnknownInstance,
        _ => Refusal::UpstreamFailed,
    }
}

/// Reads the answer to what the router itself has said, to its end or to the end of the event that has
/// it.
///
/// # Errors
/// There is none, or it is an error.
pub(super) async fn read_answer(
    answer: &mut Answer,
    is_stream: bool,
    names: &Names,
) -> Result<Facts, &'static str> {
    const NONE: &str = "it gives no answer";
    if !is_stream {
        let whole = collect_at_most(answer, OWN_MAX).await.map_err(|_| NONE)?;
        return match facts::facts(&whole.ok_or(NONE)?, names) {
            Some(Ok(facts)) => Ok(facts),
            Some(Err(())) => Err("it answers with an error"),
            None => Err(NONE),
        };
    }
    let mut reader = Reader::default();
    while let Ok(Some(chunk)) = answer.next().await {
        reader.push(&chunk);
        while let Some(event) = reader.event() {
            let Ok(event) = event else {
                return Err("its answer is too large");
            };
            match event.data().and_then(|data| facts::facts(&data, names)) {
                Some(Ok(facts)) => return Ok(facts),
                Some(Err(())) => return Err("it answers with an error"),
                None => {}
            }
        }
    }
    Err(NONE)
}
