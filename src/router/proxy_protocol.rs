//! The PROXY protocol, versions 1 and 2: what a proxy says about a connection before its first byte.
//! Pure; `serve.rs` reads the bytes.
//!
//! After `proxy-protocol.txt` of HAProxy, §2. Strict: whoever speaks it is a program, and a header that
//! two programs read differently is a hole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First bytes of version 2 (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// First bytes of version 1 (§2.1).
const WORD: &[u8; 6] = b"PROXY ";
/// Shortest header of all: `PROXY UNKNOWN` and a line's end.
const SHORTEST: usize = 15;
/// Longest line of version 1, with its end (§2.1).
const LINE_MAX: usize = 107;
/// Head of version 2: signature, version and command, family, length.
const HEAD: usize = 16;
/// Longest header of version 2 with all its extensions; those are certificates' names, and small.
pub const HEADER_MAX: usize = HEAD + 4096;

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// At least so many bytes more belong to the header.
    More(usize),
    /// The header is whole. `None` when the proxy speaks for itself, or does not say for whom.
    Client(Option<IpAddr>),
}

/// These bytes begin no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadHeader(&'static str);

/// Reads what has come so far. Whoever reads no more than it asks for never reads beyond the header.
///
/// # Errors
/// When no header begins so.
pub fn read(bytes: &[u8]) -> Result<Said, BadHeader> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if !begins(SIGNATURE) && !begins(WORD) {
        return Err(BadHeader("it does not begin with a PROXY header"));
    }
    match bytes.len() {
        short if short < SHORTEST => Ok(Said::More(SHORTEST - short)),
        _ if begins(WORD) => line(bytes),
        _ => binary(bytes),
    }
}

/// Version 1.
fn line(bytes: &[u8]) -> Result<Said, BadHeader> {
    let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
        return match bytes.len() {
            LINE_MAX.. => Err(BadHeader("its PROXY line is too long")),
            _ if bytes.last() == Some(&b'\r') => Ok(Said::More(1)),
            length => Ok(Said::More((LINE_MAX - length).min(2))),
        };
    };
    let text = bytes[..end].strip_suffix(b"\r");
    let text = text.filter(|_| end + 1 == bytes.len());
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or(BadHeader("its PROXY line does not end as it must"))?;
    let mut fields = text.split(' ').skip(1);
    let family = fields.next();
    if family == Some("UNKNOWN") {
        // What follows is to be ignored (§2.1).
        return Ok(Said::Client(None));
    }
    let is_v4 = match family {
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(BadHeader("its PROXY line names no family that is known")),
    };
    let wrong = BadHeader("its PROXY line names no addresses and ports");
    let addresses = [fields.next(), fields.next()].map(|text| address(text?, is_v4));
    let ports = [fields.next(), fields.next()].map(|text| port(text?));
    match (addresses, ports, fields.next()) {
        ([Some(source), Some(_)], [Some(_), Some(_)], None) => Ok(Said::Client(Some(source))),
        _ => Err(wrong),
    }
}

fn address(text: &str, is_v4: bool) -> Option<IpAddr> {
    if is_v4 {
        text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        let address = text.parse::<Ipv6Addr>().ok()?;
        Some(IpAddr::V6(address).to_canonical())
    }
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Said, BadHeader> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(Said::More(HEAD - bytes.len()));
    };
    let [.., command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadHeader("its PROXY header is of no version that is known")),
    };
    let least = match family {
        0x11 => 12,
        0x21 => 36,
        // A Unix socket, and no word at all: the addresses are to be ignored (§2.2).
        0x00 | 0x31 => 0,
        _ if is_local => 0,
        _ => return Err(BadHeader("its PROXY header is of no family that is known")),
    };
    if HEAD + length > HEADER_MAX {
        return Err(BadHeader("its PROXY header is too long"));
    }
    if !is_local && length < least {
        return Err(BadHeader("its PROXY header lacks addresses"));
    }
    match length.checked_sub(rest.len()) {
        None => return Err(BadHeader("its PROXY header is longer than it says")),
        Some(0) => {}
        Some(missing) => return Ok(Said::More(missing)),
    }
    if is_local {
        return Ok(Said::Client(None));
    }
    let source = match family {
        0x11 => rest.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        0x21 => rest.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    };
    Ok(Said::Client(source.map(|source| source.to_canonical())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a reader that takes what it is asked for: what is said, and how much was read.
    fn fed(bytes: &[u8]) -> (Option<Result<Said, BadHeader>>, usize) {
        let mut end = 0;
        loop {
            match read(&bytes[..end]) {
                Ok(Said::More(more)) if end + more <= bytes.len() => {
                    assert!(more > 0);
                    end += more;
                }
                Ok(Said::More(_)) => return (None, end),
                said => return (Some(said), end),
            }
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<&str>) {
        let whole = [bytes, b"GET / HTTP/1.1\r\n\r\n"].concat();
        let expected = expected.map(|address| address.parse().unwrap());
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(
            fed(&whole),
            (Some(Ok(Said::Client(expected))), bytes.len()),
            "{shown}"
        );
        assert_eq!(fed(&bytes[..bytes.len() - 1]).0, None, "{shown}");
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4];

    #[test]
    fn a_proxy_says_for_whom_it_speaks() {
        check(
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n",
            Some("192.0.2.1"),
        );
        check(
            b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
            Some("2001:db8::1"),
        );
        check(
            b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            Some("192.0.2.1"),
        );
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN whatever it is\r\n", None);
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_MAX - 16));
        check(longest.as_bytes(), None);
        check(&v2(0x21, 0x11, &V4), Some("192.0.2.1"));
        check(
            &v2(0x21, 0x11, &[V4.as_slice(), &[4, 0, 1, 9]].concat()),
            Some("192.0.2.1"),
        );
        let mut v6 = [0; 36];
        v6[15] = 9;
        check(&v2(0x21, 0x21, &v6), Some("::9"));
        check(&v2(0x20, 0x00, &[]), None);
        check(&v2(0x20, 0x11, &V4), None);
        check(&v2(0x21, 0x00, &[7; 3]), None);
        check(&v2(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn anything_else_is_none() {
        for bad in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
        ] {
            let bytes = [bad.as_bytes(), b"GET /"].concat();
            assert!(matches!(fed(&bytes).0, Some(Err(_))), "{bad}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_MAX - 15));
        assert!(matches!(fed(long.as_bytes()).0, Some(Err(_))));
        for bad in [
            v2(0x11, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x11, &[0; 5000]),
        ] {
            assert!(matches!(fed(&bad).0, Some(Err(_))), "{bad:?}");
        }
        // The first byte tells: nobody waits for more of what cannot become one.
        assert!(read(b"G").is_err() && read(b"\r\n\r\n\0\r\nQUIX").is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_too_strange_and_nothing_is_read_for_ever(
            start in 0..3usize,
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let start: &[u8] = [b"".as_slice(), WORD, SIGNATURE][start];
            let bytes = [start, &rest].concat();
            let (_, used) = fed(&bytes);
            prop_assert!(used <= HEADER_MAX);
            let _ = read(&bytes);
        }

        #[test]
        fn addresses_come_through(v4: [u8; 4], v6: [u8; 16], port: u16) {
            let (v4, v6) = (Ipv4Addr::from(v4), Ipv6Addr::from(v6));
            let lines = [
                (format!("PROXY TCP4 {v4} {v4} {port} {port}\r\n"), IpAddr::V4(v4)),
                (format!("PROXY TCP6 {v6} {v6} {port} {port}\r\n"), IpAddr::V6(v6).to_canonical()),
            ];
            for (line, address) in lines {
                prop_assert_eq!(read(line.as_bytes()), Ok(Said::Client(Some(address))));
            }
        }
    }
}
