//! What an instance, its user and its service have used; all of it is checked before anything is taken.
//! Pure: the time comes in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::bucket::Bucket;
use crate::config::limits::Quota;
use crate::users::Member;

/// A stream may end at any moment: whoever waits for one is told to ask again soon.
const STREAM_WAIT: Duration = Duration::from_secs(1);

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The instance's.
    Instance,
    /// The user's, over all their instances.
    User,
    /// The service's, over all users.
    Service,
}

impl Scope {
    /// From the one that fewest share to the one that most do.
    pub(super) const ALL: [Self; 3] = [Self::Instance, Self::User, Self::Service];

    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Requests in a time.
    Requests,
    /// Bytes in a time.
    Bytes,
    /// Open streams.
    Streams,
}

impl Resource {
    pub(super) const ALL: [Self; 3] = [Self::Requests, Self::Bytes, Self::Streams];

    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::Streams => "streams",
        }
    }
}

/// What was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// For whom.
    pub scope: Scope,
    /// Of what.
    pub resource: Resource,
    /// How long until the next one may pass.
    pub wait: Duration,
}

/// For whoever has sent it. Tells nothing of others.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, many) = match self.scope {
            Scope::Instance => ("this instance has", "sent"),
            Scope::User => (
                "the user of this instance has",
                "sent, over all their instances",
            ),
            Scope::Service => ("this service has", "been sent just now"),
        };
        match self.resource {
            Resource::Requests => write!(f, "{whose} {many} too many requests"),
            Resource::Bytes => write!(f, "{whose} {many} too many bytes, or been answered them"),
            Resource::Streams => write!(f, "{whose} too many open streams"),
        }
    }
}

/// What one of the three has used.
#[derive(Debug, Default)]
pub(super) struct Used {
    requests: Bucket,
    bytes: Bucket,
    streams: AtomicU32,
}

impl Used {
    /// Is it as a new one?
    pub(super) fn is_nothing(&self, now: u64) -> bool {
        self.requests.is_full(now)
            && self.bytes.is_full(now)
            && self.streams.load(Ordering::Relaxed) == 0
    }

    fn settle(&self, quota: &Quota, now: u64) {
        self.requests.settle(quota.requests, now);
        self.bytes.settle(quota.bytes, now);
    }

    fn waits(&self, quota: &Quota, now: u64) -> [(Resource, Option<Duration>); 2] {
        let requests = quota.requests;
        let requests = requests.and_then(|rate| self.requests.wait_for_one(rate, now));
        let bytes = quota.bytes;
        let bytes = bytes.and_then(|rate| self.bytes.wait_for_any(rate, now));
        [(Resource::Requests, requests), (Resource::Bytes, bytes)]
    }

    /// One more stream; `false`, and nothing changed, when there are as many as may be.
    fn open_stream(&self, most: Option<u32>) -> bool {
        let one_more = |open: u32| match most {
            Some(most) if open >= most => None,
            _ => Some(open.saturating_add(1)),
        };
        self.streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }

    fn close_stream(&self) {
        let less = |open: u32| Some(open.saturating_sub(1));
        let _ = self
            .streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// A user, over all their instances.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) used: Used,
    /// Calls of the REST API.
    pub(super) calls: Bucket,
    pub(super) member: Arc<Member>,
}

/// What limits a request: of its instance, its user and its service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quotas(pub(super) [Quota; 3]);

/// Where the requests of one instance count.
#[derive(Debug)]
pub struct Seat {
    pub(super) instance: Used,
    /// What the external service was asked about credentials.
    pub(super) validations: Bucket,
    pub(super) account: Arc<Account>,
    pub(super) service: Arc<Used>,
}

impl Seat {
    /// Is it as a new one?
    pub(super) fn is_nothing(&self, now: u64) -> bool {
        self.instance.is_nothing(now) && self.validations.is_full(now)
    }

    fn all(&self) -> [(Scope, &Used); 3] {
        let used = [&self.instance, &self.account.used, &*self.service];
        let mut number = 0;
        Scope::ALL.map(|scope| {
            number += 1;
            (scope, used[number - 1])
        })
    }

    /// Takes a request, or says what there is too much of: of several the one that takes longest to
    /// wait for.
    pub(super) fn take(&self, quotas: &Quotas, now: u64) -> Result<(), Denied> {
        let all = self.all();
        let mut worst: Option<Denied> = None;
        for ((scope, used), quota) in all.iter().zip(&quotas.0) {
            used.settle(quota, now);
            for (resource, wait) in used.waits(quota, now) {
                let longest = worst.map_or(Duration::ZERO, |worst| worst.wait);
                if let Some(wait) = wait.filter(|&wait| wait > longest) {
                    worst = Some(Denied {
                        scope: *scope,
                        resource,
                        wait,
                    });
                }
            }
        }
        if let Some(denied) = worst {
            return Err(denied);
        }
        for (at, ((scope, used), quota)) in all.iter().zip(&quotas.0).enumerate() {
            let Some(rate) = quota.requests else {
                continue;
            };
            // Somebody may have come between.
            if let Err(wait) = used.requests.take_one(rate, now) {
                for ((_, used), quota) in all.iter().zip(&quotas.0).take(at) {
                    if let Some(rate) = quota.requests {
                        used.requests.give_one_back(rate);
                    }
                }
                return Err(Denied {
                    scope: *scope,
                    resource: Resource::Requests,
                    wait,
                });
            }
        }
        Ok(())
    }

    /// Do bytes count for any of the three?
    pub(super) fn counts_bytes(&self) -> bool {
        self.all().iter().any(|(_, used)| used.bytes.counts())
    }

    /// Bytes have passed, either way.
    pub(super) fn pass(&self, bytes: u64, now: u64) {
        for (_, used) in self.all() {
            used.bytes.take_all(bytes, now);
        }
    }

    /// Opens a stream, which is open as long as the slot is there.
    pub(super) fn open(self: &Arc<Self>, quotas: &Quotas) -> Result<Slot, Denied> {
        let all = self.all();
        for (at, ((scope, used), quota)) in all.iter().zip(&quotas.0).enumerate() {
            if !used.open_stream(quota.streams) {
                for (_, used) in &all[..at] {
                    used.close_stream();
                }
                return Err(Denied {
                    scope: *scope,
                    resource: Resource::Streams,
                    wait: STREAM_WAIT,
                });
            }
        }
        Ok(Slot(Arc::clone(self)))
    }

    /// The same for a stream that is open already, and cannot be refused any more.
    pub(super) fn open_anyway(self: &Arc<Self>) -> Slot {
        for (_, used) in self.all() {
            used.open_stream(None);
        }
        Slot(Arc::clone(self))
    }
}

/// One open stream. However it ends, this is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Seat>);

impl Drop for Slot {
    fn drop(&mut self) {
        for (_, used) in self.0.all() {
            used.close_stream();
        }
    }
}

#[cfg(test)]
mod tests;
