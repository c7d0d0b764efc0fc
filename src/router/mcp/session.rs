//! One session of a client: what was agreed, and where its service knows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::ids::Timestamp;
use crate::instances::InstanceEntry;
use crate::router::tables::RunId;

/// Resources whose changes a client wants to hear of: of more, those it asked for first are said again
/// after a restart.
const SUBSCRIPTIONS_MAX: usize = 256;

/// A session. The id that its client has for it is not in it.
pub(super) struct Session {
    /// Keyed hash of instance and session id.
    pub(super) key: [u8; 32],
    /// As it was when the session began, or was read from the store: with another one it is read anew.
    instance: Weak<InstanceEntry>,
    /// Of the credential that its service sees with it.
    stamp: Option<Stamp>,
    /// The client's `initialize`, as it came.
    pub(super) opening: Bytes,
    pub(super) names: Names,
    place: ArcSwap<Place>,
    /// Held by whoever makes it known to another run.
    pub(super) renewal: tokio::sync::Mutex<()>,
    agreed: Mutex<Agreed>,
    used: AtomicI64,
    is_over: AtomicBool,
}

/// Tells the credential of a session from another one; none of one that does not open.
pub(super) type Stamp = u64;

/// Where a session is known, and by which id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// `None` where it is to be made known anew.
    pub(super) run: Option<RunId>,
    /// The service's own id for it, if that has given one.
    pub(super) id: Option<String>,
    /// How often it was made known anew: what a service has said before means nothing now.
    #[serde(default)]
    pub(super) epoch: u32,
}

/// What both sides know, and a run that has just begun must be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreed {
    /// Revision of the protocol, once the service has named it.
    pub(super) revision: Option<String>,
    /// Lists that the service has said may change: `tools`, `prompts`, `resources`.
    pub(super) lists: Vec<String>,
    /// The client's last `logging/setLevel`, as it came.
    pub(super) level: Option<String>,
    /// Its `resources/subscribe`, by address.
    pub(super) subscriptions: BTreeMap<String, String>,
}

impl Agreed {
    /// The client wants to hear of a resource.
    pub(super) fn subscribe(&mut self, uri: String, message: String) {
        if self.subscriptions.len() < SUBSCRIPTIONS_MAX {
            self.subscriptions.insert(uri, message);
        }
    }
}

/// A session as it is stored.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    opening: std::borrow::Cow<'a, str>,
    tag: std::borrow::Cow<'a, str>,
    place: Place,
    agreed: Agreed,
    /// Of the credential that its service has seen with it.
    #[serde(default)]
    stamp: Option<Stamp>,
}

impl Session {
    /// A session that begins.
    pub(super) fn new(
        key: [u8; 32],
        (instance, stamp): (&Arc<InstanceEntry>, Option<Stamp>),
        opening: Bytes,
        names: Names,
        place: Place,
        now: Timestamp,
    ) -> Self {
        Self {
            key,
            instance: Arc::downgrade(instance),
            stamp,
            opening,
            names,
            place: ArcSwap::from_pointee(place),
            renewal: tokio::sync::Mutex::default(),
            agreed: Mutex::default(),
            used: AtomicI64::new(now.as_millis()),
            is_over: AtomicBool::new(false),
        }
    }

    /// A session that was stored. It is to be made known anew where the instance has another credential
    /// since, or where nobody can say: services bind sessions to credentials.
    pub(super) fn read(
        key: [u8; 32],
        (instance, stamp): (&Arc<InstanceEntry>, Option<Stamp>),
        data: &[u8],
        used: Timestamp,
    ) -> Option<Self> {
        let kept: Kept<'_> = serde_json::from_slice(data).ok()?;
        let opening = Bytes::from(kept.opening.into_owned());
        let names = Names::new(&kept.tag)?;
        let session = Self::new(key, (instance, stamp), opening, names, kept.place, used);
        *session.agreed() = kept.agreed;
        if stamp.is_none() || kept.stamp != stamp {
            session.forgotten();
        }
        Some(session)
    }

    /// To be stored.
    pub(super) fn data(&self) -> Vec<u8> {
        let kept = Kept {
            opening: String::from_utf8_lossy(&self.opening),
            tag: self.names.tag().into(),
            place: self.place.load().as_ref().clone(),
            agreed: self.agreed().clone(),
            stamp: self.stamp,
        };
        serde_json::to_vec(&kept).expect("it holds texts only")
    }

    /// Is it of this very entry? Another credential makes another entry.
    pub(super) fn is_of(&self, instance: &Arc<InstanceEntry>) -> bool {
        std::ptr::eq(self.instance.as_ptr(), Arc::as_ptr(instance))
    }

    /// Is it known to this run?
    pub(super) fn is_known_to(&self, run: RunId) -> bool {
        self.place.load().run == Some(run)
    }

    /// What the service calls it.
    pub(super) fn id(&self) -> Option<HeaderValue> {
        let place = self.place.load();
        HeaderValue::try_from(place.id.as_deref()?).ok()
    }

    /// How often it was made known anew.
    pub(super) fn epoch(&self) -> u32 {
        self.place.load().epoch
    }

    /// A run knows it under this id.
    pub(super) fn moved(&self, run: RunId, id: Option<String>) {
        let epoch = self.epoch().wrapping_add(1);
        let run = Some(run);
        self.place.store(Arc::new(Place { run, id, epoch }));
    }

    /// Its run knows it no longer.
    pub(super) fn forgotten(&self) {
        let (run, id, epoch) = (None, None, self.epoch());
        self.place.store(Arc::new(Place { run, id, epoch }));
    }

    /// What was agreed. Nobody holds it for long.
    pub(super) fn agreed(&self) -> MutexGuard<'_, Agreed> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its client has ended it, and whoever still holds it may not bring it back.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Has its client ended it?
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// It is used.
    pub(super) fn touch(&self, now: Timestamp) {
        self.used.fetch_max(now.as_millis(), Ordering::Relaxed);
    }

    /// When it was used last.
    pub(super) fn used(&self) -> Timestamp {
        Timestamp::from_millis(self.used.load(Ordering::Relaxed))
    }
}
