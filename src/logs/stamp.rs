//! `log_date_format`: the time before each line of a log (pure).
//!
//! Rule: the tokens of dayjs, which PM2 hands the text to. What stands in
//! square brackets, and what is no token, stands in the text as it is.

use jiff::Zoned;
use jiff::tz::TimeZone;

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

    proptest! {
        #[test]
        fn nothing_panics(format in "\\PC*", at in -4_000_000_000_000_i64..4_000_000_000_000) {
            text(&format, TimeZone::UTC, at);
        }
    }
}
