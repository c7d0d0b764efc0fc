//! Another credential for an instance that is there, or the same one once more.

use super::{Answer, place};
use crate::failpoint;
use crate::ids::{InstanceId, Timestamp};
use crate::instances::registry::{Granted, Rooms};
use crate::store::{CredentialState, StoredInstance};
use crate::vault::{Credential, Purpose};

impl Rooms {
    /// `None` when it went away meanwhile.
    pub(super) async fn replace(
        &self,
        stored: StoredInstance,
        fields: &Credential,
    ) -> Answer<Option<Granted>> {
        // The id first: if it does not open, nothing may change.
        let id = self.own_id(&stored)?;
        let place = place(&stored.row, Purpose::Credential);
        let there = self.vault.open_fields(&place, &stored.sealed_credential);
        // What does not open is no credential any more, and may be replaced.
        if there.is_ok_and(|there| there.expose() == fields.expose()) {
            return self.confirm(&stored, id).await;
        }
        let sealed = self.vault.seal_fields(&place, fields.expose())?;
        let public = stored.row.public.clone();
        failpoint::reach("instance.before_replace");
        let changed = self
            .store
            .replace_credential(&public, sealed.clone(), Timestamp::now())
            .await?;
        if !changed {
            return Ok(None);
        }
        failpoint::reach("instance.replaced");
        let active = stored.row.is_active(Timestamp::now());
        let mut stored = StoredInstance {
            sealed_credential: sealed,
            ..stored
        };
        stored.row.credential = CredentialState::Good;
        self.show_replaced(stored);
        failpoint::reach("instance.replacement_shown");
        Ok(Some(Granted {
            id,
            public,
            created: false,
            active,
        }))
    }

    /// Its user has given again what is there: it is good, and what goes on goes on. `None` when another
    /// one is there by now.
    async fn confirm(&self, stored: &StoredInstance, id: InstanceId) -> Answer<Option<Granted>> {
        let (row, sealed) = (&stored.row, &stored.sealed_credential);
        let good = CredentialState::Good;
        let is_news = row.credential != good;
        if is_news
            && !self
                .store
                .set_credential_state(&row.public, sealed, good)
                .await?
        {
            return Ok(None);
        }
        if let Some(entry) = self.table.get(&row.hash) {
            entry.set_credential_state(good);
            entry.accepted();
        } else {
            // What is not in the table yet comes in with what is stored now.
            let mut stored = stored.clone();
            stored.row.credential = good;
            self.bring(&stored);
        }
        Ok(Some(Granted {
            id,
            public: row.public.clone(),
            created: false,
            active: row.is_active(Timestamp::now()),
        }))
    }
}
