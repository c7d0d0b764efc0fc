//! The way down, in one of two ways: stop everything, or leave the services running.
//!
//! The third way, sudden death, needs no code: what is in the journal and the FIFOs is there.

use super::listen::Front;
use super::record::Recorder;
use crate::home::Home;
use crate::instances::Instances;
use crate::store::StoreHandle;
use crate::supervisor::{Action, Supervisor, dump};

/// What is being ended.
pub(super) struct Ending {
    pub(super) home: Home,
    pub(super) front: Front,
    pub(super) recorder: Recorder,
    pub(super) supervisor: Supervisor,
    pub(super) instances: Instances,
    pub(super) store: StoreHandle,
}

/// Why the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// `mcpm kill`: stop everything, save nothing, as PM2.
    Kill,
    /// SIGTERM and its like: save the list, stop everything, as PM2.
    Signal,
    /// `mcpm kill --keep`: services go on, the next daemon adopts them.
    Keep,
}

/// Ends everything that must end. What is left for the caller is to exit.
pub(super) async fn close(ending: Ending, reason: Reason) {
    let Ending {
        home,
        front,
        recorder,
        supervisor,
        instances,
        store,
    } = ending;
    if reason == Reason::Signal {
        save(&home, &supervisor);
    }
    // No more requests; those under way are finished while their services still live.
    front.close().await;
    // What the checks have counted so far, before services that end are no longer in the list.
    recorder.close().await;
    match reason {
        Reason::Keep => supervisor.quiesce().await,
        Reason::Kill | Reason::Signal => {
            if let Err(error) = supervisor.act(Action::Delete, "all", None).await {
                tracing::error!(%error, "cannot end the services");
            }
            supervisor.quiesce().await;
        }
    }
    if let Err(error) = instances.flush_last_used().await {
        tracing::warn!(%error, "the times of last use since the last minute are lost");
    }
    drop(instances);
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the database was not closed in order; nothing is lost");
    }
    let _ = std::fs::remove_file(home.socket());
    let _ = std::fs::remove_file(home.pid_file());
}

/// An empty list is not written over a saved one.
fn save(home: &Home, supervisor: &Supervisor) {
    let snapshot = supervisor.snapshot();
    if snapshot.processes.is_empty() {
        return;
    }
    match dump::write(&home.dump(), &snapshot) {
        Ok(()) => tracing::info!(processes = snapshot.processes.len(), "the list is saved"),
        Err(error) => tracing::error!(%error, "the list could not be saved"),
    }
}
