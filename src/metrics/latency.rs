//! A histogram of times, with bounds that are the same for all.

use std::time::Duration;

use super::Count;

/// Upper bounds in microseconds, and as Prometheus gets them: from a cached answer on loopback to a tool
/// that works for minutes.
pub const BOUNDS: [(u64, &str); 14] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
    (60_000_000, "60"),
    (300_000_000, "300"),
];

/// Times that were taken.
#[derive(Debug, Default)]
pub struct Latency {
    /// One for each bound, and one for what took longer.
    buckets: [Count; BOUNDS.len() + 1],
    micros: Count,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How many took at most as long as each bound.
    pub within: [u64; BOUNDS.len()],
    /// How many there are.
    pub count: u64,
    /// All together, in microseconds.
    pub micros: u64,
}

impl Latency {
    /// One took so long.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|(bound, _)| *bound < micros);
        self.buckets[at].add();
        self.micros.add_many(micros);
    }

    /// As it is now.
    pub fn now(&self) -> Times {
        let mut within = [0; BOUNDS.len()];
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.get();
            if let Some(within) = within.get_mut(at) {
                *within = count;
            }
        }
        Times {
            within,
            count,
            micros: self.micros.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_counts_within_its_bound_and_all_above() {
        let latency = Latency::default();
        for micros in [0, 1_000, 1_001, 300_000_000, 300_000_001] {
            latency.took(Duration::from_micros(micros));
        }
        let times = latency.now();
        assert_eq!(times.within[..2], [2, 3]);
        assert_eq!(times.within[BOUNDS.len() - 1], 4);
        assert_eq!((times.count, times.micros), (5, 600_002_002));
        assert!(times.within.is_sorted());
    }

    #[test]
    fn bounds_grow_and_are_written_as_they_are() {
        assert!(BOUNDS.is_sorted_by(|a, b| a.0 < b.0));
        for (micros, seconds) in BOUNDS {
            let seconds: f64 = seconds.parse().unwrap();
            assert!((seconds * 1e6 - micros as f64).abs() < 0.5, "{seconds}");
        }
    }
}
