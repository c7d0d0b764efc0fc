//! "200M" → bytes; "10s", "1600" or 1600 → a duration.
//!
//! More than PM2 takes: lower case, fractions, and every unit for every size and duration.

use std::time::Duration;

/// Longer waits are mistakes; also keeps `now + duration` far from overflow.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Base 1024, as PM2. A bare number is bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit = unit.to_ascii_lowercase();
    let letter = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let power = match letter {
        "" if !unit.starts_with('i') => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    whole(number * 1024_f64.powi(power))
}

/// A bare number is milliseconds, as PM2.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit.to_ascii_lowercase().as_str() {
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    millis_to_duration(number * millis)
}

/// Milliseconds as they stand in a file: whole and not negative.
pub(crate) fn millis_to_duration(millis: f64) -> Option<Duration> {
    let found = Duration::from_millis(whole(millis)?);
    (found <= DURATION_MAX).then_some(found)
}

/// A whole number that a float holds exactly.
pub(crate) fn whole(number: f64) -> Option<u64> {
    let exact = (0.0..=9_007_199_254_740_991.0).contains(&number) && number.fract() == 0.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked on the line above"
    )]
    exact.then_some(number as u64)
}

/// A decimal number without sign or exponent, and the letters after it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("200M", 200 << 20),
            ("200m", 200 << 20),
            ("1G", 1 << 30),
            ("1.5G", 3 << 29),
            ("512 KiB", 512 << 10),
            ("64kb", 64 << 10),
            ("1048576", 1 << 20),
            ("10B", 10),
            ("0", 0),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in [
            "", "M", "-1M", "1X", "1.0001K", "1MM", "1e3", ".5G", "1.2.3", "1 i", "1ib",
        ] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("1600", 1600),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1.5s", 1500),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(duration("250 ms"), Some(Duration::from_millis(250)));
        for bad in ["", "s", "-1", "1x", "0.5", "1s2m", "99999d", "1e9"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = (size(&text), duration(&text));
        }

        #[test]
        fn a_number_of_milliseconds_is_what_it_says(n in 0u64..1_000_000_000) {
            prop_assert_eq!(duration(&n.to_string()), Some(Duration::from_millis(n)));
            prop_assert_eq!(duration(&format!("{n}ms")), Some(Duration::from_millis(n)));
        }
    }
}
