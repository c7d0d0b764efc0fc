//! Hears when the kernel says that a group has come to where it was to speak.

use std::collections::BTreeSet;
use std::io;

use rustix::fs::inotify::WatchFlags;

use super::super::inotify::Inotify;
use super::Memory;

/// What the kernel says when it has said more than it keeps: it may have been any of them.
const LOST: i32 = -1;

/// One inotify instance for all groups: the kernel reports an event in a group's `memory.events`
/// as a change of that file.
#[derive(Debug)]
pub(in super::super) struct Pressure(Inotify);

/// Who has spoken.
#[derive(Debug, Default)]
pub(in super::super) struct Felt(BTreeSet<i32>);

impl Pressure {
    /// # Errors
    /// When the system has no room for another one.
    pub(in super::super) fn new() -> io::Result<Self> {
        Inotify::new().map(Self)
    }

    /// Watches a group until it is removed; its number.
    ///
    /// # Errors
    /// When it is gone, or the system has no room.
    pub(in super::super) fn watch(&self, memory: &Memory) -> io::Result<i32> {
        Ok(self.0.add(&memory.events(), WatchFlags::MODIFY)?)
    }

    /// Waits until somebody has spoken. Cancel-safe.
    pub(in super::super) async fn felt(&self) -> Felt {
        let changes = self.0.changes().await;
        Felt(changes.into_iter().map(|change| change.watch).collect())
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
