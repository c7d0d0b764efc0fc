//! What is said to a provider, and what its answers mean.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use oauth2::basic::{
    BasicClient, BasicErrorResponseType, BasicRequestTokenError, BasicTokenResponse,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, CsrfToken, EndpointNotSet, EndpointSet,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    TokenResponse, TokenUrl,
};
use zeroize::Zeroizing;

use super::client::{CallError, Guarded};
use super::secret::{self, SecretError};
use super::tokens::{Tokens, is_token};
use crate::config::spec::{ClientAuth, OauthSpec};
use crate::outbound::{Outbound, encode};
use crate::problem::chain;
use crate::secret::Secret;

/// Letters of a provider's word that are repeated.
const CODE_SHOWN: usize = 64;

/// Errors that say that a code or refresh token is of no use: that of RFC 6749 §5.2, and those of
/// providers that have words of their own (GitHub).
const GRANT_IS_OVER: [&str; 3] = [
    "invalid_grant",
    "bad_refresh_token",
    "bad_verification_code",
];

/// Errors that pass.
const PASSING: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];

/// Why a provider has given nothing. Shows no token, code or secret.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// What we have shown is of no use any more, for good.
    #[error("the provider says `{0}`: what was consented to has expired or was taken back")]
    Over(String),
    /// It does not take us.
    #[error(
        "the provider says `{0}`; compare `oauth` of the service with what is registered there"
    )]
    Misfit(String),
    /// It could not be asked, or has said nothing that counts.
    #[error("the provider could not be asked: {0}")]
    Unavailable(String),
    /// Our own secret is not there.
    #[error("the client's secret is missing")]
    Secret(#[from] SecretError),
    /// No address for the browser.
    #[error("`oauth` of the service has an address that is none")]
    Address,
}

impl ProviderError {
    /// May it be otherwise in a while, without anybody's doing?
    pub fn passes(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

type Client<Auth> = BasicClient<Auth, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Where a browser is sent: code, state and PKCE with S256 (RFC 7636 §4.3).
pub(super) fn authorization_url(
    spec: &OauthSpec,
    redirect: &str,
    state: &str,
    verifier: &Secret<String>,
) -> Result<String, ProviderError> {
    let address = |_| ProviderError::Address;
    let verifier = PkceCodeVerifier::new(verifier.expose().clone());
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    let redirect = RedirectUrl::new(redirect.to_owned()).map_err(address)?;
    let client = client(spec, None)?
        .set_auth_uri(AuthUrl::new(spec.authorization_url.clone()).map_err(address)?)
        .set_redirect_uri(redirect);
    let mut request = client
        .authorize_url(|| CsrfToken::new(state.to_owned()))
        .set_pkce_challenge(challenge);
    for scope in &spec.scopes {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    for (name, value) in &spec.authorize_params {
        request = request.add_extra_param(name, value);
    }
    Ok(request.url().0.into())
}

/// A code for tokens (RFC 6749 §4.1.3).
pub(super) async fn exchange(
    spec: &OauthSpec,
    outbound: &Outbound,
    code: &str,
    redirect: &str,
    verifier: &Secret<String>,
) -> Result<Tokens, ProviderError> {
    let secret = client_secret(spec).await?;
    let redirect = RedirectUrl::new(redirect.to_owned()).map_err(|_| ProviderError::Address)?;
    let client = client(spec, secret.as_ref())?.set_redirect_uri(redirect);
    let http = Guarded(outbound);
    let asked = client
        .exchange_code(AuthorizationCode::new(code.to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose().clone()))
        .request_async(&http);
    tokens(asked.await)
}

/// A refresh token for tokens (RFC 6749 §6).
pub(super) async fn refresh(
    spec: &OauthSpec,
    outbound: &Outbound,
    token: &str,
) -> Result<Tokens, ProviderError> {
    let secret = client_secret(spec).await?;
    let client = client(spec, secret.as_ref())?;
    let http = Guarded(outbound);
    let token = RefreshToken::new(token.to_owned());
    let asked = client.exchange_refresh_token(&token).request_async(&http);
    tokens(asked.await)
}

/// Takes a consent back (RFC 7009 §2.1). Written here, since the crate does it over `https` alone, and
/// a private provider may speak plain HTTP.
pub(super) async fn revoke(
    spec: &OauthSpec,
    outbound: &Outbound,
    (token, is_refresh): (&str, bool),
) -> Result<(), ProviderError> {
    let Some(url) = &spec.revocation_url else {
        return Ok(());
    };
    let secret = client_secret(spec).await?;
    let hint = if is_refresh {
        "refresh_token"
    } else {
        "access_token"
    };
    let mut body = Zeroizing::new(format!("token={}&token_type_hint={hint}", encode(token)));
    let id = encode(&spec.client_id);
    let mut request = Request::new(Bytes::new());
    match (&secret, spec.client_auth) {
        (Some(secret), ClientAuth::Basic) => {
            let pair = Zeroizing::new(format!("{id}:{}", encode(secret.expose())));
            let basic = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
            let mut value = HeaderValue::from_str(&basic).map_err(|_| ProviderError::Address)?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        (Some(secret), ClientAuth::Post) => {
            body.push_str(&format!(
                "&client_id={id}&client_secret={}",
                encode(secret.expose())
            ));
        }
        (None, _) => body.push_str(&format!("&client_id={id}")),
    }
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().map_err(|_| ProviderError::Address)?;
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json);
    *request.body_mut() = Bytes::copy_from_slice(body.as_bytes());
    match outbound.call(request).await {
        Ok(answer) if answer.status == StatusCode::OK => Ok(()),
        Ok(answer) => Err(ProviderError::Unavailable(format!(
            "it answered {}",
            answer.status
        ))),
        Err(error) => Err(ProviderError::Unavailable(chain(&error))),
    }
}

async fn client_secret(spec: &OauthSpec) -> Result<Option<Secret<String>>, SecretError> {
    match &spec.client_secret {
        Some(place) => secret::read(place).await.map(Some),
        None => Ok(None),
    }
}

fn client(
    spec: &OauthSpec,
    secret: Option<&Secret<String>>,
) -> Result<Client<EndpointNotSet>, ProviderError> {
    let url = TokenUrl::new(spec.token_url.clone()).map_err(|_| ProviderError::Address)?;
    let client = BasicClient::new(ClientId::new(spec.client_id.clone()))
        .set_auth_type(match spec.client_auth {
            ClientAuth::Basic => AuthType::BasicAuth,
            ClientAuth::Post => AuthType::RequestBody,
        })
        .set_token_uri(url);
    Ok(match secret {
        Some(secret) => {
            client.set_client_secret(oauth2::ClientSecret::new(secret.expose().clone()))
        }
        None => client,
    })
}

fn tokens(
    answer: Result<BasicTokenResponse, BasicRequestTokenError<CallError>>,
) -> Result<Tokens, ProviderError> {
    let answer = answer.map_err(meaning)?;
    let nonsense =
        |what: &str| ProviderError::Unavailable(format!("what it gives as `{what}` is no token"));
    let access = answer.access_token().secret();
    if !is_token(access) {
        return Err(nonsense("access_token"));
    }
    let refresh = answer.refresh_token().map(RefreshToken::secret);
    if refresh.is_some_and(|token| !is_token(token)) {
        return Err(nonsense("refresh_token"));
    }
    Ok(Tokens {
        access: Secret::new(access.clone()),
        refresh: refresh.cloned().map(Secret::new),
        // Some write 0 for a token that does not expire.
        life: answer.expires_in().filter(|life| *life > Duration::ZERO),
    })
}

/// Which of the three kinds of no it is.
fn meaning(error: BasicRequestTokenError<CallError>) -> ProviderError {
    match error {
        RequestTokenError::ServerResponse(said) => of_code(code(said.error())),
        // Some say no with status 200, in a body of their own.
        RequestTokenError::Parse(_, body) => match word(&body) {
            Some(code) => of_code(code),
            None => ProviderError::Unavailable("its answer is not that of RFC 6749".to_owned()),
        },
        RequestTokenError::Request(error) => ProviderError::Unavailable(chain(&error)),
        RequestTokenError::Other(_) => {
            ProviderError::Unavailable("its answer is empty, or no JSON".to_owned())
        }
    }
}

fn code(kind: &BasicErrorResponseType) -> String {
    shown(kind.as_ref())
}

/// `error` of an answer that is otherwise none.
fn word(body: &[u8]) -> Option<String> {
    let said: serde_json::Value = serde_json::from_slice(body).ok()?;
    said.get("error")?.as_str().map(shown)
}

/// A provider's word, short and in plain letters.
pub(super) fn shown(word: &str) -> String {
    let plain = |c: &char| c.is_ascii_graphic() && !"`<>&\"'".contains(*c);
    word.chars().filter(plain).take(CODE_SHOWN).collect()
}

fn of_code(code: String) -> ProviderError {
    if GRANT_IS_OVER.contains(&code.as_str()) {
        ProviderError::Over(code)
    } else if PASSING.contains(&code.as_str()) {
        ProviderError::Unavailable(format!("it says `{code}`"))
    } else {
        ProviderError::Misfit(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> OauthSpec {
        OauthSpec {
            authorization_url: "https://id.example/auth?tenant=1".to_owned(),
            token_url: "https://id.example/token".to_owned(),
            revocation_url: None,
            client_id: "us & them".to_owned(),
            client_secret: None,
            client_auth: ClientAuth::Basic,
            scopes: vec!["read".to_owned(), "write".to_owned()],
            issuer: None,
            authorize_params: vec![("access_type".to_owned(), "offline".to_owned())],
        }
    }

    #[test]
    fn the_browser_is_sent_with_code_state_and_s256() {
        // RFC 7636, appendix B.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        let url = authorization_url(&spec(), "https://us/cb", "st", &verifier).unwrap();
        for part in [
            "https://id.example/auth?tenant=1&",
            "response_type=code",
            "client_id=us+%26+them",
            "state=st",
            "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method=S256",
            "redirect_uri=https%3A%2F%2Fus%2Fcb",
            "scope=read+write",
            "access_type=offline",
        ] {
            assert!(url.contains(part), "{part} in {url}");
        }
        assert!(!url.contains(verifier.expose()));
    }

    #[test]
    fn only_a_word_about_the_grant_ends_it() {
        let kind = |body: &str| match word(body.as_bytes()).map(of_code) {
            Some(ProviderError::Over(_)) => "over",
            Some(ProviderError::Misfit(_)) => "misfit",
            Some(ProviderError::Unavailable(_)) => "unavailable",
            _ => "none",
        };
        assert_eq!(kind(r#"{"error": "invalid_grant"}"#), "over");
        assert_eq!(kind(r#"{"error": "bad_refresh_token"}"#), "over");
        assert_eq!(kind(r#"{"error": "invalid_client"}"#), "misfit");
        assert_eq!(kind(r#"{"error": "server_error"}"#), "unavailable");
        assert_eq!(kind(r#"{"error": {}}"#), "none");
        assert_eq!(kind("<html>"), "none");
    }

    #[test]
    fn a_providers_word_is_shown_plain_and_short() {
        assert_eq!(shown("<b>no`\n</b> ä"), "bno/b");
        assert_eq!(shown(&"x".repeat(999)).len(), CODE_SHOWN);
    }
}
