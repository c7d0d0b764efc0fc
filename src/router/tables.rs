//! What requests are routed by: the services. Immutable, swapped in whole.
//!
//! Published by `daemon/publish.rs`; in a daemon that has handed over, by `daemon/handover/follow.rs`.
//! The other table is `instances::InstanceTable`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::{ArcSwap, Guard};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::headers::Injection;
use super::upstream::Upstream;
use crate::config::spec::ServiceSpec;
use crate::ids::ServiceType;
use crate::metrics::ServiceCounts;
use crate::secret::Secret;
use crate::supervisor::Life;

/// May requests go to a service?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Routable {
    /// It answers, and its port is its own.
    Ready,
    /// It runs, or will in a moment, and has not answered yet.
    Starting,
    /// It does not run.
    Down,
    /// Somebody else has its port: no credential may go there.
    PortTaken,
}

/// One run of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Counts the starts of its process.
    pub generation: u64,
    /// Whether it lives, at the very moment at which a credential would go there.
    pub life: Option<Life>,
    /// The one address that was found to be its own.
    pub at: IpAddr,
}

/// Tells one run of a service from another, under the next daemon, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunId {
    generation: u64,
    number: u64,
}

impl Run {
    /// What tells it from others.
    pub(super) fn id(&self) -> RunId {
        RunId {
            generation: self.generation,
            number: self.life.as_ref().and_then(Life::number).unwrap_or(0),
        }
    }
}

/// One service: where it is, and what its requests need.
pub struct ServiceEntry {
    pub(super) spec: ServiceSpec,
    pub(super) state: Routable,
    pub(super) injection: Injection,
    pub(super) upstream: Arc<Upstream>,
    /// Requests that wait for it, over all its runs.
    pub(super) held: Arc<AtomicUsize>,
    /// What is counted of it, over all its runs.
    pub(super) counts: Arc<ServiceCounts>,
}

impl ServiceEntry {
    /// Reads the spec once, so that requests need not. Connections to an earlier run are not used
    /// again.
    pub fn new(
        spec: ServiceSpec,
        state: Routable,
        router_secret: &Secret<String>,
        run: Run,
        previous: Option<&Self>,
    ) -> Self {
        let counts = previous.map_or_else(Arc::default, |entry| Arc::clone(&entry.counts));
        let same = previous.filter(|entry| entry.upstream.is(spec.port, &run));
        let upstream = match same {
            Some(entry) => Arc::clone(&entry.upstream),
            None => Arc::new(Upstream::new(spec.port, run, counts.clone())),
        };
        let held = previous.map_or_else(Arc::default, |entry| Arc::clone(&entry.held));
        let injection = Injection::new(
            &spec.auth.inject,
            spec.service.as_str(),
            spec.port,
            router_secret,
        );
        Self {
            spec,
            state,
            injection,
            upstream,
            held,
            counts,
        }
    }
}

/// All services, by type.
#[derive(Default)]
pub struct ServiceTable(HashMap<ServiceType, Arc<ServiceEntry>>);

impl ServiceTable {
    /// A table of these.
    pub fn new(entries: impl Iterator<Item = Arc<ServiceEntry>>) -> Self {
        Self(
            entries
                .map(|entry| (entry.spec.service.clone(), entry))
                .collect(),
        )
    }

    /// All of them, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.0.values()
    }

    /// The service of this type.
    pub fn get(&self, service: &ServiceType) -> Option<&Arc<ServiceEntry>> {
        self.0.get(service)
    }
}

/// The table that is in force, and news of each change. Read without a lock.
#[derive(Default)]
pub struct Services {
    table: ArcSwap<ServiceTable>,
    news: Notify,
}

impl Services {
    /// Puts another table in force.
    pub fn publish(&self, table: ServiceTable) {
        self.table.store(Arc::new(table));
        self.news.notify_waiters();
    }

    /// Puts one entry in force, made from the one before; without one the service is unknown from now
    /// on. For one caller at a time.
    pub fn replace(
        &self,
        service: &ServiceType,
        make: impl FnOnce(Option<&ServiceEntry>) -> Option<ServiceEntry>,
    ) {
        let mut entries = self.load().0.clone();
        let before = entries.remove(service);
        if let Some(entry) = make(before.as_deref()) {
            entries.insert(service.clone(), Arc::new(entry));
        }
        self.publish(ServiceTable(entries));
    }

    /// The table in force.
    pub(super) fn load(&self) -> Guard<Arc<ServiceTable>> {
        self.table.load()
    }

    /// Waits until a table gives an answer. Cancel-safe.
    pub(super) async fn until<T>(&self, answer: impl Fn(&ServiceTable) -> Option<T>) -> T {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // Listen first, look second: no table is missed.
            news.as_mut().enable();
            if let Some(answer) = answer(&self.load()) {
                return answer;
            }
            news.await;
        }
    }
}
