//! Credentials in use that are to be checked again, since their services refuse them.
//!
//! The router tells what services answer; whoever checks takes one after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use tokio::sync::{Notify, oneshot};

use super::entry::InstanceEntry;
use super::error::InstanceError;
use super::lane::Order;
use super::registry::{Instances, Rooms};
use crate::config::spec::ServiceSpec;
use crate::ids::Timestamp;
use crate::store::{CheckKey, CredentialState, InstanceRow};

/// Those that wait to be checked; a further one is put off until its service refuses it again.
const WAITING_MAX: usize = 256;

/// A credential that is to be checked again.
pub struct Recheck {
    /// Whose it is.
    pub instance: Arc<InstanceEntry>,
    /// What refuses it, and how to ask about it.
    pub service: ServiceSpec,
}

/// Those that wait.
#[derive(Default)]
pub(super) struct Waiting {
    queue: Mutex<VecDeque<Recheck>>,
    news: Notify,
}

impl Waiting {
    /// `false` when there is no room.
    fn push(&self, recheck: Recheck) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = queue.len() < WAITING_MAX;
        if has_room {
            queue.push_back(recheck);
            self.news.notify_one();
        }
        has_room
    }

    fn pop(&self) -> Option<Recheck> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }
}

impl Rooms {
    /// Does a good answer count that was asked for then?
    pub(super) fn admits(&self, key: &CheckKey, asked_at: Timestamp) -> bool {
        let doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.admits(&key.user, &key.service, asked_at)
    }
}

impl Instances {
    /// A service has answered a request of this instance. Takes no lock unless it says 401, or has said so
    /// before.
    pub fn answered(
        &self,
        instance: &Arc<InstanceEntry>,
        service: &ServiceSpec,
        status: StatusCode,
    ) {
        if status.is_success() || status.is_redirection() {
            instance.accepted();
        }
        if status != StatusCode::UNAUTHORIZED {
            return;
        }
        let now = Timestamp::now();
        let doubts = &self.rooms.doubts;
        let mut doubts = doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.add(&instance.user, &instance.service, now);
        drop(doubts);
        if !instance.refused(now) || service.auth.validate.is_none() {
            return;
        }
        let recheck = Recheck {
            instance: Arc::clone(instance),
            service: service.clone(),
        };
        if !self.rooms.waiting.push(recheck) {
            instance.not_asked();
        }
    }

    /// The next credential that is to be checked again. Cancel-safe.
    pub async fn next_recheck(&self) -> Recheck {
        loop {
            let news = self.rooms.waiting.news.notified();
            if let Some(recheck) = self.rooms.waiting.pop() {
                return recheck;
            }
            news.await;
        }
    }

    /// The external service takes an instance's credential no longer: from when this answers, its requests
    /// are told so, and its service gets none of them. `false`, and nothing has changed, when that was known,
    /// or it has another credential or URL by now.
    ///
    /// # Errors
    /// Nothing could be written.
    pub async fn expire_credential(
        &self,
        instance: &Arc<InstanceEntry>,
        since: Timestamp,
    ) -> Result<bool, InstanceError> {
        let instance = Arc::clone(instance);
        let owner = instance.user.clone();
        let mark = |_, caller: oneshot::Sender<_>| Order::Expire {
            instance,
            state: CredentialState::Expired { since },
            caller,
        };
        self.ask(&owner, mark).await
    }

    /// Since when its service has answered nothing but 401, when that is often enough to be told. Known as
    /// long as the daemon runs.
    pub fn refused_since(&self, row: &InstanceRow) -> Option<Timestamp> {
        self.table().get(&row.hash)?.refused_since()
    }
}
