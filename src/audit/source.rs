//! Which client an address stands for, as far as refusals and suspicions are told apart. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv6 address within which one client may choose as it likes (RFC 6177 §2, RFC 8981).
const CHOSEN_BITS: u32 = 64;

/// An IPv4 address, or the `/64` of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    /// Where this address belongs.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = u128::from(address) & (u128::MAX << CHOSEN_BITS);
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
            other => Self(other),
        }
    }

    /// This machine: most probably a proxy that stands before the router.
    pub(super) fn is_loopback(self) -> bool {
        self.0.is_loopback()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(network) if !network.is_loopback() => write!(f, "{network}/{CHOSEN_BITS}"),
            address => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_of_its_own() {
        for (address, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("::1", "::1"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(Source::of(address.parse().unwrap()).to_string(), shown);
        }
        assert!(Source::of("::1".parse().unwrap()).is_loopback());
        assert!(Source::of("::ffff:127.0.0.1".parse().unwrap()).is_loopback());
        assert!(!Source::of("2001:db8::1".parse().unwrap()).is_loopback());
    }
}
