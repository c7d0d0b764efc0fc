//! What `log_date_format` and `log_type` make of lines (pure).
//!
//! Shapes are PM2's. Differences, since a chunk is no unit that anyone can see: a time
//! stands before each line and never within one, and each line is a JSON object of its own.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::files::Stream;
use super::stamp::Stamp;
use crate::config::spec::LogFormat;
use crate::ids::{AppName, PmId, Timestamp};

/// How the lines of one stream of one process are stored.
#[derive(Debug)]
pub struct Dress {
    stamp: Option<Stamp>,
    json: Option<Facts>,
    /// The last line has ended.
    between_lines: bool,
}

#[derive(Debug)]
struct Facts {
    stream: Stream,
    id: PmId,
    name: AppName,
}

#[derive(Serialize)]
struct Object<'a> {
    message: &'a str,
    timestamp: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    process_id: PmId,
    app_name: &'a AppName,
}

impl Dress {
    /// `None` when lines are stored as they came.
    pub fn of(
        format: &LogFormat,
        (id, name): (PmId, &AppName),
        stream: Stream,
        zone: &TimeZone,
    ) -> Option<Self> {
        if format.stamp.is_none() && !format.json {
            return None;
        }
        let stamp = format.stamp.as_deref();
        Some(Self {
            stamp: stamp.map(|format| Stamp::new(format, zone.clone())),
            json: format.json.then(|| Facts {
                stream,
                id,
                name: name.clone(),
            }),
            between_lines: true,
        })
    }

    /// What comes next begins a line.
    pub fn is_between_lines(&self) -> bool {
        self.between_lines
    }

    /// Goes on where the daemon before was, so that it makes the same of the same lines.
    pub fn go_on(&mut self, between_lines: bool) {
        self.between_lines = between_lines;
    }

    /// Adds the piece's lines, which arrived now, as they are stored.
    pub fn put_on(&mut self, piece: &[u8], now: Timestamp, into: &mut Vec<u8>) {
        for line in piece.split_inclusive(|&b| b == b'\n') {
            match (&self.json, &mut self.stamp) {
                (Some(facts), Some(stamp)) => facts.add(line, stamp.text(now), into),
                (Some(facts), None) => facts.add(line, &now.to_string(), into),
                (None, Some(stamp)) => {
                    if self.between_lines {
                        into.extend_from_slice(stamp.text(now).as_bytes());
                        into.extend_from_slice(b": ");
                    }
                    into.extend_from_slice(line);
                }
                (None, None) => into.extend_from_slice(line),
            }
            self.between_lines = line.ends_with(b"\n");
        }
    }
}

/// Tells when stored lines were written, where they say so.
#[derive(Debug)]
pub struct Dates {
    stamp: Option<Stamp>,
    json: bool,
}

impl Dates {
    /// Of lines that are stored so.
    pub fn of(format: &LogFormat, zone: &TimeZone) -> Self {
        let stamp = format.stamp.as_deref();
        Self {
            stamp: stamp.map(|format| Stamp::new(format, zone.clone())),
            json: format.json,
        }
    }

    /// `None` when this line does not say.
    pub fn read(&self, line: &[u8]) -> Option<Timestamp> {
        let line = std::str::from_utf8(line).ok()?;
        if !self.json {
            let (at, rest) = self.stamp.as_ref()?.read(line)?;
            return rest.starts_with(": ").then_some(at);
        }
        let object: Dated = serde_json::from_str(line).ok()?;
        match &self.stamp {
            Some(stamp) => Some(stamp.read(&object.timestamp)?.0),
            None => {
                let at: jiff::Timestamp = object.timestamp.parse().ok()?;
                Some(Timestamp::from_millis(at.as_millisecond()))
            }
        }
    }
}

#[derive(Deserialize)]
struct Dated {
    timestamp: String,
}

impl Facts {
    fn add(&self, line: &[u8], timestamp: &str, into: &mut Vec<u8>) {
        let object = Object {
            message: &String::from_utf8_lossy(line),
            timestamp,
            kind: match self.stream {
                Stream::Out => "out",
                Stream::Error => "err",
            },
            process_id: self.id,
            app_name: &self.name,
        };
        // Texts and numbers always become JSON, and a Vec always takes it.
        let _ = serde_json::to_writer(&mut *into, &object);
        into.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_lines_say_when_they_were_written_and_others_do_not() {
        let at = Timestamp::from_millis(1_794_143_049_000);
        for (json, stamp) in [
            (false, Some("YYYY-MM-DDTHH:mm:ss")),
            (true, Some("YYYY-MM-DD HH:mm:ss Z")),
            (true, None),
        ] {
            let format = LogFormat {
                json,
                stamp: stamp.map(str::to_owned),
            };
            let name = AppName::parse("web").unwrap();
            let zone = TimeZone::UTC;
            let mut dress = Dress::of(&format, (PmId(0), &name), Stream::Out, &zone).unwrap();
            let mut stored = Vec::new();
            dress.put_on(b"hi\n", at, &mut stored);
            let dates = Dates::of(&format, &zone);
            assert_eq!(dates.read(stored.trim_ascii_end()), Some(at), "{format:?}");
            // Of before the format was set, and what the app itself has written.
            assert_eq!(dates.read(b"hi"), None);
        }
        let plain = Dates::of(&LogFormat::default(), &TimeZone::UTC);
        assert_eq!(plain.read(b"2026-11-08T13:04:09: hi"), None);
    }

    #[track_caller]
    fn check(json: bool, stamp: Option<&str>, pieces: &[&str], expected: &str) {
        let format = LogFormat {
            json,
            stamp: stamp.map(str::to_owned),
        };
        let name = AppName::parse("web").unwrap();
        let dress = Dress::of(&format, (PmId(3), &name), Stream::Error, &TimeZone::UTC);
        let mut dress = dress.expect("a format");
        let mut stored = Vec::new();
        for piece in pieces {
            dress.put_on(piece.as_bytes(), Timestamp::from_millis(1500), &mut stored);
        }
        assert_eq!(String::from_utf8(stored).unwrap(), expected);
    }

    #[test]
    fn a_time_stands_before_each_line_and_never_within_one() {
        check(
            false,
            Some("HH:mm:ss.SSS"),
            &["one\ntwo\n", "thr", "ee\n", "\n"],
            "00:00:01.500: one\n00:00:01.500: two\n00:00:01.500: three\n00:00:01.500: \n",
        );
    }

    #[test]
    fn it_goes_on_within_a_line_where_another_one_was() {
        let format = LogFormat {
            json: false,
            stamp: Some("ss".into()),
        };
        let name = AppName::parse("web").unwrap();
        let dress = || Dress::of(&format, (PmId(3), &name), Stream::Out, &TimeZone::UTC).unwrap();
        let (mut first, mut second) = (dress(), dress());
        let mut stored = Vec::new();
        first.put_on(b"thr", Timestamp::from_millis(0), &mut stored);
        second.go_on(first.is_between_lines());
        second.put_on(b"ee\nfour\n", Timestamp::from_millis(0), &mut stored);
        assert_eq!(stored, b"00: three\n00: four\n");
    }

    #[test]
    fn json_has_pm2s_names() {
        check(
            true,
            None,
            &["a \"b\"\n"],
            "{\"message\":\"a \\\"b\\\"\\n\",\"timestamp\":\"1970-01-01T00:00:01.500Z\",\
             \"type\":\"err\",\"process_id\":3,\"app_name\":\"web\"}\n",
        );
        check(
            true,
            Some("ss"),
            &["no end"],
            "{\"message\":\"no end\",\"timestamp\":\"01\",\"type\":\"err\",\"process_id\":3,\
             \"app_name\":\"web\"}\n",
        );
    }

    #[test]
    fn lines_without_a_format_are_left_alone() {
        let name = AppName::parse("web").unwrap();
        let facts = (PmId(0), &name);
        let dress = Dress::of(&LogFormat::default(), facts, Stream::Out, &TimeZone::UTC);
        assert!(dress.is_none());
    }
}
