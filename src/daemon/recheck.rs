//! Asks external services again about credentials that are refused while they are used, and says so of
//! the instance when the answer is a clear no. A token of a provider is refreshed once before that.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::config::spec::ServiceSpec;
use crate::ids::Timestamp;
use crate::instances::validate::Verdict;
use crate::instances::{Checker, InstanceEntry, Instances, Recheck};
use crate::oauth::OAuth;
use crate::problem::chain;
use crate::vault::Credential;

/// Questions at the same time: nobody waits for their answers, and one service that is silent must not
/// keep the others waiting.
const AT_ONCE_MAX: usize = 8;

/// Whom it asks and tells.
#[derive(Clone)]
pub(super) struct Rechecker {
    instances: Instances,
    checker: Checker,
    /// Gets other tokens.
    oauth: OAuth,
    audit: Audit,
}

impl Rechecker {
    /// Asks by these.
    pub(super) fn new(
        instances: &Instances,
        checker: Checker,
        oauth: &OAuth,
        audit: &Audit,
    ) -> Self {
        Self {
            instances: instances.clone(),
            checker,
            oauth: oauth.clone(),
            audit: audit.clone(),
        }
    }

    /// Asks as long as the daemon lives.
    pub(super) async fn run(self) {
        let mut asked = JoinSet::new();
        loop {
            tokio::select! {
                recheck = self.instances.next_recheck(), if asked.len() < AT_ONCE_MAX => {
                    let this = self.clone();
                    asked.spawn(async move { this.ask(recheck).await });
                }
                Some(ended) = asked.join_next(), if !asked.is_empty() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    }

    async fn ask(&self, recheck: Recheck) {
        let Recheck { instance, service } = recheck;
        // One that does not open answers nobody anyway, and the router has said so.
        let Ok(refused) = instance.credential() else {
            return;
        };
        let verdict = self.verdict(&instance, &service, &refused).await;
        let says_nothing_else = matches!(verdict, None | Some(Verdict::Wrong { .. }));
        let renewed = if says_nothing_else {
            self.oauth.renew(&instance, &service, &refused).await
        } else {
            None
        };
        let (public, name) = (&instance.public, &instance.service);
        match renewed {
            None => self.conclude(&instance, &refused, verdict).await,
            Some(Ok(())) => {
                tracing::info!(instance = %public, service = %name, "an OAuth token that is refused was refreshed");
                if let Ok(fresh) = instance.credential() {
                    let verdict = self.verdict(&instance, &service, &fresh).await;
                    self.conclude(&instance, &fresh, verdict).await;
                }
            }
            // Whoever has tried has said why.
            Some(Err(_)) => {
                tracing::debug!(instance = %public, service = %name, "there is no other OAuth token");
            }
        }
    }

    /// `None` when nobody can be asked.
    async fn verdict(
        &self,
        instance: &InstanceEntry,
        service: &ServiceSpec,
        credential: &Credential,
    ) -> Option<Verdict> {
        let fields = credential.expose();
        self.checker
            .check_again(&instance.user, service, fields)
            .await
    }

    async fn conclude(
        &self,
        instance: &Arc<InstanceEntry>,
        credential: &Arc<Credential>,
        verdict: Option<Verdict>,
    ) {
        let (public, name) = (&instance.public, &instance.service);
        let why = match verdict {
            None | Some(Verdict::Good) => {
                tracing::debug!(instance = %public, service = %name, "refused by its service only");
                return;
            }
            Some(Verdict::CouldNotCheck { why } | Verdict::Unfit { why }) => {
                tracing::info!(instance = %public, service = %name, why, "a credential that is refused could not be checked");
                return;
            }
            Some(Verdict::Wrong { why }) => why,
        };
        let expired = self
            .instances
            .expire_credential(instance, credential, Timestamp::now());
        match expired.await {
            Ok(true) => {
                self.audit.credential_expired(instance, &why);
                tracing::info!(instance = %public, service = %name, why, "a credential has expired");
            }
            Ok(false) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(instance = %public, error, "cannot write that a credential has expired");
            }
        }
    }
}
