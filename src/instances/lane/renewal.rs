//! What is heard of a credential outside: its provider gives another one in its place, or it is of no
//! use any more.
//!
//! Both hold only for the very credential that was asked about: one that its user has given meanwhile
//! is left alone.

use super::{Answer, TRIES, place};
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::instances::error::InstanceError;
use crate::instances::registry::Rooms;
use crate::store::{CredentialState, StoredInstance};
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
        let place = place(&stored.row, Purpose::Credential);
        let there = self.vault.open_fields(&place, &stored.sealed_credential)?;
        if there.expose() != before.expose() {
            self.put_in(&stored, stored.sealed_credential.clone(), there);
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
        self.put_in(&stored, sealed, after);
        Ok(Renewed::Done)
    }

    /// `false` when it is another credential, or none.
    pub(super) async fn judge(
        &self,
        user: &UserId,
        service: &ServiceType,
        public: &PublicId,
        of: &Credential,
        state: CredentialState,
    ) -> Answer<bool> {
        for _ in 0..TRIES {
            let Some(stored) = self.meant(user, service, Some(public)).await? else {
                return Ok(false);
            };
            let place = place(&stored.row, Purpose::Credential);
            let there = self.vault.open_fields(&place, &stored.sealed_credential)?;
            if there.expose() != of.expose() {
                return Ok(false);
            }
            // It may be sealed anew in between, which changes nothing of it.
            let sealed = &stored.sealed_credential;
            if self
                .store
                .set_credential_state(public, sealed, state)
                .await?
            {
                if let Some(entry) = self.table.get(&stored.row.hash) {
                    entry.set_credential_state(state);
                }
                return Ok(true);
            }
        }
        Err(InstanceError::Contended)
    }

    /// One that is disabled or has expired has no entry.
    fn put_in(&self, stored: &StoredInstance, sealed: Vec<u8>, credential: Credential) {
        if let Some(entry) = self.table.get(&stored.row.hash) {
            entry.refresh(sealed, credential);
            entry.set_credential_state(CredentialState::Good);
        }
    }
}
