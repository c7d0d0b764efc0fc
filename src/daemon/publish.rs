//! Turns the supervisor's snapshots into the router's table of services. Waits for nothing else: a
//! slow disk keeps no request from a service that is back.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::AppSpec;
use crate::config::spec::ServiceSpec;
use crate::ids::ServiceType;
use crate::router::{Routable, Run, ServiceEntry, ServiceTable, Services};
use crate::sockets;
use crate::supervisor::snapshot::{Readiness, Status};
use crate::supervisor::{Process, Snapshot, Supervisor};
use crate::vault::Vault;

/// Keeps the table.
pub(super) struct Publisher {
    changes: watch::Receiver<Arc<Snapshot>>,
    published: Published,
}

impl Publisher {
    /// Publishes what is there now: whoever looks into the table from here on does not take services
    /// that were adopted for unknown ones.
    pub(super) fn new(supervisor: &Supervisor, vault: Vault, table: Arc<Services>) -> Self {
        let published = Published {
            table,
            vault,
            made: BTreeMap::new(),
        };
        let mut publisher = Self {
            changes: supervisor.subscribe(),
            published,
        };
        publisher.publish();
        publisher
    }

    /// Publishes until the supervisor is gone.
    pub(super) async fn run(mut self) {
        while self.changes.changed().await.is_ok() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let snapshot = self.changes.borrow_and_update().clone();
        let services = services(&snapshot);
        let specs = services
            .values()
            .filter_map(|process| process.spec.mcp.as_ref());
        sockets::keep_off(specs.map(|mcp| mcp.port));
        self.published.update(&services);
    }
}

/// One process per service type, preferring one that is ready, then one that runs.
pub(super) fn services(snapshot: &Snapshot) -> BTreeMap<ServiceType, Arc<Process>> {
    let rank = |process: &Process| match (&process.health.readiness, process.pid) {
        (Readiness::Ready, _) => 2,
        (_, Some(_)) => 1,
        (_, None) => 0,
    };
    let mut chosen: BTreeMap<ServiceType, Arc<Process>> = BTreeMap::new();
    for process in &snapshot.processes {
        let Some(mcp) = &process.spec.mcp else {
            continue;
        };
        if chosen
            .get(&mcp.service)
            .is_none_or(|known| rank(known) < rank(process))
        {
            chosen.insert(mcp.service.clone(), process.clone());
        }
    }
    chosen
}

/// What the router knows of a service.
#[derive(Clone, Debug)]
pub(super) struct Route {
    app: Arc<AppSpec>,
    pub(super) state: Routable,
    pub(super) run: Run,
}

impl Route {
    /// An address that nobody was asked at is the one that services are told to listen on.
    pub(super) fn of(process: &Process) -> Self {
        Self {
            app: process.spec.clone(),
            state: routable(process),
            run: Run {
                generation: process.generation,
                life: process.life.clone(),
                at: process.health.at.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            },
        }
    }

    /// The service; `None` for an app that is none.
    pub(super) fn service(&self) -> Option<&ServiceSpec> {
        self.app.mcp.as_ref()
    }

    /// Nothing that requests need has changed.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.app, &other.app)
            && (self.state, self.run.generation) == (other.state, other.run.generation)
    }
}

/// The router's table, and what each entry of it was made of.
struct Published {
    table: Arc<Services>,
    vault: Vault,
    made: BTreeMap<ServiceType, Made>,
}

/// An entry stays as long as its route does: a change of one service makes one entry anew.
struct Made {
    route: Route,
    entry: Arc<ServiceEntry>,
}

impl Published {
    fn update(&mut self, services: &BTreeMap<ServiceType, Arc<Process>>) {
        let before = self.made.len();
        self.made
            .retain(|service, _| services.contains_key(service));
        let mut changed = self.made.len() < before;
        for (service, process) in services {
            let route = Route::of(process);
            let known = self.made.get(service);
            if known.is_some_and(|made| made.route.is(&route)) {
                continue;
            }
            let Some(spec) = route.service().cloned() else {
                continue;
            };
            let secret = self.vault.router_secret(service);
            let previous = known.map(|made| &*made.entry);
            let entry = ServiceEntry::new(spec, route.state, &secret, route.run.clone(), previous);
            let entry = Arc::new(entry);
            self.made.insert(service.clone(), Made { route, entry });
            changed = true;
        }
        if changed {
            let entries = self.made.values().map(|made| made.entry.clone());
            self.table.publish(ServiceTable::new(entries));
        }
    }
}

fn routable(process: &Process) -> Routable {
    match (&process.health.readiness, process.status) {
        (Readiness::Ready, Status::Online) => Routable::Ready,
        (Readiness::PortTaken, _) => Routable::PortTaken,
        (_, Status::Stopped | Status::Errored) => Routable::Down,
        (_, _) => Routable::Starting,
    }
}
