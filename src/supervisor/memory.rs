//! When to look at a process that has a memory limit, and when it is over (pure).
//!
//! The next look comes after the time in which the process would reach its limit at the fastest
//! growth seen in this run, its start included (`design.md` §3): what leaks fast is seen soon, what
//! stays far from its limit is hardly looked at.

use std::time::Duration;

use tokio::time::Instant;

/// No two looks at one process are nearer.
pub const SOONEST: Duration = Duration::from_millis(500);
/// Nor farther.
pub const LATEST: Duration = Duration::from_secs(30);

/// What is known of one run.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    last: u64,
    at: Instant,
    /// Bytes a second.
    fastest: f64,
}

/// What a look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well; look again after this.
    Fine(Duration),
    /// Above its limit.
    Over,
}

impl Growth {
    /// A run that began (or was found) now, with nothing. To be looked at after [`SOONEST`].
    pub fn new(now: Instant) -> Self {
        Self {
            last: 0,
            at: now,
            fastest: 0.0,
        }
    }

    /// Judges a look.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of a time")]
    pub fn look(&mut self, resident: u64, limit: u64, now: Instant) -> Verdict {
        if resident > limit {
            return Verdict::Over;
        }
        let passed = (now - self.at).as_secs_f64();
        if passed > 0.0 {
            let growth = resident.saturating_sub(self.last) as f64 / passed;
            self.fastest = self.fastest.max(growth);
        }
        (self.last, self.at) = (resident, now);
        let room = (limit - resident) as f64;
        let wait = if self.fastest > 0.0 {
            room / self.fastest
        } else {
            f64::INFINITY
        };
        let bounded = wait.clamp(SOONEST.as_secs_f64(), LATEST.as_secs_f64());
        Verdict::Fine(Duration::from_secs_f64(bounded))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn the_next_look_comes_before_the_limit_can_be_reached() {
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let mut growth = Growth::new(begin);
        // 100 MiB in half a second: 300 more would take 1.5 s.
        let fine = |millis| Verdict::Fine(Duration::from_millis(millis));
        assert_eq!(growth.look(100 * MIB, 400 * MIB, after(500)), fine(1500));
        // A quiet time does not make it forget how fast it can be.
        assert_eq!(growth.look(100 * MIB, 400 * MIB, after(2000)), fine(1500));
        assert_eq!(growth.look(390 * MIB, 400 * MIB, after(3500)), fine(500));
        assert_eq!(
            growth.look(401 * MIB, 400 * MIB, after(4000)),
            Verdict::Over
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_one_is_hardly_looked_at() {
        let begin = Instant::now();
        let mut growth = Growth::new(begin);
        let verdict = growth.look(3 * MIB, 500 * MIB, begin + SOONEST);
        assert_eq!(verdict, Verdict::Fine(LATEST));
    }

    proptest! {
        /// Whatever it does, a process that never grows faster than it once did is seen above its
        /// limit not later than `SOONEST` after it got there.
        #[test]
        fn what_grows_no_faster_than_before_is_caught_in_time(
            rate in 1u64..1000, steps in proptest::collection::vec(0u64..=100, 1..200),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time().start_paused(true).build().unwrap();
            let begin = runtime.block_on(async { Instant::now() });
            let limit = 500 * MIB;
            // Every 10 ms it grows by up to `rate` MiB/s; fastest at first.
            let mut sizes = vec![0];
            sizes.extend(std::iter::repeat_n(rate * MIB / 100, 50));
            sizes.extend(steps.iter().cycle().take(5000).map(|share| rate * MIB * share / 10_000));
            let mut growth = Growth::new(begin);
            let (mut size, mut over_at, mut look_at) = (0, None, begin + SOONEST);
            for (tick, more) in sizes.into_iter().enumerate() {
                let now = begin + Duration::from_millis(10 * tick as u64);
                size += more;
                if size > limit && over_at.is_none() { over_at = Some(now); }
                if now < look_at { continue }
                match growth.look(size, limit, now) {
                    Verdict::Over => {
                        let late = now - over_at.unwrap();
                        prop_assert!(late <= SOONEST + Duration::from_millis(20), "{late:?}");
                        break;
                    }
                    Verdict::Fine(wait) => {
                        prop_assert!((SOONEST..=LATEST).contains(&wait));
                        look_at = now + wait;
                    }
                }
            }
        }
    }
}
