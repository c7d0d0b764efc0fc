//! The nouns all rooms share.
//!
//! Each is parsed once, at the door, and trusted behind it: who holds a [`ServiceType`] holds one
//! that fits into a URL. Rules are named at each type.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use jiff::Timestamp as JiffTimestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::Secret;

mod day;
mod source;

pub use day::Day;
pub use source::Source;

/// Why a word is not the noun it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not of the form a [`ServiceType`] has.
    #[error(
        "`{0}` is not a service type; write 1 to 64 of `a-z`, `0-9`, `_`, `-`, a letter or digit first"
    )]
    ServiceType(String),
    /// Empty, too long, or with control characters.
    #[error("`{0}` is not an app name; write 1 to 255 bytes without control characters")]
    AppName(String),
    /// Empty, too long, or with control characters.
    #[error("a user id has 1 to 255 bytes and no control characters")]
    UserId,
    /// Not of the form an instance prefix has.
    #[error("`{0}` is not a prefix; write a letter, then up to 15 of `a-z`, `0-9`")]
    Prefix(String),
    /// Not 1 to 65535.
    #[error("`{0}` is not a port; write a number from 1 to 65535")]
    Port(String),
    /// Not of the form a [`PublicId`] has.
    #[error("`{0}` is not an instance's public number; it looks like `ins_7f3k2m9qxw4t`")]
    PublicId(String),
    /// Not a date.
    #[error("`{0}` is not a day; write a date such as `2026-11-26`")]
    Day(String),
    /// Not of the form a [`GroupName`] has.
    #[error(
        "`{0}` is not a group of users; write 1 to 64 of `a-z`, `0-9`, `_`, `-`, a letter or digit first"
    )]
    GroupName(String),
    /// Empty, too long, or with control characters.
    #[error("a label has 1 to 100 characters and no control characters")]
    Label,
}

/// A checked text: built only by its `parse`, read by `as_str`, serialised as the text.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $error:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text against the rule above.
            ///
            /// # Errors
            /// Says what would be right when the text breaks the rule.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err($error(text)) }
            }

            /// The text as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// The `service` of an `mcp` block, as it stands in URLs: `[a-z0-9][a-z0-9_-]{0,63}`.
    ServiceType,
    |text: &str| IdError::ServiceType(text.to_owned()),
    is_plain_word
);

text_id!(
    /// A group of users, which have limits of their own: `[a-z0-9][a-z0-9_-]{0,63}`.
    GroupName,
    |text: &str| IdError::GroupName(text.to_owned()),
    is_plain_word
);

fn is_plain_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    matches!(bytes.len(), 1..=64)
        && plain(bytes[0])
        && bytes.iter().all(|&b| plain(b) || b == b'_' || b == b'-')
}

text_id!(
    /// The name of an app: 1 to 255 bytes without control characters. PM2 allows slashes and emoji.
    AppName,
    |text: &str| IdError::AppName(text.to_owned()),
    |text| matches!(text.len(), 1..=255) && !text.chars().any(char::is_control)
);

text_id!(
    /// Who owns instances: 1 to 255 bytes without control characters, chosen by the operator.
    UserId,
    |_: &str| IdError::UserId,
    |text| matches!(text.len(), 1..=255) && !text.chars().any(char::is_control)
);

text_id!(
    /// First part of an instance id: `[a-z][a-z0-9]{0,15}`.
    InstancePrefix,
    |text: &str| IdError::Prefix(text.to_owned()),
    |text| {
        let bytes = text.as_bytes();
        matches!(bytes.len(), 1..=16)
            && bytes[0].is_ascii_lowercase()
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    }
);

text_id!(
    /// An instance's public number, for logs, lists and support: `ins_` and 12 of `a-z2-7`.
    /// It opens nothing.
    PublicId,
    |text: &str| IdError::PublicId(text.to_owned()),
    |text| {
        text.strip_prefix("ins_").is_some_and(|rest| {
            rest.len() == 12
                && rest.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'2'..=b'7'))
        })
    }
);

text_id!(
    /// What people call an instance: 1 to 100 characters without control characters.
    Label,
    |_: &str| IdError::Label,
    |text| matches!(text.chars().count(), 1..=100) && !text.chars().any(char::is_control)
);

/// The secret first segment of an instance URL. Who has it has the instance, so its `Debug` shows
/// the prefix only. Imported aliases have other shapes: nothing is refused by shape alone.
pub struct InstanceId(Secret<String>);

impl InstanceId {
    /// Takes a text as an instance id; any text may be one.
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The id itself, for the owner's eyes and for hashing.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.expose().split('_').next().unwrap_or_default();
        let shown: String = prefix.chars().take(16).collect();
        write!(f, "InstanceId({shown}_…)")
    }
}

/// PM2's number of a process: counts from 0, never reused while the list is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PmId(pub u32);

impl fmt::Display for PmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// `None` for 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl FromStr for Port {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = text.parse().ok().map(Self);
        number.ok_or_else(|| IdError::Port(text.to_owned()))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A point in wall-clock time, to the millisecond; shown and sent as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Reads the system's clock; the one place that does. Decisions take the time as an argument.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Reads RFC 3339; `None` for what is no such time.
    pub fn parse(text: &str) -> Option<Self> {
        let time: JiffTimestamp = text.parse().ok()?;
        Some(Self(time.as_millisecond()))
    }

    /// Milliseconds since 1970, as stored and as PM2's `jlist` shows times.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match JiffTimestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: JiffTimestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(time.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_types_are_what_fits_into_a_url() {
        for good in ["a", "figma", "0", "my-service_2", &"a".repeat(64)] {
            assert!(ServiceType::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "Figma", "a/b", "a.b", "ä", &"a".repeat(65)] {
            assert!(ServiceType::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_short_and_on_one_line() {
        for good in ["a", "work laptop", &"é".repeat(100)] {
            assert!(Label::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a\u{7f}", &"é".repeat(101)] {
            assert_eq!(Label::parse(bad), Err(IdError::Label), "{bad:?}");
        }
    }

    #[test]
    fn an_instance_id_prints_its_prefix_only() {
        let id = InstanceId::new("fig_0123456789ab_secretsecret".into());
        assert_eq!(format!("{id:?}"), "InstanceId(fig_…)");
    }

    #[test]
    fn times_are_rfc_3339_and_come_back() {
        let time = Timestamp::from_millis(1_795_391_347_550);
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2026-11-22T23:49:07.550Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
        assert_eq!(Timestamp::parse("2026-11-22T23:49:07.550Z"), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
