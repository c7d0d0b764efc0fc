//! When to look at a process that has a memory limit, and when it is over (pure).
//!
//! Two reasons to look. All programs of the machine together took so much more since the last look
//! that this one could be over its limit: a leak is seen at once, however quiet it was before. Or the
//! time has passed in which the process would reach its limit at the fastest growth seen in this run,
//! 30 s at most; what it took to start is no leak and does not count there. So a
//! fleet that is quiet costs next to nothing.

use std::time::Duration;

use tokio::time::Instant;

/// No two looks at one process are nearer.
pub const SOONEST: Duration = Duration::from_millis(500);
/// Nor farther.
pub const LATEST: Duration = Duration::from_secs(30);

/// How far a number has risen above the lowest that was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rise {
    lowest: Option<u64>,
}

impl Rise {
    /// Up to this one, which counts from now on.
    pub fn until(&mut self, now: u64) -> u64 {
        let lowest = self.lowest.map_or(now, |lowest| lowest.min(now));
        self.lowest = Some(lowest);
        now - lowest
    }
}

/// What is known of one run.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    last: u64,
    at: Instant,
    /// Bytes a second; `None` before the first look.
    fastest: Option<f64>,
    /// Of what all programs take, since the last look.
    machine: Rise,
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
            fastest: None,
            machine: Rise::default(),
        }
    }

    /// Whether the run could be near its limit by now, when all programs together take `machine`
    /// bytes. A little early: not all that counts for a process counts there.
    pub fn could_be_over(&mut self, limit: u64, machine: u64) -> bool {
        let room = limit.saturating_sub(self.last);
        self.machine.until(machine) >= room - room / 8
    }

    /// Judges a look.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of a time")]
    pub fn look(&mut self, resident: u64, limit: u64, now: Instant) -> Verdict {
        if resident > limit {
            return Verdict::Over;
        }
        let passed = (now - self.at).as_secs_f64();
        let growth = resident.saturating_sub(self.last) as f64 / passed.max(0.001);
        let fastest = self.fastest.map_or(0.0, |fastest| fastest.max(growth));
        *self = Self {
            last: resident,
            at: now,
            fastest: Some(fastest),
            machine: Rise::default(),
        };
        let room = (limit - resident) as f64;
        let wait = if fastest > 0.0 {
            room / fastest
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
    use crate::supervisor::testing;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn the_next_look_comes_before_the_limit_can_be_reached() {
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let mut growth = Growth::new(begin);
        let fine = |millis| Verdict::Fine(Duration::from_millis(millis));
        // What it took to start is no measure of what comes.
        assert_eq!(growth.look(50 * MIB, 400 * MIB, after(500)), fine(30_000));
        // 50 MiB in half a second: 300 more would take 3 s.
        assert_eq!(growth.look(100 * MIB, 400 * MIB, after(1000)), fine(3000));
        // A quiet time does not make it forget how fast it can be.
        assert_eq!(growth.look(100 * MIB, 400 * MIB, after(4000)), fine(3000));
        assert_eq!(growth.look(390 * MIB, 400 * MIB, after(7000)), fine(500));
        assert_eq!(
            growth.look(401 * MIB, 400 * MIB, after(7500)),
            Verdict::Over
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_machine_took_brings_the_look_forward() {
        let begin = Instant::now();
        let mut growth = Growth::new(begin);
        let limit = 100 * MIB;
        assert!(!growth.could_be_over(limit, 5000 * MIB));
        growth.look(20 * MIB, limit, begin + SOONEST);
        for (machine, could_be) in [
            (5000, false),
            (5060, false),
            // Something else has ended: from there.
            (4000, false),
            (4069, false),
            (4070, true),
        ] {
            assert_eq!(growth.could_be_over(limit, machine * MIB), could_be);
        }
        growth.look(40 * MIB, limit, begin + SOONEST * 2);
        assert!(!growth.could_be_over(limit, 4070 * MIB));
    }

    proptest! {
        /// However a process grows, and whatever others take meanwhile: it is seen above its limit
        /// not later than two looks' time after it got there.
        #[test]
        fn a_leak_is_caught_within_a_second(
            quiet in 0u64..300, rate in 1u64..2000,
            others in proptest::collection::vec(0u64..50, 1..50),
        ) {
            let begin = testing::now();
            let limit = 500 * MIB;
            let mut growth = Growth::new(begin);
            let (mut due, mut over_at, mut machine) = (begin + SOONEST, None, 7000 * MIB);
            let (mut caught, mut size) = (None, 0);
            for tick in 1..=quiet + 1000 {
                let now = begin + SOONEST * u32::try_from(tick).unwrap();
                let more = if tick > quiet { rate * MIB / 2 } else { 0 };
                size += more;
                machine += more + others[usize::try_from(tick).unwrap() % others.len()] * MIB / 10;
                if size > limit && over_at.is_none() { over_at = Some(now); }
                if !growth.could_be_over(limit, machine) && now < due { continue }
                match growth.look(size, limit, now) {
                    Verdict::Over => { caught = Some(now); break }
                    Verdict::Fine(wait) => {
                        prop_assert!((SOONEST..=LATEST).contains(&wait));
                        due = now + wait;
                    }
                }
            }
            if let Some(over_at) = over_at {
                prop_assert!(caught.is_some_and(|at| at - over_at < SOONEST * 2));
            }
        }
    }
}
