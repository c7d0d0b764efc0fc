//! Whose word counts about who a client is: proxies that the operator trusts, by address. Pure.
//!
//! What anybody else says in `X-Forwarded-For`, `X-Forwarded-Proto` or `Forwarded` is not believed. Of the
//! two headers one is read, the one that the proxies write: the other passes them as a client wrote it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{FORWARDED, HeaderMap, HeaderName};

use super::headers::{FORWARDED_FOR, FORWARDED_PROTO};
use crate::config::{Network, TrustedHeader};

/// The proxies, and how they say for whom they speak.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    trusted: Arc<[Network]>,
    header: TrustedHeader,
    /// Their connections begin with a header of the PROXY protocol.
    introduce: bool,
}

/// The scheme that a client has used, as its proxy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scheme(pub(super) &'static str);

/// For whom a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// From where it comes.
    pub(super) address: IpAddr,
    /// `None` when nobody whose word counts says it.
    pub(super) scheme: Option<Scheme>,
}

impl Proxies {
    /// These, which write this header; `introduce` says that they speak the PROXY protocol as well.
    pub fn new(trusted: &[Network], header: TrustedHeader, introduce: bool) -> Self {
        Self {
            trusted: trusted.into(),
            header,
            introduce,
        }
    }

    /// A connection from there begins with a header of the PROXY protocol, always: a receiver that
    /// guesses can be lied to (proxy-protocol.txt §2).
    pub(super) fn introduce(&self, peer: IpAddr) -> bool {
        self.introduce && self.trusts(peer)
    }

    /// Does the word of whoever is there count?
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }

    /// For whom a request speaks that came from `peer`.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let unsaid = Client {
            address: peer,
            scheme: None,
        };
        if !self.trusts(peer) {
            return unsaid;
        }
        match self.header {
            TrustedHeader::XForwardedFor => Client {
                address: self.last_stranger(peer, &FORWARDED_FOR, headers, address),
                scheme: last_item(headers, &FORWARDED_PROTO).and_then(scheme),
            },
            TrustedHeader::Forwarded => Client {
                address: self.last_stranger(peer, &FORWARDED, headers, |element| {
                    address(&parameter(element, "for")?)
                }),
                scheme: last_item(headers, &FORWARDED)
                    .and_then(|element| scheme(&parameter(element, "proto")?)),
            },
        }
    }

    /// The rightmost address that is no proxy's: each proxy has written who it was called by at the
    /// right end, and what stands left of a stranger is the stranger's own word. What is no address
    /// ends the search at whoever wrote it.
    fn last_stranger(
        &self,
        peer: IpAddr,
        name: &HeaderName,
        headers: &HeaderMap,
        read: impl Fn(&str) -> Option<IpAddr>,
    ) -> IpAddr {
        let mut at = peer;
        for value in headers.get_all(name).iter().rev() {
            let Ok(text) = value.to_str() else {
                return at;
            };
            for item in items(text) {
                let Some(before) = read(item) else {
                    return at;
                };
                at = before;
                if !self.trusts(at) {
                    return at;
                }
            }
        }
        at
    }
}

/// The items of a list, the last one first. A comma inside of a quoted text ends none (RFC 7239 §4).
fn items(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let items = text.rsplit(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    items.map(str::trim)
}

fn last_item<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    items(last).next()
}

fn scheme(text: &str) -> Option<Scheme> {
    ["http", "https"]
        .into_iter()
        .find(|scheme| text.eq_ignore_ascii_case(scheme))
        .map(Scheme)
}

/// An address, perhaps with a port. IPv6 stands in brackets where it has one (RFC 7239 §6).
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let bare = bare.unwrap_or(text).parse();
    let address = bare.or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The value of a parameter of one element of `Forwarded`; `None` when it is not there, or twice.
fn parameter(element: &str, name: &str) -> Option<String> {
    let mut quoted = false;
    let mut pairs = element
        .split(move |c| {
            quoted ^= c == '"';
            c == ';' && !quoted
        })
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let (_, value) = pairs.next()?;
    if pairs.next().is_some() {
        return None;
    }
    match value.strip_prefix('"') {
        // An address and a scheme need no escapes.
        Some(rest) => rest.strip_suffix('"').map(str::to_owned),
        None => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn proxies(header: TrustedHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "127.0.0.1"].map(|text| Network::parse(text).unwrap());
        Proxies::new(&trusted, header, false)
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn check(
        header: TrustedHeader,
        peer: &str,
        lines: &[(&'static str, &str)],
        expected: (&str, Option<&'static str>),
    ) {
        let client = proxies(header).client(peer.parse().unwrap(), &headers(lines));
        let found = (client.address.to_string(), client.scheme);
        let (address, scheme) = expected;
        assert_eq!(found, (address.to_owned(), scheme.map(Scheme)), "{lines:?}");
    }

    #[test]
    fn a_trusted_proxy_says_who_the_client_is() {
        use TrustedHeader::XForwardedFor as X;
        let forwarded = "x-forwarded-for";
        check(
            X,
            "10.0.0.1",
            &[(forwarded, "192.0.2.1")],
            ("192.0.2.1", None),
        );
        let lied = [(forwarded, "127.0.0.1, 192.0.2.1, 10.0.0.9")];
        check(X, "10.0.0.1", &lied, ("192.0.2.1", None));
        let lines = [(forwarded, "1.1.1.1"), (forwarded, "192.0.2.1,10.0.0.9")];
        check(X, "::ffff:10.0.0.1", &lines, ("192.0.2.1", None));
        let ports = [(forwarded, "[2001:db8::1]:443, 10.0.0.2:80")];
        check(X, "10.0.0.1", &ports, ("2001:db8::1", None));
        // All are proxies: the first one has asked by itself.
        check(
            X,
            "10.0.0.1",
            &[(forwarded, "10.0.0.3")],
            ("10.0.0.3", None),
        );
        check(X, "10.0.0.1", &[], ("10.0.0.1", None));
        // What cannot be read is believed by nobody.
        for bad in ["unknown", "", "192.0.2.1,", "a, 10.0.0.1"] {
            let expected = if bad == "a, 10.0.0.1" {
                "10.0.0.1"
            } else {
                "10.0.0.7"
            };
            check(X, "10.0.0.7", &[(forwarded, bad)], (expected, None));
        }
        let proto = [(forwarded, "192.0.2.1"), ("x-forwarded-proto", "HTTPS")];
        check(X, "10.0.0.1", &proto, ("192.0.2.1", Some("https")));
        let proto = [("x-forwarded-proto", "https, gopher")];
        check(X, "10.0.0.1", &proto, ("10.0.0.1", None));
    }

    #[test]
    fn nobody_else_does() {
        use TrustedHeader::{Forwarded as F, XForwardedFor as X};
        let said = [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=127.0.0.1;proto=https"),
        ];
        for header in [F, X] {
            check(header, "192.0.2.9", &said, ("192.0.2.9", None));
        }
        // A proxy that writes the one header hands on the other as it came.
        check(F, "10.0.0.1", &said[..2], ("10.0.0.1", None));
        check(X, "10.0.0.1", &said[2..], ("10.0.0.1", None));
        assert!(!Proxies::default().trusts([127, 0, 0, 1].into()));
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        use TrustedHeader::Forwarded as F;
        for (text, expected) in [
            ("for=192.0.2.43", ("192.0.2.43", None)),
            (
                "For=\"[2001:db8:cafe::17]:4711\";Proto=http",
                ("2001:db8:cafe::17", Some("http")),
            ),
            (
                "for=1.1.1.1, for=192.0.2.1;by=\"a,b;for=9.9.9.9\";proto=https",
                ("192.0.2.1", Some("https")),
            ),
            ("for=192.0.2.1, for=10.1.1.1", ("192.0.2.1", None)),
            ("for=192.0.2.1, for=_hidden", ("10.0.0.1", None)),
            ("for=192.0.2.1;for=192.0.2.2", ("10.0.0.1", None)),
            ("for=\"192.0.2.1", ("10.0.0.1", None)),
            ("proto=https", ("10.0.0.1", Some("https"))),
        ] {
            check(F, "10.0.0.1", &[("forwarded", text)], expected);
        }
    }

    proptest! {
        #[test]
        fn what_a_client_writes_left_of_its_address_counts_for_nothing(
            written in "[ -~]{0,40}",
            is_forwarded: bool,
        ) {
            let (header, name, last) = if is_forwarded {
                (TrustedHeader::Forwarded, "forwarded", "for=192.0.2.1")
            } else {
                (TrustedHeader::XForwardedFor, "x-forwarded-for", "192.0.2.1")
            };
            let lines = format!("{written}, {last}");
            let client = proxies(header).client([10, 0, 0, 1].into(), &headers(&[(name, &lines)]));
            prop_assert_eq!(client.address, IpAddr::from([192, 0, 2, 1]));
        }
    }
}
