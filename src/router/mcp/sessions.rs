//! All sessions: in memory while they are used, in the store as long as they may be.
//!
//! A session is found by a keyed hash of its instance and its id, so that with another instance's URL
//! it is like one that never was, in the answer and in time. Whoever finds none in memory looks into
//! the store: sessions outlive the daemon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::names::{Names, Seals};
use super::older::Threads;
use super::session::{Place, Session, Stamp};
use crate::ids::{PublicId, Timestamp};
use crate::instances::InstanceEntry;
use crate::metrics::Count;
use crate::oauth::lasting;
use crate::store::{SESSIONS_MAX, SessionRow, StoreHandle};
use crate::vault::{RandomError, Vault, base32, random};

/// Characters of a session id: 130 random bits.
const ID: usize = 26;
/// Few requests meet at one lock.
const SHARDS: usize = 64;
/// Longest id that is looked for.
const ID_MAX: usize = 64;
/// From time to time those that nobody uses leave the memory, and the store hears of those that
/// somebody does.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
/// Unused for so long, a session is in the store alone.
const IDLE_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Handle to the sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    foreign_answers: Count,
    shards: Box<[Mutex<Shard>]>,
    store: StoreHandle,
    vault: Vault,
    threads: Threads,
}

/// Some instances' sessions.
#[derive(Default)]
struct Shard {
    sessions: HashMap<[u8; 32], Arc<Session>>,
    /// Keys of an instance's, the oldest first.
    keys: HashMap<PublicId, Vec<[u8; 32]>>,
}

impl Shard {
    fn put(&mut self, public: &PublicId, session: Arc<Session>) {
        let keys = self.keys.entry(public.clone()).or_default();
        if self.sessions.insert(session.key, session.clone()).is_none() {
            keys.push(session.key);
        }
        if keys.len() > SESSIONS_MAX as usize {
            let used = |key: &[u8; 32]| self.sessions.get(key).map(|session| session.used());
            let oldest = (0..keys.len()).min_by_key(|&at| used(&keys[at]));
            if let Some(oldest) = oldest {
                let key = keys.remove(oldest);
                self.sessions.remove(&key);
            }
        }
    }

    fn remove(&mut self, public: &PublicId, key: &[u8; 32]) {
        self.sessions.remove(key);
        if let Some(keys) = self.keys.get_mut(public) {
            keys.retain(|known| known != key);
            if keys.is_empty() {
                self.keys.remove(public);
            }
        }
    }
}

impl Sessions {
    /// Those of this store.
    pub fn new(store: StoreHandle, vault: Vault) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self(Arc::new(Inner {
            foreign_answers: Count::default(),
            shards,
            store,
            vault,
            threads: Threads::default(),
        }))
    }

    /// Open streams of the older transport.
    pub(super) fn threads(&self) -> &Threads {
        &self.0.threads
    }

    /// A service has answered another client than the one that has asked.
    pub(super) fn foreign_answer(&self) {
        self.0.foreign_answers.add();
    }

    /// How often that was so.
    pub(in crate::router) fn foreign_answers(&self) -> u64 {
        self.0.foreign_answers.get()
    }

    /// How many are in memory.
    pub(in crate::router) fn count(&self) -> usize {
        let of = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.sessions.len()
        };
        self.0.shards.iter().map(of).sum()
    }

    /// What passes through this instance only.
    pub(super) fn seals<'a>(&'a self, instance: &'a InstanceEntry) -> Seals<'a> {
        Seals::new(&self.0.vault, &instance.public)
    }

    /// The session of this id, if it is this instance's.
    pub(super) async fn find(
        &self,
        instance: &Arc<InstanceEntry>,
        id: &HeaderValue,
    ) -> Option<Arc<Session>> {
        let id = id.to_str().unwrap_or_default();
        let id = id.get(..ID_MAX).unwrap_or(id);
        let key = self.0.vault.session_hash(&instance.public, id);
        let found = self.shard(&instance.public).sessions.get(&key).cloned();
        let found = match found {
            Some(session) if session.is_of(instance) => session,
            _ => {
                let read = Arc::new(self.read(instance, key).await?);
                self.shard(&instance.public)
                    .put(&instance.public, read.clone());
                read
            }
        };
        found.touch(Timestamp::now());
        Some(found)
    }

    async fn read(&self, instance: &Arc<InstanceEntry>, key: [u8; 32]) -> Option<Session> {
        match self.0.store.session(&key).await {
            Ok(Some(row)) if row.instance == instance.public => {
                let own = (instance, self.stamp(instance));
                Session::read(key, own, &row.data, row.used_at)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, "cannot look up a session");
                None
            }
        }
    }

    /// Of the credential that the instance has now: the same one as long as its user gives no other.
    fn stamp(&self, instance: &InstanceEntry) -> Option<Stamp> {
        let credential = instance.credential().ok()?;
        let lasting = lasting(credential.expose());
        let stamp = self.0.vault.credential_stamp(&instance.public, &lasting);
        Some(Stamp::from_le_bytes(stamp))
    }

    /// A session begins: it, and the id that its client gets. It is stored when this answers, but on a
    /// full disk.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) async fn begin(
        &self,
        instance: &Arc<InstanceEntry>,
        opening: Bytes,
        names: Names,
        place: Place,
    ) -> Result<(Arc<Session>, HeaderValue), RandomError> {
        let id = base32(&random::<ID>()?);
        let key = self.0.vault.session_hash(&instance.public, &id);
        let now = Timestamp::now();
        let own = (instance, self.stamp(instance));
        let session = Arc::new(Session::new(key, own, opening, names, place, now));
        self.shard(&instance.public)
            .put(&instance.public, session.clone());
        self.keep(instance, &session).await;
        let id = HeaderValue::try_from(id).expect("base32 is visible");
        Ok((session, id))
    }

    /// Stores a session as it is now.
    pub(super) async fn keep(&self, instance: &InstanceEntry, session: &Session) {
        let row = SessionRow {
            key: session.key,
            instance: instance.public.clone(),
            data: session.data(),
            used_at: session.used(),
        };
        match self.0.store.put_session(row).await {
            // One that is not there any more opens nothing.
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a session will not outlive this daemon"),
        }
        // Its end may have overtaken this.
        if session.is_over() {
            self.forget(session).await;
        }
    }

    /// A session is over.
    pub(super) async fn end(&self, instance: &InstanceEntry, session: &Session) {
        session.end();
        self.shard(&instance.public)
            .remove(&instance.public, &session.key);
        self.forget(session).await;
    }

    async fn forget(&self, session: &Session) {
        if let Err(error) = self.0.store.end_session(&session.key).await {
            tracing::warn!(%error, "a session that has ended is still stored");
        }
    }

    /// Sends sessions that nobody uses out of memory, until it is dropped.
    pub async fn look_after(self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let used = self.sweep(Timestamp::now());
            if let Err(error) = self.0.store.touch_sessions(used).await {
                tracing::warn!(%error, "the use of sessions was not stored");
            }
        }
    }

    /// Those that were used since the last time.
    fn sweep(&self, now: Timestamp) -> Vec<([u8; 32], Timestamp)> {
        let before = |age: Duration| {
            let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            now.as_millis().saturating_sub(millis)
        };
        let (lately, idle) = (before(2 * SWEEP_EVERY), before(IDLE_MAX));
        let mut used = Vec::new();
        for shard in &self.0.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let Shard { sessions, keys } = &mut *shard;
            sessions.retain(|key, session| {
                let at = session.used();
                if at.as_millis() >= lately {
                    used.push((*key, at));
                }
                // Somebody holds it: a stream is open.
                at.as_millis() >= idle || Arc::strong_count(session) > 1
            });
            keys.retain(|_, keys| {
                keys.retain(|key| sessions.contains_key(key));
                !keys.is_empty()
            });
        }
        used
    }

    /// Held for a look or a change, never across an await.
    fn shard(&self, public: &PublicId) -> MutexGuard<'_, Shard> {
        let bytes = public.as_str().bytes();
        let sum = bytes.fold(0usize, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        self.0.shards[sum % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{InstancePrefix, ServiceType, UserId};
    use crate::instances::Instances;
    use crate::router::tables::RunId;
    use crate::store::Memory;
    use crate::users::Users;
    use crate::vault::{Credential, Fields, MasterKey};

    /// What outlives a daemon.
    struct World {
        store: StoreHandle,
        vault: Vault,
        instances: Instances,
        user: UserId,
        service: ServiceType,
    }

    impl World {
        async fn new() -> Self {
            let store: StoreHandle = Arc::new(Memory::new());
            let vault = Vault::new(&MasterKey::from_bytes([7; 32]));
            let user = UserId::parse("alice").unwrap();
            let users = Users::new(store.clone(), vault.clone());
            users.add(&user).await.unwrap();
            let opened = Instances::open(store.clone(), vault.clone()).await;
            Self {
                instances: opened.unwrap().0,
                service: ServiceType::parse("demo").unwrap(),
                store,
                vault,
                user,
            }
        }

        /// The instance, with this credential.
        async fn with(&self, fields: &[(&str, &str)]) -> Arc<InstanceEntry> {
            let fields: Fields = fields.iter().copied().collect();
            let prefix = InstancePrefix::parse("demo").unwrap();
            let granted =
                self.instances
                    .grant(&self.user, &self.service, &prefix, Credential::new(fields));
            let id = granted.await.unwrap().id;
            let hash = self.instances.hash(id.expose());
            self.instances.table().get(&hash).unwrap()
        }

        /// The sessions of the next daemon, which has none in memory.
        fn next(&self) -> Sessions {
            Sessions::new(self.store.clone(), self.vault.clone())
        }
    }

    fn run() -> RunId {
        serde_json::from_str(r#"{"generation":1,"number":2}"#).unwrap()
    }

    async fn begin(sessions: &Sessions, instance: &Arc<InstanceEntry>) -> HeaderValue {
        let place = Place {
            run: Some(run()),
            id: Some("theirs".to_owned()),
            epoch: 0,
        };
        let (opening, names) = (Bytes::from_static(b"{}"), Names::of([1; 10]));
        let begun = sessions.begin(instance, opening, names, place).await;
        begun.unwrap().1
    }

    #[tokio::test]
    async fn a_session_goes_on_under_the_next_daemon_as_long_as_its_credential_is_the_same() {
        let world = World::new().await;
        let first = world.with(&[("api_key", "one")]).await;
        let id = begin(&world.next(), &first).await;
        let same = world.with(&[("api_key", "one")]).await;
        let found = world.next().find(&same, &id).await.unwrap();
        assert!(found.is_known_to(run()) && found.id().is_some());

        // Another one is given while nobody has the session in memory.
        let other = world.with(&[("api_key", "two")]).await;
        let later = world.next();
        let found = later.find(&other, &id).await.unwrap();
        assert!(!found.is_known_to(run()) && found.id().is_none());
        // Once it is known with that one, it goes on.
        found.moved(run(), Some("new".to_owned()));
        later.keep(&other, &found).await;
        let found = world.next().find(&other, &id).await.unwrap();
        assert!(found.is_known_to(run()));
    }

    #[tokio::test]
    async fn a_token_that_its_provider_refreshes_is_the_same_credential() {
        let world = World::new().await;
        let consent = |at, token| [("oauth.consented_at", at), ("access_token", token)];
        let instance = world.with(&consent("1", "a")).await;
        let id = begin(&world.next(), &instance).await;
        let after = consent("1", "b").into_iter().collect::<Fields>();
        let before = instance.credential().unwrap();
        let renewed = world.instances.renew(
            &world.user,
            &world.service,
            &instance.public,
            &before,
            Some(Credential::new(after)),
        );
        renewed.await.unwrap();
        let found = world.next().find(&instance, &id).await.unwrap();
        assert!(found.is_known_to(run()));
        let other = world.with(&consent("2", "b")).await;
        let found = world.next().find(&other, &id).await.unwrap();
        assert!(!found.is_known_to(run()));
    }

    #[tokio::test]
    async fn what_an_older_daemon_has_kept_is_made_known_anew() {
        let world = World::new().await;
        let instance = world.with(&[("api_key", "one")]).await;
        let sessions = world.next();
        let id = begin(&sessions, &instance).await;
        let session = sessions.find(&instance, &id).await.unwrap();
        let mut kept: serde_json::Value = serde_json::from_slice(&session.data()).unwrap();
        assert!(kept.as_object_mut().unwrap().remove("stamp").is_some());
        let older = SessionRow {
            key: session.key,
            instance: instance.public.clone(),
            data: serde_json::to_vec(&kept).unwrap(),
            used_at: session.used(),
        };
        world.store.put_session(older).await.unwrap();
        let found = world.next().find(&instance, &id).await.unwrap();
        assert!(!found.is_known_to(run()));
    }
}
