//! Which addresses are public. Pure.
//!
//! The rule is "refuse what is not known to be public": for IPv4 the special-purpose registry of
//! RFC 6890 is refused, for IPv6 only global unicast (`2000::/3`) passes, less its special blocks.
//! That leaves out the forms in which a private IPv4 address can hide (IPv4-mapped, IPv4-compatible,
//! NAT64, 6to4, Teredo) as a whole: who means an IPv4 address can write one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the address belongs to the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // Public by the registry, but inside Azure it is the host's own agent, which hands out a
    // machine's secrets as 169.254.169.254 does elsewhere.
    if address == Ipv4Addr::new(168, 63, 129, 16) {
        return false;
    }
    !matches!(
        (a, b, c),
        (0, ..)                                  // "this network", RFC 791
            | (10, ..)                           // private, RFC 1918
            | (100, 64..=127, _)                 // carrier-grade NAT, RFC 6598
            | (127, ..)                          // loopback
            | (169, 254, _)                      // link-local, and the clouds' metadata
            | (172, 16..=31, _)                  // private
            | (192, 0, 0 | 2)                    // protocol assignments; documentation
            | (192, 88, 99)                      // 6to4 relays, RFC 7526
            | (192, 168, _)                      // private
            | (198, 18..=19, _)                  // benchmarks, RFC 2544
            | (198, 51, 100)                     // documentation
            | (203, 0, 113)                      // documentation
            | (224..=255, ..) // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let global = (first & 0xe000) == 0x2000;
    let special = match first {
        // Teredo, ORCHID, benchmarks: RFC 2928; documentation: RFC 3849.
        0x2001 => second < 0x0200 || second == 0x0db8,
        0x2002 => true,            // 6to4
        0x3fff => second < 0x1000, // documentation, RFC 9637
        _ => false,
    };
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, public: bool) {
        let parsed: IpAddr = address.parse().unwrap();
        assert_eq!(is_public(parsed), public, "{address}");
    }

    #[test]
    fn public_addresses_pass() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:80b::200e",
            "2001:200::1",
            "2620:fe::fe",
        ] {
            check(address, true);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "64:ff9b:1:fffe::a00:1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "2002:a00:1::",
            "2002:a9fe:a9fe::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            check(address, false);
        }
    }
}
