//! Asks external services again about credentials that are refused while they are used, and says so of
//! the instance when the answer is a clear no.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::ids::Timestamp;
use crate::instances::validate::Verdict;
use crate::instances::{Checker, Instances, Recheck};
use crate::problem::chain;

/// Questions at the same time: nobody waits for their answers, and one service that is silent must not
/// keep the others waiting.
const AT_ONCE_MAX: usize = 8;

/// Asks as long as the daemon lives.
pub(super) async fn run(instances: Instances, checker: Checker, audit: Audit) {
    let mut asked = JoinSet::new();
    loop {
        tokio::select! {
            recheck = instances.next_recheck(), if asked.len() < AT_ONCE_MAX => {
                asked.spawn(ask(recheck, instances.clone(), checker.clone(), audit.clone()));
            }
            Some(ended) = asked.join_next(), if !asked.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

async fn ask(recheck: Recheck, instances: Instances, checker: Checker, audit: Audit) {
    let Recheck { instance, service } = recheck;
    // One that does not open answers nobody anyway, and the router has said so.
    let Ok(credential) = instance.credential() else {
        return;
    };
    let (public, name) = (&instance.public, &instance.service);
    let verdict = checker.check_again(&instance.user, &service, credential.expose());
    match verdict.await {
        None | Some(Verdict::Good) => {
            tracing::debug!(instance = %public, service = %name, "refused by its service only");
        }
        Some(Verdict::CouldNotCheck { why }) => {
            tracing::info!(instance = %public, service = %name, why, "a credential that is refused could not be checked");
        }
        Some(Verdict::Wrong { why }) => {
            match instances
                .expire_credential(&Arc::clone(&instance), Timestamp::now())
                .await
            {
                Ok(true) => {
                    audit.credential_expired(&instance, &why);
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
}
