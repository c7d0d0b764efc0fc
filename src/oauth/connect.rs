//! A user's way to their provider and back.

use http::Uri;
use tokio::time::Instant;

use super::pending::{TooMany, Unfit, key};
use super::provider::{self, ProviderError, shown};
use super::refresh::OAuth;
use super::tokens;
use crate::config::spec::{OauthSpec, ServiceSpec};
use crate::ids::{ServiceType, Timestamp, UserId};
use crate::instances::Asker;
use crate::secret::Secret;
use crate::vault::{Credential, Fields, RandomError, base32, random};

/// Letters of a ticket and of a cookie: 130 bits.
const LETTERS: usize = 26;

/// Letters of a verifier, of which RFC 7636 §4.1 wants 43 at least; and of a state.
const LONG: usize = 52;

/// Letters of a state that tell the cookies of several ways in one browser apart.
const COOKIE_LETTERS: usize = 8;

/// Who has begun, and for what.
pub struct Begun {
    /// Whose instance it becomes.
    pub user: UserId,
    /// Who they are, and by which token they have begun.
    pub asker: Asker,
    /// Of what.
    pub service: ServiceType,
    /// What they have given themselves.
    pub fields: Credential,
    /// Where the browser goes in the end.
    pub return_to: Option<String>,
}

/// What a browser that has opened a start address is told.
pub struct Opened {
    /// Where it goes.
    pub location: String,
    /// Name of the cookie that it gets.
    pub cookie: String,
    /// Its value.
    pub value: Secret<String>,
    /// Who begun it.
    pub user: UserId,
    /// Of what.
    pub service: ServiceType,
}

/// Somebody who has come back, in the browser in which they began.
pub struct Returned {
    /// Who has begun.
    pub begun: Begun,
    verifier: Secret<String>,
    redirect: String,
}

/// Why nobody is sent to a provider.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address does not count.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The service is gone, or has no provider any more.
    #[error("this service has no OAuth 2 provider: ask its operator")]
    NoProvider,
    /// There is no address to send them to.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// No state could be made.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Why nobody can begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Too many have.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// No ticket could be made.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Where providers send browsers back to, under this public URL. What is registered with them.
pub fn redirect_uri(public_url: &str) -> String {
    format!("{public_url}/api/v1/oauth/callback")
}

impl OAuth {
    /// Somebody begins; answers the ticket of their start address.
    ///
    /// # Errors
    /// Too many are under way.
    pub fn begin(&self, begun: Begun) -> Result<Secret<String>, BeginError> {
        let ticket = letters::<LETTERS>()?;
        let user = begun.user.clone();
        let (own, now) = (key(ticket.expose()), Instant::now());
        self.pending().begin(own, &user, begun, now)?;
        Ok(ticket)
    }

    /// A browser opens a start address, which opens nothing from now on. `spec` says what is known of a
    /// service.
    ///
    /// # Errors
    /// The ticket was used, is made up or late, or the service has no provider.
    pub fn open(
        &self,
        ticket: &str,
        public_url: &str,
        spec: impl FnOnce(&ServiceType) -> Option<OauthSpec>,
    ) -> Result<Opened, OpenError> {
        let (state, value) = (letters::<LONG>()?, letters::<LETTERS>()?);
        let verifier = letters::<LONG>()?;
        let redirect = redirect_uri(public_url);
        let mut opened = None;
        let make = |begun: Begun| {
            let spec = spec(&begun.service).ok_or(OpenError::NoProvider)?;
            let location =
                provider::authorization_url(&spec, &redirect, state.expose(), &verifier)?;
            opened = Some((location, begun.user.clone(), begun.service.clone()));
            Ok::<_, OpenError>(Returned {
                begun,
                verifier,
                redirect: redirect.clone(),
            })
        };
        let (own, cookie) = (key(state.expose()), key(value.expose()));
        self.pending()
            .open(&key(ticket), own, cookie, Instant::now(), make)?;
        let (location, user, service) = opened.ok_or(Unfit::Unknown)?;
        Ok(Opened {
            location,
            cookie: cookie_name(state.expose()),
            value,
            user,
            service,
        })
    }

    /// A browser comes back with this state and these `Cookie` headers.
    ///
    /// # Errors
    /// The state was used, is made up or late, or began in another browser.
    pub fn arrive<'a>(
        &self,
        state: &str,
        cookies: impl Iterator<Item = &'a str>,
    ) -> Result<Returned, Unfit> {
        let name = cookie_name(state);
        let cookie = find(cookies, &name).map(key);
        self.pending()
            .arrive(&key(state), cookie.as_ref(), Instant::now())
    }

    /// Exchanges the code that somebody has brought back; answers what is to be stored.
    ///
    /// # Errors
    /// The provider does not give any tokens for it.
    pub async fn exchange(
        &self,
        service: &ServiceSpec,
        returned: &Returned,
        code: &str,
    ) -> Result<Fields, ProviderError> {
        let spec = service.auth.oauth.as_ref().ok_or(ProviderError::Address)?;
        let outbound = self.outbound(service.allow_private);
        let (redirect, verifier) = (&returned.redirect, &returned.verifier);
        let given = provider::exchange(spec, outbound, code, redirect, verifier).await?;
        let own = returned.begun.fields.expose();
        Ok(tokens::granted(own, &given, Timestamp::now()))
    }
}

/// Is `iss` of an answer the one that is configured (RFC 9207 §2.4)? Where none is, one that is said
/// must be of a host of this provider.
pub fn is_issuer(spec: &OauthSpec, iss: Option<&str>) -> bool {
    if let Some(issuer) = &spec.issuer {
        return iss == Some(issuer);
    }
    let host = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        uri.host().map(str::to_ascii_lowercase)
    };
    let own = [&spec.authorization_url, &spec.token_url];
    iss.is_none_or(|iss| {
        host(iss).is_some_and(|said| own.iter().any(|url| host(url).as_ref() == Some(&said)))
    })
}

/// What a provider has said instead of a code, fit to be shown.
pub fn refusal(error: &str) -> String {
    shown(error)
}

/// The name of the cookie that goes with a state.
fn cookie_name(state: &str) -> String {
    let letters: String = state
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(COOKIE_LETTERS)
        .collect();
    format!("mcpm_oauth_{letters}")
}

/// The value of a cookie (RFC 6265 §4.2.1).
fn find<'a>(headers: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    headers
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

fn letters<const N: usize>() -> Result<Secret<String>, RandomError> {
    Ok(Secret::new(base32(&random::<N>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_provider_is_told() {
        let mut spec = OauthSpec {
            authorization_url: "https://id.example/auth".to_owned(),
            token_url: "https://api.example/token".to_owned(),
            revocation_url: None,
            client_id: "c".to_owned(),
            client_secret: None,
            client_auth: Default::default(),
            scopes: Vec::new(),
            issuer: None,
            authorize_params: Vec::new(),
        };
        assert!(is_issuer(&spec, None) && is_issuer(&spec, Some("https://ID.example/tenant")));
        assert!(is_issuer(&spec, Some("https://api.example")));
        assert!(!is_issuer(&spec, Some("https://evil.example")) && !is_issuer(&spec, Some("")));
        spec.issuer = Some("https://id.example".to_owned());
        assert!(is_issuer(&spec, Some("https://id.example")));
        assert!(!is_issuer(&spec, Some("https://id.example/")) && !is_issuer(&spec, None));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = ["a=1; mcpm_oauth_abcdefgh=x", "b=2;c=3"];
        let found = |name: &str| find(headers.iter().copied(), name);
        assert_eq!(found(&cookie_name("abcdefghijk")), Some("x"));
        assert_eq!(found("c"), Some("3"));
        assert_eq!(found("mcpm_oauth_"), None);
        assert_eq!(cookie_name("a;b=\n"), "mcpm_oauth_ab");
    }
}
