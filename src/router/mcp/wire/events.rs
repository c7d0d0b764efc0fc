//! Server-sent events (HTML §9.2), cut from a stream that may be cut anywhere, and written again. Pure.
//!
//! An event that is not changed stays as it is, byte for byte; one that is changed keeps its other lines
//! and its line ends.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// Largest event: a tool may answer with a picture.
pub const EVENT_MAX: usize = 16 * 1024 * 1024;

/// An event is longer than [`EVENT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than 16 MiB")]
pub struct Overlong;

/// Cuts a stream into events.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// So far no event ends, and the line begins there.
    looked: usize,
    line: usize,
    /// The last event has ended with CR: a LF that follows belongs to it.
    after_return: bool,
    /// Something has come.
    has_begun: bool,
    /// The next event is the first one, and this many bytes of it are the mark of the stream.
    mark: usize,
}

/// May stand before a stream, and nowhere else.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// One event, or comments that stand between events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    raw: Bytes,
    /// Bytes before its first line.
    mark: usize,
}

impl Reader {
    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        let may_be_mark = self.buffer.len() < MARK.len() && MARK.starts_with(&self.buffer);
        if !self.has_begun && !may_be_mark {
            self.has_begun = true;
            if self.buffer.starts_with(MARK) {
                self.mark = MARK.len();
                (self.looked, self.line) = (self.mark, self.mark);
            }
        }
    }

    /// The next event that is whole.
    pub fn event(&mut self) -> Option<Result<Event, Overlong>> {
        if self.after_return && self.looked == 0 && !self.buffer.is_empty() {
            self.after_return = false;
            if self.buffer[0] == b'\n' {
                (self.looked, self.line) = (1, 1);
            }
        }
        loop {
            let Some(end) = memchr2(b'\r', b'\n', &self.buffer[self.looked..]) else {
                self.looked = self.buffer.len();
                let is_overlong = self.looked > EVENT_MAX;
                return is_overlong.then_some(Err(Overlong));
            };
            let at = self.looked + end;
            let is_return = self.buffer[at] == b'\r';
            let is_pair = is_return && self.buffer.get(at + 1) == Some(&b'\n');
            let behind = at + 1 + usize::from(is_pair);
            let is_last = behind == self.buffer.len();
            if at == self.line {
                let raw = self.buffer.split_to(behind).freeze();
                let mark = std::mem::take(&mut self.mark);
                (self.looked, self.line) = (0, 0);
                self.after_return = is_return && !is_pair && is_last;
                return Some(Ok(Event { raw, mark }));
            }
            if is_return && !is_pair && is_last {
                // The line may end with two bytes.
                self.looked = at;
                return None;
            }
            (self.looked, self.line) = (behind, behind);
        }
    }

    /// Does nothing wait for its end?
    pub fn is_between(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What has no end.
    pub fn rest(&mut self) -> Bytes {
        (self.looked, self.line, self.mark) = (0, 0, 0);
        self.after_return = false;
        self.buffer.split().freeze()
    }
}

impl Event {
    /// As it came.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Its name.
    pub fn name(&self) -> Option<&[u8]> {
        self.last("event")
    }

    /// Its id.
    pub fn id(&self) -> Option<&str> {
        let id = std::str::from_utf8(self.last("id")?).ok()?;
        // Clients pass over such a one.
        (!id.contains('\0')).then_some(id)
    }

    /// Its data; `None` when it has none.
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut whole: Option<Cow<'_, [u8]>> = None;
        for (name, value, _) in self.lines() {
            if name != b"data" {
                continue;
            }
            whole = Some(match whole {
                None => Cow::Borrowed(value),
                Some(before) => {
                    let mut joined = before.into_owned();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                    Cow::Owned(joined)
                }
            });
        }
        whole
    }

    /// The same with other data, another id, or both.
    pub fn with(&self, data: Option<&[u8]>, id: Option<&str>) -> Vec<u8> {
        let mut written = Vec::with_capacity(self.raw.len() + 64);
        written.extend_from_slice(&self.raw[..self.mark]);
        let mut data = data.map(|data| (data, true));
        for (name, value, line) in self.lines() {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let end = &line[text.len()..];
            let mut put = |name: &[u8], value: &[u8]| {
                for part in [name, b": ", value, end] {
                    written.extend_from_slice(part);
                }
            };
            match (name, &mut data, id) {
                (b"data", Some((data, is_first)), _) => {
                    if std::mem::take(is_first) {
                        for line in data.split(|&b| b == b'\n') {
                            put(b"data", line.strip_suffix(b"\r").unwrap_or(line));
                        }
                    }
                }
                (b"id", _, Some(id)) if !value.is_empty() => put(b"id", id.as_bytes()),
                _ => {
                    // Of lines that ended differently one is gone: both ends would be read as one.
                    if line.starts_with(b"\n") && written.ends_with(b"\r") {
                        written.push(b'\n');
                    }
                    written.extend_from_slice(line);
                }
            }
        }
        written
    }

    fn last(&self, field: &str) -> Option<&[u8]> {
        let lines = self.lines().filter(|(name, ..)| *name == field.as_bytes());
        lines.map(|(_, value, _)| value).last()
    }

    /// Name, value and all bytes of each line.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
        let mut rest: &[u8] = &self.raw[self.mark..];
        let mut is_first = true;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            // The second byte of the end of the event before.
            let is_late = std::mem::take(&mut is_first) && rest[0] == b'\n' && rest.len() > 1;
            let late = usize::from(is_late);
            let end = memchr2(b'\r', b'\n', &rest[late..]).map_or(rest.len(), |at| late + at);
            let is_pair = rest.get(end) == Some(&b'\r') && rest.get(end + 1) == Some(&b'\n');
            let behind = (end + 1 + usize::from(is_pair)).min(rest.len());
            let text = &rest[late..end];
            let (name, value) = match memchr::memchr(b':', text) {
                Some(at) => {
                    let value = &text[at + 1..];
                    (&text[..at], value.strip_prefix(b" ").unwrap_or(value))
                }
                None => (text, &[][..]),
            };
            let line = &rest[..behind];
            rest = &rest[behind..];
            Some((name, value, line))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(chunks: &[&[u8]]) -> (Vec<Event>, Bytes) {
        let mut reader = Reader::default();
        let mut events = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(event) = reader.event() {
                events.push(event.unwrap());
            }
        }
        (events, reader.rest())
    }

    #[test]
    fn lines_end_in_three_ways() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "id: 7|event: message|data: a|data:b||: ping||data: c|".replace('|', end);
            let (events, rest) = read(&[text.as_bytes()]);
            assert_eq!(events.len(), 2, "{end:?}");
            assert_eq!(events[0].data().unwrap(), &b"a\nb"[..]);
            assert_eq!(
                (events[0].name(), events[0].id()),
                (Some(&b"message"[..]), Some("7"))
            );
            assert_eq!((events[1].data(), events[1].name()), (None, None));
            assert_eq!(rest, format!("data: c{end}"));
        }
    }

    #[test]
    fn what_is_changed_keeps_its_other_lines() {
        let event = |text: &'static str| read(&[text.as_bytes()]).0.remove(0);
        let one = event("id: 7\r\nretry: 5\r\ndata: {}\r\n\r\n");
        let changed = |data, id| String::from_utf8(one.with(data, id)).unwrap();
        assert_eq!(
            changed(Some(b"[]"), Some("x")),
            "id: x\r\nretry: 5\r\ndata: []\r\n\r\n"
        );
        assert_eq!(
            changed(Some(b"a\nb"), None),
            "id: 7\r\nretry: 5\r\ndata: a\r\ndata: b\r\n\r\n"
        );
        assert_eq!(changed(None, None), "id: 7\r\nretry: 5\r\ndata: {}\r\n\r\n");
        let mixed = event("data: a\rdata: b\n\n");
        assert_eq!(mixed.with(Some(b"c"), None), b"data: c\r\n\n");
        let bare = event("data:a\ndata:b\nid\n\n");
        assert_eq!(bare.with(Some(b"c"), Some("x")), b"data: c\nid\n\n");
    }

    #[test]
    fn a_mark_stands_before_the_stream_and_nowhere_else() {
        let text = "\u{feff}data: a\n\n\u{feff}data: b\n\n";
        let (events, _) = read(&[&text.as_bytes()[..2], &text.as_bytes()[2..]]);
        assert_eq!(events[0].data().as_deref(), Some(&b"a"[..]));
        assert_eq!(
            events[0].with(Some(b"c"), None),
            "\u{feff}data: c\n\n".as_bytes()
        );
        assert_eq!(events[1].data(), None, "clients know no field of this name");
    }

    #[test]
    fn an_event_is_there_as_soon_as_it_has_ended() {
        let mut reader = Reader::default();
        for (piece, ends) in [
            ("data: a", false),
            ("\r", false),
            ("\n", false),
            ("\r", true),
            ("\ndata: b\n", false),
            ("\n", true),
        ] {
            reader.push(piece.as_bytes());
            let event = reader.event();
            assert_eq!(event.is_some(), ends, "{piece:?}");
            if let Some(event) = event {
                let data = event.unwrap().data().unwrap().into_owned();
                assert!(data == b"a" || data == b"b", "{data:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn wherever_a_stream_is_cut_it_is_the_same(
            pieces in proptest::collection::vec(prop_oneof![
                Just("data: x"), Just("id: 1"), Just(":"), Just("\n"), Just("\r"), Just("\r\n"), Just("\n\n"), Just("é"),
            ], 0..40),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let text = pieces.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let (events, rest) = read(&chunks);
            let mut whole: Vec<u8> = events.iter().flat_map(|event| event.raw().to_vec()).collect();
            whole.extend_from_slice(&rest);
            prop_assert_eq!(&whole, &text);
            let data = |events: &[Event]| -> Vec<Vec<u8>> {
                events.iter().filter_map(|event| event.data().map(Cow::into_owned)).collect()
            };
            prop_assert_eq!(data(&events), data(&read(&[&text]).0));
        }
    }
}
