//! How many processes can be looked after with the descriptors that there are.
//!
//! Whoever takes the last one keeps commands from being answered, and takes what `/proc` does not tell
//! any more for what is not there. So some are left over.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Of one run: its pidfd, its two pipes, and what its memory is read from.
const OF_A_RUN: u64 = 4;
/// For commands, and for looks into `/proc`.
const KEPT: u64 = 8;
/// For what a daemon opens on its way up when it has adopted, such as its sockets.
const DOORS: u64 = 8;

/// Descriptors that may still be opened.
#[derive(Debug)]
pub(super) struct Room(u64);

/// When it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// On the way up.
    First,
    /// The daemon is up.
    Later,
}

impl Room {
    /// What there is now.
    pub(super) fn now(when: When) -> Self {
        let most = getrlimit(Resource::Nofile).current;
        let open = || std::fs::read_dir("/proc/self/fd").map_or(u64::MAX, |all| all.count() as u64);
        let doors = match when {
            When::First => DOORS,
            When::Later => 0,
        };
        let left = |most: u64| most.saturating_sub(open().saturating_add(doors));
        Self(most.map_or(u64::MAX, left))
    }

    /// Room for so many runs.
    ///
    /// # Errors
    /// What a system call would say at last: there is none.
    pub(super) fn take(&mut self, runs: u64) -> io::Result<()> {
        let Self(left) = self;
        let wanted = runs * OF_A_RUN;
        if *left < wanted + KEPT {
            return Err(Errno::MFILE.into());
        }
        *left -= wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_left_for_commands() {
        let mut room = Room(KEPT + 2 * OF_A_RUN + 1);
        assert!(room.take(1).is_ok() && room.take(1).is_ok());
        let refused = room.take(1).map_err(|error| error.raw_os_error());
        assert_eq!(refused, Err(Some(Errno::MFILE.raw_os_error())));
        assert!(room.take(0).is_ok(), "what does not run needs none");
        assert!(Room(KEPT - 1).take(0).is_err());
        assert!(Room::now(When::First).take(1).is_ok());
    }
}
