//! Sends signals to root processes and their groups; `tree.rs` does it to what has left them.
//!
//! Invariant: a signal goes only through a handle which proves that the number still means the
//! same process: our own unreaped child, or an adopted one whose start time matched and whose pidfd
//! was opened before that was checked. A group is signalled through the pidfd of its leader, too: the
//! number of an adopted leader is anyone's as soon as somebody else has collected it, which this daemon
//! may hear of late.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::SetOnce;

use super::{exits, proc};

/// `PIDFD_SIGNAL_PROCESS_GROUP` of `linux/pidfd.h` (Linux 6.9).
const TO_GROUP: libc::c_uint = 1 << 2;

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
    /// Tells this run from every other one of this boot, also under the next daemon, where the kernel
    /// numbers pidfds (Linux 6.9); `None` when the kernel does not say.
    pub fn number(&self) -> Option<u64> {
        Some(rustix::fs::fstat(&self.0).ok()?.st_ino)
    }

    /// The root process has ended. One system call.
    pub fn has_ended(&self) -> bool {
        let mut set = [PollFd::new(&self.0, PollFlags::IN)];
        matches!(
            rustix::event::poll(&mut set, Some(&Timespec::default())),
            Ok(1..)
        )
    }
}

impl Life {
    /// Ends when the root process has. Cancel-safe.
    pub async fn ended(&self) {
        // The reactor has the other one already, and takes each but once.
        match self.0.try_clone() {
            Ok(own) => exits::readable(&Arc::new(own)).await,
            Err(_) => exits::readable(&self.0).await,
        }
    }
}

/// One run of one process, provably the same until it is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    pid: u32,
    start_time: u64,
    pidfd: Arc<OwnedFd>,
    /// The most memory that the daemon had when it started this child; `None` when it was another.
    floor: Option<u64>,
    /// The leader's number may be given to someone else from here on.
    reaped: Arc<AtomicBool>,
    left_behind: Arc<SetOnce<String>>,
}

/// Why a process's record can't be had. What tells nothing of the process stays the error that it is.
fn unread(pid: u32, cause: io::Error) -> io::Error {
    match proc::certain::<()>(Err(cause)) {
        Err(cause) => cause,
        Ok(_) => io::Error::new(
            io::ErrorKind::NotFound,
            format!("`/proc/{pid}/stat` cannot be read"),
        ),
    }
}

impl Handle {
    /// Opens a child that was just started, or a process whose start time was written down.
    ///
    /// # Errors
    /// When there is no such process, or it is another one than `start_time` says.
    pub fn open(pid: u32, start_time: Option<u64>) -> io::Result<Self> {
        let pidfd = pidfd_open(raw(pid)?, PidfdFlags::NONBLOCK)?;
        // Read after the pidfd is open: from here on the number and the pidfd mean the same.
        let stat = proc::read_stat(pid).map_err(|cause| unread(pid, cause))?;
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
            floor: None,
            reaped: Arc::default(),
            left_behind: Arc::default(),
        })
    }

    /// The same for a process that may be gone: `None` when it is.
    ///
    /// # Errors
    /// As [`proc::certain`].
    pub fn find(pid: u32, start_time: Option<u64>) -> io::Result<Option<Self>> {
        proc::certain(Self::open(pid, start_time))
    }

    /// This daemon has started it, and had so much memory at the most by then.
    pub fn as_child(self, floor: u64) -> Self {
        Self {
            floor: Some(floor),
            ..self
        }
    }

    /// A peak of memory that is not above this may be that of the daemon which has started it.
    pub(super) fn floor(&self) -> u64 {
        self.floor.unwrap_or(0)
    }

    /// This daemon has started it, so that its orphans come to this daemon.
    pub fn is_child(&self) -> bool {
        self.floor.is_some()
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

    /// To be called before the exit status is collected.
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

    /// Signals every member of the group: one system call. `false` when it is not certain whose group
    /// the number means now: nothing but the root was signalled then.
    pub fn signal_group(&self, signal: Signal) -> bool {
        match send_to_group(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.signal_group_by_number(signal)
            }
            sent => sent.is_ok(),
        }
    }

    /// The same on kernels that know no groups of pidfds. The number of our own child is nobody else's
    /// until we have collected it.
    fn signal_group_by_number(&self, signal: Signal) -> bool {
        if self.is_child() && !self.reaped.load(Ordering::Acquire) {
            return raw(self.pid)
                .is_ok_and(|group| rustix::process::kill_process_group(group, signal).is_ok());
        }
        self.signal_root(signal.as_raw());
        false
    }

    /// Something of its run was not ended by SIGKILL, and is waited for no more.
    pub fn leave_behind(&self, what: String) {
        // What was said first stands.
        let _ = self.left_behind.set(what);
    }

    /// Waits until that is said; what there is to say.
    pub async fn left_behind(&self) -> &str {
        self.left_behind.wait().await.as_str()
    }

    /// The group may still have members; a quick look that costs one system call.
    pub fn group_is_gone(&self) -> bool {
        let Ok(group) = raw(self.pid) else {
            return true;
        };
        rustix::process::test_kill_process_group(group) == Err(rustix::io::Errno::SRCH)
    }
}

/// To all that are in the group which this process leads, or has led: the kernel knows it by more than
/// the number, so that it is the same group even when its leader has been collected.
fn send_to_group(leader: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let (leader, signal) = (leader.as_raw_fd(), signal.as_raw());
    let as_kill_does = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a system call of numbers and a null pointer, through which nothing is read
    // (pidfd_send_signal(2)).
    #[expect(unsafe_code, reason = "no library takes its flags")]
    let sent = unsafe {
        let number = libc::SYS_pidfd_send_signal;
        libc::syscall(number, leader, signal, as_kill_does, TO_GROUP)
    };
    if sent == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// The number as system calls take it.
///
/// # Errors
/// When no process can have it.
pub(super) fn raw(pid: u32) -> io::Result<Pid> {
    let number = i32::try_from(pid).map_err(io::Error::other)?;
    Pid::from_raw(number).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// The leader of a group, which is not this process's child to supervise, and another member.
    fn group() -> (Child, Handle, Handle) {
        let mut leader = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 >&- & echo $!; wait"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(leader.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let member = Handle::open(line.trim().parse().unwrap(), None).unwrap();
        let handle = Handle::open(leader.id(), None).unwrap();
        (leader, handle, member)
    }

    #[test]
    fn a_group_is_the_same_when_its_leader_was_collected_by_somebody_else() {
        let (mut leader, handle, member) = group();
        leader.kill().unwrap();
        leader.wait().unwrap();
        let probe = send_to_group(handle.pidfd().as_fd(), Signal::CONT);
        if probe.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
            member.signal_root(libc::SIGKILL);
            return eprintln!("skipped: this kernel knows no groups of pidfds (6.9 does)");
        }
        assert!(handle.signal_group(Signal::KILL));
        member.wait(std::time::Duration::from_secs(20));
        assert!(member.life().has_ended());
    }

    #[test]
    fn without_pidfds_of_groups_a_number_that_may_be_anyones_is_not_signalled() {
        let (mut leader, handle, member) = group();
        assert!(!handle.signal_group_by_number(Signal::KILL));
        leader.wait().unwrap();
        let is_left = !member.life().has_ended();
        member.signal_root(libc::SIGKILL);
        assert!(is_left);

        let (mut leader, handle, member) = group();
        let handle = handle.as_child(0);
        assert!(handle.signal_group_by_number(Signal::KILL));
        leader.wait().unwrap();
        member.wait(std::time::Duration::from_secs(20));
        assert!(member.life().has_ended());
        handle.mark_reaped();
        assert!(!handle.signal_group_by_number(Signal::KILL));
    }
}
