//! Rotation of the master key, as long as one is under way: all that is stored is sealed anew.
//!
//! Rests while the daemon hands over: the next one reads the record and goes on.

use std::future;
use std::time::Duration;

use crate::api::Gate;
use crate::audit::{Audit, By, words};
use crate::instances::{InstanceError, Instances, Walk};
use crate::problem::chain;
use crate::vault::{MasterKeys, RotateError};

/// After a failure (a full disk, most likely) it is tried again so much later.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why it could not be done this time.
#[derive(Debug, thiserror::Error)]
enum RekeyError {
    #[error(transparent)]
    Instances(#[from] InstanceError),
    #[error(transparent)]
    Keys(#[from] RotateError),
}

/// Never ends by itself.
pub(super) async fn run(keys: MasterKeys, instances: Instances, audit: Audit, gate: Gate) {
    let mut news = keys.rotation();
    loop {
        let due = news
            .borrow_and_update()
            .as_ref()
            .filter(|now| !now.waits)
            .map(|now| now.round);
        if let Some(round) = due {
            if !gate.opened().await {
                // Another daemon goes on with it.
                future::pending::<()>().await;
            }
            let walked = tokio::select! {
                walked = walk(round, &keys, &instances) => walked,
                () = gate.closed() => continue,
            };
            let done = match walked {
                Ok(()) => finish(round, &keys, &audit, &gate).await,
                failed => failed,
            };
            if let Err(error) = done {
                tracing::error!(
                    error = %chain(&error),
                    "cannot go on with the rotation of the master key; trying again"
                );
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        }
        if news.changed().await.is_err() {
            future::pending::<()>().await;
        }
    }
}

async fn walk(round: u64, keys: &MasterKeys, instances: &Instances) -> Result<(), RekeyError> {
    let count = || instances.counts().into_values().sum::<u64>();
    let told = |walk: Walk| keys.tell(round, count(), walk.seen, walk.unreadable);
    instances.reseal(told).await?;
    Ok(())
}

/// Counts as a call: a hand-over waits for it, so that the daemon that comes finds it done or not.
async fn finish(
    round: u64,
    keys: &MasterKeys,
    audit: &Audit,
    gate: &Gate,
) -> Result<(), RekeyError> {
    let Some(_call) = gate.enter().await else {
        return Ok(());
    };
    if keys.finish(round).await? {
        audit.record(By::system().entry(words::KEY_ROTATED));
    }
    Ok(())
}
