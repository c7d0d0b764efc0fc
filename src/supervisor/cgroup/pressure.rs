//! Hears when the kernel says that a group has come to where it was to speak.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Memory;

/// What the kernel says when it has said more than it keeps: it may have been any of them.
const LOST: i32 = -1;

/// One inotify instance for all groups: the kernel reports an event in a group's `memory.events`
/// as a change of that file.
#[derive(Debug)]
pub(in super::super) struct Pressure(AsyncFd<OwnedFd>);

/// Who has spoken.
#[derive(Debug, Default)]
pub(in super::super) struct Felt(BTreeSet<i32>);

impl Pressure {
    /// # Errors
    /// When the system has no room for another one.
    pub(in super::super) fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            unsafe_code,
            reason = "the reactor's only door for a descriptor of another kind"
        )]
        // SAFETY: the descriptor is owned by the `AsyncFd` itself, which gives it to nobody.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Watches a group until it is removed; its number.
    ///
    /// # Errors
    /// When it is gone, or the system has no room.
    pub(in super::super) fn watch(&self, memory: &Memory) -> io::Result<i32> {
        let events = memory.events();
        let watch = inotify::add_watch(self.0.get_ref(), events, WatchFlags::MODIFY)?;
        Ok(watch)
    }

    /// Waits until somebody has spoken. Cancel-safe.
    pub(in super::super) async fn felt(&self) -> Felt {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return std::future::pending().await;
            };
            let felt = self.read();
            // All was read, up to `WOULDBLOCK`.
            ready.clear_ready();
            if !felt.0.is_empty() {
                return felt;
            }
        }
    }

    fn read(&self) -> Felt {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        let mut felt = Felt::default();
        while let Ok(event) = reader.next() {
            felt.0.insert(event.wd());
        }
        felt
    }
}

impl Felt {
    /// Nobody has.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This one has, or may have.
    pub(in super::super) fn holds(&self, watch: i32) -> bool {
        self.0.contains(&watch) || self.0.contains(&LOST)
    }

    /// Adds what came later.
    pub(in super::super) fn add(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn only_the_one_that_has_spoken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let group = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("memory.events"), "low 0\nhigh 0\n").unwrap();
            Memory::of(path)
        };
        let (quiet, loud) = (group("a"), group("b"));
        let pressure = Pressure::new().unwrap();
        let quiet = pressure.watch(&quiet).unwrap();
        let watch = pressure.watch(&loud).unwrap();
        fs::write(loud.events(), "low 0\nhigh 1\n").unwrap();
        let mut felt = pressure.felt().await;
        assert!(felt.holds(watch) && !felt.holds(quiet), "{felt:?}");
        felt.add(Felt(BTreeSet::from([LOST])));
        assert!(felt.holds(quiet) && !felt.is_empty());
        let gone = Memory::of(folder.path().join("c"));
        assert!(pressure.watch(&gone).is_err());
    }
}
