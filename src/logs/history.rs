//! The last lines of a log file, read from its end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How much of a file is looked at, at most. A log of longer lines shows fewer of them.
pub const LOOK_BACK_MAX: u64 = 8 * 1024 * 1024;
/// How much is read at a time.
const BLOCK: u64 = 64 * 1024;

/// The last `count` lines, without their line ends, bytes as they are. A file that is not there
/// has none.
///
/// # Errors
/// When the file is there and can't be read.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<Vec<u8>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let end = file.metadata()?.len();
    let mut start = end;
    let mut tail = Vec::new();
    // One line end more than lines: the last line has one, too.
    while start > 0 && newlines(&tail) <= count && end - start < LOOK_BACK_MAX {
        let size = BLOCK.min(start);
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + tail.len());
        (&mut file).take(size).read_to_end(&mut block)?;
        block.append(&mut tail);
        tail = block;
    }
    let mut lines: Vec<&[u8]> = super::lines::split(&tail).collect();
    if tail.is_empty() {
        lines.clear();
    } else if start > 0 && lines.len() > 1 {
        // The first one is cut.
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(count);
    Ok(lines[skip..].iter().map(|line| line.to_vec()).collect())
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
    fn a_file_that_is_not_there_has_no_lines() {
        assert!(
            last_lines(Path::new("/nowhere/x.log"), 5)
                .unwrap()
                .is_empty()
        );
    }
}
