//! What is written down of a chunk of output before it is stored (pure).
//!
//! A chunk stays in its pipe until it stands in its log files, and a daemon may be killed at any
//! moment in between. The mark names the chunk and how far each file has come, so that the next
//! daemon finishes it: it writes what is left to write and then takes the chunk from the pipe.
//! Nothing has to be remembered for longer than one chunk, since one thread handles one at a time.
//!
//! The mark is made of words, which `mark_file.rs` keeps; here is what they mean, and what follows.

use super::files::Stream;
use crate::ids::{PmId, Timestamp};

/// The largest chunk, in bytes: the usual size of a pipe.
pub const CHUNK_MAX: usize = 64 * 1024;
/// Files that a stream is stored in at most: its own, and the one of both streams.
pub const FILES: usize = 2;
/// Words of a mark.
pub const WORDS: usize = 32;
/// The word that says whether the others count.
pub const SET: usize = 0;
/// What it holds then. Another layout gets another number.
pub const VALID: u64 = u64::from_be_bytes(*b"mcpmark1");
/// The word that tells which of two marks is the later one.
pub const NUMBER: usize = 1;
/// The first word of [`Chunk::words`].
pub const CHUNK: usize = 2;

/// Words of a chunk.
const CHUNK_WORDS: usize = 6;
/// Words of a place.
const PLACE_WORDS: usize = 4;
/// Bytes of a chunk that are hashed. Whether it was taken is told by the trace that taking leaves;
/// the hash tells only that the pipe was not emptied otherwise, by the end of all who held it.
const HASHED_MAX: usize = 4096;

/// Bytes at the beginning of a pipe that are about to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whose pipe.
    pub id: PmId,
    /// Which of its pipes.
    pub stream: Stream,
    /// How many bytes, from 1 to [`CHUNK_MAX`].
    pub bytes: usize,
    /// Of them, by [`hash`].
    pub hash: u64,
    /// The last one.
    pub last: u8,
    /// The time that is added to its lines.
    pub at: Timestamp,
    /// It begins with a line, and not within one.
    pub between_lines: bool,
}

/// How far a piece has come in one log file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Device of the file that the next byte goes to.
    pub device: u64,
    /// Its number there; no file has 0.
    pub inode: u64,
    /// Its length before that byte.
    pub length: u64,
    /// So many bytes of the piece are behind it, in this file or in one that was put aside.
    pub done: usize,
}

/// What a daemon that died was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Later marks have greater ones.
    pub number: u64,
    /// What it was storing.
    pub chunk: Chunk,
    /// How far each file had come; `None` when nothing was written to it.
    pub places: [Option<Place>; FILES],
    /// The chunk is no longer in its pipe.
    pub is_consumed: bool,
}

impl Chunk {
    /// As words of a mark, from [`CHUNK`] on.
    pub fn words(&self) -> [u64; CHUNK_WORDS] {
        let stream = match self.stream {
            Stream::Out => 0,
            Stream::Error => 1,
        };
        [
            u64::from(self.id.0),
            stream,
            word(self.bytes),
            self.hash,
            self.at.as_millis().cast_unsigned(),
            (u64::from(self.last) << 8) | u64::from(self.between_lines),
        ]
    }

    fn read([id, stream, bytes, hash, at, rest]: [u64; CHUNK_WORDS]) -> Option<Self> {
        Some(Self {
            id: PmId(u32::try_from(id).ok()?),
            stream: match stream {
                0 => Stream::Out,
                1 => Stream::Error,
                _ => return None,
            },
            bytes: usize::try_from(bytes)
                .ok()
                .filter(|bytes| (1..=CHUNK_MAX).contains(bytes))?,
            hash,
            last: u8::try_from(rest >> 8).ok()?,
            at: Timestamp::from_millis(at.cast_signed()),
            between_lines: rest & 1 == 1,
        })
    }
}

impl Place {
    /// The piece is not written any further: so much of it counts as done, in no file.
    pub fn given_up(done: usize) -> Self {
        Self {
            done,
            ..Self::default()
        }
    }

    /// The same place when so many more bytes of the piece are behind it.
    pub fn behind(self, more: usize) -> Self {
        Self {
            done: self.done.saturating_add(more),
            ..self
        }
    }

    /// The place after so many bytes were written to the file.
    pub fn after(self, bytes: usize) -> Self {
        Self {
            length: self.length.saturating_add(word(bytes)),
            ..self.behind(bytes)
        }
    }

    /// As words of a mark, from [`place_at`] on.
    pub fn words(&self) -> [u64; PLACE_WORDS] {
        [self.device, self.inode, self.length, word(self.done)]
    }

    fn read([device, inode, length, done]: [u64; PLACE_WORDS]) -> Self {
        Self {
            device,
            inode,
            length,
            done: usize::try_from(done).unwrap_or(usize::MAX),
        }
    }
}

impl Mark {
    /// Reads the words, and the byte that is the chunk's last one as soon as it was taken from the
    /// pipe. `None` when they are no mark, or none is set.
    pub fn read(words: &[u64; WORDS], trace: u8) -> Option<Self> {
        if words[SET] != VALID {
            return None;
        }
        let chunk = Chunk::read(words[CHUNK..].first_chunk().copied()?)?;
        let place = |file| {
            let copy = words[selector_at(file)];
            let at = (copy == 1 || copy == 2).then(|| place_at(file, copy))?;
            words[at..].first_chunk().copied().map(Place::read)
        };
        Some(Self {
            number: words[NUMBER],
            chunk,
            places: std::array::from_fn(place),
            is_consumed: trace == chunk.last,
        })
    }

    /// The chunk is still the first in its pipe, in which this waits.
    pub fn waits_in(&self, waiting: &[u8]) -> bool {
        let first = waiting.get(..self.chunk.bytes);
        !self.is_consumed && first.is_some_and(|first| hash(first) == self.chunk.hash)
    }
}

/// The word that says which copy of a file's place counts: 1, 2, or 0 for none. There are two, since
/// a place is written in several steps.
pub fn selector_at(file: usize) -> usize {
    CHUNK + CHUNK_WORDS + file * (1 + 2 * PLACE_WORDS)
}

/// The first word of such a copy.
pub fn place_at(file: usize, copy: u64) -> usize {
    let second = if copy == 2 { PLACE_WORDS } else { 0 };
    selector_at(file) + 1 + second
}

/// How many bytes of a piece its file has got. `found` is what stands in the file behind the place;
/// `None` when the path names another file by now, or one that can't be read. What others have
/// written there, or cut off, does not count as ours.
pub fn written(piece: &[u8], place: Option<&Place>, found: Option<&[u8]>) -> usize {
    let done = place.map_or(0, |place| place.done.min(piece.len()));
    let same = |found: &[u8]| {
        let pairs = piece[done..].iter().zip(found);
        pairs.take_while(|(wanted, found)| wanted == found).count()
    };
    done + found.map_or(0, same)
}

/// Of the beginning of a chunk. Fast, and the same in every build: another one may read it.
pub fn hash(chunk: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = chunk[..chunk.len().min(HASHED_MAX)].as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().map(|byte| u64::from(*byte));
    words.chain(rest).fold(word(chunk.len()), step)
}

fn word(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk {
            id: PmId(7),
            stream: Stream::Error,
            bytes: bytes.len(),
            hash: hash(bytes),
            last: *bytes.last().unwrap(),
            at: Timestamp::from_millis(-5),
            between_lines: true,
        }
    }

    fn place(length: u64, done: usize) -> Place {
        Place {
            device: 1,
            inode: 2,
            length,
            done,
        }
    }

    /// As `mark_file.rs` puts them.
    fn words(chunk: &Chunk) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        words[SET] = VALID;
        words[NUMBER] = 3;
        words[CHUNK..CHUNK + CHUNK_WORDS].copy_from_slice(&chunk.words());
        words
    }

    #[test]
    fn a_mark_comes_back_and_the_copy_that_counts_with_it() {
        let chunk = chunk(b"one\n");
        let mut words = words(&chunk);
        let mark = Mark::read(&words, b'?').unwrap();
        assert_eq!((mark.number, mark.chunk), (3, chunk));
        assert_eq!((mark.places, mark.is_consumed), ([None, None], false));
        assert!(Mark::read(&words, b'\n').unwrap().is_consumed);
        for (copy, place) in [(1, place(10, 0)), (2, place(14, 4))] {
            let at = place_at(1, copy);
            words[at..at + PLACE_WORDS].copy_from_slice(&place.words());
            words[selector_at(1)] = copy;
            let mark = Mark::read(&words, 0).unwrap();
            assert_eq!(mark.places, [None, Some(place)]);
        }
        assert!(place_at(FILES - 1, 2) + PLACE_WORDS <= WORDS);
    }

    #[test]
    fn what_is_no_mark_is_none() {
        let good = words(&chunk(b"one\n"));
        for (word, value) in [
            (SET, 0),
            (SET, VALID + 1),
            (CHUNK, u64::MAX),
            (CHUNK + 1, 2),
            (CHUNK + 2, 0),
            (CHUNK + 2, word(CHUNK_MAX) + 1),
            (CHUNK + 5, u64::MAX),
        ] {
            let mut damaged = good;
            damaged[word] = value;
            assert_eq!(Mark::read(&damaged, 0), None, "{word} {value}");
        }
        let mut damaged = good;
        damaged[selector_at(0)] = 9;
        assert_eq!(Mark::read(&damaged, 0).unwrap().places, [None, None]);
    }

    #[test]
    fn a_chunk_is_first_in_its_pipe_until_it_was_taken() {
        let bytes = b"tick\n";
        let mark = Mark::read(&words(&chunk(bytes)), b'?').unwrap();
        for (waiting, expected) in [
            (&b"tick\n"[..], true),
            (b"tick\ntock\n", true),
            (b"tock\ntick\n", false),
            (b"tick", false),
            (b"", false),
        ] {
            assert_eq!(mark.waits_in(waiting), expected, "{waiting:?}");
        }
        // The same words may follow; those that were marked are gone.
        let taken = Mark::read(&words(&chunk(bytes)), b'\n').unwrap();
        assert!(!taken.waits_in(b"tick\n"));
    }

    #[test]
    fn what_is_left_to_write() {
        let piece = b"one\ntwo\n";
        for (what, place, found, left) in [
            ("not begun", None, None, &b"one\ntwo\n"[..]),
            (
                "nothing written",
                Some(place(5, 0)),
                Some(&b""[..]),
                b"one\ntwo\n",
            ),
            ("half written", Some(place(5, 0)), Some(b"one\nt"), b"wo\n"),
            ("all written", Some(place(5, 0)), Some(b"one\ntwo\n"), b""),
            (
                "others have written since",
                Some(place(5, 0)),
                Some(b"one\nthree\n"),
                b"wo\n",
            ),
            (
                "put aside, and the next file is empty",
                Some(place(0, 4)),
                Some(b""),
                b"two\n",
            ),
            (
                "put aside, and the next file has some",
                Some(place(0, 4)),
                Some(b"tw"),
                b"o\n",
            ),
            (
                "put aside, and the next file is not known",
                Some(place(9, 4)),
                None,
                b"two\n",
            ),
            (
                "put aside by others",
                Some(place(5, 0)),
                None,
                b"one\ntwo\n",
            ),
            ("given up", Some(Place::given_up(8)), None, b""),
            ("damaged", Some(place(0, 99)), None, b""),
        ] {
            let done = written(piece, place.as_ref(), found);
            let is_left = &piece[done..];
            assert_eq!(
                is_left.escape_ascii().to_string(),
                left.escape_ascii().to_string(),
                "{what}"
            );
        }
    }

    #[test]
    fn places_move_with_what_is_written() {
        assert_eq!(place(10, 2).after(3), place(13, 5));
        assert_eq!(place(10, 2).behind(3), place(10, 5));
    }

    #[test]
    fn a_hash_tells_lengths_and_orders_apart() {
        let hashes = [&b"ab\n"[..], b"ba\n", b"ab\nab\n", b"12345678", b"87654321"].map(hash);
        for (index, one) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(one), "{index}");
        }
        // What an earlier build has written down.
        assert_eq!(hash(b""), 0);
    }
}
