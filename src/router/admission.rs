//! May a request go on to its service now: is there room for it, and may its credential be sent?

use http::Request;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::body::Incoming;

use super::path::Target;
use super::refusal::Refusal;
use super::service::{Found, Service};
use super::stream;
use crate::limits::Admitted;
use crate::oauth::NotReady;

impl Service {
    /// Gives the request back when it may, with what it takes up.
    pub(super) async fn admission(
        &self,
        request: Request<Incoming>,
        found: &Found,
        target: &Target<'_>,
    ) -> Result<(Request<Incoming>, Option<Admitted>), Refusal> {
        match self.admit(found, &request) {
            Ok(admitted) => {
                let request = self.credential(request, found, target).await?;
                Ok((request, admitted))
            }
            Err(Refusal::RateLimited(denied)) => {
                Err(Refusal::limited_call(denied, request, &found.service.spec).await)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Is there room for it now, and somebody to answer it?
    fn admit(
        &self,
        found: &Found,
        request: &Request<Incoming>,
    ) -> Result<Option<Admitted>, Refusal> {
        if !self.flight.takes_requests() {
            return Err(Refusal::Draining);
        }
        let seat = || found.instance.seat(&self.limits);
        let asks_for_stream = stream::is_asked_for(request);
        let admitted = self
            .limits
            .admit(&found.service.spec, seat, asks_for_stream)
            .map_err(Refusal::RateLimited)?;
        let headers = request.headers();
        // What is sent on is made of the decoded body (RFC 9112 §6.1).
        let coding = headers.get(TRANSFER_ENCODING).map(HeaderValue::as_bytes);
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(Refusal::BadCoding);
        }
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > self.config.max_body) {
            return Err(Refusal::BodyTooLarge(self.config.max_body));
        }
        Ok(admitted)
    }

    /// Gives the request back as soon as it can: it waits only for an OAuth token that has expired, and is
    /// being refreshed.
    async fn credential(
        &self,
        request: Request<Incoming>,
        found: &Found,
        target: &Target<'_>,
    ) -> Result<Request<Incoming>, Refusal> {
        let (instance, spec) = (&found.instance, &found.service.spec);
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
