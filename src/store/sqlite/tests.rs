//! What only this backend can be asked: group commit, failing writes, and what a file keeps.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;

use rusqlite::Connection;

use crate::ids::{Day, PublicId, ServiceType, Timestamp, UserId};
use crate::store::{
    Added, Answer, NewInstance, NewToken, NewUser, SessionRow, Sqlite, Store, StoreError,
    TokenOwner, Usage, UsageFilter, UsageKey, UsageRow,
};

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcpm.db");
    (home, path)
}

async fn add(store: &Sqlite, id: &str, n: u8) -> Result<bool, StoreError> {
    let (id, created_at) = (UserId::parse(id).unwrap(), Timestamp::from_millis(1));
    let owner = TokenOwner::User(id.clone());
    let token = NewToken {
        hash: [n; 32],
        owner,
        name: None,
        created_at,
        expires_at: None,
    };
    let user = NewUser {
        id,
        created_at,
        group: None,
    };
    store.add_user(user, token).await
}

/// A write that holds the thread until the sender is dropped, and a wait until it does.
fn slow_write(store: &Sqlite) -> (Answer<'_, ()>, impl Future<Output = ()>, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel::<()>();
    let write = store.write(move |_| {
        drop(begin);
        let _ = wait.recv();
        Ok(())
    });
    let begun = async move {
        let _ = begun.recv();
    };
    (write, begun, go)
}

#[tokio::test]
async fn without_room_for_a_file_beside_it_the_database_is_used_by_one_connection() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    assert!(add(&store, "alice", 1).await.unwrap());
    store.close().await.unwrap();
    // It cannot be made any more, as on a full disk.
    let beside = path.with_extension("db-shm");
    std::os::unix::fs::symlink("/nowhere/at/all", &beside).unwrap();
    let store = Sqlite::open(&path).unwrap();
    let users = || store.users(None, 10);
    assert_eq!(users().await.unwrap().len(), 1);
    assert!(add(&store, "bob", 2).await.unwrap());
    assert_eq!(users().await.unwrap().len(), 2);
    store.close().await.unwrap();
    fs::remove_file(beside).unwrap();
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.users(None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_file() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    assert!(add(&store, "alice", 1).await.unwrap());
    // Another program sees it while we are still open; so would the next daemon after a crash.
    let other = Connection::open(&path).unwrap();
    let users: i64 = other
        .query_row("SELECT count(*) FROM users", [], |row| row.get(0))
        .unwrap();
    assert_eq!(users, 1);
    drop(other);
    store.close().await.unwrap();
    assert!(
        !path.with_extension("db-wal").exists(),
        "the log was folded in"
    );
    let again = Sqlite::open(&path).unwrap();
    assert!(!add(&again, "alice", 2).await.unwrap());
}

#[tokio::test]
async fn sessions_are_there_for_another_daemon_and_found_by_their_indexes() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    let (user, created_at) = (UserId::parse("alice").unwrap(), Timestamp::from_millis(1));
    let public = PublicId::parse("ins_aaaabbbbcccc").unwrap();
    let new = NewInstance {
        public: public.clone(),
        user,
        service: ServiceType::parse("figma").unwrap(),
        hash: [1; 32],
        sealed_id: vec![1],
        sealed_credential: vec![2],
        created_at,
        label: None,
        expires_at: None,
        disabled_at: None,
    };
    let added = store.add_instances(vec![new], Some(created_at)).await;
    assert_eq!(added.unwrap(), [Added::Done]);
    let session = SessionRow {
        key: [3; 32],
        instance: public,
        data: vec![4; 9_000],
        used_at: Timestamp::from_millis(5),
    };
    assert!(store.put_session(session.clone()).await.unwrap());
    // As after `kill -9`: nothing was closed.
    let next = Sqlite::open(&path).unwrap();
    assert_eq!(next.session(&[3; 32]).await.unwrap(), Some(session));

    let conn = Connection::open(&path).unwrap();
    for (sql, index) in [
        ("key = x'00'", "PRIMARY KEY (key=?)"),
        (
            "public_id = '' AND key <> x'00' ORDER BY used_at DESC, key DESC",
            "mcp_sessions_of_instances",
        ),
        ("used_at < 1 ORDER BY used_at", "mcp_sessions_by_use"),
    ] {
        let sql = format!("EXPLAIN QUERY PLAN SELECT key FROM mcp_sessions WHERE {sql}");
        let mut plan = conn.prepare(&sql).unwrap();
        let steps = plan.query_map([], |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(steps.len() == 1 && steps[0].contains(index), "{steps:?}");
    }
}

#[tokio::test]
async fn a_failing_write_fails_its_caller_only() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    let half = |conn: &Connection| {
        conn.execute("INSERT INTO settings VALUES ('half', x'00')", [])?;
        conn.execute("INSERT INTO no_such_table VALUES (1)", [])
    };
    // While a slow write holds the thread the others queue up, and share the next transaction.
    let (slow, begun, go) = slow_write(&store);
    let (alice, bob) = (add(&store, "alice", 1), add(&store, "bob", 2));
    let release = async { drop(go) };
    let (slow, (), first, failing, last, ()) =
        tokio::join!(slow, begun, alice, store.write(half), bob, release);
    slow.unwrap();
    assert!(first.unwrap() && last.unwrap());
    assert!(matches!(failing, Err(StoreError::Unexpected(_))));
    assert_eq!(store.setting("half").await.unwrap(), None);
    assert_eq!(store.users(None, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn when_the_whole_transaction_is_lost_nobody_is_told_otherwise() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    // As SQLite does by itself after some I/O errors.
    let lost = |conn: &Connection| -> rusqlite::Result<()> {
        conn.execute_batch("ROLLBACK")?;
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(10),
            None,
        ))
    };
    let (slow, begun, go) = slow_write(&store);
    let (alice, bob) = (add(&store, "alice", 1), add(&store, "bob", 2));
    let release = async { drop(go) };
    let (slow, (), first, failing, last, ()) =
        tokio::join!(slow, begun, alice, store.write(lost), bob, release);
    slow.unwrap();
    for answer in [first, failing.map(|()| true), last] {
        assert!(
            matches!(answer, Err(StoreError::Unavailable(_))),
            "{answer:?}"
        );
    }
    assert_eq!(store.users(None, 9).await.unwrap(), []);
    assert!(
        add(&store, "alice", 1).await.unwrap(),
        "the next transaction works"
    );
}

#[tokio::test]
async fn a_full_disk_is_an_error_until_there_is_room_again() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    let limit = |pages: u32| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        store.write(move |conn| conn.query_row(&sql, [], |_| Ok(())))
    };
    limit(1).await.unwrap(); // SQLite takes the present size instead
    let refused = store.put_setting("big", vec![0; 100_000]).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(store.setting("big").await.unwrap(), None);
    limit(1_000_000).await.unwrap();
    store.put_setting("big", vec![0; 100_000]).await.unwrap();
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_an_error_not_a_panic() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    let scribble = |conn: &Connection| {
        conn.execute_batch("INSERT INTO users (id, created_at) VALUES ('line\nbreak', 1)")
    };
    store.write(scribble).await.unwrap();
    assert!(matches!(
        store.users(None, 9).await,
        Err(StoreError::Unexpected(_))
    ));
}

#[tokio::test]
async fn a_histogram_of_another_release_stays_and_the_numbers_count_on() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    let row = UsageRow {
        key: UsageKey {
            day: Day::from_number(20_000),
            user: UserId::parse("alice").unwrap(),
            service: ServiceType::parse("figma").unwrap(),
        },
        usage: Usage {
            requests: 1,
            ..Usage::default()
        },
    };
    store.add_usage(vec![row.clone()]).await.unwrap();
    let scribble =
        |conn: &Connection| conn.execute_batch("UPDATE service_usage SET histogram = x'02aa'");
    store.write(scribble).await.unwrap();
    store.add_usage(vec![row]).await.unwrap();
    let look = |conn: &Connection| {
        let sql = "SELECT requests, histogram FROM service_usage";
        conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    let found: (i64, Vec<u8>) = store.read(look).await.unwrap();
    assert_eq!(found, (2, vec![2, 0xaa]));
    let read = store.usage(&UsageFilter::default(), None, 1).await;
    assert!(matches!(read, Err(StoreError::Unexpected(_))));
}

/// A disk that lost power keeps any part of what was not yet synced. The log is cut at every place
/// of interest, and each time another daemon opens what is left.
#[tokio::test]
async fn a_log_that_was_cut_anywhere_holds_whole_changes_in_their_order() {
    let (_home, path) = home();
    let store = Sqlite::open(&path).unwrap();
    for n in 0..6 {
        assert!(add(&store, &format!("user {n}"), n).await.unwrap());
    }
    // As the disk holds them while the daemon is alive: after `kill -9` they are left so.
    let log_path = path.with_extension("db-wal");
    let (file, log) = (fs::read(&path).unwrap(), fs::read(log_path).unwrap());
    let frame = 4096 + 24;
    let cuts = (0..=log.len()).filter(|cut| [0, 1, 32, 2000].contains(&(cut % frame)));
    let mut before = 0;
    for cut in cuts.chain([log.len()]) {
        let (_home, path) = home_with(&file, &log[..cut]);
        let left = Sqlite::open(&path).unwrap();
        let users = left.users(None, 100).await.unwrap();
        assert!(users.len() >= before, "cut at {cut}");
        before = users.len();
        for (n, user) in (0..).zip(&users) {
            assert_eq!(user.id.as_str(), format!("user {n}"), "cut at {cut}");
            let token = left.token_by_hash(&[n; 32]).await.unwrap();
            assert!(token.is_some(), "half a change, cut at {cut}");
        }
        for n in users.len()..6 {
            let token = left.token_by_hash(&[n as u8; 32]).await.unwrap();
            assert!(token.is_none(), "half a change, cut at {cut}");
        }
    }
    assert_eq!(before, 6, "what was acknowledged is there");
}

fn home_with(file: &[u8], log: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let (home, path) = home();
    fs::write(&path, file).unwrap();
    fs::write(path.with_extension("db-wal"), log).unwrap();
    (home, path)
}
