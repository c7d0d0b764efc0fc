//! Waits for the end of a run's root process; `tree.rs` does it for the others.
//!
//! Exits arrive by pidfd through the reactor; nothing is polled. The status of an own child comes
//! from `waitid`, that of an adopted one from its zombie or, where the kernel keeps it, from its pidfd;
//! else nobody can know.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::kill::Handle;
use super::machine::Exit;
use super::{pidfd_info, proc};
use crate::failpoint;

/// What the kernel may not have counted yet of a process's memory: 64 pages on some processors.
const PEAK_MARGIN: u64 = 1 << 20;

/// How a root process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its status.
    pub exit: Exit,
    /// The most memory that it, or a child that it has waited for, had at a time, in bytes; `None`
    /// when it was not our child, or had less than the daemon had at its start: the kernel counts what
    /// a process had before it executed its program, and that was our memory.
    pub peak_memory: Option<u64>,
}

/// Waits until the root process has ended and collects its status.
pub async fn root(handle: &Handle) -> Ended {
    readable(handle.pidfd()).await;
    failpoint::reach("exit.seen");
    // From here on its number may be somebody else's at any time.
    handle.mark_reaped();
    collect(handle)
}

/// Waits until a process, of whoever, has ended.
pub(super) async fn readable(pidfd: &Arc<OwnedFd>) {
    #[expect(
        unsafe_code,
        reason = "the reactor's only door for a descriptor of another kind"
    )]
    // SAFETY: the descriptor is owned by the `Arc` that the `AsyncFd` holds until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd.clone(), Interest::READABLE) };
    match registered {
        Ok(fd) => drop(fd.readable().await),
        // No room in the reactor: a thread waits instead.
        Err(_) => {
            let fd = pidfd.clone();
            let wait = move || {
                let mut set = [PollFd::new(&fd, PollFlags::IN)];
                while rustix::event::poll(&mut set, None) == Err(rustix::io::Errno::INTR) {}
            };
            let _ = tokio::task::spawn_blocking(wait).await;
        }
    }
}

fn collect(handle: &Handle) -> Ended {
    // Field 52 must be read before the zombie is let go below; it serves adopted ones.
    let seen = proc::stat(handle.pid()).filter(|stat| stat.start_time == handle.start_time());
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = rustix::process::waitid(WaitId::PidFd(handle.pidfd().as_fd()), options);
    let mut peak_memory = None;
    if let Ok(Some(status)) = status {
        // It is our child and a zombie: until here nobody else can have got its number.
        peak_memory = let_go(handle.pid()).filter(|&peak| is_its_own(peak, handle.floor()));
        let code = status.exit_status().map(Exit::Code);
        if let Some(exit) = code.or(status.terminating_signal().map(Exit::Signal)) {
            return Ended { exit, peak_memory };
        }
    }
    let exit = match seen {
        Some(stat) if stat.state == b'Z' => from_wait_status(stat.exit_status),
        _ => {
            pidfd_info::wait_status(handle.pidfd().as_fd()).map_or(Exit::Unknown, from_wait_status)
        }
    };
    Ended { exit, peak_memory }
}

/// Lets go of a child that has ended; the most memory that it had, in bytes.
fn let_go(pid: u32) -> Option<u64> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: nothing is written through the null pointer (wait4(2)), and `usage` has room for what
    // is: the kernel has filled it when it answers with the child's number.
    #[expect(unsafe_code, reason = "no library tells what a child has used")]
    let usage = unsafe {
        let no_status = std::ptr::null_mut();
        if libc::wait4(pid, no_status, libc::WNOHANG, usage.as_mut_ptr()) != pid {
            return None;
        }
        usage.assume_init()
    };
    let kib = u64::try_from(usage.ru_maxrss).ok()?;
    Some(kib.saturating_mul(1024))
}

/// Whether a child's peak can't be what the daemon had when the child was started. Counters of other
/// processors come in late, hence the margin.
fn is_its_own(peak: u64, floor: u64) -> bool {
    peak > floor.saturating_add(PEAK_MARGIN)
}

/// The most memory that this process had so far, in bytes: what a child that starts now has on its
/// account before it is its program.
pub(super) fn own_peak() -> u64 {
    // SAFETY: a structure of our own, which the kernel fills.
    #[expect(unsafe_code, reason = "no library tells what we have used")]
    let usage = unsafe {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    u64::try_from(usage.ru_maxrss).map_or(0, |kib| kib.saturating_mul(1024))
}

/// As `WIFEXITED` and its kin read it (wait(2)).
fn from_wait_status(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn sh(script: &str) -> Handle {
        #[expect(clippy::zombie_processes, reason = "`root` reaps it through its pidfd")]
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .process_group(0)
            .spawn()
            .unwrap();
        Handle::open(child.id(), None).unwrap()
    }

    #[tokio::test]
    async fn codes_and_signals_are_told_apart() {
        assert_eq!(root(&sh("exit 3")).await.exit, Exit::Code(3));
        assert_eq!(root(&sh("kill -9 $$")).await.exit, Exit::Signal(9));
    }

    #[tokio::test]
    async fn the_most_memory_of_a_child_is_known_and_it_is_collected() {
        let handle = sh("x=$(head -c 40000000 /dev/zero | tr '\\0' a); exit 0");
        let ended = root(&handle).await;
        let peak = ended.peak_memory.unwrap();
        assert!((40_000_000..4_000_000_000).contains(&peak), "{peak}");
        assert_eq!(proc::stat(handle.pid()), None);
    }

    #[tokio::test]
    async fn what_the_daemon_had_is_not_told_as_the_peak_of_a_small_child() {
        // Sixty-four megabytes that this process, in the daemon's place, has touched.
        let ballast = vec![1_u8; 64 << 20];
        assert!(own_peak() >= 64 << 20);
        let small = root(&sh("exit 0").as_child(own_peak())).await;
        assert_eq!(small.peak_memory, None);
        let large = "x=$(head -c 200000000 /dev/zero | tr '\\0' a); exit 0";
        let large = root(&sh(large).as_child(own_peak())).await;
        assert!(large.peak_memory.is_some());
        drop(ballast);
    }

    #[test]
    fn a_number_that_was_reused_is_not_ours() {
        assert!(Handle::open(std::process::id(), Some(1)).is_err());
    }

    #[test]
    fn wait_statuses_are_read_as_the_c_library_reads_them() {
        assert_eq!(from_wait_status(0x0300), Exit::Code(3));
        assert_eq!(from_wait_status(9), Exit::Signal(9));
        assert_eq!(from_wait_status(0x8b), Exit::Signal(11));
    }
}
