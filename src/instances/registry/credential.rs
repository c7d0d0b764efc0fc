//! What is heard of credentials outside, and what whoever asks there must know.

use std::sync::Arc;

use super::Instances;
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::instances::entry::InstanceEntry;
use crate::instances::error::InstanceError;
use crate::instances::lane::{Order, Renewed, place};
use crate::store::StoredInstance;
use crate::vault::{Credential, Purpose};

/// A stored credential, and whose it is.
pub struct OwnCredential {
    /// Which instance.
    pub public: PublicId,
    /// Of what.
    pub service: ServiceType,
    /// What is stored.
    pub fields: Credential,
}

impl Instances {
    /// Puts `after`, which a provider has given in the place of `before`, into the store and then into
    /// the table, if `before` is still there; what streams goes on. Without `after` the table gets what
    /// the store has.
    ///
    /// # Errors
    /// Nothing could be written.
    pub async fn renew(
        &self,
        user: &UserId,
        service: &ServiceType,
        public: &PublicId,
        before: &Arc<Credential>,
        after: Option<Credential>,
    ) -> Result<Renewed, InstanceError> {
        let (service, public) = (service.clone(), public.clone());
        let before = Arc::clone(before);
        self.ask(user, |user, caller| Order::Renew {
            user,
            service,
            public,
            before,
            after,
            caller,
        })
        .await
    }

    /// The external service takes an instance's credential no longer, or its provider has taken it back: from
    /// when this answers, its requests are told so, and its service gets none of them. `false`, and nothing has
    /// changed, when that was known, or it has another credential or URL by now.
    ///
    /// # Errors
    /// Nothing could be written.
    pub async fn expire_credential(
        &self,
        instance: &Arc<InstanceEntry>,
        credential: &Arc<Credential>,
        since: Timestamp,
    ) -> Result<bool, InstanceError> {
        let owner = instance.user.clone();
        let (instance, credential) = (Arc::clone(instance), Arc::clone(credential));
        self.ask(&owner, |_, caller| Order::Expire {
            instance,
            credential,
            since,
            caller,
        })
        .await
    }

    /// What is stored for the user's instance of a service.
    ///
    /// # Errors
    /// The store did not answer, or what it has does not open.
    pub async fn credential_of(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Result<Option<OwnCredential>, InstanceError> {
        let stored = self.rooms.store.instance_of(user, service).await?;
        stored.map(|stored| self.opened(stored)).transpose()
    }

    /// What is stored for all instances of a user. One that does not open is passed over.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn credentials_of(&self, user: &UserId) -> Result<Vec<OwnCredential>, InstanceError> {
        let all = self.rooms.store.instances_of(user).await?;
        let opened = all.into_iter().map(|stored| self.opened(stored));
        Ok(opened.filter_map(Result::ok).collect())
    }

    fn opened(&self, stored: StoredInstance) -> Result<OwnCredential, InstanceError> {
        let place = place(&stored.row, Purpose::Credential);
        let vault = &self.rooms.vault;
        let fields = vault.open_fields(&place, &stored.sealed_credential)?;
        Ok(OwnCredential {
            fields,
            public: stored.row.public,
            service: stored.row.service,
        })
    }
}
