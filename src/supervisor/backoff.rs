//! How long to wait before a restart (pure). Whether to restart at all is `restart.rs`'s.
//!
//! PM2's own two delays are as PM2 has them.

use std::time::Duration;

use crate::config::spec::RestartPolicy;

/// Ceiling of `exp_backoff_restart_delay`, as in PM2.
pub const EXPONENTIAL_MAX: Duration = Duration::from_secs(15);
/// A run this long starts `exp_backoff_restart_delay` anew, as in PM2.
pub const EXPONENTIAL_RESET: Duration = Duration::from_secs(30);
/// First wait of a service that has no delay of its own.
pub const SERVICE_FIRST: Duration = Duration::from_millis(50);
/// Ceiling of that wait: a service is tried once a second, for ever.
pub const SERVICE_MAX: Duration = Duration::from_secs(1);
/// Unstable exits in a row that are answered at once; the wait begins with the next.
pub const SERVICE_FREE: u32 = 2;

/// So many failed starts in a row make the wait longer; it has its ceiling then.
const FAILED_STARTS_GROW: u32 = 9;

/// The wait before the next start, given the last one and the unstable exits in a row, this one
/// included. Never shrinks while `unstable` grows, never passes its ceiling.
pub fn delay(policy: &RestartPolicy, service: bool, unstable: u32, last: Duration) -> Duration {
    if let Some(first) = policy.exp_backoff_restart_delay {
        return grow(first, last, EXPONENTIAL_MAX);
    }
    if let Some(fixed) = policy.restart_delay {
        return fixed;
    }
    if service && unstable > SERVICE_FREE {
        return grow(SERVICE_FIRST, last, SERVICE_MAX);
    }
    Duration::ZERO
}

/// The wait before the next try when so many starts in a row have failed for want of something, this one
/// included: as long as that of a service, from the first on.
pub fn failed_start(failed: u32) -> Duration {
    let longer = |last, _| grow(SERVICE_FIRST, last, SERVICE_MAX);
    (0..failed.clamp(1, FAILED_STARTS_GROW)).fold(Duration::ZERO, longer)
}

/// Half as long again as the last time, in whole milliseconds as PM2 rounds.
fn grow(first: Duration, last: Duration, max: Duration) -> Duration {
    if last < first {
        return first.min(max);
    }
    let millis = u64::try_from(last.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.saturating_add(millis / 2)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(fixed: Option<u64>, growing: Option<u64>) -> RestartPolicy {
        RestartPolicy {
            autorestart: true,
            max_restarts: 16,
            min_uptime: Duration::from_secs(1),
            restart_delay: fixed.map(Duration::from_millis),
            exp_backoff_restart_delay: growing.map(Duration::from_millis),
            stop_exit_codes: Vec::new(),
        }
    }

    #[test]
    fn grows_as_pm2_grows() {
        let policy = policy(None, Some(100));
        let mut last = Duration::ZERO;
        let mut seen = Vec::new();
        for n in 1..=14 {
            last = delay(&policy, false, n, last);
            seen.push(last.as_millis());
        }
        let pm2 = [
            100, 150, 225, 337, 505, 757, 1135, 1702, 2553, 3829, 5743, 8614, 12921, 15000,
        ];
        assert_eq!(seen, pm2);
    }

    #[test]
    fn a_service_waits_from_its_third_unstable_exit_on() {
        let policy = policy(None, None);
        let mut last = Duration::ZERO;
        let mut seen = Vec::new();
        for n in 1..=12 {
            last = delay(&policy, true, n, last);
            seen.push(last.as_millis());
        }
        assert_eq!(
            seen,
            [0, 0, 50, 75, 112, 168, 252, 378, 567, 850, 1000, 1000]
        );
    }

    #[test]
    fn a_plain_app_without_delays_returns_at_once() {
        assert_eq!(
            delay(&policy(None, None), false, 9, Duration::ZERO),
            Duration::ZERO
        );
        let fixed = policy(Some(700), None);
        assert_eq!(
            delay(&fixed, true, 9, Duration::ZERO),
            Duration::from_millis(700)
        );
    }

    #[test]
    fn a_start_that_fails_waits_from_the_first_on_and_not_longer_than_a_second() {
        let waits = |failed| failed_start(failed).as_millis();
        let seen: Vec<u128> = (1..=FAILED_STARTS_GROW).map(waits).collect();
        assert_eq!(seen, [50, 75, 112, 168, 252, 378, 567, 850, 1000]);
        assert_eq!((waits(0), waits(u32::MAX)), (50, 1000));
    }

    proptest! {
        #[test]
        fn delays_never_shrink_nor_pass_the_ceiling(first in 0u64..100_000, service: bool) {
            let policy = policy(None, (first > 0).then_some(first));
            let mut last = Duration::ZERO;
            for n in 1..60 {
                let next = delay(&policy, service, n, last);
                prop_assert!(next >= last && next <= EXPONENTIAL_MAX);
                last = next;
            }
        }
    }
}
