//! The running table as the others may see it: immutable, replaced whole, never edited.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::kill::Life;
use super::machine::{Exit, History};
use super::metrics::Metrics;
use crate::config::AppSpec;
use crate::ids::{PmId, Port, Timestamp};
use crate::logs::files::LogFiles;

/// All processes, by pm_id.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Unchanged ones are shared with the snapshot before.
    pub processes: Vec<Arc<Process>>,
}

impl Snapshot {
    /// The process with this number.
    pub fn get(&self, id: PmId) -> Option<&Arc<Process>> {
        let at = self
            .processes
            .binary_search_by_key(&id, |process| process.id)
            .ok()?;
        self.processes.get(at)
    }
}

/// Where a process is, in the words that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Being started.
    Launching,
    /// Runs.
    Online,
    /// Was asked to end, or its remains are being ended.
    Stopping,
    /// Does not run, and should not.
    Stopped,
    /// Ended, will be started again.
    Waiting,
    /// Ended too often, or could not be started.
    Errored,
}

/// May a service get traffic?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Does not run.
    #[default]
    Down,
    /// Runs, has not answered yet.
    Starting,
    /// Answers.
    Ready,
    /// Has failed its last checks.
    Unhealthy,
    /// Somebody else listens on its port.
    PortTaken,
}

/// What the health checks say, as `health` reports it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// May it get traffic?
    pub readiness: Readiness,
    /// Where it listened when the listener was found to be its own: traffic goes nowhere else.
    pub at: Option<IpAddr>,
    /// When it was asked last.
    pub last_check: Option<Timestamp>,
    /// How long the last answer took.
    pub response: Option<Duration>,
    /// Failed checks in a row.
    pub failures: u32,
    /// Good checks ever.
    pub good: u64,
    /// Checks ever.
    pub total: u64,
    /// What the last failed check said.
    pub last_failure: Option<String>,
}

impl Health {
    /// Nothing but counts and times differs.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let said = |health: &Self| (health.readiness.clone(), health.at, health.failures);
        said(self) == said(other) && self.last_failure == other.last_failure
    }
}

/// What a run beside the main one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is to take over.
    Successor,
    /// It was the main one, and is on its way out.
    Predecessor,
}

/// The run beside the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Root process.
    pub pid: u32,
    /// What it is.
    pub role: Role,
}

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub id: PmId,
    /// Which of its app's processes it is.
    pub instance: u32,
    /// Counts its starts.
    pub generation: u64,
    /// PM2's `unique_id`: a UUID of this run.
    pub unique_id: String,
    /// What it is made from.
    pub spec: Arc<AppSpec>,
    /// Where it is.
    pub status: Status,
    /// Root process; `None` while none runs.
    pub pid: Option<u32>,
    /// The other run, while it is reloaded.
    pub beside: Option<Other>,
    /// Stopped since a process of its app listens on this port, which two can't share.
    pub unshared: Option<Port>,
    /// Does that run live? `None` while none runs.
    pub life: Option<Life>,
    /// Why it is in its state; `None` when all is well.
    pub reason: Option<String>,
    /// Why it was restarted last although it ran and nobody asked.
    pub restarted_for: Option<(String, Timestamp)>,
    /// Something that does not work, and does not keep it from running.
    pub note: Option<String>,
    /// Stopped by hand, or never started: changed files do not start it.
    pub held: bool,
    /// Restarts and unstable exits.
    pub history: History,
    /// First start, or last start by hand.
    pub created_at: Timestamp,
    /// Last start.
    pub started_at: Option<Timestamp>,
    /// Last exit.
    pub last_exit: Option<(Exit, Timestamp)>,
    /// Why we ended it that time, when nobody had asked for it: what its health checks said.
    pub ended_for: Option<String>,
    /// What the checks say.
    pub health: Health,
    /// What this run says about itself.
    pub metrics: Metrics,
    /// Where its output goes.
    pub logs: LogFiles,
    /// Pid file.
    pub pid_file: PathBuf,
}

impl Process {
    /// One that has not been started.
    pub fn registered(id: PmId, instance: u32, spec: Arc<AppSpec>) -> Self {
        Self {
            id,
            instance,
            generation: 0,
            unique_id: String::new(),
            spec,
            status: Status::Stopped,
            pid: None,
            beside: None,
            unshared: None,
            life: None,
            reason: None,
            restarted_for: None,
            note: None,
            held: true,
            history: History::default(),
            created_at: Timestamp::default(),
            started_at: None,
            last_exit: None,
            ended_for: None,
            health: Health::default(),
            metrics: Metrics::default(),
            logs: LogFiles::default(),
            pid_file: PathBuf::new(),
        }
    }
}
