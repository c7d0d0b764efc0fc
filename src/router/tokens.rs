//! Keeps our own tokens from services, wherever a client shows them. Pure.
//!
//! `Authorization` and cookies never pass. Clients that cannot send those write a token into a header of
//! some other name, into a query (RFC 6750 §2.3), or among the protocols of a WebSocket: the service would
//! then have what opens all that its user owns. A token is known by how it begins, so that this costs a
//! search for five bytes in each value.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use memchr::memmem::Finder;

/// What tokens of users and admins have in common.
static BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"mcpm_"));

/// Does a token stand in it?
pub(super) fn holds(text: &[u8]) -> bool {
    let is_token = |at: usize| {
        let rest = text.get(at + BEGIN.needle().len()..);
        rest.is_some_and(|rest| rest.starts_with(b"u_") || rest.starts_with(b"a_"))
    };
    BEGIN.find_iter(text).any(is_token)
}

/// What of a header passes: all of it as a rule, and nothing of one with a token. Of the protocols of a
/// WebSocket only the token is left out, since the client wants one of the others.
pub(super) fn without(name: &HeaderName, value: HeaderValue) -> Option<HeaderValue> {
    if !holds(value.as_bytes()) {
        return Some(value);
    }
    if *name != SEC_WEBSOCKET_PROTOCOL {
        return None;
    }
    let items = value
        .as_bytes()
        .split(|&b| b == b',')
        .map(<[u8]>::trim_ascii);
    let kept: Vec<&[u8]> = items.filter(|item| !holds(item)).collect();
    if kept.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&kept.join(&b", "[..])).ok()
}

/// The same of a query, whose pairs may be encoded.
pub(super) fn in_query(query: &str) -> Cow<'_, str> {
    let has = |text: &str| match memchr::memchr(b'%', text.as_bytes()) {
        None => holds(text.as_bytes()),
        Some(_) => {
            let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode_str(text).into();
            holds(&decoded)
        }
    };
    if !has(query) {
        return Cow::Borrowed(query);
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !has(pair)).collect();
    Cow::Owned(kept.join("&"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_known_wherever_it_stands() {
        for (text, expected) in [
            ("mcpm_u_abc", true),
            ("Bearer mcpm_a_abc", true),
            ("bearer.mcpm_u_abc", true),
            ("mcpm_ mcpm_u_abc", true),
            ("mcpm_x_abc", false),
            ("mcpm", false),
            ("mcpm_", false),
            ("mcpm_u", false),
            ("", false),
        ] {
            assert_eq!(holds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn of_the_protocols_of_a_websocket_the_others_pass() {
        let passes = |name: &HeaderName, value: &'static str| {
            without(name, HeaderValue::from_static(value))
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let list = "mcp, bearer.mcpm_u_abc,v2";
        let protocols = &SEC_WEBSOCKET_PROTOCOL;
        assert_eq!(passes(protocols, list).as_deref(), Some("mcp, v2"));
        assert_eq!(passes(protocols, "mcpm_u_abc"), None);
        assert_eq!(passes(protocols, "mcp,v2").as_deref(), Some("mcp,v2"));
        let token = HeaderName::from_static("x-token");
        assert_eq!(passes(&token, list), None);
        assert_eq!(passes(&token, "other").as_deref(), Some("other"));
    }

    #[test]
    fn pairs_with_a_token_leave_a_query_and_the_others_stay_as_they_are() {
        for (query, expected) in [
            ("a=1&b=%20&", "a=1&b=%20&"),
            ("a=1&access_token=mcpm_u_abc&b=2", "a=1&b=2"),
            ("t=mcpm%5Fu_abc&b=%2F", "b=%2F"),
            ("t=%6dcpm_a_abc", ""),
            ("mcpm_u_abc", ""),
            ("t=Bearer+mcpm_u_abc&x", "x"),
        ] {
            assert_eq!(in_query(query), expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_token_passes_in_any_query(before in "[a-z=&%0-9_]{0,20}", after in "[a-z=&%0-9_]{0,20}") {
            let query = format!("{before}mcpm_u_{after}");
            let passed = in_query(&query).into_owned();
            prop_assert!(!holds(passed.as_bytes()), "{}", passed);
            let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode_str(&passed).into();
            prop_assert!(!holds(&decoded), "{}", passed);
        }
    }
}
