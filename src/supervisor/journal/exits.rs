//! The table of exits. Unlike the rows of processes it is bound to no boot: who asks why an app ended
//! may ask tomorrow. Their order is that of their numbers: clocks are set back.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OpenFlags, params};

use super::{Journal, JournalError, json, lock};
use crate::supervisor::last_exits::{ALL_MAX, EACH_MAX, ExitRecord, Key};

/// News that wait for the disk, at most. Beyond that the oldest are lost: no app waits for its past.
const WAITING_MAX: usize = 1024;
/// A release that does not know this table leaves it alone, so it needs no other version of the file.
pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS exits (
        id INTEGER PRIMARY KEY,
        app TEXT NOT NULL,
        instance INTEGER NOT NULL,
        at INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS exits_by_process ON exits (app, instance, at);";

/// What is to be written.
#[derive(Debug)]
pub(super) enum News {
    Exit(i64, Key, Box<ExitRecord>),
    Forget(Key),
}

impl Journal {
    /// The number of an exit that has just come. What it is written with may take a while, and others
    /// may come meanwhile.
    pub fn number_exit(&self) -> i64 {
        self.0.next_exit.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes soon how a process has ended; returns at once.
    pub fn put_exit(&self, number: i64, key: Key, record: ExitRecord) {
        self.tell(News::Exit(number, key, Box::new(record)));
    }

    /// Drops the exits of this process soon; returns at once.
    pub fn forget_exits(&self, key: Key) {
        self.tell(News::Forget(key));
    }

    /// The last exits of these, newest first, not more than `limit` of each: those that were written.
    /// Blocks.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn exits(&self, keys: &[Key], limit: usize) -> Result<Vec<Vec<ExitRecord>>, JournalError> {
        let path = &self.0.path;
        read(path, keys, limit).map_err(|source| JournalError::Exits {
            path: path.display().to_string(),
            source,
        })
    }

    fn tell(&self, news: News) {
        let mut queue = lock(&self.0.queue);
        enqueue(&mut queue.exits, news);
        queue.put.advance();
        drop(queue);
        self.0.changed.notify_all();
    }
}

/// Puts news behind those that wait.
pub(super) fn enqueue(waiting: &mut VecDeque<News>, news: News) {
    if waiting.len() >= WAITING_MAX {
        waiting.pop_front();
    }
    waiting.push_back(news);
}

/// Puts news that could not be written before those that came since.
pub(super) fn put_back(waiting: &mut VecDeque<News>, mut failed: VecDeque<News>) {
    failed.append(waiting);
    let too_many = failed.len().saturating_sub(WAITING_MAX);
    failed.drain(..too_many);
    *waiting = failed;
}

/// Writes all of it; the caller has begun a transaction.
pub(super) fn write(db: &Connection, news: &VecDeque<News>) -> rusqlite::Result<()> {
    let mut has_grown = false;
    for one in news {
        match one {
            News::Forget(key) => {
                db.prepare_cached("DELETE FROM exits WHERE app = ?1 AND instance = ?2")?
                    .execute(params![key.app.as_str(), key.instance])?;
            }
            News::Exit(number, key, record) => {
                has_grown = true;
                add(db, *number, key, record)?;
            }
        }
    }
    if has_grown {
        prune(db)?;
    }
    Ok(())
}

fn add(db: &Connection, number: i64, key: &Key, record: &ExitRecord) -> rusqlite::Result<()> {
    let (app, instance) = (key.app.as_str(), key.instance);
    let at = record.at.as_millis();
    db.prepare_cached(
        "INSERT OR REPLACE INTO exits (id, app, instance, at, record) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![number, app, instance, at, json(record)])?;
    db.prepare_cached(
        "DELETE FROM exits WHERE id IN (
             SELECT id FROM exits WHERE app = ?1 AND instance = ?2
             ORDER BY id DESC LIMIT -1 OFFSET ?3)",
    )?
    .execute(params![app, instance, bound(EACH_MAX)])?;
    Ok(())
}

/// The number of the newest one; 0 when there is none.
pub(super) fn last(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT ifnull(max(id), 0) FROM exits", [], |row| row.get(0))
}

/// Keeps the table as a whole within its bound.
fn prune(db: &Connection) -> rusqlite::Result<()> {
    let count: i64 = db
        .prepare_cached("SELECT count(*) FROM exits")?
        .query_row([], |row| row.get(0))?;
    if count > bound(ALL_MAX) {
        db.prepare_cached(
            "DELETE FROM exits WHERE id IN (
                 SELECT id FROM exits ORDER BY id DESC LIMIT -1 OFFSET ?1)",
        )?
        .execute([bound(ALL_MAX)])?;
    }
    Ok(())
}

/// The newest so many of each, newest first. A connection of its own: the thread that writes is not
/// held up.
pub(super) fn read(
    path: &Path,
    keys: &[Key],
    limit: usize,
) -> rusqlite::Result<Vec<Vec<ExitRecord>>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    let mut statement = db.prepare(
        "SELECT record FROM exits WHERE app = ?1 AND instance = ?2
         ORDER BY id DESC LIMIT ?3",
    )?;
    let mut all = Vec::with_capacity(keys.len());
    for key in keys {
        let mut found = statement.query(params![key.app.as_str(), key.instance, bound(limit)])?;
        let mut records = Vec::new();
        while let Some(row) = found.next()? {
            // One of a newer release may be of another form.
            records.extend(serde_json::from_str::<ExitRecord>(
                row.get_ref(0)?.as_str()?,
            ));
        }
        all.push(records);
    }
    Ok(all)
}

fn bound(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
