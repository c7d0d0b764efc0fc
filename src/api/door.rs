//! What every call passes on its way in and out: who is asking, how much it may send, and errors
//! as problem JSON with the request's id.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http_body_util::BodyExt;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use serde::de::DeserializeOwned;

use super::ends::AskedWith;
use super::error::ApiError;
use super::pages::IsPage;
use super::state::Api;
use super::{objects, unread};
use crate::audit::{Actor, By, Visit, words};
use crate::ids::UserId;
use crate::problem::Problem;
use crate::users::{AuthError, Caller, LiveToken, Peer, Shown, bearer};

/// Largest body of a call over TCP, in bytes: a key and a few fields.
const BODY_MAX_TCP: usize = 256 * 1024;
/// Largest body of a call over the socket: the specs of thousands of apps with their environments.
const BODY_MAX_SOCKET: usize = 256 * 1024 * 1024;
/// Says which daemon answers; the CLI compares.
const DAEMON_HEADER: &str = "x-mcpm-daemon";

/// Which way a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket, whose peer was checked: the operator.
    Socket,
    /// The router's address: a token says who it is.
    Tcp,
}

/// The id under which a call stands in the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Gives the call its id, and errors their form.
pub async fn dress(mut request: Request, next: Next) -> Response {
    let id = match request
        .headers()
        .get("x-mcpm-request-id")
        .map(HeaderValue::to_str)
    {
        // The router has given one already. Over the socket anybody's text may stand there.
        Some(Ok(id)) if crate::problem::is_request_id(id) => id.to_owned(),
        _ => crate::problem::request_id(),
    };
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        response = problem(error, &id);
    } else if response.status().is_client_error()
        && !is_json(&response)
        && response.extensions().get::<IsPage>().is_none()
    {
        // axum's own refusals: no such path, no such method, a path that is no text.
        let status = response.status();
        let no_such = "there is no such call; `/api/v1/openapi.json` lists them";
        let (code, detail) = match status {
            http::StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", no_such),
            http::StatusCode::NOT_FOUND => ("not_found", no_such),
            _ => (
                "bad_request",
                "the path is not UTF-8 text once it is decoded",
            ),
        };
        let allow = response.headers().get(http::header::ALLOW).cloned();
        response = problem(ApiError::new(status, code, detail), &id);
        if let Some(allow) = allow {
            response.headers_mut().insert(http::header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    headers.insert(
        DAEMON_HEADER,
        HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
    );
    headers
        .entry(http::header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn is_json(response: &Response) -> bool {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("json"))
}

fn problem(error: ApiError, id: &str) -> Response {
    let body = Problem::new(error.status, error.code, error.detail, id);
    let bytes = serde_json::to_vec(&body).expect("a problem holds nothing that JSON can't");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if let Some(seconds) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status == http::StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The operator: over the socket, or with an admin token.
#[derive(Clone, Copy, Debug)]
pub struct Admin;

/// A user, by token.
#[derive(Clone, Debug)]
pub struct User(pub UserId);

/// A user, and the token that says so.
#[derive(Clone, Debug)]
pub struct UserToken {
    /// Who.
    pub user: UserId,
    /// By which.
    pub token: Arc<LiveToken>,
}

/// Anyone who has shown who they are.
#[derive(Clone, Copy, Debug)]
pub struct Known;

/// Who shows a token, left in the call's extensions for those who tell of it.
async fn caller(parts: &mut Parts, api: &Api) -> Result<Option<Shown>, ApiError> {
    if !parts.headers.contains_key(AUTHORIZATION) {
        return Ok(None);
    }
    let Some(token) = bearer(&parts.headers) else {
        return Err(ApiError::unauthorized());
    };
    // None over the socket, where nobody guesses.
    let peer = parts.extensions.get::<Peer>().copied();
    let suspects = api.users.suspects();
    let _turn = match peer {
        Some(Peer(from)) => suspects.turn(from).await,
        None => None,
    };
    match api.users.authenticate(token).await {
        Ok(shown) => {
            if let Some(asked) = parts.extensions.get::<AskedWith>() {
                asked.note(&shown.token);
            }
            if let (true, Caller::User(user)) = (shown.is_new, &shown.caller) {
                let actor = Actor::User(user.clone());
                api.audit.first_seen(user, &by(parts, actor));
            }
            // A call that asks twice who it is counts once.
            if parts.extensions.insert(shown.clone()).is_none() && peer.is_some() {
                admit(parts, api, &shown)?;
            }
            Ok(Some(shown))
        }
        Err(AuthError::Unknown) => {
            let guess = peer.and_then(|Peer(from)| suspects.wrong(from));
            let refused = guess.map_or_else(ApiError::unauthorized, ApiError::guessing);
            if let Some(visit) = visit(parts) {
                api.audit.refused(words::API_REFUSED, refused.code, visit);
                api.audit.wrong_token(visit);
            }
            Err(refused)
        }
        Err(AuthError::Store(error)) => Err(error.into()),
        Err(AuthError::Unchecked) => Err(ApiError::later(
            "identity_unavailable",
            "the keys of the identity provider cannot be had just now; try again later",
        )),
        Err(AuthError::LacksScope(user)) => {
            let refused = ApiError::new(
                http::StatusCode::FORBIDDEN,
                "insufficient_scope",
                "the token lacks a scope that is needed here",
            );
            tell_refusal(parts, api, refused.code, Actor::User(user));
            Err(refused)
        }
    }
}

/// Refuses a user's call, when there are too many of them.
fn admit(parts: &Parts, api: &Api, shown: &Shown) -> Result<(), ApiError> {
    let Caller::User(user) = &shown.caller else {
        return Ok(());
    };
    api.limits.call(user).map_err(|wait| {
        let detail = "there are too many calls of this user; come again after the time in \
                      `Retry-After`";
        let refused = ApiError::rate_limited(wait, detail);
        tell_refusal(parts, api, refused.code, actor(shown));
        refused
    })
}

/// A user who has shown a token.
async fn user(parts: &mut Parts, api: &Api) -> Result<UserToken, ApiError> {
    let shown = caller(parts, api).await?;
    let shown = shown.ok_or_else(ApiError::unauthorized)?;
    let token = shown.token;
    match shown.caller {
        Caller::User(user) => Ok(UserToken { user, token }),
        Caller::Admin => {
            let detail = "this call is a user's own; with an admin token use `/api/v1/admin/…`";
            Err(forbidden(parts, api, detail))
        }
    }
}

/// A call over TCP, as it is told of; `None` for one that came by the socket.
fn visit(parts: &Parts) -> Option<Visit<'_>> {
    let Peer(address) = *parts.extensions.get::<Peer>()?;
    let RequestId(request_id) = parts.extensions.get::<RequestId>()?;
    Some(Visit {
        address,
        request_id,
    })
}

/// Refuses somebody who is known and may not.
fn forbidden(parts: &Parts, api: &Api, detail: &str) -> ApiError {
    let refused = ApiError::forbidden(detail);
    let who = parts.extensions.get::<Shown>();
    let who = who.map_or(Actor::Nobody, actor);
    tell_refusal(parts, api, refused.code, who);
    refused
}

/// A call over TCP was refused to somebody who is known.
fn tell_refusal(parts: &Parts, api: &Api, code: &'static str, who: Actor) {
    if visit(parts).is_some() {
        let by = by(parts, who);
        api.audit.refused_caller(words::API_REFUSED, code, &by);
    }
}

fn actor(shown: &Shown) -> Actor {
    match &shown.caller {
        Caller::User(user) => Actor::User(user.clone()),
        Caller::Admin => Actor::AdminToken(shown.token.number),
    }
}

fn by(parts: &Parts, actor: Actor) -> By {
    let request_id = parts.extensions.get::<RequestId>();
    let request_id = request_id.map(|RequestId(id)| id.clone());
    By::caller(actor, parts.extensions.get::<Peer>().copied(), request_id)
}

fn over_socket(parts: &Parts) -> bool {
    parts.extensions.get::<Door>() == Some(&Door::Socket)
}

impl FromRequestParts<Api> for Admin {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        if over_socket(parts) {
            return Ok(Self);
        }
        match caller(parts, api).await?.map(|shown| shown.caller) {
            Some(Caller::Admin) => Ok(Self),
            Some(Caller::User(_)) => Err(forbidden(parts, api, "this call is for operators")),
            None => Err(ApiError::unauthorized()),
        }
    }
}

impl FromRequestParts<Api> for User {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        Ok(Self(user(parts, api).await?.user))
    }
}

impl FromRequestParts<Api> for UserToken {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        user(parts, api).await
    }
}

/// The token that was shown. Stands behind [`Admin`], which finds out; nothing over the socket.
pub struct ShownToken(pub Option<Arc<LiveToken>>);

impl FromRequestParts<Api> for ShownToken {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let shown = parts.extensions.get::<Shown>();
        Ok(Self(shown.map(|shown| shown.token.clone())))
    }
}

impl FromRequestParts<Api> for Known {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        if over_socket(parts) || caller(parts, api).await?.is_some() {
            return Ok(Self);
        }
        Err(ApiError::unauthorized())
    }
}

/// Who calls, for the audit log. Stands behind [`Admin`] or [`User`], which find out.
impl FromRequestParts<Api> for By {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let who = match parts.extensions.get::<Shown>() {
            Some(shown) => actor(shown),
            None if over_socket(parts) => Actor::Operator,
            None => Actor::Nobody,
        };
        Ok(by(parts, who))
    }
}

/// Whoever opens an address that is open to all, so that a refusal is counted, not told one by one.
pub(super) struct Visitor(Option<(Peer, String)>);

impl Visitor {
    /// They were refused, for a reason that has this code.
    pub(super) fn refused(&self, api: &Api, code: &'static str) {
        if let Some((Peer(address), request_id)) = &self.0 {
            let visit = Visit {
                address: *address,
                request_id,
            };
            api.audit.refused(words::API_REFUSED, code, visit);
        }
    }
}

impl FromRequestParts<Api> for Visitor {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<Peer>().copied();
        let id = parts.extensions.get::<RequestId>();
        Ok(Self(peer.zip(id.map(|RequestId(id)| id.clone()))))
    }
}

/// A query whose parameters are known and of their types.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(refused) => {
                let detail = unread::query(&refused.body_text());
                Err(ApiError::bad_request(detail))
            }
        }
    }
}

/// A JSON body within the limit. An absent one counts as `{}`.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &Api) -> Result<Self, ApiError> {
        let socket = request.extensions().get::<Door>() == Some(&Door::Socket);
        let limit = if socket {
            BODY_MAX_SOCKET
        } else {
            BODY_MAX_TCP
        };
        let body = match Limited::new(request.into_body(), limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let detail = format!("the body is larger than {limit} bytes");
                let status = http::StatusCode::PAYLOAD_TOO_LARGE;
                return Err(ApiError::new(status, "body_too_large", detail));
            }
            Err(_) => return Err(ApiError::bad_request("the body did not arrive whole")),
        };
        let body = if body.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            body
        };
        match objects::read(&body) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(ApiError::bad_request(unread::body(&error))),
        }
    }
}

/// Answers JSON.
pub struct Reply<T>(pub T);

impl<T: serde::Serialize> axum::response::IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => {
                let mut response = Response::new(Body::from(bytes));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}

/// Puts the door into each call that comes through it.
pub async fn came_through(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(door);
    next.run(request).await
}
