//! One daemon for one home: the lock file.
//!
//! The kernel drops the lock with the process, however it ends, so a stale one cannot be. The file
//! stays: removing it would let two daemons lock two files of one name.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::Instant;

/// How often it is looked whether a daemon that has the home answers by now, at the longest.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

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
        let passed = Lock::passed(first.0.try_clone().unwrap()).unwrap();
        drop(first);
        take(&path).unwrap_err();
        drop(passed);
        take(&path).unwrap();
    }
}
