//! What clients that look for OAuth are told.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response};

use super::headers::REQUEST_ID;
use super::path::Target;
use super::refusal::Refusal;
use super::resource;
use super::service::Service;
use super::stream::Body;
use crate::ids::ServiceType;

impl Service {
    /// What an instance of this service is as an OAuth resource. Nobody looks whether there is such an
    /// instance.
    pub(super) fn metadata(
        &self,
        method: &Method,
        target: &Target<'_>,
        id: &HeaderValue,
    ) -> Result<Response<Body>, Refusal> {
        let asked = ServiceType::parse(target.service).ok();
        let services = self.services.load();
        let service = asked.and_then(|service| services.get(&service));
        let demands =
            service.is_some_and(|it| self.config.require_auth_all || it.spec.require_auth);
        let resource = self.users.identity().resource();
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let Some(resource) = resource.filter(|_| demands && reads) else {
            return Err(Refusal::NoDiscovery);
        };
        let text = resource::metadata(&self.config.public_url, target, &resource);
        let mut response = Response::new(Body::fixed(Bytes::from(text)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, id.clone());
        Ok(response)
    }
}
