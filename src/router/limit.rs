//! Token bucket of an instance. Pure: the time comes in.
//!
//! Kept as one number, the time at which the bucket will be full again (the "theoretical arrival
//! time" of the generic cell rate algorithm, ITU-T I.371): no timer, no sweep, and one
//! compare-and-swap per request. The number lies in the instance's entry and lives as long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::spec::RateLimit;

const MINUTE_NS: u64 = 60_000_000_000;

/// Takes one token, or says how long to wait for the next. `now` is in nanoseconds from any fixed
/// point, the same for all calls of one meter.
pub(super) fn take(meter: &AtomicU64, limit: RateLimit, now: u64) -> Result<(), Duration> {
    let mut full_at = meter.load(Ordering::Relaxed);
    loop {
        let next = after(full_at, limit, now)?;
        match meter.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(changed) => full_at = changed,
        }
    }
}

/// When the bucket will be full again after one more token is taken.
fn after(full_at: u64, limit: RateLimit, now: u64) -> Result<u64, Duration> {
    let each = MINUTE_NS / u64::from(limit.per_minute.max(1));
    let capacity = each.saturating_mul(u64::from(limit.burst.max(1)));
    let next = full_at.max(now).saturating_add(each);
    let too_early = next.saturating_sub(now.saturating_add(capacity));
    if too_early > 0 {
        Err(Duration::from_nanos(too_early))
    } else {
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limit = RateLimit {
            per_minute: 60,
            burst: 3,
        };
        let meter = AtomicU64::new(0);
        let start = 1000 * SECOND;
        for _ in 0..3 {
            assert_eq!(take(&meter, limit, start), Ok(()));
        }
        assert_eq!(take(&meter, limit, start), Err(Duration::from_secs(1)));
        assert_eq!(
            take(&meter, limit, start + SECOND / 2),
            Err(Duration::from_millis(500))
        );
        assert_eq!(take(&meter, limit, start + SECOND), Ok(()));
        assert_eq!(
            take(&meter, limit, start + SECOND),
            Err(Duration::from_secs(1))
        );
        // After a long silence the bucket is full, not fuller.
        for _ in 0..3 {
            assert_eq!(take(&meter, limit, start + 100 * SECOND), Ok(()));
        }
        assert!(take(&meter, limit, start + 100 * SECOND).is_err());
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            per_minute in 1..100_000u32, burst in 1..1000u32,
            gaps in proptest::collection::vec(0..SECOND, 1..300),
        ) {
            let limit = RateLimit { per_minute, burst };
            let meter = AtomicU64::new(0);
            let (mut now, mut passed) = (SECOND, 0u64);
            for gap in gaps {
                now += gap;
                passed += u64::from(take(&meter, limit, now).is_ok());
            }
            let each = MINUTE_NS / u64::from(per_minute);
            prop_assert!(passed <= u64::from(burst) + (now - SECOND) / each + 1);
        }

        #[test]
        fn waiting_as_long_as_told_is_enough(full_at: u32, now: u32, per_minute in 1..10_000u32) {
            let limit = RateLimit { per_minute, burst: 1 };
            let (full_at, now) = (u64::from(full_at) * 16, u64::from(now) * 16);
            if let Err(wait) = after(full_at, limit, now) {
                let later = now + u64::try_from(wait.as_nanos()).unwrap();
                prop_assert!(after(full_at, limit, later).is_ok());
            }
        }
    }
}
