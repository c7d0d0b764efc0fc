//! Log events → what `mcpm logs` prints. Pure.
//!
//! A line's bytes come out as they went in, colours and broken UTF-8 of the app included.

use data_encoding::BASE64;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::api::logs::{LogEvent, Stream};
use crate::ids::{AppName, PmId, Timestamp};
use crate::logs::stamp::Stamp;

use super::style::{Paint, Palette, pad, width};

/// Columns of a prefix, at least.
const PREFIX_WIDE: usize = 10;
/// The daemon's name in prefixes, as in PM2: scripts look for it.
const DAEMON: &str = "PM2";
/// Times of [`Shape::Format`].
const FORMAT_TIME: &str = "YYYY-MM-DD-HH:mm:ssZZ";
/// In the place of a time that nobody knows.
const UNKNOWN: &str = "-";

/// Between two notes of lines that came too fast.
const MISSED_EVERY_MS: i64 = 1000;

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
    /// Names and values, as PM2's `--format`.
    Format,
}

/// Whose a line is.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Process(PmId, &'a AppName, Stream),
    Daemon,
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
    /// The history has ended.
    is_live: bool,
    /// Of lines that arrive.
    arrival: Option<Stamp>,
    /// Marked where it comes first in a line.
    highlight: Option<String>,
    /// Times of [`Shape::Format`].
    format_time: Stamp,
    /// Lines that came too fast, and are not told of yet.
    missed: u64,
    missed_told: Option<Timestamp>,
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
            is_live: false,
            arrival: None,
            highlight: None,
            format_time: Stamp::new(FORMAT_TIME, TimeZone::system()),
            missed: 0,
            missed_told: None,
            out: Vec::new(),
            error: Vec::new(),
        }
    }

    /// Puts the time of arrival, in dayjs's tokens, before what arrives.
    pub(crate) fn with_arrival(self, format: &str, zone: TimeZone) -> Self {
        let arrival = Some(Stamp::new(format, zone));
        Self { arrival, ..self }
    }

    /// Marks a word.
    pub(crate) fn with_highlight(self, word: String) -> Self {
        let highlight = Some(word);
        Self { highlight, ..self }
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
                at,
            } => {
                // Nobody knows when it was written that was there before and does not say.
                let at = if self.is_live { Some(now) } else { *at };
                let decoded = base64
                    .as_ref()
                    .and_then(|b| BASE64.decode(b.as_bytes()).ok());
                let line = match (&decoded, text) {
                    (Some(bytes), _) => bytes.as_slice(),
                    (None, Some(text)) => text.as_bytes(),
                    (None, None) => b"",
                };
                self.in_block = true;
                self.add_line(Whose::Process(*pm_id, name, *stream), line, at);
            }
            LogEvent::DaemonFile { path } => self.add_file(&path.display().to_string()),
            LogEvent::DaemonLine { text } => {
                self.in_block = true;
                let at = self.is_live.then_some(now);
                self.add_line(Whose::Daemon, text.as_bytes(), at);
            }
            LogEvent::Live => self.is_live = true,
            LogEvent::Missed { lines } => self.missed += lines,
        }
        self.tell_missed(now);
    }

    /// What goes to stdout and to stderr, taken out.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        (
            std::mem::take(&mut self.out),
            std::mem::take(&mut self.error),
        )
    }

    fn add_file(&mut self, path: &str) {
        if self.history == 0 {
            return;
        }
        let palette = match self.shape {
            Shape::Prefixed(palette) => palette,
            Shape::Messages => Palette { on: false },
            Shape::Raw | Shape::Json | Shape::Format => return,
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

    /// `at`: when it was written, as far as that is known.
    fn add_line(&mut self, whose: Whose<'_>, line: &[u8], at: Option<Timestamp>) {
        match (self.shape, whose) {
            (Shape::Prefixed(palette), _) => self.add_prefixed(palette, whose, line, at),
            (Shape::Raw, Whose::Process(_, _, Stream::Error)) => {
                self.error.extend_from_slice(line);
                self.error.push(b'\n');
            }
            (Shape::Messages | Shape::Raw, _) => {
                self.out.extend_from_slice(line);
                self.out.push(b'\n');
            }
            (Shape::Json, Whose::Process(id, name, stream)) => {
                let mut object = json!({
                    "message": String::from_utf8_lossy(line),
                    "timestamp": at,
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
            // As in PM2.
            (Shape::Json, Whose::Daemon) => {}
            (Shape::Format, _) => {
                let app = match whose {
                    Whose::Process(id, name, Stream::Out) => format!("{name} id={id} type=out"),
                    Whose::Process(id, name, Stream::Error) => format!("{name} id={id} type=error"),
                    Whose::Daemon => DAEMON.to_ascii_lowercase(),
                };
                let at = match at {
                    Some(at) => self.format_time.text(at),
                    None => UNKNOWN,
                };
                let head = format!("timestamp={at} app={app} message=");
                self.out.extend_from_slice(head.as_bytes());
                self.out.extend_from_slice(line);
                self.out.push(b'\n');
            }
        }
    }

    fn add_prefixed(
        &mut self,
        palette: Palette,
        whose: Whose<'_>,
        line: &[u8],
        at: Option<Timestamp>,
    ) {
        if let (true, Some(at), Some(arrival)) = (self.is_live, at, &mut self.arrival) {
            let time = format!("{} ", arrival.text(at));
            self.out
                .extend_from_slice(palette.paint(Paint::Dim, &time).as_bytes());
        }
        let (label, paint) = match whose {
            Whose::Process(id, name, Stream::Out) => (format!("{id}|{name}"), Paint::Good),
            Whose::Process(id, name, Stream::Error) => (format!("{id}|{name}"), Paint::Bad),
            Whose::Daemon => (DAEMON.to_owned(), Paint::Busy),
        };
        self.prefix_wide = self.prefix_wide.max(width(&label));
        let prefix = format!("{} | ", pad(&label, self.prefix_wide));
        self.out
            .extend_from_slice(palette.paint(paint, &prefix).as_bytes());
        let marked = self.highlight.as_deref().and_then(|word| {
            let at = line
                .windows(word.len())
                .position(|part| part == word.as_bytes())?;
            Some((at, word))
        });
        match marked {
            Some((at, word)) => {
                self.out.extend_from_slice(&line[..at]);
                self.out
                    .extend_from_slice(palette.paint(Paint::Mark, word).as_bytes());
                self.out.extend_from_slice(&line[at + word.len()..]);
            }
            None => self.out.extend_from_slice(line),
        }
        self.out.push(b'\n');
    }

    /// Told beside the lines, never among them, and once for many.
    fn tell_missed(&mut self, now: Timestamp) {
        let is_due = |at: Timestamp| now.as_millis() - at.as_millis() >= MISSED_EVERY_MS;
        if self.missed == 0 || !self.missed_told.is_none_or(is_due) {
            return;
        }
        let lines = std::mem::take(&mut self.missed);
        let many = if lines == 1 { "line" } else { "lines" };
        let note = format!("({lines} {many} came too fast to be shown; the file has them)\n");
        self.error.extend_from_slice(note.as_bytes());
        self.missed_told = Some(now);
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
            at: None,
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
        let events = [LogEvent::Live, line(WEB, Stream::Error, b"oh")];
        let out = br#"{"message":"oh","timestamp":"1970-01-01T00:00:00.000Z","type":"err","process_id":0,"app_name":"web"}
"#;
        check(Shape::Json, &events, out, b"");
    }

    #[test]
    fn history_has_the_time_that_it_tells_and_no_other() {
        let mut told = line(WEB, Stream::Out, b"a");
        let LogEvent::Line { at, .. } = &mut told else {
            unreachable!()
        };
        *at = Some(Timestamp::from_millis(2500));
        let events = [told, line(WEB, Stream::Out, b"b")];
        let text = shown(LogText::new(Shape::Json, 15), &events);
        let times: Vec<serde_json::Value> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["timestamp"].clone()
            })
            .collect();
        assert_eq!(times, [json!("1970-01-01T00:00:02.500Z"), json!(null)]);
        let text = shown(LogText::new(Shape::Format, 15), &events[1..]);
        assert!(text.starts_with("timestamp=- app=web "), "{text}");
    }

    fn shown(mut text: LogText, events: &[LogEvent]) -> String {
        for event in events {
            text.add(event, Timestamp::from_millis(1500));
        }
        String::from_utf8(text.take().0).unwrap()
    }

    #[test]
    fn what_arrives_has_its_time_and_what_was_there_has_not() {
        let shape = Shape::Prefixed(Palette::PLAIN);
        let text = LogText::new(shape, 15).with_arrival("mm:ss", TimeZone::UTC);
        let own = LogEvent::DaemonLine {
            text: "ready".into(),
        };
        let events = [
            line(WEB, Stream::Out, b"old"),
            LogEvent::Live,
            line(WEB, Stream::Out, b"new"),
            own,
        ];
        assert_eq!(
            shown(text, &events),
            "0|web      | old\n00:01 0|web      | new\n00:01 PM2        | ready\n"
        );
    }

    #[test]
    fn format_names_what_it_shows() {
        let own = LogEvent::DaemonLine {
            text: "ready".into(),
        };
        let text = shown(
            LogText::new(Shape::Format, 0),
            &[LogEvent::Live, line(WEB, Stream::Error, b"a b"), own],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("timestamp=19") && lines[1].contains(" app=pm2 message=ready")
        );
        assert!(
            lines[0].ends_with(" app=web id=0 type=error message=a b"),
            "{text}"
        );
    }

    #[test]
    fn a_word_is_marked_where_it_comes_first() {
        let palette = Palette { on: true };
        let text = LogText::new(Shape::Prefixed(palette), 0).with_highlight("oh".into());
        let text = shown(text, &[line(WEB, Stream::Out, b"oh, oh")]);
        assert!(text.ends_with("\x1b[30;43moh\x1b[0m, oh\n"), "{text:?}");
    }

    #[test]
    fn what_was_missed_is_told_beside() {
        let mut text = LogText::new(Shape::Raw, 0);
        text.add(&LogEvent::Missed { lines: 7 }, Timestamp::from_millis(0));
        let (out, error) = text.take();
        assert!(out.is_empty() && String::from_utf8_lossy(&error).contains("7 lines"));
    }
}
