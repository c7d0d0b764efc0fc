//! How much may pass: `limits` of the daemon and of a service. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Report;
use super::fields::{self, Fields};
use super::keys::{BYTE_RATE, LIMITS, MCP_LIMITS, QUOTA, REQUEST_RATE};
use super::syntax::{Node, Value};
use super::{typed, units};
use crate::ids::GroupName;

/// Greatest `per_minute` and `burst` of requests.
const REQUESTS_MAX: i64 = 100_000_000;
/// Greatest `per_minute` and `burst` of bytes: 1 PiB.
const BYTES_MAX: u64 = 1 << 50;

/// Calls of the REST API by one user: a page that polls twenty things a second is not in its way.
const CALLS: Rate = Rate {
    per_minute: 1200,
    burst: 1200,
};
/// Questions to an external service for one user: somebody who pastes keys, and no program that tries them.
const VALIDATIONS: Rate = Rate {
    per_minute: 30,
    burst: 30,
};

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Refill; 0 when it was said that there is no limit.
    pub per_minute: u64,
    /// Size of the bucket.
    pub burst: u64,
}

impl Rate {
    /// No limit, and that was said.
    pub const UNLIMITED: Self = Self {
        per_minute: 0,
        burst: 0,
    };

    /// Does it limit anything?
    pub fn is_limit(self) -> bool {
        self.per_minute > 0
    }
}

/// What one instance, user or service may be sent; `None` where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Requests.
    pub requests: Option<Rate>,
    /// Bytes of bodies, both ways.
    pub bytes: Option<Rate>,
    /// Streams that are open at once; 0 when it was said that there is no limit.
    pub streams: Option<u32>,
}

impl Quota {
    /// Nothing is limited, and that was said.
    const UNLIMITED: Self = Self {
        requests: Some(Rate::UNLIMITED),
        bytes: Some(Rate::UNLIMITED),
        streams: Some(0),
    };

    /// What this one says, and else what the other says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            requests: self.requests.or(other.requests),
            bytes: self.bytes.or(other.bytes),
            streams: self.streams.or(other.streams),
        }
    }

    /// What is limited, without what is said not to be.
    #[must_use]
    pub fn in_force(self) -> Self {
        Self {
            requests: self.requests.filter(|rate| rate.is_limit()),
            bytes: self.bytes.filter(|rate| rate.is_limit()),
            streams: self.streams.filter(|&streams| streams > 0),
        }
    }

    /// Does it limit anything?
    pub fn is_limit(self) -> bool {
        self.in_force() != Self::default()
    }
}

/// For people.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        said.extend(self.requests.map(|rate| match rate.is_limit() {
            false => "requests unlimited".to_owned(),
            true => format!("{} requests/min (burst {})", rate.per_minute, rate.burst),
        }));
        said.extend(self.bytes.map(|rate| match rate.is_limit() {
            false => "bytes unlimited".to_owned(),
            true => {
                let (each, burst) = (written(rate.per_minute), written(rate.burst));
                format!("{each} bytes/min (burst {burst})")
            }
        }));
        said.extend(self.streams.map(|streams| match streams {
            0 => "streams unlimited".to_owned(),
            1 => "1 stream".to_owned(),
            streams => format!("{streams} streams"),
        }));
        if said.is_empty() {
            said.push("none".to_owned());
        }
        f.write_str(&said.join(", "))
    }
}

/// A size as it stands in a file.
fn written(bytes: u64) -> String {
    for (shift, letter) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{letter}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// `limits` of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Of each instance.
    pub instance: Quota,
    /// Of each user.
    pub user: Quota,
    /// Of each service.
    pub service: Quota,
    /// Of each user of a group, where that differs.
    pub groups: BTreeMap<GroupName, Quota>,
    /// Calls of the REST API by each user; `None` for what holds where nothing is said.
    #[serde(default)]
    pub calls: Option<Rate>,
    /// Credentials that an external service is asked about, of each user and service; the same.
    #[serde(default)]
    pub validations: Option<Rate>,
}

impl LimitsSpec {
    /// What each user may call the REST API.
    pub fn of_calls(&self) -> Rate {
        self.calls.unwrap_or(CALLS)
    }

    /// How often an external service is asked for one user.
    pub fn of_validations(&self) -> Rate {
        self.validations.unwrap_or(VALIDATIONS)
    }

    /// What holds for each user of this group, or for one of none. A group that is not there any
    /// more says nothing.
    pub fn of_user(&self, group: Option<&GroupName>) -> Quota {
        let own = group.and_then(|group| self.groups.get(group));
        own.copied().unwrap_or_default().or(self.user)
    }

    /// Does it limit users?
    pub fn limits_users(&self) -> bool {
        self.user.is_limit() || self.groups.values().any(|quota| quota.is_limit())
    }
}

/// For people.
impl fmt::Display for LimitsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        let all = [
            ("instance", self.instance),
            ("user", self.user),
            ("service", self.service),
        ];
        for (name, quota) in all {
            if quota != Quota::default() {
                said.push(format!("{name}: {quota}"));
            }
        }
        let groups = self.groups.iter();
        said.extend(groups.map(|(name, quota)| format!("group {name}: {quota}")));
        let rates = [("calls", self.calls), ("validations", self.validations)];
        said.extend(rates.into_iter().filter_map(|(name, rate)| {
            let rate = rate?;
            Some(match rate.is_limit() {
                false => format!("{name}: unlimited"),
                true => format!("{name}: {}/min (burst {})", rate.per_minute, rate.burst),
            })
        }));
        if said.is_empty() {
            said.push("none".to_owned());
        }
        f.write_str(&said.join("; "))
    }
}

/// `limits` of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceLimits {
    /// Of each instance.
    pub instance: Quota,
    /// Of the service as a whole.
    pub service: Quota,
}

/// Reads those of the daemon; `None` when they are not there.
pub(crate) fn read(node: Option<&Node>, report: &mut Report) -> Option<LimitsSpec> {
    let node = node?;
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let fields = fields::read(entries, node.at, &LIMITS, report);
    let mut groups = BTreeMap::new();
    for entry in fields.entries("groups") {
        let name = match GroupName::parse(&entry.key) {
            Ok(name) => name,
            Err(error) => {
                report.mistake(entry.at, error.to_string());
                continue;
            }
        };
        match &entry.node.value {
            Value::Map(_) | Value::Bool(false) => {
                groups.insert(name, quota(Some(&entry.node), report));
            }
            _ => report.mistake(
                entry.node.at,
                format!("group `{name}` is no map; write one such as `{{ \"requests\": 600 }}`"),
            ),
        }
    }
    Some(LimitsSpec {
        instance: quota(fields.raw("instance"), report),
        user: quota(fields.raw("user"), report),
        service: quota(fields.raw("service"), report),
        groups,
        calls: own_rate("calls", &fields, report),
        validations: own_rate("validations", &fields, report),
    })
}

fn own_rate(name: &'static str, fields: &Fields, report: &mut Report) -> Option<Rate> {
    requests(name, fields.raw(name)?, report)
}

/// Reads those of a service; what is not there says nothing.
pub(crate) fn of_service(mcp: &Fields, report: &mut Report) -> ServiceLimits {
    let at = mcp.place("limits");
    let fields = fields::read(mcp.entries("limits"), at, &MCP_LIMITS, report);
    let limits = ServiceLimits {
        instance: quota(fields.raw("instance"), report),
        service: quota(fields.raw("service"), report),
    };
    if limits.instance.requests.is_some() && mcp.has("rate_limit") {
        let message = "`rate_limit` and `requests` of `limits.instance` mean the same; keep one";
        report.mistake(fields.place("instance"), message);
    }
    limits
}

fn quota(node: Option<&Node>, report: &mut Report) -> Quota {
    let Some(node) = node else {
        return Quota::default();
    };
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Bool(false) => return Quota::UNLIMITED,
        _ => return Quota::default(),
    };
    let fields = fields::read(entries, node.at, &QUOTA, report);
    let streams = fields.count("streams");
    Quota {
        requests: fields
            .raw("requests")
            .and_then(|node| requests("requests", node, report)),
        bytes: fields.raw("bytes").and_then(|node| bytes(node, report)),
        streams: streams.and_then(|streams| u32::try_from(streams).ok()),
    }
}

fn requests(of: &str, node: &Node, report: &mut Report) -> Option<Rate> {
    match &node.value {
        Value::Map(entries) => {
            let fields = fields::read(entries, node.at, &REQUEST_RATE, report);
            let count = |name| fields.count(name).and_then(|n| u64::try_from(n).ok());
            rate(of, &fields, count, report)
        }
        Value::Bool(false) => Some(Rate::UNLIMITED),
        Value::Number(_) => {
            let Some(per_minute) = typed::whole(node, 0, REQUESTS_MAX) else {
                let message = format!(
                    "`{of}` is how many {of} in a minute; write a whole number, or 0 for no limit"
                );
                report.mistake(node.at, message);
                return None;
            };
            Some(even(u64::try_from(per_minute).ok()?))
        }
        _ => None,
    }
}

fn bytes(node: &Node, report: &mut Report) -> Option<Rate> {
    let size = match &node.value {
        Value::Map(entries) => {
            let fields = fields::read(entries, node.at, &BYTE_RATE, report);
            for name in ["per_minute", "burst"] {
                if fields
                    .size(name)
                    .is_some_and(|size| !(1..=BYTES_MAX).contains(&size))
                {
                    let message = format!("`{name}` is a size such as `\"10M\"`, and not 0");
                    report.mistake(fields.place(name), message);
                    return None;
                }
            }
            return rate("bytes", &fields, |name| fields.size(name), report);
        }
        Value::Bool(false) => Some(0),
        Value::Number(number) => units::whole(number.value),
        Value::Text(text) => units::size(text),
        _ => None,
    };
    let size = size.filter(|&size| size <= BYTES_MAX);
    if size.is_none() {
        let message =
            "`bytes` is bytes in a minute; write a size such as `\"10M\"`, or 0 for no limit";
        report.mistake(node.at, message);
    }
    size.map(even)
}

/// As much at once as in a minute.
fn even(per_minute: u64) -> Rate {
    Rate {
        per_minute,
        burst: per_minute,
    }
}

fn rate(
    of: &str,
    fields: &Fields,
    number: impl Fn(&'static str) -> Option<u64>,
    report: &mut Report,
) -> Option<Rate> {
    let Some(per_minute) = number("per_minute") else {
        if fields.lacks("per_minute") {
            report.mistake(fields.at, format!("`{of}` has no `per_minute`"));
        }
        return None;
    };
    let burst = number("burst").unwrap_or(per_minute);
    Some(Rate { per_minute, burst })
}

#[cfg(test)]
mod tests {
    use super::super::syntax::json;
    use super::*;

    fn limits(text: &str) -> Result<LimitsSpec, String> {
        let mut report = Report::new(Some("f"));
        let node = json::parse(text).unwrap();
        let read = read(Some(&node), &mut report);
        report.finish().map_err(|error| error.to_string())?;
        Ok(read.unwrap())
    }

    fn rate(per_minute: u64, burst: u64) -> Option<Rate> {
        Some(Rate { per_minute, burst })
    }

    #[test]
    fn all_forms_are_read_and_shown() {
        let text = "{instance: {requests: 600}, user: {requests: {per_minute: 60, burst: 5}, bytes: '10M',
            streams: 3}, service: {bytes: {per_minute: '1G', burst: '2000'}},
            groups: {free: {streams: 1, bytes: 1024}, pro: {requests: false, streams: 0}, own: false},
            calls: {per_minute: 5, burst: 2}, validations: 0}";
        let read = limits(text).unwrap();
        assert_eq!(read.instance.requests, rate(600, 600));
        assert_eq!(read.user.bytes, rate(10 << 20, 10 << 20));
        assert_eq!(read.service.bytes, rate(1 << 30, 2000));
        assert_eq!(
            read.to_string(),
            "instance: 600 requests/min (burst 600); user: 60 requests/min (burst 5), 10M bytes/min \
             (burst 10M), 3 streams; service: 1G bytes/min (burst 2000); group free: 1K bytes/min \
             (burst 1K), 1 stream; group own: requests unlimited, bytes unlimited, streams unlimited; \
             group pro: requests unlimited, streams unlimited; calls: 5/min (burst 2); \
             validations: unlimited"
        );
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<LimitsSpec>(&json).unwrap(), read);
        let none = LimitsSpec::default();
        assert_eq!(none.to_string(), "none");
        assert!(none.of_calls().is_limit() && none.of_validations().is_limit());
        assert!(!read.of_validations().is_limit());
    }

    #[test]
    fn a_group_says_what_differs() {
        let text = "{user: {requests: 60, bytes: '1M', streams: 2}, groups: {pro: {requests: 600, bytes: 0}}}";
        let read = limits(text).unwrap();
        let pro = GroupName::parse("pro").unwrap();
        let gone = GroupName::parse("gone").unwrap();
        let of = |group: Option<&GroupName>| read.of_user(group).in_force();
        assert_eq!(of(Some(&pro)).requests, rate(600, 600));
        assert_eq!(
            (of(Some(&pro)).bytes, of(Some(&pro)).streams),
            (None, Some(2))
        );
        assert_eq!(of(None), read.user);
        assert_eq!(of(Some(&gone)), read.user);
        assert!(read.limits_users() && !LimitsSpec::default().limits_users());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, part) in [
            ("{user: {requests: {}}}", "`requests` has no `per_minute`"),
            ("{user: {requests: -1}}", "how many requests in a minute"),
            ("{calls: {}}", "`calls` has no `per_minute`"),
            ("{validations: -1}", "how many validations in a minute"),
            ("{user: {requests: {per_minute: 0}}}", "from 1 to"),
            (
                "{user: {bytes: 'many'}}",
                "f:1:16: `bytes` is bytes in a minute",
            ),
            ("{user: {bytes: {per_minute: 0}}}", "and not 0"),
            ("{user: {streams: -1}}", "from 0 to"),
            ("{user: 5}", "write a map or `false`"),
            ("{groups: {Pro: {}}}", "`Pro` is not a group"),
            ("{groups: {pro: 600}}", "group `pro` is no map"),
            ("{groups: []}", "a map of names"),
        ] {
            let said = limits(text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}
