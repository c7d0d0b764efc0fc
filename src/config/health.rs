//! The `health` block of a service → how to see whether it is alive.

use std::time::Duration;

use super::error::Report;
use super::fields::{self, Fields};
use super::keys::HEALTH;
use super::spec::{HealthSpec, Probe};
use super::syntax::{Node, Value};
use super::typed::is_url_path;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(2);
const UNHEALTHY_AFTER: u32 = 3;
/// Shorter ones ask more than they learn.
const SHORTEST: Duration = Duration::from_millis(10);

/// Reads it; `asked` is the path that is asked when the block names none.
pub(crate) fn read(node: Option<&Node>, asked: &str, report: &mut Report) -> HealthSpec {
    let default = HealthSpec {
        readiness: Probe::Tcp,
        liveness: Probe::Http(asked.to_owned()),
        interval: INTERVAL,
        timeout: TIMEOUT,
        unhealthy_after: UNHEALTHY_AFTER,
        expect: Vec::new(),
    };
    let Some(node) = node else { return default };
    match &node.value {
        Value::Bool(false) => HealthSpec {
            liveness: Probe::None,
            ..default
        },
        Value::Text(path) if is_url_path(path) => both(Probe::Http(path.clone()), default),
        Value::Text(_) => {
            let message = format!(
                "`health` is {}; write a path such as `/health`",
                node.described()
            );
            report.mistake(node.at, message);
            default
        }
        Value::Map(entries) => {
            let fields = fields::read(entries, node.at, &HEALTH, report);
            from_fields(&fields, default, report)
        }
        _ => default,
    }
}

fn both(probe: Probe, health: HealthSpec) -> HealthSpec {
    HealthSpec {
        readiness: probe.clone(),
        liveness: probe,
        ..health
    }
}

fn from_fields(fields: &Fields, default: HealthSpec, report: &mut Report) -> HealthSpec {
    let tcp = fields.flag("tcp") == Some(true);
    let mut health = match (fields.owned_text("http"), tcp) {
        (Some(_), true) => {
            report.mistake(
                fields.place("tcp"),
                "`health` has both `http` and `tcp`; keep one",
            );
            default
        }
        (Some(path), false) => both(Probe::Http(path), default),
        (None, true) => both(Probe::Tcp, default),
        (None, false) => default,
    };
    for (name, target) in [
        ("interval", &mut health.interval),
        ("timeout", &mut health.timeout),
    ] {
        match fields.duration(name) {
            Some(given) if given < SHORTEST => {
                let message =
                    format!("`{name}` is shorter than 10 ms; write a time such as `\"2s\"`");
                report.mistake(fields.place(name), message);
            }
            Some(given) => *target = given,
            None => {}
        }
    }
    if let Some(count) = fields
        .count("unhealthy_after")
        .and_then(|n| u32::try_from(n).ok())
    {
        health.unhealthy_after = count;
    }
    health.expect = statuses(fields, "expect");
    if !health.expect.is_empty() && health.liveness == Probe::Tcp {
        report.warn(fields.place("expect"), "`expect` means nothing with `tcp`");
    }
    health
}

/// HTTP statuses; the table has checked their range.
pub(crate) fn statuses(fields: &Fields, name: &str) -> Vec<u16> {
    fields
        .numbers(name)
        .iter()
        .filter_map(|&status| u16::try_from(status).ok())
        .collect()
}
