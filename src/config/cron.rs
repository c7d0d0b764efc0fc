//! Times of a `cron_restart` pattern: text → [`Cron`] → the next time. Pure.
//!
//! As PM2 has them: five fields, or six with seconds first; `*`, `?`, lists, ranges, steps, names
//! of months and weekdays, `L` for a month's last day, and `@daily` and its like. When both day
//! fields are set, one that fits is enough (crontab(5)).
//!
//! Clock changes: a time that is skipped in spring comes by so much later; one that comes twice in
//! autumn counts once, unless the pattern says every hour.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::error::shown;

/// No pattern that has a time at all waits longer: from one 29 February to the next over 2100.
const YEARS_MAX: i16 = 9;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// `@daily` and its like.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cron {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
    weekdays: Option<u64>,
}

/// Days of the month.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Days {
    /// `None` when the field is `*`.
    set: Option<u64>,
    last: bool,
}

/// What is wrong with a pattern, as a half-sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

/// One field's name and bounds.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    names: &'static [&'static str],
}

const SECOND: Field = Field::numbers("second", 0, 59);
const MINUTE: Field = Field::numbers("minute", 0, 59);
const HOUR: Field = Field::numbers("hour", 0, 23);
const DAY: Field = Field::numbers("day of the month", 1, 31);
const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &MONTHS,
};
const WEEKDAY: Field = Field {
    name: "day of the week",
    min: 0,
    max: 7,
    names: &WEEKDAYS,
};

impl Cron {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says which field is wrong, and what it may be.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let nickname = NICKNAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        let pattern = nickname.map_or(text, |(_, pattern)| pattern);
        let mut fields: Vec<&str> = pattern.split_ascii_whitespace().collect();
        match fields.len() {
            5 => fields.insert(0, "0"),
            6 => {}
            count => {
                return Err(CronError(format!(
                    "it has {count} fields, not 5 (minute, hour, day, month, day of the week) \
                     or 6 (second first)"
                )));
            }
        }
        let mut weekdays = optional(&WEEKDAY, fields[5])?;
        if let Some(set) = &mut weekdays {
            // Sunday is 0 and 7.
            *set |= (*set >> 7) & 1;
        }
        let cron = Self {
            text: text.to_owned(),
            seconds: SECOND.read(fields[0])?,
            minutes: MINUTE.read(fields[1])?,
            hours: HOUR.read(fields[2])?,
            days: Days::read(fields[3])?,
            months: MONTH.read(fields[4])?,
            weekdays,
        };
        if cron.never_comes() {
            let message = "no such month has such a day, so that time never comes";
            return Err(CronError(message.to_owned()));
        }
        Ok(cron)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after this one.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = self.search(zone.to_datetime(after), after, zone)?;
        if self.hours.count_ones() < 24 {
            return Some(first);
        }
        // Every hour means the repeated one, too, which has the same name on the clock.
        let change = zone.following(after).next().map(|next| next.timestamp());
        let Some(change) = change.filter(|change| *change <= first) else {
            return Some(first);
        };
        let before = change.checked_sub(1.second()).ok()?;
        let clock = zone.to_datetime(change).checked_sub(1.second()).ok()?;
        let mut again = self.search_as(clock, zone.to_offset(change));
        again = again.filter(|time| *time > before);
        Some(again.map_or(first, |again| again.min(first)))
    }

    /// The first fitting time of the clock after `from` that lies after `after`.
    fn search(&self, from: DateTime, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = from;
        loop {
            at = self.next_on_clock(at)?;
            let time = zone.to_ambiguous_timestamp(at).compatible().ok()?;
            if time > after {
                return Some(time);
            }
        }
    }

    /// The same, on a clock that stays at one offset.
    fn search_as(&self, from: DateTime, offset: jiff::tz::Offset) -> Option<Timestamp> {
        offset.to_timestamp(self.next_on_clock(from)?).ok()
    }

    fn next_on_clock(&self, from: DateTime) -> Option<DateTime> {
        let start = from.checked_add(1.second()).ok()?;
        let mut date = start.date();
        let [hour, minute, second] = [start.hour(), start.minute(), start.second()];
        let mut earliest = [hour, minute, second].map(i8::unsigned_abs);
        let end = date.checked_add(YEARS_MAX.years()).ok()?;
        while date <= end {
            if self.is_day(date)
                && let Some([hour, minute, second]) = self.time(earliest)
            {
                let [hour, minute, second] = [hour, minute, second].map(u8::cast_signed);
                return Some(date.at(hour, minute, second, 0));
            }
            earliest = [0; 3];
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let has = |set: u64, number: i8| set >> number.unsigned_abs() & 1 == 1;
        if !has(self.months, date.month()) {
            return false;
        }
        let last = self.days.last && date.day() == date.days_in_month();
        let by_day = self.days.set.map(|set| has(set, date.day()) || last);
        let weekday = date.weekday().to_sunday_zero_offset();
        let by_weekday = self.weekdays.map(|set| has(set, weekday));
        match (by_day, by_weekday) {
            (None, None) => true,
            (Some(fits), None) | (None, Some(fits)) => fits,
            (Some(day), Some(weekday)) => day || weekday,
        }
    }

    /// The first time of a day that is not before this one.
    fn time(&self, [hour, minute, second]: [u8; 3]) -> Option<[u8; 3]> {
        let first = |set| at_least(set, 0);
        let found = at_least(self.hours, hour)?;
        if found == hour {
            let same_minute = at_least(self.minutes, minute) == Some(minute);
            if same_minute && let Some(second) = at_least(self.seconds, second) {
                return Some([hour, minute, second]);
            }
            let from = if same_minute { minute + 1 } else { minute };
            if let Some(minute) = at_least(self.minutes, from) {
                return Some([hour, minute, first(self.seconds)?]);
            }
        }
        let later = at_least(self.hours, if found == hour { hour + 1 } else { found })?;
        Some([later, first(self.minutes)?, first(self.seconds)?])
    }

    /// Only days of the month can be none: all other fields have a number.
    fn never_comes(&self) -> bool {
        let Some(days) = self.days.set.filter(|_| self.weekdays.is_none()) else {
            return false;
        };
        let longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let fits = |(month, length): (u32, &u32)| {
            self.months >> (month + 1) & 1 == 1
                && at_least(days, 0).is_some_and(|day| u32::from(day) <= *length)
        };
        !self.days.last && !(0..).zip(&longest).any(fits)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        Self::parse(&text)
    }
}

impl Days {
    fn read(text: &str) -> Result<Self, CronError> {
        if matches!(text, "*" | "?") {
            return Ok(Self {
                set: None,
                last: false,
            });
        }
        let is_last = |part: &&str| part.eq_ignore_ascii_case("l");
        let numbers: Vec<&str> = text.split(',').filter(|part| !is_last(part)).collect();
        let set = if numbers.is_empty() {
            0
        } else {
            DAY.read(&numbers.join(","))?
        };
        Ok(Self {
            set: Some(set),
            last: text.split(',').any(|part| is_last(&part)),
        })
    }
}

fn optional(field: &Field, text: &str) -> Result<Option<u64>, CronError> {
    if matches!(text, "*" | "?") {
        return Ok(None);
    }
    field.read(text).map(Some)
}

/// The least number of a set that is not below `from`.
fn at_least(set: u64, from: u8) -> Option<u8> {
    let left = set.checked_shr(u32::from(from))?;
    let above = u8::try_from(left.trailing_zeros()).ok()?;
    (left != 0).then(|| from + above)
}

impl Field {
    const fn numbers(name: &'static str, min: u8, max: u8) -> Self {
        Self {
            name,
            min,
            max,
            names: &[],
        }
    }

    /// `1,5-9,*/20` as a set of bits.
    fn read(&self, text: &str) -> Result<u64, CronError> {
        text.split(',')
            .try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, CronError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (self.min, self.max),
            Some((first, last)) => (self.number(first, text)?, self.number(last, text)?),
            // `5/20` begins at 5 and goes on to the end.
            None if step.is_some() => (self.number(range, text)?, self.max),
            None => {
                let number = self.number(range, text)?;
                (number, number)
            }
        };
        // `fri-sun`: a week may end with Sunday.
        let last = if last == 0 && self.max == 7 && first > 0 {
            7
        } else {
            last
        };
        if first > last {
            return Err(self.wrong(text, "runs backwards; write the smaller number first"));
        }
        let step = match step {
            None => 1,
            Some(step) => step
                .parse::<u8>()
                .ok()
                .filter(|step| (1..=self.max).contains(step))
                .ok_or_else(|| self.wrong(text, &format!("has no step from 1 to {}", self.max)))?,
        };
        Ok((first..=last)
            .step_by(usize::from(step))
            .fold(0, |set, number| set | 1 << number))
    }

    fn number(&self, text: &str, part: &str) -> Result<u8, CronError> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(at) => u8::try_from(at).ok().map(|at| at + self.min),
            None => text.parse().ok(),
        };
        number
            .filter(|number| (self.min..=self.max).contains(number))
            .ok_or_else(|| self.wrong(part, &self.wanted()))
    }

    fn wanted(&self) -> String {
        let names = match self.names {
            [first, .., last] => format!(" or a name from `{first}` to `{last}`"),
            _ => String::new(),
        };
        format!("is not a number from {} to {}{names}", self.min, self.max)
    }

    fn wrong(&self, part: &str, why: &str) -> CronError {
        CronError(format!("its {} {} {why}", self.name, shown(part)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn times(pattern: &str, zone: &str, after: &str, expected: &[&str]) {
        // Rules as POSIX writes them, so that no machine needs a database.
        let zone = TimeZone::posix(zone).unwrap();
        let cron = Cron::parse(pattern).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        for wanted in expected {
            at = cron.next(at, &zone).unwrap();
            assert_eq!(at.to_string(), *wanted, "{pattern}");
        }
    }

    #[track_caller]
    fn refused(pattern: &str, expected: &str) {
        assert_eq!(Cron::parse(pattern).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_next_time_is_found() {
        let after = "2026-01-31T23:59:59.5Z";
        let check = |pattern: &str, expected: &[&str]| times(pattern, "UTC0", after, expected);
        check(
            "* * * * *",
            &["2026-02-01T00:00:00Z", "2026-02-01T00:01:00Z"],
        );
        check(
            "*/30 * * * * *",
            &["2026-02-01T00:00:00Z", "2026-02-01T00:00:30Z"],
        );
        check(
            "30 4 * * *",
            &["2026-02-01T04:30:00Z", "2026-02-02T04:30:00Z"],
        );
        check(
            "0 0 29 2 *",
            &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        );
        check(
            "0 12 L * *",
            &["2026-02-28T12:00:00Z", "2026-03-31T12:00:00Z"],
        );
        check(
            "0 0 * * fri-sun",
            &["2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z"],
        );
        check("0 0 * JUL 7", &["2026-07-05T00:00:00Z"]);
        check(
            "@monthly",
            &["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"],
        );
        check(
            "10/25 1,3 * * ?",
            &[
                "2026-02-01T01:10:00Z",
                "2026-02-01T01:35:00Z",
                "2026-02-01T03:10:00Z",
            ],
        );
        // Either day is enough.
        check(
            "0 0 13 * 5",
            &["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z"],
        );
        check("59 59 23 31 12 *", &["2026-12-31T23:59:59Z"]);
    }

    #[test]
    fn a_clock_that_is_put_forward_or_back_loses_and_doubles_nothing() {
        // 2:30 does not exist on 29 March: it comes an hour later by the sun, 3:30 on the clock.
        times(
            "30 2 * * *",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
        );
        // 2:30 comes twice on 25 October.
        times(
            "30 2 * * *",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
        times(
            "30 * * * *",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "2026-10-25T00:00:00Z",
            &[
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:30:00Z",
            ],
        );
        times(
            "0 * * * *",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "2026-10-24T23:30:00Z",
            &[
                "2026-10-25T00:00:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T02:00:00Z",
            ],
        );
    }

    #[test]
    fn a_typo_is_named() {
        refused(
            "* * * *",
            "it has 4 fields, not 5 (minute, hour, day, month, day of the week) or 6 (second first)",
        );
        refused("61 * * * *", "its minute `61` is not a number from 0 to 59");
        refused(
            "* * * * mun",
            "its day of the week `mun` is not a number from 0 to 7 or a name from `sun` to `sat`",
        );
        refused("*/0 * * * *", "its minute `*/0` has no step from 1 to 59");
        refused(
            "* 9-5 * * *",
            "its hour `9-5` runs backwards; write the smaller number first",
        );
        refused(
            "0 0 30 2 *",
            "no such month has such a day, so that time never comes",
        );
        refused(
            "@reboot",
            "it has 1 fields, not 5 (minute, hour, day, month, day of the week) or 6 (second first)",
        );
        refused("1,, * * * *", "its minute `` is not a number from 0 to 59");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_time_lies_ahead(fields in proptest::collection::vec("[0-9*/,L?-]{1,4}", 5..7), after in 0i64..4_000_000_000) {
            let text = fields.join(" ");
            if let Ok(cron) = Cron::parse(&text) {
                let after = Timestamp::from_second(after).unwrap();
                let zone = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
                let next = cron.next(after, &zone);
                prop_assert!(next.is_some_and(|next| next > after), "{text}");
            }
        }
    }
}
