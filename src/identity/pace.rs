//! When the keys of a provider are asked for, and how long those that are there count. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How often a kind of source may be, and has to be, asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Keys that were had are asked for again after so long: a key that the provider withdraws is
    /// believed no longer than this.
    every: Duration,
    /// The first wait after a failure. It doubles with each further one.
    retry: Duration,
    /// And grows no further than this.
    retry_max: Duration,
    /// Requests may ask so long after the last time, whatever the plan says.
    on_demand: Duration,
    /// While none can be had, the last ones count for so long.
    stale: Duration,
    /// Each token asks first, as far as `on_demand` lets it.
    pub(super) looks_first: bool,
}

/// A provider at an address. A token with an unknown key asks at most once a minute; when the provider
/// has been down for a day, its keys are not trusted any longer.
pub(super) const REMOTE: Pace = Pace {
    every: Duration::from_secs(10 * 60),
    retry: Duration::from_secs(5),
    retry_max: Duration::from_secs(60),
    on_demand: Duration::from_secs(60),
    stale: Duration::from_secs(24 * 60 * 60),
    looks_first: false,
};

/// A file, which is looked at when a token comes, and at most once a second.
pub(super) const FILE: Pace = Pace {
    every: Duration::from_secs(60 * 60),
    on_demand: Duration::from_secs(1),
    looks_first: true,
    ..REMOTE
};

/// What has been tried, and what has come of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Age {
    had: Option<Instant>,
    tried: Option<Instant>,
    failures: u32,
}

impl Age {
    /// Keys were had.
    pub(super) fn had(&mut self, now: Instant) {
        self.had = Some(now);
        self.tried = Some(now);
        self.failures = 0;
    }

    /// They could not be had.
    pub(super) fn failed(&mut self, now: Instant) {
        self.tried = Some(now);
        self.failures = self.failures.saturating_add(1);
    }

    /// When they are asked for next, of which nobody needs to remind; `None`: at once.
    pub(super) fn due(&self, pace: &Pace) -> Option<Instant> {
        let tried = self.tried?;
        let wait = match self.failures {
            0 => pace.every,
            failures => {
                let doubled = pace.retry.saturating_mul(1 << (failures - 1).min(16));
                doubled.min(pace.retry_max)
            }
        };
        Some(tried + wait)
    }

    /// May a request have them asked for now? Where there are none, as often as after a first failure.
    pub(super) fn may_ask(&self, pace: &Pace, now: Instant) -> bool {
        let pause = if self.is_usable(pace, now) {
            pace.on_demand
        } else {
            pace.on_demand.min(pace.retry)
        };
        self.tried
            .is_none_or(|tried| now.saturating_duration_since(tried) >= pause)
    }

    /// Do those that were had last still count?
    pub(super) fn is_usable(&self, pace: &Pace, now: Instant) -> bool {
        self.had
            .is_some_and(|had| now.saturating_duration_since(had) < pace.stale)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn begin() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_first_keys_are_asked_for_at_once_and_the_next_in_time() {
        let begin = begin();
        let mut age = Age::default();
        assert_eq!(age.due(&REMOTE), None);
        assert!(age.may_ask(&REMOTE, begin) && !age.is_usable(&REMOTE, begin));
        age.had(begin);
        assert_eq!(age.due(&REMOTE), Some(begin + 600 * SECOND));
        assert!(age.is_usable(&REMOTE, begin));
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_minute() {
        let begin = begin();
        let mut age = Age::default();
        for wait in [5, 10, 20, 40, 60, 60] {
            age.failed(begin);
            assert_eq!(age.due(&REMOTE), Some(begin + wait * SECOND));
        }
        for _ in 0..100 {
            age.failed(begin);
        }
        assert_eq!(age.due(&REMOTE), Some(begin + 60 * SECOND));
        age.had(begin);
        age.failed(begin + SECOND);
        assert_eq!(age.due(&REMOTE), Some(begin + 6 * SECOND));
    }

    #[test]
    fn unknown_keys_ask_once_a_minute_and_files_once_a_second() {
        let begin = begin();
        let mut age = Age::default();
        age.had(begin);
        assert!(!age.may_ask(&REMOTE, begin + 59 * SECOND));
        assert!(age.may_ask(&REMOTE, begin + 60 * SECOND));
        assert!(!age.may_ask(&FILE, begin + SECOND / 2));
        assert!(age.may_ask(&FILE, begin + SECOND));
        age.failed(begin + 60 * SECOND);
        assert!(!age.may_ask(&REMOTE, begin + 119 * SECOND));
    }

    #[test]
    fn where_there_are_no_keys_requests_ask_more_often() {
        let begin = begin();
        let mut age = Age::default();
        for _ in 0..10 {
            age.failed(begin);
        }
        assert!(!age.may_ask(&REMOTE, begin + 4 * SECOND));
        assert!(age.may_ask(&REMOTE, begin + 5 * SECOND));
        age.had(begin);
        assert!(!age.may_ask(&REMOTE, begin + 5 * SECOND));
    }

    #[test]
    fn old_keys_count_for_a_day_and_no_longer() {
        let begin = begin();
        let mut age = Age::default();
        age.had(begin);
        let day = 24 * 3600;
        age.failed(begin + (day - 1) * SECOND);
        assert!(age.is_usable(&REMOTE, begin + (day - 1) * SECOND));
        assert!(!age.is_usable(&REMOTE, begin + day * SECOND));
    }

    proptest! {
        /// However requests and failures fall, nothing is asked for more often than is allowed.
        #[test]
        fn floods_make_no_fetches(waits in prop::collection::vec(0u64..200, 1..200)) {
            let mut now = begin();
            let mut age = Age::default();
            age.had(now);
            let mut asked: Vec<Instant> = vec![now];
            for (turn, wait) in waits.into_iter().enumerate() {
                now += Duration::from_millis(wait * 100);
                if age.may_ask(&REMOTE, now) {
                    asked.push(now);
                    if turn % 3 == 0 { age.failed(now) } else { age.had(now) }
                }
            }
            for pair in asked.windows(2) {
                prop_assert!(pair[1] - pair[0] >= REMOTE.on_demand);
            }
        }
    }
}
