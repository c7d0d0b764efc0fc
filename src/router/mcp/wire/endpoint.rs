//! The first event of the older transport (2024-11-05): where to send messages. Pure.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;

use crate::ids::Port;
use crate::router::path::climbs;

/// Parameters that name a session, as the SDKs spell them.
const PARAMETERS: [&str; 2] = ["sessionId", "session_id"];

/// A session that an address names, and where in its query the name stands.
type Named<'a> = (&'a str, Range<usize>);

/// The session that a query names, if it names one.
///
/// # Errors
/// It names several: a service may read the first one or the last one.
#[expect(clippy::result_unit_err, reason = "there is nothing more to say of it")]
pub fn session(query: &str) -> Result<Option<Named<'_>>, ()> {
    let mut at = 0;
    let mut found = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded: Cow<'_, [u8]> = percent_decode_str(name).into();
        if PARAMETERS.iter().any(|own| own.as_bytes() == &*decoded) {
            let from = (at + name.len() + 1).min(at + pair.len());
            if found.replace((value, from..from + value.len())).is_some() {
                return Err(());
            }
        }
        at += pair.len() + 1;
    }
    Ok(found)
}

/// An address that its client may use; `None` for one that leads elsewhere.
///
/// `public` is the path of the instance; `head` is what stands in its place in paths that the service
/// sees; `name` gives the client's name for the session that the service names.
pub fn public(
    address: &str,
    (public, head): (&str, &str),
    port: Port,
    name: impl FnOnce(&str) -> String,
) -> Option<String> {
    // URL parsers pass over some of these, and take others for something else.
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\' || c == '#';
    if address.contains(is_odd) || address.starts_with("//") {
        return None;
    }
    let first = address.split(['/', '?']).next().unwrap_or_default();
    let (path, is_absolute) = if first.contains(':') {
        (own_path(address, port)?, true)
    } else {
        (address, address.starts_with('/'))
    };
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    if climbs(path) {
        return None;
    }
    let mut written = if is_absolute {
        let rest = path.strip_prefix(head).or(path.strip_prefix('/'));
        format!("{public}/{}", rest.unwrap_or(path))
    } else {
        path.to_owned()
    };
    if let Some(query) = query {
        written.push('?');
        match session(query).ok()? {
            Some((value, place)) => {
                written.push_str(&query[..place.start]);
                written.push_str(&name(value));
                written.push_str(&query[place.end..]);
            }
            None => written.push_str(query),
        }
    }
    Some(written)
}

/// Path and query of that address, as the service sees them.
pub fn own(address: &str, port: Port) -> Option<&str> {
    if address.starts_with('/') {
        return Some(address);
    }
    own_path(address, port)
}

/// Path and query of an address of the service's own.
fn own_path(address: &str, port: Port) -> Option<&str> {
    let behind = address.strip_prefix("http://")?;
    let end = behind.find(['/', '?']).unwrap_or(behind.len());
    let (authority, path) = behind.split_at(end);
    let own = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"]
        .iter()
        .any(|host| authority.eq_ignore_ascii_case(&format!("{host}:{port}")));
    own.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_instance_under_a_name_of_ours() {
        let port = Port::new(49160).unwrap();
        let of = |address: &str| {
            public(address, ("/fig_x/figma", "/"), port, |name| {
                format!("own.{name}")
            })
        };
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(of(address).as_deref(), expected, "{address}");
        };
        check(
            "/message?sessionId=1",
            Some("/fig_x/figma/message?sessionId=own.1"),
        );
        check(
            "/messages/?session_id=a-b",
            Some("/fig_x/figma/messages/?session_id=own.a-b"),
        );
        check(
            "/m?a=%2F&sessionId=1&b",
            Some("/fig_x/figma/m?a=%2F&sessionId=own.1&b"),
        );
        check("message?sessionId=1", Some("message?sessionId=own.1"));
        check("/message", Some("/fig_x/figma/message"));
        check(
            "http://127.0.0.1:49160/m?sessionId=1",
            Some("/fig_x/figma/m?sessionId=own.1"),
        );
        check("http://LOCALHOST:49160/m", Some("/fig_x/figma/m"));
        check("http://127.0.0.1:49161/m", None);
        check("https://evil.example/m?sessionId=1", None);
        check("//evil.example/m", None);
        // What stands in a query is nobody's address.
        check(
            "/m?sessionId=1&cb=http://x",
            Some("/fig_x/figma/m?sessionId=own.1&cb=http://x"),
        );
        for elsewhere in [
            "https:evil.example/m",
            "http:/evil.example/m",
            "\\\\evil.example/m",
            "/\\evil.example/m",
            "\t//evil.example/m",
            " //evil.example/m",
            "/../../api/v1/x",
            "../../x",
            "/a/%2e%2e/%2e%2e/x",
            "/m?sessionId=1&session_id=2",
            "/m?sessionId=1&session%49d=2",
        ] {
            check(elsewhere, None);
        }
    }

    #[test]
    fn a_query_names_a_session() {
        assert_eq!(session("a=1&session_id=x&b=2"), Ok(Some(("x", 15..16))));
        assert_eq!(session("session%5Fid=x"), Ok(Some(("x", 13..14))));
        assert_eq!(session("sessionId"), Ok(Some(("", 9..9))));
        assert_eq!(session("sessionid=x&SESSION_ID=y"), Ok(None));
        assert_eq!(session(""), Ok(None));
        assert_eq!(session("sessionId=x&sessionId=y"), Err(()));
    }
}
