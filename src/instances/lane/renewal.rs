//! What is heard of a credential outside: its provider gives another one in its place, or it is of no
//! use any more.
//!
//! Both hold only for the very credential that was asked about: one that its user has given meanwhile
//! is left alone.

use std::sync::Arc;

use super::{Answer, TRIES, place};
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::instances::entry::InstanceEntry;
use crate::instances::error::InstanceError;
use crate::instances::registry::Rooms;
use crate::store::{CredentialState, InstanceRow, StoredInstance};
use crate::vault::{Credential, Purpose};

/// What became of a credential that was to be refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The new one is durable, and injected from now on.
    Done,
    /// What was there is still there.
    Same,
    /// Another one is there, and injected from now on.
    Other,
    /// There is no such instance.
    Gone,
}

impl Rooms {
    /// First the store, then the table, so that nothing is injected that a crash would lose.
    pub(super) async fn renew(
        &self,
        user: &UserId,
        service: &ServiceType,
        public: &PublicId,
        before: &Credential,
        after: Option<Credential>,
    ) -> Answer<Renewed> {
        let Some(stored) = self.meant(user, service, Some(public)).await? else {
            return Ok(Renewed::Gone);
        };
        // What is not in the table yet would come in with what is stored now.
        self.bring(&stored);
        let place = place(&stored.row, Purpose::Credential);
        let there = self.vault.open_fields(&place, &stored.sealed_credential)?;
        if there.expose() != before.expose() {
            let StoredInstance {
                row,
                sealed_credential,
                ..
            } = stored;
            self.put_in(&row, sealed_credential, there, row.credential);
            return Ok(Renewed::Other);
        }
        let Some(after) = after else {
            return Ok(Renewed::Same);
        };
        let sealed = self.vault.seal_fields(&place, after.expose())?;
        let (at, write) = (Timestamp::now(), sealed.clone());
        if !self.store.replace_credential(public, write, at).await? {
            return Ok(Renewed::Gone);
        }
        self.put_in(&stored.row, sealed, after, CredentialState::Good);
        Ok(Renewed::Done)
    }

    /// `false` when it has another credential or URL by now, or that was known.
    pub(super) async fn expire(
        &self,
        instance: &Arc<InstanceEntry>,
        credential: &Credential,
        since: Timestamp,
    ) -> Answer<bool> {
        let (user, service) = (&instance.user, &instance.service);
        let state = CredentialState::Expired { since };
        for _ in 0..TRIES {
            let Some(stored) = self.meant(user, service, Some(&instance.public)).await? else {
                return Ok(false);
            };
            // What its user changes puts another entry in its place, what its provider gives does not; and
            // all of it in this lane.
            let entry = self.table.get(&stored.row.hash);
            let is_same = entry.is_some_and(|entry| Arc::ptr_eq(&entry, instance));
            if !is_same || stored.row.credential.expired_at().is_some() {
                return Ok(false);
            }
            let (public, sealed) = (&stored.row.public, &stored.sealed_credential);
            let there = self
                .vault
                .open_fields(&place(&stored.row, Purpose::Credential), sealed)?;
            if there.expose() != credential.expose() {
                return Ok(false);
            }
            // Another master key may have sealed it anew meanwhile: then it is read again.
            if self
                .store
                .set_credential_state(public, sealed, state)
                .await?
            {
                instance.set_credential_state(state);
                return Ok(true);
            }
        }
        Err(InstanceError::Contended)
    }

    /// One that is disabled or has expired has no entry.
    fn put_in(
        &self,
        row: &InstanceRow,
        sealed: Vec<u8>,
        credential: Credential,
        state: CredentialState,
    ) {
        if let Some(entry) = self.table.get(&row.hash) {
            entry.refresh(sealed, credential);
            entry.set_credential_state(state);
        }
    }
}
