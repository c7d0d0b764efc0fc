//! One instance as the router sees it.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::instances::tally::{Tallies, Tally};
use crate::limits::{Limits, Seat};
use crate::store::StoredInstance;
use crate::vault::{Credential, Place, Purpose, RandomError, Resealed, SealError, Vault};

/// Milliseconds of a minute: last use is kept no finer.
const MINUTE: i64 = 60_000;

/// Minutes of a day, all of which are as long in UTC as Unix counts it.
const MINUTES_OF_DAY: i64 = 24 * 60;
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
    /// Minutes since 1970; 0 is never.
    used: AtomicI64,
    /// What of `used` the store has.
    flushed: AtomicI64,
    held: AtomicUsize,
    tally: OnceLock<Arc<Tally>>,
    seat: OnceLock<Arc<Seat>>,
}

impl InstanceEntry {
    /// An entry of what the store holds.
    pub(super) fn new(stored: StoredInstance, vault: Vault) -> Self {
        let used = stored
            .row
            .last_used_at
            .map_or(0, |at| at.as_millis() / MINUTE);
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
            used: AtomicI64::new(used),
            flushed: AtomicI64::new(used),
            held: AtomicUsize::new(0),
            tally: OnceLock::new(),
            seat: OnceLock::new(),
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
        let minute = now.as_millis() / MINUTE;
        // Mostly it is this minute already: then the cache line stays shared between cores.
        if self.used.load(Ordering::Relaxed) >= minute {
            return false;
        }
        let before = self.used.fetch_max(minute, Ordering::Relaxed);
        before / MINUTES_OF_DAY < minute / MINUTES_OF_DAY
    }

    /// Last request, to the minute.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        let minute = self.used.load(Ordering::Relaxed);
        (minute > 0).then(|| Timestamp::from_millis(minute * MINUTE))
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
        self.used
            .fetch_max(older.used.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The last use, when the store has not got it.
    pub(super) fn unflushed(&self) -> Option<Timestamp> {
        let used = self.used.load(Ordering::Relaxed);
        let fresh = used > self.flushed.load(Ordering::Relaxed);
        fresh.then(|| Timestamp::from_millis(used * MINUTE))
    }

    /// The store has got this one.
    pub(super) fn set_flushed(&self, at: Timestamp) {
        self.flushed
            .fetch_max(at.as_millis() / MINUTE, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::InstanceRow;
    use crate::vault::MasterKey;

    fn entry(last_used_at: Option<Timestamp>) -> InstanceEntry {
        let row = InstanceRow {
            public: PublicId::parse("ins_aaaabbbbcccc").unwrap(),
            user: UserId::parse("alice").unwrap(),
            service: ServiceType::parse("figma").unwrap(),
            hash: [1; 32],
            created_at: Timestamp::from_millis(0),
            last_used_at,
            expires_at: None,
            disabled_at: None,
            owner_disabled: false,
            label: None,
            rotated_at: None,
        };
        let stored = StoredInstance {
            row,
            sealed_id: Vec::new(),
            sealed_credential: Vec::new(),
        };
        InstanceEntry::new(stored, Vault::new(&MasterKey::from_bytes([1; 32])))
    }

    #[test]
    fn the_first_use_of_a_day_is_told_from_others() {
        let at = |day: i64, minute: i64| Timestamp::from_millis((day * 1440 + minute) * MINUTE);
        let new = entry(None);
        assert!(new.touch(at(20_000, 5)));
        assert!(!new.touch(at(20_000, 5)));
        assert!(!new.touch(at(20_000, 1439)));
        assert!(!new.touch(at(20_000, 7)), "a clock that was set back");
        assert!(new.touch(at(20_001, 0)));
        // What the store knows is not told again.
        let known = entry(Some(at(20_000, 5)));
        assert!(!known.touch(at(20_000, 6)) && known.touch(at(20_003, 6)));
    }
}
