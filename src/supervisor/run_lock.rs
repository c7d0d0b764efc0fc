//! The lock of a run: evidence that something of it lives.
//!
//! Each run has a file in `run/`, locked (`flock(2)`) through one open file that its root inherits as
//! descriptor [`NUMBER`] and hands on to what it starts. As long as one of them has it open the file
//! cannot be locked anew, which a few system calls tell. Who has it open is told by the links in
//! `/proc/PID/fd`, whatever a process has done to its parents, its session and its environment.
//!
//! It is evidence, not a gate: it keeps nothing from running, and what closes its descriptors is none
//! the worse for it. The daemon keeps none open.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// The number that it is inherited as: 3 is Node's channel, and the low ones are what programs get
/// for their own files.
pub const NUMBER: RawFd = 198;
/// What the names of the files end with.
const ENDING: &str = ".lock";

/// The lock of one run, by its file.
#[derive(Clone, Debug)]
pub struct RunLock {
    path: Arc<Path>,
}

impl RunLock {
    /// Names it after the run; nothing is made yet.
    pub fn of(run_dir: &Path, run: &str) -> Self {
        let path = run_dir.join(format!("{run}{ENDING}"));
        Self { path: path.into() }
    }

    /// Every one that has a file in this folder, and its run.
    pub fn all(run_dir: &Path) -> Vec<(String, Self)> {
        let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
        let lock = |name: OsString| {
            let run = name.to_str()?.strip_suffix(ENDING)?;
            Some((run.to_owned(), Self::of(run_dir, run)))
        };
        entries
            .filter_map(|entry| lock(entry.file_name()))
            .collect()
    }

    /// Makes the file and locks it, through a descriptor that is closed on exec. It opens for reading
    /// only: an app of another user gets a file of ours, and can write nothing into it.
    ///
    /// # Errors
    /// When the folder can't be written, descriptors have run out, or somebody has the lock.
    pub fn take(&self) -> io::Result<OwnedFd> {
        let lock = self.open(OFlags::CREATE)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Somebody has it open. A few system calls.
    pub fn is_held(&self) -> bool {
        self.held_file().is_some()
    }

    /// It has a file, which it loses when a daemon sees the end of the run.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Removes the file; what is open stays open, and is found no more.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// The file, while somebody has it open.
    fn held_file(&self) -> Option<FileId> {
        let file = File::from(self.open(OFlags::empty()).ok()?);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Some(FileId::of(&file.metadata().ok()?)),
            _ => None,
        }
    }

    fn open(&self, more: OFlags) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | more;
        Ok(rustix::fs::open(
            &*self.path,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?)
    }
}

/// Locks that are held, each with what it stands for.
#[derive(Debug)]
pub struct Locks<T>(HashMap<OsString, (FileId, T)>);

impl<T: Copy> Locks<T> {
    /// Those of them that are held.
    pub fn held<'a>(locks: impl IntoIterator<Item = (&'a RunLock, T)>) -> Self {
        let held = |(lock, whose): (&RunLock, T)| {
            let name = lock.path.file_name()?.to_owned();
            Some((name, (lock.held_file()?, whose)))
        };
        Self(locks.into_iter().filter_map(held).collect())
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a process has under the number that it was given: one system call for most.
    pub fn at_number(&self, pid: u32) -> Option<T> {
        self.of_link(Path::new(&format!("/proc/{pid}/fd/{NUMBER}")))
    }

    /// What a process has under any number. Walks its descriptors.
    pub fn anywhere(&self, pid: u32) -> Option<T> {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let mut links = links.into_iter().flatten().flatten();
        links.find_map(|link| self.of_link(&link.path()))
    }

    fn of_link(&self, link: &Path) -> Option<T> {
        let target = std::fs::read_link(link).ok()?;
        let (file, whose) = self.0.get(target.file_name()?)?;
        // Followed only when the name is right: a stranger's file may lie where a look takes for ever.
        let found = FileId::of(&std::fs::metadata(link).ok()?);
        (found == *file).then_some(*whose)
    }
}

/// A file, by what no other has at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

/// Keeps [`NUMBER`] from the other descriptors of this process: one that a child needs until it runs
/// its program would be replaced there.
#[derive(Debug, Default)]
pub struct Reserved(Option<OwnedFd>);

impl Reserved {
    /// To be called before the descriptors for a child are made. When something else has the number,
    /// it is tried again the next time.
    pub fn keep(&mut self) {
        if self.0.is_some() {
            return;
        }
        let copy = File::open("/dev/null")
            .and_then(|null| Ok(rustix::io::fcntl_dupfd_cloexec(&null, NUMBER)?));
        self.0 = copy.ok().filter(|copy| copy.as_raw_fd() == NUMBER);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that has it open as its standard input, under no other number.
    fn holder(lock: OwnedFd) -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").stdin(Stdio::from(lock));
        command.spawn().unwrap()
    }

    #[test]
    fn names_tell_the_run() {
        let dir = tempfile::tempdir().unwrap();
        for other in ["0.in", "0.1.lock.old", "capture.mark"] {
            std::fs::write(dir.path().join(other), "").unwrap();
        }
        drop(RunLock::of(dir.path(), "cafe.3.12").take().unwrap());
        let all = RunLock::all(dir.path());
        let [(run, lock)] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(run, "cafe.3.12");
        assert!(lock.path.ends_with("cafe.3.12.lock"));
        lock.remove();
        assert!(RunLock::all(dir.path()).is_empty());
    }

    #[test]
    fn it_is_held_as_long_as_one_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::of(dir.path(), "cafe.0.1");
        assert!(!lock.is_held(), "there is none");
        let mut child = holder(lock.take().unwrap());
        assert!(lock.is_held());
        lock.take().unwrap_err();
        let other = RunLock::of(dir.path(), "cafe.0.2");
        drop(other.take().unwrap());
        let locks = Locks::held([(&other, 2), (&lock, 1)]);
        assert_eq!(locks.anywhere(child.id()), Some(1));
        assert_eq!(locks.at_number(child.id()), None);
        assert_eq!(locks.anywhere(std::process::id()), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!lock.is_held());
        assert!(Locks::held([(&lock, ())]).is_empty());
    }

    #[test]
    fn another_file_of_that_name_is_another_lock() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RunLock::of(dir.path(), "cafe.0.1");
        let mut older = holder(lock.take().unwrap());
        lock.remove();
        let newer = lock.take().unwrap();
        let locks = Locks::held([(&lock, ())]);
        assert_eq!(locks.anywhere(older.id()), None);
        assert_eq!(locks.anywhere(std::process::id()), Some(()));
        drop(newer);
        older.kill().unwrap();
        older.wait().unwrap();
    }
}
