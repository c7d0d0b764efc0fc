//! The older transport (2024-11-05): a stream whose first event says where messages are sent, and on
//! which all answers come.
//!
//! Its session lives as long as the stream. What the service calls it is sealed for its client, so that
//! every daemon knows it. While a stream is open, and its service restarts, a [`Thread`] keeps what the
//! next run must be told, and messages wait until it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Uri;
use tokio::sync::{Notify, mpsc};

use super::names::{Kind, Names, Seals};
use super::session::Agreed;
use super::wire::endpoint;
use crate::ids::PublicId;
use crate::router::tables::RunId;

/// Messages of the router's own that wait for their place in a stream.
const INBOX_MAX: usize = 64;
/// Calls without an answer that are told of when their service ends.
const OPEN_MAX: usize = 1024;

/// A session, as its client's address names it.
pub(super) struct Older {
    /// Of its requests.
    pub(super) names: Names,
    /// What its first run has called it.
    pub(super) first: String,
    query: String,
}

impl Older {
    /// The session that an address names; `None` when it names none.
    ///
    /// # Errors
    /// It is not this instance's.
    pub(super) fn named(uri: &Uri, seals: &Seals<'_>) -> Result<Option<Self>, ()> {
        let query = uri.query().unwrap_or_default();
        let Some((sealed, place)) = endpoint::session(query)? else {
            return Ok(None);
        };
        let own = seals.open(Kind::Session, sealed).ok_or(())?;
        Ok(Some(Self {
            names: seals.names(own),
            first: own.to_owned(),
            query: format!("{}{own}{}", &query[..place.start], &query[place.end..]),
        }))
    }

    /// The client's address with the service's own name for the session.
    pub(super) fn address(&self, uri: &Uri) -> Option<Uri> {
        Uri::try_from(format!("{}?{}", uri.path(), self.query)).ok()
    }
}

/// An open stream, and the session that lives with it.
pub(super) struct Thread {
    /// Where it is known, and by which name.
    place: ArcSwap<(RunId, String)>,
    moved: Notify,
    inbox: mpsc::Sender<String>,
    told: Mutex<Told>,
}

/// What its client has said.
#[derive(Default)]
pub(super) struct Told {
    /// Its `initialize`, as it came.
    pub(super) opening: Option<Bytes>,
    pub(super) agreed: Agreed,
    /// Ids of its calls that have no answer, as they were spelt.
    open: Vec<String>,
}

impl Thread {
    /// Known to this run; the other end takes what is to be told on its stream.
    pub(super) fn new(run: RunId, name: String) -> (Arc<Self>, mpsc::Receiver<String>) {
        let (inbox, mail) = mpsc::channel(INBOX_MAX);
        let thread = Self {
            place: ArcSwap::from_pointee((run, name)),
            moved: Notify::new(),
            inbox,
            told: Mutex::default(),
        };
        (Arc::new(thread), mail)
    }

    /// What this run calls it, as soon as it knows it. Cancel-safe.
    pub(super) async fn known_to(&self, run: RunId) -> String {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // Listen first, look second: nothing that happens in between is missed.
            moved.as_mut().enable();
            let place = self.place.load();
            if place.0 == run {
                return place.1.clone();
            }
            drop(place);
            moved.await;
        }
    }

    /// Another run knows it under this name.
    pub(super) fn moved(&self, run: RunId, name: String) {
        self.place.store(Arc::new((run, name)));
        self.moved.notify_waiters();
    }

    /// Tells its client something; `false` when nobody takes it.
    pub(super) fn tell(&self, message: String) -> bool {
        self.inbox.try_send(message).is_ok()
    }

    /// What its client has said. Nobody holds it for long.
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// These wait for their answers.
    pub(super) fn asked(&mut self, calls: &[String]) {
        let room = OPEN_MAX.saturating_sub(self.open.len());
        self.open.extend(calls.iter().take(room).cloned());
    }

    /// These have them.
    pub(super) fn answered(&mut self, calls: &[String]) {
        self.open.retain(|id| !calls.contains(id));
    }

    /// Those that wait, which do not any more.
    pub(super) fn given_up(&mut self) -> Vec<String> {
        std::mem::take(&mut self.open)
    }
}

/// The open streams.
#[derive(Default)]
pub(super) struct Threads(Mutex<HashMap<(PublicId, String), Weak<Thread>>>);

impl Threads {
    /// A stream is open.
    pub(super) fn open(&self, instance: &PublicId, first: String, thread: &Arc<Thread>) {
        let mut threads = self.lock();
        if threads.len() == threads.capacity() {
            threads.retain(|_, thread| thread.strong_count() > 0);
        }
        threads.insert((instance.clone(), first), Arc::downgrade(thread));
    }

    /// The stream of the session that its first run has called so, if this daemon has it.
    pub(super) fn find(&self, instance: &PublicId, first: &str) -> Option<Arc<Thread>> {
        let key = (instance.clone(), first.to_owned());
        self.lock().get(&key)?.upgrade()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(PublicId, String), Weak<Thread>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address of the service with another name for the session.
pub(super) fn readdressed(uri: &Uri, name: &str) -> Option<Uri> {
    let query = uri.query()?;
    let (_, place) = endpoint::session(query).ok()??;
    let (before, behind) = (&query[..place.start], &query[place.end..]);
    Uri::try_from(format!("{}?{before}{name}{behind}", uri.path())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_session_is_changed_in_an_address() {
        let uri: Uri = "/messages/?a=%20&session_id=x&b".parse().unwrap();
        let expected: Uri = "/messages/?a=%20&session_id=y&b".parse().unwrap();
        assert_eq!(readdressed(&uri, "y"), Some(expected));
        for none in ["/m", "/m?a=1", "/m?sessionId=1&session_id=2"] {
            assert_eq!(readdressed(&none.parse().unwrap(), "y"), None, "{none}");
        }
    }

    #[tokio::test]
    async fn messages_wait_until_the_next_run_knows_the_session() {
        let run = |generation| crate::router::tables::Run {
            generation,
            life: None,
            at: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let (first, second) = (run(1).id(), run(2).id());
        let (thread, _mail) = Thread::new(first, "a".into());
        assert_eq!(thread.known_to(first).await, "a");
        let waits = thread.clone();
        let waits = tokio::spawn(async move { waits.known_to(second).await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        thread.moved(second, "b".into());
        assert_eq!(waits.await.unwrap(), "b");
    }

    #[test]
    fn a_stream_is_found_as_long_as_it_is_open() {
        let public = |text| PublicId::parse(text).unwrap();
        let (alices, bobs) = (public("ins_aaaabbbbcccc"), public("ins_aaaabbbbcccd"));
        let run = crate::router::tables::Run {
            generation: 1,
            life: None,
            at: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let threads = Threads::default();
        let (thread, _mail) = Thread::new(run.id(), "s".into());
        threads.open(&alices, "s".into(), &thread);
        assert!(threads.find(&alices, "s").is_some());
        assert!(threads.find(&bobs, "s").is_none());
        assert!(threads.find(&alices, "t").is_none());
        drop(thread);
        assert!(threads.find(&alices, "s").is_none());
    }
}
