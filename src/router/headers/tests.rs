use proptest::prelude::*;

use super::*;

fn injection(headers: &[(&str, &str)], query: &[(&str, &str)]) -> Injection {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|&(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    };
    let spec = InjectSpec {
        headers: pairs(headers),
        query: pairs(query),
        basic: None,
    };
    Injection::new(
        &spec,
        "demo",
        Port::new(49160).unwrap(),
        &Secret::new("rs".to_owned()),
    )
}

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    headers
}

fn value(name: &str) -> Option<&'static str> {
    match name {
        "api_key" => Some("k-alice"),
        "user" => Some("al:ice"),
        "password" => Some("pä"),
        _ => None,
    }
}

fn sent(injection: &Injection, client: HeaderMap) -> HeaderMap {
    let user = UserId::parse("jörg@acme").unwrap();
    let facts = Facts {
        instance: "ins_abcdefghijkl",
        user: &user,
        request_id: &HeaderValue::from_static("r1"),
        peer: [10, 0, 0, 1].into(),
        host: Some("mcp.example.com"),
        scheme: "https",
    };
    injection.request(client, &facts, value).unwrap()
}

#[test]
fn the_service_sees_who_calls_and_nothing_that_a_client_made_up() {
    let injection = injection(&[("X-Figma-Token", "{api_key}"), ("X-Team", "{team}")], &[]);
    let headers = sent(
        &injection,
        map(&[
            ("host", "evil.example"),
            ("origin", "http://localhost"),
            ("referer", "http://x/fig_secret/figma"),
            ("authorization", "Bearer mcpm_u_x"),
            ("cookie", "a=b"),
            ("x-figma-token", "mine"),
            ("x_figma_token", "mine"),
            ("x-team", "mine"),
            ("x-mcpm-user-id", "bob"),
            ("x_mcpm_user_id", "bob"),
            ("x-mcpm-anything", "1"),
            ("x-forwarded-proto", "gopher"),
            ("forwarded", "for=1"),
            ("connection", "keep-alive, X-Hop, content-length"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic x"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("content-length", "5"),
            ("mcp-session-id", "s1"),
            ("mcp-protocol-version", "2025-11-25"),
            ("accept", "application/json"),
            ("accept", "text/event-stream"),
        ]),
    );
    let expected = map(&[
        ("content-length", "5"),
        ("mcp-session-id", "s1"),
        ("mcp-protocol-version", "2025-11-25"),
        ("accept", "application/json"),
        ("accept", "text/event-stream"),
        ("host", "127.0.0.1:49160"),
        ("x-mcpm-instance-id", "ins_abcdefghijkl"),
        ("x-mcpm-user-id", "j%C3%B6rg%40acme"),
        ("x-mcpm-service", "demo"),
        ("x-mcpm-request-id", "r1"),
        ("x-mcpm-router-secret", "rs"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "mcp.example.com"),
        ("x-forwarded-proto", "https"),
        ("x-figma-token", "k-alice"),
    ]);
    assert_eq!(headers, expected);
    let shown = format!("{headers:?}");
    assert!(
        !shown.contains("k-alice") && !shown.contains("\"rs\""),
        "{shown}"
    );
}

#[test]
fn basic_auth_is_made_of_two_templates() {
    let mut injection = injection(&[], &[]);
    injection.basic = Some((Template::new("{user}"), Template::new("{password}")));
    let headers = sent(&injection, map(&[("authorization", "Basic bWluZQ==")]));
    let expected = format!("Basic {}", BASE64.encode("al:ice:pä".as_bytes()));
    assert_eq!(headers["authorization"], expected.as_str());
}

#[test]
fn a_credential_that_is_no_header_goes_nowhere() {
    let injection = injection(&[("X-Key", "{bad}")], &[]);
    let user = UserId::parse("u").unwrap();
    let facts = Facts {
        instance: "ins_abcdefghijkl",
        user: &user,
        request_id: &HeaderValue::from_static("r1"),
        peer: [127, 0, 0, 1].into(),
        host: None,
        scheme: "http",
    };
    let result = injection.request(HeaderMap::new(), &facts, |_| Some("a\r\nX-Evil: 1"));
    assert_eq!(result, Err(Unfit(HeaderName::from_static("x-key"))));
}

#[test]
fn query_parameters_are_injected_once() {
    let injection = injection(&[], &[("app id", "{api_key}&"), ("team", "{team}")]);
    let check = |client: Option<&str>, expected: &str| {
        assert_eq!(
            injection.query(client, value).as_deref(),
            Some(expected),
            "{client:?}"
        );
    };
    check(None, "app%20id=k-alice%26");
    check(Some("a=1&b"), "a=1&b&app%20id=k-alice%26");
    check(
        Some("app+id=x&app%20%69d=y&team=z&a=1"),
        "a=1&app%20id=k-alice%26",
    );
    let none = self::injection(&[], &[]);
    assert_eq!(
        none.query(Some("a&&b=%20"), value).as_deref(),
        Some("a&&b=%20")
    );
    assert_eq!(none.query(None, value), None);
}

#[test]
fn answers_lose_what_is_not_for_clients() {
    let mut headers = map(&[
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("set-cookie", "a=b"),
        (
            "www-authenticate",
            "Bearer resource_metadata=\"http://127.0.0.1:49160/x\"",
        ),
        ("access-control-allow-origin", "*"),
        ("x-mcpm-router-secret", "rs"),
        ("location", "http://127.0.0.1:49160/a/?b#c"),
        ("mcp-session-id", "s1"),
        ("content-type", "application/json"),
    ]);
    response(
        &mut headers,
        || ("/id/demo".to_owned(), "/".to_owned()),
        Port::new(49160).unwrap(),
        false,
    );
    let expected = map(&[
        ("location", "/id/demo/a/?b#c"),
        ("mcp-session-id", "s1"),
        ("content-type", "application/json"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ]);
    assert_eq!(headers, expected);
}

#[test]
fn streams_say_that_nobody_may_hold_them_back() {
    let mut headers = map(&[("content-type", "Text/Event-Stream; charset=utf-8")]);
    assert!(is_event_stream(&headers));
    response(
        &mut headers,
        || ("/id/demo".to_owned(), "/".to_owned()),
        Port::new(1).unwrap(),
        true,
    );
    assert_eq!(headers["x-accel-buffering"], "no");
    assert_eq!(headers["cache-control"], "no-cache, no-transform");
    assert!(!is_event_stream(&map(&[(
        "content-type",
        "text/event-streams"
    )])));
}

#[test]
fn redirects_to_the_service_lead_to_the_instance() {
    let port = Port::new(49160).unwrap();
    let check = |location: &str, expected: Option<&str>| {
        let value = HeaderValue::from_str(location).unwrap();
        let paths = ("/id/demo".to_owned(), "/ins_a/".to_owned());
        let mapped = map_location(&value, &paths, port);
        assert_eq!(
            mapped.as_ref().map(|v| v.to_str().unwrap()),
            expected,
            "{location}"
        );
    };
    check("/mcp/", Some("/id/demo/mcp/"));
    check("/ins_a/mcp", Some("/id/demo/mcp"));
    check("http://localhost:49160/ins_a/?x", Some("/id/demo/?x"));
    check("http://127.0.0.1:49160/mcp", Some("/id/demo/mcp"));
    check("https://LOCALHOST:49160", Some("/id/demo/"));
    check("//localhost:49160?x", Some("/id/demo/?x"));
    check("http://127.0.0.1:49161/", None);
    check("https://example.com/http://127.0.0.1:49160/", None);
    check("mcp/", None);
    check("?page=2", None);
}

proptest! {
    #[test]
    fn rewriting_twice_is_rewriting_once(
        pairs in proptest::collection::vec(("[a-z_-]{1,20}", "[ -~]{0,20}"), 0..12),
    ) {
        let injection = injection(&[("Authorization", "Bearer {api_key}")], &[]);
        let mut client = HeaderMap::new();
        for (name, value) in &pairs {
            client.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let once = sent(&injection, client);
        prop_assert_eq!(sent(&injection, once.clone()), once);
    }

    #[test]
    fn no_spelling_of_our_names_gets_through(
        name in "[xX][-_][mM][cC][pP][mM][-_][a-zA-Z-]{1,10}",
    ) {
        let mut client = HeaderMap::new();
        client.append(HeaderName::try_from(&name).unwrap(), HeaderValue::from_static("evil"));
        let headers = sent(&injection(&[], &[]), client);
        prop_assert!(headers.values().all(|value| value != "evil"));
    }
}

#[test]
fn what_forges_an_address_a_path_or_a_user_does_not_pass() {
    let injection = injection(&[], &[]);
    let plain = sent(&injection, HeaderMap::new());
    for name in [
        "x-real-ip",
        "X_Real_IP",
        "true-client-ip",
        "x-client-ip",
        "cf-connecting-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded",
        "x-forwarded-prefix",
        "x-remote-user",
        "x-sendfile-type",
    ] {
        let headers = sent(&injection, map(&[(name, "10.1.1.1")]));
        assert_eq!(headers, plain, "{name}");
    }
    // What is injected under such a name is the operator's own.
    let spec = &[("X-Remote-User", "{api_key}")];
    let headers = sent(
        &self::injection(spec, &[]),
        map(&[("x-remote-user", "bob")]),
    );
    assert_eq!(headers["x-remote-user"], "k-alice");
}

#[test]
fn tokens_of_ours_reach_no_service_wherever_they_are_shown() {
    let injection = injection(&[], &[]);
    let headers = sent(
        &injection,
        map(&[
            ("x-token", "mcpm_u_abc"),
            ("x-api-key", "Bearer mcpm_a_abc"),
            ("x-list", "one"),
            ("x-list", "mcpm_u_abc"),
            ("sec-websocket-protocol", "mcp, bearer.mcpm_u_abc"),
        ]),
    );
    assert!(
        !format!("{headers:?}").contains("mcpm_u_abc"),
        "{headers:?}"
    );
    assert_eq!(headers.get("x-api-key"), None);
    assert_eq!(headers["x-list"], "one");
    assert_eq!(headers["sec-websocket-protocol"], "mcp");
    let query = |client| injection.query(Some(client), value);
    assert_eq!(query("a=1&token=mcpm_u_abc").as_deref(), Some("a=1"));
    let injects = self::injection(&[], &[("key", "{api_key}")]);
    let query = injects.query(Some("token=mcpm%5Fu_abc&b=2"), value);
    assert_eq!(query.as_deref(), Some("b=2&key=k-alice"));
}
