//! Takes whole lines out of one stream's pipe, once they are stored.
//!
//! What holds: bytes leave the pipe only when they stand in the log files, so that a daemon that is
//! killed at any moment loses and doubles none; `mark_file.rs` tells the next one how far this one
//! has come. The beginning of a line stays in the pipe until its end is there, it has waited long
//! enough, or the pipe is full and its writer would wait. What then is taken of a line that is longer
//! than its pipe is held in memory, as long as `lines.rs` says: it is the one thing that a killed
//! daemon loses. Each look handles one chunk and awaits nothing.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::capture::{Extent, Source};
use super::files::Stream;
use super::lines::{self, Partial};
use super::mark::{self, Chunk};
use super::mark_file::MarkFile;
use super::peek;
use super::shared::Shared;
use super::sink::{Arrival, Sink};
use crate::failpoint;
use crate::ids::Timestamp;

/// How long a stream waits for another one that is to be finished: its app may be gone.
const UNFINISHED_WAIT: Duration = Duration::from_secs(1);

/// So many bytes at once come from a writer that may have been held up by a full pipe, in the middle
/// of a write: the kernel tells of the rest only when that write ends.
const FLOOD: usize = 32 * 1024;
/// How often such a pipe is looked into at once; the writer needs some microseconds to wake.
const FLOOD_LOOKS: u32 = 64;

/// What becomes of the beginning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Its end may come.
    Waits,
    /// It has waited long enough, or its writer has ended.
    Goes,
}

/// One stream of one process.
pub(super) struct Reader {
    source: Source,
    stream: Stream,
    sink: Sink,
    /// Where the present run begins in the log file; `None` of one that an earlier daemon has started.
    begun: Option<u64>,
    /// Of a line that is longer than its pipe.
    partial: Partial,
    /// Bytes of the beginning of a line that were left in the pipe.
    left: usize,
    /// Looks without news that are left until a writer in full flood is not waited for any longer.
    looks: u32,
    /// Its pipe holds as much as it ever will.
    is_wide: bool,
    shared: Shared,
}

impl Reader {
    /// Nothing is read yet.
    pub(super) fn new(source: Source, stream: Stream, sink: Sink, shared: Shared) -> Self {
        Self {
            source,
            stream,
            sink,
            begun: None,
            partial: Partial::default(),
            left: 0,
            looks: 0,
            is_wide: false,
            shared,
        }
    }

    /// From now on it goes there.
    pub(super) fn write_to(&mut self, sink: Sink) {
        self.sink = sink;
    }

    /// Where it goes.
    pub(super) fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }

    /// A run begins.
    pub(super) fn begin(&mut self) {
        self.begun = Some(self.sink.end().map_or(0, |(_, end)| end));
        self.sink.was_cut();
    }

    /// What the run that has just ended has written; the next one begins behind it.
    pub(super) fn extent(&mut self) -> Option<Extent> {
        let is_cut = self.sink.was_cut();
        let (path, to) = self.sink.end()?;
        // The file was put aside or emptied meanwhile: what is in it is the run's.
        let from = self.begun.filter(|&begun| begun <= to).unwrap_or(0);
        let may_be_older = self.begun.is_none();
        self.begun = Some(to);
        let stream = self.stream;
        Some(Extent {
            stream,
            path,
            from,
            to,
            is_cut,
            may_be_older,
        })
    }

    /// The beginning of a line waits for its end, in the pipe or here.
    pub(super) fn is_waiting(&self) -> bool {
        self.left > 0 || !self.partial.is_empty()
    }

    /// A writer that was held up is about to write on, and may not be heard: to be looked after at
    /// once, so many times.
    pub(super) fn is_flooded(&mut self) -> bool {
        self.looks = self.looks.saturating_sub(1);
        self.looks > 0
    }

    /// Stores and takes one chunk, and says how many bytes that were. The beginning of a line goes
    /// when nothing else is there.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to be taken; others when the pipe can't be read.
    pub(super) fn look(&mut self, pipe: BorrowedFd<'_>, beginning: Beginning) -> io::Result<usize> {
        let taken = self.chunk(pipe, beginning);
        if taken.is_err() && beginning == Beginning::Goes {
            self.let_go();
        }
        taken
    }

    /// Lets go of what is held in memory.
    pub(super) fn let_go(&mut self) {
        let (partial, mut publish) = self.publisher();
        partial.finish(&mut publish);
    }

    fn chunk(&mut self, pipe: BorrowedFd<'_>, beginning: Beginning) -> io::Result<usize> {
        let buffer = self.shared.buffer.clone();
        let mut buffer = buffer.borrow_mut();
        let has_no_news = |left| {
            let waiting = rustix::io::ioctl_fionread(pipe).ok();
            waiting.and_then(|waiting| usize::try_from(waiting).ok()) == Some(left)
        };
        if beginning == Beginning::Waits && self.left > 0 && has_no_news(self.left) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.left = 0;
        let seen = match self.shared.scratch.peek(pipe, &mut buffer) {
            Ok(seen) => seen,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
            // What can't be looked into is read.
            Err(_) => return self.read(pipe, &mut buffer),
        };
        let seen_bytes = &buffer[..seen.count];
        let whole = lines::whole(seen_bytes);
        let goes = whole == 0 && !seen.is_cut && beginning == Beginning::Goes;
        if whole == 0 && !goes && !seen.is_cut && !peek::is_full(pipe) {
            self.left = seen.count;
            return Err(ErrorKind::WouldBlock.into());
        }
        let is_exact = self.partial.is_empty() && (whole > 0 || goes);
        let count = match whole {
            0 => seen.count,
            whole if is_exact => whole,
            // The end of what is held; the others are taken when nothing is held.
            _ => lines::first(seen_bytes),
        };
        if count >= FLOOD {
            self.looks = FLOOD_LOOKS;
            if !self.is_wide {
                self.is_wide = true;
                peek::widen(pipe);
            }
        }
        failpoint::reach("capture.peeked");
        let bytes = &mut buffer[..count];
        if is_exact {
            self.take(pipe, bytes)?;
        } else {
            self.keep(bytes);
            if goes {
                self.let_go();
            }
            peek::consume(pipe, bytes, &mut 0)?;
        }
        Ok(count)
    }

    /// Finishes what a daemon that was killed had begun with this stream.
    pub(super) fn recover(&mut self, pipe: BorrowedFd<'_>) {
        let shared = self.shared.clone();
        let mut marks = shared.marks.borrow_mut();
        let Some(marks) = marks.as_mut() else {
            return;
        };
        let Some(mark) = marks.found(self.source.id, self.stream) else {
            return;
        };
        failpoint::reach("capture.before_recover");
        let mut buffer = shared.buffer.borrow_mut();
        let chunk = mark.chunk.bytes;
        let mut is_taken = false;
        let count = match shared.scratch.peek(pipe, &mut buffer) {
            // This daemon sees less at once than the other one did.
            Ok(seen) if seen.is_cut && seen.count < chunk && !mark.is_consumed => {
                is_taken = true;
                rustix::io::read(pipe, &mut buffer[..chunk]).unwrap_or(0)
            }
            Ok(seen) => seen.count,
            Err(_) => 0,
        };
        if mark.waits_in(&buffer[..count]) {
            let arrival = Arrival {
                source: &self.source,
                stream: self.stream,
                at: mark.chunk.at,
                unfinished: Some(&mark),
            };
            let bytes = &mut buffer[..chunk];
            self.sink.take(bytes, arrival, &shared, &mut |file, place| {
                marks.note(file, &place);
            });
            if !is_taken {
                // When that fails it is stored once more, rather than lost.
                let _ = peek::consume(pipe, bytes, marks.trace());
            }
        } else if is_taken {
            self.keep(&buffer[..count]);
        }
        marks.clear();
        failpoint::reach("capture.recovered");
        shared.finished.notify_waiters();
    }

    /// Waits until what a killed daemon was storing is stored: a file that streams share may end
    /// within a line of another one's.
    pub(super) async fn wait_for_unfinished(&self) {
        let marks = &self.shared.marks;
        let is_unfinished = marks.borrow().as_ref().is_some_and(MarkFile::has_found);
        if is_unfinished {
            let finished = self.shared.finished.notified();
            let _ = tokio::time::timeout(UNFINISHED_WAIT, finished).await;
        }
    }

    /// Stores whole lines, or what is let go of one, and takes it from the pipe.
    fn take(&mut self, pipe: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<()> {
        let Self {
            source,
            stream,
            sink,
            shared,
            ..
        } = self;
        let arrival = Arrival {
            source,
            stream: *stream,
            at: Timestamp::now(),
            unfinished: None,
        };
        let mut marks = shared.marks.borrow_mut();
        let Some(marks) = marks.as_mut().filter(|_| sink.has_files()) else {
            sink.take(bytes, arrival, shared, &mut |_, _| {});
            return peek::consume(pipe, bytes, &mut 0);
        };
        marks.begin(&Chunk {
            id: source.id,
            stream: *stream,
            bytes: bytes.len(),
            hash: mark::hash(bytes),
            last: bytes.last().copied().unwrap_or_default(),
            at: arrival.at,
            between_lines: sink.is_between_lines(),
        });
        failpoint::reach("capture.marked");
        sink.take(bytes, arrival, shared, &mut |file, place| {
            marks.note(file, &place);
        });
        failpoint::reach("capture.stored");
        let consumed = peek::consume(pipe, bytes, marks.trace());
        failpoint::reach("capture.consumed");
        marks.clear();
        consumed
    }

    fn read(&mut self, pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(pipe, &mut buffer[..])? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => {
                self.keep(&buffer[..count]);
                Ok(count)
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let (partial, mut publish) = self.publisher();
        partial.feed(bytes, &mut publish);
    }

    fn publisher(&mut self) -> (&mut Partial, impl FnMut(&[u8])) {
        let Self {
            source,
            stream,
            sink,
            partial,
            shared,
            ..
        } = self;
        let publish = |piece: &[u8]| {
            let arrival = Arrival {
                source,
                stream: *stream,
                at: Timestamp::now(),
                unfinished: None,
            };
            sink.take(piece, arrival, shared, &mut |_, _| {});
        };
        (partial, publish)
    }
}
