//! What a daemon that was just started tells the command that started it.
//!
//! The starter passes the write end of a pipe and names its descriptor in [`READY_FD`]. The daemon
//! writes one line and closes it; a pipe that closes without a word means that the daemon died. So
//! nobody polls.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};

/// Variable with the number of the inherited descriptor.
pub const READY_FD: &str = "MCPM_READY_FD";

/// The one line a starting daemon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The socket answers.
    Ok,
    /// Another daemon holds this home; whoever wanted one can use that.
    AlreadyRunning,
    /// It cannot start, and why.
    Error(String),
}

impl Word {
    /// The line, with its end. Line ends inside a message become spaces.
    pub fn to_line(&self) -> String {
        match self {
            Self::Ok => "ok\n".to_owned(),
            Self::AlreadyRunning => "already running\n".to_owned(),
            Self::Error(message) => format!("error: {}\n", message.trim().replace('\n', " ")),
        }
    }

    /// `None` for anything but a whole line as [`Word::to_line`] makes it.
    pub fn parse(line: &str) -> Option<Self> {
        match line.strip_suffix('\n')? {
            "ok" => Some(Self::Ok),
            "already running" => Some(Self::AlreadyRunning),
            other => Some(Self::Error(other.strip_prefix("error: ")?.to_owned())),
        }
    }
}

/// The daemon's end of the pipe.
#[derive(Debug)]
pub struct Starter(File);

impl Starter {
    /// Takes the descriptor that [`READY_FD`] names; `None` when nobody waits.
    ///
    /// To be called once, at the start of a process, before it opens descriptors of its own: the
    /// number then still means the inherited one.
    pub fn take() -> Option<Self> {
        let number: i32 = env::var(READY_FD).ok()?.parse().ok().filter(|&fd| fd > 2)?;
        // A number that is no pipe was not put there by our starter.
        let link = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        if !link.to_string_lossy().starts_with("pipe:") {
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "a descriptor inherited by number has no owner yet"
        )]
        // SAFETY: it is open (checked above), was passed for us, and nothing else here knows it.
        let pipe = unsafe { OwnedFd::from_raw_fd(number) };
        let _ = rustix::io::fcntl_setfd(&pipe, rustix::io::FdFlags::CLOEXEC);
        Some(Self(File::from(pipe)))
    }

    /// Says the word and closes the pipe.
    ///
    /// # Errors
    /// When the starter has gone; harmless, it was told to.
    pub fn tell(mut self, word: &Word) -> io::Result<()> {
        self.0.write_all(word.to_line().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back() {
        for word in [
            Word::Ok,
            Word::AlreadyRunning,
            Word::Error("port 8080 is in use".into()),
        ] {
            assert_eq!(Word::parse(&word.to_line()), Some(word));
        }
        let two_lines = Word::Error("a\nb\n".into());
        assert_eq!(
            Word::parse(&two_lines.to_line()),
            Some(Word::Error("a b".into()))
        );
    }

    #[test]
    fn half_a_line_or_a_strange_one_is_no_word() {
        for text in ["", "ok", "okay\n", "error\n"] {
            assert_eq!(Word::parse(text), None, "{text:?}");
        }
    }
}
