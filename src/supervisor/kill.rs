//! Sends signals to root processes and their groups; `tree.rs` does it to what has left them.
//!
//! Invariant: a signal goes only through a handle which proves that the number still means the
//! same process: our own unreaped child, or an adopted one whose start time matched and whose pidfd
//! was opened before that was checked.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::proc;

/// Whether one run of one process lives, as the kernel knows it now: snapshots may be a moment old.
#[derive(Clone, Debug)]
pub struct Life(Arc<OwnedFd>);

impl PartialEq for Life {
    /// Of the same run?
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl From<OwnedFd> for Life {
    /// Of the process that this pidfd means.
    fn from(pidfd: OwnedFd) -> Self {
        Self(Arc::new(pidfd))
    }
}

impl AsFd for Life {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let Self(pidfd) = self;
        pidfd.as_fd()
    }
}

impl Life {
    /// The root process has ended. One system call.
    pub fn has_ended(&self) -> bool {
        let mut set = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(
            rustix::event::poll(&mut set, Some(&Timespec::default())),
            Ok(1..)
        )
    }
}

/// One run of one process, provably the same until it is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    pid: u32,
    start_time: u64,
    pidfd: Arc<OwnedFd>,
    is_child: bool,
    /// The leader's number may be given to someone else from here on.
    reaped: Arc<AtomicBool>,
}

impl Handle {
    /// Opens a child that was just started, or a process whose start time was written down.
    ///
    /// # Errors
    /// When there is no such process, or it is another one than `start_time` says.
    pub fn open(pid: u32, start_time: Option<u64>) -> io::Result<Self> {
        let pidfd = pidfd_open(raw(pid)?, PidfdFlags::NONBLOCK)?;
        // Read after the pidfd is open: from here on the number and the pidfd mean the same.
        let stat = proc::stat(pid).ok_or(io::ErrorKind::NotFound)?;
        if start_time.is_some_and(|expected| expected != stat.start_time) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the number was reused",
            ));
        }
        Ok(Self {
            pid,
            start_time: stat.start_time,
            pidfd: Arc::new(pidfd),
            is_child: false,
            reaped: Arc::default(),
        })
    }

    /// This daemon has started it.
    pub fn as_child(self) -> Self {
        Self {
            is_child: true,
            ..self
        }
    }

    /// This daemon has started it, so that its orphans come to this daemon.
    pub fn is_child(&self) -> bool {
        self.is_child
    }

    /// Root process, leader of its own session and group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Clock ticks from boot to its start.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.pidfd
    }

    /// For those who must know whether it lives, and may do nothing to it.
    pub fn life(&self) -> Life {
        Life(self.pidfd.clone())
    }

    /// To be called when the exit status was collected.
    pub fn mark_reaped(&self) {
        self.reaped.store(true, Ordering::Release);
    }

    /// Signals the root process only. One that has ended is no error.
    pub fn signal_root(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = pidfd_send_signal(self.pidfd.as_fd(), signal);
        }
    }

    /// Waits for its end, but not longer than this. Blocks.
    pub fn wait(&self, limit: std::time::Duration) {
        let mut set = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if let Ok(limit) = limit.try_into() {
            let _ = rustix::event::poll(&mut set, Some(&limit));
        }
    }

    /// Signals every member of the group while the root still holds its number: one system call.
    /// `false` when the root has been reaped, and nothing was done.
    pub fn signal_unreaped_group(&self, signal: Signal) -> bool {
        !self.reaped.load(Ordering::Acquire)
            && raw(self.pid)
                .is_ok_and(|group| rustix::process::kill_process_group(group, signal).is_ok())
    }

    /// The group may still have members; a quick look that costs one system call.
    pub fn group_is_gone(&self) -> bool {
        let Ok(group) = raw(self.pid) else {
            return true;
        };
        rustix::process::test_kill_process_group(group) == Err(rustix::io::Errno::SRCH)
    }
}

/// The number as system calls take it.
///
/// # Errors
/// When no process can have it.
pub(super) fn raw(pid: u32) -> io::Result<Pid> {
    let number = i32::try_from(pid).map_err(io::Error::other)?;
    Pid::from_raw(number).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
