//! The last lines of a log: of its file, and of those that were put aside before it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use flate2::read::GzDecoder;

use super::aside;
use super::rotate::{Form, Mark};

/// How much of a file is looked at, at most. A log of longer lines shows fewer of them.
pub const LOOK_BACK_MAX: u64 = 8 * 1024 * 1024;
/// How much is read at a time.
const BLOCK: u64 = 64 * 1024;
/// A compressed file that holds more is not looked into: it can only be read from its beginning.
const UNPACKED_MAX: u64 = 256 * 1024 * 1024;
/// How often reading begins again because the file was put aside meanwhile.
const TRIES: usize = 3;

/// The last `count` lines, without their line ends, bytes as they are. A file that is not there
/// has none. What was put aside counts as if it stood before the file.
///
/// # Errors
/// When the file is there and can't be read.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = of_file(path, count)?;
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..TRIES {
        if lines.len() >= count {
            break;
        }
        let before = newest_first(&real);
        lines = of_file(path, count)?;
        for (mark, form) in &before {
            if lines.len() >= count {
                break;
            }
            let missing = count - lines.len();
            // One that is just being compressed or deleted is not there any more, or elsewhere.
            let mut older = of_aside(&real, mark, *form, missing).unwrap_or_default();
            older.append(&mut lines);
            lines = older;
        }
        let newest = |found: &[(Mark, Form)]| found.first().map(|(mark, _)| mark.clone());
        if newest(&before) == newest(&newest_first(&real)) {
            break;
        }
    }
    Ok(lines)
}

/// The last `count` lines of a part of a file, without their line ends. Not more than 64 KiB of it
/// are looked at, and what was put aside is not.
///
/// # Errors
/// When the file is there and can't be read.
pub fn last_of_part(path: &Path, part: Range<u64>, count: usize) -> io::Result<Vec<Vec<u8>>> {
    of_part(path, part, count, BLOCK)
}

/// What was put aside and is whole, each once.
fn newest_first(log: &Path) -> Vec<(Mark, Form)> {
    let mut found = aside::found(log).unwrap_or_default();
    found.retain(|(_, form)| *form != Form::Unfinished);
    found.sort();
    found.dedup_by(|later, kept| later.0 == kept.0);
    found.reverse();
    found
}

fn of_aside(log: &Path, mark: &Mark, form: Form, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let packed = || of_packed(&aside::path(log, mark, Form::Compressed), count);
    if form == Form::Compressed {
        return packed();
    }
    let plain = aside::path(log, mark, Form::Plain);
    let lines = of_file(&plain, count)?;
    if lines.is_empty() && !plain.exists() {
        return packed();
    }
    Ok(lines)
}

fn of_packed(path: &Path, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut from = GzDecoder::new(File::open(path)?).take(UNPACKED_MAX);
    let mut tail = Vec::new();
    let mut is_cut = false;
    let most = usize::try_from(LOOK_BACK_MAX).unwrap_or(usize::MAX);
    while (&mut from).take(BLOCK).read_to_end(&mut tail)? > 0 {
        if tail.len() > 2 * most {
            is_cut = true;
            tail.drain(..tail.len() - most);
        }
    }
    if from.limit() == 0 {
        return Ok(Vec::new());
    }
    Ok(last_of(&tail, is_cut, count))
}

fn of_file(path: &Path, count: usize) -> io::Result<Vec<Vec<u8>>> {
    of_part(path, 0..u64::MAX, count, LOOK_BACK_MAX)
}

fn of_part(path: &Path, part: Range<u64>, count: usize, most: u64) -> io::Result<Vec<Vec<u8>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let end = part.end.min(file.metadata()?.len());
    let begin = part.start.min(end);
    let mut start = end;
    let mut tail = Vec::new();
    // One line end more than lines: the last line has one, too.
    while start > begin && newlines(&tail) <= count && end - start < most {
        let size = BLOCK.min(start - begin);
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + tail.len());
        (&mut file).take(size).read_to_end(&mut block)?;
        block.append(&mut tail);
        tail = block;
    }
    Ok(last_of(&tail, start > begin, count))
}

/// The last lines of a text whose first line may be cut.
fn last_of(tail: &[u8], is_cut: bool, count: usize) -> Vec<Vec<u8>> {
    if tail.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<&[u8]> = super::lines::split(tail).collect();
    if is_cut && lines.len() > 1 {
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(count);
    lines[skip..].iter().map(|line| line.to_vec()).collect()
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&b| b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &[u8], count: usize, expected: &[&[u8]]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, content).unwrap();
        assert_eq!(last_lines(&path, count).unwrap(), expected);
    }

    #[test]
    fn shows_the_last_lines_and_no_more() {
        check(b"a\nb\nc\n", 2, &[b"b", b"c"]);
        check(b"a\nb\nc", 2, &[b"b", b"c"]);
        check(b"a\n", 15, &[b"a"]);
        check(b"", 15, &[]);
        check(b"\n\n", 15, &[b"", b""]);
        check(b"a\xff\n", 1, &[b"a\xff"]);
        check(b"a\n", 0, &[]);
    }

    #[test]
    fn reads_across_blocks() {
        let mut content = Vec::new();
        for n in 0..20_000 {
            content.extend_from_slice(format!("line {n}\n").as_bytes());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, &content).unwrap();
        let lines = last_lines(&path, 15_000).unwrap();
        assert_eq!(lines.len(), 15_000);
        assert_eq!(lines[0], b"line 5000");
        assert_eq!(lines[14_999], b"line 19999");
    }

    #[test]
    fn a_part_of_a_file_has_its_own_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, "one\ntwo\nthree\nfour\n").unwrap();
        let last = |part, count| last_of_part(&path, part, count).unwrap().concat();
        assert_eq!(last(4..14, 5), b"twothree");
        assert_eq!(last(4..14, 1), b"three");
        assert_eq!(last(14..14, 5), b"");
        // Somebody has emptied it meanwhile.
        assert_eq!(last(100..200, 5), b"");
        let long = "x".repeat(2 * usize::try_from(BLOCK).unwrap());
        std::fs::write(&path, format!("{long}\nend\n")).unwrap();
        let whole = 0..u64::MAX;
        assert_eq!(last_of_part(&path, whole, 5).unwrap(), [b"end"]);
    }

    #[test]
    fn what_was_put_aside_stands_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let first = Mark::next(None, "2026-11-25_14-03-59");
        let second = Mark::next(Some(&first), "2026-11-25_14-03-59");
        let packed = File::create(aside::path(&log, &first, Form::Compressed)).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, b"1\n2\n3\n").unwrap();
        packed.finish().unwrap();
        std::fs::write(aside::path(&log, &second, Form::Plain), "4\n").unwrap();
        std::fs::write(aside::path(&log, &second, Form::Unfinished), "?").unwrap();
        std::fs::write(&log, "5\n").unwrap();
        let last = |count| last_lines(&log, count).unwrap().concat();
        assert_eq!(last(1), b"5");
        assert_eq!(last(4), b"2345");
        assert_eq!(last(9), b"12345");
    }

    #[test]
    fn a_file_that_is_not_there_has_no_lines() {
        assert!(
            last_lines(Path::new("/nowhere/x.log"), 5)
                .unwrap()
                .is_empty()
        );
    }
}
