//! What requests leave behind while they pass: numbers of one instance that somebody collects.
//!
//! Counting takes no lock and allocates nothing: it adds to the instance's own numbers. Only the first
//! count since a collection queues the tally, under a lock of one of [`LANES`] queues that is held for
//! a push.
//!
//! Invariant: every count is collected exactly once. A tally that has counted since it was collected
//! last is queued, whoever still knows its instance: one that was rotated or removed loses nothing.
//! So: whoever counts adds first and looks at `queued` second; whoever collects clears `queued` first
//! and looks at the numbers second. In the one order of all these steps (hence `SeqCst`, which costs
//! nothing more where an addition is a locked instruction) one of the two sees what the other did.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::ids::{ServiceType, UserId};
use crate::store::Usage;
use crate::store::histogram::{BUCKETS, bucket};

/// Queues of tallies that have counted, so that requests of different instances seldom meet.
const LANES: usize = 16;

/// The numbers of one entry since they were collected last. About half a KiB; made when the entry
/// gets its first request.
pub struct Tally {
    user: UserId,
    service: ServiceType,
    errors: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    latency_us: AtomicU64,
    latency_max_us: AtomicU64,
    /// Their sum is the number of requests.
    latencies: [AtomicU32; BUCKETS],
    queued: AtomicBool,
    lane: usize,
    tallies: Arc<Tallies>,
}

impl Tally {
    /// A request was answered, after so long.
    pub fn answered(self: &Arc<Self>, took: Duration, is_error: bool) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.fetch_add(us, Ordering::SeqCst);
        // Mostly it is not the longest: then nothing is written.
        if self.latency_max_us.load(Ordering::SeqCst) < us {
            self.latency_max_us.fetch_max(us, Ordering::SeqCst);
        }
        if is_error {
            self.errors.fetch_add(1, Ordering::SeqCst);
        }
        self.latencies[bucket(us)].fetch_add(1, Ordering::SeqCst);
        self.queue();
    }

    /// Bytes of a body have come from the client.
    pub fn received(self: &Arc<Self>, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::SeqCst);
        self.queue();
    }

    /// Bytes of a body went to the client.
    pub fn sent(self: &Arc<Self>, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::SeqCst);
        self.queue();
    }

    fn queue(self: &Arc<Self>) {
        if !self.queued.load(Ordering::SeqCst) && !self.queued.swap(true, Ordering::SeqCst) {
            self.tallies.push(Arc::clone(self));
        }
    }

    /// Takes the numbers.
    fn take(&self) -> Usage {
        self.queued.store(false, Ordering::SeqCst);
        let number = |number: &AtomicU64| number.swap(0, Ordering::SeqCst);
        let mut usage = Usage {
            errors: number(&self.errors),
            bytes_in: number(&self.bytes_in),
            bytes_out: number(&self.bytes_out),
            latency_us: number(&self.latency_us),
            latency_max_us: number(&self.latency_max_us),
            ..Usage::default()
        };
        for (bucket, count) in self.latencies.iter().enumerate() {
            // Most are empty, and stay in the caches of those who count.
            if count.load(Ordering::SeqCst) > 0 {
                let count = u64::from(count.swap(0, Ordering::SeqCst));
                usage.latencies.add(bucket, count);
                usage.requests += count;
            }
        }
        usage
    }
}

/// The tallies that have counted since they were collected.
#[derive(Default)]
pub struct Tallies {
    lanes: [Mutex<Vec<Arc<Tally>>>; LANES],
    next: AtomicUsize,
    news: Notify,
}

impl Tallies {
    /// A tally with nothing in it.
    pub fn tally(self: &Arc<Self>, user: &UserId, service: &ServiceType) -> Arc<Tally> {
        Arc::new(Tally {
            user: user.clone(),
            service: service.clone(),
            errors: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            latency_max_us: AtomicU64::new(0),
            latencies: std::array::from_fn(|_| AtomicU32::new(0)),
            queued: AtomicBool::new(false),
            lane: self.next.fetch_add(1, Ordering::Relaxed) % LANES,
            tallies: Arc::clone(self),
        })
    }

    /// Waits until something was counted that nobody has collected, or may have been. Cancel-safe.
    pub async fn counted(&self) {
        self.news.notified().await;
    }

    /// Collects what was counted since the last time: whose it is, of what, and how much.
    pub fn collect(&self, mut take: impl FnMut(&UserId, &ServiceType, Usage)) {
        for lane in &self.lanes {
            let queued = std::mem::take(&mut *lane.lock().unwrap_or_else(PoisonError::into_inner));
            for tally in queued {
                let usage = tally.take();
                if !usage.is_nothing() {
                    take(&tally.user, &tally.service, usage);
                }
            }
        }
    }

    fn push(&self, tally: Arc<Tally>) {
        let lane = &self.lanes[tally.lane];
        lane.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(tally);
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn user(n: usize) -> UserId {
        UserId::parse(&format!("user-{n}")).unwrap()
    }

    fn service() -> ServiceType {
        ServiceType::parse("demo").unwrap()
    }

    /// What was collected so far, by user.
    #[derive(Default)]
    struct Collected(BTreeMap<UserId, Usage>);

    impl Collected {
        fn collect(&mut self, tallies: &Tallies) {
            tallies.collect(|user, _, usage| {
                self.0.entry(user.clone()).or_default().add(&usage);
            });
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Answered(usize, u64, bool),
        Received(usize, u64),
        Sent(usize, u64),
        /// The instance is rotated: another entry, another tally, and the old one is known no more.
        Renewed(usize),
        Collect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3usize, 0u64..1 << 31, any::<bool>()).prop_map(|(n, us, e)| Step::Answered(n, us, e)),
            2 => (0..3usize, 0u64..1 << 40).prop_map(|(n, bytes)| Step::Received(n, bytes)),
            2 => (0..3usize, 0u64..1 << 40).prop_map(|(n, bytes)| Step::Sent(n, bytes)),
            1 => (0..3usize).prop_map(Step::Renewed),
            2 => Just(Step::Collect),
        ]
    }

    proptest! {
        #[test]
        fn every_count_is_collected_once(steps in proptest::collection::vec(step(), 0..80)) {
            let tallies = Arc::new(Tallies::default());
            let mut own: Vec<_> = (0..3).map(|n| tallies.tally(&user(n), &service())).collect();
            let (mut expected, mut found) = (Collected::default(), Collected::default());
            for step in steps {
                match step {
                    Step::Answered(n, us, is_error) => {
                        own[n].answered(Duration::from_micros(us), is_error);
                        let mut one = Usage {
                            requests: 1,
                            errors: u64::from(is_error),
                            latency_us: us,
                            latency_max_us: us,
                            ..Usage::default()
                        };
                        one.latencies.add(bucket(us), 1);
                        expected.0.entry(user(n)).or_default().add(&one);
                    }
                    Step::Received(n, bytes) => {
                        own[n].received(bytes);
                        expected.0.entry(user(n)).or_default().bytes_in += bytes;
                    }
                    Step::Sent(n, bytes) => {
                        own[n].sent(bytes);
                        expected.0.entry(user(n)).or_default().bytes_out += bytes;
                    }
                    Step::Renewed(n) => own[n] = tallies.tally(&user(n), &service()),
                    Step::Collect => found.collect(&tallies),
                }
            }
            drop(own);
            found.collect(&tallies);
            expected.0.retain(|_, usage| !usage.is_nothing());
            prop_assert_eq!(found.0, expected.0);
        }
    }

    #[test]
    fn nothing_is_lost_between_threads_that_count_and_one_that_collects() {
        const THREADS: u64 = 3;
        const COUNTS: u64 = 20_000;
        let tallies = Arc::new(Tallies::default());
        let tally = tallies.tally(&user(0), &service());
        let left = AtomicUsize::new(THREADS as usize);
        let mut found = Collected::default();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for n in 0..COUNTS {
                        tally.received(3);
                        tally.answered(Duration::from_micros(n), n % 2 == 0);
                        tally.sent(5);
                    }
                    left.fetch_sub(1, Ordering::Release);
                });
            }
            while left.load(Ordering::Acquire) > 0 {
                found.collect(&tallies);
            }
        });
        found.collect(&tallies);
        let usage = &found.0[&user(0)];
        assert_eq!(usage.requests, THREADS * COUNTS);
        assert_eq!(usage.latencies.total(), THREADS * COUNTS);
        assert_eq!(usage.errors, THREADS * COUNTS / 2);
        assert_eq!(usage.bytes_in, 3 * THREADS * COUNTS);
        assert_eq!(usage.bytes_out, 5 * THREADS * COUNTS);
        assert_eq!(usage.latency_us, THREADS * COUNTS * (COUNTS - 1) / 2);
        assert_eq!(usage.latency_max_us, COUNTS - 1);
    }

    #[tokio::test]
    async fn whoever_waits_for_counts_hears_of_them() {
        let tallies = Arc::new(Tallies::default());
        let tally = tallies.tally(&user(0), &service());
        tally.sent(1);
        tallies.counted().await;
        let mut found = Collected::default();
        found.collect(&tallies);
        assert_eq!(found.0[&user(0)].bytes_out, 1);
        tally.sent(2);
        tallies.counted().await;
        found.collect(&tallies);
        assert_eq!(found.0[&user(0)].bytes_out, 3);
    }
}
