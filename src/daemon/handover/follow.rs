//! The router of the daemon that went follows the services of the one that came.
//!
//! Requests still come over connections that clients keep, and some wait for a service that restarts:
//! both need to know where it is now, and only the daemon that came does.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::super::publish::{self, Route};
use super::{Ended, Line, Word};
use crate::config::spec::ServiceSpec;
use crate::ids::ServiceType;
use crate::instances::Instances;
use crate::router::{Routable, Run, ServiceEntry, Services};
use crate::supervisor::{Life, Snapshot};
use crate::users::Users;
use crate::vault::Vault;

/// Where requests for a service go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Place {
    spec: ServiceSpec,
    state: Routable,
    generation: u64,
    at: IpAddr,
}

/// Tells the daemon that went where every service is, and then each change. Never ends by itself: one
/// that is gone need not know.
pub(in super::super) async fn tell(line: Arc<Line>, changes: watch::Receiver<Arc<Snapshot>>) {
    if let Err(error) = tell_all(&line, changes).await {
        tracing::debug!(%error, "the daemon that went hears no more of services");
    }
    future::pending().await
}

async fn tell_all(line: &Line, mut changes: watch::Receiver<Arc<Snapshot>>) -> io::Result<()> {
    let mut told: BTreeMap<ServiceType, Route> = BTreeMap::new();
    loop {
        let snapshot = changes.borrow_and_update().clone();
        let services = publish::services(&snapshot);
        let is_gone = |service: &&ServiceType| !services.contains_key(*service);
        let gone: Vec<ServiceType> = told.keys().filter(is_gone).cloned().collect();
        for service in gone {
            told.remove(&service);
            let place = None;
            line.say(&Word::Service { service, place }, &[]).await?;
        }
        for (service, process) in services {
            let route = Route::of(&process);
            if told.get(&service).is_some_and(|known| known.is(&route)) {
                continue;
            }
            let place = route.service().map(|spec| {
                Box::new(Place {
                    spec: spec.clone(),
                    state: route.state,
                    generation: route.run.generation,
                    at: route.run.at,
                })
            });
            let life: Vec<BorrowedFd<'_>> = route.run.life.iter().map(Life::as_fd).collect();
            let word = Word::Service {
                service: service.clone(),
                place,
            };
            line.say(&word, &life).await?;
            told.insert(service, route);
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// The tables of a router whose daemon has handed over.
pub(in super::super) struct Follower {
    table: Arc<Services>,
    vault: Vault,
    instances: Instances,
    users: Users,
    is_on_its_own: Cell<bool>,
    has_passed_signal: Cell<bool>,
}

impl Follower {
    /// From when on it is followed nobody else publishes into these.
    pub(in super::super) fn new(
        table: Arc<Services>,
        vault: Vault,
        (instances, users): (&Instances, &Users),
    ) -> Self {
        Self {
            table,
            vault,
            instances: instances.clone(),
            users: users.clone(),
            is_on_its_own: Cell::new(false),
            has_passed_signal: Cell::new(false),
        }
    }

    /// The daemon that came has said that it is up, or is no more: a signal means this one.
    pub(in super::super) fn is_on_its_own(&self) -> bool {
        self.is_on_its_own.get()
    }

    /// A signal was passed on to the daemon that came: its end is this one's, too.
    pub(in super::super) fn passed_signal(&self) {
        self.has_passed_signal.set(true);
    }

    /// Follows until the daemon that came says that everything is over. When it is gone without a word,
    /// what was begun here goes on. A daemon that still drains after it has handed over to this one hears
    /// all of it, too.
    pub(in super::super) async fn until_all_over(&self, line: &Line, predecessor: Option<&Line>) {
        loop {
            let (word, passed) = match line.hear().await {
                Ok(Some(heard)) => heard,
                // Of a later version, which says more.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                Ok(None) | Err(_) if self.has_passed_signal.get() => return,
                Ok(None) | Err(_) => break,
            };
            match &word {
                Word::Revoked(ended) if ended.is_everything() => return,
                Word::Revoked(ended) => {
                    if let Some(before) = predecessor {
                        before.revoked(ended.clone()).await;
                    }
                    self.end(ended).await;
                }
                Word::Up => self.is_on_its_own.set(true),
                Word::Service { service, place } => {
                    if let Some(before) = predecessor {
                        let passed: Vec<BorrowedFd<'_>> = passed.iter().map(AsFd::as_fd).collect();
                        let _ = before.say(&word, &passed).await;
                    }
                    self.put(service, place.as_deref(), passed.into_iter().next());
                }
                _ => {}
            }
        }
        tracing::info!("the daemon that came is gone; what was begun here is finished");
        self.is_on_its_own.set(true);
        future::pending().await
    }

    /// Ends what goes on here on behalf of these.
    async fn end(&self, ended: &Ended) {
        self.users.follow(&ended.tokens);
        for ending in ended.endings() {
            if let Err(error) = self.instances.follow(&ending).await {
                let instance = ending.public();
                tracing::warn!(%instance, %error, "requests that still come here are refused");
            }
        }
    }

    fn put(&self, service: &ServiceType, place: Option<&Place>, life: Option<OwnedFd>) {
        let secret = self.vault.router_secret(service);
        self.table.replace(service, |before| {
            let place = place?;
            let run = Run {
                generation: place.generation,
                life: life.map(Life::from),
                at: place.at,
            };
            let spec = place.spec.clone();
            Some(ServiceEntry::new(spec, place.state, &secret, run, before))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::take;
    use super::*;
    use crate::store::{Memory, StoreHandle};
    use crate::vault::MasterKey;

    async fn follower() -> Follower {
        let vault = Vault::new(&MasterKey::from_bytes([5; 32]));
        let store: StoreHandle = Arc::new(Memory::new());
        let users = Users::new(store.clone(), vault.clone());
        let (instances, _) = Instances::open(store, vault.clone()).await.unwrap();
        Follower::new(Arc::default(), vault, (&instances, &users))
    }

    fn lines() -> (Line, Line) {
        let (ours, theirs) = Line::pair().unwrap();
        (ours, Line::over(theirs).unwrap())
    }

    #[tokio::test]
    async fn the_daemon_that_came_says_when_it_is_up_and_when_all_is_over() {
        let ((ours, theirs), follower) = (lines(), follower().await);
        take::up(&theirs).await;
        theirs.revoked(Ended::from(vec![1])).await;
        theirs.all_over().await;
        assert!(!follower.is_on_its_own());
        follower.until_all_over(&ours, None).await;
        assert!(follower.is_on_its_own());
    }

    #[tokio::test]
    async fn one_that_dies_ends_nothing_but_what_a_signal_was_to_end() {
        let ((ours, theirs), follower) = (lines(), follower().await);
        drop(theirs);
        let following = follower.until_all_over(&ours, None);
        let long = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(long, following).await.is_err());
        assert!(follower.is_on_its_own());
        follower.passed_signal();
        follower.until_all_over(&ours, None).await;
    }
}
