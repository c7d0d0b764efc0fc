//! Log events → what `mcpm logs` prints. Pure.
//!
//! A line's bytes come out as they went in, colours and broken UTF-8 of the app included.

use data_encoding::BASE64;
use serde_json::json;

use crate::api::processes::{LogEvent, Stream};
use crate::ids::{AppName, PmId, Timestamp};

use super::style::{Paint, Palette, pad, width};

/// Columns of a prefix, at least.
const PREFIX_WIDE: usize = 10;

/// How lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// With `ID|NAME` in front, under the name of each file.
    Prefixed(Palette),
    /// The name of each file, then its lines.
    Messages,
    /// Nothing but the lines; those of standard error apart.
    Raw,
    /// One JSON object per line, as PM2's `--json`.
    Json,
}

/// Collects what is to be printed.
#[derive(Debug)]
pub(crate) struct LogText {
    shape: Shape,
    /// How many lines of history were asked for.
    history: usize,
    prefix_wide: usize,
    /// Has a block of history been begun, with lines in it?
    in_block: bool,
    out: Vec<u8>,
    error: Vec<u8>,
}

impl LogText {
    /// Nothing yet.
    pub(crate) fn new(shape: Shape, history: usize) -> Self {
        Self {
            shape,
            history,
            prefix_wide: PREFIX_WIDE,
            in_block: false,
            out: Vec::new(),
            error: Vec::new(),
        }
    }

    /// For a few last lines inside of another answer.
    pub(crate) fn only_messages(history: usize) -> Self {
        Self::new(Shape::Messages, history)
    }

    /// Adds what one event says, which arrived now.
    pub(crate) fn add(&mut self, event: &LogEvent, now: Timestamp) {
        match event {
            LogEvent::File { path, .. } => self.add_file(&path.display().to_string()),
            LogEvent::Line {
                pm_id,
                name,
                stream,
                text,
                base64,
            } => {
                let decoded = base64
                    .as_ref()
                    .and_then(|b| BASE64.decode(b.as_bytes()).ok());
                let line = match (&decoded, text) {
                    (Some(bytes), _) => bytes.as_slice(),
                    (None, Some(text)) => text.as_bytes(),
                    (None, None) => b"",
                };
                self.in_block = true;
                self.add_line(*pm_id, name, *stream, line, now);
            }
            LogEvent::Missed { lines } => self.add_missed(*lines),
        }
    }

    /// What goes to stdout and to stderr, taken out.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        (
            std::mem::take(&mut self.out),
            std::mem::take(&mut self.error),
        )
    }

    fn add_file(&mut self, path: &str) {
        let palette = match self.shape {
            Shape::Prefixed(palette) => palette,
            Shape::Messages => Palette { on: false },
            Shape::Raw | Shape::Json => return,
        };
        if self.in_block {
            self.out.push(b'\n');
            self.in_block = false;
        }
        let title = format!("{path} last {} lines:", self.history);
        self.out
            .extend_from_slice(palette.paint(Paint::Dim, &title).as_bytes());
        self.out.push(b'\n');
    }

    fn add_line(&mut self, id: PmId, name: &AppName, stream: Stream, line: &[u8], now: Timestamp) {
        match self.shape {
            Shape::Prefixed(palette) => {
                let label = format!("{id}|{name}");
                self.prefix_wide = self.prefix_wide.max(width(&label));
                let prefix = format!("{} | ", pad(&label, self.prefix_wide));
                let paint = match stream {
                    Stream::Out => Paint::Good,
                    Stream::Error => Paint::Bad,
                };
                self.out
                    .extend_from_slice(palette.paint(paint, &prefix).as_bytes());
                self.out.extend_from_slice(line);
                self.out.push(b'\n');
            }
            Shape::Messages => {
                self.out.extend_from_slice(line);
                self.out.push(b'\n');
            }
            Shape::Raw => {
                let into = match stream {
                    Stream::Out => &mut self.out,
                    Stream::Error => &mut self.error,
                };
                into.extend_from_slice(line);
                into.push(b'\n');
            }
            Shape::Json => {
                let mut object = json!({
                    "message": String::from_utf8_lossy(line),
                    "timestamp": now,
                    "type": match stream { Stream::Out => "out", Stream::Error => "err" },
                    "process_id": id,
                    "app_name": name,
                });
                if std::str::from_utf8(line).is_err() {
                    object["base64"] = json!(BASE64.encode(line));
                }
                self.out.extend_from_slice(object.to_string().as_bytes());
                self.out.push(b'\n');
            }
        }
    }

    /// Told beside the lines, never among them.
    fn add_missed(&mut self, lines: u64) {
        let note = format!("({lines} lines came too fast to be shown; the file has them)\n");
        self.error.extend_from_slice(note.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "web";

    fn file(path: &str) -> LogEvent {
        LogEvent::File {
            path: path.into(),
            pm_id: PmId(0),
            name: AppName::parse(WEB).unwrap(),
            stream: Stream::Out,
        }
    }

    fn line(name: &str, stream: Stream, bytes: &[u8]) -> LogEvent {
        let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
        LogEvent::Line {
            pm_id: PmId(0),
            name: AppName::parse(name).unwrap(),
            stream,
            base64: text.is_none().then(|| BASE64.encode(bytes)),
            text,
        }
    }

    #[track_caller]
    fn check(shape: Shape, events: &[LogEvent], out: &[u8], error: &[u8]) {
        let mut text = LogText::new(shape, 15);
        for event in events {
            text.add(event, Timestamp::from_millis(0));
        }
        let (got_out, got_error) = text.take();
        assert_eq!(
            String::from_utf8_lossy(&got_out),
            String::from_utf8_lossy(out)
        );
        assert_eq!(got_out, out);
        assert_eq!(got_error, error);
    }

    #[test]
    fn files_have_a_title_and_lines_a_prefix() {
        let events = [
            file("/h/logs/web-error.log"),
            line(WEB, Stream::Error, b"oh"),
            file("/h/logs/web-out.log"),
            line(WEB, Stream::Out, b"hello"),
        ];
        let out = "/h/logs/web-error.log last 15 lines:\n0|web      | oh\n\n\
                   /h/logs/web-out.log last 15 lines:\n0|web      | hello\n";
        check(
            Shape::Prefixed(Palette::PLAIN),
            &events,
            out.as_bytes(),
            b"",
        );
    }

    #[test]
    fn prefixes_grow_with_the_longest_name() {
        let events = [
            line("a-long-name", Stream::Out, b"1"),
            line(WEB, Stream::Out, b"2"),
        ];
        let out = b"0|a-long-name | 1\n0|web         | 2\n";
        check(Shape::Prefixed(Palette::PLAIN), &events, out, b"");
    }

    #[test]
    fn raw_lines_are_bytes_on_their_own_streams() {
        let events = [
            file("/h/logs/web-out.log"),
            line(WEB, Stream::Out, b"\xff\x00\x1b[31m"),
            line(WEB, Stream::Error, b"e"),
        ];
        check(Shape::Raw, &events, b"\xff\x00\x1b[31m\n", b"e\n");
    }

    #[test]
    fn json_lines_have_pm2s_names() {
        let events = [line(WEB, Stream::Error, b"oh")];
        let out = br#"{"message":"oh","timestamp":"1970-01-01T00:00:00.000Z","type":"err","process_id":0,"app_name":"web"}
"#;
        check(Shape::Json, &events, out, b"");
    }

    #[test]
    fn what_was_missed_is_told_beside() {
        let mut text = LogText::new(Shape::Raw, 0);
        text.add(&LogEvent::Missed { lines: 7 }, Timestamp::from_millis(0));
        let (out, error) = text.take();
        assert!(out.is_empty() && String::from_utf8_lossy(&error).contains("7 lines"));
    }
}
