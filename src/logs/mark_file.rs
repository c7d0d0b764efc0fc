//! The mark of the chunk that is being stored, in a file that outlives the daemon.
//!
//! The file is mapped: what is stored in it is there as soon as it is stored, however the process
//! ends, and costs no system call. It holds two marks. One is that of the thread that captures, the
//! other may be what the daemon before was killed over, until its stream is opened again and it is
//! finished. Only the thread that captures has one of these, and handles one chunk at a time.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use rustix::mm::{MapFlags, ProtFlags, mmap};

use super::files::Stream;
use super::mark::{self, Chunk, Mark, Place};
use crate::ids::PmId;

/// Its name in the folder of the FIFOs.
const NAME: &str = "capture.mark";
/// Bytes of the file: one page.
const SIZE: usize = 4096;
/// Bytes of each of the marks.
const SLOT: usize = SIZE / 2;
/// Where in them the byte is that taking a chunk from its pipe leaves.
const TRACE: usize = mark::WORDS * size_of::<u64>();

/// The file, open.
pub struct MarkFile {
    slots: [Slot; 2],
    /// The one that is written to.
    current: usize,
    number: u64,
    /// What the other one holds.
    found: Option<Mark>,
}

struct Slot {
    words: &'static [AtomicU64],
    trace: &'static mut u8,
}

impl MarkFile {
    /// Opens it in the folder of the FIFOs, or makes it. What is no mark is left out.
    ///
    /// # Errors
    /// When it can't be made, read or mapped.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(run_dir.join(NAME))?;
        let mut left = Vec::new();
        (&file).read_to_end(&mut left)?;
        if left.len() != SIZE {
            left = vec![0; SIZE];
            // Written, and not only made so long: were there no room on the disk when its memory is
            // touched, the daemon would end.
            file.set_len(0)?;
            file.write_all_at(&left, 0)?;
        }
        let (first, second) = left.split_at(SLOT);
        let (current, found) = match (read(first), read(second)) {
            (None, found) => (0, found),
            (Some(found), None) => (1, Some(found)),
            // Two daemons were killed, and what the first one left was never asked for.
            (Some(first), Some(second)) if first.number < second.number => (0, Some(second)),
            (Some(first), Some(_)) => (1, Some(first)),
        };
        let mut marks = Self {
            slots: map(&file)?,
            current,
            number: found.map_or(0, |mark| mark.number),
            found,
        };
        marks.clear();
        Ok(marks)
    }

    /// What the daemon before has left unfinished of this stream, once. It is the present mark until
    /// it is cleared.
    pub fn found(&mut self, id: PmId, stream: Stream) -> Option<Mark> {
        let is_it = |mark: &mut Mark| (mark.chunk.id, mark.chunk.stream) == (id, stream);
        let found = self.found.take_if(is_it)?;
        self.current = 1 - self.current;
        Some(found)
    }

    /// Something is unfinished, and was not asked for yet.
    pub fn has_found(&self) -> bool {
        self.found.is_some()
    }

    /// This chunk is about to be stored.
    pub fn begin(&mut self, chunk: &Chunk) {
        self.number = self.number.wrapping_add(1);
        let slot = &mut self.slots[self.current];
        store(slot.words, mark::NUMBER, &[self.number]);
        store(slot.words, mark::CHUNK, &chunk.words());
        for file in 0..mark::FILES {
            store(slot.words, mark::selector_at(file), &[0]);
        }
        *slot.trace = !chunk.last;
        set(slot.words, mark::SET, mark::VALID);
    }

    /// It has come so far in the first or second of its files.
    pub fn note(&mut self, file: usize, place: &Place) {
        if file >= mark::FILES {
            return;
        }
        let words = self.slots[self.current].words;
        let selector = mark::selector_at(file);
        let copy = match words[selector].load(Ordering::Relaxed) {
            1 => 2,
            _ => 1,
        };
        store(words, mark::place_at(file, copy), &place.words());
        set(words, selector, copy);
    }

    /// Where the last byte of the chunk is to be read to when it is taken from its pipe: from then on
    /// the mark says that it was.
    pub fn trace(&mut self) -> &mut u8 {
        self.slots[self.current].trace
    }

    /// The chunk is stored and taken.
    pub fn clear(&mut self) {
        set(self.slots[self.current].words, mark::SET, 0);
    }
}

fn store(words: &[AtomicU64], at: usize, values: &[u64]) {
    for (word, value) in words[at..].iter().zip(values) {
        word.store(*value, Ordering::Relaxed);
    }
}

/// Stores a word that tells of others: after them, and before what follows. Nobody else reads them
/// while this process lives, so what counts is the order within this thread.
fn set(words: &[AtomicU64], at: usize, value: u64) {
    compiler_fence(Ordering::SeqCst);
    words[at].store(value, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
}

fn read(slot: &[u8]) -> Option<Mark> {
    let (words, _) = slot.as_chunks::<8>();
    let word = |at: usize| words.get(at).map_or(0, |word| u64::from_ne_bytes(*word));
    Mark::read(&std::array::from_fn(word), *slot.get(TRACE)?)
}

/// Maps the file for as long as the program runs, as does the thread that captures.
fn map(file: &File) -> io::Result<[Slot; 2]> {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    #[expect(unsafe_code, reason = "a file is mapped by address")]
    // SAFETY: the new mapping has SIZE bytes, which the file has, and is never unmapped. Both slots
    // lie in it, apart from each other, at multiples of eight; in each the words and the trace lie
    // apart. No other reference to them is made. A second mapping of the file, by a daemon that has
    // taken over, is not of this process: a lock on the home keeps two from living at a time.
    let slots = unsafe {
        let page = mmap(
            std::ptr::null_mut(),
            SIZE,
            rights,
            MapFlags::SHARED,
            file,
            0,
        )?;
        [0, SLOT].map(|at| {
            let start = page.cast::<u8>().add(at);
            Slot {
                words: std::slice::from_raw_parts(start.cast::<AtomicU64>(), mark::WORDS),
                trace: &mut *start.add(TRACE),
            }
        })
    };
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Timestamp;

    fn chunk(id: u32) -> Chunk {
        Chunk {
            id: PmId(id),
            stream: Stream::Out,
            bytes: 4,
            hash: mark::hash(b"one\n"),
            last: b'\n',
            at: Timestamp::from_millis(1),
            between_lines: true,
        }
    }

    #[test]
    fn a_mark_is_found_by_the_next_one_that_opens_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut marks = MarkFile::open(dir.path()).unwrap();
        marks.begin(&chunk(1));
        marks.clear();
        assert_eq!(MarkFile::open(dir.path()).unwrap().found, None);
        marks.begin(&chunk(2));
        let place = Place {
            device: 1,
            inode: 2,
            length: 3,
            done: 4,
        };
        marks.note(0, &place.behind(1));
        marks.note(0, &place);
        marks.note(mark::FILES, &place);
        let mut next = MarkFile::open(dir.path()).unwrap();
        assert_eq!(next.found(PmId(1), Stream::Out), None);
        assert_eq!(next.found(PmId(2), Stream::Error), None);
        let found = next.found(PmId(2), Stream::Out).unwrap();
        assert_eq!(found.places, [Some(place), None]);
        assert_eq!((found.chunk, found.is_consumed), (chunk(2), false));
        *next.trace() = b'\n';
        let mut third = MarkFile::open(dir.path()).unwrap();
        assert!(third.found(PmId(2), Stream::Out).unwrap().is_consumed);
        third.clear();
        assert_eq!(MarkFile::open(dir.path()).unwrap().found, None);
    }

    #[test]
    fn what_was_found_stays_while_others_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        MarkFile::open(dir.path()).unwrap().begin(&chunk(1));
        let mut second = MarkFile::open(dir.path()).unwrap();
        second.begin(&chunk(2));
        second.clear();
        let mut third = MarkFile::open(dir.path()).unwrap();
        assert!(third.has_found());
        assert!(third.found(PmId(1), Stream::Out).is_some());
        assert!(!third.has_found());
        // It is not asked for, and one more is left: the later one counts.
        let mut fourth = MarkFile::open(dir.path()).unwrap();
        fourth.begin(&chunk(2));
        let mut fifth = MarkFile::open(dir.path()).unwrap();
        assert_eq!(fifth.found(PmId(1), Stream::Out), None);
        assert!(fifth.found(PmId(2), Stream::Out).is_some());
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [&b""[..], b"short", &[0xff; SIZE], &[0xff; SIZE + 1]] {
            std::fs::write(dir.path().join(NAME), damaged).unwrap();
            let mut marks = MarkFile::open(dir.path()).unwrap();
            assert_eq!(marks.found, None);
            marks.begin(&chunk(1));
            let found = MarkFile::open(dir.path())
                .unwrap()
                .found(PmId(1), Stream::Out);
            assert!(found.is_some());
        }
    }
}
