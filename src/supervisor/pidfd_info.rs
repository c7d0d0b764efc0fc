//! How a process has ended that somebody else has collected: its pidfd knows (`PIDFD_GET_INFO` of
//! `linux/pidfd.h`, with exit codes since Linux 6.15).

use std::os::fd::BorrowedFd;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `PIDFD_INFO_EXIT`.
const EXIT: u64 = 1 << 3;

/// `struct pidfd_info` as it was when exit codes were added to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Info {
    /// What is asked for, and then what is there.
    mask: u64,
    cgroup: u64,
    /// Pids and users.
    ids: [u32; 11],
    exit_code: i32,
}

const GET_INFO: Opcode = opcode::read_write::<Info>(0xFF, 11);

/// Its wait status; `None` when it has not been collected yet, or the kernel cannot tell.
pub(super) fn wait_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = Info {
        mask: EXIT,
        ..Info::default()
    };
    #[expect(unsafe_code, reason = "an ioctl that no library names yet")]
    // SAFETY: the number says which structure is read and written, and how long it is; a descriptor
    // of another kind, or an older kernel, refuses the number.
    let asked = unsafe { ioctl(pidfd, Updater::<GET_INFO, Info>::new(&mut info)) };
    (asked.is_ok() && info.mask & EXIT != 0).then_some(info.exit_code)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn a_collected_process_has_left_its_status() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exit 3"])
            .spawn()
            .unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        match wait_status(pidfd.as_fd()) {
            Some(status) => assert_eq!(status, 3 << 8),
            None => eprintln!("skipped: this kernel does not keep exit codes (6.15 does)"),
        }
        let me = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
        assert_eq!(wait_status(me.as_fd()), None);
    }
}
