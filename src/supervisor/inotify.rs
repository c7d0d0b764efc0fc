//! inotify(7): hears what changes in files and folders.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One event.
pub(super) struct Change {
    /// What is watched, by its number; -1 when events were lost.
    pub(super) watch: i32,
    pub(super) flags: ReadFlags,
    /// Of a folder: what in it.
    pub(super) name: Option<OsString>,
}

/// One instance, with all that it watches.
#[derive(Debug)]
pub(super) struct Inotify(AsyncFd<OwnedFd>);

impl Inotify {
    /// # Errors
    /// When the system has no room for another one.
    pub(super) fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            unsafe_code,
            reason = "the reactor's only door for a descriptor of another kind"
        )]
        // SAFETY: the descriptor is owned by the `AsyncFd` itself, which gives it to nobody.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Watches a file or folder; its number.
    ///
    /// # Errors
    /// When it is not there, or the system has no room.
    pub(super) fn add(&self, path: &Path, flags: WatchFlags) -> rustix::io::Result<i32> {
        inotify::add_watch(self.0.get_ref(), path, flags)
    }

    pub(super) fn remove(&self, watch: i32) {
        // One that has ended by itself is no error.
        let _ = inotify::remove_watch(self.0.get_ref(), watch);
    }

    /// Waits until there are changes. Cancel-safe.
    pub(super) async fn changes(&self) -> Vec<Change> {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return std::future::pending().await;
            };
            let changes = self.read();
            // All was read, up to `WOULDBLOCK`.
            ready.clear_ready();
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    fn read(&self) -> Vec<Change> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        let mut changes = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name();
            changes.push(Change {
                watch: event.wd(),
                flags: event.events(),
                name: name.map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
            });
        }
        changes
    }
}
