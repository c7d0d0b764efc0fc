//! When something was used last, to the minute, and what of that the store has.
//!
//! Whoever uses it writes no row: uses are noted here, and brought into the store in batches.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::ids::Timestamp;

/// Milliseconds of a minute: a last use is kept no finer.
const MINUTE: i64 = 60_000;
/// Minutes of a day, all of which are as long in UTC as Unix counts it.
const MINUTES_OF_DAY: i64 = 24 * 60;

/// The last use of a token or of an instance.
#[derive(Debug)]
pub struct LastUse {
    /// Minutes since 1970; 0 is never.
    used: AtomicI64,
    /// What of `used` the store has.
    written: AtomicI64,
}

impl LastUse {
    /// As the store has it.
    pub fn new(stored: Option<Timestamp>) -> Self {
        let minute = stored.map_or(0, minute);
        Self {
            used: AtomicI64::new(minute),
            written: AtomicI64::new(minute),
        }
    }

    /// Notes a use. `true` for the first one of a UTC day, as far as the store and this daemon know.
    pub fn touch(&self, now: Timestamp) -> bool {
        let minute = minute(now);
        // Mostly it is this minute already: then the cache line stays shared between cores.
        if self.used.load(Ordering::Relaxed) >= minute {
            return false;
        }
        let before = self.used.fetch_max(minute, Ordering::Relaxed);
        before / MINUTES_OF_DAY < minute / MINUTES_OF_DAY
    }

    /// The last use; `None` is never.
    pub fn at(&self) -> Option<Timestamp> {
        let minute = self.used.load(Ordering::Relaxed);
        (minute > 0).then(|| Timestamp::from_millis(minute * MINUTE))
    }

    /// The last use, when the store has not got it.
    pub fn unwritten(&self) -> Option<Timestamp> {
        let written = self.written.load(Ordering::Relaxed);
        self.at().filter(|&used| minute(used) > written)
    }

    /// The store has got this one.
    pub fn set_written(&self, at: Timestamp) {
        self.written.fetch_max(minute(at), Ordering::Relaxed);
    }

    /// Takes over what is noted at another place, and perhaps nowhere else.
    pub fn inherit(&self, other: &Self) {
        self.used
            .fetch_max(other.used.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn minute(at: Timestamp) -> i64 {
    at.as_millis() / MINUTE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, minute: i64) -> Timestamp {
        Timestamp::from_millis((day * MINUTES_OF_DAY + minute) * MINUTE)
    }

    #[test]
    fn the_first_use_of_a_day_is_told_from_others() {
        let new = LastUse::new(None);
        assert_eq!(new.at(), None);
        assert!(new.touch(at(20_000, 5)));
        assert!(!new.touch(at(20_000, 5)));
        assert!(!new.touch(at(20_000, 1439)));
        assert!(!new.touch(at(20_000, 7)), "a clock that was set back");
        assert!(new.touch(at(20_001, 0)));
        // What the store knows is not told again.
        let known = LastUse::new(Some(at(20_000, 5)));
        assert!(!known.touch(at(20_000, 6)) && known.touch(at(20_003, 6)));
    }

    #[test]
    fn it_is_to_be_written_until_the_store_has_it() {
        let last = LastUse::new(Some(at(1, 5)));
        assert_eq!(last.unwritten(), None);
        last.touch(Timestamp::from_millis(at(1, 6).as_millis() + 59_999));
        assert_eq!(last.unwritten(), Some(at(1, 6)), "to the minute");
        // While that is written it is used again.
        last.touch(at(1, 7));
        last.set_written(at(1, 6));
        assert_eq!(last.unwritten(), Some(at(1, 7)));
        let next = LastUse::new(None);
        next.inherit(&last);
        assert_eq!(next.unwritten(), Some(at(1, 7)));
        last.set_written(at(1, 7));
        assert_eq!((last.unwritten(), last.at()), (None, Some(at(1, 7))));
    }
}
