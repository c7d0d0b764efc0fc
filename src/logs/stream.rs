//! One stream of one process: says when to look into its pipe.
//!
//! While nothing arrives it holds no buffer. Streams take turns, so that a flood holds up nobody else.

use std::io;
use std::os::fd::AsFd;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::capture::{Extent, Source};
use super::files::Stream;
use super::losses::Losses;
use super::pipes::Pipes;
use super::reader::{Beginning, Reader};
use super::shared::Shared;
use super::sink::Sink;
use super::wait::Wait;

/// Reads of one stream in a row before the others get their turn.
const READS_IN_A_ROW: usize = 4;

/// What a stream's task is told.
pub(super) enum Word {
    /// Whoever wants to know is told what was heard.
    Settle(Option<mpsc::Sender<String>>),
    /// A run begins.
    Begin,
    /// What the last run has written is asked for.
    Extent(mpsc::Sender<Extent>),
    /// Somebody else reads from now on: what is in the pipe is theirs.
    Leave,
    /// It goes there from now on.
    Write(Box<Sink>),
}

/// One stream, open.
pub(super) struct Task {
    pipe: Receiver,
    words: mpsc::Receiver<Word>,
    reader: Reader,
    source: Source,
    losses: Losses,
}

impl Task {
    /// Opens our side of its pipe.
    ///
    /// # Errors
    /// When the pipe is not there, or descriptors have run out.
    pub(super) fn open(
        source: &Source,
        stream: Stream,
        pipes: &Pipes,
        sink: Sink,
        shared: &Shared,
    ) -> io::Result<(Self, mpsc::Sender<Word>)> {
        let (sender, words) = mpsc::channel(4);
        let pipe = Receiver::from_file_unchecked(pipes.reader(stream)?)?;
        let mut reader = Reader::new(source.clone(), stream, sink, shared.clone());
        reader.recover(pipe.as_fd());
        let task = Self {
            pipe,
            words,
            reader,
            source: source.clone(),
            losses: shared.losses.clone(),
        };
        Ok((task, sender))
    }

    /// Which pipe it is: device and inode.
    pub(super) fn pipe(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.pipe).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// Reads until its sender is dropped, or somebody else is to read.
    pub(super) async fn run(mut self) {
        self.reader.wait_for_unfinished().await;
        let mut wait: Option<Wait> = None;
        loop {
            let next = wait.map_or_else(Instant::now, Wait::until);
            let taken = tokio::select! {
                biased;
                word = self.words.recv() => match word {
                    Some(Word::Settle(heard)) => {
                        self.drain();
                        let words = self.reader.sink().last_words();
                        if let (Some(heard), Some(words)) = (heard, words) {
                            let _ = heard.try_send(words);
                        }
                        // What has come meanwhile may not have been told.
                        Taken::Share
                    }
                    Some(Word::Write(sink)) => {
                        self.reader.write_to(*sink);
                        continue;
                    }
                    Some(Word::Begin) => {
                        self.reader.begin();
                        continue;
                    }
                    Some(Word::Extent(answer)) => {
                        if let Some(extent) = self.reader.extent() {
                            let _ = answer.try_send(extent);
                        }
                        continue;
                    }
                    Some(Word::Leave) => {
                        self.reader.let_go();
                        return;
                    }
                    None => break,
                },
                ready = self.pipe.readable() => {
                    if ready.is_err() { break }
                    self.take_turns(wait, Self::look_when_ready)
                }
                () = tokio::time::sleep_until(next), if wait.is_some() => {
                    wait = wait.map(Wait::longer);
                    self.take_turns(wait, Self::look)
                }
            };
            let taken = match taken {
                Taken::Nothing | Taken::All
                    if self.reader.is_waiting() && self.reader.is_flooded() =>
                {
                    Taken::Share
                }
                taken => taken,
            };
            if taken == Taken::Share {
                tokio::task::yield_now().await;
            }
            wait = match (taken, self.reader.is_waiting(), wait) {
                (Taken::Share, _, _) => Some(Wait::at_once(Instant::now())),
                (_, false, _) => None,
                (Taken::Nothing, true, Some(wait)) => Some(wait),
                (_, true, _) => Some(Wait::since(Instant::now())),
            };
        }
        self.drain();
        // Not before the last line: what is lost of it is nobody's.
        self.losses.forget(self.source.id);
    }

    /// Takes some chunks in a row.
    fn take_turns(&mut self, wait: Option<Wait>, look: fn(&mut Self, Beginning) -> bool) -> Taken {
        let is_over = wait.is_some_and(|wait| wait.is_over(Instant::now()));
        let mut beginning = if is_over {
            Beginning::Goes
        } else {
            Beginning::Waits
        };
        let mut turns = READS_IN_A_ROW;
        while turns > 0 && look(self, beginning) {
            turns -= 1;
            // What comes behind it has not waited yet.
            beginning = Beginning::Waits;
        }
        match turns {
            0 => Taken::Share,
            READS_IN_A_ROW => Taken::Nothing,
            _ => Taken::All,
        }
    }

    /// Takes one chunk; `false` when there is none to be taken.
    fn look(&mut self, beginning: Beginning) -> bool {
        self.reader.look(self.pipe.as_fd(), beginning).is_ok()
    }

    /// The same when the reactor has heard of something. When nothing is to be taken it is told so,
    /// whatever is left in the pipe: the next thing to hear of is something new.
    fn look_when_ready(&mut self, beginning: Beginning) -> bool {
        let Self { pipe, reader, .. } = self;
        let look = || {
            let taken = reader.look(pipe.as_fd(), beginning);
            taken.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))
        };
        pipe.try_io(look).is_ok()
    }

    /// Takes what is in the pipe now, and lets go of the beginning of a line. Asks the pipe itself:
    /// the reactor may hear of the last bytes after the end of their writer. Not until the pipe is
    /// empty: who still writes, such as a child that was left behind, must not hold up the others.
    fn drain(&mut self) {
        let pipe = self.pipe.as_fd();
        let mut left = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
        while left > 0 {
            match self.reader.look(pipe, Beginning::Goes) {
                Ok(count) => left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)),
                Err(_) => break,
            }
        }
        self.reader.let_go();
    }
}

/// How much a stream took in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    /// What there was.
    All,
    /// As much as it may: there may be more.
    Share,
}
