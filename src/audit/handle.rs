//! [`Audit`]: what the other rooms hold.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Uri;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::by::{Actor, By, Visit};
use super::desk::Which;
use super::refusals::Kind;
use super::watch::Event;
use super::webhook::{Hook, Poster};
use super::words;
use super::writer::{Order, Shared, Writer};
use crate::ids::{ServiceType, Source, Timestamp, UserId};
use crate::instances::InstanceEntry;
use crate::outbound::Outbound;
use crate::store::{AuditEntry, AuditFilter, AuditRow, StoreError, StoreHandle};

/// Callers who wait for the writer; a further one waits for a place.
const ORDERS_MAX: usize = 64;

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    store: StoreHandle,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    hook: Hook,
    /// Since the daemon has started.
    isolation_events: AtomicU64,
    /// Since the daemon has started.
    expired_credentials: AtomicU64,
    /// Makes numbers of users; per process, so that nobody can choose equal ones.
    numbers: RandomState,
}

impl Audit {
    /// A handle to the log in this store, and the two tasks without which nothing is written and
    /// nothing is told to a webhook. `outbound` is how that one is called.
    pub fn new(store: StoreHandle, outbound: Outbound) -> (Self, Writer, Poster) {
        let shared = Arc::new(Shared::new());
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (hook, poster) = Hook::new(outbound);
        let writer = Writer::new(store.clone(), shared.clone(), inbox);
        let audit = Self(Arc::new(Inner {
            store,
            shared,
            orders,
            hook,
            isolation_events: AtomicU64::new(0),
            expired_credentials: AtomicU64::new(0),
            numbers: RandomState::new(),
        }));
        (audit, writer, poster)
    }

    /// Adds an entry, which is written within a second. Never waits: what does not fit is counted.
    pub fn record(&self, entry: AuditEntry) {
        let is_news = self.0.shared.desk().push(entry, Instant::now());
        if is_news {
            self.0.shared.news.notify_one();
        }
    }

    /// The same, and waits until it is on disk: for what changes who may do what. When it cannot be
    /// written now it is tried again, and this returns all the same: what it tells of has happened.
    pub async fn record_now(&self, entry: AuditEntry) {
        self.record(entry);
        self.order(Which::Entries, false).await;
    }

    /// Has everything written that is known. Done when it returns.
    pub async fn flush(&self) {
        self.order(Which::All, false).await;
    }

    /// The same for the last time.
    pub async fn close(&self) {
        self.order(Which::All, true).await;
    }

    /// Up to `limit` entries that the filter lets through, newest first, those before `before`. All
    /// that was recorded is among them; of refusals what has been told.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn list(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.order(Which::Entries, false).await;
        self.0.store.audit(filter, before, limit).await
    }

    /// Isolation events since the daemon has started.
    pub fn isolation_events(&self) -> u64 {
        self.0.isolation_events.load(Ordering::Relaxed)
    }

    /// Tells isolation events to this address from now on, or to none.
    pub fn set_webhook(&self, url: Option<Uri>) {
        self.0.hook.set(url);
    }

    /// A request was refused, for a reason that has this code.
    pub fn refused(&self, action: &'static str, reason: &'static str, visit: Visit<'_>) {
        let kind = Kind::new(action, reason, Source::of(visit.address));
        let (at, now) = (Timestamp::now(), Instant::now());
        let is_news = self.0.shared.desk().refuse(kind, visit.request_id, at, now);
        if is_news {
            self.0.shared.news.notify_one();
        }
    }

    /// A credential was refused that somebody has handed over for a user, for a reason that has this code.
    pub fn refused_credential(
        &self,
        by: &By,
        user: &UserId,
        service: &ServiceType,
        reason: &'static str,
    ) {
        let known = by.refused(Some((user, service)));
        self.refuse_known(Kind::known(words::INSTANCE_REFUSED, reason, known), by);
    }

    /// Somebody who has shown who they are was refused, for a reason that has this code.
    pub fn refused_caller(&self, action: &'static str, reason: &'static str, by: &By) {
        self.refuse_known(Kind::known(action, reason, by.refused(None)), by);
    }

    fn refuse_known(&self, kind: Kind, by: &By) {
        let (at, now) = (Timestamp::now(), Instant::now());
        let is_news = self.0.shared.desk().refuse(kind, by.request_id(), at, now);
        if is_news {
            self.0.shared.news.notify_one();
        }
    }

    /// A user was added, since they came with a good JWT.
    pub fn first_seen(&self, user: &UserId, by: &By) {
        let added = by.entry(words::USER_ADD).with_user(user);
        self.record(added.with_detail("on their first JWT"));
    }

    /// The credential of an instance is taken no longer.
    pub fn credential_expired(&self, instance: &InstanceEntry, why: &str) {
        self.0.expired_credentials.fetch_add(1, Ordering::Relaxed);
        let told = By::system().entry(words::INSTANCE_EXPIRED);
        self.record(about(told, instance).with_detail(why));
    }

    /// How often that was since the daemon has started.
    pub fn expired_credentials(&self) -> u64 {
        self.0.expired_credentials.load(Ordering::Relaxed)
    }

    /// An instance is used for the first time of a UTC day.
    pub fn first_use(&self, instance: &InstanceEntry, visit: Visit<'_>) {
        let used = By::visitor(Actor::Url, visit).entry(words::ROUTER_FIRST_USE);
        self.record(about(used, instance));
        let user = self.0.numbers.hash_one(instance.user.as_str());
        let (source, now) = (Source::of(visit.address), Instant::now());
        let found = self.0.shared.desk().watch.first_use(source, user, now);
        self.tell_of_nobody(found, visit);
    }

    /// An instance id of so many bytes, with this keyed hash, was not found.
    pub fn unknown_id(&self, bytes: usize, hash: &[u8; 32], visit: Visit<'_>) {
        let (source, now) = (Source::of(visit.address), Instant::now());
        let found = self
            .0
            .shared
            .desk()
            .watch
            .unknown_id(source, bytes, hash, now);
        self.tell_of_nobody(found, visit);
    }

    /// A token was shown that is not valid.
    pub fn wrong_token(&self, visit: Visit<'_>) {
        let (source, now) = (Source::of(visit.address), Instant::now());
        let found = self.0.shared.desk().watch.wrong_token(source, now);
        self.tell_of_nobody(found, visit);
    }

    /// A valid token of `by` was shown at the URL of an instance that is another user's.
    pub fn foreign_token(&self, instance: &InstanceEntry, by: &UserId, visit: Visit<'_>) {
        let (source, now) = (Source::of(visit.address), Instant::now());
        let which = (source, instance.public.as_str(), by.as_str());
        let which = self.0.numbers.hash_one(which);
        let found = self.0.shared.desk().watch.foreign_token(source, which, now);
        if let Some(event) = found {
            let entry = By::visitor(Actor::User(by.clone()), visit).entry(event.action);
            self.tell(event, about(entry, instance));
        }
    }

    fn tell_of_nobody(&self, found: Option<Event>, visit: Visit<'_>) {
        if let Some(event) = found {
            let entry = By::visitor(Actor::Nobody, visit).entry(event.action);
            self.tell(event, entry);
        }
    }

    /// Tells an isolation event wherever it is to be heard.
    fn tell(&self, event: Event, mut entry: AuditEntry) {
        if event.source.is_none() {
            // Of many clients one address says nothing.
            entry.address = None;
        }
        self.0.isolation_events.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            action = event.action,
            actor = %entry.actor,
            address = entry.address.as_deref(),
            user = entry.user.as_ref().map(UserId::as_str),
            instance = entry.public.as_ref().map(|public| public.as_str()),
            request_id = entry.request_id.as_deref(),
            "isolation: {}",
            event.detail
        );
        entry.detail = Some(event.detail);
        self.0.hook.tell(&entry);
        self.record(entry);
    }

    async fn order(&self, which: Which, is_last: bool) {
        let (done, written) = oneshot::channel();
        let order = Order {
            which,
            is_last,
            done,
        };
        // A writer that has ended has written all that it was given.
        if self.0.orders.send(order).await.is_ok() {
            let _ = written.await;
        }
    }
}

fn about(entry: AuditEntry, instance: &InstanceEntry) -> AuditEntry {
    entry
        .with_user(&instance.user)
        .with_service(&instance.service)
        .with_instance(&instance.public)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::outbound::Policy;
    use crate::store::Memory;

    fn audit() -> (Audit, StoreHandle) {
        let store: StoreHandle = Arc::new(Memory::new());
        let outbound = Outbound::new(Policy {
            allow_private: false,
            timeout: Duration::from_secs(1),
            max_answer: 1,
        });
        let (audit, writer, _) = Audit::new(store.clone(), outbound);
        tokio::spawn(writer.run());
        (audit, store)
    }

    fn visit(address: &str) -> Visit<'static> {
        let address: IpAddr = address.parse().unwrap();
        Visit {
            address,
            request_id: "q",
        }
    }

    async fn actions(store: &StoreHandle) -> Vec<String> {
        let rows = store.audit(AuditFilter::default(), None, 100).await;
        let rows = rows.unwrap().into_iter().rev();
        rows.map(|row| row.entry.action).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_written_by_itself_within_a_second() {
        let (audit, store) = audit();
        audit.record(By::system().entry("a"));
        audit.record(By::system().entry("b"));
        assert!(actions(&store).await.is_empty());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(actions(&store).await, ["a", "b"]);
        audit.record(By::system().entry("c"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(actions(&store).await, ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_or_reads_finds_it_written() {
        let (audit, store) = audit();
        audit.record(By::system().entry("a"));
        audit.record_now(By::system().entry("b")).await;
        assert_eq!(actions(&store).await, ["a", "b"]);
        audit.record(By::system().entry("c"));
        let listed = audit.list(AuditFilter::default(), None, 1).await.unwrap();
        assert_eq!(listed[0].entry.action, "c");
        audit.record(By::system().entry("d"));
        audit.refused("router.refused", "bad_path", visit("192.0.2.1"));
        audit.close().await;
        assert_eq!(
            actions(&store).await,
            ["a", "b", "c", "d", "router.refused"]
        );
        // Too late, and nobody hangs.
        audit.record_now(By::system().entry("e")).await;
        audit.flush().await;
        assert_eq!(actions(&store).await.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_a_flood_are_few_rows_and_all_counted() {
        let (audit, store) = audit();
        for n in 0..5000u32 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            audit.refused("router.refused", "unknown_instance", visit("192.0.2.1"));
            audit.unknown_id(43, &hash, visit("192.0.2.1"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rows = store.audit(AuditFilter::default(), None, 100).await;
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 2, "{rows:?}");
        let told = |action: &str| {
            let row = rows.iter().find(|row| row.entry.action == action);
            row.and_then(|row| row.entry.detail.clone()).unwrap()
        };
        assert_eq!(told("router.refused"), "5000 × unknown_instance");
        assert!(told("isolation.guessed_ids").starts_with("20 "));
        assert_eq!(audit.isolation_events(), 1);
    }
}
