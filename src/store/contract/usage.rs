//! What the store promises of usage.

use super::{add_user, at, service, user};
use crate::ids::Day;
use crate::store::histogram::{Histogram, bucket};
use crate::store::{StoreHandle, Usage, UsageFilter, UsageKey, UsageRow};

const DAY: Day = Day::from_number(20_000);

fn row(day: Day, of: &str, what: &str, latencies: &[u64]) -> UsageRow {
    let mut histogram = Histogram::default();
    for &us in latencies {
        histogram.add(bucket(us), 1);
    }
    UsageRow {
        key: UsageKey {
            day,
            user: user(of),
            service: service(what),
        },
        usage: Usage {
            requests: latencies.len() as u64,
            errors: 1,
            bytes_in: 10,
            bytes_out: 1000,
            latency_us: latencies.iter().sum(),
            latency_max_us: latencies.iter().copied().max().unwrap_or(0),
            latencies: histogram,
        },
    }
}

async fn all(store: &StoreHandle, filter: &UsageFilter) -> Vec<UsageRow> {
    let page = store.usage(filter, None, 1000).await.unwrap();
    assert_eq!(page.next, None);
    page.items
}

pub(super) async fn usage_adds_up(store: StoreHandle) {
    let first = row(DAY, "alice", "figma", &[100, 5_000]);
    let second = row(DAY, "alice", "figma", &[90, 700_000, 70]);
    let other = row(DAY, "alice", "github", &[3_000]);
    store
        .add_usage(vec![first.clone(), other.clone()])
        .await
        .unwrap();
    store.add_usage(Vec::new()).await.unwrap();
    // One row may come more than once in a batch.
    store
        .add_usage(vec![second.clone(), second.clone()])
        .await
        .unwrap();
    let mut sum = first.usage;
    sum.add(&second.usage);
    sum.add(&second.usage);
    let found = all(&store, &UsageFilter::default()).await;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].key, second.key);
    assert_eq!(found[0].usage, sum);
    assert_eq!(found[0].usage.latency_max_us, 700_000);
    assert_eq!(found[1], other);
}

pub(super) async fn usage_is_filtered_and_comes_in_pages(store: StoreHandle) {
    let mut rows = Vec::new();
    for day in [DAY, DAY.before(1), DAY.before(2)] {
        for of in ["bob", "alice", "Carol", "émile"] {
            for what in ["github", "figma"] {
                rows.push(row(day, of, what, &[100]));
            }
        }
    }
    store.add_usage(rows.clone()).await.unwrap();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let filters = [
        UsageFilter::default(),
        UsageFilter {
            user: Some(user("alice")),
            ..UsageFilter::default()
        },
        UsageFilter {
            service: Some(service("github")),
            from: Some(DAY.before(1)),
            ..UsageFilter::default()
        },
        UsageFilter {
            user: Some(user("émile")),
            service: Some(service("figma")),
            from: Some(DAY.before(2)),
            to: Some(DAY.before(1)),
        },
        UsageFilter {
            user: Some(user("nobody")),
            ..UsageFilter::default()
        },
    ];
    for filter in filters {
        let expected: Vec<_> = rows.iter().filter(|row| filter.takes(&row.key)).collect();
        for limit in [1, 3, 24] {
            let mut found = Vec::new();
            let mut after = None;
            loop {
                let page = store.usage(&filter, after.as_ref(), limit).await.unwrap();
                assert!(page.items.len() <= limit as usize);
                found.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        }
    }
    let counts = store.request_counts(&user("alice"), DAY.before(1)).await;
    let expected = vec![(service("figma"), 2), (service("github"), 2)];
    assert_eq!(counts.unwrap(), expected);
    let none = store.request_counts(&user("nobody"), DAY.before(9)).await;
    assert!(none.unwrap().is_empty());
}

pub(super) async fn usage_outlives_its_user(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    let counted = row(Day::of(at(5)), "alice", "figma", &[100]);
    store.add_usage(vec![counted.clone()]).await.unwrap();
    assert!(store.remove_user(&user("alice")).await.unwrap().is_some());
    assert_eq!(
        all(&store, &UsageFilter::default()).await,
        std::slice::from_ref(&counted)
    );
    // What was counted before the removal may be written after it.
    store.add_usage(vec![counted.clone()]).await.unwrap();
    let found = all(&store, &UsageFilter::default()).await;
    assert_eq!(found[0].usage.requests, 2);
}

pub(super) async fn old_usage_is_forgotten_in_parts(store: StoreHandle) {
    let days = [DAY, DAY.before(1), DAY.before(2), DAY.before(3)];
    let rows = days.map(|day| row(day, "alice", "figma", &[100])).to_vec();
    store.add_usage(rows).await.unwrap();
    let forget = async |day, limit| store.forget_usage_before(day, limit).await.unwrap();
    assert_eq!(forget(DAY.before(3), 10).await, 0);
    assert_eq!(forget(DAY, 2).await, 2);
    assert_eq!(forget(DAY, 2).await, 1);
    assert_eq!(forget(DAY, 2).await, 0);
    let left = all(&store, &UsageFilter::default()).await;
    assert_eq!(
        left.iter().map(|row| row.key.day).collect::<Vec<_>>(),
        [DAY]
    );
}

pub(super) async fn many_who_add_usage_lose_nothing(store: StoreHandle) {
    let add = |store: StoreHandle| async move {
        for _ in 0..20 {
            let rows = vec![row(DAY, "alice", "figma", &[100, 3_000])];
            store.add_usage(rows).await.unwrap();
        }
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(add(store.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let found = all(&store, &UsageFilter::default()).await;
    assert_eq!(found[0].usage.requests, 320);
    assert_eq!(found[0].usage.latencies.total(), 320);
    assert_eq!(found[0].usage.errors, 160);
}
