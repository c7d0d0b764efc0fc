//! Why the store could not be opened, and why a call failed.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What a backend said.
type Cause = Arc<dyn Error + Send + Sync>;

/// Why the store could not be opened. For an operator to read: the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its folder cannot be used.
    #[error("cannot open the database `{}` for reading and writing", path.display())]
    File {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Made by a later release.
    #[error(
        "the database `{}` has schema {found}, and mcpm {} knows schemas up to {known}: start the \
         newer mcpm that wrote it, or restore a backup from before the upgrade",
        path.display(), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The highest that this program knows.
        known: i64,
    },
    /// Not a database, or another program's.
    #[error(
        "`{}` is not a database of mcpm: move it away, or set `MCPM_HOME` to another folder",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Ours, but broken.
    #[error("the database `{}` is damaged: restore a backup of it", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What the backend said.
        source: Cause,
    },
    /// Write-ahead logging does not work where the file lies.
    #[error(
        "the database `{}` lies where write-ahead logging does not work (a network file system?): \
         set `MCPM_HOME` to a folder on a local disk",
        path.display()
    )]
    NoWal {
        /// The database.
        path: PathBuf,
    },
    /// Another program holds it.
    #[error("the database `{}` is held by another program: end that one first", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
        /// What the backend said.
        source: Cause,
    },
    /// Anything else, such as a full disk.
    #[error("cannot prepare the database `{}`", path.display())]
    Backend {
        /// The database.
        path: PathBuf,
        /// What the backend said.
        source: Cause,
    },
    /// No thread could be started.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

/// Why a call failed. Nothing of that call has happened, unless it says so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No space left. Later calls may succeed.
    #[error("the disk that holds the database is full: make room on it")]
    Full(#[source] Cause),
    /// The file cannot be read or written just now.
    #[error("the database cannot be read or written")]
    Unavailable(#[source] Cause),
    /// The file is broken.
    #[error("the database is damaged: stop mcpm and restore a backup of it")]
    Damaged(#[source] Cause),
    /// A row, or a statement of ours, makes no sense.
    #[error("the database answered what mcpm cannot understand")]
    Unexpected(#[source] Cause),
    /// The store was closed. Whether a change that was under way has happened is not known.
    #[error("the store is closed")]
    Stopped,
}
