//! A day, as books are kept. Pure.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp as JiffTimestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{IdError, Timestamp};

const DAY_MILLIS: i64 = 24 * 3600 * 1000;
const DAY_SECONDS: i64 = 24 * 3600;

/// A day of UTC; shown and sent as `2026-11-26`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// The day of this moment.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(DAY_MILLIS))
    }

    /// So many days after 1970-01-01, as stored.
    pub const fn from_number(days: i64) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i64 {
        self.0
    }

    /// So many days before this one.
    pub fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(i64::from(days)))
    }

    /// Its first moment.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(DAY_MILLIS))
    }

    /// Reads `2026-11-26`.
    ///
    /// # Errors
    /// The text is anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Day(text.to_owned());
        let is_plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if !is_plain {
            return Err(bad());
        }
        let date: Date = text.parse().map_err(|_| bad())?;
        let begin = date.to_zoned(TimeZone::UTC).map_err(|_| bad())?;
        Ok(Self(begin.timestamp().as_second().div_euclid(DAY_SECONDS)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match JiffTimestamp::from_second(self.0.saturating_mul(DAY_SECONDS)) {
            Ok(begin) => write!(f, "{}", begin.to_zoned(TimeZone::UTC).date()),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Day {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        let midnight = 1_795_651_200_000;
        for (millis, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (midnight - 1, "2026-11-25"),
            (midnight, "2026-11-26"),
            (midnight + DAY_MILLIS - 1, "2026-11-26"),
        ] {
            let day = Day::of(Timestamp::from_millis(millis));
            assert_eq!(day.to_string(), expected);
            assert_eq!(Day::parse(expected), Ok(day));
        }
        let day = Day::of(Timestamp::from_millis(midnight));
        assert_eq!(day.begin(), Timestamp::from_millis(midnight));
        assert_eq!(day.before(25).to_string(), "2026-11-01");
    }

    #[test]
    fn only_whole_dates_are_days() {
        for bad in [
            "",
            "2026-11",
            "2026-02-30",
            "20261126",
            "2026-11-26T00:00:00Z",
            "26-11-2026",
            "yesterday",
        ] {
            assert!(Day::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(number in -700_000i64..2_000_000) {
            let day = Day::from_number(number);
            let text = day.to_string();
            // Years before 1 and after 9999 are written otherwise, and are nobody's books.
            if text.len() == 10 {
                prop_assert_eq!(Day::parse(&text), Ok(day));
            }
        }
    }
}
