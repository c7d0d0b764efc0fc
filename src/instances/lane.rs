//! One of the tasks that own the rows: does what the handle asks, one thing after another.
//!
//! Each user belongs to one lane, so that all changes of a user's instances are in order, while
//! those of different users share the store's commits. First the store, then the table, then the
//! answer. A caller that goes away does not stop what it asked for.
//!
//! A lane also ends the entries of its users whose time has come (`terms.rs`), and it takes many
//! instances at once (`import.rs`). What is heard of credentials comes here as well (`renewal.rs`).

mod credential;
mod import;
mod renewal;
mod terms;

use std::sync::Arc;

pub use import::{Imported, Incoming};
pub use renewal::Renewed;

use tokio::sync::{mpsc, oneshot};

use crate::failpoint;
use crate::ids::{InstanceId, InstancePrefix, Label, PublicId, ServiceType, Timestamp, UserId};
use crate::instances::asker::Asker;
use crate::instances::change::Change;
use crate::instances::endings::Ending;
use crate::instances::entry::InstanceEntry;
use crate::instances::error::InstanceError;
use crate::instances::id::{instance_id, public_id};
use crate::instances::registry::{Granted, Rooms};
use crate::instances::version::{self, Version};
use crate::store::{Added, InstanceRow, NewInstance, Rotation, Stays, StoredInstance};
use crate::vault::{Credential, Fields, Place, Purpose, random};

type Answer<T> = Result<T, InstanceError>;

/// How often a change is tried again that another daemon on the same database came before.
const TRIES: usize = 4;

/// What a lane is asked to do, and who waits for it.
pub(super) enum Order {
    /// Make an instance, or give it another credential.
    Grant {
        /// Owner.
        user: UserId,
        /// Of what.
        service: ServiceType,
        /// First part of a new id.
        prefix: InstancePrefix,
        /// What to seal.
        fields: Credential,
        /// What a new one is under; one that is there keeps its terms.
        terms: NewTerms,
        /// Who must still be there.
        asker: Asker,
        /// Who waits.
        caller: oneshot::Sender<Answer<Granted>>,
    },
    /// Give it another id.
    Rotate {
        /// Owner.
        user: UserId,
        /// Of what.
        service: ServiceType,
        /// First part of the new id.
        prefix: InstancePrefix,
        /// Only if it still has this number.
        public: Option<PublicId>,
        /// Only if it is in one of these states.
        seen: Option<Vec<Version>>,
        /// Who waits.
        caller: oneshot::Sender<Answer<Option<Granted>>>,
    },
    /// Change its terms.
    Change {
        /// Owner.
        user: UserId,
        /// Of what.
        service: ServiceType,
        /// Only if it still has this number.
        public: Option<PublicId>,
        /// What to change.
        change: Change,
        /// Only if it is in one of these states.
        seen: Option<Vec<Version>>,
        /// Who waits.
        caller: oneshot::Sender<Answer<Option<InstanceRow>>>,
    },
    /// Add those of many users, all of this lane.
    Import {
        /// What is to be added.
        rows: Vec<Incoming>,
        /// And their users, where they are missing.
        add_users: bool,
        /// Who waits.
        caller: oneshot::Sender<Answer<Vec<Imported>>>,
    },
    /// Put what a provider gives in the place of what it gave before, if that is still there.
    Renew {
        /// Owner.
        user: UserId,
        /// Of what.
        service: ServiceType,
        /// Which.
        public: PublicId,
        /// What was there.
        before: Arc<Credential>,
        /// What takes its place; without it the entry gets what the store has.
        after: Option<Credential>,
        /// Who waits.
        caller: oneshot::Sender<Answer<Renewed>>,
    },
    /// Say that its credential is of no use any more, if both are still these.
    Expire {
        /// As it was asked about.
        instance: Arc<InstanceEntry>,
        /// What it held.
        credential: Arc<Credential>,
        /// From when on.
        since: Timestamp,
        /// Who waits.
        caller: oneshot::Sender<Answer<bool>>,
    },
    /// Remove it.
    Remove {
        /// Owner.
        user: UserId,
        /// Of what.
        service: ServiceType,
        /// Only if it still has this number.
        public: Option<PublicId>,
        /// Only if it is in one of these states.
        seen: Option<Vec<Version>>,
        /// What holds for the next one.
        stays: Stays,
        /// Who waits.
        caller: oneshot::Sender<Answer<bool>>,
    },
    /// Switch the user off, since this time, or on.
    Switch {
        /// Who.
        user: UserId,
        /// Since when.
        off: Option<Timestamp>,
        /// Who waits.
        caller: oneshot::Sender<Answer<Option<bool>>>,
    },
    /// Remove the user with all that is theirs.
    Forget {
        /// Who.
        user: UserId,
        /// Who waits.
        caller: oneshot::Sender<Answer<bool>>,
    },
    /// Do what another daemon has said of one.
    Follow {
        /// Owner.
        user: UserId,
        /// Of what.
        service: ServiceType,
        /// Where it stands in the table.
        hash: [u8; 32],
        /// What was said.
        ending: Ending,
        /// Who waits.
        caller: oneshot::Sender<Answer<()>>,
    },
    /// Say when all that was asked for before is done.
    Settle {
        /// Who waits.
        caller: oneshot::Sender<()>,
    },
}

/// What is said of an instance when it is made.
#[derive(Clone, Debug, Default)]
pub struct NewTerms {
    /// What people call it.
    pub label: Option<Label>,
    /// From when on it must not answer.
    pub expires_at: Option<Timestamp>,
}

/// A lane's life: ends when all handles are gone.
pub(super) async fn run(rooms: Arc<Rooms>, lane: usize, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = terms::next(&rooms, lane, &mut orders).await {
        // A caller that went away does not want to know: hence no look at what `send` says.
        match order {
            Order::Grant {
                user,
                service,
                prefix,
                fields,
                terms,
                asker,
                caller,
            } => {
                let granted = rooms.grant(&user, &service, &prefix, &fields, &terms, &asker);
                let _ = caller.send(granted.await);
            }
            Order::Rotate {
                user,
                service,
                prefix,
                public,
                seen,
                caller,
            } => {
                let only = (public.as_ref(), seen.as_deref());
                let rotated = rooms.rotate(&user, &service, &prefix, only);
                let _ = caller.send(rotated.await);
            }
            Order::Change {
                user,
                service,
                public,
                change,
                seen,
                caller,
            } => {
                let changed =
                    rooms.change(&user, &service, public.as_ref(), &change, seen.as_deref());
                let _ = caller.send(changed.await);
            }
            Order::Import {
                rows,
                add_users,
                caller,
            } => {
                let _ = caller.send(rooms.import(&rows, add_users).await);
            }
            Order::Renew {
                user,
                service,
                public,
                before,
                after,
                caller,
            } => {
                let renewed = rooms.renew(&user, &service, &public, &before, after);
                let _ = caller.send(renewed.await);
            }
            Order::Expire {
                instance,
                credential,
                since,
                caller,
            } => {
                let _ = caller.send(rooms.expire(&instance, &credential, since).await);
            }
            Order::Remove {
                user,
                service,
                public,
                seen,
                stays,
                caller,
            } => {
                let only = (public.as_ref(), seen.as_deref());
                let _ = caller.send(rooms.remove(&user, &service, only, stays).await);
            }
            Order::Switch { user, off, caller } => {
                let _ = caller.send(rooms.switch(&user, off).await);
            }
            Order::Forget { user, caller } => {
                let _ = caller.send(rooms.forget(&user).await);
            }
            Order::Follow {
                user,
                service,
                hash,
                ending,
                caller,
            } => {
                let followed = rooms.follow(&user, &service, &hash, &ending);
                let _ = caller.send(followed.await);
            }
            Order::Settle { caller } => {
                let _ = caller.send(());
            }
        }
    }
}

impl Rooms {
    async fn grant(
        &self,
        user: &UserId,
        service: &ServiceType,
        prefix: &InstancePrefix,
        fields: &Credential,
        terms: &NewTerms,
        asker: &Asker,
    ) -> Answer<Granted> {
        // Users go and are switched off in this lane, too: what is seen here holds until it is done.
        asker.judge(user, self.store.user(user).await?.as_ref())?;
        for _ in 0..TRIES {
            let granted = match self.store.instance_of(user, service).await? {
                Some(stored) if stored.row.owner_disabled => {
                    return Err(InstanceError::UserDisabled(user.clone()));
                }
                Some(stored) => self.replace(stored, fields).await?,
                None => self.create(user, service, prefix, fields, terms).await?,
            };
            if let Some(granted) = granted {
                return Ok(granted);
            }
        }
        Err(InstanceError::Contended)
    }

    /// `None` when there is one already.
    async fn create(
        &self,
        user: &UserId,
        service: &ServiceType,
        prefix: &InstancePrefix,
        fields: &Credential,
        terms: &NewTerms,
    ) -> Answer<Option<Granted>> {
        let id = self.new_id(user, prefix)?;
        let now = Timestamp::now();
        let mut new = self.sealed(user, service, &id, fields.expose(), terms, now)?;
        // What was laid down for the one that its owner has removed: nobody undoes that so.
        if let Some(kept) = self.store.kept_terms(user, service).await? {
            new.expires_at = new.expires_at.or(kept.expires_at);
            new.disabled_at = kept.disabled_at;
        }
        failpoint::reach("instance.before_add");
        match self.store.add_instance(new.clone()).await? {
            Added::NoUser => return Err(InstanceError::UnknownUser(user.clone())),
            Added::UserDisabled => return Err(InstanceError::UserDisabled(user.clone())),
            Added::Taken => return Ok(None),
            Added::Done => {}
        }
        failpoint::reach("instance.added");
        self.count(service, |count| count + 1);
        let (public, stored) = (new.public.clone(), StoredInstance::from(new));
        let active = stored.row.is_active(Timestamp::now());
        self.show(stored, None);
        failpoint::reach("instance.shown");
        Ok(Some(Granted {
            id,
            public,
            created: true,
            active,
        }))
    }

    /// A new instance as the store gets it, with a public number of its own.
    fn sealed(
        &self,
        user: &UserId,
        service: &ServiceType,
        id: &InstanceId,
        fields: &Fields,
        terms: &NewTerms,
        created_at: Timestamp,
    ) -> Answer<NewInstance> {
        let public = public_id(&random()?);
        let place = |purpose| Place {
            purpose,
            user,
            service,
            public: &public,
        };
        let (id_place, place) = (place(Purpose::InstanceId), place(Purpose::Credential));
        let sealed_id = self.vault.seal_id(&id_place, id)?;
        let sealed_credential = self.vault.seal_fields(&place, fields)?;
        Ok(NewInstance {
            user: user.clone(),
            service: service.clone(),
            hash: self.vault.instance_hash(id.expose()),
            sealed_id,
            sealed_credential,
            created_at,
            label: terms.label.clone(),
            expires_at: terms.expires_at,
            disabled_at: None,
            public,
        })
    }

    async fn rotate(
        &self,
        user: &UserId,
        service: &ServiceType,
        prefix: &InstancePrefix,
        (only, seen): (Option<&PublicId>, Option<&[Version]>),
    ) -> Answer<Option<Granted>> {
        for _ in 0..TRIES {
            let Some(mut stored) = self.meant(user, service, only).await? else {
                return Ok(None);
            };
            version::admits(seen, &stored.row)?;
            let id = self.new_id(user, prefix)?;
            let sealed_id = self
                .vault
                .seal_id(&place(&stored.row, Purpose::InstanceId), &id)?;
            let public = stored.row.public.clone();
            let rotation = Rotation {
                public: public.clone(),
                old_hash: stored.row.hash,
                new_hash: self.vault.instance_hash(id.expose()),
                sealed_id,
                at: Timestamp::now(),
            };
            failpoint::reach("instance.before_rotate");
            if self.store.rotate_instance(rotation.clone()).await? {
                failpoint::reach("instance.rotated");
                let older = self.hide(&rotation.old_hash);
                failpoint::reach("instance.old_ended");
                stored.row.hash = rotation.new_hash;
                stored.row.rotated_at = Some(rotation.at);
                let active = stored.row.is_active(Timestamp::now());
                self.show(stored, older);
                failpoint::reach("instance.rotation_shown");
                return Ok(Some(Granted {
                    id,
                    public,
                    created: false,
                    active,
                }));
            }
        }
        Err(InstanceError::Contended)
    }

    async fn remove(
        &self,
        user: &UserId,
        service: &ServiceType,
        (only, seen): (Option<&PublicId>, Option<&[Version]>),
        stays: Stays,
    ) -> Answer<bool> {
        let Some(stored) = self.meant(user, service, only).await? else {
            return Ok(false);
        };
        version::admits(seen, &stored.row)?;
        failpoint::reach("instance.before_remove");
        let gone = self
            .store
            .remove_instance(&stored.row.public, stays)
            .await?;
        failpoint::reach("instance.removed");
        if let Some(row) = &gone {
            self.hide(&row.hash);
            failpoint::reach("instance.ended");
            self.count(&row.service, |count| count.saturating_sub(1));
        }
        Ok(gone.is_some())
    }

    async fn switch(&self, user: &UserId, off: Option<Timestamp>) -> Answer<Option<bool>> {
        // Read first, so that nothing can fail between store and table: no other lane changes them.
        let all = self.store.instances_of(user).await?;
        let changed = self.store.switch_user(user, off).await?;
        if changed.is_none() {
            return Ok(None);
        }
        let mut used = Vec::new();
        for mut stored in all {
            stored.row.owner_disabled = off.is_some();
            if !stored.row.is_active(Timestamp::now()) {
                let older = self.hide(&stored.row.hash);
                used.extend(
                    older.and_then(|older| Some((older.public.clone(), older.unflushed()?))),
                );
            } else if self.table.get(&stored.row.hash).is_none() {
                self.show(stored, None);
            }
        }
        // What was used last is not known by anybody else now; it is no reason for a refusal.
        if !used.is_empty()
            && let Err(error) = self.store.touch_instances(used).await
        {
            tracing::warn!(%error, "cannot write times of last use");
        }
        Ok(changed)
    }

    async fn forget(&self, user: &UserId) -> Answer<bool> {
        failpoint::reach("user.before_remove");
        let Some(gone) = self.store.remove_user(user).await? else {
            return Ok(false);
        };
        failpoint::reach("user.removed");
        for row in gone {
            self.hide(&row.hash);
            self.count(&row.service, |count| count.saturating_sub(1));
        }
        failpoint::reach("user.ended");
        Ok(true)
    }

    /// The user's instance of a service, if it is the one that is meant.
    async fn meant(
        &self,
        user: &UserId,
        service: &ServiceType,
        only: Option<&PublicId>,
    ) -> Answer<Option<StoredInstance>> {
        let stored = self.store.instance_of(user, service).await?;
        Ok(stored.filter(|stored| only.is_none_or(|public| *public == stored.row.public)))
    }

    /// The id of a stored instance, for its owner.
    pub(super) fn own_id(&self, stored: &StoredInstance) -> Answer<InstanceId> {
        let place = place(&stored.row, Purpose::InstanceId);
        Ok(self.vault.open_id(&place, &stored.sealed_id)?)
    }

    fn new_id(&self, user: &UserId, prefix: &InstancePrefix) -> Answer<InstanceId> {
        Ok(instance_id(prefix, &self.vault.user_tag(user), &random()?))
    }

    /// Puts what the store holds now into the table, and ends what stood there before, or stood
    /// elsewhere for the same instance.
    pub(super) fn show(&self, stored: StoredInstance, elsewhere: Option<Arc<InstanceEntry>>) {
        let Some((entry, replaced)) = self.put(stored) else {
            return;
        };
        for older in elsewhere.into_iter().chain(replaced) {
            entry.inherit(&older);
            self.revoke(&older);
        }
    }

    /// The same after its user has given another credential: what was begun with the old one, and ends by
    /// itself, may finish.
    pub(super) fn show_replaced(&self, stored: StoredInstance) {
        let Some((entry, Some(older))) = self.put(stored) else {
            return;
        };
        entry.inherit(&older);
        entry.replace(&older);
        self.endings.tell(Ending::Replaced(older.public.clone()));
    }

    /// A new entry and the one in whose place it stands; `None` for one that must not answer.
    fn put(
        &self,
        stored: StoredInstance,
    ) -> Option<(Arc<InstanceEntry>, Option<Arc<InstanceEntry>>)> {
        let hash = stored.row.hash;
        if !stored.row.is_active(Timestamp::now()) {
            self.hide(&hash);
            return None;
        }
        let entry = Arc::new(InstanceEntry::new(stored, self.vault.clone()));
        let replaced = self.table.put(&hash, Arc::clone(&entry));
        let before = replaced.as_ref().and_then(|older| older.expires_at());
        self.ends(&entry.user).set(hash, before, entry.expires_at());
        Some((entry, replaced))
    }

    /// Takes an entry out of the table and ends it.
    pub(super) fn hide(&self, hash: &[u8; 32]) -> Option<Arc<InstanceEntry>> {
        let older = self.table.take(hash)?;
        self.ends(&older.user).set(*hash, older.expires_at(), None);
        self.revoke(&older);
        Some(older)
    }
}

/// Where a secret of an instance lies.
pub(super) fn place(row: &InstanceRow, purpose: Purpose) -> Place<'_> {
    Place {
        purpose,
        user: &row.user,
        service: &row.service,
        public: &row.public,
    }
}
