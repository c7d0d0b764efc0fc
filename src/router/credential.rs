//! May the credential of an instance be sent now?

use http::Request;
use hyper::body::Incoming;

use super::pass::Pass;
use super::path::Target;
use super::refusal::Refusal;
use super::service::Service;
use super::tables::ServiceEntry;
use crate::oauth::NotReady;

impl Service {
    /// Gives the request back as soon as it can: it waits only for an OAuth token that has expired, and is
    /// being refreshed.
    pub(super) async fn credential(
        &self,
        request: Request<Incoming>,
        instance: &Pass,
        service: &ServiceEntry,
        target: &Target<'_>,
    ) -> Result<Request<Incoming>, Refusal> {
        let spec = &service.spec;
        if instance.credential_expired_at().is_some() {
            return Err(Refusal::expired(request, spec).await);
        }
        let ready = self.oauth.ready(instance.instance(), spec).await;
        // Much may have happened while it waited.
        if instance.is_revoked() {
            return Err(self.over(instance, target));
        }
        match ready {
            Ok(()) if instance.credential_expired_at().is_none() => Ok(request),
            Ok(()) | Err(NotReady::Expired) => Err(Refusal::expired(request, spec).await),
            Err(NotReady::Later(pause)) => Err(Refusal::CredentialUnavailable(pause)),
        }
    }
}
