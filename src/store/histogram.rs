//! Latencies in buckets that grow with them: small to keep, and they add up. Pure.
//!
//! A bucket is a quarter of an octave (64 to 80 µs, 80 to 96, 96 to 112, 112 to 128, 128 to 160, …),
//! so that a quantile is off by an eighth at most. Below and above there is one bucket each. Stored
//! as a byte that names this form, then two numbers for each bucket that is not empty: how many
//! empty ones come before it, and its count (LEB128).

/// Buckets of a histogram.
pub const BUCKETS: usize = 1 + (OCTAVES as usize) * PARTS + 1;

/// The first bucket holds all below 2^6 µs = 64 µs: faster than a request through the router.
const FIRST_BITS: u32 = 6;
/// The last one holds all from 2^28 µs on, which is 268 s: waiting for an answer ends at 300 s.
const OCTAVES: u32 = 22;
/// Parts of an octave.
const PARTS: usize = 4;
/// Two bits after the first one say which part.
const PART_BITS: u32 = 2;

/// Names the form in which histograms are stored.
const VERSION: u8 = 1;

/// A stored histogram is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// Of a form that this program does not know.
    #[error("a histogram of form {0}, and this mcpm knows form {VERSION}")]
    Version(u8),
    /// Not written by us.
    #[error("a damaged histogram")]
    Damaged,
}

/// In which bucket a latency counts.
pub fn bucket(us: u64) -> usize {
    let Some(bits) = us.checked_ilog2().filter(|&bits| bits >= FIRST_BITS) else {
        return 0;
    };
    let octave = bits - FIRST_BITS;
    if octave >= OCTAVES {
        return BUCKETS - 1;
    }
    let part = (us >> (bits - PART_BITS)) as usize & (PARTS - 1);
    1 + octave as usize * PARTS + part
}

/// The least latency that counts in a bucket, in µs.
pub fn least(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else {
        return 0;
    };
    let (octave, part) = ((above / PARTS) as u32, (above % PARTS) as u64);
    let part_of = |bits: u32| part << (bits - PART_BITS);
    let bits = FIRST_BITS + octave.min(OCTAVES);
    (1u64 << bits) + if octave < OCTAVES { part_of(bits) } else { 0 }
}

/// How many latencies fell into each bucket. Empty buckets take no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Bucket and count, in the order of buckets, no count 0.
    counts: Vec<(u8, u64)>,
}

impl Histogram {
    /// Adds to a bucket; one that does not exist is the last one.
    pub fn add(&mut self, bucket: usize, count: u64) {
        if count == 0 {
            return;
        }
        let bucket = bucket.min(BUCKETS - 1) as u8;
        match self.counts.binary_search_by_key(&bucket, |entry| entry.0) {
            Ok(at) => self.counts[at].1 = self.counts[at].1.saturating_add(count),
            Err(at) => self.counts.insert(at, (bucket, count)),
        }
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add(bucket, count);
        }
    }

    /// The buckets that are not empty, in their order, and their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts
            .iter()
            .map(|&(bucket, count)| (usize::from(bucket), count))
    }

    /// How many latencies.
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, &(_, count)| sum.saturating_add(count))
    }

    /// The latency that so many of a thousand did not exceed, in µs, where `max` is the greatest of
    /// all; `None` when there is none. Inside a bucket they are taken as spread evenly.
    pub fn quantile(&self, per_mille: u32, max: u64) -> Option<u64> {
        let total = u128::from(self.total());
        if total == 0 {
            return None;
        }
        let rank = (total * u128::from(per_mille.min(1000))).div_ceil(1000);
        let rank = rank.max(1);
        let mut before = 0u128;
        for (bucket, count) in self.buckets() {
            let count = u128::from(count);
            if before + count >= rank {
                let from = least(bucket);
                let to = if bucket + 1 < BUCKETS {
                    least(bucket + 1)
                } else {
                    max.max(from)
                };
                // In the middle of its own share of the bucket.
                let share = u128::from(to - from) * (2 * (rank - before) - 1) / (2 * count);
                let found = from.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
                return Some(found.min(max));
            }
            before += count;
        }
        Some(max)
    }

    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut next = 0;
        for &(bucket, count) in &self.counts {
            put(&mut bytes, u64::from(bucket - next));
            put(&mut bytes, count);
            next = bucket + 1;
        }
        bytes
    }

    /// Reads what [`Histogram::encode`] has written.
    ///
    /// # Errors
    /// It is of another form, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, HistogramError> {
        let (&version, mut rest) = bytes.split_first().ok_or(HistogramError::Damaged)?;
        if version != VERSION {
            return Err(HistogramError::Version(version));
        }
        let mut counts = Vec::new();
        let mut next = 0u64;
        while !rest.is_empty() {
            let bucket = next.checked_add(take(&mut rest)?);
            let bucket = bucket.filter(|&bucket| bucket < BUCKETS as u64);
            let bucket = bucket.ok_or(HistogramError::Damaged)?;
            let count = take(&mut rest)?;
            if count == 0 {
                return Err(HistogramError::Damaged);
            }
            counts.push((bucket as u8, count));
            next = bucket + 1;
        }
        Ok(Self { counts })
    }
}

/// Seven bits a byte, the lowest first; all but the last have the eighth bit.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Result<u64, HistogramError> {
    let mut number = 0u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(HistogramError::Damaged)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            return Err(HistogramError::Damaged);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(HistogramError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(latencies: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for &us in latencies {
            histogram.add(bucket(us), 1);
        }
        histogram
    }

    #[test]
    fn buckets_begin_where_the_ones_before_end() {
        assert_eq!(BUCKETS, 90);
        assert_eq!((bucket(0), bucket(63), bucket(64)), (0, 0, 1));
        assert_eq!((bucket(79), bucket(80), bucket(127)), (1, 2, 4));
        assert_eq!((bucket(1 << 28), bucket(u64::MAX)), (89, 89));
        assert_eq!(bucket((1 << 28) - 1), 88);
        for at in 1..BUCKETS {
            assert_eq!(bucket(least(at)), at);
            assert_eq!(bucket(least(at) - 1), at - 1);
        }
    }

    #[test]
    fn quantiles_of_nothing_of_one_and_of_many() {
        assert_eq!(Histogram::default().quantile(500, 0), None);
        assert_eq!(of(&[70]).quantile(990, 70), Some(70));
        let many = of(&(1..=1000).map(|n| n * 1000).collect::<Vec<u64>>());
        let near = |per_mille: u32, expected: u64| {
            let found = many.quantile(per_mille, 1_000_000).unwrap();
            assert!(found.abs_diff(expected) < expected / 8, "{found}");
        };
        near(500, 500_000);
        near(900, 900_000);
        near(990, 990_000);
        assert!(many.quantile(1000, 1_000_000).unwrap() <= 1_000_000);
        // Longer than any bucket ends.
        let hour = 3_600_000_000;
        assert!(of(&[hour]).quantile(500, hour).unwrap() <= hour);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        assert_eq!(Histogram::decode(&[1]), Ok(Histogram::default()));
        assert_eq!(
            Histogram::decode(&[2, 0, 1]),
            Err(HistogramError::Version(2))
        );
        for bad in [
            &[][..],
            &[1, 0],
            &[1, 0, 0],
            &[1, 90, 1],
            &[1, 89, 1, 0, 1],
            &[1, 0x80],
            &[
                1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
            ],
        ] {
            assert_eq!(
                Histogram::decode(bad),
                Err(HistogramError::Damaged),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read_again(
            entries in proptest::collection::vec((0..BUCKETS, any::<u64>()), 0..40),
        ) {
            let mut histogram = Histogram::default();
            for (bucket, count) in entries {
                histogram.add(bucket, count);
            }
            prop_assert_eq!(Histogram::decode(&histogram.encode()), Ok(histogram));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(histogram) = Histogram::decode(&bytes) {
                prop_assert_eq!(Histogram::decode(&histogram.encode()), Ok(histogram));
            }
        }

        #[test]
        fn it_does_not_matter_who_counted_what(
            latencies in proptest::collection::vec(0u64..1 << 32, 0..100), cut in any::<proptest::sample::Index>(),
        ) {
            let (one, two) = latencies.split_at(cut.index(latencies.len() + 1));
            let mut merged = of(two);
            merged.merge(&of(one));
            prop_assert_eq!(&merged, &of(&latencies));
            prop_assert_eq!(merged.total(), latencies.len() as u64);
        }

        #[test]
        fn quantiles_lie_in_the_bucket_of_the_true_one_and_grow(
            latencies in proptest::collection::vec(0u64..1 << 30, 1..100),
        ) {
            let mut sorted = latencies.clone();
            sorted.sort_unstable();
            let (histogram, max) = (of(&latencies), sorted[sorted.len() - 1]);
            let mut before = 0;
            for per_mille in [1, 250, 500, 900, 990, 1000] {
                let found = histogram.quantile(per_mille, max).unwrap();
                let rank = (sorted.len() * per_mille as usize).div_ceil(1000).max(1);
                prop_assert_eq!(bucket(found), bucket(sorted[rank - 1]), "{}", per_mille);
                prop_assert!(before <= found && found <= max);
                before = found;
            }
        }
    }
}
