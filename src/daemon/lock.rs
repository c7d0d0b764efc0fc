//! One daemon for one home: the lock file, and the folder that it lies in.
//!
//! The kernel drops a lock with the process, however it ends, so a stale one cannot be. The file
//! stays: removing it would let two daemons lock two files of one name. Since others may remove it
//! all the same, each daemon has the folder locked, too: shared, so that one that is handed the home has
//! it before the other has let go. Who wants the home must find nobody there.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::Instant;

/// A daemon that dies lets its locks go one after the other: so often the folder is tried again, and
/// so long after each.
const TRIES: usize = 100;
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// How often it is looked whether a daemon that has the home answers by now, at the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Held as long as the daemon lives, or the one that it was passed to.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// `None` where the file system has no locks for folders (NFS).
    _folder: Option<File>,
}

impl Lock {
    /// A lock that another daemon has passed to this one, for the file of this path.
    ///
    /// # Errors
    /// When the file can't be emptied.
    pub(super) fn passed(file: File, path: &Path) -> io::Result<Self> {
        let folder = open_folder(path).ok();
        let is_shared = |folder: &File| share(folder).is_ok();
        Self::named(file, folder.filter(is_shared))
    }

    /// To be passed on.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Says whose it is, when the disk has room for that.
    fn named(mut file: File, folder: Option<File>) -> io::Result<Self> {
        file.set_len(0)?;
        file.rewind()?;
        let _ = write!(file, "{}", std::process::id());
        Ok(Self {
            file,
            _folder: folder,
        })
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

/// Takes the home, or waits until another daemon is there: one that was killed holds the lock until the
/// last of its threads is gone, and one that starts does not answer yet.
///
/// # Errors
/// Another daemon is up, or had the home for all of this time; or as [`take`].
pub(super) fn take_within(
    patience: Duration,
    path: &Path,
    is_up: impl Fn() -> bool,
) -> Result<Lock, LockError> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    loop {
        let holder = match take(path) {
            Err(LockError::Held(holder)) if !is_up() && Instant::now() < deadline => holder,
            taken => return taken,
        };
        // Its end wakes us. The number may be that of an earlier one: then only the pause does.
        if !has_ended_within(pause, &holder) {
            pause = (pause * 2).min(LOOK_AGAIN);
        }
    }
}

/// Whether a process that is there came to its end in this time. Takes all of it otherwise.
fn has_ended_within(pause: Duration, pid: &str) -> bool {
    let deadline = Instant::now() + pause;
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(pidfd) = pidfd {
        let mut set = [PollFd::new(&pidfd, PollFlags::IN)];
        let has_ended = |set: &mut [PollFd<'_>], timeout: Duration| {
            let timeout = Timespec::try_from(timeout).ok();
            matches!(rustix::event::poll(set, timeout.as_ref()), Ok(1..))
        };
        if !has_ended(&mut set, Duration::ZERO) && has_ended(&mut set, pause) {
            return true;
        }
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let _ = rustix::event::poll(&mut [], Timespec::try_from(left).ok().as_ref());
    false
}

/// Takes the home. Waits a second where the file is free and the folder is not.
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
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            return Err(LockError::Held(pid.trim().to_owned()));
        }
        Err(error) => return Err(LockError::Open(error.into())),
    }
    let folder = take_folder(path)?;
    Ok(Lock::named(file, folder)?)
}

/// Sees that nobody has the folder, and has it from then on.
fn take_folder(path: &Path) -> Result<Option<File>, LockError> {
    let folder = open_folder(path)?;
    let alone = || rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive);
    let mut locked = alone();
    for _ in 0..TRIES {
        if locked != Err(Errno::WOULDBLOCK) {
            break;
        }
        let _ = rustix::event::poll(&mut [], Some(&PAUSE));
        locked = alone();
    }
    // Between the two somebody else may come who has locked another file of that name.
    match locked.and_then(|()| share(&folder)) {
        Ok(()) => Ok(Some(folder)),
        Err(Errno::WOULDBLOCK) => Err(LockError::Held(holder(&folder))),
        Err(_) => Ok(None),
    }
}

fn share(folder: &File) -> rustix::io::Result<()> {
    rustix::fs::flock(folder, FlockOperation::NonBlockingLockShared)
}

fn open_folder(path: &Path) -> io::Result<File> {
    File::open(path.parent().unwrap_or(Path::new("/")))
}

/// The pid of who has locked the folder, as far as it can be seen.
fn holder(folder: &File) -> String {
    let (Ok(meta), Ok(locks)) = (folder.metadata(), fs::read_to_string("/proc/locks")) else {
        return "unknown".into();
    };
    let is_there = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        let open = open.into_iter().flatten().flatten();
        let mut open = open.filter_map(|entry| fs::metadata(entry.path()).ok());
        // Inodes of other file systems have the same numbers.
        open.any(|open| (open.dev(), open.ino()) == (meta.dev(), meta.ino()))
    };
    let holder = lockers(&locks, meta.ino()).into_iter().find(is_there);
    holder.map_or_else(|| "unknown".into(), |pid| pid.to_string())
}

/// Who has an `flock(2)` lock on a file of this inode, as `/proc/locks` tells (`proc_locks(5)`; pure).
fn lockers(locks: &str, inode: u64) -> Vec<u32> {
    let pid = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid, file) = (words.next()?, words.nth(2)?, words.next()?);
        let of_inode = file.rsplit(':').next()?.parse() == Ok(inode);
        (kind == "FLOCK" && of_inode).then(|| pid.parse().ok())?
    };
    locks.lines().filter_map(pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_had_when_its_holder_is_gone_and_refused_when_it_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcpm.lock");
        let long = Duration::from_secs(60);
        let held = take(&path).unwrap();
        take_within(long, &path, || true).unwrap_err();
        take_within(Duration::ZERO, &path, || false).unwrap_err();
        std::thread::scope(|scope| {
            let (asks, asked) = std::sync::mpsc::channel();
            let waits = scope.spawn(|| {
                take_within(long, &path, move || {
                    let _ = asks.send(());
                    false
                })
            });
            asked.recv().unwrap();
            drop(held);
            waits.join().unwrap().unwrap();
        });
    }

    #[test]
    fn the_end_of_a_holder_is_noticed_and_one_that_has_ended_is_waited_for() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        let short = Duration::from_millis(1);
        assert!(!has_ended_within(short, &pid));
        child.kill().unwrap();
        // Whether it ends before or after the first look is open; after the second it is known.
        has_ended_within(Duration::from_millis(100), &pid);
        assert!(!has_ended_within(short, &pid));
        child.wait().unwrap();
        assert!(!has_ended_within(short, &pid));
        assert!(!has_ended_within(short, "no number"));
    }

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
        let passed = Lock::passed(first.file.try_clone().unwrap(), &path).unwrap();
        drop(first);
        take(&path).unwrap_err();
        drop(passed);
        take(&path).unwrap();
    }

    #[test]
    fn a_home_is_had_by_one_though_the_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcpm.lock");
        let first = take(&path).unwrap();
        let own = std::process::id().to_string();
        let is_refused = || {
            fs::remove_file(&path).unwrap();
            let refused = take(&path).unwrap_err().to_string();
            assert!(refused.contains(&own), "{refused}");
        };
        is_refused();
        let passed = Lock::passed(first.file.try_clone().unwrap(), &path).unwrap();
        drop(first);
        is_refused();
        drop(passed);
        take(&path).unwrap();
    }

    #[test]
    fn who_has_locked_a_file_stands_in_a_line() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 12 08:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 08:01:7 0 EOF\n\
                     4: FLOCK  ADVISORY  READ -1 00:2a:77 0 EOF\n";
        assert_eq!(lockers(locks, 77), [12]);
        assert!(lockers("nonsense\n\n", 77).is_empty());
    }
}
