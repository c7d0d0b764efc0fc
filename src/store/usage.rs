//! How much of a service a user has used on a day. Pure.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;

use super::histogram::Histogram;
use crate::ids::{Day, ServiceType, UserId};

/// Numbers that add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that were answered.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Bytes of bodies that clients sent.
    pub bytes_in: u64,
    /// Bytes of bodies that services answered.
    pub bytes_out: u64,
    /// How long all answers took together until their heads were there, in µs.
    pub latency_us: u64,
    /// The longest of them, in µs.
    pub latency_max_us: u64,
    /// All of them.
    pub latencies: Histogram,
}

impl Usage {
    /// Adds another part.
    pub fn add(&mut self, part: &Self) {
        let sum = |mine: &mut u64, theirs: u64| *mine = mine.saturating_add(theirs);
        sum(&mut self.requests, part.requests);
        sum(&mut self.errors, part.errors);
        sum(&mut self.bytes_in, part.bytes_in);
        sum(&mut self.bytes_out, part.bytes_out);
        sum(&mut self.latency_us, part.latency_us);
        self.latency_max_us = self.latency_max_us.max(part.latency_max_us);
        self.latencies.merge(&part.latencies);
    }

    /// Nothing was counted.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The latency that so many of a thousand requests did not exceed, in µs.
    pub fn quantile(&self, per_mille: u32) -> Option<u64> {
        self.latencies.quantile(per_mille, self.latency_max_us)
    }
}

/// Whose usage, of what, when: one row for each. In the order of pages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey {
    /// UTC.
    pub day: Day,
    /// Who. A user who was removed keeps their rows.
    pub user: UserId,
    /// Of what.
    pub service: ServiceType,
}

/// As a cursor: opaque to callers, and parsed at the door.
impl fmt::Display for UsageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // None of the three holds a line end.
        let text = format!("{}\n{}\n{}", self.day.number(), self.service, self.user);
        f.write_str(&BASE64URL_NOPAD.encode(text.as_bytes()))
    }
}

/// A text that is no cursor of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is none of ours")]
pub struct BadCursor;

impl FromStr for UsageKey {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let plain = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let plain = plain.ok_or(BadCursor)?;
        let mut parts = plain.splitn(3, '\n');
        let mut part = || parts.next().ok_or(BadCursor);
        Ok(Self {
            day: Day::from_number(part()?.parse().map_err(|_| BadCursor)?),
            service: ServiceType::parse(part()?).map_err(|_| BadCursor)?,
            user: UserId::parse(part()?).map_err(|_| BadCursor)?,
        })
    }
}

/// A row, or what is to be added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Which.
    pub key: UsageKey,
    /// How much.
    pub usage: Usage,
}

/// Which rows; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of this user.
    pub user: Option<UserId>,
    /// Of this service.
    pub service: Option<ServiceType>,
    /// Of this day and later ones.
    pub from: Option<Day>,
    /// Of this day and earlier ones.
    pub to: Option<Day>,
}

impl UsageFilter {
    /// Does it let this row through?
    pub fn takes(&self, key: &UsageKey) -> bool {
        self.user.as_ref().is_none_or(|user| *user == key.user)
            && self
                .service
                .as_ref()
                .is_none_or(|service| *service == key.service)
            && self.from.is_none_or(|from| key.day >= from)
            && self.to.is_none_or(|to| key.day <= to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cursors_come_back_and_others_are_refused(
            day in any::<i64>(), user in "[^\\p{Cc}]{1,60}", service in "[a-z0-9][a-z0-9_-]{0,63}",
            text in "\\PC*",
        ) {
            let key = UsageKey {
                day: Day::from_number(day),
                user: UserId::parse(&user).unwrap(),
                service: ServiceType::parse(&service).unwrap(),
            };
            prop_assert_eq!(key.to_string().parse::<UsageKey>(), Ok(key));
            // Nothing panics.
            let _ = text.parse::<UsageKey>();
        }
    }

    #[test]
    fn parts_add_up() {
        let part = |requests, max| {
            let mut latencies = Histogram::default();
            latencies.add(3, requests);
            Usage {
                requests,
                errors: 1,
                bytes_in: 10,
                bytes_out: 20,
                latency_us: 100 * requests,
                latency_max_us: max,
                latencies,
            }
        };
        let mut sum = Usage::default();
        assert!(sum.is_nothing());
        sum.add(&part(2, 900));
        sum.add(&part(3, 500));
        assert_eq!((sum.requests, sum.errors), (5, 2));
        assert_eq!((sum.bytes_in, sum.bytes_out), (20, 40));
        assert_eq!((sum.latency_us, sum.latency_max_us), (500, 900));
        assert_eq!(sum.latencies.total(), 5);
        assert!(!sum.is_nothing());
    }
}
