//! The life of a request, one function per phase.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::header::{HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri, Version, request, response};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use tower::ServiceExt;

use super::cors;
use super::counted::Meter;
use super::drain::Flight;
use super::headers::{self, Facts, REQUEST_ID};
use super::hold;
use super::mcp::Sessions;
use super::origin::{self, Stranger};
use super::pass::Pass;
use super::path::{self, Route, Target};
use super::proxies::Scheme;
use super::refusal::Refusal;
use super::refused::Refused;
use super::serve::RouterConfig;
use super::stream::{self, Body, Cut, Fate, Place, RequestBody};
use super::tables::{ServiceEntry, Services};
use super::upgrade;
use super::upstream::{Lease, SendError};
use crate::access_log::{AccessLog, Record};
use crate::audit::{Audit, Visit, words};
use crate::config::spec::Protocol;
use crate::ids::Timestamp;
use crate::instances::{InstanceEntry, Instances, Tally};
use crate::limits::{Admitted, Limits, Seat, Slot};
use crate::metrics::ServiceCounts;
use crate::oauth::OAuth;
use crate::problem;
use crate::users::{Peer, Users};

/// Until the head of an answer: tools may work for minutes.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// All that a request needs.
pub(super) struct Service {
    pub(super) config: RouterConfig,
    pub(super) services: Arc<Services>,
    pub(super) instances: Instances,
    pub(super) users: Users,
    pub(super) limits: Limits,
    pub(super) audit: Audit,
    pub(super) oauth: OAuth,
    pub(super) sessions: Sessions,
    pub(super) refused: Arc<Refused>,
    pub(super) access_log: AccessLog,
    pub(super) api: axum::Router,
    pub(super) flight: Arc<Flight>,
    /// A proxy that does not introduce its connections has been told of.
    pub(super) complained: AtomicBool,
}

/// Why a request has no answer of its service.
enum Unsent {
    /// The service is not there.
    Refused(Refusal),
    /// It was, and the exchange failed.
    Failed(hyper::Error),
}

/// A request that is let through, without itself.
pub(super) struct Errand<'a> {
    pub(super) target: Target<'a>,
    pub(super) instance: Pass,
    pub(super) service: Arc<ServiceEntry>,
    pub(super) meter: Meter,
    /// Where it counts towards limits.
    pub(super) seat: Option<Arc<Seat>>,
    /// The stream that it has asked for.
    pub(super) slot: Option<Slot>,
    pub(super) id: &'a HeaderValue,
    pub(super) peer: IpAddr,
}

/// An instance and its service, which this caller may use.
pub(super) struct Found {
    pub(super) instance: Pass,
    pub(super) service: Arc<ServiceEntry>,
    /// Where the request counts.
    pub(super) tally: Arc<Tally>,
    /// Where it is told of.
    pub(super) record: Option<Arc<Record>>,
}

impl Service {
    /// Answers one request. Whatever is wrong becomes an answer.
    pub(super) async fn answer(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        peer: IpAddr,
    ) -> Response<Body> {
        let id = HeaderValue::try_from(problem::request_id()).expect("base32 is visible");
        let names = &self.config.names;
        let page = names.page(request.headers()).cloned();
        let client = self.config.proxies.client(peer, request.headers());
        if let Some(scheme) = client.scheme {
            request.extensions_mut().insert(scheme);
        }
        let peer = client.address;
        let record = self.access_log.begin(&id, peer, request.method());
        let routed = self.route(request, &id, peer, record.as_ref()).await;
        let mut response = match routed {
            Ok(response) => response,
            Err(refusal) => {
                tracing::debug!(request_id = ?id, code = refusal.code(), "refused");
                self.refused.count(refusal.code());
                if let Some(record) = &record {
                    record.refused(refusal.code());
                }
                if refusal.is_audited() {
                    let visit = visit(peer, &id);
                    self.audit
                        .refused(words::ROUTER_REFUSED, refusal.code(), visit);
                }
                refusal.response(&id)
            }
        };
        if names.has_pages() {
            cors::expose(response.headers_mut(), page);
        }
        match record {
            Some(record) => {
                record.answered(response.status().as_u16());
                response.map(|body| body.told(record))
            }
            None => response,
        }
    }

    async fn route(
        self: &Arc<Self>,
        request: Request<Incoming>,
        id: &HeaderValue,
        peer: IpAddr,
        record: Option<&Arc<Record>>,
    ) -> Result<Response<Body>, Refusal> {
        self.config
            .names
            .check(&request)
            .map_err(|stranger| match stranger {
                Stranger::Host => Refusal::UnknownHost,
                Stranger::Origin => Refusal::ForeignOrigin,
            })?;
        if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            return Err(Refusal::BadMethod);
        }
        if let Some(headers) = cors::preflight(&self.config.names, &request) {
            return Ok(cors::allow(headers, id));
        }
        // The path is read from a copy that outlives the request's parts; it is counted, not copied.
        let uri = request.uri().clone();
        match path::parse(uri.path()) {
            Route::Own => {
                if let Some(record) = record {
                    record.is_own(uri.path());
                }
                Ok(self.api(request, id, peer).await)
            }
            Route::Discovery => Err(Refusal::NoDiscovery),
            Route::Metadata(target) => self.metadata(request.method(), &target, id),
            Route::Instance(target) => {
                let visit = visit(peer, id);
                let mut found = self.find(&target, request.headers(), visit).await?;
                if let Some(record) = record {
                    let (public, service) = (&found.instance.public, &found.instance.service);
                    record.found(public, service, target.rest, target.id);
                    found.record = Some(Arc::clone(record));
                }
                let (tally, arrived) = (Arc::clone(&found.tally), Instant::now());
                let counts = Arc::clone(&found.service.counts);
                let going = counts.request();
                let ready = self.admission(request, &found, &target).await;
                let answered = match ready {
                    Ok((request, admitted)) => {
                        let forward = self.forward(request, &target, found, admitted, id, peer);
                        forward.await
                    }
                    Err(refusal) => Err(refusal),
                };
                count(&tally, &counts, &answered, arrived.elapsed());
                answered.map(|response| response.map(|body| body.going(going)))
            }
        }
    }

    async fn api(
        &self,
        mut request: Request<Incoming>,
        id: &HeaderValue,
        peer: IpAddr,
    ) -> Response<Body> {
        request.headers_mut().insert(REQUEST_ID, id.clone());
        request.extensions_mut().insert(Peer(peer));
        let answered = self
            .api
            .clone()
            .oneshot(request.map(axum::body::Body::new))
            .await;
        let mut response = answered
            .unwrap_or_else(|never| match never {})
            .map(Body::api);
        response.headers_mut().insert(REQUEST_ID, id.clone());
        response
    }

    async fn forward(
        self: &Arc<Self>,
        request: Request<Incoming>,
        target: &Target<'_>,
        found: Found,
        admitted: Option<Admitted>,
        id: &HeaderValue,
        peer: IpAddr,
    ) -> Result<Response<Body>, Refusal> {
        let Found {
            instance,
            service,
            tally,
            record,
        } = found;
        let (seat, slot) = match admitted {
            Some(Admitted { seat, slot }) => (Some(seat), slot),
            None => (None, None),
        };
        let limited = seat.clone().map(|seat| (self.limits.clone(), seat));
        let meter = Meter::new(tally, limited, record);
        if instance.touch(Timestamp::now()) {
            self.audit.first_use(&instance, visit(peer, id));
        }
        let errand = Errand {
            target: *target,
            instance,
            service,
            meter,
            seat,
            slot,
            id,
            peer,
        };
        if errand.service.spec.protocol == Protocol::Mcp && !upgrade::is_asked_for(&request) {
            self.mcp(request, errand).await
        } else {
            self.pass_on(request, errand).await
        }
    }

    /// Sends a request to its service as it is, and answers what comes back.
    pub(super) async fn pass_on(
        &self,
        mut request: Request<Incoming>,
        errand: Errand<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let client = upgrade::wanted(&mut request);
        let host = origin::host(&request).map(str::to_owned);
        let (parts, body) = request.into_parts();
        let mut parts = self.head(parts, host.as_deref(), &errand)?;
        if client.is_some() {
            upgrade::mark(&mut parts.headers);
        }
        let (pass, meter) = (errand.instance.clone(), errand.meter.clone());
        let (body, fate) = RequestBody::new(body, self.config.max_body, pass, meter);
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            // Else a GET's would be left out: for hyper it has none.
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
        let prepared = Request::from_parts(parts, body);
        let is_push = prepared.method() == Method::GET;
        let is_safe = prepared.method().is_safe();
        let (instance, target, service) = (&errand.instance, &errand.target, &errand.service);
        let sending = tokio::time::timeout(HEAD_TIMEOUT, self.send(prepared, instance));
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            () = instance.revoked() => return Err(self.over(instance, target)),
        };
        // What was asked on behalf of an instance that is no more is answered to nobody.
        if instance.is_revoked() {
            return Err(self.over(instance, target));
        }
        let (mut response, lease) = match sent {
            Ok(Ok(answered)) => answered,
            Ok(Err(Unsent::Refused(refusal))) => return Err(refusal),
            Ok(Err(Unsent::Failed(error))) => {
                return Err(failed(
                    &error,
                    &fate,
                    self.config.max_body,
                    service,
                    errand.id,
                ));
            }
            Err(_) => return Err(Refusal::UpstreamTimeout),
        };
        self.instances
            .answered(instance.instance(), &service.spec, response.status());

        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client else {
                return Err(Refusal::UpstreamFailed);
            };
            upgrade::join(
                client,
                &mut response,
                instance.clone().for_stream(),
                errand.meter.clone(),
                Place {
                    _slot: errand.slot,
                    _going: service.counts.stream(),
                },
                &self.flight,
            );
            let (parts, _) = response.into_parts();
            let mut parts = self.dress(parts, target, instance, service, errand.id);
            upgrade::mark(&mut parts.headers);
            return Ok(Response::from_parts(parts, Body::empty()));
        }
        let (parts, inner) = response.into_parts();
        let is_stream = headers::is_event_stream(&parts.headers);
        let parts = self.dress(parts, target, instance, service, errand.id);
        let body = if is_stream {
            let slot = self.open_stream(service, errand.seat.as_ref(), errand.slot, is_safe)?;
            let instance = if is_push {
                errand.instance.for_stream()
            } else {
                errand.instance
            };
            let end = stream::end(&instance, &self.flight, is_push);
            Body::event_stream(inner, lease, instance, errand.meter, end, Some(slot))
        } else {
            Body::answer(inner, lease, errand.instance, errand.meter)
        };
        Ok(Response::from_parts(parts, body))
    }

    /// The place of an answer that turns out to be a stream, unless it has one.
    pub(super) fn open_stream(
        &self,
        service: &ServiceEntry,
        seat: Option<&Arc<Seat>>,
        slot: Option<Slot>,
        is_safe: bool,
    ) -> Result<Place, Refusal> {
        let slot = match seat {
            Some(seat) if slot.is_none() => {
                let opened = self.limits.open_stream(&service.spec, seat, is_safe);
                Some(opened.map_err(Refusal::RateLimited)?)
            }
            _ => slot,
        };
        Ok(Place {
            _slot: slot,
            _going: service.counts.stream(),
        })
    }

    /// Sends a request to its service as soon as that is there. One that nothing was written of,
    /// because the service has just ended, waits for the next run.
    async fn send(
        &self,
        mut request: Request<RequestBody>,
        instance: &InstanceEntry,
    ) -> Result<(Response<Incoming>, Lease), Unsent> {
        let deadline = Instant::now() + self.config.hold;
        let mut stale = None;
        loop {
            let ready = hold::ready(
                &self.services,
                &self.flight,
                instance,
                stale.as_deref(),
                deadline,
            );
            let service = ready.await.map_err(Unsent::Refused)?;
            match service.upstream.send(request).await {
                Ok(answered) => return Ok(answered),
                Err(SendError::Connect(error, unsent)) => {
                    let service = &service.spec.service;
                    tracing::debug!(%service, %error, "a request waits for the next run");
                    request = *unsent;
                }
                Err(SendError::Exchange(error, _)) => return Err(Unsent::Failed(error)),
            }
            stale = Some(service);
        }
    }

    /// The head of a request as the service gets it. `host` is the one that the client has named.
    pub(super) fn head(
        &self,
        mut parts: request::Parts,
        host: Option<&str>,
        errand: &Errand<'_>,
    ) -> Result<request::Parts, Refusal> {
        let (instance, service) = (&errand.instance, &errand.service);
        let credential = instance.credential().map_err(|_| Refusal::BadCredential)?;
        let value = |name: &str| credential.expose().get(name);
        let path = path::upstream(&service.spec, &instance.public, errand.target.rest)
            .ok_or(Refusal::BadPath)?;
        parts.uri = match service.injection.query(parts.uri.query(), value) {
            Some(query) => Uri::try_from(format!("{path}?{query}")),
            None => Uri::try_from(path),
        }
        .map_err(|_| Refusal::BadPath)?;
        parts.version = Version::HTTP_11;
        let scheme = parts.extensions.get().map(|Scheme(scheme)| *scheme);
        parts.extensions.clear();
        let facts = Facts {
            instance: instance.public.as_str(),
            user: &instance.user,
            request_id: errand.id,
            peer: errand.peer,
            host,
            scheme: scheme.unwrap_or(self.config.names.scheme()),
        };
        let made = service
            .injection
            .request(std::mem::take(&mut parts.headers), &facts, value);
        parts.headers = made.map_err(|unfit| {
            let (instance, header) = (&instance.public, &unfit.0);
            tracing::error!(%instance, %header, "a credential has characters that no header may have");
            Refusal::BadCredential
        })?;
        Ok(parts)
    }

    /// The head of an answer as the client gets it.
    pub(super) fn dress(
        &self,
        mut parts: response::Parts,
        target: &Target<'_>,
        instance: &InstanceEntry,
        service: &ServiceEntry,
        id: &HeaderValue,
    ) -> response::Parts {
        let is_stream = headers::is_event_stream(&parts.headers);
        let paths = || {
            let public = format!("/{}/{}", target.id, target.service);
            (public, path::head(&service.spec, &instance.public))
        };
        headers::response(&mut parts.headers, paths, service.spec.port, is_stream);
        parts.headers.insert(REQUEST_ID, id.clone());
        // What was agreed with the service's connection says nothing about the client's.
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        parts
    }
}

/// What a request counts as: one that its service answered, whatever it said; or one that failed. What
/// the router refuses for the client's sake (no right, too many, too large) counts as nothing.
fn count(
    tally: &Arc<Tally>,
    counts: &ServiceCounts,
    answered: &Result<Response<Body>, Refusal>,
    took: Duration,
) {
    let is_failure = match answered {
        Ok(response) => response.status().is_server_error(),
        Err(refusal) if refusal.is_failure() => true,
        Err(_) => return,
    };
    tally.answered(took, is_failure);
    counts.answered(took, is_failure);
}

/// The request, as it is told of.
pub(super) fn visit(address: IpAddr, id: &HeaderValue) -> Visit<'_> {
    Visit {
        address,
        request_id: id.to_str().unwrap_or_default(),
    }
}

/// Which refusal a failed exchange is.
fn failed(
    error: &hyper::Error,
    fate: &Fate,
    max_body: u64,
    service: &ServiceEntry,
    id: &HeaderValue,
) -> Refusal {
    match fate.cut() {
        Some(Cut::TooLarge) => Refusal::BodyTooLarge(max_body),
        Some(Cut::Stalled) => Refusal::BodyTimeout,
        Some(Cut::Broken) => Refusal::BadBody,
        Some(Cut::Revoked) => Refusal::UnknownInstance,
        None => {
            let service = &service.spec.service;
            tracing::warn!(%service, request_id = ?id, error = %problem::chain(error), "a request failed");
            Refusal::UpstreamFailed
        }
    }
}
