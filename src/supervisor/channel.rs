//! What a child says to us, and we to it: Node's IPC channel, and `NOTIFY_SOCKET`.
//!
//! Node's channel is a socket pair with a line of JSON for each message; its number stands in
//! `NODE_CHANNEL_FD`, and any language can write `"ready"` to it. The child inherits *both* ends, so
//! that a write after our death ends in a buffer and not in an error; the next daemon takes our end
//! back (`pidfd_getfd`) where the system lets it.
//!
//! `NOTIFY_SOCKET` is the protocol of sd_notify(3): `READY=1` in a datagram. The socket has an
//! abstract name, which every user can reach, so the sender's user is looked at. It is the run's name:
//! the next daemon listens under it again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram, UnixStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use rustix::process::PidfdGetfdFlags;
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::handle::Message;
use super::machine::Event;
use super::metrics::Metrics;
use crate::ids::PmId;

/// Longer messages are not looked at; they are read all the same, so that nobody waits.
const LINE_MAX: usize = 64 * 1024;
/// Larger datagrams are cut: `READY=1` stands first by habit.
const DATAGRAM_MAX: usize = 4096;
/// How long the daemon before us may keep the name of a `NOTIFY_SOCKET`, and how often it is looked.
const NAME_PATIENCE: Duration = Duration::from_secs(10);
const NAME_RETRY: Duration = Duration::from_millis(20);
/// How a line says that its run is ready.
const READY: &[u8] = b"READY=1";
/// What asks a child to end, on `shutdown_with_message`.
const SHUTDOWN: &[u8] = b"\"shutdown\"\n";

/// A new channel, before its child is there.
#[derive(Debug)]
pub struct Ends {
    /// For us, and a copy for the child.
    pub ours: Arc<OwnedFd>,
    /// For the child.
    pub theirs: Arc<OwnedFd>,
}

impl Ends {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok(Self {
            ours: Arc::new(ours),
            theirs: Arc::new(theirs),
        })
    }
}

/// Which descriptor of the child is our end: its number, and the socket's inode as a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// In the child.
    pub number: i32,
    /// Of the socket.
    pub inode: u64,
}

/// Our end of a child's channel.
#[derive(Debug)]
pub struct End {
    /// The socket, not blocking.
    pub socket: OwnedFd,
    /// Where the child has its copy.
    pub identity: Identity,
}

impl End {
    /// The end of a channel whose child was just started with the same number.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn of(ends: &Ends) -> io::Result<Self> {
        let identity = Identity {
            number: ends.ours.as_raw_fd(),
            inode: rustix::fs::fstat(&ends.ours)?.st_ino,
        };
        let socket = rustix::io::fcntl_dupfd_cloexec(&ends.ours, 3)?;
        Ok(Self { socket, identity })
    }

    /// Takes our end back from a child that a daemon before us has started; `None` when the system
    /// does not let us, or the child has closed it.
    pub fn take_back(pidfd: &OwnedFd, identity: Identity) -> Option<Self> {
        let flags = PidfdGetfdFlags::empty();
        let socket = rustix::process::pidfd_getfd(pidfd, identity.number, flags).ok()?;
        let inode = rustix::fs::fstat(&socket).ok()?.st_ino;
        (inode == identity.inode).then_some(Self { socket, identity })
    }
}

/// The socket of `NOTIFY_SOCKET` for one run, and the variable's value.
///
/// # Errors
/// When there is no descriptor left.
pub fn notify_socket(run: &str) -> io::Result<(StdDatagram, String)> {
    let name = name_of(run);
    let socket = StdDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    socket.set_nonblocking(true)?;
    Ok((socket, format!("@{name}")))
}

fn name_of(run: &str) -> String {
    format!("mcpm/{run}")
}

async fn bind_again(run: &str) -> io::Result<UnixDatagram> {
    let until = Instant::now() + NAME_PATIENCE;
    loop {
        match notify_socket(run) {
            Ok((socket, _)) => return UnixDatagram::from_std(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(NAME_RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Says `READY=1` for a run to the daemon that listens to it now, as soon as it does.
///
/// # Errors
/// When nobody does in time.
pub async fn say_ready(run: &str) -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(name_of(run))?;
    let socket = StdDatagram::unbound()?;
    let until = Instant::now() + NAME_PATIENCE;
    loop {
        match socket.send_to_addr(READY, &address) {
            Err(_) if Instant::now() < until => tokio::time::sleep(NAME_RETRY).await,
            sent => return sent.map(drop),
        }
    }
}

/// The open lines of one run; what listens on them ends with it.
#[derive(Debug, Default)]
pub struct Lines {
    channel: Option<(Arc<UnixStream>, Identity)>,
    listeners: Vec<AbortHandle>,
    metrics: Metrics,
}

impl Lines {
    /// Our end in the child, for the journal.
    pub fn identity(&self) -> Option<Identity> {
        self.channel.as_ref().map(|(_, identity)| *identity)
    }

    /// What the run says about itself.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Listens on a channel.
    pub fn listen(&mut self, end: End, to: Listener, tasks: &mut tokio::task::JoinSet<()>) {
        let stream = UnixStream::from_std(StdStream::from(end.socket)).map(Arc::new);
        match stream {
            Ok(stream) => {
                let metrics = self.metrics.clone();
                self.listeners
                    .push(tasks.spawn(read_channel(stream.clone(), to, metrics)));
                self.channel = Some((stream, end.identity));
            }
            Err(error) => tracing::warn!(pm_id = %to.id, %error, "cannot listen on its channel"),
        }
    }

    /// Listens on a `NOTIFY_SOCKET`; `user` may speak there, beside root and ourselves.
    pub fn listen_notify(
        &mut self,
        socket: StdDatagram,
        user: Option<u32>,
        to: Listener,
        tasks: &mut tokio::task::JoinSet<()>,
    ) {
        match UnixDatagram::from_std(socket) {
            Ok(socket) => self
                .listeners
                .push(tasks.spawn(read_notify(socket, user, to))),
            Err(error) => tracing::warn!(pm_id = %to.id, %error, "cannot listen for `READY=1`"),
        }
    }

    /// Listens again where a run of an earlier daemon says `READY=1`. That one keeps the name for a moment
    /// when it hands over.
    pub fn take_notify_back(
        &mut self,
        run: String,
        user: Option<u32>,
        to: Listener,
        tasks: &mut tokio::task::JoinSet<()>,
    ) {
        self.listeners.push(tasks.spawn(async move {
            let pm_id = to.id;
            match bind_again(&run).await {
                Ok(socket) => read_notify(socket, user, to).await,
                Err(error) => tracing::warn!(%pm_id, %error, "cannot listen for `READY=1`"),
            }
        }));
    }

    /// Sends `"shutdown"`; `false` when nobody can hear it.
    pub fn shut_down(&self) -> bool {
        let Some((stream, _)) = &self.channel else {
            return false;
        };
        rustix::io::write(stream.as_fd(), SHUTDOWN) == Ok(SHUTDOWN.len())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.listeners.iter().for_each(AbortHandle::abort);
    }
}

/// Who hears what one run says.
#[derive(Clone)]
pub struct Listener {
    /// Its number.
    pub id: PmId,
    /// Which of its starts.
    pub generation: u64,
    pub(super) inbox: mpsc::Sender<Message>,
}

impl Listener {
    async fn ready(&self) {
        let message = Message::Happened {
            id: self.id,
            generation: self.generation,
            event: Event::Ready,
        };
        let _ = self.inbox.send(message).await;
    }
}

async fn read_channel(stream: Arc<UnixStream>, to: Listener, metrics: Metrics) {
    let mut buffer = [0; 4096];
    let mut splitter = Splitter::default();
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
            Ok(count) => {
                for line in splitter.feed(&buffer[..count]) {
                    if is_ready(&line) {
                        to.ready().await;
                    } else {
                        metrics.hear(&line);
                    }
                }
            }
        }
    }
}

/// PM2's word: the JSON text `"ready"`.
fn is_ready(line: &[u8]) -> bool {
    serde_json::from_slice::<String>(line).is_ok_and(|word| word == "ready")
}

/// Bytes → lines without their ends; lines that are too long come as nothing.
#[derive(Debug, Default)]
struct Splitter {
    line: Vec<u8>,
    too_long: bool,
}

impl Splitter {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            if self.too_long || self.line.len() + text.len() > LINE_MAX {
                self.too_long = true;
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(text);
            }
            if ended && !std::mem::take(&mut self.too_long) {
                lines.push(std::mem::take(&mut self.line));
            }
        }
        lines
    }
}

async fn read_notify(socket: UnixDatagram, user: Option<u32>, to: Listener) {
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        match socket.try_io(Interest::READABLE, || receive(&socket)) {
            Ok((text, sender)) => {
                let ours = rustix::process::geteuid().as_raw();
                let known = sender.is_some_and(|uid| uid == 0 || uid == ours || Some(uid) == user);
                if known && text.split(|&byte| byte == b'\n').any(|line| line == READY) {
                    to.ready().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// One datagram, and the user who sent it.
fn receive(socket: &UnixDatagram) -> io::Result<(Vec<u8>, Option<u32>)> {
    let mut text = vec![0; DATAGRAM_MAX];
    let mut space = [MaybeUninit::uninit(); 256];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let count = rustix::net::recvmsg(
        socket.as_fd(),
        &mut [io::IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?
    .bytes;
    text.truncate(count);
    // Descriptors that a stranger sends along are closed when the buffer is dropped.
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(who) => Some(who.uid.as_raw()),
        _ => None,
    });
    Ok((text, sender))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_word_is_the_word() {
        assert!(is_ready(b"\"ready\"") && is_ready(b" \"ready\" "));
        for other in [
            "ready",
            "{\"type\":\"ready\"}",
            "\"readyy\"",
            "",
            "[\"ready\"]",
        ] {
            assert!(!is_ready(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn lines_split_anywhere_are_the_same(text in "[a-c\n]{0,60}", cuts in proptest::collection::vec(1usize..9, 1..20)) {
            let whole = Splitter::default().feed(text.as_bytes());
            let (mut splitter, mut rest, mut parts) = (Splitter::default(), text.as_bytes(), Vec::new());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                parts.extend(splitter.feed(head));
                rest = tail;
            }
            prop_assert_eq!(whole, parts);
        }
    }

    #[tokio::test]
    async fn ready_is_heard_under_the_name_that_another_daemon_had() {
        let run = format!("test.{}.1", std::process::id());
        let (former, _) = notify_socket(&run).unwrap();
        let (inbox, mut messages) = mpsc::channel(4);
        let to = Listener {
            id: PmId(3),
            generation: 2,
            inbox,
        };
        let (mut lines, mut tasks) = (Lines::default(), tokio::task::JoinSet::new());
        lines.take_notify_back(run.clone(), None, to, &mut tasks);
        tokio::task::yield_now().await;
        drop(former);
        say_ready(&run).await.unwrap();
        let Some(Message::Happened {
            id,
            generation,
            event,
        }) = messages.recv().await
        else {
            panic!("another word");
        };
        assert_eq!((id, generation, event), (PmId(3), 2, Event::Ready));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut splitter = Splitter::default();
        for _ in 0..1000 {
            assert!(splitter.feed(&[b'x'; 4096]).is_empty());
        }
        assert!(splitter.line.capacity() <= 2 * LINE_MAX);
        assert_eq!(splitter.feed(b"y\n\"ready\"\n"), [b"\"ready\""]);
    }
}
