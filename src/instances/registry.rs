//! [`Instances`]: the handle to the tasks that own the rows (`lane.rs`).
//!
//! Reads go to the store and the table directly; changes go through the lane of the user. The
//! handle is what the API and the CLI's calls use; the router needs [`Instances::find`],
//! [`Instances::hash`] and [`Instances::refuse`]. What operators do beside that, and what changes the
//! terms of an instance, stands in `life.rs`; what is heard of credentials in `credential.rs`.

mod credential;
mod life;

pub use credential::OwnCredential;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::ids::{InstanceId, InstancePrefix, Label, PublicId, ServiceType, Timestamp, UserId};
use crate::instances::asker::Asker;
use crate::instances::doubt::Doubts;
use crate::instances::endings::{Ending, News};
use crate::instances::ends::Ends;
use crate::instances::entry::InstanceEntry;
use crate::instances::error::InstanceError;
use crate::instances::filling;
use crate::instances::lane::{self, NewTerms, Order};
use crate::instances::recheck::Waiting;
use crate::instances::table::{InstanceTable, SHARDS};
use crate::instances::tally::{Tallies, Tally};
use crate::instances::version::Version;
use crate::store::{CredentialState, InstanceRow, Stays, StoreError, StoreHandle, StoredInstance};
use crate::vault::{Credential, Vault};

/// Tasks that own the rows: as many changes share a commit of the store.
const LANES: usize = 16;

/// Changes that wait in one lane; the next caller waits for a place. Each holds a credential.
const LANE_QUEUE_MAX: usize = 64;

/// Refusals that are looked up at the same time; the next one waits its turn, so that a flood of
/// wrong URLs cannot fill the store's queue before everybody else.
const REFUSALS_MAX: usize = 64;

/// Look-ups in the store at the same time, of what the table does not hold yet: the same bound, and for
/// the same reason.
const COLD_MAX: usize = 64;

/// Last uses that are written at once.
const USES_PAGE: usize = 1000;

/// Maps of the table that are swept before other tasks get a turn.
const SWEEP_STEP: usize = 64;

/// An instance that was made, changed or rotated.
#[derive(Debug)]
pub struct Granted {
    /// The secret id, for its owner.
    pub id: InstanceId,
    /// Public number.
    pub public: PublicId,
    /// `false`: it was there before.
    pub created: bool,
    /// Does it answer?
    pub active: bool,
}

/// An instance as its owner sees it.
#[derive(Debug)]
pub struct OwnInstance {
    /// The secret id.
    pub id: InstanceId,
    /// Public number.
    pub public: PublicId,
    /// What it is an instance of.
    pub service: ServiceType,
    /// Does it answer?
    pub active: bool,
    /// Since when.
    pub created_at: Timestamp,
    /// Last request, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// What people call it.
    pub label: Option<Label>,
    /// From when on it does not answer.
    pub expires_at: Option<Timestamp>,
    /// Since when it is switched off.
    pub disabled_at: Option<Timestamp>,
    /// When it got its id, if that is not its first.
    pub rotated_at: Option<Timestamp>,
    /// Does the external service still take its credential?
    pub credential: CredentialState,
    /// Since when its service has answered nothing but 401.
    pub refused_since: Option<Timestamp>,
    /// Tells this state from the next.
    pub version: Version,
}

/// What lanes and handles share.
pub(super) struct Rooms {
    pub(super) store: StoreHandle,
    pub(super) vault: Vault,
    pub(super) table: Arc<InstanceTable>,
    tallies: Arc<Tallies>,
    counts: Mutex<BTreeMap<ServiceType, u64>>,
    refusals: Semaphore,
    /// Who looks up in the store what the table does not hold yet.
    pub(super) cold: Semaphore,
    /// Does the table hold all?
    pub(super) whole: watch::Sender<bool>,
    /// Spreads users over lanes; per process, so that nobody can choose their neighbours.
    spread: RandomState,
    /// Of entries that were revoked, or got another end.
    pub(super) endings: News,
    /// Of each lane.
    ends: Box<[Ends]>,
    /// From when on good answers of external services count.
    pub(super) doubts: Mutex<Doubts>,
    /// Credentials that are to be checked again.
    pub(super) waiting: Waiting,
}

impl Rooms {
    /// Ends an entry that is no longer in the table.
    pub(super) fn revoke(&self, entry: &InstanceEntry) {
        entry.revoke();
        self.endings.tell(Ending::Over(entry.public.clone()));
    }

    /// Which lane a user belongs to.
    fn lane_of(&self, user: &UserId) -> usize {
        self.spread.hash_one(user.as_str()) as usize % LANES
    }

    /// The ends that are to come in the lane of a user.
    pub(super) fn ends(&self, user: &UserId) -> &Ends {
        &self.ends[self.lane_of(user)]
    }

    /// When the next entry of a lane ends.
    pub(super) fn soonest_end(&self, lane: usize) -> Option<Timestamp> {
        self.ends[lane].soonest()
    }

    /// The hashes of those whose time has come.
    pub(super) fn take_due(&self, lane: usize, now: Timestamp) -> Vec<[u8; 32]> {
        self.ends[lane].take_due(now)
    }

    /// Changes the number of instances of a service.
    pub(super) fn count(&self, service: &ServiceType, change: impl Fn(u64) -> u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(service.clone()).or_default();
        *count = change(*count);
    }
}

/// Returns when all have ended, and panics when one of them did. One that was cancelled has ended: at
/// the daemon's end the runtime drops its tasks in any order, and this one may see others go first.
async fn all_ended(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// All instances. Cheap to clone.
#[derive(Clone)]
pub struct Instances {
    pub(super) rooms: Arc<Rooms>,
    pub(super) lanes: Arc<[mpsc::Sender<Order>]>,
}

impl Instances {
    /// Begins to load the active instances into the table (`filling.rs`) and starts the tasks that own
    /// the rows. They end when the last handle is dropped; the task that is answered ends with them,
    /// and panics when one of them did.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn open(
        store: StoreHandle,
        vault: Vault,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let table = Arc::new(InstanceTable::empty());
        let counts = Mutex::new(store.instance_counts().await?.into_iter().collect());
        let refusals = Semaphore::new(REFUSALS_MAX);
        let spread = RandomState::new();
        let rooms = Arc::new(Rooms {
            store,
            vault,
            table,
            tallies: Arc::default(),
            counts,
            refusals,
            cold: Semaphore::new(COLD_MAX),
            whole: watch::Sender::new(false),
            spread,
            endings: News::default(),
            ends: (0..LANES).map(|_| Ends::default()).collect(),
            doubts: Mutex::new(Doubts::new(Timestamp::now())),
            waiting: Waiting::default(),
        });
        let rest = rooms.fill_first().await?;
        rooms.whole.send_replace(rest.is_none());

        let mut tasks = JoinSet::new();
        let lane = |lane| {
            let (orders, queue) = mpsc::channel(LANE_QUEUE_MAX);
            tasks.spawn(lane::run(Arc::clone(&rooms), lane, queue));
            orders
        };
        let lanes: Arc<[_]> = (0..LANES).map(lane).collect();
        if let Some(rest) = rest {
            // Without a hold on the lanes, which end with the last handle.
            let weak = lanes.iter().map(mpsc::Sender::downgrade).collect();
            tasks.spawn(filling::run(Arc::clone(&rooms), weak, rest));
        }
        let all = tokio::spawn(all_ended(tasks));
        Ok((Self { rooms, lanes }, all))
    }

    /// News of each entry that ends: an instance was removed, rotated or disabled, has expired, or has
    /// another credential. And of each that has another end.
    pub fn endings(&self) -> broadcast::Receiver<Ending> {
        self.rooms.endings.listen()
    }

    /// What requests are looked up in: [`Instances::find`] knows all that are active, the table alone
    /// only once it is whole.
    pub fn table(&self) -> &Arc<InstanceTable> {
        &self.rooms.table
    }

    /// What was counted, for whoever collects it.
    pub fn tallies(&self) -> &Arc<Tallies> {
        &self.rooms.tallies
    }

    /// Where an instance's requests are counted.
    pub fn tally<'a>(&self, instance: &'a InstanceEntry) -> &'a Arc<Tally> {
        instance.tally(&self.rooms.tallies)
    }

    /// Keyed hash of an id, as the table is keyed.
    pub fn hash(&self, id: &str) -> [u8; 32] {
        self.rooms.vault.instance_hash(id)
    }

    /// Makes an instance; or, when the user has one of that service, puts these credentials in the
    /// place of its old ones and leaves its URL as it is.
    ///
    /// # Errors
    /// There is no such user, or nothing could be written.
    pub async fn grant(
        &self,
        user: &UserId,
        service: &ServiceType,
        prefix: &InstancePrefix,
        fields: Credential,
    ) -> Result<Granted, InstanceError> {
        let (terms, asker) = (NewTerms::default(), Asker::default());
        self.grant_under(user, service, prefix, fields, terms, asker)
            .await
    }

    /// Gives the user's instance another id: the old URL is dead when this answers. `None` when
    /// there is no instance.
    ///
    /// # Errors
    /// Nothing could be written; the old URL works on.
    pub async fn rotate(
        &self,
        user: &UserId,
        service: &ServiceType,
        prefix: &InstancePrefix,
    ) -> Result<Option<Granted>, InstanceError> {
        self.rotate_seen(user, service, prefix, None).await
    }

    /// The same, with `seen` only if the instance is in one of these states.
    ///
    /// # Errors
    /// As [`Instances::rotate`], or it is in another state than was seen.
    pub async fn rotate_seen(
        &self,
        user: &UserId,
        service: &ServiceType,
        prefix: &InstancePrefix,
        seen: Option<Vec<Version>>,
    ) -> Result<Option<Granted>, InstanceError> {
        let (service, prefix) = (service.clone(), prefix.clone());
        let public = None;
        self.ask(user, |user, caller| Order::Rotate {
            user,
            service,
            prefix,
            public,
            seen,
            caller,
        })
        .await
    }

    /// Removes the user's instance of a service and its credential: the URL is dead when this
    /// answers. `false` when there was none.
    ///
    /// # Errors
    /// Nothing could be written; the URL works on.
    pub async fn remove(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Result<bool, InstanceError> {
        let service = service.clone();
        let (public, seen, stays) = (None, None, Stays::Nothing);
        self.ask(user, |user, caller| Order::Remove {
            user,
            service,
            public,
            seen,
            stays,
            caller,
        })
        .await
    }

    /// The same by public number.
    ///
    /// # Errors
    /// Nothing could be written; the URL works on.
    pub async fn remove_public(&self, public: &PublicId) -> Result<bool, InstanceError> {
        let Some(row) = self.rooms.store.instance_by_public(public).await? else {
            return Ok(false);
        };
        self.remove_seen(&row, None, Stays::Nothing).await
    }

    /// Removes this instance, with `seen` only if it is in one of these states; what stays of it holds for
    /// the next one of its user and service. `false` when it is gone.
    ///
    /// # Errors
    /// As [`Instances::remove`], or it is in another state than was seen.
    pub async fn remove_seen(
        &self,
        row: &InstanceRow,
        seen: Option<Vec<Version>>,
        stays: Stays,
    ) -> Result<bool, InstanceError> {
        let (service, public) = (row.service.clone(), Some(row.public.clone()));
        self.ask(&row.user, |user, caller| Order::Remove {
            user,
            service,
            public,
            seen,
            stays,
            caller,
        })
        .await
    }

    /// Removes a user with their tokens, instances and credentials, in the store and in the table.
    /// `false` when there was no such user.
    ///
    /// # Errors
    /// Nothing could be written; everything of theirs works on.
    pub async fn forget_user(&self, user: &UserId) -> Result<bool, InstanceError> {
        self.ask(user, |user, caller| Order::Forget { user, caller })
            .await
    }

    /// Switches a user off, since this time, or on. Off, none of their URLs and tokens opens
    /// anything when this answers, and what goes on in their name is told to end; what is theirs
    /// stays, and is back when they are on again. `None` when there is no such user, else whether
    /// that has changed anything.
    ///
    /// # Errors
    /// Nothing could be written; all is as it was.
    pub async fn switch_user(
        &self,
        user: &UserId,
        off: Option<Timestamp>,
    ) -> Result<Option<bool>, InstanceError> {
        self.ask(user, |user, caller| Order::Switch { user, off, caller })
            .await
    }

    /// The user's instance of a service, without its id.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn row_of(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Result<Option<InstanceRow>, StoreError> {
        let stored = self.rooms.store.instance_of(user, service).await?;
        Ok(stored.map(|stored| stored.row))
    }

    /// The user's instance of a service, with its id.
    ///
    /// # Errors
    /// The store did not answer, or the id does not open.
    pub async fn of(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Result<Option<OwnInstance>, InstanceError> {
        let stored = self.rooms.store.instance_of(user, service).await?;
        stored.map(|stored| self.own(stored)).transpose()
    }

    /// All instances of the user, with their ids, in the order of their services.
    ///
    /// # Errors
    /// The store did not answer, or an id does not open.
    pub async fn of_user(&self, user: &UserId) -> Result<Vec<OwnInstance>, InstanceError> {
        let all = self.rooms.store.instances_of(user).await?;
        all.into_iter().map(|stored| self.own(stored)).collect()
    }

    /// All of a user, in the order of their services, without their ids: for the operator.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn rows_of_user(&self, user: &UserId) -> Result<Vec<InstanceRow>, StoreError> {
        let all = self.rooms.store.instances_of(user).await?;
        let mut rows: Vec<_> = all.into_iter().map(|stored| stored.row).collect();
        for row in &mut rows {
            row.last_used_at = self.last_use(row);
        }
        Ok(rows)
    }
    /// The one look-up that every refusal makes, so that unknown, disabled and foreign cost the
    /// same. Waits its turn in a bounded queue; what it finds is for nobody.
    pub async fn refuse(&self, hash: &[u8; 32]) {
        if let Ok(_turn) = self.rooms.refusals.acquire().await {
            // Never there, so that one that is there (disabled, foreign) takes no longer.
            let nobodys = hash.map(|byte| !byte);
            let _ = self.rooms.store.instance_by_hash(&nobodys).await;
        }
    }

    /// How many instances each service has, active or not.
    pub fn counts(&self) -> BTreeMap<ServiceType, u64> {
        let counts = self
            .rooms
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(s, c)| (s.clone(), *c))
            .collect()
    }

    /// Writes the last uses that the store has not got yet. A crash loses those since the last
    /// call.
    ///
    /// # Errors
    /// Not all could be written; the next call tries again.
    pub async fn flush_last_used(&self) -> Result<(), StoreError> {
        let mut fresh = Vec::new();
        for shard in 0..SHARDS {
            fresh.extend(self.table().sweep(shard, |entry| {
                entry.unflushed().map(|at| (Arc::clone(entry), at))
            }));
            if shard % SWEEP_STEP == 0 {
                tokio::task::yield_now().await;
            }
        }
        for batch in fresh.chunks(USES_PAGE) {
            let used = batch
                .iter()
                .map(|(entry, at)| (entry.public.clone(), *at))
                .collect();
            self.rooms.store.touch_instances(used).await?;
            for (entry, at) in batch {
                entry.set_flushed(*at);
            }
        }
        Ok(())
    }

    /// Sends an order to the lane of its user, and waits for what becomes of it.
    pub(super) async fn ask<T>(
        &self,
        user: &UserId,
        order: impl FnOnce(UserId, oneshot::Sender<Result<T, InstanceError>>) -> Order,
    ) -> Result<T, InstanceError> {
        let (caller, answer) = oneshot::channel();
        let lane = &self.lanes[self.rooms.lane_of(user)];
        let sent = lane.send(order(user.clone(), caller)).await;
        sent.map_err(|_| InstanceError::Stopped)?;
        answer.await.unwrap_or(Err(InstanceError::Stopped))
    }

    fn own(&self, stored: StoredInstance) -> Result<OwnInstance, InstanceError> {
        Ok(OwnInstance {
            id: self.rooms.own_id(&stored)?,
            active: stored.row.is_active(Timestamp::now()),
            last_used_at: self.last_use(&stored.row),
            version: Version::of(&stored.row),
            credential: stored.row.credential,
            refused_since: self.refused_since(&stored.row),
            public: stored.row.public,
            service: stored.row.service,
            created_at: stored.row.created_at,
            label: stored.row.label,
            expires_at: stored.row.expires_at,
            disabled_at: stored.row.disabled_at,
            rotated_at: stored.row.rotated_at,
        })
    }

    /// The later of what the store and the table know.
    fn last_use(&self, row: &InstanceRow) -> Option<Timestamp> {
        let entry = self.table().get(&row.hash);
        row.last_used_at
            .max(entry.and_then(|entry| entry.last_used_at()))
    }
}

#[cfg(test)]
mod tests;
