//! The two threads that own the connections: one writes, one reads.
//!
//! **Group commit**: writes that queue up while a commit waits for the disk share the next
//! transaction, and each caller is answered after its COMMIT. A write that fails is rolled back to
//! its savepoint and fails its own caller only.
//!
//! Blocking; called only by `mod.rs` of this backend.

use std::sync::{Arc, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::open::Shared;
use crate::store::StoreError;

/// Calls that wait for a thread; the next caller waits for a place. So many fit into about one
/// second of a slow disk, and more would only be memory.
pub(super) const QUEUE_MAX: usize = 1024;

/// Writes that share a transaction: bounds how long the first of them waits, and the log's growth.
const BATCH_MAX: usize = 256;

/// After so many changed rows the writer gives back the memory of its cache, which is large so that one
/// transaction need not write a page twice; a quiet daemon keeps little of it.
const KEPT_CHANGES: i64 = 512;

/// What a caller gets.
pub(super) type Answer<T> = Result<T, StoreError>;

/// One read, which answers its caller itself.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// What the writing thread is sent.
pub(super) enum Order {
    /// A write.
    Write(Box<dyn Write>),
    /// The last order: fold the log in, close, and answer.
    Close(oneshot::Sender<()>),
}

/// One caller's write.
pub(super) trait Write: Send {
    /// Does it inside a savepoint, which has to be rolled back when this fails.
    fn run(&mut self, conn: &Connection) -> Result<(), StoreError>;
    /// Tells the caller, after the commit.
    fn answer(self: Box<Self>, commit: &Result<(), StoreError>);
}

/// A closure, its result, and who waits for it.
pub(super) struct Job<T, F> {
    work: Option<F>,
    done: Option<Answer<T>>,
    caller: oneshot::Sender<Answer<T>>,
}

impl<T, F> Job<T, F> {
    pub(super) fn new(work: F, caller: oneshot::Sender<Answer<T>>) -> Self {
        Self {
            work: Some(work),
            done: None,
            caller,
        }
    }
}

impl<T, F> Write for Job<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let work = self.work.take().expect("a job runs once");
        let done = self.done.insert(work(conn).map_err(store_error));
        done.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn answer(self: Box<Self>, commit: &Result<(), StoreError>) {
        let answer = match (self.done, commit) {
            // Its own error says more than that of the commit.
            (Some(Err(own)), _) => Err(own),
            (_, Err(shared)) => Err(shared.clone()),
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(StoreError::Stopped),
        };
        // A caller that went away does not want to know.
        let _ = self.caller.send(answer);
    }
}

/// The writing thread's life: ends with [`Order::Close`] or when all senders are gone.
pub(super) fn write_all(conn: Shared, mut orders: mpsc::Receiver<Order>) {
    let (mut closing, mut kept_from) = (None, 0);
    while closing.is_none() {
        let Some(first) = orders.blocking_recv() else {
            break;
        };
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next.take() {
            match order {
                Order::Write(write) => batch.push(write),
                Order::Close(caller) => {
                    closing = Some(caller);
                    break;
                }
            }
            if batch.len() < BATCH_MAX {
                next = orders.try_recv().ok();
            }
        }
        let conn = lock(&conn);
        commit(&conn, batch);
        kept_from = give_back(&conn, kept_from);
    }
    // Best effort: what is in the log is as durable as what is in the file.
    let _ = lock(&conn).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    drop(conn);
    drop(orders);
    if let Some(caller) = closing {
        let _ = caller.send(());
    }
}

/// Gives memory back when much has changed since; answers since when the next time.
fn give_back(conn: &Connection, since: i64) -> i64 {
    let changes = || {
        conn.prepare_cached("SELECT total_changes()")?
            .query_row([], |row| row.get::<_, i64>(0))
    };
    let now = changes().unwrap_or(since);
    if now - since <= KEPT_CHANGES {
        return since;
    }
    // Not done is no harm: the cache has a bound.
    let _ = conn.execute_batch("PRAGMA shrink_memory");
    now
}

/// The reading thread's life: ends when all senders are gone or its queue is closed.
pub(super) fn read_all(conn: Shared, mut reads: mpsc::Receiver<Option<Read>>) {
    while let Some(Some(read)) = reads.blocking_recv() {
        let conn: &Connection = &lock(&conn);
        read(conn);
    }
    // In this order: whoever sees the queue closed may rely on the file being closed.
    drop(conn);
    drop(reads);
}

/// A thread that panicked over it has ended; what SQLite has of it is whole.
fn lock(conn: &Shared) -> MutexGuard<'_, Connection> {
    conn.lock().unwrap_or_else(PoisonError::into_inner)
}

fn commit(conn: &Connection, mut batch: Vec<Box<dyn Write>>) {
    if batch.is_empty() {
        return;
    }
    let outcome = transact(conn, &mut batch);
    if outcome.is_err() && !conn.is_autocommit() {
        // Without this the next BEGIN would fail for ever.
        let _ = conn.execute_batch("ROLLBACK");
    }
    for write in batch {
        write.answer(&outcome);
    }
}

fn transact(conn: &Connection, batch: &mut [Box<dyn Write>]) -> Result<(), StoreError> {
    let say = |sql| conn.execute_batch(sql).map_err(store_error);
    say("BEGIN IMMEDIATE")?;
    for write in batch {
        say("SAVEPOINT job")?;
        if let Err(error) = write.run(conn) {
            if conn.is_autocommit() {
                // A full disk or an I/O error ended the whole transaction: then the batch fails,
                // so that nobody is told that a lost write was kept.
                return Err(error);
            }
            say("ROLLBACK TO job")?;
        }
        say("RELEASE job")?;
    }
    say("COMMIT")
}

/// What a caller can do about it.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    let code = error.sqlite_error_code();
    let cause = Arc::new(error);
    match code {
        Some(ErrorCode::DiskFull) => StoreError::Full(cause),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(cause),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreError::Unavailable(cause),
        _ => StoreError::Unexpected(cause),
    }
}
