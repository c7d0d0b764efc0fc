//! Bytes as they arrive → whole lines (pure).
//!
//! Bytes are kept as they are, valid UTF-8 or not. The beginning of a line is held back until the
//! line ends, so that two processes that write one file do not cut each other's lines; a line that
//! grows too long, or waits too long (the caller's clock), is let go in parts. It is held back in
//! its pipe as long as there is room (`reader.rs`), and then in a [`Partial`].

/// Longest part of a line that is held back, in bytes.
pub const PARTIAL_MAX: usize = 64 * 1024;

/// The beginning of a line whose end has not arrived.
#[derive(Debug, Default)]
pub struct Partial(Vec<u8>);

impl Partial {
    /// Takes a chunk; what `ready` gets are whole lines with their line ends, in one or two pieces,
    /// or an overlong beginning.
    pub fn feed(&mut self, chunk: &[u8], mut ready: impl FnMut(&[u8])) {
        let Some(end) = chunk.iter().rposition(|&b| b == b'\n') else {
            self.hold(chunk, ready);
            return;
        };
        let (mut whole, rest) = chunk.split_at(end + 1);
        if !self.0.is_empty() {
            // Only the line that was cut is copied, not all that came with its end.
            let first = whole.iter().position(|&b| b == b'\n').unwrap_or(end);
            let (line, others) = whole.split_at(first + 1);
            self.0.extend_from_slice(line);
            ready(&self.0);
            self.0 = Vec::new();
            whole = others;
        }
        if !whole.is_empty() {
            ready(whole);
        }
        self.hold(rest, ready);
    }

    /// Lets go of what is held: the line will not end soon, or not at all.
    pub fn finish(&mut self, mut ready: impl FnMut(&[u8])) {
        if !self.0.is_empty() {
            ready(&self.0);
            self.0 = Vec::new();
        }
    }

    /// Nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn hold(&mut self, rest: &[u8], mut ready: impl FnMut(&[u8])) {
        self.0.extend_from_slice(rest);
        if self.0.len() > PARTIAL_MAX {
            ready(&self.0);
            self.0 = Vec::new();
        }
    }
}

/// How many of these bytes are whole lines: those up to the last line end, and with it.
pub fn whole(bytes: &[u8]) -> usize {
    memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

/// How many of these bytes are the first line, with its line end; 0 when it has none.
pub fn first(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(0, |at| at + 1)
}

/// The lines of a piece, without their line ends (`\n` or `\r\n`).
pub fn split(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
    piece
        .split(|&b| b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut partial = Partial::default();
        let mut out = Vec::new();
        for chunk in chunks {
            partial.feed(chunk, |piece| out.push(piece.to_vec()));
        }
        partial.finish(|piece| out.push(piece.to_vec()));
        out
    }

    #[test]
    fn a_cut_line_comes_out_whole() {
        assert_eq!(
            pieces(&[b"ab", b"c\nd", b"e\n"]),
            [b"abc\n".to_vec(), b"de\n".to_vec()]
        );
    }

    #[test]
    fn an_overlong_line_is_let_go() {
        let long = vec![b'x'; PARTIAL_MAX + 1];
        assert_eq!(pieces(&[&long]).len(), 1);
    }

    #[test]
    fn whole_lines_end_with_the_last_line_end() {
        for (bytes, of_first, of_whole) in [
            (&b""[..], 0, 0),
            (b"no end", 0, 0),
            (b"one\n", 4, 4),
            (b"one\ntwo\nthr", 4, 8),
        ] {
            assert_eq!((first(bytes), whole(bytes)), (of_first, of_whole));
        }
    }

    #[test]
    fn lines_lose_their_ends_only() {
        let lines: Vec<_> = split(b"a\r\n\nb\xff\n").collect();
        assert_eq!(lines, [&b"a"[..], b"", b"b\xff"]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..40),
        ) {
            let refs: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let out = pieces(&refs);
            prop_assert_eq!(out.concat(), chunks.concat());
            let whole = out.len().saturating_sub(1);
            prop_assert!(out[..whole].iter().all(|piece| piece.ends_with(b"\n")));
        }
    }
}
