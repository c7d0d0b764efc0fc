//! Waits for the end of a run's root process; `tree.rs` does it for the others.
//!
//! Exits arrive by pidfd through the reactor; nothing is polled. The status of an own child comes
//! from `waitid`, that of an adopted one from its zombie or, where the kernel keeps it, from its pidfd;
//! else nobody can know.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::kill::Handle;
use super::machine::Exit;
use super::{pidfd_info, proc};

/// Waits until the root process has ended and collects its status.
pub async fn root(handle: &Handle) -> Exit {
    readable(handle.pidfd()).await;
    let exit = collect(handle);
    handle.mark_reaped();
    exit
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

fn collect(handle: &Handle) -> Exit {
    // Field 52 must be read before our own `waitid` lets the zombie go; it serves adopted ones.
    let seen = proc::stat(handle.pid()).filter(|stat| stat.start_time == handle.start_time());
    let status =
        rustix::process::waitid(WaitId::PidFd(handle.pidfd().as_fd()), WaitIdOptions::EXITED);
    if let Ok(Some(status)) = status {
        if let Some(code) = status.exit_status() {
            return Exit::Code(code);
        }
        if let Some(signal) = status.terminating_signal() {
            return Exit::Signal(signal);
        }
    }
    match seen {
        Some(stat) if stat.state == b'Z' => from_wait_status(stat.exit_status),
        _ => {
            pidfd_info::wait_status(handle.pidfd().as_fd()).map_or(Exit::Unknown, from_wait_status)
        }
    }
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
        assert_eq!(root(&sh("exit 3")).await, Exit::Code(3));
        assert_eq!(root(&sh("kill -9 $$")).await, Exit::Signal(9));
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
