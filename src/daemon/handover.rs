//! One daemon hands everything over to the next, and no service, request or answer notices.
//!
//! The daemon that goes starts the program that comes, and the two speak over a socket pair:
//!
//! 1. The coming one looks whether it can run here, and changes nothing: [`Word::Prepared`].
//! 2. The going one takes no more commands, comes to rest (nothing is being started, every row is
//!    written, no pipe is read) and sends the lock, the socket of commands and the router's listener:
//!    [`Word::Take`]. Its router goes on answering all the while.
//! 3. The coming one opens the store and the journal: [`Word::Ready`].
//! 4. The going one steps back: [`Word::Yours`]. Only now the other adopts, and acts.
//!
//! Whatever fails before the fourth word ends the coming one and wakes the going one, as if nothing
//! had been; so does what tells the going one to end, which then ends in its usual way. Orders and
//! signals are heard all the while (`daemon/life.rs`). After the fourth word the going one finishes what
//! its clients have begun and ends; a signal that still comes to it instead of the other one is passed
//! on until that is up ([`Word::Up`]), and then ends what it still finishes. Where the services are it
//! hears from the other one ([`Word::Service`]), so that a request which waits for one that
//! restarts is answered; what was asked for on behalf of an instance or a token that is no more is cut
//! ([`Word::Revoked`]), and nothing else. One that dies without a word changes nothing here.

pub(super) mod follow;
pub(super) mod give;
pub(super) mod take;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use self::follow::Place;
use super::settings::Source;
use crate::ids::{PublicId, ServiceType};
use crate::instances::Ending;

/// How long a daemon that ends tries to say so.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);
/// Variable with the number of the inherited socket.
pub(super) const SOCKET_FD: &str = "MCPM_HANDOVER_FD";
/// Raised when the words change their meaning. Two daemons of other protocols do not try.
const PROTOCOL: u32 = 2;
/// Longest word, in bytes: settings of a few sources.
const WORD_MAX: usize = 256 * 1024;
/// The lock, the socket of commands, the router's listener.
const DESCRIPTORS_MAX: usize = 3;

/// What the two say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "camelCase")]
pub(super) enum Word {
    /// The coming one can run here.
    Prepared {
        /// What it understands.
        protocol: u32,
        /// Its version.
        version: String,
    },
    /// The going one is at rest. Sent with the lock, the socket of commands, and the router's listener
    /// when there is one.
    Take {
        /// What flags, environment and shells have said: stronger than files.
        strong: Vec<Source>,
    },
    /// The coming one has all that it needs.
    Ready,
    /// The coming one is the daemon from now on.
    Yours,
    /// The coming one has adopted everything and is known as the daemon. Whoever signals the going one
    /// from now on means that one.
    Up,
    /// Where a service is from now on; nowhere when there is no such service any more. Sent with the
    /// pidfd of its run when it runs.
    Service {
        /// Its type.
        service: ServiceType,
        /// The place.
        place: Option<Box<Place>>,
    },
    /// What is under way on behalf of these must end, too. Daemons that know the word alone end all that
    /// is under way, and want that of others.
    Revoked(Ended),
    /// The coming one can't, and why.
    Failed {
        /// For people.
        why: String,
    },
}

/// What has ended, by numbers that are no secret. When nothing is named that this version knows, everything
/// has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Ended {
    /// An instance, as [`Ending::Over`].
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<PublicId>,
    /// That instance as [`Ending::Replaced`]; for who does not know the word it is over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replaced: bool,
    /// Not ended: an instance that ends at another time, as [`Ending::Moved`].
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<PublicId>,
    /// Tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<i64>,
}

impl Ended {
    /// All that is under way.
    pub(super) fn everything() -> Self {
        Self::default()
    }

    fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The instances.
    fn endings(&self) -> impl Iterator<Item = Ending> {
        let kind = if self.replaced {
            Ending::Replaced
        } else {
            Ending::Over
        };
        let over = self.instance.clone().map(kind);
        over.into_iter()
            .chain(self.moved.clone().map(Ending::Moved))
    }
}

impl From<Ending> for Ended {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Over(public) => Self {
                instance: Some(public),
                ..Self::default()
            },
            Ending::Replaced(public) => Self {
                instance: Some(public),
                replaced: true,
                ..Self::default()
            },
            Ending::Moved(public) => Self {
                moved: Some(public),
                ..Self::default()
            },
        }
    }
}

impl From<Vec<i64>> for Ended {
    fn from(tokens: Vec<i64>) -> Self {
        Self {
            tokens,
            ..Self::default()
        }
    }
}

/// One end of the socket pair. Each word is one message, and the end of the other side is heard
/// (`SOCK_SEQPACKET`, which has no type of its own in tokio and is read as datagrams are).
#[derive(Debug)]
pub(super) struct Line(UnixDatagram);

impl Line {
    /// A line, and its other end for a child.
    fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self::over(ours)?, theirs))
    }

    /// Speaks over this socket.
    ///
    /// # Errors
    /// When the reactor has no room.
    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(UnixDatagram::from_std(socket.into())?))
    }

    /// Says a word, and passes descriptors with it.
    async fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let send = || {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let piece = [IoSlice::new(&text)];
            rustix::net::sendmsg(&self.0, &piece, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next word and what came with it; `None` when the other end is closed. Cancel-safe.
    async fn hear(&self) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        let receive = || receive(&self.0);
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Tells the daemon that went what has ended. One that is gone need not know.
    async fn revoked(&self, ended: Ended) {
        let _ = self.say(&Word::Revoked(ended), &[]).await;
    }

    /// Tells the daemon that went to end, since this one does. One that does not listen is not waited for.
    pub(super) async fn all_over(&self) {
        let _ = timeout(LAST_WORD_WITHIN, self.revoked(Ended::everything())).await;
    }

    /// Waits until the other end is closed.
    pub(super) async fn closed(&self) {
        while let Ok(Some(_)) = self.hear().await {}
    }
}

fn receive(socket: &UnixDatagram) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
    let mut text = vec![0; WORD_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut piece = [IoSliceMut::new(&mut text)];
    let received = rustix::net::recvmsg(
        socket.as_fd(),
        &mut piece,
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let count = match received {
        Ok(received) => received.bytes,
        // It has died with words unheard.
        Err(Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    if count == 0 {
        return Ok(None);
    }
    let word = serde_json::from_slice(&text[..count])?;
    Ok(Some((word, descriptors)))
}

/// The socket that a going daemon has passed to this process; `None` when none did.
///
/// To be called once, at the start of a process, before it opens descriptors of its own: the number
/// then still means the inherited one.
pub(super) fn inherited() -> Option<OwnedFd> {
    let number: i32 = std::env::var(SOCKET_FD).ok()?.parse().ok()?;
    let link = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if number <= 2 || !link.to_string_lossy().starts_with("socket:") {
        return None;
    }
    #[expect(
        unsafe_code,
        reason = "a descriptor inherited by number has no owner yet"
    )]
    // SAFETY: it is open (checked above), was passed for us, and nothing else here knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
    Some(socket)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    #[tokio::test]
    async fn words_arrive_with_their_descriptors() {
        let (ours, theirs) = Line::pair().unwrap();
        let theirs = Line::over(theirs).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"the lock").unwrap();
        let word = Word::Take { strong: Vec::new() };
        ours.say(&word, &[file.as_fd(), file.as_fd()])
            .await
            .unwrap();
        ours.say(&Word::Yours, &[]).await.unwrap();
        let (heard, mut passed) = theirs.hear().await.unwrap().unwrap();
        assert_eq!((heard, passed.len()), (word, 2));
        let mut passed = File::from(passed.remove(0));
        passed.rewind().unwrap();
        let mut text = String::new();
        passed.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the lock");
        let (heard, passed) = theirs.hear().await.unwrap().unwrap();
        assert_eq!((heard, passed.len()), (Word::Yours, 0));
        drop(ours);
        assert!(theirs.hear().await.unwrap().is_none());
    }

    /// As daemons say it that know the word alone.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(tag = "word", rename_all = "camelCase")]
    enum Older {
        Revoked,
    }

    #[test]
    fn older_daemons_hear_that_something_ended_and_theirs_ends_everything() {
        let public = PublicId::parse("ins_abcdefghij23").unwrap();
        for ended in [
            Ended::everything(),
            Ended::from(Ending::Over(public.clone())),
            Ended::from(Ending::Moved(public)),
            Ended::from(vec![1, 4711]),
        ] {
            let text = serde_json::to_vec(&Word::Revoked(ended.clone())).unwrap();
            assert_eq!(
                serde_json::from_slice::<Older>(&text).unwrap(),
                Older::Revoked
            );
            let heard: Word = serde_json::from_slice(&text).unwrap();
            assert_eq!(heard, Word::Revoked(ended));
        }
        let theirs = serde_json::to_string(&Older::Revoked).unwrap();
        for text in [theirs.as_str(), r#"{"word":"revoked","later":[1]}"#] {
            let Word::Revoked(ended) = serde_json::from_str(text).unwrap() else {
                panic!("{text} is another word");
            };
            assert!(ended.is_everything());
        }
    }

    #[tokio::test]
    async fn what_is_no_word_is_an_error() {
        let (ours, theirs) = Line::pair().unwrap();
        rustix::io::write(&theirs, b"{\"word\":\"hello\"}").unwrap();
        assert!(ours.hear().await.is_err());
    }
}
