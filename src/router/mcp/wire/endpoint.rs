//! The first event of the older transport (2024-11-05): where to send messages. Pure.

use crate::ids::Port;

/// Parameters that name a session, as the SDKs spell them.
const PARAMETERS: [&str; 2] = ["sessionId", "session_id"];

/// The session that a query names, and where its name stands.
pub fn session(query: &str) -> Option<(&str, std::ops::Range<usize>)> {
    let mut at = 0;
    for pair in query.split('&') {
        if let Some((name, value)) = pair.split_once('=')
            && PARAMETERS.contains(&name)
        {
            let from = at + name.len() + 1;
            return Some((value, from..from + value.len()));
        }
        at += pair.len() + 1;
    }
    None
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
    let (path, is_absolute) = if let Some((_, behind)) = address.split_once("://") {
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, path) = behind.split_at(end);
        let own = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"]
            .iter()
            .any(|host| authority.eq_ignore_ascii_case(&format!("{host}:{port}")));
        if !own {
            return None;
        }
        (path, true)
    } else if address.starts_with("//") {
        return None;
    } else {
        (address, address.starts_with('/'))
    };
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut written = if is_absolute {
        let rest = path.strip_prefix(head).or(path.strip_prefix('/'));
        format!("{public}/{}", rest.unwrap_or(path))
    } else {
        path.to_owned()
    };
    if let Some(query) = query {
        written.push('?');
        match session(query) {
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
    }

    #[test]
    fn a_query_names_a_session() {
        assert_eq!(session("a=1&session_id=x&b=2"), Some(("x", 15..16)));
        assert_eq!(session("sessionid=x&SESSION_ID=y"), None);
        assert_eq!(session(""), None);
    }
}
