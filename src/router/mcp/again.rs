//! Begins a session of the older transport again, on the stream of another run.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Uri};
use tokio::time::timeout;

use super::facts;
use super::names::Names;
use super::older::Thread;
use super::push::Push;
use super::renew::Said;
use super::translate;
use super::wire::endpoint;
use super::wire::events::{Event, Reader};
use crate::router::stream::Answer;
use crate::vault::random;

/// A service that was found to be ready says and answers all that in so long.
const TIMEOUT: Duration = Duration::from_secs(30);
const NO_ANSWER: &str = "it gives no answer";

impl Push {
    /// Answers when the run knows the session: with the names under which answers come that are not for
    /// the client.
    ///
    /// # Errors
    /// The run takes no session like this one.
    pub(super) async fn begin_again(
        &self,
        thread: &Thread,
        names: &Names,
        answer: &mut Answer,
        reader: &mut Reader,
    ) -> Result<Option<Names>, &'static str> {
        let beginning = self.begin_in_time(thread, names, answer, reader);
        timeout(TIMEOUT, beginning).await.unwrap_or(Err(NO_ANSWER))
    }

    async fn begin_in_time(
        &self,
        thread: &Thread,
        names: &Names,
        answer: &mut Answer,
        reader: &mut Reader,
    ) -> Result<Option<Names>, &'static str> {
        const NO_ADDRESS: &str = "its stream does not begin with an address of its own";
        let first = next_event(answer, reader).await?;
        let address = first.data().filter(|_| first.name() == Some(b"endpoint"));
        let address = address.ok_or(NO_ADDRESS)?;
        let address = std::str::from_utf8(&address).map_err(|_| NO_ADDRESS)?;
        let address = endpoint::own(address, self.by.spec.port).ok_or(NO_ADDRESS)?;
        let uri = Uri::try_from(address).map_err(|_| NO_ADDRESS)?;
        let named = endpoint::session(uri.query().unwrap_or_default());
        let name = named.ok().flatten().ok_or(NO_ADDRESS)?.0.to_owned();
        let run = self.by.upstream.run();
        let (opening, agreed) = {
            let told = thread.told();
            (told.opening.clone(), told.agreed.clone())
        };
        let Some(opening) = opening else {
            thread.moved(run, name);
            return Ok(None);
        };
        let mut head = self.head.clone();
        head.method = Method::POST;
        head.uri = uri;
        let json = HeaderValue::from_static("application/json");
        head.headers.insert(CONTENT_TYPE, json);
        let own = Names::of(random().map_err(|_| "there are no random numbers")?);
        let say = async |message: Bytes| match self
            .service
            .say(&self.by, &head, message, &self.letter(None))
            .await?
        {
            Said::Answer(response, _) if response.status().is_success() => Ok(()),
            Said::Answer(..) => Err("it refuses what its client has said"),
            Said::Gone => Err("it has ended again"),
        };
        say(translate::again(&opening, names)).await?;
        loop {
            let event = next_event(answer, reader).await?;
            match event.data().and_then(|data| facts::facts(&data, names)) {
                Some(Ok(_)) => break,
                Some(Err(())) => return Err("it answers with an error"),
                None => {}
            }
        }
        for message in translate::reminders(&agreed, &own) {
            say(message).await?;
        }
        thread.moved(run, name);
        Ok(Some(own))
    }
}

async fn next_event(answer: &mut Answer, reader: &mut Reader) -> Result<Event, &'static str> {
    loop {
        if let Some(event) = reader.event() {
            return event.map_err(|_| "an event is too large");
        }
        match answer.next().await {
            Ok(Some(chunk)) => reader.push(&chunk),
            Ok(None) | Err(_) => return Err(NO_ANSWER),
        }
    }
}
