//! `log_date_format`: the time before each line of a log, and that time read back (pure).
//!
//! Rule: the tokens of dayjs, which PM2 hands the text to. What stands in
//! square brackets, and what is no token, stands in the text as it is.

use std::ops::RangeInclusive;

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::ids::Timestamp;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
/// Longer ones before those they begin with.
const TOKENS: [(&str, Token); 26] = [
    ("YYYY", Token::Year),
    ("YY", Token::ShortYear),
    ("MMMM", Token::MonthName),
    ("MMM", Token::ShortMonthName),
    ("MM", Token::Month(2)),
    ("M", Token::Month(1)),
    ("DD", Token::Day(2)),
    ("D", Token::Day(1)),
    ("dddd", Token::DayName(9)),
    ("ddd", Token::DayName(3)),
    ("dd", Token::DayName(2)),
    ("d", Token::DayOfWeek),
    ("HH", Token::Hour(2)),
    ("H", Token::Hour(1)),
    ("hh", Token::HalfDayHour(2)),
    ("h", Token::HalfDayHour(1)),
    ("mm", Token::Minute(2)),
    ("m", Token::Minute(1)),
    ("SSS", Token::Millis),
    ("ss", Token::Second(2)),
    ("s", Token::Second(1)),
    ("A", Token::HalfDay),
    ("a", Token::SmallHalfDay),
    ("ZZ", Token::Offset("")),
    ("Z", Token::Offset(":")),
    ("X", Token::Unix),
];

/// One part of a time; a number is how many digits or letters it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Year,
    ShortYear,
    MonthName,
    ShortMonthName,
    Month(usize),
    Day(usize),
    DayName(usize),
    DayOfWeek,
    Hour(usize),
    HalfDayHour(usize),
    Minute(usize),
    Second(usize),
    Millis,
    HalfDay,
    SmallHalfDay,
    /// What stands between its hours and minutes.
    Offset(&'static str),
    Unix,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Token(Token),
}

/// A format that was read, and the text it made last: the lines of one moment share it.
#[derive(Clone, Debug)]
pub struct Stamp {
    pieces: Vec<Piece>,
    zone: TimeZone,
    last: Option<(Timestamp, String)>,
}

impl Stamp {
    /// Reads a format; every text is one. Times are shown in this zone.
    pub fn new(format: &str, zone: TimeZone) -> Self {
        let mut pieces = Vec::new();
        let mut rest = format;
        while let Some(first) = rest.chars().next() {
            let escaped = rest.strip_prefix('[').and_then(|text| text.split_once(']'));
            let token = TOKENS.iter().find(|(word, _)| rest.starts_with(word));
            rest = match (escaped, token) {
                (Some((text, behind)), _) => {
                    push_text(&mut pieces, text);
                    behind
                }
                (None, Some((word, token))) => {
                    pieces.push(Piece::Token(*token));
                    &rest[word.len()..]
                }
                (None, None) => {
                    let (text, behind) = rest.split_at(first.len_utf8());
                    push_text(&mut pieces, text);
                    behind
                }
            };
        }
        Self {
            pieces,
            zone,
            last: None,
        }
    }

    /// The text of a time.
    pub fn text(&mut self, at: Timestamp) -> &str {
        if self.last.as_ref().is_none_or(|(last, _)| *last != at) {
            self.last = Some((at, self.make(at)));
        }
        self.last.as_ref().map_or("", |(_, text)| text)
    }

    /// The time that a text begins with, and what follows it; `None` when it begins with none, or when
    /// the format has no full date, or words in it.
    pub fn read<'a>(&self, text: &'a str) -> Option<(Timestamp, &'a str)> {
        let mut found = Found::default();
        let mut rest = text;
        for piece in &self.pieces {
            rest = match piece {
                Piece::Text(text) => rest.strip_prefix(text.as_str())?,
                Piece::Token(token) => found.take(*token, rest)?,
            };
        }
        Some((found.at(&self.zone)?, rest))
    }

    fn make(&self, at: Timestamp) -> String {
        let instant = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
        let at = instant.to_zoned(self.zone.clone());
        let each = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Token(token) => token.text(&at),
        });
        each.collect()
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// What has been read of a time.
#[derive(Default)]
struct Found {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: Option<i8>,
    minute: Option<i8>,
    second: i8,
    millis: i32,
    offset: Option<Offset>,
    unix: Option<i64>,
}

impl Found {
    /// Takes a token from the front; returns what is behind it.
    fn take<'a>(&mut self, token: Token, text: &'a str) -> Option<&'a str> {
        // One digit in the format may have become two.
        let short = |wide: usize| wide.max(2);
        let (digits, rest) = match token {
            Token::Year => digits(text, 4..=4)?,
            Token::Month(wide)
            | Token::Day(wide)
            | Token::Hour(wide)
            | Token::Minute(wide)
            | Token::Second(wide) => digits(text, wide..=short(wide))?,
            Token::Millis => digits(text, 3..=3)?,
            Token::Unix => digits(text, 1..=12)?,
            Token::Offset(between) => {
                let (offset, rest) = read_offset(text, between)?;
                self.offset = Some(offset);
                return Some(rest);
            }
            Token::ShortYear
            | Token::MonthName
            | Token::ShortMonthName
            | Token::DayName(_)
            | Token::DayOfWeek
            | Token::HalfDayHour(_)
            | Token::HalfDay
            | Token::SmallHalfDay => return None,
        };
        match token {
            Token::Year => self.year = Some(digits.parse().ok()?),
            Token::Month(_) => self.month = Some(digits.parse().ok()?),
            Token::Day(_) => self.day = Some(digits.parse().ok()?),
            Token::Hour(_) => self.hour = Some(digits.parse().ok()?),
            Token::Minute(_) => self.minute = Some(digits.parse().ok()?),
            Token::Second(_) => self.second = digits.parse().ok()?,
            Token::Millis => self.millis = digits.parse().ok()?,
            _ => self.unix = Some(digits.parse().ok()?),
        }
        Some(rest)
    }

    fn at(&self, zone: &TimeZone) -> Option<Timestamp> {
        if let Some(seconds) = self.unix {
            return Some(Timestamp::from_millis(seconds * 1000));
        }
        let (year, month, day) = (self.year?, self.month?, self.day?);
        let (hour, minute) = (self.hour?, self.minute?);
        let nanos = self.millis * 1_000_000;
        let civil = DateTime::new(year, month, day, hour, minute, self.second, nanos).ok()?;
        let zone = self.offset.map_or_else(|| zone.clone(), TimeZone::fixed);
        let at = civil.to_zoned(zone).ok()?;
        Some(Timestamp::from_millis(at.timestamp().as_millisecond()))
    }
}

/// As many digits as there are, within bounds, and what is behind them.
fn digits(text: &str, count: RangeInclusive<usize>) -> Option<(&str, &str)> {
    let found = text.bytes().take_while(u8::is_ascii_digit).count();
    (found >= *count.start()).then(|| text.split_at(found.min(*count.end())))
}

/// `+02:00`, or without what stands between.
fn read_offset<'a>(text: &'a str, between: &str) -> Option<(Offset, &'a str)> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, rest) = digits(rest, 2..=2)?;
    let (minutes, rest) = digits(rest.strip_prefix(between)?, 2..=2)?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let offset = Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok()?;
    Some((offset, rest))
}

impl Token {
    fn text(self, at: &Zoned) -> String {
        let digits = |number: i8, wide: usize| format!("{number:0wide$}");
        let month = usize::from(at.month().unsigned_abs()) - 1;
        let day = at.weekday().to_sunday_zero_offset();
        let half = if at.hour() < 12 { "AM" } else { "PM" };
        match self {
            Self::Year => format!("{:04}", at.year()),
            Self::ShortYear => format!("{:02}", at.year().rem_euclid(100)),
            Self::MonthName => MONTHS[month].to_owned(),
            Self::ShortMonthName => MONTHS[month][..3].to_owned(),
            Self::Month(wide) => digits(at.month(), wide),
            Self::Day(wide) => digits(at.day(), wide),
            Self::DayName(letters) => {
                let name = DAYS[usize::from(day.unsigned_abs())];
                name[..letters.min(name.len())].to_owned()
            }
            Self::DayOfWeek => day.to_string(),
            Self::Hour(wide) => digits(at.hour(), wide),
            Self::HalfDayHour(wide) => digits((at.hour() + 11) % 12 + 1, wide),
            Self::Minute(wide) => digits(at.minute(), wide),
            Self::Second(wide) => digits(at.second(), wide),
            Self::Millis => format!("{:03}", at.millisecond()),
            Self::HalfDay => half.to_owned(),
            Self::SmallHalfDay => half.to_ascii_lowercase(),
            Self::Offset(between) => {
                let minutes = at.offset().seconds() / 60;
                let sign = if minutes < 0 { '-' } else { '+' };
                let minutes = minutes.abs();
                format!("{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
            }
            Self::Unix => at.timestamp().as_second().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-08T13:04:09.007Z, a Sunday.
    const AT: i64 = 1_794_143_049_007;

    fn text(format: &str, zone: TimeZone, at: i64) -> String {
        let mut stamp = Stamp::new(format, zone);
        stamp.text(Timestamp::from_millis(at)).to_owned()
    }

    #[test]
    fn dayjs_tokens() {
        for (format, expected) in [
            ("YYYY-MM-DDTHH:mm:ss", "2026-11-08T13:04:09"),
            (
                "YYYY-MM-DD HH:mm:ss.SSS Z",
                "2026-11-08 13:04:09.007 +00:00",
            ),
            ("YY/M/D H:m:s", "26/11/8 13:4:9"),
            (
                "dddd ddd dd d, D. MMMM MMM",
                "Sunday Sun Su 0, 8. November Nov",
            ),
            ("h:mm A hh a", "1:04 PM 01 pm"),
            ("ZZ X", "+0000 1794143049"),
            ("[YYYY is] YYYY", "YYYY is 2026"),
            ("[", "["),
            ("", ""),
            ("è|", "è|"),
        ] {
            assert_eq!(text(format, TimeZone::UTC, AT), expected, "{format}");
        }
    }

    #[test]
    fn midnight_is_twelve_and_offsets_have_signs() {
        let zone =
            |minutes: i32| TimeZone::fixed(jiff::tz::Offset::from_seconds(minutes * 60).unwrap());
        assert_eq!(text("h A", TimeZone::UTC, 0), "12 AM");
        assert_eq!(text("HH:mm Z", zone(-210), 0), "20:30 -03:30");
        assert_eq!(text("HH:mm ZZ", zone(330), 0), "05:30 +0530");
    }

    #[test]
    fn each_moment_has_its_own_text() {
        let mut stamp = Stamp::new("ss", TimeZone::UTC);
        let at = |second: i64| Timestamp::from_millis(second * 1000);
        assert_eq!(stamp.text(at(1)), "01");
        assert_eq!(stamp.text(at(1)), "01");
        assert_eq!(stamp.text(at(2)), "02");
    }

    #[test]
    fn a_time_is_read_back_where_its_date_is_whole() {
        let read = |format: &str, text: &str| {
            let found = Stamp::new(format, TimeZone::UTC).read(text)?.0;
            Some(found.as_millis())
        };
        let second = AT - 7;
        for format in [
            "YYYY-MM-DDTHH:mm:ss",
            "DD.MM.YYYY [at] H:m:s",
            "YYYY-M-D HH:mm:ss Z",
            "YYYYMMDDHHmmss",
            "X",
        ] {
            let shown = text(format, TimeZone::UTC, AT);
            assert_eq!(read(format, &(shown + ": hi")), Some(second), "{format}");
        }
        for format in [
            "HH:mm:ss",
            "D MMM YYYY HH:mm",
            "YY-MM-DD HH:mm",
            "YYYY-MM-DD",
        ] {
            let shown = text(format, TimeZone::UTC, AT);
            assert_eq!(read(format, &shown), None, "{format}");
        }
        let offset = read("YYYY-MM-DD HH:mm:ss ZZ", "2026-11-08 15:04:09 +0200");
        assert_eq!(offset, Some(second));
        assert_eq!(read("YYYY-MM-DD HH:mm:ss", "2026-13-08 15:04:09"), None);
        assert_eq!(read("YYYY-MM-DD HH:mm:ss", "é"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(format in "\\PC*", at in -4_000_000_000_000_i64..4_000_000_000_000, line in "\\PC*") {
            text(&format, TimeZone::UTC, at);
            Stamp::new(&format, TimeZone::UTC).read(&line);
        }

        #[test]
        fn what_was_written_is_read_again(at in 0_i64..4_000_000_000_000) {
            let format = "YYYY-MM-DDTHH:mm:ss.SSSZ";
            let shown = text(format, TimeZone::UTC, at);
            let found = Stamp::new(format, TimeZone::UTC).read(&shown).map(|(at, _)| at.as_millis());
            prop_assert_eq!(found, Some(at));
        }
    }
}
