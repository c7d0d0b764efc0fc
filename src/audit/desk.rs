//! What is to be written, and when. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::refusals::{Kind, Refusals};
use super::watch::Watch;
use crate::ids::Timestamp;
use crate::store::AuditEntry;

/// Entries that wait to be written; those beyond are counted. So many come only when nothing has been
/// written for long.
const ENTRIES_MAX: usize = 4096;
/// What comes within this is written together: with the commit after it nothing waits for a second.
const WAIT: Duration = Duration::from_millis(500);
/// Letters of a detail; the rest is cut off.
const DETAIL_MAX: usize = 500;

/// Which of it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// What has waited long enough.
    Due,
    /// All entries, and refusals that have waited long enough.
    Entries,
    /// Everything, since it may be the last time.
    All,
}

/// What is to be written, and what was seen.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) watch: Watch,
    refusals: Refusals,
    entries: Vec<AuditEntry>,
    /// Of the first entry.
    due: Option<Instant>,
    /// Entries that did not fit.
    lost: u64,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            watch: Watch::new(),
            refusals: Refusals::default(),
            entries: Vec::new(),
            due: None,
            lost: 0,
        }
    }

    /// Puts an entry to the others. `true` when whoever writes is to be told that there is something.
    pub(super) fn push(&mut self, mut entry: AuditEntry, now: Instant) -> bool {
        if self.entries.len() >= ENTRIES_MAX {
            self.lost += 1;
            return false;
        }
        entry.detail = entry.detail.map(shortened);
        self.entries.push(entry);
        let is_first = self.due.is_none();
        self.due.get_or_insert(now + WAIT);
        is_first
    }

    /// Counts a refusal. `true` as above.
    pub(super) fn refuse(
        &mut self,
        kind: Kind,
        request_id: &str,
        at: Timestamp,
        now: Instant,
    ) -> bool {
        self.refusals.add(kind, request_id, at, now)
    }

    /// When there is something to take.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.refusals.due()).min()
    }

    /// What is to be written now, in the order in which it came.
    pub(super) fn take(&mut self, which: Which, now: Instant) -> Vec<AuditEntry> {
        let mut taken = Vec::new();
        if which != Which::Due || self.due.is_some_and(|due| due <= now) {
            taken = std::mem::take(&mut self.entries);
            self.due = None;
        }
        taken.extend(self.refusals.take(which == Which::All, now));
        taken
    }

    /// How many did not fit since this was asked last.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

fn shortened(detail: String) -> String {
    match detail.char_indices().nth(DETAIL_MAX) {
        Some((end, _)) => format!("{}…", &detail[..end]),
        None => detail,
    }
}

#[cfg(test)]
mod tests {
    use super::super::by::By;
    use super::*;
    use crate::ids::Source;

    fn entry(detail: &str) -> AuditEntry {
        By::system().entry("user.add").with_detail(detail)
    }

    fn refusal() -> Kind {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        Kind::new("router.refused", "unauthorized", Source::of(address))
    }

    #[test]
    fn what_comes_within_a_moment_is_written_together() {
        let (mut desk, start) = (Desk::new(), Instant::now());
        assert_eq!(desk.due(), None);
        assert!(desk.push(entry("a"), start));
        assert!(!desk.push(entry("b"), start + WAIT / 2));
        assert_eq!(desk.due(), Some(start + WAIT));
        assert!(desk.take(Which::Due, start + WAIT / 2).is_empty());
        assert_eq!(desk.take(Which::Due, start + WAIT).len(), 2);
        assert_eq!(desk.due(), None);
        assert!(desk.push(entry("c"), start + WAIT));
        assert_eq!(desk.take(Which::Entries, start + WAIT).len(), 1);
    }

    #[test]
    fn refusals_wait_for_their_own_time_unless_it_is_the_last() {
        let (mut desk, start) = (Desk::new(), Instant::now());
        let at = Timestamp::from_millis(0);
        assert!(desk.refuse(refusal(), "q", at, start));
        assert!(!desk.refuse(refusal(), "q", at, start));
        assert!(desk.due().is_some());
        assert!(desk.take(Which::Entries, start).is_empty());
        assert_eq!(desk.take(Which::All, start).len(), 1);
        assert_eq!(desk.due(), None);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_is_long_is_cut() {
        let (mut desk, now) = (Desk::new(), Instant::now());
        for _ in 0..ENTRIES_MAX + 3 {
            desk.push(entry(&"é".repeat(DETAIL_MAX + 1)), now);
        }
        assert_eq!((desk.take_lost(), desk.take_lost()), (3, 0));
        let taken = desk.take(Which::All, now);
        assert_eq!(taken.len(), ENTRIES_MAX);
        let whole = "é".repeat(DETAIL_MAX);
        assert_eq!(taken[0].detail, Some(format!("{whole}…")));
        assert_eq!(shortened(whole.clone()), whole);
        assert!(desk.push(entry("there is room again"), now));
    }
}
