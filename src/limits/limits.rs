//! [`Limits`]: which limits hold, and who has used what.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::usage::{Account, Denied, Quotas, Resource, Scope, Seat, Slot, Used};
use crate::config::limits::{LimitsSpec, Quota, Rate};
use crate::config::spec::ServiceSpec;
use crate::ids::{GroupName, ServiceType, UserId};
use crate::users::Groups;

/// Maps of users, so that first requests of different ones seldom meet.
const SHARDS: usize = 64;
/// Users and instances of a shard, before anybody looks for ones to forget.
const KNOWN_MIN: usize = 64;

/// Limits, and what was used of them. Cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    in_force: ArcSwap<InForce>,
    groups: Groups,
    shards: Box<[Mutex<Shard>]>,
    spread: RandomState,
    services: Mutex<HashMap<ServiceType, Arc<Used>>>,
    refused: [[AtomicU64; 3]; 3],
    began: Instant,
}

/// The limits of the daemon, and what has to be known of them at each request.
#[derive(Default)]
struct InForce {
    spec: LimitsSpec,
    limits_users: bool,
    /// Does it limit anything, wherever a service says nothing?
    is_limit: bool,
}

impl InForce {
    fn new(spec: LimitsSpec) -> Self {
        let limits_users = spec.limits_users();
        let is_limit = limits_users || spec.instance.is_limit() || spec.service.is_limit();
        Self {
            spec,
            limits_users,
            is_limit,
        }
    }
}

#[derive(Default)]
struct Shard {
    users: HashMap<UserId, User>,
    /// With so many it is time to forget some.
    forget_at: usize,
    /// Users and their seats.
    kept: usize,
}

struct User {
    account: Arc<Account>,
    seats: HashMap<ServiceType, Arc<Seat>>,
}

/// A request that is not too much.
#[derive(Debug)]
pub struct Admitted {
    /// Where it counts.
    pub seat: Arc<Seat>,
    /// The stream that it asked for.
    pub slot: Option<Slot>,
}

/// How often something was refused since the daemon has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose limit it was.
    pub scope: Scope,
    /// What was limited.
    pub resource: Resource,
    /// How often.
    pub count: u64,
}

impl Limits {
    /// Nothing is limited, and nothing was used.
    pub fn new(groups: Groups) -> Self {
        Self(Arc::new(Inner {
            in_force: ArcSwap::default(),
            groups,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            spread: RandomState::new(),
            services: Mutex::default(),
            refused: Default::default(),
            began: Instant::now(),
        }))
    }

    /// Puts other limits in force, for the next request of everybody.
    pub fn apply(&self, spec: &LimitsSpec) {
        let spec = InForce::new(spec.clone());
        self.0.in_force.store(Arc::new(spec));
    }

    /// The limits of the daemon.
    pub fn spec(&self) -> LimitsSpec {
        self.0.in_force.load().spec.clone()
    }

    /// Where requests of this user to this service count.
    pub fn seat(&self, user: &UserId, service: &ServiceType) -> Arc<Seat> {
        let of_service = {
            let services = self.0.services.lock();
            let mut services = services.unwrap_or_else(PoisonError::into_inner);
            Arc::clone(services.entry(service.clone()).or_default())
        };
        let now = self.now();
        let mut shard = self.shard(user);
        if let Some(seat) = shard
            .users
            .get(user)
            .and_then(|user| user.seats.get(service))
        {
            return Arc::clone(seat);
        }
        let known = shard.user(user, &self.0.groups, now);
        let seat = Arc::new(Seat {
            instance: Used::default(),
            validations: Bucket::default(),
            account: Arc::clone(&known.account),
            service: of_service,
        });
        known.seats.insert(service.clone(), Arc::clone(&seat));
        shard.kept += 1;
        seat
    }

    /// Takes a call of the REST API by this user.
    ///
    /// # Errors
    /// It would be too much: how long until the next one may pass.
    pub fn call(&self, user: &UserId) -> Result<(), Duration> {
        let rate = self.0.in_force.load().spec.of_calls();
        if !rate.is_limit() {
            return Ok(());
        }
        let now = self.now();
        let mut shard = self.shard(user);
        let calls = &shard.user(user, &self.0.groups, now).account.calls;
        calls.settle(Some(rate), now);
        calls.take_one(rate, now)
    }

    /// Takes a question to an external service, whether a credential of this user is right.
    ///
    /// # Errors
    /// It would be too much: how long until the next one may pass.
    pub fn validation(&self, user: &UserId, service: &ServiceType) -> Result<(), Duration> {
        let rate = self.0.in_force.load().spec.of_validations();
        if !rate.is_limit() {
            return Ok(());
        }
        let (seat, now) = (self.seat(user, service), self.now());
        seat.validations.settle(Some(rate), now);
        seat.validations.take_one(rate, now)
    }

    /// Takes a request to this service, which counts there, and opens a stream where one is asked for;
    /// `None`, and nobody is asked where, when nothing limits it.
    ///
    /// # Errors
    /// It would be too much, and nothing was taken.
    pub fn admit<'a>(
        &self,
        service: &ServiceSpec,
        seat: impl FnOnce() -> &'a Arc<Seat>,
        is_stream: bool,
    ) -> Result<Option<Admitted>, Denied> {
        let in_force = self.0.in_force.load();
        if !in_force.is_limit && !limits_itself(service) {
            return Ok(None);
        }
        let seat = seat();
        let quotas = quotas(&in_force, service, seat);
        let admitted = || {
            let slot = is_stream.then(|| seat.open(&quotas)).transpose()?;
            seat.take(&quotas, self.now())?;
            let seat = Arc::clone(seat);
            Ok(Some(Admitted { seat, slot }))
        };
        admitted().map_err(|denied| self.count(denied))
    }

    /// Opens a stream for a request that was admitted, whose answer is one: where nothing is lost with
    /// the answer it may be refused, else it counts, and the next one is refused.
    ///
    /// # Errors
    /// There are as many as may be.
    pub fn open_stream(
        &self,
        service: &ServiceSpec,
        seat: &Arc<Seat>,
        is_safe: bool,
    ) -> Result<Slot, Denied> {
        if !is_safe {
            return Ok(seat.open_anyway());
        }
        let quotas = quotas(&self.0.in_force.load(), service, seat);
        seat.open(&quotas).map_err(|denied| self.count(denied))
    }

    /// Bytes of a body have passed, either way.
    pub fn pass(&self, seat: &Seat, bytes: u64) {
        // The clock is asked only where that matters.
        if seat.counts_bytes() {
            seat.pass(bytes, self.now());
        }
    }

    /// What holds for a user of this group, over all their instances.
    pub fn of_user(&self, group: Option<&GroupName>) -> Quota {
        self.0.in_force.load().spec.of_user(group).in_force()
    }

    /// What holds for each instance of this service, and for the service as a whole.
    pub fn of_service(&self, service: &ServiceSpec) -> (Quota, Quota) {
        let in_force = self.0.in_force.load();
        (
            of_instance(&in_force.spec, service),
            of_whole(&in_force.spec, service),
        )
    }

    /// How often each limit has refused something.
    pub fn refused(&self) -> Vec<Refused> {
        let all = Scope::ALL.into_iter();
        all.flat_map(|scope| Resource::ALL.map(|resource| (scope, resource)))
            .map(|(scope, resource)| Refused {
                scope,
                resource,
                count: self.counter(scope, resource).load(Ordering::Relaxed),
            })
            .collect()
    }

    fn count(&self, denied: Denied) -> Denied {
        self.counter(denied.scope, denied.resource)
            .fetch_add(1, Ordering::Relaxed);
        denied
    }

    fn counter(&self, scope: Scope, resource: Resource) -> &AtomicU64 {
        &self.0.refused[scope as usize][resource as usize]
    }

    fn shard(&self, user: &UserId) -> MutexGuard<'_, Shard> {
        let at = self.0.spread.hash_one(user.as_str()) as usize % SHARDS;
        let shard = self.0.shards[at].lock();
        shard.unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Shard {
    /// This user, who is known from now on.
    fn user(&mut self, user: &UserId, groups: &Groups, now: u64) -> &mut User {
        if self.kept >= self.forget_at {
            self.forget(now);
        }
        let kept = &mut self.kept;
        self.users.entry(user.clone()).or_insert_with(|| {
            *kept += 1;
            User {
                account: Arc::new(Account {
                    used: Used::default(),
                    calls: Bucket::default(),
                    member: groups.member(user),
                }),
                seats: HashMap::new(),
            }
        })
    }

    /// Forgets whoever is as good as new, and whom nobody else has in hand: while the shard is locked
    /// nobody gets it.
    fn forget(&mut self, now: u64) {
        let mut left = 0;
        self.users.retain(|_, user| {
            user.seats
                .retain(|_, seat| Arc::strong_count(seat) > 1 || !seat.is_nothing(now));
            let account = &user.account;
            let is_nothing = account.used.is_nothing(now) && account.calls.is_full(now);
            let stays = !user.seats.is_empty() || !is_nothing;
            left += user.seats.len() + usize::from(stays);
            stays
        });
        self.kept = left;
        self.forget_at = (left * 2).max(KNOWN_MIN);
    }
}

/// Does its own block limit anything?
fn limits_itself(service: &ServiceSpec) -> bool {
    service.rate_limit.is_some()
        || service.limits.instance.is_limit()
        || service.limits.service.is_limit()
}

fn quotas(in_force: &InForce, service: &ServiceSpec, seat: &Seat) -> Quotas {
    let of_user = if in_force.limits_users {
        let group = seat.account.member.group();
        in_force.spec.of_user(group.as_deref()).in_force()
    } else {
        Quota::default()
    };
    Quotas([
        of_instance(&in_force.spec, service),
        of_user,
        of_whole(&in_force.spec, service),
    ])
}

fn of_instance(spec: &LimitsSpec, service: &ServiceSpec) -> Quota {
    let old = Quota {
        requests: service.rate_limit.map(|rate| Rate {
            per_minute: u64::from(rate.per_minute),
            burst: u64::from(rate.burst),
        }),
        ..Quota::default()
    };
    let own = service.limits.instance.or(old);
    own.or(spec.instance).in_force()
}

fn of_whole(spec: &LimitsSpec, service: &ServiceSpec) -> Quota {
    service.limits.service.or(spec.service).in_force()
}

#[cfg(test)]
mod tests;
