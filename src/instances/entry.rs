//! One instance as the router sees it.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::instances::doubt::Streak;
use crate::instances::tally::{Tallies, Tally};
use crate::limits::{Limits, Seat};
use crate::store::{CredentialState, LastUse, StoredInstance};
use crate::vault::{Credential, Place, Purpose, RandomError, Resealed, SealError, Vault};

/// Stands for the end of what has none.
const NEVER: i64 = i64::MAX;

/// One active instance: whose it is, of what, and the credential to inject. An entry never
/// changes its id, nor its credential for one that its user gives: another one takes its place, and
/// it is revoked, or replaced when it is about the credential alone. Only what a provider gives in the place of its own (a refreshed token) is put in.
pub struct InstanceEntry {
    /// Public number, for logs and `X-MCPM-Instance-Id`.
    pub public: PublicId,
    /// Owner.
    pub user: UserId,
    /// What it is an instance of. A request for another service is refused.
    pub service: ServiceType,
    /// Since when.
    pub created_at: Timestamp,
    /// In milliseconds since 1970.
    ends_at: AtomicI64,
    vault: Vault,
    /// Looked at once by requests, when the credential is opened, and by rotations of the master key.
    sealed: Mutex<Box<[u8]>>,
    /// What is sealed, once it was opened.
    opened: ArcSwapOption<Credential>,
    revoked: AtomicBool,
    replaced: AtomicBool,
    /// Those that it has replaced: what they still finish ends with it.
    before: OnceLock<Box<[Weak<Self>]>>,
    ended: Notify,
    last_use: LastUse,
    held: AtomicUsize,
    tally: OnceLock<Arc<Tally>>,
    seat: OnceLock<Arc<Seat>>,
    /// Milliseconds since 1970 from when on its credential has been of no use.
    useless_since: AtomicI64,
    /// Its service has said 401, and has taken nothing since: then the streak is looked at.
    is_refused: AtomicBool,
    streak: Mutex<Streak>,
}

impl InstanceEntry {
    /// An entry of what the store holds.
    pub(super) fn new(stored: StoredInstance, vault: Vault) -> Self {
        Self {
            public: stored.row.public,
            user: stored.row.user,
            service: stored.row.service,
            created_at: stored.row.created_at,
            ends_at: AtomicI64::new(millis(stored.row.expires_at)),
            vault,
            sealed: Mutex::new(stored.sealed_credential.into_boxed_slice()),
            opened: ArcSwapOption::empty(),
            revoked: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            before: OnceLock::new(),
            ended: Notify::new(),
            last_use: LastUse::new(stored.row.last_used_at),
            held: AtomicUsize::new(0),
            tally: OnceLock::new(),
            seat: OnceLock::new(),
            useless_since: AtomicI64::new(millis(stored.row.credential.expired_at())),
            is_refused: AtomicBool::new(false),
            streak: Mutex::default(),
        }
    }

    /// From when on it must not answer, though it may still stand in the table.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let millis = self.ends_at.load(Ordering::Acquire);
        (millis != NEVER).then(|| Timestamp::from_millis(millis))
    }

    /// Gives it another end, and answers the one it had. What streams on its behalf goes on.
    pub(super) fn set_end(&self, end: Option<Timestamp>) -> Option<Timestamp> {
        let before = self.ends_at.swap(millis(end), Ordering::AcqRel);
        (before != NEVER).then(|| Timestamp::from_millis(before))
    }

    /// How many of its requests wait for its service: `router/hold.rs` counts, nobody else.
    pub fn held(&self) -> &AtomicUsize {
        &self.held
    }

    /// What it has used of its limits, and of its user's and service's. Looked up at the first call.
    pub fn seat(&self, limits: &Limits) -> &Arc<Seat> {
        self.seat
            .get_or_init(|| limits.seat(&self.user, &self.service))
    }

    /// Where its requests are counted. Made at the first call.
    pub(super) fn tally(&self, tallies: &Arc<Tallies>) -> &Arc<Tally> {
        self.tally
            .get_or_init(|| tallies.tally(&self.user, &self.service))
    }

    /// What to inject. Opened at the first call, and kept as long as the entry or until it is
    /// refreshed.
    ///
    /// # Errors
    /// The stored credential does not open: the database was changed behind our back.
    pub fn credential(&self) -> Result<Arc<Credential>, SealError> {
        if let Some(opened) = self.opened.load_full() {
            return Ok(opened);
        }
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever refreshes it holds the lock, too.
        if let Some(opened) = self.opened.load_full() {
            return Ok(opened);
        }
        let opened = Arc::new(self.vault.open_fields(&self.place(), &sealed)?);
        self.opened.store(Some(Arc::clone(&opened)));
        Ok(opened)
    }

    /// Puts in what the provider has given in the place of what it holds. Streams go on, and what its
    /// service has refused was the other one.
    pub(super) fn refresh(&self, fresh: Vec<u8>, credential: Credential) {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        *sealed = fresh.into_boxed_slice();
        self.opened.store(Some(Arc::new(credential)));
        drop(sealed);
        self.accepted();
    }

    /// Since when the external service takes its credential no longer.
    pub fn credential_expired_at(&self) -> Option<Timestamp> {
        let millis = self.useless_since.load(Ordering::Acquire);
        (millis != NEVER).then(|| Timestamp::from_millis(millis))
    }

    /// What is known of its credential now.
    pub(super) fn set_credential_state(&self, state: CredentialState) {
        let since = millis(state.expired_at());
        self.useless_since.store(since, Ordering::Release);
    }

    /// Its service has taken a request, or is to be heard anew.
    pub(super) fn accepted(&self) {
        // Mostly nothing was refused before: then nothing is written.
        if self.is_refused.load(Ordering::Relaxed) {
            let mut streak = self.streak();
            streak.accepted();
            self.is_refused.store(false, Ordering::Relaxed);
        }
    }

    /// Its service has said 401. `true` when its credential is to be checked again, which it is no more
    /// often than this.
    pub(super) fn refused(&self, now: Timestamp, ask_every: Duration) -> bool {
        let mut streak = self.streak();
        self.is_refused.store(true, Ordering::Relaxed);
        streak.refused(now, ask_every)
    }

    /// It is not, for now.
    pub(super) fn not_asked(&self) {
        self.streak().not_asked();
    }

    /// Since when its service has said nothing but 401, when that is often enough to be told.
    pub(super) fn refused_since(&self) -> Option<Timestamp> {
        self.streak().refuses_since()
    }

    /// Nobody holds it for long.
    fn streak(&self) -> MutexGuard<'_, Streak> {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals what it holds with the master key that seals now, if another one has.
    pub(super) fn renew(&self) -> Result<(), RandomError> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Resealed::Fresh(fresh) = self.vault.reseal(&self.place(), &sealed)? {
            *sealed = fresh.into_boxed_slice();
        }
        Ok(())
    }

    /// Where its credential lies.
    fn place(&self) -> Place<'_> {
        Place {
            purpose: Purpose::Credential,
            user: &self.user,
            service: &self.service,
            public: &self.public,
        }
    }

    /// Remembers a request. Written to the store later, in a batch. `true` for the first one of a
    /// UTC day, as far as the store and this daemon know.
    pub fn touch(&self, now: Timestamp) -> bool {
        self.last_use.touch(now)
    }

    /// Last request, to the minute.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        self.last_use.at()
    }

    /// Has it been rotated, removed or disabled, or has it expired?
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Ends when the entry is revoked: what streams on its behalf must stop then. Cancel-safe.
    pub async fn revoked(&self) {
        self.until(Self::is_revoked).await;
    }

    /// Has its user given another credential, or is it revoked? Then what never ends by itself must.
    pub fn is_outdated(&self) -> bool {
        self.replaced.load(Ordering::Acquire) || self.is_revoked()
    }

    /// Ends when it is. Cancel-safe.
    pub async fn outdated(&self) {
        self.until(Self::is_outdated).await;
    }

    async fn until(&self, is_over: impl Fn(&Self) -> bool) {
        loop {
            let mut news = pin!(self.ended.notified());
            // Listen first, look second: nothing that happens in between is missed.
            news.as_mut().enable();
            if is_over(self) {
                return;
            }
            news.await;
        }
    }

    /// Tells all that hold the entry to let go.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.ended.notify_waiters();
        let before = self.before.get().into_iter().flatten();
        for older in before.filter_map(Weak::upgrade) {
            older.revoke();
        }
    }

    /// Takes the place of one whose user has given another credential: what it has begun and what ends by
    /// itself may finish, as long as this one is not revoked.
    pub(super) fn replace(&self, older: &Arc<Self>) {
        let before = older.before.get().into_iter().flatten();
        let still = before.filter(|older| older.strong_count() > 0).cloned();
        let all = still.chain([Arc::downgrade(older)]).collect();
        // A new entry takes one place, and that once.
        let _ = self.before.set(all);
        older.replaced.store(true, Ordering::Release);
        older.ended.notify_waiters();
    }

    /// Takes over what an older entry of the same instance knows and the store does not.
    pub(super) fn inherit(&self, older: &Self) {
        self.last_use.inherit(&older.last_use);
        let refused = *older.streak();
        self.streak().inherit(&refused);
    }

    /// The last use, when the store has not got it.
    pub(super) fn unflushed(&self) -> Option<Timestamp> {
        self.last_use.unwritten()
    }

    /// The store has got this one.
    pub(super) fn set_flushed(&self, at: Timestamp) {
        self.last_use.set_written(at);
    }
}

fn millis(end: Option<Timestamp>) -> i64 {
    end.map_or(NEVER, Timestamp::as_millis)
}

/// Shows nothing that is secret.
impl fmt::Debug for InstanceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceEntry({} of {})", self.public, self.service)
    }
}
