//! Which ports a run listens on: before a reload, after one, and when a sibling found its own taken.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::handle::{Supervisor, Unshared};
use super::snapshot::{Snapshot, Status};
use super::unshared::{self, Sibling};
use crate::ids::{PmId, Port};
use crate::sockets;

/// How long a process that has listened may take until it listens again, when it has no
/// `listen_timeout` of its own.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of an app with very many processes, so many are asked: the first ones have the port, if any has.
const SIBLINGS_ASKED: usize = 16;
/// Between two looks.
const EVERY: Duration = Duration::from_millis(20);

/// The ports that this process and its children listen on.
pub(super) async fn now(pid: Option<u32>) -> BTreeSet<Port> {
    let Some(pid) = pid else {
        return BTreeSet::new();
    };
    let look = tokio::task::spawn_blocking(move || sockets::listening_ports(pid));
    look.await.unwrap_or_default()
}

/// Whether these last words of a process are about a port that another process of its app has.
pub(super) async fn siblings_port(words: &str, id: PmId, table: &Snapshot) -> Option<Unshared> {
    let own = table.get(id)?;
    let others = table
        .processes
        .iter()
        .filter(|other| other.id != id && other.spec.name == own.spec.name);
    let mut siblings = Vec::new();
    for other in others.take(SIBLINGS_ASKED) {
        siblings.push(Sibling {
            id: other.id,
            ports: now(other.pid).await,
        });
    }
    let taken = unshared::taken_by(words, &siblings)?;
    Some(Unshared {
        port: taken.port,
        why: taken.to_string(),
    })
}

/// Waits until a process that was restarted listens on a port as its last run did.
///
/// # Errors
/// Why it does not, in a sentence.
pub(super) async fn again(supervisor: &Supervisor, id: PmId) -> Result<(), String> {
    let began = Instant::now();
    let mut generation = None;
    loop {
        let snapshot = supervisor.snapshot();
        let process = snapshot.get(id).ok_or("it was deleted")?;
        if generation.is_some_and(|known| known != process.generation) {
            let exit = process.last_exit.map(|(exit, _)| exit.to_string());
            return Err(exit.unwrap_or_else(|| "it was restarted".to_owned()));
        }
        generation = Some(process.generation);
        match process.status {
            Status::Online | Status::Launching => {}
            // A sibling has its port: that is no fault of its own.
            Status::Stopped if process.unshared.is_some() => return Ok(()),
            Status::Stopping | Status::Stopped | Status::Waiting | Status::Errored => {
                let why = process.reason.clone();
                return Err(why.unwrap_or_else(|| "it has ended again".to_owned()));
            }
        }
        if !now(process.pid).await.is_empty() {
            return Ok(());
        }
        let patience = process.spec.ready_within.unwrap_or(PATIENCE);
        if began.elapsed() >= patience {
            return Err(format!(
                "it does not listen on a port after {} ms, and the run before it did",
                patience.as_millis()
            ));
        }
        tokio::time::sleep(EVERY).await;
    }
}
