//! What is refused takes nothing, and a stream counts as long as it is there.

use proptest::prelude::*;

use super::*;
use crate::config::limits::Rate;

const SECOND: u64 = 1_000_000_000;

fn account() -> Arc<Account> {
    Arc::new(Account {
        used: Used::default(),
        calls: Bucket::default(),
        member: Arc::default(),
    })
}

fn seat(account: &Arc<Account>, service: &Arc<Used>) -> Arc<Seat> {
    Arc::new(Seat {
        instance: Used::default(),
        validations: Bucket::default(),
        account: Arc::clone(account),
        service: Arc::clone(service),
    })
}

fn requests(per_minute: u64, burst: u64) -> Quota {
    Quota {
        requests: Some(Rate { per_minute, burst }),
        ..Quota::default()
    }
}

fn streams(most: u32) -> Quota {
    Quota {
        streams: Some(most),
        ..Quota::default()
    }
}

#[test]
fn what_is_refused_takes_nothing_of_the_others() {
    let service = Arc::new(Used::default());
    let (alice, bob) = (account(), account());
    let quotas = Quotas([requests(60, 10), requests(60, 2), requests(60, 4)]);
    let (one, two) = (seat(&alice, &service), seat(&alice, &service));
    let bobs = seat(&bob, &service);
    let take = |seat: &Seat| seat.take(&quotas, SECOND);
    assert_eq!(take(&one), Ok(()));
    assert_eq!(take(&two), Ok(()));
    for _ in 0..50 {
        let denied = take(&one).unwrap_err();
        assert_eq!(
            (denied.scope, denied.resource),
            (Scope::User, Resource::Requests)
        );
        assert_eq!(denied.wait, Duration::from_secs(1));
    }
    // The service's four have two left, and the instance's ten nine.
    assert_eq!((take(&bobs), take(&bobs)), (Ok(()), Ok(())));
    let denied = seat(&account(), &service)
        .take(&quotas, SECOND)
        .unwrap_err();
    assert_eq!(denied.scope, Scope::Service);
    let alone = Quotas([requests(60, 10), Quota::default(), Quota::default()]);
    let free = (0..20).filter(|_| one.take(&alone, SECOND).is_ok());
    assert_eq!(free.count(), 9);
}

#[test]
fn the_longest_wait_is_told() {
    let seat = seat(&account(), &Arc::default());
    let quotas = Quotas([requests(60, 1), requests(6, 1), Quota::default()]);
    assert_eq!(seat.take(&quotas, SECOND), Ok(()));
    let denied = seat.take(&quotas, SECOND).unwrap_err();
    assert_eq!(
        (denied.scope, denied.wait),
        (Scope::User, Duration::from_secs(10))
    );
    let later = SECOND + 10 * SECOND;
    assert_eq!(seat.take(&quotas, later), Ok(()), "and it is true");
}

#[test]
fn bytes_are_owed_where_they_are_limited() {
    let seat = seat(&account(), &Arc::default());
    assert!(!seat.counts_bytes());
    let bytes = Quota {
        bytes: Some(Rate {
            per_minute: 60_000,
            burst: 1000,
        }),
        ..Quota::default()
    };
    let quotas = Quotas([Quota::default(), bytes, Quota::default()]);
    assert_eq!(seat.take(&quotas, SECOND), Ok(()));
    assert!(seat.counts_bytes());
    seat.pass(5000, SECOND);
    let denied = seat.take(&quotas, SECOND).unwrap_err();
    assert_eq!(
        (denied.scope, denied.resource),
        (Scope::User, Resource::Bytes)
    );
    assert_eq!(seat.take(&quotas, SECOND + 4_001_000_000), Ok(()));
    assert!(seat.instance.is_nothing(SECOND) && !seat.account.used.is_nothing(SECOND));
}

#[test]
fn a_stream_counts_until_it_is_dropped() {
    let service = Arc::new(Used::default());
    let (alice, bob) = (account(), account());
    let quotas = Quotas([Quota::default(), streams(2), streams(3)]);
    let (one, two) = (seat(&alice, &service), seat(&alice, &service));
    let bobs = seat(&bob, &service);
    let first = one.open(&quotas).unwrap();
    let _second = two.open(&quotas).unwrap();
    let denied = one.open(&quotas).unwrap_err();
    assert_eq!(
        (denied.scope, denied.resource),
        (Scope::User, Resource::Streams)
    );
    let _third = bobs.open(&quotas).unwrap();
    assert_eq!(bobs.open(&quotas).unwrap_err().scope, Scope::Service);
    drop(first);
    let anyway = (one.open_anyway(), one.open_anyway());
    assert!(one.open(&quotas).is_err());
    drop(anyway);
    assert!(one.open(&quotas).is_ok());
    assert_eq!(one.instance.streams.load(Ordering::Relaxed), 0);
}

/// Would a request pass? Nothing is taken.
fn is_free(seat: &Seat, quotas: &Quotas, now: u64) -> bool {
    let all = seat.all();
    let mut waits = all
        .iter()
        .zip(&quotas.0)
        .flat_map(|((_, used), quota)| used.waits(quota, now));
    waits.all(|(_, wait)| wait.is_none())
}

proptest! {
    /// Any order of requests: each bucket lets through what it would let through alone, and all of them
    /// together what the tightest does.
    #[test]
    fn no_bucket_lets_more_through_than_it_holds(
        rates in proptest::array::uniform3((1..10_000u64, 1..50u64)),
        steps in proptest::collection::vec((0..3usize, 0..SECOND), 1..200),
    ) {
        let service = Arc::new(Used::default());
        let (alice, bob) = (account(), account());
        let seats = [seat(&alice, &service), seat(&alice, &service), seat(&bob, &service)];
        let quotas = Quotas(rates.map(|(per_minute, burst)| requests(per_minute, burst)));
        let (mut now, mut passed) = (SECOND, [0u64; 3]);
        for (who, gap) in steps {
            now += gap;
            if let Err(denied) = seats[who].take(&quotas, now) {
                let later = now + u64::try_from(denied.wait.as_nanos()).unwrap();
                let late = seats[who].take(&quotas, later - 1).is_ok();
                let free = is_free(&seats[who], &quotas, later);
                prop_assert!(free && !late, "{denied:?}");
            } else {
                passed[who] += 1;
            }
        }
        let at_most = |at: usize| rates[at].1 + (now - SECOND) * rates[at].0 / (60 * SECOND);
        prop_assert!(passed.iter().all(|&passed| passed <= at_most(0)));
        prop_assert!(passed[0] + passed[1] <= at_most(1) && passed[2] <= at_most(1));
        prop_assert!(passed.iter().sum::<u64>() <= at_most(2));
    }
}
