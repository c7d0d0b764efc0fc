//! Makes a few rows of many refusals. Pure.
//!
//! The first of a client and reason is told after a moment, with what came in it; what follows is
//! told together, once a minute. Clients that are too many are told together.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::by::Actor;
use crate::ids::{ServiceType, Source, Timestamp, UserId};
use crate::store::AuditEntry;

/// Clients and reasons that are told apart; those beyond are one client. Reasons are few.
const KEYS_MAX: usize = 64;
/// How long the first row waits.
const FIRST_AFTER: Duration = Duration::from_millis(500);
/// And each one after it.
const NEXT_AFTER: Duration = Duration::from_secs(60);

/// Whose refusals, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// One of `words`.
    pub(super) action: &'static str,
    /// The code of the refusal.
    pub(super) reason: &'static str,
    /// `None` for those that are told together.
    from: Option<Whence>,
}

/// Where refusals come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whence {
    /// Somebody who is not known.
    Source(Source),
    /// Somebody who has shown who they are.
    Known(Box<Known>),
}

/// Who was refused, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) actor: String,
    pub(super) address: Option<String>,
    pub(super) user: Option<UserId>,
    pub(super) service: Option<ServiceType>,
}

impl Kind {
    pub(super) fn new(action: &'static str, reason: &'static str, source: Source) -> Self {
        Self {
            action,
            reason,
            from: Some(Whence::Source(source)),
        }
    }

    /// Of somebody who has shown who they are.
    pub(super) fn known(action: &'static str, reason: &'static str, known: Known) -> Self {
        Self {
            action,
            reason,
            from: Some(Whence::Known(Box::new(known))),
        }
    }
}

/// Refusals since the last row.
#[derive(Debug)]
struct Count {
    times: u64,
    first: Timestamp,
    /// Of one of them.
    request_id: String,
    /// When the next row is made. Afterwards, if there is none to make, it is forgotten.
    due: Instant,
}

/// What was refused and not told yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: HashMap<Kind, Count>,
}

impl Refusals {
    /// Counts one; `true` when it is the first of a row.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        request_id: &str,
        at: Timestamp,
        now: Instant,
    ) -> bool {
        let kind = self.place(kind, now);
        let count = self.counts.entry(kind).or_insert_with(|| Count {
            times: 0,
            first: at,
            request_id: String::new(),
            due: now + FIRST_AFTER,
        });
        let is_first = count.times == 0;
        if is_first {
            if count.due <= now {
                // It was quiet since the last row: this is a first one again.
                count.due = now + FIRST_AFTER;
            }
            count.first = at;
            request_id.clone_into(&mut count.request_id);
        }
        count.times = count.times.saturating_add(1);
        is_first
    }

    /// When there is a row to make.
    pub(super) fn due(&self) -> Option<Instant> {
        let told = self.counts.values().filter(|count| count.times > 0);
        told.map(|count| count.due).min()
    }

    /// The rows that are due, or all.
    pub(super) fn take(&mut self, all: bool, now: Instant) -> Vec<AuditEntry> {
        let mut rows = Vec::new();
        self.counts.retain(|kind, count| {
            if count.times == 0 {
                return count.due > now;
            }
            if all || count.due <= now {
                rows.push(row(kind, count));
                count.times = 0;
                count.due = now + NEXT_AFTER;
            }
            true
        });
        rows
    }

    /// Where this one is counted.
    fn place(&mut self, kind: Kind, now: Instant) -> Kind {
        if self.counts.contains_key(&kind) || self.counts.len() < KEYS_MAX {
            return kind;
        }
        let is_told = |count: &Count| count.times > 0 || count.due > now;
        self.counts.retain(|_, count| is_told(count));
        if self.counts.len() < KEYS_MAX {
            return kind;
        }
        Kind { from: None, ..kind }
    }
}

fn row(kind: &Kind, count: &Count) -> AuditEntry {
    let others = if kind.from.is_none() {
        ", by many clients"
    } else {
        ""
    };
    let known = match &kind.from {
        Some(Whence::Known(known)) => Some(known),
        Some(Whence::Source(_)) | None => None,
    };
    AuditEntry {
        at: count.first,
        actor: known.map_or_else(|| Actor::Nobody.to_string(), |known| known.actor.clone()),
        action: kind.action.to_owned(),
        user: known.and_then(|known| known.user.clone()),
        service: known.and_then(|known| known.service.clone()),
        public: None,
        address: match &kind.from {
            Some(Whence::Source(source)) => Some(source.to_string()),
            Some(Whence::Known(known)) => known.address.clone(),
            None => None,
        },
        request_id: Some(count.request_id.clone()),
        detail: Some(format!("{} × {}{others}", count.times, kind.reason)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(reason: &'static str, client: u32) -> Kind {
        let address = std::net::Ipv4Addr::from(0xc000_0200 + client);
        Kind::new("router.refused", reason, Source::of(address.into()))
    }

    fn details(rows: &[AuditEntry]) -> Vec<&str> {
        rows.iter()
            .filter_map(|row| row.detail.as_deref())
            .collect()
    }

    #[test]
    fn what_is_refused_to_somebody_known_is_told_of_them() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let known = |name: &str| Known {
            actor: format!("user:{name}"),
            address: Some("192.0.2.1".to_owned()),
            user: UserId::parse(name).ok(),
            service: ServiceType::parse("figma").ok(),
        };
        for name in ["alice", "alice", "bob"] {
            let kind = Kind::known("instance.refused", "wrong", known(name));
            refusals.add(kind, "q", Timestamp::from_millis(1), start);
        }
        let mut rows = refusals.take(true, start);
        rows.sort_by(|a, b| a.actor.cmp(&b.actor));
        assert_eq!(details(&rows), ["2 × wrong", "1 × wrong"]);
        assert_eq!(rows[0].actor, "user:alice");
        assert_eq!(rows[0].user.as_ref().map(UserId::as_str), Some("alice"));
        assert_eq!(
            rows[1].service.as_ref().map(ServiceType::as_str),
            Some("figma")
        );
        assert_eq!(rows[1].address.as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn a_flood_is_a_row_at_once_and_one_a_minute() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let second = |n: u64| start + Duration::from_secs(n);
        let mut rows = Vec::new();
        for n in 0..180 {
            for request in ["q", "r"] {
                let at = Timestamp::from_millis(i64::try_from(n).unwrap());
                refusals.add(kind("unknown_instance", 1), request, at, second(n));
            }
            rows.extend(refusals.take(false, second(n)));
        }
        assert_eq!(
            details(&rows),
            [
                "4 × unknown_instance",
                "120 × unknown_instance",
                "120 × unknown_instance"
            ]
        );
        assert_eq!(rows[0].request_id.as_deref(), Some("q"));
        assert_eq!(rows[0].address.as_deref(), Some("192.0.2.1"));
        assert_eq!(
            (&*rows[0].action, &*rows[0].actor),
            ("router.refused", "nobody")
        );
        // What is left comes out at the end.
        let last = refusals.take(true, second(180));
        assert_eq!(details(&last), ["116 × unknown_instance"]);
        assert!(refusals.take(true, second(180)).is_empty());
        // After a quiet minute there is nothing left of it, and the next one is a first one.
        assert_eq!(refusals.due(), None);
        let at = Timestamp::from_millis(0);
        refusals.add(kind("unknown_instance", 1), "s", at, second(300));
        assert_eq!(refusals.due(), Some(second(300) + FIRST_AFTER));
    }

    #[test]
    fn reasons_and_clients_are_told_apart_as_far_as_there_is_room() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let at = Timestamp::from_millis(0);
        for client in 0..1000 {
            refusals.add(kind("unauthorized", client), "q", at, now);
        }
        refusals.add(kind("unknown_host", 1), "q", at, now);
        let rows = refusals.take(true, now);
        assert_eq!(rows.len(), KEYS_MAX + 2);
        let together: Vec<_> = rows.iter().filter(|row| row.address.is_none()).collect();
        let mut told: Vec<_> = together
            .iter()
            .filter_map(|row| row.detail.clone())
            .collect();
        told.sort();
        let many = format!("{} × unauthorized, by many clients", 1000 - KEYS_MAX);
        assert_eq!(told, ["1 × unknown_host, by many clients".to_owned(), many]);
        // A minute later the places are free again.
        let later = now + NEXT_AFTER;
        refusals.add(kind("bad_path", 5), "q", at, later);
        assert_eq!(details(&refusals.take(true, later)), ["1 × bad_path"]);
    }

    proptest! {
        #[test]
        fn none_is_lost_and_none_is_told_twice(
            steps in proptest::collection::vec((0u32..100, 0u64..40, any::<bool>()), 0..500),
        ) {
            let (mut refusals, start) = (Refusals::default(), Instant::now());
            let (mut second, mut added, mut told, mut rows) = (0u64, 0u64, 0u64, 0u64);
            let times = |row: &AuditEntry| -> u64 {
                let detail = row.detail.as_deref().unwrap_or_default();
                detail.split(' ').next().unwrap_or_default().parse().unwrap()
            };
            for (client, pause, take) in steps {
                second += pause;
                let now = start + Duration::from_secs(second);
                refusals.add(kind("x", client), "q", Timestamp::from_millis(0), now);
                added += 1;
                prop_assert!(refusals.counts.len() <= KEYS_MAX + 1);
                prop_assert!(refusals.due().is_some());
                if take {
                    let taken = refusals.take(false, now);
                    rows += taken.len() as u64;
                    told += taken.iter().map(times).sum::<u64>();
                    prop_assert!(refusals.due().is_none_or(|due| due > now));
                }
            }
            let left = refusals.take(true, start + Duration::from_secs(second));
            told += left.iter().map(times).sum::<u64>();
            rows += left.len() as u64;
            prop_assert_eq!(told, added);
            prop_assert!(rows <= added);
        }
    }
}
