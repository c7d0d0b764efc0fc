//! Service ports that an outgoing connection may take.
//!
//! The kernel gives outgoing connections ports of one range, and a service whose port is one of
//! them cannot bind while that connection lives. Only `net.ipv4.ip_local_reserved_ports` keeps
//! other programs' connections off.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{SERVICE_PORTS, outgoing};

const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

/// What to do for these ports on this machine; `None` when none of them is in danger, or the
/// kernel does not say.
pub fn warning(ports: &[u16]) -> Option<String> {
    if ports.is_empty() {
        return None;
    }
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let range = outgoing::parse(&read("ip_local_port_range").ok()?)?;
    let reserved = read("ip_local_reserved_ports").ok()?;
    advice(ports, &range, reserved.trim())
}

/// The same, of what the kernel says.
fn advice(ports: &[u16], range: &RangeInclusive<u16>, reserved: &str) -> Option<String> {
    let kept = ranges(reserved);
    let in_danger = |port: &u16| range.contains(port) && !kept.iter().any(|r| r.contains(port));
    let bare: BTreeSet<u16> = ports.iter().copied().filter(in_danger).collect();
    let first = bare.first()?;
    // The reference range is reserved whole: the next service will be in it, too.
    let mut add: Vec<RangeInclusive<u16>> = Vec::new();
    if bare.iter().any(|port| SERVICE_PORTS.contains(port)) {
        add.push(SERVICE_PORTS);
    }
    for &port in bare.iter().filter(|port| !SERVICE_PORTS.contains(port)) {
        match add.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(port) => *last = *last.start()..=port,
            _ => add.push(port..=port),
        }
    }
    let mut value: Vec<String> = add.iter().map(shown).collect();
    if !reserved.is_empty() {
        value.insert(0, reserved.to_owned());
    }
    let those = match bare.len() {
        1 => " lies".to_owned(),
        count => format!(" and {} more lie", count - 1),
    };
    let (low, high) = (range.start(), range.end());
    Some(format!(
        "port {first}{those} among those of outgoing connections ({low}-{high}), any of \
         which may take it: reserve it with `sysctl -w {RESERVED}={}`",
        value.join(",")
    ))
}

fn shown(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

/// `1-3,7` as the kernel writes it.
fn ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let one = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some(low.trim().parse().ok()?..=high.trim().parse().ok()?)
    };
    text.split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ports: &[u16], reserved: &str, expected: Option<(&str, &str)>) {
        let said = advice(ports, &(32768..=60999), reserved);
        match (said, expected) {
            (None, None) => {}
            (Some(said), Some((begin, value))) => {
                assert!(said.starts_with(begin), "{said}");
                assert!(said.ends_with(&format!("{RESERVED}={value}`")), "{said}");
            }
            (said, _) => panic!("{said:?}"),
        }
    }

    #[test]
    fn ports_outside_of_the_range_or_reserved_are_in_no_danger() {
        check(&[], "", None);
        check(&[8080, 61000], "", None);
        check(&[49160, 49999], "49160-49999", None);
        check(&[40000, 49160], "1-2,40000,49160", None);
    }

    #[test]
    fn one_warning_says_what_to_type_and_keeps_what_is_reserved() {
        check(
            &[49161, 49160],
            "",
            Some(("port 49160 and 1 more lie", "49160-49999")),
        );
        check(
            &[40001, 40000, 50000, 8080],
            "33000",
            Some(("port 40000 and 2 more lie", "33000,40000-40001,50000")),
        );
        check(&[40000], "", Some(("port 40000 lies", "40000")));
    }
}
