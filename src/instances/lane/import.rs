//! Many instances at once, from another system: one call of the store for all of a lane.

use std::sync::Arc;

use super::{Answer, NewTerms, TRIES};
use crate::ids::{InstanceId, InstancePrefix, ServiceType, Timestamp, UserId};
use crate::instances::entry::InstanceEntry;
use crate::instances::error::InstanceError;
use crate::instances::registry::Rooms;
use crate::store::{Added, NewInstance, StoredInstance};
use crate::vault::Credential;

/// An instance that comes from another system, its credential checked.
pub struct Incoming {
    /// Owner.
    pub user: UserId,
    /// Of what.
    pub service: ServiceType,
    /// First part of a new id.
    pub prefix: InstancePrefix,
    /// What to seal.
    pub fields: Credential,
    /// The id it has there, when it is to go on here.
    pub alias: Option<InstanceId>,
    /// Label and expiry.
    pub terms: NewTerms,
    /// Since when.
    pub created_at: Timestamp,
}

/// What became of one of them.
#[derive(Debug)]
pub enum Imported {
    /// It is there, under this id.
    Added {
        /// The secret id.
        id: InstanceId,
    },
    /// Its user had one of that service before, and nothing has changed.
    Exists {
        /// The id of that one.
        id: InstanceId,
        /// It is the id that was asked for, or none was.
        is_same: bool,
    },
    /// Another instance has the id that was asked for.
    AliasTaken,
    /// Its user does not exist.
    NoUser,
    /// Its user is switched off.
    UserDisabled,
}

impl Rooms {
    /// Adds what is not there yet, and answers what became of each, in their order.
    pub(super) async fn import(&self, rows: &[Incoming], add_users: bool) -> Answer<Vec<Imported>> {
        let missing_users = add_users.then(Timestamp::now);
        let mut done: Vec<Option<Imported>> = rows.iter().map(|_| None).collect();
        for _ in 0..TRIES {
            let open: Vec<usize> = (0..rows.len()).filter(|at| done[*at].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let (mut ids, mut new) = (Vec::new(), Vec::new());
            for at in &open {
                let (id, sealed) = self.arrived(&rows[*at])?;
                ids.push(id);
                new.push(sealed);
            }
            let added = self.store.add_instances(new.clone(), missing_users).await?;
            let (mut shown, mut taken) = (Vec::new(), Vec::new());
            let all = open.into_iter().zip(ids).zip(new).zip(added);
            for (((at, id), new), added) in all {
                match added {
                    Added::Done => {
                        shown.push(new);
                        done[at] = Some(Imported::Added { id });
                    }
                    Added::NoUser => done[at] = Some(Imported::NoUser),
                    Added::UserDisabled => done[at] = Some(Imported::UserDisabled),
                    Added::Taken => taken.push(at),
                }
            }
            // Before anything else can fail: what the store has is in the table.
            self.show_new(shown);
            for at in taken {
                done[at] = self.in_the_way(&rows[at]).await?;
            }
        }
        let all: Option<Vec<Imported>> = done.into_iter().collect();
        all.ok_or(InstanceError::Contended)
    }

    fn arrived(&self, row: &Incoming) -> Answer<(InstanceId, NewInstance)> {
        let id = match &row.alias {
            Some(alias) => InstanceId::new(alias.expose().to_owned()),
            None => self.new_id(&row.user, &row.prefix)?,
        };
        let (user, service, fields) = (&row.user, &row.service, row.fields.expose());
        let sealed = self.sealed(user, service, &id, fields, &row.terms, row.created_at)?;
        Ok((id, sealed))
    }

    /// Why it could not be added; `None` when nothing but its public number was in use.
    async fn in_the_way(&self, row: &Incoming) -> Answer<Option<Imported>> {
        let alias = row.alias.as_ref();
        let alias = alias.map(|alias| self.vault.instance_hash(alias.expose()));
        if let Some(stored) = self.store.instance_of(&row.user, &row.service).await? {
            return Ok(Some(Imported::Exists {
                id: self.own_id(&stored)?,
                is_same: alias.is_none_or(|hash| hash == stored.row.hash),
            }));
        }
        let Some(hash) = alias else { return Ok(None) };
        let other = self.store.instance_by_hash(&hash).await?;
        Ok(other.map(|_| Imported::AliasTaken))
    }

    /// Puts instances that were just added into the table, each map of it once.
    fn show_new(&self, added: Vec<NewInstance>) {
        let now = Timestamp::now();
        let mut entries = Vec::with_capacity(added.len());
        for new in added {
            self.count(&new.service, |count| count + 1);
            let stored = StoredInstance::from(new);
            if stored.row.is_active(now) {
                let hash = stored.row.hash;
                let entry = Arc::new(InstanceEntry::new(stored, self.vault.clone()));
                self.ends(&entry.user).set(hash, None, entry.expires_at());
                entries.push((hash, entry));
            }
        }
        for older in self.table.fill(entries) {
            self.revoke(&older);
        }
    }
}
