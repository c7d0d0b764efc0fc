//! Requests that wait for a service which is about to be there.
//!
//! A service that restarts is back within milliseconds to seconds, and no MCP client tries again by
//! itself. So a request that nothing was written of waits: bounded
//! in time, in number per service, and in number per instance, so that one user's requests leave
//! room for the others'. What waits costs no memory but its head: its body is not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::drain::{Flight, Phase, reached};
use super::refusal::Refusal;
use super::tables::{Routable, ServiceEntry, Services};
use crate::instances::InstanceEntry;

/// Requests that wait for one service.
const HELD_PER_SERVICE_MAX: usize = 1024;
/// Requests of one instance that wait.
const HELD_PER_INSTANCE_MAX: usize = 32;

/// A request's place among those that wait.
struct Place<'a> {
    service: Arc<AtomicUsize>,
    instance: &'a AtomicUsize,
}

impl<'a> Place<'a> {
    /// `None` when there are too many already.
    fn take(service: &Arc<AtomicUsize>, instance: &'a AtomicUsize) -> Option<Self> {
        let place = Self {
            service: service.clone(),
            instance,
        };
        // Both are counted first: dropping the place counts both back.
        let of_service = service.fetch_add(1, Ordering::Relaxed);
        let of_instance = instance.fetch_add(1, Ordering::Relaxed);
        let fits = of_service < HELD_PER_SERVICE_MAX && of_instance < HELD_PER_INSTANCE_MAX;
        fits.then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.service.fetch_sub(1, Ordering::Relaxed);
        self.instance.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The service as it is when it may get a request. `stale` is a run that does not answer any more,
/// whatever the table still says of it.
///
/// # Errors
/// It does not run, is not back by the deadline, too many wait already, or the router ends.
pub(super) async fn ready(
    services: &Services,
    flight: &Flight,
    instance: &InstanceEntry,
    stale: Option<&ServiceEntry>,
    deadline: Instant,
) -> Result<Arc<ServiceEntry>, Refusal> {
    let look = |entry: &Arc<ServiceEntry>| {
        let is_stale = stale.is_some_and(|stale| Arc::ptr_eq(&stale.upstream, &entry.upstream));
        match entry.state {
            Routable::Ready if !is_stale => Some(Ok(entry.clone())),
            Routable::Ready | Routable::Starting => None,
            Routable::Down | Routable::PortTaken => Some(Err(Refusal::Unavailable)),
        }
    };
    let held = match services.load().get(&instance.service) {
        None => return Err(Refusal::Unavailable),
        Some(entry) => match look(entry) {
            Some(found) => return found,
            None => entry.held.clone(),
        },
    };
    let Some(_place) = Place::take(&held, instance.held()) else {
        return Err(Refusal::Unavailable);
    };
    let there = services.until(|table| match table.get(&instance.service) {
        None => Some(Err(Refusal::Unavailable)),
        Some(entry) => look(entry),
    });
    tokio::select! {
        found = there => found,
        () = tokio::time::sleep_until(deadline) => Err(Refusal::Unavailable),
        () = reached(flight.phase(), Phase::Draining) => Err(Refusal::Draining),
    }
}
