use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::ids::{ServiceType, UserId};
use crate::instances::Tally;
use crate::store::{Memory, Sqlite, Usage, UsageFilter};
use crate::usage::Ledger;

fn user(n: usize) -> UserId {
    UserId::parse(&format!("user-{n}")).unwrap()
}

fn service() -> ServiceType {
    ServiceType::parse("demo").unwrap()
}

/// Tallies of so many users.
fn tallies(count: usize) -> (Arc<Tallies>, Vec<Arc<Tally>>) {
    let tallies = Arc::new(Tallies::default());
    let each = (0..count).map(|n| tallies.tally(&user(n), &service()));
    let each = each.collect();
    (tallies, each)
}

fn open(path: &Path) -> StoreHandle {
    Arc::new(Sqlite::open(path).unwrap())
}

async fn total(store: &StoreHandle) -> Usage {
    let page = store.usage(&UsageFilter::default(), None, 1000).await;
    let mut total = Usage::default();
    for row in page.unwrap().items {
        total.add(&row.usage);
    }
    total
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_is_in_the_store_a_second_later() {
    let store: StoreHandle = Arc::new(Memory::new());
    let (tallies, each) = tallies(1);
    let (ledger, task) = Ledger::start(tallies, store.clone());
    for round in 1..=3 {
        // Nothing is counted for a while, and nothing is written.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let begun = Instant::now();
        each[0].answered(Duration::from_millis(3), false);
        while total(&store).await.requests < round {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = begun.elapsed();
        assert!(took <= WRITE_EVERY + Duration::from_millis(100), "{took:?}");
        assert!(took >= WRITE_EVERY - Duration::from_millis(100), "{took:?}");
    }
    ledger.close().await;
    task.await.unwrap();
}

#[tokio::test]
async fn what_is_flushed_or_closed_is_written_at_once() {
    let store: StoreHandle = Arc::new(Memory::new());
    let (tallies, each) = tallies(2);
    let (ledger, task) = Ledger::start(tallies, store.clone());
    each[0].received(7);
    ledger.flush().await;
    assert_eq!(total(&store).await.bytes_in, 7);
    // Its instance is gone, its counts are not.
    each[1].sent(9);
    drop(each);
    ledger.close().await;
    task.await.unwrap();
    assert_eq!(total(&store).await.bytes_out, 9);
    // A handle that is left over waits for nobody.
    ledger.flush().await;
}

#[tokio::test]
async fn a_write_that_fails_loses_nothing_and_doubles_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcpm.db");
    let store = open(&path);
    let (tallies, each) = tallies(3);
    let (ledger, task) = Ledger::start(tallies, store.clone());
    // Another program makes writing fail, and work again.
    let other = Connection::open(&path).unwrap();
    let rename = |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        other.execute_batch(&sql).unwrap();
    };
    let mut expected = 0;
    for round in 0..6u64 {
        if round % 2 == 1 {
            rename("service_usage", "put_aside");
        }
        for (n, tally) in (0..).zip(&each) {
            tally.answered(Duration::from_millis(round + n), n == 0);
            tally.received(100);
            expected += 1;
        }
        ledger.flush().await;
        if round % 2 == 1 {
            // What fails is kept over several tries.
            ledger.flush().await;
            rename("put_aside", "service_usage");
        }
    }
    ledger.close().await;
    task.await.unwrap();
    let total = total(&store).await;
    assert_eq!(total.requests, expected);
    assert_eq!(total.latencies.total(), expected);
    assert_eq!(total.bytes_in, 100 * expected);
    assert_eq!(total.errors, expected / 3);
}

#[tokio::test]
async fn two_daemons_on_one_file_add_to_the_same_rows() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcpm.db");
    let (one, two) = (open(&path), open(&path));
    let (coming, new) = tallies(1);
    let (going, old) = tallies(1);
    let (new_ledger, new_task) = Ledger::start(coming, two);
    let (old_ledger, old_task) = Ledger::start(going, one.clone());
    for _ in 0..5 {
        old[0].answered(Duration::from_millis(2), false);
        new[0].answered(Duration::from_millis(900), true);
        tokio::join!(old_ledger.flush(), new_ledger.flush());
    }
    old_ledger.close().await;
    new_ledger.close().await;
    old_task.await.unwrap();
    new_task.await.unwrap();
    let total = total(&one).await;
    assert_eq!((total.requests, total.errors), (10, 5));
    assert_eq!(total.latencies.total(), 10);
    assert_eq!(total.latency_max_us, 900_000);
}
