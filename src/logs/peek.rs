//! Looks into a pipe without taking anything from it, and takes what was looked at.
//!
//! What a daemon has not taken is still there for the next one. `tee(2)` copies references to the
//! pipe's pages into a scratch pipe of ours, which is then read and empty again.

use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Bytes of a pipe whose writer floods: some writes of the usual size.
const WIDE: usize = 256 * 1024;

/// A pipe that is empty whenever nobody looks.
pub struct Scratch {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Bytes that were copied, at least one.
    pub count: usize,
    /// There was more than could be copied at once.
    pub is_cut: bool,
}

impl Scratch {
    /// Makes one that holds so many bytes, if it may. The pages that the pipes of one user may have
    /// are limited (`pipe-user-pages-soft`, pipe(7)); with a smaller one less is seen at once.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags)?;
        if rustix::pipe::fcntl_getpipe_size(&writer)? < bytes {
            let _ = rustix::pipe::fcntl_setpipe_size(&writer, bytes);
        }
        Ok(Self { reader, writer })
    }

    /// Copies what waits at the beginning of a pipe, as much as fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; others when it is no pipe, or can't be looked into.
    pub fn peek(&self, pipe: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Seen> {
        // Asked first: what comes later does not look as if it had been cut off.
        let waiting = rustix::io::ioctl_fionread(pipe)?;
        if waiting == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let copy = || rustix::pipe::tee(pipe, &self.writer, into.len(), SpliceFlags::NONBLOCK);
        let count = retry_on_intr(copy)?;
        let mut read = 0;
        while read < count {
            match retry_on_intr(|| rustix::io::read(&self.reader, &mut into[read..count]))? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Seen {
            count,
            is_cut: u64::try_from(count).is_ok_and(|count| count < waiting),
        })
    }
}

/// Who writes to this pipe has to wait. Asked of a descriptor that could write, too: a pipe can be
/// full with less than half of its bytes, since not each of its pages is.
pub fn is_full(pipe: BorrowedFd<'_>) -> bool {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut room = [PollFd::new(&pipe, PollFlags::OUT)];
    retry_on_intr(|| rustix::event::poll(&mut room, Some(&at_once))) == Ok(0)
}

/// Makes room for a writer that floods, where that is nobody's loss: the pages that the pipes of one
/// user may have are limited for all but root.
pub fn widen(pipe: BorrowedFd<'_>) {
    if rustix::process::geteuid().is_root() {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, WIDE);
    }
}

/// Takes what was seen from the pipe: the same bytes come again, the last one of them into `last`.
/// One system call, which a signal does not divide: `last` has the byte as soon as none of them is
/// in the pipe (`splice(2)` into `/dev/null` copies nothing, but may end in the middle).
///
/// # Errors
/// When it can't be read.
pub fn consume(pipe: BorrowedFd<'_>, seen: &mut [u8], last: &mut u8) -> io::Result<()> {
    let Some((_, most)) = seen.split_last_mut() else {
        return Ok(());
    };
    let mut into = [
        IoSliceMut::new(most),
        IoSliceMut::new(std::slice::from_mut(last)),
    ];
    retry_on_intr(|| rustix::io::readv(pipe, &mut into))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{CWD, Mode, OFlags};

    use super::*;

    /// A FIFO as services have them, open for both.
    fn fifo(dir: &tempfile::TempDir) -> OwnedFd {
        let path = dir.path().join("0.out");
        rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).unwrap()
    }

    fn waiting(pipe: &OwnedFd) -> u64 {
        rustix::io::ioctl_fionread(pipe).unwrap()
    }

    #[test]
    fn what_is_seen_stays_until_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, scratch) = (fifo(&dir), Scratch::new(65536).unwrap());
        let mut buffer = [0; 100];
        let nothing = scratch.peek(pipe.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        rustix::io::write(&pipe, b"one\ntw").unwrap();
        for _ in 0..2 {
            let seen = scratch.peek(pipe.as_fd(), &mut buffer).unwrap();
            assert_eq!((seen.count, seen.is_cut), (6, false));
            assert_eq!(&buffer[..6], b"one\ntw");
            assert_eq!(waiting(&pipe), 6);
        }
        let mut last = 0;
        consume(pipe.as_fd(), &mut buffer[..4], &mut last).unwrap();
        assert_eq!((&buffer[..4], last), (&b"one\n"[..], b'\n'));
        rustix::io::write(&pipe, b"o\n").unwrap();
        let seen = scratch.peek(pipe.as_fd(), &mut buffer[..3]).unwrap();
        assert_eq!((seen.count, seen.is_cut), (3, true));
        assert_eq!(&buffer[..3], b"two");
        consume(pipe.as_fd(), &mut [0], &mut last).unwrap();
        assert_eq!((last, waiting(&pipe)), (b't', 3));
    }

    #[test]
    fn a_small_scratch_sees_less_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, scratch) = (fifo(&dir), Scratch::new(1).unwrap());
        let small = rustix::pipe::fcntl_setpipe_size(&scratch.writer, 4096).unwrap();
        let page = [b'x'; 4096];
        for _ in 0..4 {
            rustix::io::write(&pipe, &page).unwrap();
        }
        let mut buffer = [0; 65536];
        let seen = scratch.peek(pipe.as_fd(), &mut buffer).unwrap();
        assert_eq!((seen.count, seen.is_cut), (small, true));
    }

    #[test]
    fn a_small_pipe_is_full_when_its_pages_are_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = fifo(&dir);
        let size = rustix::pipe::fcntl_setpipe_size(&pipe, 8192).unwrap();
        assert_eq!(size, 8192);
        rustix::io::write(&pipe, b"x").unwrap();
        assert!(!is_full(pipe.as_fd()));
        // It begins a page of its own, since it does not fit behind the other one.
        rustix::io::write(&pipe, &[b'y'; 4096]).unwrap();
        assert!(is_full(pipe.as_fd()));
        consume(pipe.as_fd(), &mut [0], &mut 0).unwrap();
        assert!(!is_full(pipe.as_fd()));
    }

    #[test]
    fn what_is_no_pipe_is_refused() {
        let scratch = Scratch::new(1).unwrap();
        let file = tempfile::tempfile().unwrap();
        rustix::io::write(&file, b"one\n").unwrap();
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
        let refused = scratch.peek(file.as_fd(), &mut [0; 10]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}
