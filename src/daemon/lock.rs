//! One daemon for one home: the lock file.
//!
//! The kernel drops the lock with the process, however it ends, so a stale one cannot be. The file
//! stays: removing it would let two daemons lock two files of one name.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;

/// Held as long as the daemon lives, or the one that it was passed to.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// A lock that another daemon has passed to this one.
    ///
    /// # Errors
    /// When the file can't be emptied.
    pub(super) fn passed(file: File) -> io::Result<Self> {
        Self::named(file)
    }

    /// To be passed on.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Says whose it is, when the disk has room for that.
    fn named(mut file: File) -> io::Result<Self> {
        file.set_len(0)?;
        file.rewind()?;
        let _ = write!(file, "{}", std::process::id());
        Ok(Self(file))
    }
}

/// Why the home can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Another daemon has it.
    #[error("a daemon is running on this home already (pid {0})")]
    Held(String),
    /// The file can't be opened.
    #[error("cannot open the lock file")]
    Open(#[from] io::Error),
}

/// Takes the home.
pub(super) fn take(path: &Path) -> Result<Lock, LockError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            return Err(LockError::Held(pid.trim().to_owned()));
        }
        Err(error) => return Err(LockError::Open(error.into())),
    }
    Ok(Lock::named(file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_had_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcpm.lock");
        let first = take(&path).unwrap();
        let refused = take(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        let passed = Lock::passed(first.0.try_clone().unwrap()).unwrap();
        drop(first);
        take(&path).unwrap_err();
        drop(passed);
        take(&path).unwrap();
    }
}
