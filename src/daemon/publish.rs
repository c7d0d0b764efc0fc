//! Turns the supervisor's snapshots into the router's table of services, and keeps the store's
//! copy of services and their health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::ids::ServiceType;
use crate::ids::Timestamp;
use crate::router::{Routable, ServiceEntry, ServiceTable};
use crate::store::{HealthRow, ServiceRow, StoreHandle};
use crate::supervisor::snapshot::{Readiness, Status};
use crate::supervisor::{Process, Snapshot, Supervisor};
use crate::vault::Vault;

/// Health is written together, at most this often; a crash loses that much of it.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Publishes until the supervisor is gone.
pub(super) async fn run(
    supervisor: Supervisor,
    vault: Vault,
    store: StoreHandle,
    table: Arc<ArcSwap<ServiceTable>>,
) {
    let mut changes = supervisor.subscribe();
    let mut kept = Kept {
        store,
        services: Vec::new(),
        health: BTreeMap::new(),
        due: None,
    };
    loop {
        let snapshot = changes.borrow_and_update().clone();
        let services = services(&snapshot);
        let entry = |process: &Arc<Process>| entry(process, &vault, &table.load());
        table.store(Arc::new(ServiceTable::new(
            services.values().filter_map(entry),
        )));
        kept.note(&services);
        let due = kept.due.unwrap_or_else(Instant::now);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(due), if kept.due.is_some() => kept.write().await,
        }
    }
}

/// One process per service type, preferring one that is ready, then one that runs.
fn services(snapshot: &Snapshot) -> BTreeMap<ServiceType, Arc<Process>> {
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

fn entry(process: &Arc<Process>, vault: &Vault, before: &ServiceTable) -> Option<ServiceEntry> {
    let spec = process.spec.mcp.clone()?;
    let state = match (&process.health.readiness, process.status) {
        (Readiness::Ready, Status::Online) => Routable::Ready,
        (Readiness::PortTaken, _) => Routable::PortTaken,
        (_, Status::Stopped | Status::Errored) => Routable::Down,
        (_, _) => Routable::Starting,
    };
    let secret = vault.router_secret(&spec.service);
    let previous = before.get(&spec.service).cloned();
    let generation = process.generation;
    Some(ServiceEntry::new(
        Arc::new(spec),
        state,
        secret,
        generation,
        previous.as_deref(),
    ))
}

/// The store's copy.
struct Kept {
    store: StoreHandle,
    services: Vec<ServiceRow>,
    health: BTreeMap<ServiceType, HealthRow>,
    due: Option<Instant>,
}

impl Kept {
    fn note(&mut self, services: &BTreeMap<ServiceType, Arc<Process>>) {
        let now: Vec<ServiceRow> = services.values().filter_map(|p| service_row(p)).collect();
        let health: BTreeMap<_, _> = services
            .iter()
            .map(|(service, p)| (service.clone(), health_row(service, p)))
            .collect();
        if now != self.services || health != self.health {
            self.services = now;
            self.health = health;
            self.due.get_or_insert_with(|| Instant::now() + WRITE_EVERY);
        }
    }

    async fn write(&mut self) {
        self.due = None;
        let services = self
            .store
            .publish_services(self.services.clone(), Timestamp::now())
            .await;
        let rows = self
            .health
            .values()
            .filter(|row| row.total_checks > 0)
            .cloned()
            .collect();
        let health = self.store.put_health(rows).await;
        if let Err(error) = services.and(health) {
            tracing::warn!(%error, "cannot write services and their health; trying again");
            self.due = Some(Instant::now() + WRITE_EVERY);
        }
    }
}

fn service_row(process: &Process) -> Option<ServiceRow> {
    let mcp = process.spec.mcp.as_ref()?;
    Some(ServiceRow {
        service: mcp.service.clone(),
        app: process.spec.name.clone(),
        port: mcp.port,
        display_name: mcp.display_name.clone(),
        category: mcp.category.clone(),
        spec: serde_json::to_string(mcp).expect("specs hold nothing that JSON can't"),
    })
}

fn health_row(service: &ServiceType, process: &Process) -> HealthRow {
    let health = &process.health;
    HealthRow {
        service: service.clone(),
        last_check: health.last_check,
        response_us: health
            .response
            .map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        consecutive_failures: health.failures,
        good_checks: health.good,
        total_checks: health.total,
        last_failure: health.last_failure.clone(),
    }
}
