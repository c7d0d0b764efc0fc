//! Descriptors that the service manager keeps, so that they outlive this process: the descriptor
//! store of systemd (sd_notify(3), sd_listen_fds(3)), without its library.
//!
//! What is in a pipe is there as long as anybody has it open, and a listener takes connections as
//! long as anybody has it. The store has them under names while no daemon lives, and passes them to
//! the next one that the service manager starts. They stay in it until they are removed by name.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::service_manager;
use crate::ids::PmId;
use crate::logs::Stream;

/// Descriptors that are kept at most: the pipes of four thousand processes, and the router's
/// listener. systemd has no limit of its own, but names all that it passes in one variable, and the
/// kernel starts no program that has one of 128 KiB: the longest name and a colon take 15 bytes.
pub const MAX: usize = 8192;

/// Variable with the size of the store. systemd sets it from version 254 on, our unit always.
pub const SIZE: &str = "FDSTORE";
/// What says which descriptors are passed, and to whom. For one process only.
pub const PASSED: [&str; 4] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];

/// The number of the first descriptor that is passed.
const FIRST: RawFd = 3;
/// How long the service manager may take until it has room for one more message.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a descriptor is, as the store names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// The router's listener.
    Router,
    /// The pipe of this process's output.
    Pipe(PmId, Stream),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router => f.write_str("router"),
            Self::Pipe(id, Stream::Out) => write!(f, "out.{id}"),
            Self::Pipe(id, Stream::Error) => write!(f, "err.{id}"),
        }
    }
}

impl Name {
    /// `None` for what is not written as we write it.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "router" {
            return Some(Self::Router);
        }
        let (stream, id) = text.split_once('.')?;
        let stream = match stream {
            "out" => Stream::Out,
            "err" => Stream::Error,
            _ => return None,
        };
        let name = Self::Pipe(PmId(id.parse().ok()?), stream);
        (name.to_string() == text).then_some(name)
    }
}

/// A descriptor that was passed to this process.
#[derive(Debug)]
pub struct Passed {
    /// What the service manager calls it.
    pub name: String,
    /// Itself, close-on-exec.
    pub descriptor: File,
}

/// Takes the descriptors that the service manager has passed to this process, and to no other.
///
/// To be called once, at the start of a process, before it opens descriptors of its own: the numbers
/// then still mean the inherited ones.
pub fn passed() -> Vec<Passed> {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let [pid, count, names, _] = PASSED.map(variable);
    numbered(std::process::id(), &pid, &count, &names)
        .into_iter()
        .filter_map(|(number, name)| {
            let descriptor = take(number)?;
            Some(Passed { name, descriptor })
        })
        .collect()
}

/// Numbers and names of what was passed to the process `me`.
fn numbered(me: u32, pid: &str, count: &str, names: &str) -> Vec<(RawFd, String)> {
    if pid.parse::<u32>() != Ok(me) {
        return Vec::new();
    }
    let count: u16 = count.parse().unwrap_or(0);
    let mut names = names.split(':');
    (FIRST..)
        .take(usize::from(count))
        .map(|number| (number, names.next().unwrap_or_default().to_owned()))
        .collect()
}

fn take(number: RawFd) -> Option<File> {
    std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    #[expect(
        unsafe_code,
        reason = "a descriptor inherited by number has no owner yet"
    )]
    // SAFETY: it is open (checked above), was passed for us, and nothing else here knows it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC);
    Some(File::from(descriptor))
}

/// What has the service manager remove all descriptors of this name.
pub fn removal(name: &str) -> String {
    format!("FDSTOREREMOVE=1\nFDNAME={name}")
}

/// The store. Whoever speaks to it waits for the service manager, and nobody else does.
#[derive(Debug)]
pub struct Store {
    socket: UnixDatagram,
    room: usize,
}

impl Store {
    /// `None` when the service manager keeps nothing for this process.
    ///
    /// # Errors
    /// When there is a store that can't be spoken to.
    pub fn open() -> io::Result<Option<Self>> {
        let size = env::var(SIZE).ok().and_then(|text| text.parse().ok());
        let Some(size) = size.filter(|&size: &usize| size > 0) else {
            return Ok(None);
        };
        let socket = service_manager::connect()?;
        socket.map(|socket| Self::over(socket, size)).transpose()
    }

    /// Speaks over a connected socket with a store of this size.
    fn over(socket: std::os::unix::net::UnixDatagram, size: usize) -> io::Result<Self> {
        Ok(Self {
            socket: UnixDatagram::from_std(socket)?,
            room: size.min(MAX),
        })
    }

    /// So many descriptors it may have.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Has it keep a descriptor, beside what it has under the same name. It is not to look whether
    /// anybody is at the other end (`FDPOLL=0`): a pipe that nobody writes to is what it is there for.
    ///
    /// # Errors
    /// When the service manager does not listen, or takes too long.
    pub async fn keep(&self, name: Name, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let word = format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}");
        self.say(&word, &[descriptor]).await
    }

    /// Has it let go of all that it has under this name.
    ///
    /// # Errors
    /// As [`Store::keep`].
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        self.say(&removal(name), &[]).await
    }

    async fn say(&self, word: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = || -> io::Result<()> {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let piece = [IoSlice::new(word.as_bytes())];
            rustix::net::sendmsg(&self.socket, &piece, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        let said = self.socket.async_io(Interest::WRITABLE, send);
        match timeout(PATIENCE, said).await {
            Ok(said) => said,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn names_come_back_and_all_of_them_fit_into_one_variable() {
        for (name, text) in [
            (Name::Router, "router"),
            (Name::Pipe(PmId(0), Stream::Out), "out.0"),
            (Name::Pipe(PmId(u32::MAX), Stream::Error), "err.4294967295"),
        ] {
            assert_eq!(name.to_string(), text);
            assert_eq!(Name::parse(text), Some(name));
        }
        for text in [
            "", "stored", "out", "out.", "out.+7", "out.07", "in.7", "out.7.7",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        let longest = Name::Pipe(PmId(u32::MAX), Stream::Error).to_string();
        let all = "LISTEN_FDNAMES=".len() + MAX * (longest.len() + ":".len());
        assert!(all < 128 * 1024, "{all}");
    }

    #[test]
    fn what_was_passed_to_another_process_is_not_ours() {
        let ours = numbered(7, "7", "2", "router:out.0");
        assert_eq!(ours, [(3, "router".to_owned()), (4, "out.0".to_owned())]);
        assert_eq!(numbered(7, "7", "1", ""), [(3, String::new())]);
        for (pid, count) in [("8", "2"), ("", "2"), ("7", ""), ("7", "-1"), ("7", "0")] {
            assert!(
                numbered(7, pid, count, "a:b").is_empty(),
                "{pid:?} {count:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_store_is_told_and_waited_for() {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let store = Store::over(ours, 100_000).unwrap();
        assert_eq!(store.room(), MAX);
        let file = tempfile::tempfile().unwrap();
        // More than wait to be read by default, whatever that is here.
        let hear = tokio::task::spawn_blocking(move || {
            let mut word = [0; 100];
            let mut heard = Vec::new();
            for _ in 0..2000 {
                let count = theirs.recv(&mut word).unwrap();
                heard.push(String::from_utf8_lossy(&word[..count]).into_owned());
            }
            heard
        });
        for id in 0..1000 {
            let name = Name::Pipe(PmId(id), Stream::Out);
            store.keep(name, file.as_fd()).await.unwrap();
            store.remove(&name.to_string()).await.unwrap();
        }
        let heard = hear.await.unwrap();
        assert_eq!(heard[0], "FDSTORE=1\nFDPOLL=0\nFDNAME=out.0");
        assert_eq!(heard[1999], "FDSTOREREMOVE=1\nFDNAME=out.999");
        store.remove("router").await.unwrap_err();
    }
}
