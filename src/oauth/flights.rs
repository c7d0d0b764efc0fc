//! One refresh at a time for each credential: who asks, who waits, and when to ask again. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::PublicId;

/// After the first refresh that could not be done, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Credentials of which a failure is remembered; more of them are asked for again at once.
const FAILURES_MAX: usize = 10_000;

/// What whoever wants a refresh does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T> {
    /// Ask, and tell the others by this.
    Ask,
    /// Wait for the one who asks.
    Join(T),
    /// It has just failed: not before this much time has passed.
    Later(Duration),
}

/// All refreshes. `T` is how those who wait are told.
pub(super) struct Flights<T> {
    under_way: HashMap<PublicId, T>,
    failed: HashMap<PublicId, Failure>,
}

#[derive(Clone, Copy)]
struct Failure {
    times: u32,
    until: Instant,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            under_way: HashMap::new(),
            failed: HashMap::new(),
        }
    }
}

impl<T: Clone> Flights<T> {
    /// Somebody wants the credential of this instance refreshed; `told` is how the others will be told
    /// if it is they who ask.
    pub(super) fn want(&mut self, public: &PublicId, told: T, now: Instant) -> Step<T> {
        if let Some(told) = self.under_way.get(public) {
            return Step::Join(told.clone());
        }
        if let Some(failure) = self.failed.get(public)
            && now < failure.until
        {
            return Step::Later(failure.until - now);
        }
        self.under_way.insert(public.clone(), told);
        Step::Ask
    }

    /// It went well, or the provider has given its last word.
    pub(super) fn done(&mut self, public: &PublicId) {
        self.under_way.remove(public);
        self.failed.remove(public);
    }

    /// It could not be done; answers how long nobody tries.
    pub(super) fn failed(&mut self, public: &PublicId, now: Instant) -> Duration {
        self.under_way.remove(public);
        if self.failed.len() >= FAILURES_MAX {
            self.failed.retain(|_, failure| now < failure.until);
        }
        let times = self.failed.get(public).map_or(0, |failure| failure.times);
        let pause = pause(times);
        if self.failed.len() < FAILURES_MAX || self.failed.contains_key(public) {
            let failure = Failure {
                times: times.saturating_add(1),
                until: now + pause,
            };
            self.failed.insert(public.clone(), failure);
        }
        pause
    }
}

/// After so many failures before this one.
fn pause(times: u32) -> Duration {
    let factor = 1u32.checked_shl(times).unwrap_or(u32::MAX);
    PAUSE.saturating_mul(factor).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn public(n: u8) -> PublicId {
        let letter = char::from(b'a' + n);
        PublicId::parse(&format!("ins_{}", String::from(letter).repeat(12))).unwrap()
    }

    #[test]
    fn one_asks_and_the_others_wait_for_it() {
        let (mut flights, now) = (Flights::default(), Instant::now());
        assert_eq!(flights.want(&public(0), 1, now), Step::Ask);
        assert_eq!(flights.want(&public(0), 2, now), Step::Join(1));
        assert_eq!(flights.want(&public(1), 3, now), Step::Ask);
        flights.done(&public(0));
        assert_eq!(flights.under_way.len(), 1);
        assert_eq!(flights.want(&public(0), 4, now), Step::Ask);
    }

    #[test]
    fn what_failed_is_tried_again_ever_later() {
        let (mut flights, mut now) = (Flights::default(), Instant::now());
        for wanted in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(flights.want(&public(0), 0, now), Step::Ask);
            let pause = flights.failed(&public(0), now);
            assert_eq!(pause, Duration::from_secs(wanted));
            assert_eq!(flights.want(&public(0), 0, now), Step::Later(pause));
            now += pause;
        }
        assert_eq!(flights.want(&public(0), 0, now), Step::Ask);
        flights.done(&public(0));
        assert_eq!(flights.want(&public(0), 0, now), Step::Ask);
        assert_eq!(flights.failed(&public(0), now), PAUSE);
    }

    proptest! {
        #[test]
        fn two_never_ask_at_the_same_time(
            steps in proptest::collection::vec((0..3u8, 0..3u8, 0..3u64), 0..80),
        ) {
            let (mut flights, mut now) = (Flights::default(), Instant::now());
            let mut asking = [false; 3];
            for (step, n, seconds) in steps {
                now += Duration::from_secs(seconds);
                let at = usize::from(n);
                match step {
                    0 => if let Step::Ask = flights.want(&public(n), (), now) {
                        prop_assert!(!asking[at]);
                        asking[at] = true;
                    },
                    1 if asking[at] => {
                        flights.done(&public(n));
                        asking[at] = false;
                    }
                    _ if asking[at] => {
                        prop_assert!(flights.failed(&public(n), now) <= PAUSE_MAX);
                        asking[at] = false;
                    }
                    _ => {}
                }
                prop_assert_eq!(flights.under_way.len(), asking.iter().filter(|asks| **asks).count());
            }
        }
    }
}
