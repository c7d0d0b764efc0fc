//! [`Suspects`]: the table of those who guess (`guessing.rs`), its clock, and what they wait for.
//!
//! This machine is never one of them: the operator works from here, and a proxy in front of the
//! router speaks for all its clients from here.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::users::guessing::Guesses;

/// Tokens of addresses that are locked out which are looked up at the same time: the others never
/// stand behind more of them. A right one among them passes.
const LOOK_UPS: usize = 4;

/// From where a call came over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Who guesses tokens and instance ids.
pub struct Suspects {
    guesses: Mutex<Guesses>,
    look_ups: Semaphore,
    began: Instant,
}

impl Suspects {
    pub(super) fn new() -> Self {
        Self {
            guesses: Mutex::new(Guesses::new()),
            look_ups: Semaphore::new(LOOK_UPS),
            began: Instant::now(),
        }
    }

    /// Counts a wrong token or instance id. `Some` when there were too many: then the refusal says
    /// that, and after which time it no longer will.
    pub fn wrong(&self, from: IpAddr) -> Option<Duration> {
        if is_here(from) {
            return None;
        }
        let now = self.now();
        self.lock().wrong(from, now)
    }

    /// To be held while a token is looked up. Only those who are locked out wait for it.
    pub async fn turn(&self, from: IpAddr) -> Option<SemaphorePermit<'_>> {
        if is_here(from) || !self.lock().is_locked(from, self.now()) {
            return None;
        }
        // It is never closed.
        self.look_ups.acquire().await.ok()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strangers_are_locked_out_for_a_while_and_this_machine_never_is() {
        let suspects = Suspects::new();
        let eve = IpAddr::from([192, 0, 2, 1]);
        assert!(suspects.turn(eve).await.is_none());
        let wait = (0..100).find_map(|_| suspects.wrong(eve)).unwrap();
        let mut held = Vec::new();
        for _ in 0..LOOK_UPS {
            held.push(suspects.turn(eve).await.unwrap());
        }
        let further = tokio::time::timeout(Duration::from_millis(1), suspects.turn(eve));
        assert!(further.await.is_err(), "it waits");
        let bob = IpAddr::from([192, 0, 2, 2]);
        assert!(suspects.turn(bob).await.is_none(), "and nobody else");
        drop(held);
        tokio::time::advance(wait).await;
        assert_eq!(suspects.wrong(bob), None);
        assert!(suspects.turn(eve).await.is_none());

        let here = Ipv4Addr::new(127, 1, 2, 3);
        for here in [here.into(), here.to_ipv6_mapped().into()] {
            assert!((0..1000).all(|_| suspects.wrong(here).is_none()));
            assert!(suspects.turn(here).await.is_none());
        }
    }
}
