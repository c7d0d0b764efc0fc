use rusqlite::Connection;

use super::*;
use crate::ids::AppName;
use crate::supervisor::last_exits::{ALL_MAX, EACH_MAX, ExitRecord, Key, Who};
use crate::supervisor::testing;

fn row(id: u32, wanted: Wanted) -> Row {
    Row {
        id: PmId(id),
        generation: 3,
        instance: 0,
        wanted,
        identity: Some((77, 12_345)),
        record: Record {
            restarts: 2,
            reason: Some("why".into()),
            ..Record::default()
        },
        spec: Arc::new(testing::spec("a")),
    }
}

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn the_next_daemon_reads_what_this_one_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, left) = Journal::open(&path, "boot").unwrap();
    assert!(left.rows.is_empty());
    journal.put(row(0, Wanted::Up));
    journal.put(row(1, Wanted::Errored));
    journal.put(row(2, Wanted::Up));
    journal.forget(PmId(2));
    journal.flush(LIMIT);
    let (_, again) = Journal::open(&path, "boot").unwrap();
    assert_eq!(again.home_id, left.home_id);
    let ids: Vec<_> = again
        .rows
        .iter()
        .map(|row| (row.id.0, row.wanted))
        .collect();
    assert_eq!(ids, [(0, Wanted::Up), (1, Wanted::Errored)]);
    assert_eq!(again.rows[0].identity, Some((77, 12_345)));
    assert_eq!(again.rows[0].record, row(0, Wanted::Up).record);
    assert_eq!(again.rows[0].spec, row(0, Wanted::Up).spec);
}

#[test]
fn records_of_other_releases_are_read() {
    let record = Record {
        under_way: UnderWay {
            ready_due: Some(Timestamp::from_millis(1_795_391_347_550)),
            ..UnderWay::default()
        },
        next: Some(NextRun {
            spec: Box::new(testing::spec("b")),
            instance: 1,
        }),
        ..row(0, Wanted::Up).record
    };
    assert_eq!(
        serde_json::from_str::<Record>(&json(&record)).unwrap(),
        record
    );
    let read = |text: &str| serde_json::from_str::<Record>(text).unwrap();
    // An earlier one, and a later one that has more to say, and other words.
    assert_eq!(
        read(r#"{"restarts":2,"reason":"why"}"#),
        row(0, Wanted::Up).record
    );
    let later = read(
        r#"{"restarts":2,"reason":"why","more":{"x":1},
            "underWay":{"end":{"then":"dance"}},"next":{"spec":[]}}"#,
    );
    assert_eq!(later, row(0, Wanted::Up).record);
}

#[test]
fn rows_of_another_boot_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    journal.put(row(0, Wanted::Up));
    journal.flush(LIMIT);
    let (_, left) = Journal::open(&path, "another").unwrap();
    assert!(left.rows.is_empty());
}

#[test]
fn a_newer_schema_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 9")
        .unwrap();
    let error = Journal::open(&path, "boot").err().unwrap().to_string();
    assert!(
        error.contains("newer mcpm") && error.contains("schema 9"),
        "{error}"
    );
}

#[test]
fn what_was_put_is_written_up_to_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    let nothing = journal.mark();
    assert!(journal.flush_to(nothing, Duration::ZERO));
    journal.put(row(0, Wanted::Up));
    let first = journal.mark();
    // A row that replaces another one counts for it.
    journal.put(row(0, Wanted::Down));
    journal.put(row(1, Wanted::Up));
    assert!(nothing < first && first < journal.mark());
    assert!(journal.flush_to(first, LIMIT));
    assert!(journal.flush(LIMIT) && journal.flush_to(first, Duration::ZERO));
    let (_, again) = Journal::open(&path, "boot").unwrap();
    assert_eq!(again.rows.len(), 2);
}

#[test]
fn a_damaged_file_is_put_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let nonsense = "this is no database ".repeat(100);
    std::fs::write(&path, &nonsense).unwrap();
    let (journal, left) = Journal::open(&path, "boot").unwrap();
    let warning = left.warning.unwrap();
    assert!(warning.contains("run.db.broken-"), "{warning}");
    let names = std::fs::read_dir(dir.path()).unwrap();
    let kept = names
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("run.db.broken-"));
    assert_eq!(std::fs::read_to_string(kept.unwrap()).unwrap(), nonsense);
    journal.put(row(0, Wanted::Up));
    journal.flush(LIMIT);
    let (_, again) = Journal::open(&path, "boot").unwrap();
    assert_eq!((again.rows.len(), again.warning), (1, None));
}

/// What a killed daemon leaves, where SQLite can't make the file that it needs beside it: as on a full
/// disk.
fn left_on_a_full_disk(dir: &Path) -> (PathBuf, String) {
    let (before, path) = (dir.join("before.db"), dir.join("run.db"));
    let (journal, left) = Journal::open(&before, "boot").unwrap();
    journal.put(row(0, Wanted::Up));
    assert!(journal.flush(LIMIT));
    for suffix in ["", "-wal"] {
        let from = dir.join(format!("before.db{suffix}"));
        std::fs::copy(from, dir.join(format!("run.db{suffix}"))).unwrap();
    }
    std::os::unix::fs::symlink("/nowhere/at/all", dir.join("run.db-shm")).unwrap();
    (path, left.home_id)
}

#[test]
fn what_cannot_be_written_is_read_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let (path, home_id) = left_on_a_full_disk(dir.path());
    let (journal, left) = Journal::open(&path, "boot").unwrap();
    assert_eq!(
        (left.rows.len(), left.home_id, left.warning),
        (1, home_id.clone(), None)
    );
    journal.put(row(1, Wanted::Up));
    assert!(!journal.flush(LIMIT), "it is known to fail");
    let refused = journal.secure(LIMIT).unwrap_err().to_string();
    assert!(refused.contains("run.db`: "), "{refused}");
    let trouble = journal.trouble().unwrap();
    assert!(
        trouble.contains("run.db` cannot be written since"),
        "{trouble}"
    );

    std::fs::remove_file(dir.path().join("run.db-shm")).unwrap();
    journal.secure(LIMIT).unwrap();
    assert_eq!((journal.trouble(), journal.flush(LIMIT)), (None, true));
    let (_, again) = Journal::open(&path, "boot").unwrap();
    assert_eq!((again.rows.len(), again.home_id), (2, home_id));
}

#[test]
fn a_file_that_was_taken_away_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, left) = Journal::open(&path, "boot").unwrap();
    journal.put(row(0, Wanted::Up));
    put_exit(&journal, key("a", 0), 1);
    let rounds: [&[&str]; 3] = [&["", "-wal", "-shm"], &["-wal"], &[]];
    for (round, suffixes) in rounds.iter().enumerate() {
        assert!(journal.flush(LIMIT));
        for suffix in *suffixes {
            std::fs::remove_file(dir.path().join(format!("run.db{suffix}"))).unwrap();
        }
        journal.secure(LIMIT).unwrap();
        let (next, again) = Journal::take_over(&path, "boot").unwrap();
        assert_eq!(
            (again.rows.len(), &again.home_id),
            (round + 1, &left.home_id)
        );
        assert_eq!(times(&next, &key("a", 0)), [1_i64]);
        let number = u32::try_from(round).unwrap() + 1;
        journal.put(row(number, Wanted::Up));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn who_takes_over_neither_puts_aside_nor_begins_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let refused = || Journal::take_over(&path, "boot").err().unwrap();
    assert!(matches!(refused(), JournalError::Missing { .. }));
    assert!(!path.exists());
    let nonsense = "this is no database ".repeat(100);
    std::fs::write(&path, &nonsense).unwrap();
    assert!(matches!(refused(), JournalError::Damaged { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), nonsense);
}

fn key(app: &str, instance: u32) -> Key {
    let app = AppName::parse(app).unwrap();
    Key { app, instance }
}

fn exit(at: i64) -> ExitRecord {
    ExitRecord {
        at: Timestamp::from_millis(at),
        code: Some(1),
        asked_by: Who::Itself,
        error_lines: vec!["going down".into()],
        ..ExitRecord::default()
    }
}

fn put_exit(journal: &Journal, key: Key, at: i64) {
    journal.put_exit(journal.number_exit(), key, exit(at));
}

/// When the exits were that are there of this process, newest first.
fn times(journal: &Journal, key: &Key) -> Vec<i64> {
    journal.flush(LIMIT);
    let found = journal.exits(std::slice::from_ref(key), usize::MAX);
    let found = found.unwrap().remove(0);
    found.iter().map(|exit| exit.at.as_millis()).collect()
}

#[test]
fn exits_outlive_the_daemon_and_the_boot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    put_exit(&journal, key("a", 0), 1);
    put_exit(&journal, key("a", 1), 2);
    put_exit(&journal, key("b", 0), 3);
    journal.flush(LIMIT);
    let (journal, _) = Journal::open(&path, "another").unwrap();
    let keys = [key("a", 1), key("a", 0), key("c", 0)];
    let found = journal.exits(&keys, 20).unwrap();
    assert_eq!(found, [vec![exit(2)], vec![exit(1)], vec![]]);
}

#[test]
fn of_each_process_the_newest_exits_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&dir.path().join("run.db"), "boot").unwrap();
    put_exit(&journal, key("b", 0), 5);
    // They may be written in another order than they came in.
    for at in [30, 10, 20].into_iter().chain(100..100 + 20) {
        put_exit(&journal, key("a", 0), at);
    }
    let expected: Vec<i64> = (100..120).rev().collect();
    assert_eq!(times(&journal, &key("a", 0)), expected);
    assert_eq!(expected.len(), EACH_MAX);
    let newest = journal.exits(&[key("a", 0)], 1).unwrap();
    assert_eq!(newest, [vec![exit(119)]]);
    journal.forget_exits(key("a", 0));
    assert!(times(&journal, &key("a", 0)).is_empty());
    assert_eq!(times(&journal, &key("b", 0)), [5_i64]);
}

#[test]
fn a_clock_that_was_set_back_hides_no_exit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    for at in 5000..5020 {
        put_exit(&journal, key("a", 0), at);
    }
    // What a record says may take a while to be read.
    let earlier = journal.number_exit();
    put_exit(&journal, key("a", 0), 8);
    journal.put_exit(earlier, key("a", 0), exit(7));
    assert_eq!(times(&journal, &key("a", 0))[..3], [8, 7, 5019]);
    // The next daemon goes on counting.
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    put_exit(&journal, key("a", 0), 3);
    let found = times(&journal, &key("a", 0));
    assert_eq!((&found[..3], found.len()), (&[3, 8, 7][..], EACH_MAX));
}

#[test]
fn all_exits_together_have_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    let all = i64::try_from(ALL_MAX).unwrap();
    for at in 0..all + 10 {
        put_exit(&journal, key("a", u32::try_from(at).unwrap()), at);
        // More than may wait would be lost.
        if at % 500 == 0 {
            journal.flush(LIMIT);
        }
    }
    journal.flush(LIMIT);
    assert!(times(&journal, &key("a", 9)).is_empty());
    assert_eq!(times(&journal, &key("a", 10)), [10_i64]);
    let db = Connection::open(&path).unwrap();
    let count: i64 = db
        .query_row("SELECT count(*) FROM exits", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, all);
}

#[test]
fn an_exit_of_another_form_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    put_exit(&journal, key("a", 0), 1);
    journal.flush(LIMIT);
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "INSERT INTO exits (app, instance, at, record) VALUES ('a', 0, 2, '{\"next\":\"moved\"}')",
        )
        .unwrap();
    assert_eq!(times(&journal, &key("a", 0)), [1_i64]);
}

#[test]
fn a_file_of_an_older_release_gets_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    drop(Journal::open(&path, "boot").unwrap());
    Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE exits")
        .unwrap();
    let (journal, _) = Journal::open(&path, "boot").unwrap();
    put_exit(&journal, key("a", 0), 1);
    assert_eq!(times(&journal, &key("a", 0)), [1_i64]);
}

#[test]
fn what_waits_for_the_disk_has_a_bound_and_keeps_its_order() {
    let news = |at| News::Exit(at, key("a", 0), Box::new(exit(at)));
    let mut waiting = VecDeque::new();
    let failed = (0..3).map(news);
    let failed: VecDeque<News> = failed.collect();
    for at in 3..2000 {
        exits::enqueue(&mut waiting, news(at));
    }
    exits::put_back(&mut waiting, failed);
    let at = |news: &News| match news {
        News::Exit(_, _, record) => record.at.as_millis(),
        News::Forget(_) => -1,
    };
    assert_eq!(waiting.len(), 1024);
    assert_eq!(waiting.back().map(at), Some(1999));
    let ordered = waiting.iter().map(at).is_sorted();
    assert!(ordered);
}
