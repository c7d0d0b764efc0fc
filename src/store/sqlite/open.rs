//! Opens the database file: access, pragmas, migrations.
//!
//! Blocking. What holds after [`open`]: the file is ours, readable by its owner only, in
//! write-ahead mode, and has the newest schema this program knows.

use std::error::Error;
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::OpenError;

/// `mcpm` in ASCII: tells our databases from those of other programs.
const APPLICATION_ID: i64 = 0x6d63_706d;

/// The schema, step by step; the index plus one is the `user_version` that a step leads to. Only
/// ever added to.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_tokens.sql"),
    include_str!("migrations/0003_audit.sql"),
    include_str!("migrations/0004_instances_life.sql"),
    include_str!("migrations/0046_credential_state.sql"),
    include_str!("migrations/0047_user_groups.sql"),
    include_str!("migrations/0048_mcp_sessions.sql"),
    include_str!("migrations/0049_kept_terms.sql"),
];

/// How long a statement waits for another program (a backup, a curious `sqlite3`) to let go.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// For every connection. The cache is small because the daemon's memory is a promise; memory maps
/// are off because an I/O error would be a SIGBUS. `secure_delete` overwrites removed rows where
/// that costs no extra write.
const PRAGMAS: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA cache_size = -1024;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA trusted_schema = OFF;
    PRAGMA secure_delete = FAST;
    PRAGMA journal_size_limit = 4194304;
";

/// For the one that writes. A transaction that changes more pages than its cache holds would write them
/// into the log again and again: what an import adds lies all over the indexes. What is not needed is
/// given back (`queue.rs`). And a page that changes in each of several transactions is copied into the
/// file once for all of them.
const WRITER_PRAGMAS: &str = "
    PRAGMA cache_size = -32768;
    PRAGMA wal_autocheckpoint = 4096;
";

/// A connection, and perhaps the same one for another thread.
pub(super) type Shared = Arc<Mutex<Connection>>;

/// The connection that writes and the one that reads. On a full disk they may be one: what two need
/// between them is a file, for which there is no room.
pub(super) fn open_both(path: &Path) -> Result<(Shared, Shared), OpenError> {
    match open_two(path) {
        Ok((writer, reader)) => Ok((shared(writer), shared(reader))),
        Err(OpenError::Backend { source, .. }) if is_without_room(&source) => {
            tracing::error!(
                file = %path.display(), error = %source,
                "opened for this daemon alone until it ends, since the disk takes nothing"
            );
            let only = shared(open_as(path, "PRAGMA locking_mode = EXCLUSIVE")?);
            Ok((only.clone(), only))
        }
        Err(error) => Err(error),
    }
}

fn open_two(path: &Path) -> Result<(Connection, Connection), OpenError> {
    Ok((open(path)?, open_reader(path)?))
}

fn shared(conn: Connection) -> Shared {
    Arc::new(Mutex::new(conn))
}

/// The files beside the database could not be made or grow.
fn is_without_room(cause: &Arc<dyn Error + Send + Sync>) -> bool {
    let error = cause.downcast_ref::<rusqlite::Error>();
    matches!(
        error.and_then(rusqlite::Error::sqlite_error_code),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
    )
}

/// A connection that may write, to a database that is up to date.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    open_as(path, "")
}

fn open_as(path: &Path, first: &str) -> Result<Connection, OpenError> {
    own(path).map_err(|source| OpenError::File {
        path: path.into(),
        source,
    })?;
    let mut conn = connect_as(path, first)?;
    check_ours(&conn, path)?;
    migrate(&mut conn, path, MIGRATIONS)?;
    conn.execute_batch(WRITER_PRAGMAS)
        .map_err(|e| refuse(path, e))?;
    Ok(conn)
}

/// A second connection, which cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let conn = connect(path)?;
    conn.execute_batch("PRAGMA query_only = ON")
        .map_err(|e| refuse(path, e))?;
    Ok(conn)
}

/// Makes the file if it is missing, and closes it to everybody else. SQLite gives the same mode to
/// the files beside it.
fn own(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let file = options.open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    connect_as(path, "")
}

/// Says `first` before anything is read.
fn connect_as(path: &Path, first: &str) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let set_up = || {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.execute_batch(first)?;
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        conn.execute_batch(PRAGMAS)?;
        conn.set_prepared_statement_cache_capacity(48);
        Ok((conn, mode))
    };
    let (conn, mode) = set_up().map_err(|e| refuse(path, e))?;
    if mode == "wal" {
        Ok(conn)
    } else {
        Err(OpenError::NoWal { path: path.into() })
    }
}

/// A database that holds something must say that it is ours.
fn check_ours(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let id = number("PRAGMA application_id").map_err(|e| refuse(path, e))?;
    let objects = number("SELECT count(*) FROM sqlite_schema").map_err(|e| refuse(path, e))?;
    if id == APPLICATION_ID || (id == 0 && objects == 0) {
        Ok(())
    } else {
        Err(OpenError::Foreign { path: path.into() })
    }
}

/// Applies what is missing, each step in a transaction of its own.
pub(super) fn migrate(
    conn: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), OpenError> {
    let known = i64::try_from(migrations.len()).expect("a list of migrations is short");
    let found = conn
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map_err(|e| refuse(path, e))?;
    if found > known {
        return Err(OpenError::Newer {
            path: path.into(),
            found,
            known,
        });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (index, sql) in migrations.iter().enumerate().skip(done) {
        apply(conn, sql, index + 1).map_err(|e| refuse(path, e))?;
    }
    Ok(())
}

fn apply(conn: &mut Connection, sql: &str, version: usize) -> rusqlite::Result<()> {
    let step = conn.transaction()?;
    step.execute_batch(sql)?;
    step.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
    ))?;
    step.commit()
}

fn refuse(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged {
            path,
            source: Arc::new(error),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse {
            path,
            source: Arc::new(error),
        },
        _ => OpenError::Backend {
            path,
            source: Arc::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(conn: &Connection) -> i64 {
        conn.query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn an_empty_folder_gets_a_closed_file_with_the_newest_schema() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mcpm.db");
        let conn = open(&path).unwrap();
        assert_eq!(version(&conn), MIGRATIONS.len() as i64);
        for entry in std::fs::read_dir(home.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
        drop(conn);
        assert_eq!(version(&open(&path).unwrap()), MIGRATIONS.len() as i64);
    }

    #[test]
    fn each_older_schema_is_brought_up_and_a_failing_step_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mcpm.db");
        for older in 0..MIGRATIONS.len() {
            let _ = std::fs::remove_file(&path);
            own(&path).unwrap();
            let mut conn = connect(&path).unwrap();
            migrate(&mut conn, &path, &MIGRATIONS[..older]).unwrap();
            migrate(&mut conn, &path, MIGRATIONS).unwrap();
            assert_eq!(version(&conn), MIGRATIONS.len() as i64);
        }
        let mut conn = open(&path).unwrap();
        let mut longer = MIGRATIONS.to_vec();
        longer.push("CREATE TABLE half (a TEXT); CREATE TABLE users (b TEXT);");
        assert!(migrate(&mut conn, &path, &longer).is_err());
        assert_eq!(version(&conn), MIGRATIONS.len() as i64);
        assert!(conn.prepare("SELECT * FROM half").is_err());
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_numbers_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mcpm.db");
        open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 907")
            .unwrap();
        let refused = open(&path).unwrap_err().to_string();
        let known = format!("up to {}", MIGRATIONS.len());
        assert!(
            refused.contains("schema 907") && refused.contains(&known),
            "{refused}"
        );
        assert!(refused.contains("newer mcpm"), "{refused}");
        assert_eq!(version(&connect(&path).unwrap()), 907);
    }

    #[test]
    fn what_is_not_our_database_is_refused_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let text = home.path().join("text.db");
        let words = "not a database, but long enough to be looked at. ".repeat(40);
        std::fs::write(&text, &words).unwrap();
        assert!(matches!(open(&text), Err(OpenError::Foreign { .. })));
        assert_eq!(std::fs::read_to_string(&text).unwrap(), words);

        let other = home.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE t (a)")
            .unwrap();
        assert!(matches!(open(&other), Err(OpenError::Foreign { .. })));

        assert!(matches!(open(home.path()), Err(OpenError::File { .. })));
        let nowhere = home.path().join("no/such/mcpm.db");
        assert!(matches!(open(&nowhere), Err(OpenError::File { .. })));
    }

    #[test]
    fn a_cut_or_scribbled_database_is_an_error_not_a_panic() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mcpm.db");
        drop(open(&path).unwrap());
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2 + 77]).unwrap();
        let cut = open(&path).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(cut.contains("damaged"), "{cut}");
        let mut scribbled = whole;
        scribbled[100..4096].fill(0xaa);
        std::fs::write(&path, scribbled).unwrap();
        let scribbled = open(&path).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(scribbled.contains("damaged"), "{scribbled}");
    }
}
