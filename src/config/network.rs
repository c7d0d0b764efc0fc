//! `10.0.0.0/8`, or one address → a network (pure).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Addresses that begin with the same bits. An IPv4 address inside IPv6 (`::ffff:10.0.0.1`) is that
/// IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    /// Bits that all have in common.
    prefix: u32,
}

impl Network {
    /// An address alone is a network of one. Bits behind the prefix must be 0: `10.0.0.1/8` is more
    /// likely a mistake than that whole network.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().ok()?;
        let whole = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => whole,
        };
        let (first, prefix) = match first.to_canonical() {
            v4 if v4.is_ipv4() && whole == 128 => (v4, u32::checked_sub(prefix, 96)?),
            same => (same, prefix),
        };
        let network = Self { first, prefix };
        let fits = prefix <= if first.is_ipv4() { 32 } else { 128 };
        (fits && masked(first, prefix) == first).then_some(network)
    }

    /// Is this address one of them?
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

/// The address without the bits behind the prefix.
fn masked(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix));
            Ipv4Addr::from_bits(address.to_bits() & mask.unwrap_or(0)).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix));
            Ipv6Addr::from_bits(address.to_bits() & mask.unwrap_or(0)).into()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.first.is_ipv4() { 32 } else { 128 };
        match self.prefix {
            prefix if prefix == whole => write!(f, "{}", self.first),
            prefix => write!(f, "{}/{prefix}", self.first),
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no network"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let network = Network::parse(network).unwrap();
        for address in inside {
            assert!(network.contains(address.parse().unwrap()), "{address}");
        }
        for address in outside {
            assert!(!network.contains(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn networks_hold_what_begins_alike() {
        check(
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.1.2", "::ffff:10.1.1.1"],
            &["11.0.0.0", "9.255.255.255", "a00::"],
        );
        check("127.0.0.1", &["127.0.0.1"], &["127.0.0.2", "::1"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["::1"]);
        check("::/0", &["::1", "2001:db8::1"], &["1.2.3.4"]);
        check("2001:db8::/33", &["2001:db8:7fff::"], &["2001:db8:8000::"]);
        check("::ffff:10.0.0.0/104", &["10.1.1.1"], &["11.0.0.0"]);
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0",
            "*",
            "proxy.example.com",
            "::ffff:10.0.0.0/8",
            "10.0.0.0/8/8",
            "::1%lo",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_is_written(bits: u128, prefix in 0u32..=128) {
            let address = masked(Ipv6Addr::from_bits(bits).into(), prefix);
            if let Some(network) = Network::parse(&format!("{address}/{prefix}")) {
                prop_assert_eq!(Network::parse(&network.to_string()), Some(network));
                prop_assert!(network.contains(Ipv6Addr::from_bits(bits).into()));
            }
        }

        #[test]
        fn nothing_is_too_strange(text in "\\PC{0,30}") {
            Network::parse(&text);
        }
    }
}
