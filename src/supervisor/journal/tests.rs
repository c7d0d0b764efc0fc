use super::*;
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
