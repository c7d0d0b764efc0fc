//! What the router itself answers: problem JSON (RFC 9457), one shape for all.
//!
//! A status is the one that real clients survive (measured with the official SDKs). An answer shows
//! nothing of the instance that was asked for.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::headers::REQUEST_ID;
use super::rpc::{self, Call};
use super::stream::Body;
use crate::config::spec::{Protocol, ServiceSpec};
use crate::limits::Denied;
use crate::problem::Problem;

/// What a method that is never served could be instead (RFC 9110 §15.5.6); a service may take fewer.
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Why a request is not answered by a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such instance: unknown, malformed, disabled, expired, of another service, of another
    /// user. One and the same answer.
    UnknownInstance,
    /// There is no OAuth here; the text clients expect to such questions is JSON.
    NoDiscovery,
    /// `require_auth`, and no token was shown, or one that is not valid.
    Token {
        /// One was shown.
        shown: bool,
        /// Where a better one is to be had.
        challenge: HeaderValue,
    },
    /// A wrong URL or token, as too many of this address before.
    Guessing(Duration),
    /// The owner's token lacks a scope.
    Scope {
        /// Which, and where a better one is to be had.
        challenge: HeaderValue,
    },
    /// A token cannot be checked just now.
    Unchecked,
    /// `Host` is none of our names.
    UnknownHost,
    /// A page of another origin.
    ForeignOrigin,
    /// The rest of the path leaves the instance's part of it.
    BadPath,
    /// More than the instance, its user or the service may be sent.
    RateLimited(Denied),
    /// The body is larger than this many bytes.
    BodyTooLarge(u64),
    /// The client stopped sending its body.
    BodyTimeout,
    /// The body is not framed as HTTP is.
    BadBody,
    /// `TRACE` would show a service's headers to the client, `CONNECT` is for proxies of another kind.
    BadMethod,
    /// A transfer coding other than `chunked`.
    BadCoding,
    /// The service does not run, is not ready, or does not take connections.
    Unavailable,
    /// The service ended, or spoke nonsense, after the request was written.
    UpstreamFailed,
    /// No answer in time.
    UpstreamTimeout,
    /// The stored credential can't be put into a request.
    BadCredential,
    /// An OAuth token could not be refreshed; perhaps after this time.
    CredentialUnavailable(Duration),
    /// The external service takes the credential no longer.
    CredentialsExpired {
        /// Whose credential it is, for people.
        service: String,
    },
    /// No such session of this instance.
    UnknownSession(
        /// Of the request that named it, as it was spelt.
        Option<Box<str>>,
    ),
    /// An answer that is one JSON text, and larger than the router reads.
    AnswerTooLarge,
    /// A body that is no message of JSON-RPC.
    BadMessage {
        /// Of JSON-RPC.
        number: i32,
        /// What is wrong with it.
        why: String,
        /// Of the request, as it was spelt.
        id: Option<Box<str>>,
    },
    /// The same of a call, whose client takes an error status for the end.
    Call {
        /// Why.
        refusal: Box<Refusal>,
        /// What was called.
        call: Call,
    },
    /// The router is ending.
    Draining,
}

impl Refusal {
    /// What a request is told whose credential is taken no longer.
    pub(super) async fn expired(request: Request<Incoming>, spec: &ServiceSpec) -> Self {
        let service = spec.display_name.clone();
        let call = if may_be_rpc(&request, spec) {
            rpc::read(request).await
        } else {
            None
        };
        Self::CredentialsExpired { service }.of(call)
    }

    /// What a call is told; without one, the request.
    pub(super) fn of(self, call: Option<Call>) -> Self {
        match call {
            Some(call) => Self::Call {
                refusal: Box::new(self),
                call,
            },
            None => self,
        }
    }

    /// The same, as the client of this request survives it: an error status where it connects, and an
    /// error of the call where it has.
    pub(super) async fn limited_call(
        denied: Denied,
        request: Request<Incoming>,
        spec: &ServiceSpec,
    ) -> Self {
        let call = if may_be_rpc(&request, spec) && rpc::is_in_session(request.headers()) {
            rpc::read(request).await.filter(|call| !call.opens())
        } else {
            None
        };
        Self::RateLimited(denied).of(call)
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownInstance | Self::NoDiscovery => StatusCode::NOT_FOUND,
            Self::Token { .. } => StatusCode::UNAUTHORIZED,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::ForeignOrigin | Self::Scope { .. } => StatusCode::FORBIDDEN,
            Self::BadPath | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::BadMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadCoding => StatusCode::NOT_IMPLEMENTED,
            Self::UnknownSession(_) => StatusCode::NOT_FOUND,
            Self::BadMessage { .. } => StatusCode::BAD_REQUEST,
            Self::Call { .. } => StatusCode::OK,
            Self::RateLimited(_) | Self::Guessing(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::AnswerTooLarge => StatusCode::BAD_GATEWAY,
            Self::Unavailable | Self::Draining | Self::Unchecked => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::BadCredential | Self::CredentialsExpired { .. } => StatusCode::FORBIDDEN,
            Self::CredentialUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Stable names: programs read them.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::UnknownInstance => "unknown_instance",
            Self::NoDiscovery => "not_found",
            Self::Token { .. } => "unauthorized",
            Self::Guessing(_) => "guessing",
            Self::Scope { .. } => "insufficient_scope",
            Self::Unchecked => "identity_unavailable",
            Self::UnknownHost => "unknown_host",
            Self::ForeignOrigin => "foreign_origin",
            Self::BadPath => "bad_path",
            Self::AnswerTooLarge => "answer_too_large",
            Self::UnknownSession(_) => "unknown_session",
            Self::BadMessage { .. } => "bad_message",
            Self::Call { refusal, .. } => refusal.code(),
            Self::RateLimited(_) => "rate_limited",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BadBody => "bad_body",
            Self::BadMethod => "method_not_allowed",
            Self::BadCoding => "bad_transfer_coding",
            Self::Unavailable | Self::Draining => "service_unavailable",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::BadCredential | Self::CredentialsExpired { .. } => "credentials_expired",
            Self::CredentialUnavailable(_) => "credentials_unavailable",
        }
    }

    /// Is it ours or the service's fault, so that it counts as a failed request? All others are the
    /// client's, and no request of the instance.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Unavailable
            | Self::Draining
            | Self::UpstreamFailed
            | Self::AnswerTooLarge
            | Self::UpstreamTimeout
            | Self::CredentialUnavailable(_) => true,
            Self::Call { refusal, .. } => refusal.is_failure(),
            _ => false,
        }
    }

    /// Is it about what the client has done, so that the audit log counts it? Clients look for OAuth
    /// wherever they connect, and the rest is told as health, or in the log.
    pub(super) fn is_audited(&self) -> bool {
        match self {
            Self::UnknownInstance
            | Self::Token { .. }
            | Self::Scope { .. }
            | Self::Guessing(_)
            | Self::UnknownHost
            | Self::ForeignOrigin
            | Self::BadPath
            | Self::RateLimited(_)
            | Self::UnknownSession(_)
            | Self::BodyTooLarge(_)
            | Self::BadMethod
            | Self::BadCoding
            | Self::BadCredential
            | Self::CredentialsExpired { .. } => true,
            Self::Call { refusal, .. } => refusal.is_audited(),
            Self::NoDiscovery
            | Self::AnswerTooLarge
            | Self::BadMessage { .. }
            | Self::Unchecked
            | Self::BodyTimeout
            | Self::BadBody
            | Self::Unavailable
            | Self::UpstreamFailed
            | Self::UpstreamTimeout
            | Self::CredentialUnavailable(_)
            | Self::Draining => false,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::UnknownInstance => {
                "there is no such instance; copy the URL again, or ask for a new one".to_owned()
            }
            Self::NoDiscovery => {
                "there is no OAuth metadata here; the instance URL is enough".to_owned()
            }
            Self::Token { shown: false, .. } => {
                "this instance wants a token of its owner: `Authorization: Bearer mcpm_u_…`"
                    .to_owned()
            }
            Self::Token { shown: true, .. } => "the token is not valid".to_owned(),
            Self::Guessing(_) => {
                "too many wrong URLs and tokens have come from this address; copy the URL again: one \
                 that is right passes, wrong ones are looked at again after the time in `Retry-After`"
                    .to_owned()
            }
            Self::Scope { .. } => "the token lacks a scope that is needed here".to_owned(),
            Self::Unchecked => "the token cannot be checked just now; try again shortly".to_owned(),
            Self::UnknownHost => {
                "this host name is not one of ours; the operator can set it as `public_url`"
                    .to_owned()
            }
            Self::ForeignOrigin => "pages of this origin may not call this server".to_owned(),
            Self::BadPath => "a path to this service may hold no `..`".to_owned(),
            Self::AnswerTooLarge => "the service has answered with more than 16 MiB".to_owned(),
            Self::UnknownSession(_) => "Session not found".to_owned(),
            Self::BadMessage { why, .. } => why.clone(),
            Self::Call { refusal, .. } => refusal.detail(),
            Self::RateLimited(denied) => {
                let seconds = self.retry_after().unwrap_or(1);
                format!("{denied}; try again in {seconds} s")
            },
            Self::BodyTooLarge(max) => format!("a body may have {max} bytes at most"),
            Self::BodyTimeout => "the rest of the body did not arrive".to_owned(),
            Self::BadBody => "the body is not framed as HTTP says (RFC 9112 §7)".to_owned(),
            Self::BadMethod => "TRACE and CONNECT are not served here".to_owned(),
            Self::BadCoding => "send the body as it is, or in chunks".to_owned(),
            Self::Unavailable => "the service is not ready; try again shortly".to_owned(),
            Self::UpstreamFailed => {
                "the service ended before it answered; it may have done what was asked".to_owned()
            }
            Self::UpstreamTimeout => "the service did not answer in time".to_owned(),
            Self::BadCredential => {
                "the stored credential can't be used; hand it over again".to_owned()
            }
            Self::CredentialUnavailable(_) => {
                "the access token has expired, and another one cannot be had just now; try again \
                 shortly"
                    .to_owned()
            }
            Self::CredentialsExpired { service, .. } => format!(
                "{service} no longer accepts the credential of this instance; hand over a new one where \
                 you got this URL, which stays the same"
            ),
            Self::Draining => "the router is stopping; try again shortly".to_owned(),
        }
    }

    /// Whole seconds, at least 1 (RFC 9110 §10.2.3).
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited(Denied { wait, .. })
            | Self::Guessing(wait)
            | Self::CredentialUnavailable(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Some(seconds.max(1))
            }
            Self::Unavailable | Self::Draining | Self::UpstreamTimeout => Some(1),
            Self::Unchecked => Some(5),
            Self::Call { refusal, .. } => refusal.retry_after(),
            _ => None,
        }
    }

    /// As an error of JSON-RPC.
    fn number(&self) -> i32 {
        match self {
            Self::Unavailable | Self::Draining => rpc::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout => rpc::UPSTREAM_TIMEOUT,
            Self::RateLimited(_) | Self::Guessing(_) => rpc::RATE_LIMITED,
            Self::CredentialsExpired { .. } | Self::BadCredential => rpc::CREDENTIALS_EXPIRED,
            Self::UpstreamFailed | Self::AnswerTooLarge => rpc::UPSTREAM_FAILED,
            Self::CredentialUnavailable(_) => rpc::CREDENTIALS_UNAVAILABLE,
            Self::UnknownSession(_) => rpc::UNKNOWN_SESSION,
            Self::BadMessage { number, .. } => *number,
            Self::Call { refusal, .. } => refusal.number(),
            _ => rpc::INTERNAL,
        }
    }

    /// The same, as JSON. One that is like one of the SDKs' own has nothing beside it.
    pub(super) fn error(&self, request_id: &str) -> String {
        let (number, message) = (self.number(), &*self.detail());
        if matches!(self, Self::UnknownSession(_) | Self::BadMessage { .. }) {
            return serde_json::json!({ "code": number, "message": message }).to_string();
        }
        let error = rpc::Error {
            number,
            code: self.code(),
            message,
            request_id,
            retry_after: self.retry_after(),
        };
        error.json()
    }

    /// The answer.
    pub(super) fn response(&self, request_id: &HeaderValue) -> Response<Body> {
        let id = request_id.to_str().unwrap_or_default();
        match self {
            Self::Call { refusal, call } => {
                let text = call.refused(&refusal.error(id));
                return rpc_answer(self.status(), text, request_id);
            }
            Self::UnknownSession(call) | Self::BadMessage { id: call, .. } => {
                let text = rpc::answer(call.as_deref().unwrap_or("null"), &self.error(id));
                return rpc_answer(self.status(), Some(text), request_id);
            }
            _ => {}
        }
        let problem = Problem::new(self.status(), self.code(), self.detail(), id);
        let text = serde_json::to_vec(&problem).expect("a problem holds nothing that JSON can't");
        let mut response = Response::new(Body::fixed(Bytes::from(text)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let kind = match self {
            // What clients look for when they ask for OAuth metadata.
            Self::NoDiscovery => "application/json",
            _ => "application/problem+json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, request_id.clone());
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::BadMethod) {
            headers.insert(ALLOW, METHODS);
        }
        if let Self::Token { challenge, .. } | Self::Scope { challenge } = self {
            headers.insert(WWW_AUTHENTICATE, challenge.clone());
        }
        response
    }
}

/// Is it worth reading what was called?
fn may_be_rpc(request: &Request<Incoming>, spec: &ServiceSpec) -> bool {
    spec.protocol == Protocol::Mcp && *request.method() == Method::POST
}

/// The same as JSON-RPC: clients show an error of a call to people, and take an error status for the end.
fn rpc_answer(
    status: StatusCode,
    text: Option<String>,
    request_id: &HeaderValue,
) -> Response<Body> {
    let mut response = match text {
        Some(text) => {
            let mut response = Response::new(Body::fixed(Bytes::from(text)));
            *response.status_mut() = status;
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        None => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, request_id.clone());
    response
}
