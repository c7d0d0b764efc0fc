//! The way down, in one of three ways: stop everything, leave the services running, or leave all to
//! another daemon.
//!
//! The fourth way, sudden death, needs no code: what is in the journal and the FIFOs is there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::handover::Line;
use super::handover::follow::Follower;
use super::handover::give::Given;
use super::listen::Front;
use super::record::Recorder;
use super::signals::Signals;
use crate::audit::Audit;
use crate::home::Home;
use crate::instances::Instances;
use crate::oauth::OAuth;
use crate::store::StoreHandle;
use crate::supervisor::orphans;
use crate::supervisor::{Action, Supervisor, dump};
use crate::usage::Ledger;
use crate::users::Users;

/// How long a process that has ended keeps its status for the daemon that has taken over.
const STATUS_KEPT: Duration = Duration::from_millis(500);
/// What the end of an app may take after its grace: longer than the supervisor waits for what SIGKILL
/// does not end.
const AFTER_GRACE: Duration = Duration::from_secs(15);

/// What is being ended.
pub(super) struct Ending {
    pub(super) home: Home,
    pub(super) front: Front,
    pub(super) recorder: Recorder,
    pub(super) supervisor: Supervisor,
    pub(super) instances: Instances,
    pub(super) users: Users,
    pub(super) ledger: Ledger,
    pub(super) audit: Audit,
    pub(super) oauth: OAuth,
    pub(super) store: StoreHandle,
    /// A daemon that has handed over to this one and may still drain.
    pub(super) predecessor: Option<Arc<Line>>,
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
        users,
        ledger,
        audit,
        oauth,
        store,
        predecessor,
    } = ending;
    if let Some(before) = predecessor {
        before.all_over().await;
    }
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
            end_all(&supervisor).await;
            supervisor.quiesce().await;
        }
    }
    // Nobody asks for a token any more; what a provider has given already must be stored.
    oauth.close().await;
    ledger.close().await;
    let written = instances.flush_last_used().await;
    if let Err(error) = written.and(users.flush_last_used().await) {
        tracing::warn!(%error, "the times of last use since the last minute are lost");
    }
    drop(instances);
    audit.close().await;
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the database was not closed in order; nothing is lost");
    }
    let _ = std::fs::remove_file(home.socket());
    let _ = std::fs::remove_file(home.pid_file());
}

/// Ends every app. One that nothing ends, such as one that waits for a dead file server, does not keep
/// the daemon: it is named, and stays in the journal for the next one.
async fn end_all(supervisor: &Supervisor) {
    let snapshot = supervisor.snapshot();
    let processes = snapshot.processes.iter();
    let patience = patience(processes.map(|process| process.spec.stop.grace));
    match timeout(patience, supervisor.act(Action::Close, "all", None)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot end the services"),
        Err(_) => {
            for process in &supervisor.snapshot().processes {
                let (app, pm_id, pid) = (&process.spec.name, process.id, process.pid);
                tracing::error!(
                    %app, %pm_id, ?pid,
                    "left behind: it has not ended after {patience:?}; the next daemon takes it over"
                );
            }
        }
    }
}

/// How long the end of apps with these graces is waited for.
fn patience(graces: impl Iterator<Item = Duration>) -> Duration {
    graces.max().unwrap_or_default().saturating_add(AFTER_GRACE)
}

/// Another daemon goes on: finishes what clients have begun, collects children for it, and returns
/// when all that is done, or after `drain`. An instance that ends meanwhile ends what was begun with it here, too; when the
/// other one dies, nothing does. A daemon that has handed over to this one and still drains is waited for: it hears from here what
/// this one hears. A signal ends all of it, in order.
pub(super) async fn leave(
    front: Front,
    follower: Follower,
    given: &Given,
    predecessor: Option<Arc<Line>>,
    drain: Duration,
    signals: &mut Signals,
) {
    let end = Instant::now() + drain;
    let (enough, is_enough) = oneshot::channel::<()>();
    // To the end, since this one may be waiting for its predecessor alone.
    let watch = async {
        tokio::select! {
            // What the other one has said counts before a signal that came after it.
            biased;
            () = follower.until_all_over(&given.line, predecessor.as_deref()) => {}
            name = told_to_end(signals, &follower, given) => {
                tracing::info!(signal = name, "ending what is still under way");
            }
            () = sleep_until(end) => tracing::warn!("ended what was still under way after {drain:?}"),
        }
        drop(enough);
        if let Some(before) = &predecessor {
            before.all_over().await;
        }
        std::future::pending::<Infallible>().await
    };
    let finish = async {
        front.leave(is_enough).await;
        if let Some(before) = &predecessor {
            let _ = timeout_at(end, before.closed()).await;
        }
    };
    tokio::select! {
        () = finish => {}
        never = watch => match never {},
        never = orphans::collect_all_late(STATUS_KEPT) => match never {},
    }
}

/// Waits for a signal that means this daemon. As long as the other one is not known as the daemon, what
/// comes here is meant for that one, and its end is heard in turn.
async fn told_to_end(signals: &mut Signals, follower: &Follower, given: &Given) -> &'static str {
    loop {
        let name = signals.next().await;
        if follower.is_on_its_own() {
            return name;
        }
        follower.passed_signal();
        tracing::info!(
            signal = name,
            pid = given.pid,
            "passed on to the daemon that came"
        );
        given.terminate();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_app_has_its_grace_and_the_daemon_has_an_end() {
        let of = |graces: &[u64]| patience(graces.iter().copied().map(Duration::from_millis));
        assert_eq!(of(&[]), AFTER_GRACE);
        assert_eq!(
            of(&[1600, 60_000, 500]),
            Duration::from_secs(60) + AFTER_GRACE
        );
        assert_eq!(patience([Duration::MAX].into_iter()), Duration::MAX);
    }
}
