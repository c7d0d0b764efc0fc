//! Which client an address stands for, as far as guesses and refusals are counted for each. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of an IPv6 address within which one client may choose as it likes (RFC 6177 §2, RFC 8981).
const CHOSEN_BITS: u32 = 64;

/// An IPv4 address, or the `/64` of an IPv6 one; loopback is itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(Kind);

/// No larger than it must be: thousands are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    V4([u8; 4]),
    /// Its network.
    V6([u8; 8]),
    /// `::1`
    Loopback6,
}

impl Source {
    /// Where this address belongs.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Kind::V4(address.octets()),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Kind::Loopback6,
            IpAddr::V6(address) => {
                let network = u128::from(address) >> CHOSEN_BITS;
                let network = u64::try_from(network).expect("64 of 128 bits are left");
                Kind::V6(network.to_be_bytes())
            }
        })
    }

    /// This machine: most probably a proxy that stands before the router.
    pub fn is_loopback(self) -> bool {
        match self.0 {
            Kind::V4(octets) => Ipv4Addr::from(octets).is_loopback(),
            Kind::V6(_) => false,
            Kind::Loopback6 => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::V4(octets) => Ipv4Addr::from(octets).fmt(f),
            Kind::V6(network) => {
                let network = u128::from(u64::from_be_bytes(network)) << CHOSEN_BITS;
                write!(f, "{}/{CHOSEN_BITS}", Ipv6Addr::from(network))
            }
            Kind::Loopback6 => Ipv6Addr::LOCALHOST.fmt(f),
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
            ("::2", "::/64"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(Source::of(address.parse().unwrap()).to_string(), shown);
        }
        assert!(Source::of("::1".parse().unwrap()).is_loopback());
        assert!(Source::of("::ffff:127.0.0.1".parse().unwrap()).is_loopback());
        assert!(!Source::of("2001:db8::1".parse().unwrap()).is_loopback());
    }
}
