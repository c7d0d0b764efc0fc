//! The file of the journal: opened, read, put aside, and made anew.
//!
//! A daemon must come up on a full disk, too: opening writes only what is missing, and where not even
//! SQLite's own files can be made the rows are read without them. The file may also be taken from
//! under a daemon (`rm run.db`): SQLite goes on in what has no name any more, so it is looked
//! before each write whether the file lies at its path.

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::{JournalError, Left, Row, SCHEMA, Wanted, exits};
use crate::config::spec::SPEC_VERSION;
use crate::ids::{PmId, Timestamp};

/// The file itself, and what SQLite keeps beside it.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// A file that is to be at the path has this name before.
const NEW: &str = ".new";
const TABLES: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS processes (
        pm_id INTEGER PRIMARY KEY,
        boot_id TEXT NOT NULL,
        generation INTEGER NOT NULL,
        instance INTEGER NOT NULL,
        wanted TEXT NOT NULL,
        pid INTEGER,
        start_time INTEGER,
        record TEXT NOT NULL,
        spec_version INTEGER NOT NULL,
        spec TEXT NOT NULL
    ) STRICT;
    PRAGMA user_version = 1;
    COMMIT;";

/// The file as it was found.
pub(super) struct Opening {
    pub(super) file: File,
    pub(super) left: Left,
    /// Number of the newest exit.
    pub(super) last_exit: i64,
    /// Why nothing can be written to it just now.
    pub(super) refused: Option<rusqlite::Error>,
}

/// The file, for the thread that writes.
pub(super) struct File {
    path: PathBuf,
    home_id: String,
    /// `None` until it can be opened for writing.
    opened: Option<Opened>,
}

/// The connection, and which files it means.
struct Opened {
    db: Connection,
    files: Files,
}

/// Device and inode of the file and of those beside it.
type Files = [Option<(u64, u64)>; SUFFIXES.len()];

/// Opens it, makes what is missing, and reads what the last daemon left.
///
/// # Errors
/// When it can't be read, is damaged, or is of a newer release.
pub(super) fn open(path: &Path, boot_id: &str) -> Result<Opening, JournalError> {
    let (db, left, last_exit, refused) = match read_write(path, boot_id) {
        Ok((db, left, last_exit)) => (Some(db), left, last_exit, None),
        Err(JournalError::Open { source, .. }) if is_refused(&source) => {
            let (left, last_exit) = read_only(path, boot_id)?;
            (None, left, last_exit, Some(source))
        }
        Err(error) => return Err(error),
    };
    let opened = db.map(|db| Opened::of(db, path));
    let file = File {
        path: path.to_owned(),
        home_id: left.home_id.clone(),
        opened,
    };
    Ok(Opening {
        file,
        left,
        last_exit,
        refused,
    })
}

impl File {
    /// The connection to the file that lies at the path.
    pub(super) fn ready(&mut self) -> rusqlite::Result<&Connection> {
        let opened = match self.opened.take() {
            None => self.begin()?,
            Some(opened) if opened.files == files(&self.path) => opened,
            Some(opened) => match anew(&opened.db, &self.path) {
                Ok(anew) => {
                    let path = self.path.display();
                    tracing::warn!(file = %path, "made anew: it was removed or replaced");
                    anew
                }
                Err(error) => {
                    self.opened = Some(opened);
                    return Err(error);
                }
            },
        };
        Ok(&self.opened.insert(opened).db)
    }

    /// A write has failed. Nothing of it is left.
    pub(super) fn give_up(&mut self, error: &rusqlite::Error) {
        let Some(opened) = &self.opened else {
            return;
        };
        let _ = opened.db.execute_batch("ROLLBACK");
        // Opened when it could only be read. What has no name any more is all there is.
        let is_there = opened.files == files(&self.path);
        if is_there && error.sqlite_error_code() == Some(ErrorCode::ReadOnly) {
            self.opened = None;
        }
    }

    /// Opens the file, which could not be written when it was read.
    fn begin(&self) -> rusqlite::Result<Opened> {
        make_private(&self.path);
        let db = Connection::open(&self.path)?;
        prepare(&db)?;
        db.execute(
            "INSERT OR IGNORE INTO meta (key, value) VALUES ('home_id', ?1)",
            [&self.home_id],
        )?;
        Ok(Opened::of(db, &self.path))
    }
}

impl Opened {
    /// To be called when something was read from it: the files beside it are there only then.
    fn of(db: Connection, path: &Path) -> Self {
        let files = files(path);
        Self { db, files }
    }
}

fn files(path: &Path) -> Files {
    SUFFIXES.map(|suffix| {
        let file = std::fs::metadata(beside(path, suffix)).ok()?;
        Some((file.dev(), file.ino()))
    })
}

/// Puts a copy of all that the connection sees at the path, and opens that.
fn anew(old: &Connection, path: &Path) -> rusqlite::Result<Opened> {
    let new = beside(path, NEW);
    for suffix in SUFFIXES {
        remove(&beside(&new, suffix))?;
    }
    make_private(&new);
    let name = new
        .to_str()
        .ok_or_else(|| rusqlite::Error::InvalidPath(new.clone()))?;
    old.execute("VACUUM INTO ?1", [name])?;
    // What lies there is whole without its log, which would be taken for that of the new file.
    let _ = old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    for suffix in &SUFFIXES[1..] {
        remove(&beside(path, suffix))?;
    }
    std::fs::rename(&new, path).map_err(io)?;
    let db = Connection::open(path)?;
    prepare(&db)?;
    Ok(Opened::of(db, path))
}

fn remove(path: &Path) -> rusqlite::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
        _ => Ok(()),
    }
}

/// An error of the system, as one of SQLite.
pub(super) fn io(error: io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}

fn read_write(path: &Path, boot_id: &str) -> Result<(Connection, Left, i64), JournalError> {
    let failed = |source| failed(path, source);
    make_private(path);
    let db = Connection::open(path).map_err(failed)?;
    check(&db, path)?;
    prepare(&db).map_err(failed)?;
    match db.execute("DELETE FROM processes WHERE boot_id <> ?1", [boot_id]) {
        // They are not read, either.
        Err(error) if is_refused(&error) => {}
        deleted => {
            deleted.map_err(failed)?;
        }
    }
    let home_id = match home_id(&db).map_err(failed)? {
        Some(id) => id,
        None => {
            let id = new_home_id();
            let sql = "INSERT INTO meta (key, value) VALUES ('home_id', ?1)";
            db.execute(sql, [&id]).map_err(failed)?;
            id
        }
    };
    let left = read(&db, boot_id, home_id).map_err(failed)?;
    let last_exit = exits::last(&db).map_err(failed)?;
    Ok((db, left, last_exit))
}

/// Reads it where nothing can be written: this connection needs no file beside those that are there,
/// since it is the only one (`locking_mode`), and is closed at once.
fn read_only(path: &Path, boot_id: &str) -> Result<(Left, i64), JournalError> {
    let failed = |source| failed(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -256;")
        .map_err(failed)?;
    if check(&db, path)? == 0 {
        // It was never begun.
        let home_id = new_home_id();
        let left = Left {
            home_id,
            ..Left::default()
        };
        return Ok((left, 0));
    }
    let home_id = home_id(&db).map_err(failed)?;
    let home_id = home_id.unwrap_or_else(new_home_id);
    let left = read(&db, boot_id, home_id).map_err(failed)?;
    // The table may be missing.
    Ok((left, exits::last(&db).unwrap_or(0)))
}

fn failed(path: &Path, source: rusqlite::Error) -> JournalError {
    let is_damage = matches!(
        source.sqlite_error_code(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
    );
    let path = path.display().to_string();
    if is_damage {
        JournalError::Damaged { path, source }
    } else {
        JournalError::Open { path, source }
    }
}

/// The disk is full, or takes nothing for another reason: what is there may still be read.
fn is_refused(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
        )
    )
}

/// Gives the file and what SQLite keeps beside it another name, and returns that.
pub(super) fn put_aside(path: &Path) -> PathBuf {
    let kept = beside(path, &format!(".broken-{}", Timestamp::now().as_millis()));
    for suffix in SUFFIXES {
        // Some are not there; one that cannot be renamed is found to be damaged once more.
        let _ = std::fs::rename(beside(path, suffix), beside(&kept, suffix));
    }
    kept
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// It holds complete environments. What SQLite makes beside it gets the same mode.
fn make_private(path: &Path) {
    let mut options = std::fs::File::options();
    options.create(true).append(true).mode(0o600);
    // When it cannot be opened, the next line says so with SQLite's reason.
    if let Ok(file) = options.open(path) {
        let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    }
}

/// The version of its tables, 0 for none.
fn check(db: &Connection, path: &Path) -> Result<i64, JournalError> {
    let found = version(db).map_err(|source| failed(path, source))?;
    if found > SCHEMA {
        let path = path.display().to_string();
        return Err(JournalError::Newer { path, found });
    }
    Ok(found)
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Writes nothing when all is there.
fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = OFF;
         PRAGMA cache_size = -256;",
    )?;
    if version(db)? < SCHEMA {
        db.execute_batch(TABLES)?;
    }
    db.execute_batch(exits::TABLE)
}

fn home_id(db: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM meta WHERE key = 'home_id'";
    db.query_row(sql, [], |row| row.get(0)).optional()
}

fn new_home_id() -> String {
    let mut bytes = [0; 8];
    // Without random numbers the folder's time of birth must do; it only names a home.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = Timestamp::now().as_millis().to_le_bytes();
    }
    data_encoding::HEXLOWER.encode(&bytes)
}

fn read(db: &Connection, boot_id: &str, home_id: String) -> rusqlite::Result<Left> {
    let mut statement = db.prepare(
        "SELECT pm_id, generation, instance, wanted, pid, start_time, record, spec
         FROM processes WHERE spec_version = ?1 AND boot_id = ?2 ORDER BY pm_id",
    )?;
    let mut rows = Vec::new();
    let mut found = statement.query(rusqlite::params![SPEC_VERSION, boot_id])?;
    while let Some(row) = found.next()? {
        let id = PmId(row.get(0)?);
        let wanted = match row.get_ref(3)?.as_str()? {
            "up" => Wanted::Up,
            "errored" => Wanted::Errored,
            _ => Wanted::Down,
        };
        let pid: Option<u32> = row.get(4)?;
        let start_time: Option<i64> = row.get(5)?;
        let spec: String = row.get(7)?;
        let spec = match serde_json::from_str(&spec) {
            Ok(spec) => Arc::new(spec),
            Err(error) => {
                tracing::error!(pm_id = %id, %error, "a row of run.db is not readable; left alone");
                continue;
            }
        };
        let start_time = start_time.and_then(|ticks| u64::try_from(ticks).ok());
        rows.push(Row {
            id,
            generation: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            instance: row.get(2)?,
            wanted,
            identity: pid.zip(start_time),
            record: serde_json::from_str(row.get_ref(6)?.as_str()?).unwrap_or_default(),
            spec,
        });
    }
    Ok(Left {
        rows,
        home_id,
        warning: None,
    })
}
