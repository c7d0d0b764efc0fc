//! Who guesses: too many wrong tokens and instance ids of one address, and it has to wait. Pure:
//! the time comes in.
//!
//! What is right is never refused: several people may share an address, and one of them may have
//! a client that goes on asking with an old URL. So an answer that was a refusal anyway becomes
//! another refusal, and nothing else changes for anybody.
//!
//! A wrong guess fills a bucket that empties slowly (the "theoretical arrival time" of ITU-T
//! I.371). One too many locks the address out, each time twice as long; guesses while it lasts
//! neither count nor lengthen it, so that whoever stops is free when told. The table has a fixed
//! size: when all places for an address are taken, the one that matters least makes room.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use crate::ids::Source;

/// Wrong guesses that are free at first, and those that become free again: ten a minute is more
/// than a client that tries on with an old URL needs.
const FREE: u64 = 20;
const FREE_EVERY_MS: u64 = 6_000;

/// Wrong guesses that are free after a lock-out at least: one who waits is looked at again.
const FREE_AFTER: u64 = 5;

/// The first lock-out, and the longest.
const LOCK_MS: u64 = 5_000;
const LOCK_MAX_MS: u64 = 15 * 60_000;

/// After so long without another one, the next lock-out is a first one again.
const CALM_MS: u64 = 60 * 60_000;

/// Addresses that are remembered: [`SETS`] times [`WAYS`], in 128 KiB that are there from the first
/// wrong guess on.
const SETS: usize = 1024;
const WAYS: usize = 4;

/// What is remembered of one client. Times are in milliseconds from a fixed point.
#[derive(Clone, Copy, Debug)]
struct Record {
    source: Source,
    /// When all its guesses are free again.
    free_at: u64,
    locked_until: u64,
    /// Lock-outs without a calm between them.
    locks: u32,
}

impl Record {
    fn new(source: Source) -> Self {
        Self {
            source,
            free_at: 0,
            locked_until: 0,
            locks: 0,
        }
    }

    /// Counts a wrong guess; answers how long it is locked out.
    fn wrong(&mut self, now: u64) -> Option<u64> {
        if now < self.locked_until {
            return Some(self.locked_until - now);
        }
        if now.saturating_sub(self.locked_until) >= CALM_MS {
            self.locks = 0;
        }
        let next = self.free_at.max(now).saturating_add(FREE_EVERY_MS);
        if next - now <= FREE * FREE_EVERY_MS {
            self.free_at = next;
            return None;
        }
        let wait = LOCK_MS
            .saturating_mul(1 << self.locks.min(20))
            .min(LOCK_MAX_MS);
        self.locked_until = now.saturating_add(wait);
        let owed = (FREE - FREE_AFTER) * FREE_EVERY_MS;
        self.free_at = self.free_at.min(self.locked_until.saturating_add(owed));
        self.locks = self.locks.saturating_add(1);
        Some(wait)
    }

    /// Until when it is worth remembering.
    fn matters_until(&self) -> u64 {
        let strict = match self.locks {
            0 => 0,
            _ => self.locked_until.saturating_add(CALM_MS),
        };
        self.free_at.max(strict)
    }
}

/// Addresses that have guessed wrong.
pub(super) struct Guesses {
    places: Box<[[Option<Record>; WAYS]]>,
    /// Per process, so that nobody can choose their neighbours.
    spread: RandomState,
}

impl Guesses {
    /// Nobody has guessed.
    pub(super) fn new() -> Self {
        Self {
            places: Box::default(),
            spread: RandomState::new(),
        }
    }

    /// Counts a wrong guess. `Some` when it is to be refused as one too many, with the time until
    /// the address is free again.
    pub(super) fn wrong(&mut self, from: IpAddr, now: u64) -> Option<Duration> {
        let source = Source::of(from);
        let at = self.set(source);
        if self.places.is_empty() {
            self.places = vec![[None; WAYS]; SETS].into_boxed_slice();
        }
        let record = place(&mut self.places[at], source);
        let record = record.get_or_insert(Record::new(source));
        record.wrong(now).map(Duration::from_millis)
    }

    /// Is it locked out?
    pub(super) fn is_locked(&self, from: IpAddr, now: u64) -> bool {
        let source = Source::of(from);
        let places = self.places.get(self.set(source));
        let mut known = places.into_iter().flatten().flatten();
        known.any(|record| record.source == source && now < record.locked_until)
    }

    /// Which of the sets a client belongs to.
    fn set(&self, source: Source) -> usize {
        self.spread.hash_one(source) as usize % SETS
    }
}

/// The place of this client: its own, an empty one, or that of the record that matters least, which
/// is emptied.
fn place(set: &mut [Option<Record>; WAYS], source: Source) -> &mut Option<Record> {
    let own = |place: &Option<Record>| place.is_some_and(|record| record.source == source);
    let worth = |place: &Option<Record>| place.map_or(0, |record| record.matters_until());
    let at = set.iter().position(own).unwrap_or_else(|| {
        let least = (0..WAYS).min_by_key(|at| worth(&set[*at])).unwrap_or(0);
        set[least] = None;
        least
    });
    &mut set[at]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_000_000;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    /// Guesses until it is locked out; answers how many were free, and the wait.
    fn exhaust(guesses: &mut Guesses, from: IpAddr, now: u64) -> (u64, Duration) {
        for free in 0..1000 {
            if let Some(wait) = guesses.wrong(from, now) {
                return (free, wait);
            }
        }
        panic!("never locked out");
    }

    #[test]
    fn one_too_many_locks_out_longer_each_time_and_calm_forgives() {
        let mut guesses = Guesses::new();
        let eve = address(1);
        let (free, wait) = exhaust(&mut guesses, eve, START);
        assert_eq!((free, wait), (FREE, Duration::from_millis(LOCK_MS)));
        assert!(guesses.is_locked(eve, START) && !guesses.is_locked(address(2), START));
        // Going on does not lengthen it, and it ends when it was said to.
        let rest = guesses.wrong(eve, START + 1000).unwrap();
        assert_eq!(rest, Duration::from_millis(LOCK_MS - 1000));
        let mut now = START + LOCK_MS;
        assert!(!guesses.is_locked(eve, now));
        let mut before = LOCK_MS;
        for _ in 0..20 {
            let (free, wait) = exhaust(&mut guesses, eve, now);
            assert!((FREE_AFTER..=FREE).contains(&free), "{free}");
            let wait = u64::try_from(wait.as_millis()).unwrap();
            assert_eq!(wait, (before * 2).min(LOCK_MAX_MS));
            now += wait;
            before = wait;
        }
        let (free, wait) = exhaust(&mut guesses, eve, now + CALM_MS);
        assert_eq!((free, wait), (FREE, Duration::from_millis(LOCK_MS)));
    }

    #[test]
    fn a_client_that_tries_on_with_an_old_url_is_never_locked_out() {
        let mut guesses = Guesses::new();
        for n in 0..10_000 {
            let now = START + n * FREE_EVERY_MS;
            assert_eq!(guesses.wrong(address(1), now), None);
        }
    }

    #[test]
    fn one_customers_addresses_count_as_one() {
        let mut guesses = Guesses::new();
        let of = |network: u16, host: u16| -> IpAddr {
            Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host).into()
        };
        for host in 0..20 {
            assert_eq!(guesses.wrong(of(1, host), START), None);
        }
        assert!(guesses.wrong(of(1, 99), START).is_some());
        assert_eq!(guesses.wrong(of(2, 99), START), None);
        // An IPv4 address is itself, however it is written.
        let mapped: IpAddr = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into();
        exhaust(&mut guesses, mapped, START);
        assert!(guesses.is_locked(Ipv4Addr::new(192, 0, 2, 1).into(), START));
    }

    #[test]
    fn however_many_guess_the_table_stays_as_it_is_and_the_locked_out_stay_so() {
        let mut guesses = Guesses::new();
        exhaust(&mut guesses, address(0), START);
        for n in 1..50_000 {
            guesses.wrong(address(n), START);
        }
        assert_eq!(guesses.places.len() * WAYS, SETS * WAYS);
        assert!(guesses.is_locked(address(0), START + 1));
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_is_free_and_is_told_no_more_than_the_most(
            gaps in proptest::collection::vec(0..40_000u64, 1..200),
        ) {
            let mut guesses = Guesses::new();
            let mut now = START;
            for gap in gaps {
                now += gap;
                if let Some(wait) = guesses.wrong(address(1), now) {
                    let wait = u64::try_from(wait.as_millis()).unwrap();
                    prop_assert!((1..=LOCK_MAX_MS).contains(&wait));
                    prop_assert!(guesses.is_locked(address(1), now + wait - 1));
                    prop_assert!(!guesses.is_locked(address(1), now + wait));
                }
            }
        }

        #[test]
        fn never_more_free_guesses_than_the_bucket_gives(
            gaps in proptest::collection::vec(0..3_000u64, 1..400),
        ) {
            let mut guesses = Guesses::new();
            let (mut now, mut free, mut locks) = (START, 0, 0);
            for gap in gaps {
                now += gap;
                let was_locked = guesses.is_locked(address(1), now);
                let is_free = guesses.wrong(address(1), now).is_none();
                free += u64::from(is_free);
                locks += u64::from(!is_free && !was_locked);
            }
            let given = FREE + (now - START) / FREE_EVERY_MS + 1;
            prop_assert!(free <= given + locks * FREE_AFTER, "{free} of {given}, {locks} locks");
        }

        #[test]
        fn nobody_pays_for_another(
            events in proptest::collection::vec((0..4u32, 0..10_000u64), 1..200),
        ) {
            let (mut together, mut now) = (Guesses::new(), START);
            let mut alone: Vec<Guesses> = (0..4).map(|_| Guesses::new()).collect();
            for (who, gap) in events {
                now += gap;
                let one = alone[who as usize].wrong(address(who), now);
                prop_assert_eq!(together.wrong(address(who), now), one);
            }
        }
    }
}
