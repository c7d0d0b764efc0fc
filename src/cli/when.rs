//! A time as people write it → a time: `90d` ahead or `2h` ago, a date, a date with a time of day, RFC 3339.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::units;
use crate::ids::Timestamp;

/// When something is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End(pub(crate) Option<Timestamp>);

/// Which way a length of time leads from now.
#[derive(Clone, Copy, Debug)]
enum Lengths {
    Ahead,
    Back,
}

/// A time to come.
///
/// # Errors
/// Says what to write.
pub(crate) fn later(text: &str) -> Result<Timestamp, String> {
    read(text, Lengths::Ahead, Timestamp::now(), &TimeZone::system()).ok_or_else(|| {
        "write how long from now, such as `90d` or `12h`, or a time such as `2027-01-31`, \
         `2027-01-31 18:00` or `2027-01-31T00:00:00Z`"
            .to_owned()
    })
}

/// The same, or `never`.
///
/// # Errors
/// Says what to write.
pub(crate) fn end(text: &str) -> Result<End, String> {
    if text.trim() == "never" {
        return Ok(End(None));
    }
    let end = later(text).map_err(|write| format!("{write}, or `never`"))?;
    Ok(End(Some(end)))
}

/// A time that has been.
///
/// # Errors
/// Says what to write.
pub(crate) fn earlier(text: &str) -> Result<Timestamp, String> {
    read(text, Lengths::Back, Timestamp::now(), &TimeZone::system()).ok_or_else(|| {
        "write how long ago, such as `7d` or `2h`, or a time such as `2026-11-22`, \
         `2026-11-22 18:00` or `2026-11-22T23:49:07Z`"
            .to_owned()
    })
}

/// A date without an offset is one of this zone.
fn read(text: &str, lengths: Lengths, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if text == "now" {
        return Some(now);
    }
    // A bare number would be milliseconds, which nobody means here.
    if text.ends_with(|c: char| c.is_ascii_alphabetic())
        && let Some(length) = units::duration(text)
    {
        let (now, length) = (now.as_millis(), i64::try_from(length.as_millis()).ok()?);
        return Some(Timestamp::from_millis(match lengths {
            Lengths::Ahead => now.saturating_add(length),
            Lengths::Back => now.saturating_sub(length),
        }));
    }
    Timestamp::parse(text).or_else(|| {
        let local: DateTime = text.parse().ok()?;
        let time = local.to_zoned(zone.clone()).ok()?.timestamp();
        Some(Timestamp::from_millis(time.as_millisecond()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let check = |text: &str, lengths: Lengths, expected: &str| {
            let got = read(text, lengths, now, &TimeZone::UTC);
            assert_eq!(got.map(|time| time.to_string()).as_deref(), Some(expected));
        };
        check("30d", Lengths::Ahead, "2027-02-14T08:00:00.000Z");
        check("12h", Lengths::Ahead, "2027-01-15T20:00:00.000Z");
        check("1.5h", Lengths::Ahead, "2027-01-15T09:30:00.000Z");
        check("7d", Lengths::Back, "2027-01-08T08:00:00.000Z");
        for lengths in [Lengths::Ahead, Lengths::Back] {
            check("now", lengths, "2027-01-15T08:00:00.000Z");
            check("2027-01-31", lengths, "2027-01-31T00:00:00.000Z");
            check(" 2027-01-31 18:00 ", lengths, "2027-01-31T18:00:00.000Z");
            check("2027-01-31T18:00:00Z", lengths, "2027-01-31T18:00:00.000Z");
            let with_offset = "2027-01-31T18:00:00+02:00";
            check(with_offset, lengths, "2027-01-31T16:00:00.000Z");
        }
    }

    #[test]
    fn what_is_no_time_is_told_with_what_would_be_one() {
        for text in [
            "",
            "30",
            "1600",
            "soon",
            "yesterday",
            "2 weeks",
            "90 y",
            "2027-13-01",
            "31.1.2027",
            "-1d",
            "1y",
            "99999d",
        ] {
            let refused = later(text).unwrap_err();
            assert!(refused.contains("how long from now"), "{text}: {refused}");
            let refused = earlier(text).unwrap_err();
            assert!(refused.contains("how long ago"), "{text}: {refused}");
            let refused = end(text).unwrap_err();
            assert!(refused.ends_with("or `never`"), "{text}: {refused}");
        }
    }

    #[test]
    fn never_is_an_end_and_no_time() {
        assert_eq!(end("never"), Ok(End(None)));
        assert_eq!(
            end("2027-01-31T18:00:00Z").unwrap().0,
            Timestamp::parse("2027-01-31T18:00:00Z")
        );
        assert!(later("never").is_err() && earlier("never").is_err());
    }
}
