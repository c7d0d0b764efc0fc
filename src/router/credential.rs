//! May the credential of an instance be sent now?

use super::pass::Pass;
use super::path::Target;
use super::refusal::Refusal;
use super::service::Service;
use super::tables::ServiceEntry;
use crate::oauth::NotReady;

impl Service {
    /// Waits until it can: only for an OAuth token that has expired, and is being refreshed.
    pub(super) async fn credential(
        &self,
        instance: &Pass,
        service: &ServiceEntry,
        target: &Target<'_>,
    ) -> Result<(), Refusal> {
        if instance.credential_expired_at().is_some() {
            return Err(Refusal::CredentialExpired);
        }
        let ready = self.oauth.ready(instance, &service.spec).await;
        // Much may have happened while it waited.
        if instance.is_revoked() {
            return Err(self.over(instance, target));
        }
        ready.map_err(|why| match why {
            NotReady::Expired => Refusal::CredentialExpired,
            NotReady::Later(pause) => Refusal::CredentialUnavailable(pause),
        })
    }
}
