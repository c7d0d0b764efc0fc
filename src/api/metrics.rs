//! `GET /metrics`: what is counted, as Prometheus reads it.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::door::Admin;
use super::processes::status;
use super::state::Api;
use crate::ids::Timestamp;
use crate::metrics::{Kind, Page};
use crate::supervisor::Process;
use crate::supervisor::proc::Statm;

/// What is told of an app: of all its processes together.
#[derive(Debug, Default, PartialEq, Eq)]
struct App {
    restarts: u64,
    memory: u64,
}

// ── handlers ──

/// What is counted, in Prometheus' text format 0.0.4.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(_: Admin, State(api): State<Api>) -> Response {
    let mut page = Page::default();
    daemon(&api, &mut page);
    processes(&api, &mut page).await;
    api.figures.write(&mut page);
    ([(CONTENT_TYPE, Page::CONTENT_TYPE)], page.text()).into_response()
}

fn daemon(api: &Api, page: &mut Page) {
    let help = "The daemon that answers.";
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    page.family("mcpm_build_info", Kind::Gauge, help)
        .number(&version, 1);
    let help = "When the daemon has started, in seconds since 1970.";
    page.family("process_start_time_seconds", Kind::Gauge, help)
        .number(&[], seconds(api.started_at));
    let own = Statm::open(std::process::id());
    if let Some(memory) = own.and_then(|own| own.resident()) {
        let help = "Resident memory of the daemon.";
        page.family("process_resident_memory_bytes", Kind::Gauge, help)
            .number(&[], memory);
    }
    let help = "Isolation events since the daemon has started.";
    page.family("mcpm_isolation_events_total", Kind::Counter, help)
        .number(&[], api.audit.isolation_events());
}

async fn processes(api: &Api, page: &mut Page) {
    let snapshot = api.supervisor.snapshot();
    let all = snapshot.processes.clone();
    let usage = api.sampler.sample(snapshot.clone(), all.clone()).await;
    let memory = |process: &Process| usage.get(&process.id).map_or(0, |usage| usage.memory);
    let (mut statuses, mut apps) = (BTreeMap::new(), BTreeMap::new());
    for process in &all {
        *statuses
            .entry(status(process.status).as_str())
            .or_insert(0u64) += 1;
        let app: &mut App = apps.entry(process.spec.name.as_str()).or_default();
        app.restarts += u64::from(process.history.restarts);
        app.memory += memory(process);
    }
    let help = "Processes, by status.";
    let mut family = page.family("mcpm_processes", Kind::Gauge, help);
    for (status, count) in &statuses {
        family.number(&[("status", status)], count);
    }
    let help =
        "Restarts of an app's processes since they were registered, by hand and by themselves.";
    let mut family = page.family("mcpm_app_restarts_total", Kind::Counter, help);
    for (name, app) in &apps {
        family.number(&[("app", name)], app.restarts);
    }
    let help = "Resident memory of an app's root processes.";
    let mut family = page.family("mcpm_app_memory_bytes", Kind::Gauge, help);
    for (name, app) in &apps {
        family.number(&[("app", name)], app.memory);
    }
}

/// With three digits behind the point.
fn seconds(time: Timestamp) -> String {
    let millis = time.as_millis();
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds() {
        let time = Timestamp::parse("1970-01-01T00:00:12.034Z").unwrap();
        assert_eq!(seconds(time), "12.034");
    }
}
