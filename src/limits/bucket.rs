//! A token bucket. Pure: the time comes in.
//!
//! Kept as the time at which it will be full again (the "theoretical arrival time" of the generic
//! cell rate algorithm, ITU-T I.371): no timer, no sweep, and a compare-and-swap for each taking. What is
//! owed is a time that lies further ahead than the bucket is deep. Times are in nanoseconds from any
//! fixed point, the same for all calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::limits::Rate;

const MINUTE_NS: u64 = 60_000_000_000;

/// How full a bucket is, whatever it holds.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    full_at: AtomicU64,
    /// Tokens per minute that `full_at` counts with; 0 while nothing limits.
    per_minute: AtomicU64,
}

impl Bucket {
    /// Goes on with this rate. When it is another one than before, as many tokens are missing as
    /// before, but no more than there is room for: an empty bucket is the worst to begin with.
    pub(super) fn settle(&self, rate: Option<Rate>, now: u64) {
        let per_minute = rate.map_or(0, |rate| rate.per_minute);
        let before = self.per_minute.load(Ordering::Relaxed);
        // One of those who see the change carries it out.
        if before == per_minute
            || self
                .per_minute
                .compare_exchange(before, per_minute, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let changed = |full_at: u64| {
            let Some(rate) = rate.filter(|_| before > 0) else {
                return Some(0);
            };
            let missing = u128::from(full_at.saturating_sub(now)) * u128::from(before);
            let missing = narrow(missing / u128::from(rate.per_minute.max(1)));
            Some(now.saturating_add(missing.min(cost(rate.burst, rate.per_minute))))
        };
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }

    /// How long until one more could be taken; nothing is.
    pub(super) fn wait_for_one(&self, rate: Rate, now: u64) -> Option<Duration> {
        after_one(self.full_at.load(Ordering::Relaxed), rate, now).err()
    }

    /// Takes one, or says how long to wait for the next.
    pub(super) fn take_one(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = after_one(full_at, rate, now)?;
            let taken = self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Ok(()),
                Err(changed) => full_at = changed,
            }
        }
    }

    /// Gives back one that was taken with this rate.
    pub(super) fn give_one_back(&self, rate: Rate) {
        let less = |full_at: u64| Some(full_at.saturating_sub(each(rate)));
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// How long until anything is left in it; nothing is taken.
    pub(super) fn wait_for_any(&self, rate: Rate, now: u64) -> Option<Duration> {
        let full_at = self.full_at.load(Ordering::Relaxed);
        // At least one token short of empty.
        let room = cost(rate.burst, rate.per_minute).saturating_sub(each(rate));
        let late = full_at.saturating_sub(now.saturating_add(room));
        (late > 0).then(|| Duration::from_nanos(late))
    }

    /// Takes so many, whether they are there or not: what is not is owed. With the rate that holds, and
    /// nothing while none does.
    pub(super) fn take_all(&self, tokens: u64, now: u64) {
        let per_minute = self.per_minute.load(Ordering::Relaxed);
        if per_minute == 0 || tokens == 0 {
            return;
        }
        let more = |full_at: u64| Some(full_at.max(now).saturating_add(cost(tokens, per_minute)));
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Is anything limited by it, so that taking would count?
    pub(super) fn counts(&self) -> bool {
        self.per_minute.load(Ordering::Relaxed) > 0
    }

    /// Is it as a new one?
    pub(super) fn is_full(&self, now: u64) -> bool {
        self.full_at.load(Ordering::Relaxed) <= now
    }
}

/// When the bucket will be full again after one more token is taken.
fn after_one(full_at: u64, rate: Rate, now: u64) -> Result<u64, Duration> {
    let each = each(rate);
    let capacity = each.saturating_mul(rate.burst.max(1));
    let next = full_at.max(now).saturating_add(each);
    let too_early = next.saturating_sub(now.saturating_add(capacity));
    if too_early > 0 {
        Err(Duration::from_nanos(too_early))
    } else {
        Ok(next)
    }
}

/// The time that one token takes to come. Rounded up, as all that is taken: never more than the rate.
fn each(rate: Rate) -> u64 {
    cost(1, rate.per_minute)
}

/// The time that so many tokens take to come.
fn cost(tokens: u64, per_minute: u64) -> u64 {
    let per_minute = per_minute.max(1);
    match tokens.checked_mul(MINUTE_NS) {
        Some(time) => time.div_ceil(per_minute),
        None => {
            let time = u128::from(tokens) * u128::from(MINUTE_NS);
            narrow(time.div_ceil(u128::from(per_minute)))
        }
    }
}

fn narrow(time: u128) -> u64 {
    u64::try_from(time).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(per_minute: u64, burst: u64) -> Rate {
        Rate { per_minute, burst }
    }

    fn settled(rate: Rate) -> Bucket {
        let bucket = Bucket::default();
        bucket.settle(Some(rate), SECOND);
        bucket
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limit = rate(60, 3);
        let bucket = settled(limit);
        let start = 1000 * SECOND;
        for _ in 0..3 {
            assert_eq!(bucket.take_one(limit, start), Ok(()));
        }
        let wait = |now| bucket.take_one(limit, now).err();
        assert_eq!(wait(start), Some(Duration::from_secs(1)));
        let half = start + SECOND / 2;
        assert_eq!(wait(half), Some(Duration::from_millis(500)));
        assert_eq!(bucket.wait_for_one(limit, half), wait(half));
        assert_eq!(wait(start + SECOND), None);
        assert_eq!(wait(start + SECOND), Some(Duration::from_secs(1)));
        bucket.give_one_back(limit);
        assert_eq!(wait(start + SECOND), None);
        // After a long silence the bucket is full, not fuller.
        assert!(bucket.is_full(start + 100 * SECOND));
        for _ in 0..3 {
            assert_eq!(wait(start + 100 * SECOND), None);
        }
        assert!(wait(start + 100 * SECOND).is_some());
    }

    #[test]
    fn what_is_over_is_owed() {
        let limit = rate(60_000, 2000);
        let bucket = settled(limit);
        let start = 1000 * SECOND;
        bucket.take_all(1999, start);
        assert_eq!(bucket.wait_for_any(limit, start), None);
        bucket.take_all(4001, start);
        // 4,000 are owed, and one more is to be there.
        let wait = bucket.wait_for_any(limit, start);
        assert_eq!(wait, Some(Duration::from_millis(4001)));
        assert!(!bucket.is_full(start + 5 * SECOND) && bucket.is_full(start + 6 * SECOND));
    }

    #[test]
    fn with_another_rate_as_much_is_missing_as_before() {
        let bucket = settled(rate(600, 600));
        let start = 1000 * SECOND;
        for _ in 0..300 {
            bucket.take_one(rate(600, 600), start).unwrap();
        }
        let other = rate(60, 400);
        bucket.settle(Some(other), start);
        let free = (0..).take_while(|_| bucket.take_one(other, start).is_ok());
        assert_eq!(free.count(), 100);
        // A smaller one is empty, not owing.
        let small = rate(60, 1);
        bucket.settle(Some(rate(61, 400)), start);
        bucket.settle(Some(small), start);
        let wait = bucket.take_one(small, start).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        bucket.settle(None, start);
        bucket.take_all(1_000_000, start);
        bucket.settle(Some(small), start);
        assert!(bucket.take_one(small, start).is_ok());
    }

    #[test]
    fn several_threads_take_no_more_than_there_is() {
        let limit = rate(1, 1000);
        let bucket = settled(limit);
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if bucket.take_one(limit, SECOND).is_ok() {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1000);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            per_minute in 1..100_000u64, burst in 1..1000u64,
            gaps in proptest::collection::vec(0..SECOND, 1..300),
        ) {
            let limit = rate(per_minute, burst);
            let bucket = settled(limit);
            let (mut now, mut passed) = (SECOND, 0u64);
            for gap in gaps {
                now += gap;
                passed += u64::from(bucket.take_one(limit, now).is_ok());
            }
            prop_assert!(passed <= burst + (now - SECOND) * per_minute / MINUTE_NS);
        }

        #[test]
        fn waiting_as_long_as_told_is_enough_and_no_less(
            full_at: u32, now: u32, per_minute in 1..10_000u64,
        ) {
            let limit = rate(per_minute, 1);
            let bucket = settled(limit);
            bucket.full_at.store(u64::from(full_at) * 16, Ordering::Relaxed);
            let now = u64::from(now) * 16;
            if let Some(wait) = bucket.wait_for_one(limit, now) {
                let later = now + u64::try_from(wait.as_nanos()).unwrap();
                prop_assert_eq!(bucket.wait_for_one(limit, later), None);
                prop_assert!(bucket.wait_for_one(limit, later - 1).is_some());
            }
            if let Some(wait) = bucket.wait_for_any(limit, now) {
                let later = now + u64::try_from(wait.as_nanos()).unwrap();
                prop_assert_eq!(bucket.wait_for_any(limit, later), None);
            }
        }

        /// A body is never cut, so one may be over; all of them together never are.
        #[test]
        fn no_more_bytes_than_burst_rate_and_one_body(
            per_minute in 60..100_000_000u64, burst in 1..10_000_000u64,
            bodies in proptest::collection::vec((1..1_000_000u64, 0..SECOND), 1..100),
        ) {
            let limit = rate(per_minute, burst);
            let bucket = settled(limit);
            let (mut now, mut passed, mut last) = (SECOND, 0u64, 0u64);
            for (bytes, gap) in bodies {
                now += gap;
                if bucket.wait_for_any(limit, now).is_none() {
                    bucket.take_all(bytes, now);
                    passed += bytes;
                    last = last.max(bytes);
                }
            }
            prop_assert!(passed <= burst + last + (now - SECOND) * per_minute / MINUTE_NS);
        }
    }
}
