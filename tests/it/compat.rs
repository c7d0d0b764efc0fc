//! What PM2 does with ecosystem files and options, and that mcpm does it, too.
//!
//! `scripts/record-pm2` has run every case of `tests/compat` through the real PM2 and written down
//! what it started. Here the same lines go through mcpm, always. What differs on purpose stands in
//! one table (`differences.rs`) with its reason; an entry that is no longer true fails as well.

mod differences;
mod runs;
mod shape;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use self::differences::{DIFFERENCES, Difference};
use self::runs::{Runs, recorded};
use crate::harness::eventually;

/// Daemons that take cases from one list.
const WORKERS: usize = 3;

#[test]
fn ecosystem_files_start_what_they_start_in_pm2() {
    compare("files");
}

#[test]
fn command_lines_do_what_they_do_in_pm2() {
    compare("lines");
}

#[test]
fn verbs_mean_the_processes_that_they_mean_in_pm2() {
    compare("verbs");
}

#[test]
fn jlist_has_the_names_and_the_types_of_pm2() {
    compare("types");
}

/// Runs every recorded case of a topic.
fn compare(topic: &str) {
    let cases: Vec<(String, Value)> = recorded(topic).into_iter().collect();
    let workers = (0..WORKERS).map(|_| Runs::new());
    let Some(workers) = workers.collect::<Option<Vec<_>>>() else {
        return;
    };
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    let used = Mutex::new(BTreeSet::new());
    let work = |runs: Runs| {
        while let Some((name, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (unknown, known) = differing(&runs, topic, name, case);
            used.lock().unwrap().extend(known);
            if !unknown.is_empty() {
                let told = format!("{name}\n    {}", unknown.join("\n    "));
                complaints.lock().unwrap().push(told);
            }
        }
    };
    std::thread::scope(|scope| {
        for runs in workers {
            scope.spawn(|| work(runs));
        }
    });
    finish(
        topic,
        complaints.into_inner().unwrap(),
        &used.into_inner().unwrap(),
    );
}

/// What differs and is in no table, and the entries of the table that were needed.
fn differing(runs: &Runs, topic: &str, name: &str, case: &Value) -> (Vec<String>, Vec<usize>) {
    let codes = runs.run(case);
    let compared = || match case.get("types") {
        Some(types) => shape::missing(&shape::recorded_types(types), &runs.types()),
        None => shape::differences(&shape::recorded(case), &runs.shape(&codes)),
    };
    let (mut unknown, mut known) = (Vec::new(), Vec::new());
    // Processes need a moment until they have said how they were started.
    eventually(|| {
        (unknown, known) = (Vec::new(), Vec::new());
        for (what, told) in compared() {
            match entry(topic, name, &what) {
                Some(at) => known.push(at),
                None => unknown.push(told),
            }
        }
        unknown.is_empty()
    });
    runs.clear();
    (unknown, known)
}

/// The entry of the table that says that this may differ.
fn entry(topic: &str, case: &str, what: &str) -> Option<usize> {
    let is_it = |known: &Difference| known.fits(topic, case, what);
    DIFFERENCES.iter().position(is_it)
}

/// Fails for what is in no table, and for what is in the table and not so.
#[track_caller]
fn finish(topic: &str, mut complaints: Vec<String>, used: &BTreeSet<usize>) {
    for (at, known) in DIFFERENCES.iter().enumerate() {
        if known.topic == topic && !used.contains(&at) {
            let Difference { case, what, .. } = known;
            complaints.push(format!(
                "{case}: `{what}` differs no longer; take it off the table"
            ));
        }
    }
    complaints.sort();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
