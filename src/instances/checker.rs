//! [`Checker`]: whether a credential is right, asked as seldom as that can be.
//!
//! What an external service has said is remembered for its user (`store::Check`): a yes as long as the
//! service's rule says, a no for moments, so that a client that tries again and again hammers us and nobody
//! else, and `could not check` never. Equal questions at the same time are one call.
//!
//! Invariant: no yes counts that is older than the last 401 of the service (`doubt.rs`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::registry::Instances;
use super::validate::{Verdict, asked, validate};
use crate::config::spec::{ServiceSpec, ValidateSpec};
use crate::ids::{Timestamp, UserId};
use crate::limits::Limits;
use crate::outbound::Outbound;
use crate::problem::chain;
use crate::store::{Check, CheckKey};
use crate::vault::Fields;

/// How long a no counts: a key that was just made may take so long to work everywhere.
const WRONG_FOR: Duration = Duration::from_secs(20);
/// Questions that are under way: what so many answers may hold fits into memory.
const UNDER_WAY_MAX: usize = 128;
/// And of one user, so that none is in the way of the others.
const OF_ONE_USER_MAX: usize = 8;

/// Checks credentials. Cheap to clone.
#[derive(Clone)]
pub struct Checker(Arc<Inner>);

struct Inner {
    instances: Instances,
    outbound: Outbound,
    /// For services that may reach private addresses.
    outbound_private: Outbound,
    limits: Limits,
    under_way: Mutex<HashMap<CheckKey, Question>>,
}

/// A question that is under way, as long as somebody waits for its answer.
struct Question {
    began: Timestamp,
    answer: Weak<OnceCell<Verdict>>,
}

impl Checker {
    /// Asks by these two, of which the first reaches public addresses only.
    pub fn new(
        instances: Instances,
        outbound: Outbound,
        outbound_private: Outbound,
        limits: Limits,
    ) -> Self {
        Self(Arc::new(Inner {
            instances,
            outbound,
            outbound_private,
            limits,
            under_way: Mutex::default(),
        }))
    }

    /// Is this credential right, that a user hands over? A service without a rule takes any. Cancel-safe:
    /// whoever waits for the same answer goes on when the one who asked first goes away.
    ///
    /// # Errors
    /// The external service is not asked, since it was asked too often for this user: how long until it
    /// may be again.
    pub async fn check(
        &self,
        user: &UserId,
        service: &ServiceSpec,
        fields: &Fields,
    ) -> Result<Verdict, Duration> {
        let Some(rule) = &service.auth.validate else {
            return Ok(Verdict::Good);
        };
        let key = self.key(user, service, rule, fields);
        if let Some(known) = self.known(&key, rule, fields).await {
            return Ok(known);
        }
        let Some(answer) = self.join(&key) else {
            return Ok(Verdict::CouldNotCheck {
                why: "too many credentials are being checked just now".to_owned(),
            });
        };
        let ask = || async {
            self.0.limits.validation(user, &service.service)?;
            Ok(self.ask(key, service.allow_private, rule, fields).await)
        };
        answer.get_or_try_init(ask).await.cloned()
    }

    /// The same of a credential that is in use, whatever is remembered of it. `None` when there is no rule
    /// to ask by.
    pub async fn check_again(
        &self,
        user: &UserId,
        service: &ServiceSpec,
        fields: &Fields,
    ) -> Option<Verdict> {
        let rule = service.auth.validate.as_ref()?;
        let forgotten = self
            .0
            .instances
            .rooms
            .store
            .forget_checks(user, &service.service);
        if let Err(error) = forgotten.await {
            tracing::warn!(error = %chain(&error), "cannot forget what was known of a credential");
        }
        let key = self.key(user, service, rule, fields);
        Some(self.ask(key, service.allow_private, rule, fields).await)
    }

    fn key(
        &self,
        user: &UserId,
        service: &ServiceSpec,
        rule: &ValidateSpec,
        fields: &Fields,
    ) -> CheckKey {
        let rule = serde_json::to_vec(&(rule, service.allow_private))
            .expect("a rule holds nothing that JSON can't");
        let vault = &self.0.instances.rooms.vault;
        CheckKey {
            user: user.clone(),
            service: service.service.clone(),
            hash: vault.check_hash(&service.service, &rule, fields),
        }
    }

    /// What is remembered, as far as it counts.
    async fn known(&self, key: &CheckKey, rule: &ValidateSpec, fields: &Fields) -> Option<Verdict> {
        let now = Timestamp::now();
        let known = match self.0.instances.rooms.store.check(key, now).await {
            Ok(known) => known?,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "cannot read what is known of a credential");
                return None;
            }
        };
        if known.is_good {
            let admitted = self.0.instances.rooms.admits(key, known.asked_at);
            return admitted.then_some(Verdict::Good);
        }
        let left = known.until.as_millis().saturating_sub(now.as_millis()) / 1000 + 1;
        let origin = asked(rule, fields)?;
        Some(Verdict::Wrong {
            why: format!("`{origin}` has refused it just now, and is asked again in {left} s"),
        })
    }

    /// The answer to this question, which may be under way; `None` when too many are.
    fn join(&self, key: &CheckKey) -> Option<Arc<OnceCell<Verdict>>> {
        let mut all = self
            .0
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = all.get(key)
            && self.0.instances.rooms.admits(key, question.began)
            && let Some(answer) = question.answer.upgrade()
        {
            return Some(answer);
        }
        all.retain(|_, question| question.answer.strong_count() > 0);
        let own = all.keys().filter(|other| other.user == key.user).count();
        if all.len() >= UNDER_WAY_MAX || own >= OF_ONE_USER_MAX {
            return None;
        }
        let answer = Arc::new(OnceCell::new());
        let question = Question {
            began: Timestamp::now(),
            answer: Arc::downgrade(&answer),
        };
        all.insert(key.clone(), question);
        Some(answer)
    }

    /// Asks, and remembers what was said.
    async fn ask(
        &self,
        key: CheckKey,
        allow_private: bool,
        rule: &ValidateSpec,
        fields: &Fields,
    ) -> Verdict {
        let outbound = if allow_private {
            &self.0.outbound_private
        } else {
            &self.0.outbound
        };
        let asked_at = Timestamp::now();
        let verdict = validate(rule, fields, outbound).await;
        let (is_good, counts) = match &verdict {
            Verdict::Good => (true, rule.cache),
            Verdict::Wrong { .. } => (false, rule.cache.min(WRONG_FOR)),
            Verdict::CouldNotCheck { .. } | Verdict::Unfit { .. } => return verdict,
        };
        let counts = i64::try_from(counts.as_millis()).unwrap_or(0);
        if counts > 0 {
            let check = Check {
                is_good,
                asked_at,
                until: Timestamp::from_millis(Timestamp::now().as_millis().saturating_add(counts)),
            };
            if let Err(error) = self.0.instances.rooms.store.put_check(key, check).await {
                tracing::debug!(error = %chain(&error), "cannot remember what is known of a credential");
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests;
