//! Which entries of one lane end by themselves, and when.
//!
//! Written and read by that lane, and while the table is being filled by whoever brings an entry into it
//! (`filling.rs`): an end without an entry means nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::Timestamp;

/// Ends that are to come, the soonest first; each with the keyed hash of the entry's id.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<BTreeSet<(Timestamp, [u8; 32])>>);

impl Ends {
    /// The entry with this hash ended then, and ends now so; `None` is never.
    pub(super) fn set(&self, hash: [u8; 32], then: Option<Timestamp>, now: Option<Timestamp>) {
        if then == now {
            return;
        }
        let mut ends = self.lock();
        if let Some(end) = then {
            ends.remove(&(end, hash));
        }
        if let Some(end) = now {
            ends.insert((end, hash));
        }
    }

    /// When the next one ends.
    pub(super) fn soonest(&self) -> Option<Timestamp> {
        self.lock().first().map(|(end, _)| *end)
    }

    /// Takes out those whose time has come.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<[u8; 32]> {
        let mut ends = self.lock();
        let mut due = Vec::new();
        while let Some(&(end, hash)) = ends.first()
            && end <= now
        {
            ends.pop_first();
            due.push(hash);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Timestamp, [u8; 32])>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_comes_first_and_what_was_changed_is_forgotten() {
        let at = Timestamp::from_millis;
        let ends = Ends::default();
        assert_eq!(ends.soonest(), None);
        for (n, end) in [(1, 30), (2, 10), (3, 20), (4, 20)] {
            ends.set([n; 32], None, Some(at(end)));
        }
        ends.set([2; 32], Some(at(10)), Some(at(40)));
        ends.set([4; 32], Some(at(20)), None);
        assert_eq!(ends.soonest(), Some(at(20)));
        assert!(ends.take_due(at(19)).is_empty());
        assert_eq!(ends.take_due(at(30)), [[3; 32], [1; 32]]);
        assert_eq!(ends.soonest(), Some(at(40)));
    }
}
