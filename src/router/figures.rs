//! What the router has counted, as Prometheus reads it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mcp::Sessions;
use super::refused::Refused;
use super::tables::{ServiceEntry, Services};
use crate::access_log::AccessLog;
use crate::metrics::{Kind, Page, ServiceCounts};

/// Where the numbers lie. Cheap to clone.
#[derive(Clone)]
pub struct Figures {
    /// Those of services.
    pub services: Arc<Services>,
    /// Those of refusals.
    pub refused: Arc<Refused>,
    /// Those of sessions.
    pub sessions: Sessions,
    /// Where requests are told of.
    pub access_log: AccessLog,
}

/// A number that each service has.
type Of = fn(&ServiceCounts) -> u64;

/// Families with one number for each service.
const EACH: [(&str, Kind, &str, Of); 3] = [
    (
        "mcpm_requests_in_flight",
        Kind::Gauge,
        "Requests whose answers have not ended.",
        |counts| counts.in_flight.get(),
    ),
    (
        "mcpm_streams_open",
        Kind::Gauge,
        "Event streams and WebSockets of clients.",
        |counts| counts.streams.get(),
    ),
    (
        "mcpm_mcp_sessions_renewed_total",
        Kind::Counter,
        "Sessions that were made known to another run of their service.",
        |counts| counts.renewed.get(),
    ),
];

/// Name, help, label, and the label's words with their numbers.
type Twin = (
    &'static str,
    &'static str,
    &'static str,
    [(&'static str, Of); 2],
);

/// Families with two numbers for each service, that a label tells apart.
const TWINS: [Twin; 3] = [
    (
        "mcpm_requests_total",
        "Requests of instances: answered with a status below 500, or failed by the service or its absence.",
        "outcome",
        [
            ("answered", |counts| counts.answered.get()),
            ("failed", |counts| counts.failed.get()),
        ],
    ),
    (
        "mcpm_upstream_connections_total",
        "Connections that requests went over: made for them, or kept from others.",
        "kind",
        [
            ("new", |counts| counts.connections_new.get()),
            ("reused", |counts| counts.connections_reused.get()),
        ],
    ),
    (
        "mcpm_upstream_errors_total",
        "Connections that a service has not taken, and exchanges that it has broken off.",
        "kind",
        [
            ("connect", |counts| counts.refused_connections.get()),
            ("exchange", |counts| counts.broken_exchanges.get()),
        ],
    ),
];

impl Figures {
    /// Writes all of them.
    pub fn write(&self, page: &mut Page) {
        let table = self.services.load();
        let mut services: Vec<&Arc<ServiceEntry>> = table.entries().collect();
        services.sort_unstable_by_key(|entry| entry.spec.service.as_str());
        for (name, help, label, numbers) in TWINS {
            let mut family = page.family(name, Kind::Counter, help);
            for entry in &services {
                for (word, of) in numbers {
                    let labels = [("service", entry.spec.service.as_str()), (label, word)];
                    family.number(&labels, of(&entry.counts));
                }
            }
        }
        for (name, kind, help, of) in EACH {
            let mut family = page.family(name, kind, help);
            for entry in &services {
                family.number(
                    &[("service", entry.spec.service.as_str())],
                    of(&entry.counts),
                );
            }
        }
        let help = "Requests that wait for a service which is about to be there.";
        let mut family = page.family("mcpm_requests_held", Kind::Gauge, help);
        for entry in &services {
            let held = entry.held.load(Ordering::Relaxed);
            family.number(&[("service", entry.spec.service.as_str())], held);
        }
        let help = "Until the head of an answer, or until it was clear that there is none.";
        let mut family = page.family("mcpm_request_duration_seconds", Kind::Histogram, help);
        for entry in &services {
            let labels = [("service", entry.spec.service.as_str())];
            family.times(&labels, &entry.counts.latency.now());
        }
        let help = "What the router has answered itself, by the code in the answer.";
        let mut family = page.family("mcpm_refused_total", Kind::Counter, help);
        for (code, count) in self.refused.now() {
            family.number(&[("code", code)], count);
        }
        let help = "Sessions of MCP in memory; those that nobody uses are in the store alone.";
        page.family("mcpm_mcp_sessions", Kind::Gauge, help)
            .number(&[], self.sessions.count());
        let help = "Answers of services for another client than the one they were sent to; nobody was shown them.";
        page.family("mcpm_mcp_foreign_answers_total", Kind::Counter, help)
            .number(&[], self.sessions.foreign_answers());
        let help =
            "Lines that the access log has lost: the disk is full, or slower than the requests.";
        page.family("mcpm_access_log_lost_lines_total", Kind::Counter, help)
            .number(&[], self.access_log.dropped());
    }
}
