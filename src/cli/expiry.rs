//! When something is to end: `90d` from now, or a point in time.

use crate::config::units;
use crate::ids::Timestamp;

/// What an argument says.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    read(text, Timestamp::now()).ok_or_else(|| {
        "write how long from now, such as `90d` or `12h`, or a time such as \
         `2027-01-31T00:00:00Z`"
            .to_owned()
    })
}

/// A bare number would be milliseconds, which nobody means here.
fn read(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp::from_millis(time.as_millisecond()));
    }
    if !text.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let millis = i64::try_from(units::duration(text)?.as_millis()).ok()?;
    Some(Timestamp::from_millis(
        now.as_millis().saturating_add(millis),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_from_now_or_a_point_in_time() {
        let now = Timestamp::from_millis(1_000);
        let check = |text: &str, millis: Option<i64>| {
            let expected = millis.map(Timestamp::from_millis);
            assert_eq!(read(text, now), expected, "{text}");
        };
        check("90d", Some(1_000 + 90 * 86_400_000));
        check("1.5h", Some(1_000 + 5_400_000));
        check("1970-01-01T00:00:05Z", Some(5_000));
        check("1970-01-01T01:00:00+01:00", Some(0));
        for bad in ["", "90", "90 y", "tomorrow", "-1d", "2027-01-31", "99999d"] {
            check(bad, None);
        }
    }
}
