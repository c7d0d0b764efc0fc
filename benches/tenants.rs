//! What a look-up by URL costs among the instances of a real database: `tenants PATH/mcpm.db`, which no
//! daemon has open. Prints JSON, a list of numbers of each kind; `scripts/bench-tenants` calls it.
//!
//! *Warm* is an instance that is in the router's table, picked at random, so that the processor's caches
//! mostly do not hold it: the keyed hash of the id, and one `get`. *Cold* is one that was not loaded yet when
//! it is asked for, right after a start and beside the task that loads the others: the look-up in the
//! store, two threads apart, with the file in the kernel's page cache. Neither opens the credential.

use std::env;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcpm::instances::Instances;
use mcpm::store::{Sqlite, StoreHandle};
use mcpm::vault::{MasterKey, Vault};
use tokio::time::Instant;

/// Starts, each of which gives cold look-ups.
const ROUNDS: usize = 3;
/// Look-ups of each kind and round.
const LOOKUPS: usize = 5000;
/// Rows that are read at once.
const PAGE: u32 = 1000;
/// As long as the ids that are made here.
const ID: &str = "dem_0123456789ab_abcdefghijklmnopqrstuvwxyz";

fn main() {
    let path = env::args().nth(1).filter(|arg| !arg.starts_with("--"));
    let Some(path) = path.map(PathBuf::from) else {
        // `cargo bench` calls it without one.
        let why = "`scripts/bench-tenants` makes the database that this needs";
        writeln!(io::stderr(), "{why}").expect("stderr");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let measured = runtime.block_on(async { tokio::spawn(measure(path)).await });
    let measured = measured.expect("a measurement");
    writeln!(io::stdout(), "{measured}").expect("stdout");
}

async fn measure(path: PathBuf) -> serde_json::Value {
    let hashes = hashes(&open(&path)).await;
    let mut pick = hashes.iter().copied().cycle();
    let (mut cold, mut quiet, mut filled) = (vec![], vec![], vec![]);
    let (mut warm, mut hashing) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let store = open(&path);
        for _ in 0..LOOKUPS {
            let hash = pick.next().expect("a cycle");
            let began = Instant::now();
            black_box(store.stored_by_hash(&hash).await.expect("a row"));
            quiet.push(began.elapsed());
        }
        let store = open(&path);
        let vault = Vault::new(&MasterKey::from_bytes([7; 32]));
        let started = Instant::now();
        let (instances, _) = Instances::open(store, vault).await.expect("a store");
        for _ in 0..LOOKUPS {
            let hash = pick.next().expect("a cycle");
            if instances.table().is_whole() || instances.table().get(&hash).is_some() {
                continue;
            }
            let began = Instant::now();
            let found = instances.find(&hash).await.expect("an answer");
            cold.push(began.elapsed());
            assert!(found.is_some(), "all are active");
        }
        instances.whole().await;
        filled.push(started.elapsed());
        for _ in 0..LOOKUPS {
            let hash = pick.next().expect("a cycle");
            let began = Instant::now();
            black_box(instances.hash(black_box(ID)));
            let hashed = began.elapsed();
            let found = instances.find(black_box(&hash)).await.expect("an answer");
            warm.push(began.elapsed());
            hashing.push(hashed);
            assert!(found.is_some(), "all are active");
        }
    }
    serde_json::json!({
        "warm": [micros(&mut warm, 50)],
        "warm_p99": [micros(&mut warm, 99)],
        "hash": [micros(&mut hashing, 50)],
        "cold": [micros(&mut cold, 50)],
        "cold_p99": [micros(&mut cold, 99)],
        "cold_quiet_p99": [micros(&mut quiet, 99)],
        "filled": filled.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
    })
}

fn open(path: &Path) -> StoreHandle {
    Arc::new(Sqlite::open(path).expect("a database that nobody has open"))
}

/// As many hashes as there are look-ups, from all over the table and in no order: hashes are random.
async fn hashes(store: &StoreHandle) -> Vec<[u8; 32]> {
    let (mut hashes, mut after) = (Vec::new(), None);
    loop {
        let page = store.stored_instances(after, PAGE).await.expect("a page");
        hashes.extend(page.items.iter().map(|stored| stored.row.hash));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // By bytes that neither the table nor an index goes by.
    hashes.sort_unstable_by(|one, two| one.iter().rev().cmp(two.iter().rev()));
    hashes.truncate(ROUNDS * LOOKUPS * 3);
    hashes
}

fn micros(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
