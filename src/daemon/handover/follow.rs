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
use super::{Line, Word};
use crate::config::spec::ServiceSpec;
use crate::ids::ServiceType;
use crate::router::{Routable, Run, ServiceEntry, Services};
use crate::supervisor::{Life, Snapshot};
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

/// The table of a router whose daemon has handed over.
pub(in super::super) struct Follower {
    table: Arc<Services>,
    vault: Vault,
    is_up: Cell<bool>,
}

impl Follower {
    /// From here on nobody else publishes into it.
    pub(in super::super) fn new(table: Arc<Services>, vault: Vault) -> Self {
        Self {
            table,
            vault,
            is_up: Cell::new(false),
        }
    }

    /// The daemon that came has said that it is up.
    pub(in super::super) fn other_is_up(&self) -> bool {
        self.is_up.get()
    }

    /// Follows until the daemon that came says that an instance has ended, or is gone itself. A daemon
    /// that still drains after it has handed over to this one hears all of it, too.
    pub(in super::super) async fn until_revoked(&self, line: &Line, predecessor: Option<&Line>) {
        loop {
            let (word, passed) = match line.hear().await {
                Ok(Some(heard)) => heard,
                // Of a later version, which says more.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                Ok(None) | Err(_) => return,
            };
            match &word {
                Word::Revoked => return,
                Word::Up => self.is_up.set(true),
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
    use crate::vault::MasterKey;

    #[tokio::test]
    async fn the_daemon_that_came_says_when_it_is_up() {
        let (ours, theirs) = Line::pair().unwrap();
        let theirs = Line::over(theirs).unwrap();
        let vault = Vault::new(&MasterKey::from_bytes([5; 32]));
        let follower = Follower::new(Arc::default(), vault);
        take::up(&theirs).await;
        theirs.revoked().await;
        assert!(!follower.other_is_up());
        follower.until_revoked(&ours, None).await;
        assert!(follower.other_is_up());
    }
}
