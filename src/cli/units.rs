//! Durations, sizes and shares as PM2's `ls` writes them. Pure.

use std::time::Duration;

/// `59s`, `2m`, `3h`, `2D`, `2M`, `2Y`: a unit is used from two of it on.
pub(crate) fn uptime(up: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const UNITS: [(u64, char); 5] = [
        (365 * DAY, 'Y'),
        (30 * DAY, 'M'),
        (DAY, 'D'),
        (HOUR, 'h'),
        (MINUTE, 'm'),
    ];
    let seconds = up.as_secs();
    for (unit, letter) in UNITS {
        if seconds >= 2 * unit {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

/// `0b`, `49.6mb`: base 1024, one decimal.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn memory(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            return format!("{:.1}{name}", bytes as f64 / unit as f64);
        }
    }
    format!("{bytes}b")
}

/// `0%`, `0.6%`, `250%`: one decimal, none for whole numbers.
pub(crate) fn percent(share: f32) -> String {
    let text = format!("{share:.1}");
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

/// `41 ms`, `1.2 s`, `65 s`: how long something took.
pub(crate) fn took(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} s", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_used_from_two_of_it_on() {
        let day = 24 * 3600;
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (119 * 60 + 59, "119m"),
            (2 * 3600, "2h"),
            (2 * day - 1, "47h"),
            (2 * day, "2D"),
            (59 * day, "59D"),
            (60 * day, "2M"),
            (729 * day, "24M"),
            (730 * day, "2Y"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, text) in [
            (0, "0b"),
            (1023, "1023b"),
            (1024, "1.0kb"),
            (50_226_790, "47.9mb"),
            (3 << 30, "3.0gb"),
        ] {
            assert_eq!(memory(bytes), text);
        }
    }

    #[test]
    fn shares_and_times_are_short() {
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(0.64), "0.6%");
        assert_eq!(percent(250.0), "250%");
        assert_eq!(took(Duration::from_millis(41)), "41 ms");
        assert_eq!(took(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(took(Duration::from_secs(65)), "65 s");
    }
}
