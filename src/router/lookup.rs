//! From an instance URL to the instance, if this caller may use it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::access::{self, Access, Shown};
use super::pass::Pass;
use super::path::Target;
use super::refusal::Refusal;
use super::resource::{self, Fault};
use super::service::{Found, Service};
use crate::audit::{By, Visit};
use crate::ids::Timestamp;
use crate::instances::InstanceEntry;
use crate::users::{AuthError, Caller, LiveToken, bearer};

impl Service {
    /// Finds the instance of a URL, if this caller may use it. Every refusal that must not tell
    /// anything takes the same steps: one hash, one look into the table, the token if one was
    /// shown, and one look-up in the store; but for those who guess, who are all told to wait.
    pub(super) async fn find(
        &self,
        target: &Target<'_>,
        headers: &HeaderMap,
        visit: Visit<'_>,
    ) -> Result<Found, Refusal> {
        let hash = self.instances.hash(target.id);
        let instance = self.instances.find(&hash).await.map_err(|error| {
            tracing::error!(%error, "cannot look up an instance");
            Refusal::Unavailable
        })?;
        let instance = instance.filter(|entry| is_usable(entry));
        let services = self.services.load();
        let service = instance
            .as_ref()
            .and_then(|entry| services.get(&entry.service));
        let demands = self.config.require_auth_all
            || service.is_some_and(|service| service.spec.require_auth);
        let matches = instance
            .as_ref()
            .is_some_and(|it| it.service.as_str() == target.service);
        // Whoever is let in by the URL alone is not asked; whoever is refused costs the same.
        let (shown, token) = if matches && !demands {
            (Shown::Nothing, None)
        } else {
            self.shown(headers, visit).await
        };
        if let Some(instance) = instance {
            let (owner, of) = (&instance.user, &instance.service);
            match access::decide(owner, of, target.service, demands, &shown) {
                Access::Allowed => {
                    let tally = Arc::clone(self.instances.tally(&instance));
                    let Some(service) = service.cloned() else {
                        // The app was deleted, the instance lives.
                        tally.answered(Duration::ZERO, true);
                        return Err(Refusal::Unavailable);
                    };
                    return Ok(Found {
                        instance: Pass::new(instance, token),
                        service,
                        tally,
                        record: None,
                    });
                }
                Access::Token { shown: false } => {
                    let challenge = self.challenge(target, Fault::Missing);
                    return Err(Refusal::Token {
                        shown: false,
                        challenge,
                    });
                }
                Access::Token { shown: true } => {
                    self.audit.wrong_token(visit);
                    let guess = self.users.suspects().wrong(visit.address);
                    return Err(guess.map_or_else(|| self.invalid(target), Refusal::Guessing));
                }
                Access::Scope => {
                    let challenge = self.challenge(target, Fault::Scope);
                    return Err(Refusal::Scope { challenge });
                }
                Access::Later => return Err(Refusal::Unchecked),
                Access::Foreign(by) => self.audit.foreign_token(&instance, by, visit),
                Access::Unknown => {}
            }
        }
        drop(services);
        self.audit.unknown_id(target.id.len(), &hash, visit);
        if let Some(wait) = self.users.suspects().wrong(visit.address) {
            return Err(Refusal::Guessing(wait));
        }
        self.instances.refuse(&hash).await;
        Err(Refusal::UnknownInstance)
    }

    /// Where a token for this instance, which is there, is to be had.
    pub(super) fn challenge(&self, target: &Target<'_>, fault: Fault) -> HeaderValue {
        let resource = self.users.identity().resource();
        resource::challenge(&self.config.public_url, target, resource.as_deref(), fault)
    }

    /// The token that was shown does not count, or does no longer.
    fn invalid(&self, target: &Target<'_>) -> Refusal {
        Refusal::Token {
            shown: true,
            challenge: self.challenge(target, Fault::Invalid),
        }
    }

    /// What whoever has begun something is told when it is over with it.
    pub(super) fn over(&self, instance: &Pass, target: &Target<'_>) -> Refusal {
        if instance.has_instance() {
            self.invalid(target)
        } else {
            Refusal::UnknownInstance
        }
    }

    /// Whose token a request shows, and the token when it is a user's.
    async fn shown(
        &self,
        headers: &HeaderMap,
        visit: Visit<'_>,
    ) -> (Shown, Option<Arc<LiveToken>>) {
        if !headers.contains_key(AUTHORIZATION) {
            return (Shown::Nothing, None);
        }
        let token = bearer(headers);
        let _turn = self.users.suspects().turn(visit.address).await;
        match self.users.authenticate(token.unwrap_or_default()).await {
            Ok(shown) => match shown.caller {
                Caller::User(user) => {
                    if shown.is_new {
                        self.audit.first_seen(&user, &By::user(&user, visit));
                    }
                    (Shown::User(user), Some(shown.token))
                }
                Caller::Admin => (Shown::Invalid, None),
            },
            Err(AuthError::Unknown) => (Shown::Invalid, None),
            Err(AuthError::LacksScope(user)) => (Shown::LacksScope(user), None),
            Err(AuthError::Store(_) | AuthError::Unchecked) => (Shown::Unchecked, None),
        }
    }
}

/// May this entry answer now? Its time may have come since it was put into the table; and one that
/// does not open answers like one that is not there, while the log knows.
fn is_usable(entry: &InstanceEntry) -> bool {
    let expired = entry.expires_at().is_some_and(|at| at <= Timestamp::now());
    if let Err(error) = entry.credential() {
        tracing::error!(instance = %entry.public, %error, "a credential does not open");
        return false;
    }
    !expired
}
