//! Whether a daemon is behind a socket, and one that goes on living: the kernel takes connections for a
//! killed process until the last of its threads is gone.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The bit of SIGKILL in the masks of `/proc/PID/status`.
const KILL: u64 = 1 << (libc::SIGKILL - 1);

/// A daemon listens there and was not killed. Never waits, not for one that is stopped either.
pub fn listens(socket: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connected = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|fd| {
            let address = SocketAddrUnix::new(socket)?;
            rustix::net::connect(&fd, &address).map(|()| fd)
        });
    match connected {
        Ok(fd) => !is_of_the_killed(std::os::fd::AsFd::as_fd(&fd)),
        // More callers than it has taken yet.
        Err(error) => error == Errno::AGAIN,
    }
}

/// The process that listens at the other end was killed, and is not gone yet.
pub fn is_of_the_killed(connection: BorrowedFd<'_>) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(connection);
    peer.is_ok_and(|peer| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", peer.pid.as_raw_pid()));
        status.is_ok_and(|status| is_killed(&status))
    })
}

/// As `/proc/PID/status` says it (pure). A SIGKILL stays pending for the process until it is collected.
fn is_killed(status: &str) -> bool {
    let value = |name: &str| {
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
            .next()
    };
    let pending = value("ShdPnd").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    pending.is_some_and(|mask| mask & KILL != 0)
        || value("State").is_some_and(|state| state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    #[test]
    fn who_was_killed_is_read_from_the_kernels_words() {
        assert!(!is_killed(
            "State:\tS (sleeping)\nShdPnd:\t0000000000004000\n"
        ));
        assert!(is_killed(
            "State:\tR (running)\nShdPnd:\t0000000000000100\n"
        ));
        assert!(is_killed("State:\tZ (zombie)\nShdPnd:\t0000000000000000\n"));
        assert!(!is_killed(""));
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let status = || std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        assert!(!is_killed(&status()));
        let pid = i32::try_from(child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
        let status = status();
        child.wait().unwrap();
        assert!(is_killed(&status), "{status}");
    }

    #[test]
    fn a_socket_that_takes_no_more_callers_is_somebodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        assert!(!listens(&path));
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        assert!(listens(&path));
        // The first one still waits to be taken.
        assert!(listens(&path));
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(!is_of_the_killed(ours.as_fd()));
        drop(listener);
        assert!(!listens(&path));
    }
}
