//! Keeps an eye on every service that runs: one task per run, from its start to its end.
//!
//! Readiness first: probed every `READY_EVERY` until it answers or `start_timeout` is over; then
//! the listener must belong to the service's own session, else somebody else has its port and it
//! gets no credentials; then liveness every `interval`. What is learnt goes to the supervisor, which
//! shows it and restarts what has failed.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::probe::{self, ProbeOutcome};
use super::verdict::{Change, Verdict};
use crate::config::spec::ServiceSpec;
use crate::ids::{PmId, Port, Timestamp};
use crate::sockets;
use crate::store::HealthRow;
use crate::supervisor::snapshot::{Health, Readiness, Status};
use crate::supervisor::{Process, Supervisor};

/// Between two probes of a service that is not ready yet.
const READY_EVERY: Duration = Duration::from_millis(50);
/// The first waits are shorter: a native program is there in a few milliseconds.
const READY_FIRST: Duration = Duration::from_millis(2);
/// Between two looks at a port that somebody else has.
const TAKEN_EVERY: Duration = Duration::from_secs(1);

/// Watches until the supervisor is gone. `seen` is what earlier daemons have counted.
pub async fn run(supervisor: Supervisor, seen: Vec<HealthRow>) {
    let mut table = supervisor.subscribe();
    let mut watched: HashMap<PmId, (u64, AbortHandle)> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let snapshot = table.borrow_and_update().clone();
        let online =
            |process: &Process| process.status == Status::Online && process.spec.mcp.is_some();
        watched.retain(|id, (generation, task)| {
            let same = snapshot
                .get(*id)
                .is_some_and(|now| now.generation == *generation && online(now));
            if !same {
                task.abort();
            }
            same
        });
        for process in snapshot.processes.iter().filter(|process| online(process)) {
            watched.entry(process.id).or_insert_with(|| {
                let mut process = process.as_ref().clone();
                take_up(&mut process, &seen);
                let generation = process.generation;
                let watch = watch_run(supervisor.clone(), process);
                (generation, tasks.spawn(watch))
            });
        }
        tokio::select! {
            changed = table.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a health watcher failed");
                }
            }
        }
    }
}

/// Goes on counting where the last daemon stopped.
fn take_up(process: &mut Process, seen: &[HealthRow]) {
    let Some(mcp) = &process.spec.mcp else { return };
    let Some(row) = seen.iter().find(|row| row.service == mcp.service) else {
        return;
    };
    if process.health.total == 0 {
        process.health.good = row.good_checks;
        process.health.total = row.total_checks;
        process.health.last_check = row.last_check;
        process.health.response = row.response_us.map(Duration::from_micros);
    }
}

/// One run of one service, from its start on.
async fn watch_run(supervisor: Supervisor, process: Process) {
    let Some(mcp) = process.spec.mcp.clone() else {
        return;
    };
    let mut watch = Watch {
        supervisor,
        id: process.id,
        generation: process.generation,
        session: process.pid.unwrap_or(0),
        health: process.health,
        verdict: Verdict::new(mcp.health.unhealthy_after),
        mcp,
    };
    if watch.until_ready().await {
        watch.while_alive().await;
    }
}

/// Who has a service's port.
enum Listens {
    Itself,
    Nobody,
    /// Or someone who cannot be told; in a sentence.
    Stranger(String),
}

struct Watch {
    supervisor: Supervisor,
    id: PmId,
    generation: u64,
    /// The root process leads the session that the listener must belong to.
    session: u32,
    mcp: ServiceSpec,
    health: Health,
    verdict: Verdict,
}

impl Watch {
    /// `false` when it was reported and will be restarted.
    async fn until_ready(&mut self) -> bool {
        let deadline = Instant::now() + self.mcp.start_timeout;
        let mut pause = READY_FIRST;
        loop {
            let (port, health) = (self.mcp.port, &self.mcp.health);
            let outcome =
                probe::probe(port, &health.readiness, &health.expect, health.timeout).await;
            let mut next = pause;
            match &outcome {
                ProbeOutcome::Alive { at, .. } => match self.listener().await {
                    Listens::Itself => {
                        self.health.at = *at;
                        self.note(&outcome);
                        self.verdict.ready();
                        self.health.readiness = Readiness::Ready;
                        self.report().await;
                        return true;
                    }
                    // It was there a moment ago: it has just ended, and the next probe will tell.
                    Listens::Nobody => {}
                    Listens::Stranger(why) => {
                        self.refuse(why).await;
                        next = TAKEN_EVERY;
                    }
                },
                ProbeOutcome::Failed(failure) => {
                    let failure = failure.to_string();
                    if Instant::now() >= deadline {
                        let limit = self.mcp.start_timeout.as_millis();
                        self.fail(format!("not ready within {limit} ms: {failure}"))
                            .await;
                        return false;
                    }
                    // Shown to those who wait, once and not with every probe.
                    if self.health.last_failure.as_ref() != Some(&failure) {
                        self.health.last_failure = Some(failure);
                        self.report().await;
                    }
                }
            }
            tokio::time::sleep(next).await;
            pause = (pause * 2).min(READY_EVERY);
        }
    }

    async fn while_alive(&mut self) {
        loop {
            tokio::time::sleep(self.mcp.health.interval).await;
            let health = &self.mcp.health;
            let outcome = probe::probe(
                self.mcp.port,
                &health.liveness,
                &health.expect,
                health.timeout,
            )
            .await;
            match self.note(&outcome) {
                Some(Change::Unhealthy) => {
                    self.health.readiness = Readiness::Unhealthy;
                    self.report().await;
                    let times = self.health.failures;
                    let last = self.health.last_failure.clone().unwrap_or_default();
                    self.fail(format!(
                        "{times} failed health checks in a row; the last: {last}"
                    ))
                    .await;
                    return;
                }
                Some(Change::Ready) | None => self.report().await,
            }
        }
    }

    /// Writes one answer down.
    fn note(&mut self, outcome: &ProbeOutcome) -> Option<Change> {
        self.health.last_check = Some(Timestamp::now());
        self.health.total += 1;
        match outcome {
            ProbeOutcome::Alive { took, .. } => {
                self.health.response = Some(*took);
                self.health.good += 1;
                self.health.last_failure = None;
            }
            ProbeOutcome::Failed(failure) => {
                self.health.last_failure = Some(failure.to_string());
            }
        }
        let change = self
            .verdict
            .see(matches!(outcome, ProbeOutcome::Alive { .. }));
        self.health.failures = self.verdict.failures();
        change
    }

    /// No credential goes to a port that a stranger has.
    async fn listener(&self) -> Listens {
        let (port, session) = (self.mcp.port, self.session);
        let unknown = |error: &dyn std::fmt::Display| {
            Listens::Stranger(format!("cannot tell who listens on port {port}: {error}"))
        };
        match tokio::task::spawn_blocking(move || look(port, session)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => unknown(&error),
            Err(error) => unknown(&error),
        }
    }

    async fn refuse(&mut self, why: String) {
        if self.health.last_failure.as_ref() != Some(&why) {
            tracing::warn!(service = %self.mcp.service, "{why}");
        }
        self.health.readiness = Readiness::PortTaken;
        self.health.last_failure = Some(why);
        self.report().await;
    }

    async fn report(&self) {
        self.supervisor
            .report_health(self.id, self.generation, self.health.clone())
            .await;
    }

    async fn fail(&self, why: String) {
        self.supervisor
            .report_unhealthy(self.id, self.generation, why)
            .await;
    }
}

/// Blocks.
fn look(port: Port, session: u32) -> io::Result<Listens> {
    // Most have it themselves, which is told without a look at everybody.
    if sockets::is_listener(session, port)? {
        return Ok(Listens::Itself);
    }
    Ok(match sockets::listener_owner(port)? {
        None => Listens::Nobody,
        Some(listener) if listener.belongs_to_session(session) => Listens::Itself,
        Some(listener) => Listens::Stranger(format!("port {port} is taken by {listener}")),
    })
}
