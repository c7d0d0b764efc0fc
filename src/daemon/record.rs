//! Keeps the store's copy of services and their health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::publish::services;
use crate::ids::{ServiceType, Timestamp};
use crate::store::{HealthRow, ServiceRow, StoreHandle};
use crate::supervisor::{Process, Supervisor};

/// Health is written together, at most this often; a crash loses that much of it.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Handle to the task that records.
pub(super) struct Recorder(mpsc::Sender<Order>);

/// What a [`Recorder`] says to its task: to write what it has seen, and to end when it is the last
/// word. Answered when that is done.
pub(super) struct Order {
    is_last: bool,
    done: oneshot::Sender<()>,
}

impl Recorder {
    /// The handle, and what the task is given.
    pub(super) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Has it write what it has seen. Done when it returns.
    pub(super) async fn flush(&self) {
        self.order(false).await;
    }

    /// Has it write what it has seen and end. Done when it returns.
    pub(super) async fn close(self) {
        self.order(true).await;
    }

    async fn order(&self, is_last: bool) {
        let (done, written) = oneshot::channel();
        if self.0.send(Order { is_last, done }).await.is_ok() {
            let _ = written.await;
        }
    }
}

/// Records until it is told to end or the supervisor is gone.
pub(super) async fn run(
    supervisor: Supervisor,
    store: StoreHandle,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut changes = supervisor.subscribe();
    let mut kept = Kept {
        store,
        seen: BTreeMap::new(),
        written: Vec::new(),
        due: None,
    };
    loop {
        let snapshot = changes.borrow_and_update().clone();
        kept.note(services(&snapshot));
        let due = kept.due.unwrap_or_else(Instant::now);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(due), if kept.due.is_some() => kept.write().await,
            order = orders.recv() => {
                let Some(Order { is_last, done }) = order else {
                    return;
                };
                if kept.due.is_some() {
                    kept.write().await;
                }
                let _ = done.send(());
                if is_last {
                    return;
                }
            }
        }
    }
}

/// The store's copy.
struct Kept {
    store: StoreHandle,
    seen: BTreeMap<ServiceType, Arc<Process>>,
    written: Vec<ServiceRow>,
    due: Option<Instant>,
}

impl Kept {
    /// Processes that did not change are shared between snapshots.
    fn note(&mut self, services: BTreeMap<ServiceType, Arc<Process>>) {
        let same = services.len() == self.seen.len()
            && services
                .iter()
                .zip(&self.seen)
                .all(|((service, now), (known, before))| {
                    service == known && Arc::ptr_eq(now, before)
                });
        if !same {
            self.seen = services;
            self.due.get_or_insert_with(|| Instant::now() + WRITE_EVERY);
        }
    }

    async fn write(&mut self) {
        self.due = None;
        let rows: Vec<ServiceRow> = self.seen.values().filter_map(|p| service_row(p)).collect();
        let services = if rows == self.written {
            Ok(())
        } else {
            self.store
                .publish_services(rows.clone(), Timestamp::now())
                .await
        };
        let checked = self
            .seen
            .iter()
            .filter(|(_, process)| process.health.total > 0);
        let health = checked
            .map(|(service, process)| health_row(service, process))
            .collect();
        let health = self.store.put_health(health).await;
        match services.and(health) {
            Ok(()) => self.written = rows,
            Err(error) => {
                tracing::warn!(%error, "cannot write services and their health; trying again");
                self.due = Some(Instant::now() + WRITE_EVERY);
            }
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
