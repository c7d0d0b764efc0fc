//! A time to come as people write it → a time. Pure.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::units;
use crate::ids::Timestamp;

/// What a refusal tells to write.
const FORMS: &str =
    "write `30d`, `12h`, `2027-01-31`, `2027-01-31 18:00`, an RFC 3339 time, or `never`";

/// Reads it; `None` is never. A date without an offset is one of this zone.
///
/// # Errors
/// Says what to write.
pub(crate) fn parse(
    text: &str,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Option<Timestamp>, String> {
    let text = text.trim();
    if text == "never" {
        return Ok(None);
    }
    if text == "now" {
        return Ok(Some(now));
    }
    // A bare number would be milliseconds, which nobody means here.
    if text.ends_with(|c: char| c.is_ascii_alphabetic())
        && let Some(after) = units::duration(text)
    {
        let millis = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let end = now.as_millis().saturating_add(millis);
        return Ok(Some(Timestamp::from_millis(end)));
    }
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        Some(local.to_zoned(zone.clone()).ok()?.timestamp())
    });
    let time = time.ok_or_else(|| format!("`{text}` is no time; {FORMS}"))?;
    Ok(Some(Timestamp::from_millis(time.as_millisecond())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let check = |text: &str, expected: Option<&str>| {
            let got = parse(text, now, &TimeZone::UTC).unwrap();
            assert_eq!(got.map(|time| time.to_string()).as_deref(), expected);
        };
        check("never", None);
        check("now", Some("2027-01-15T08:00:00.000Z"));
        check("30d", Some("2027-02-14T08:00:00.000Z"));
        check("12h", Some("2027-01-15T20:00:00.000Z"));
        check("2027-01-31", Some("2027-01-31T00:00:00.000Z"));
        check("2027-01-31 18:00", Some("2027-01-31T18:00:00.000Z"));
        check(
            "2027-01-31T18:00:00+02:00",
            Some("2027-01-31T16:00:00.000Z"),
        );
    }

    #[test]
    fn what_is_no_time_is_told_with_what_would_be_one() {
        let now = Timestamp::from_millis(0);
        for text in ["", "30", "soon", "2027-13-01", "31.1.2027", "-1d", "1y"] {
            let refused = parse(text, now, &TimeZone::UTC).unwrap_err();
            assert!(refused.contains("30d"), "{text}: {refused}");
        }
    }
}
