//! One instance as the router sees it.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

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
/// changes its credential or id: it is replaced by another one, and revoked.
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
    credential: OnceLock<Result<Credential, SealError>>,
    revoked: AtomicBool,
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
            credential: OnceLock::new(),
            revoked: AtomicBool::new(false),
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

    /// What to inject. Opened at the first call, and kept as long as the entry.
    ///
    /// # Errors
    /// The stored credential does not open: the database was changed behind our back.
    pub fn credential(&self) -> Result<&Credential, SealError> {
        let opened = self.credential.get_or_init(|| {
            let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
            self.vault.open_fields(&self.place(), &sealed)
        });
        opened.as_ref().map_err(|error| *error)
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

    /// Its service has taken a request.
    pub(super) fn accepted(&self) {
        // Mostly nothing was refused before: then nothing is written.
        if self.is_refused.load(Ordering::Relaxed) {
            let mut streak = self.streak();
            streak.accepted();
            self.is_refused.store(false, Ordering::Relaxed);
        }
    }

    /// Its service has said 401. `true` when its credential is to be checked again.
    pub(super) fn refused(&self, now: Timestamp) -> bool {
        let mut streak = self.streak();
        self.is_refused.store(true, Ordering::Relaxed);
        streak.refused(now)
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

    /// Has it been rotated, removed, disabled, or given another credential, or has it expired?
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Ends when the entry is revoked: what streams on its behalf must stop then. Cancel-safe.
    pub async fn revoked(&self) {
        let mut ended = pin!(self.ended.notified());
        // Listen first, look second: nothing that happens in between is missed.
        ended.as_mut().enable();
        if !self.is_revoked() {
            ended.await;
        }
    }

    /// Tells all that hold the entry to let go.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.ended.notify_waiters();
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
