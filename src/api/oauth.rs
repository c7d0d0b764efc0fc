//! OAuth 2: a user's way to their provider and back, in a browser.
//!
//! `POST …/oauth/start` gives a user an address of ours that counts once. Whoever opens it gets a
//! cookie and is sent to the provider, which sends them back to `/api/v1/oauth/callback`. There is no
//! token on that way: the address stands for the user who asked for it, and the cookie says that it is
//! the same browser that comes back. What is answered there shows no URL of an instance.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{COOKIE, HeaderMap, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use super::door::{Json, Query, Reply, UserToken, Visitor};
use super::error::{Answer, ApiError};
use super::instances::{asker, bad_credentials, check, told};
use super::pages::{Page, wants_html};
use super::services::find;
use super::state::Api;
use crate::audit::{By, words};
use crate::config::daemon_settings::origin;
use crate::config::spec::{AuthKind, OauthSpec, ServiceSpec};
use crate::ids::{ServiceType, Timestamp, UserId};
use crate::instances::{NewTerms, credentials};
use crate::oauth::{
    BeginError, Begun, LIFE, OpenError, Opened, ProviderError, Returned, Unfit, is_issuer, refusal,
};
use crate::problem::chain;
use crate::secret::Secret;
use crate::vault::Fields;

/// Path of the one address that has a use for the cookie.
const CALLBACK: &str = "/api/v1/oauth/callback";

/// Bytes of `returnTo`.
const RETURN_TO_MAX: usize = 2048;

/// `POST /api/v1/services/{service}/oauth/start`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartOauth {
    /// The fields of the service that its provider does not fill, by name.
    #[serde(default)]
    pub additional_credentials: BTreeMap<String, String>,
    /// Where the browser goes in the end, with `oauth=connected` or `oauth=failed` and a `code`. Of an
    /// origin in `cors`, or our own.
    #[serde(default)]
    pub return_to: Option<String>,
}

/// Where a user's browser begins.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthStart {
    /// Counts once, for the user who asked; a secret until it was opened.
    pub start_url: String,
    /// Until then the user must be back.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Answer of the callback to whoever wants JSON.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OauthConnected {
    /// Service type.
    pub service: String,
    /// Public number of the instance.
    pub instance: String,
    /// For people.
    pub message: String,
}

/// What a provider sends a browser back with. Whatever else it says is passed over.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CallbackQuery {
    /// What tokens are had for.
    code: Option<String>,
    /// Which way it is.
    #[param(required = true, nullable = false)]
    state: Option<String>,
    /// Who says so (RFC 9207).
    iss: Option<String>,
    /// Why there is no code.
    error: Option<String>,
}

/// Begins to connect me with the provider of a service: open `startUrl` in a browser.
#[utoipa::path(post, path = "/api/v1/services/{service}/oauth/start", tag = "services",
    params(("service" = String, Path)), request_body = StartOauth,
    responses((status = 200, body = OauthStart), (status = 400, body = Problem),
              (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn start(
    UserToken { user, token }: UserToken,
    by: By,
    State(api): State<Api>,
    Path(service): Path<String>,
    Json(request): Json<StartOauth>,
) -> Answer<Reply<OauthStart>> {
    let StartOauth {
        additional_credentials,
        return_to,
    } = request;
    let own: Fields = additional_credentials.into_iter().collect();
    let (_, spec) = find(&api, &service)?;
    if spec.auth.kind != AuthKind::Oauth2 {
        let detail =
            "this service does not use OAuth 2; `POST …/authenticate` takes its credential";
        let status = StatusCode::CONFLICT;
        return Err(ApiError::new(status, "not_oauth", detail));
    }
    if spec.auth.oauth.is_none() {
        return Err(unconfigured());
    }
    let fields = credentials::collect(&spec.auth, None, &own)
        .map_err(|error| bad_credentials(error.to_string()))?;
    let settings = api.in_force.load();
    let return_to = return_to
        .map(|to| may_return(to, &settings.public_url, &settings.pages))
        .transpose()?;
    let expires_at = later(Timestamp::now());
    let begun = Begun {
        user: user.clone(),
        asker: asker(&api, &user, Some(token)).await?,
        service: spec.service.clone(),
        fields: Secret::new(fields),
        return_to,
    };
    let ticket = api.oauth.begin(begun)?;
    let entry = by.entry(words::OAUTH_START);
    api.audit
        .record(entry.with_user(&user).with_service(&spec.service));
    Ok(Reply(OauthStart {
        start_url: format!(
            "{}/api/v1/oauth/start/{}",
            settings.public_url,
            ticket.expose()
        ),
        expires_at,
    }))
}

/// Sends a browser that opens a start address to the provider. Counts once.
#[utoipa::path(get, path = "/api/v1/oauth/start/{ticket}", tag = "services", security(()),
    params(("ticket" = String, Path, description = "The end of `startUrl`")),
    responses((status = 303, description = "On to the provider, with a cookie"),
              (status = 404, body = Problem), (status = 405, body = Problem),
              (status = 409, body = Problem)))]
pub(super) async fn open(
    State(api): State<Api>,
    visitor: Visitor,
    method: Method,
    headers: HeaderMap,
    Path(ticket): Path<String>,
) -> Response {
    // Those who look at links before people do must not use them up.
    if method != Method::GET || headers.contains_key("sec-purpose") {
        let detail = "this address is opened once, by a browser";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return ApiError::new(status, "method_not_allowed", detail).into_response();
    }
    let public_url = api.in_force.load().public_url.clone();
    let spec = |service: &ServiceType| of(&api, service).ok()?.auth.oauth;
    let opened = api.oauth.open(&ticket, &public_url, spec);
    match opened
        .map_err(ApiError::from)
        .and_then(|opened| onward(&public_url, &opened))
    {
        Ok(response) => response,
        Err(error) => {
            visitor.refused(&api, error.code);
            told_in_browser(&headers, Err(error))
        }
    }
}

/// The answer that sets the cookie and leads to the provider.
fn onward(public_url: &str, opened: &Opened) -> Answer<Response> {
    let broken = |_| ApiError::internal(&OpenError::Provider(ProviderError::Address));
    let (name, value) = (&opened.cookie, opened.value.expose());
    let cookie = cookie(public_url, name, value, LIFE.as_secs());
    let mut cookie = HeaderValue::try_from(cookie).map_err(broken)?;
    cookie.set_sensitive(true);
    let location = HeaderValue::try_from(&opened.location).map_err(broken)?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(SET_COOKIE, cookie);
    headers.insert(LOCATION, location);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// RFC 6265bis §4.1: for the callback alone, sent along when the provider leads there, and read by no
/// script.
fn cookie(public_url: &str, name: &str, value: &str, seconds: u64) -> String {
    let secure = if public_url.starts_with("https://") {
        "; Secure"
    } else {
        ""
    };
    format!("{name}={value}; Path={CALLBACK}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// Where providers send browsers back to: a page, or JSON for who wants it.
#[utoipa::path(get, path = "/api/v1/oauth/callback", tag = "services", security(()),
    params(CallbackQuery),
    responses((status = 200, body = OauthConnected),
              (status = 303, description = "Back to `returnTo`"),
              (status = 400, body = Problem), (status = 403, body = Problem),
              (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 502, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn callback(
    State(api): State<Api>,
    by: By,
    visitor: Visitor,
    headers: HeaderMap,
    Query(query): Query<CallbackQuery>,
) -> Response {
    let Some(state) = query.state.as_deref() else {
        let error = ApiError::bad_request("this address is opened by a provider, with a `state`");
        return told_in_browser(&headers, Err(error));
    };
    let cookies = headers.get_all(COOKIE).iter();
    let cookies = cookies.filter_map(|value| value.to_str().ok());
    let returned = match api.oauth.arrive(state, cookies) {
        Ok(returned) => returned,
        Err(unfit) => {
            let error = ApiError::from(unfit);
            visitor.refused(&api, error.code);
            return told_in_browser(&headers, Err(error));
        }
    };
    let Begun { user, service, .. } = &returned.begun;
    let by = by.on_behalf_of(user);
    let finished = finish(&api, &by, &returned, &query).await;
    if let Err(error) = &finished {
        let entry = by.entry(words::OAUTH_REFUSED).with_user(user);
        let entry = entry.with_service(service).with_detail(error.code);
        api.audit.record(entry);
    }
    match &returned.begun.return_to {
        Some(to) => back(to, service, &finished),
        None => told_in_browser(&headers, finished),
    }
}

/// Takes what a browser has brought back, for whoever has begun.
async fn finish(
    api: &Api,
    by: &By,
    returned: &Returned,
    query: &CallbackQuery,
) -> Answer<OauthConnected> {
    let Begun { user, asker, .. } = &returned.begun;
    // Before the provider is asked for anything, and once more when it is stored.
    asker.judge(user, api.users.get(user).await?.as_ref())?;
    let spec = of(api, &returned.begun.service)?;
    let name = &spec.display_name;
    let oauth = spec.auth.oauth.as_ref().ok_or_else(unconfigured)?;
    let code = judged(oauth, name, query)?;
    let fields = api.oauth.exchange(&spec, returned, code).await;
    let fields = fields.map_err(|error| refused(&spec, error))?;
    check(api, by, user, &spec, &fields).await?;
    let (service, prefix) = (&spec.service, &spec.prefix);
    let granted = api
        .instances
        .grant_under(
            user,
            service,
            prefix,
            Secret::new(fields),
            NewTerms::default(),
            asker.clone(),
        )
        .await?;
    let action = if granted.created {
        words::INSTANCE_CREATE
    } else {
        words::INSTANCE_CREDENTIAL
    };
    let public = &granted.public;
    for action in [words::OAUTH_FINISH, action] {
        api.audit.record(told(by, action, user, service, public));
    }
    let message = if granted.active {
        format!("{name} is connected for `{user}`; you can close this page")
    } else {
        format!("{name} is connected for `{user}`, whose instance is disabled or has expired")
    };
    Ok(OauthConnected {
        service: service.to_string(),
        instance: public.to_string(),
        message,
    })
}

/// The code, if it is this provider that gives one.
fn judged<'a>(oauth: &OauthSpec, name: &str, query: &'a CallbackQuery) -> Answer<&'a str> {
    // First who says it: what others say is no reason for anything.
    if !is_issuer(oauth, query.iss.as_deref()) {
        let detail = format!(
            "this answer is not of the provider of {name} (`iss`); the operator can compare \
             `issuer` of the service with what the provider says of itself"
        );
        let status = StatusCode::BAD_REQUEST;
        return Err(ApiError::new(status, "oauth_issuer", detail));
    }
    if let Some(error) = &query.error {
        let (code, detail) = if error == "access_denied" {
            let detail = format!("{name} was not connected: you have not agreed");
            ("oauth_denied", detail)
        } else {
            let said = refusal(error);
            let detail = format!("{name} was not connected: its provider says `{said}`");
            ("oauth_failed", detail)
        };
        return Err(ApiError::new(StatusCode::BAD_REQUEST, code, detail));
    }
    let code = query.code.as_deref().filter(|code| !code.is_empty());
    code.ok_or_else(|| ApiError::bad_request("the provider has given no `code`: begin again"))
}

/// Why there are no tokens. What only the operator can mend goes to the log.
fn refused(spec: &ServiceSpec, error: ProviderError) -> ApiError {
    let name = &spec.display_name;
    let (status, code, detail) = match &error {
        ProviderError::Over(_) => (
            StatusCode::BAD_REQUEST,
            "oauth_refused",
            format!("{name} was not connected: its provider does not take the code; begin again"),
        ),
        ProviderError::Unavailable(_) => (
            StatusCode::BAD_GATEWAY,
            "oauth_unavailable",
            format!("{name} was not connected: its provider does not answer; try again later"),
        ),
        ProviderError::Misfit(_) | ProviderError::Secret(_) | ProviderError::Address => (
            StatusCode::BAD_GATEWAY,
            "oauth_misconfigured",
            format!("{name} was not connected: its provider does not know us; ask the operator"),
        ),
    };
    let service = &spec.service;
    tracing::warn!(%service, error = %chain(&error), "a user could not be connected");
    ApiError::new(status, code, detail)
}

fn of(api: &Api, service: &ServiceType) -> Answer<ServiceSpec> {
    Ok(find(api, service.as_str())?.1)
}

fn unconfigured() -> ApiError {
    let detail =
        "this service has no `oauth` block that says where consent is given: ask its operator";
    ApiError::new(StatusCode::CONFLICT, "oauth_unconfigured", detail)
}

/// An answer for a browser, or for who wants JSON.
fn told_in_browser(headers: &HeaderMap, outcome: Answer<OauthConnected>) -> Response {
    if !wants_html(headers) {
        return match outcome {
            Ok(connected) => Reply(connected).into_response(),
            Err(error) => error.into_response(),
        };
    }
    match outcome {
        Ok(connected) => Page {
            status: StatusCode::OK,
            title: "Connected",
            text: &connected.message,
            code: None,
        }
        .into_response(),
        Err(error) => Page {
            status: error.status,
            title: "Not connected",
            text: &error.detail,
            code: Some(error.code),
        }
        .into_response(),
    }
}

/// Sends the browser where the product that has begun wants it.
fn back(to: &str, service: &ServiceType, finished: &Answer<OauthConnected>) -> Response {
    let sign = if to.contains('?') { '&' } else { '?' };
    let location = match finished {
        Ok(_) => format!("{to}{sign}oauth=connected&service={service}"),
        Err(error) => {
            let code = error.code;
            format!("{to}{sign}oauth=failed&service={service}&code={code}")
        }
    };
    let Ok(location) = HeaderValue::try_from(location) else {
        return ApiError::bad_request("`returnTo` is no address").into_response();
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(LOCATION, location);
    response
}

/// Only to pages that may call us, or to our own: whoever could choose would have a link of ours that
/// leads anywhere.
fn may_return(to: String, public_url: &str, pages: &[String]) -> Answer<String> {
    let plain = to.len() <= RETURN_TO_MAX && to.bytes().all(|b| b.is_ascii_graphic());
    let fit = plain && !to.contains(['#', '\\', '@']);
    let uri: Option<http::Uri> = to.parse().ok().filter(|_| fit);
    let whole = uri.and_then(|uri| {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        origin(&format!("{scheme}://{authority}"))
    });
    let known = whole.is_some_and(|whole| whole == public_url || pages.contains(&whole));
    if !known {
        let detail = "`returnTo` is no address of an origin in `cors`, nor our own";
        return Err(ApiError::bad_request(detail));
    }
    Ok(to)
}

fn later(now: Timestamp) -> Timestamp {
    let life = i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_add(life))
}

/// Takes back what a user has consented to for this instance, or for all of theirs: read before they
/// are removed, since then it is gone.
pub(super) fn revoke(api: &Api, gone: impl IntoIterator<Item = crate::instances::OwnCredential>) {
    api.oauth.revoke(gone, |service| of(api, service).ok());
}

/// What is stored for an instance that is about to be removed; nothing when it cannot be read, which
/// keeps nobody from removing it.
pub(super) async fn before_removal(
    api: &Api,
    user: &UserId,
    service: &ServiceType,
) -> Option<crate::instances::OwnCredential> {
    let uses = of(api, service).is_ok_and(|spec| spec.auth.oauth.is_some());
    if !uses {
        return None;
    }
    let found = api.instances.credential_of(user, service).await;
    found.ok().flatten()
}

impl From<Unfit> for ApiError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Unknown => Self::not_found("oauth_unknown", unfit.to_string()),
            Unfit::OtherBrowser => Self::new(
                StatusCode::FORBIDDEN,
                "oauth_other_browser",
                unfit.to_string(),
            ),
        }
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Unfit(unfit) => unfit.into(),
            OpenError::NoProvider => unconfigured(),
            other => Self::internal(&other),
        }
    }
}

impl From<BeginError> for ApiError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::TooMany(_) => Self::later("oauth_too_many", error.to_string()),
            BeginError::Random(_) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_the_callback_alone() {
        assert_eq!(
            cookie("https://a.example", "n", "v", 600),
            "n=v; Path=/api/v1/oauth/callback; Max-Age=600; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(!cookie("http://127.0.0.1:8080", "n", "v", 600).contains("Secure"));
    }

    #[test]
    fn browsers_are_sent_back_to_known_origins_only() {
        let pages = ["https://app.example".to_owned()];
        let goes = |to: &str| may_return(to.to_owned(), "https://mcp.example", &pages).is_ok();
        assert!(goes("https://app.example/done?x=1"));
        assert!(goes("https://app.example") && goes("https://mcp.example/x"));
        for bad in [
            "https://app.example.evil.example/",
            "https://app.example@evil.example/",
            "http://app.example/",
            "https://app.example:444/",
            "//app.example/",
            "/done",
            "javascript:alert(1)",
            "https://app.example/a#b",
            "https://app.example/a\r\nX: y",
            "https://app.example\\@evil.example",
        ] {
            assert!(!goes(bad), "{bad}");
        }
        let service = ServiceType::parse("figma").unwrap();
        let failed = Err(ApiError::new(StatusCode::BAD_REQUEST, "oauth_denied", "no"));
        let response = back("https://app.example/?a=1", &service, &failed);
        assert_eq!(
            response.headers()[LOCATION],
            "https://app.example/?a=1&oauth=failed&service=figma&code=oauth_denied"
        );
    }
}
