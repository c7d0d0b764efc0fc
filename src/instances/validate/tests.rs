use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::outbound::Policy;

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().copied().collect()
}

fn by_header(name: &str, template: &str) -> InjectSpec {
    InjectSpec {
        headers: vec![(name.into(), template.into())],
        ..InjectSpec::default()
    }
}

#[track_caller]
fn check_url(template: &str, given: &[(&str, &str)], expected: Result<&str, TemplateError>) {
    let got = fill_url(template, &fields(given)).map(|uri| uri.to_string());
    assert_eq!(got, expected.map(str::to_owned), "{template}");
}

#[test]
fn addresses_are_filled_and_nothing_breaks_out() {
    let at = "https://{site}.example.com/v1/{key}?k={key}";
    check_url(
        at,
        &[("site", "acme"), ("key", "a/b?c&d#é ")],
        Ok("https://acme.example.com/v1/a%2Fb%3Fc%26d%23%C3%A9%20?k=a%2Fb%3Fc%26d%23%C3%A9%20"),
    );
    for evil in ["evil.com/", "evil.com#", "x@evil.com", "evil.com:80", ""] {
        check_url(
            at,
            &[("site", evil), ("key", "..")],
            Err(TemplateError::Url),
        );
    }
    check_url(
        at,
        &[("site", "acme"), ("key", "..")],
        Err(TemplateError::Url),
    );
    check_url(
        at,
        &[("site", "acme")],
        Err(TemplateError::NoValue("key".into())),
    );
    check_url("https://a.example/{key", &[], Err(TemplateError::Unclosed));
}

#[test]
fn a_leading_field_is_an_address_of_its_own() {
    let at = "{base}/api/{key}";
    let with = |base| [("base", base), ("key", "k")];
    check_url(
        at,
        &with("https://git.example/x/"),
        Ok("https://git.example/x/api/k"),
    );
    for evil in [
        "https://a.example/?",
        "https://a.example#",
        "https://u:p@a.example",
        "a",
        "",
    ] {
        check_url(at, &with(evil), Err(TemplateError::Url));
    }
}

#[test]
fn headers_are_filled_marked_secret_and_refuse_line_breaks() {
    let spec = ValidateSpec {
        url: "https://a.example/".into(),
        method: "POST".into(),
        send: by_header("X-Key", "Token {key}"),
        expect: vec![],
        json: None,
        cache: ValidateSpec::CACHE,
    };
    let request = build(&spec, &fields(&[("key", "k1")])).unwrap();
    assert_eq!(request.headers()["x-key"], "Token k1");
    assert!(!format!("{request:?}").contains("k1"));
    let error = build(&spec, &fields(&[("key", "k\r\nX: y")])).unwrap_err();
    assert_eq!(error, TemplateError::Header("X-Key".into()));
    // As the router sends it: whether such a key is right is the service's to say.
    let request = build(&spec, &fields(&[("key", "kä")])).unwrap();
    assert_eq!(request.headers()["x-key"].as_bytes(), "Token kä".as_bytes());
}

#[test]
fn everything_that_is_injected_is_sent_but_for_optional_fields_not_given() {
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let spec = ValidateSpec {
        url: "https://a.example/me?v=1".into(),
        method: "GET".into(),
        send: InjectSpec {
            headers: vec![pair("X-Org", "{org}"), pair("X-Key", "{key}")],
            query: vec![pair("app id", "a {key}"), pair("org", "{org}")],
            basic: Some(pair("{key}", "")),
        },
        expect: vec![],
        json: None,
        cache: ValidateSpec::CACHE,
    };
    let request = build(&spec, &fields(&[("key", "k&1")])).unwrap();
    let uri = request.uri().to_string();
    assert_eq!(uri, "https://a.example/me?v=1&app%20id=a%20k%261");
    assert_eq!(request.headers()["authorization"], "Basic ayYxOg==");
    assert_eq!(request.headers()["x-key"], "k&1");
    assert!(!request.headers().contains_key("x-org"));
    let all = build(&spec, &fields(&[("key", "k"), ("org", "o")])).unwrap();
    assert!(all.uri().query().unwrap().ends_with("&org=o"));
    assert_eq!(all.headers()["x-org"], "o");
}

#[test]
fn an_answer_may_have_to_say_something() {
    let judged = |at: &str, is: Option<serde_json::Value>, body: &str| {
        let check = JsonCheck { at: at.into(), is };
        match look(&check, body.as_bytes(), "https://a.example") {
            Verdict::Good => "good",
            Verdict::Wrong { why } => {
                assert!(
                    why.contains("https://a.example") && !why.contains("hunter2"),
                    "{why}"
                );
                "wrong"
            }
            Verdict::CouldNotCheck { .. } | Verdict::Unfit { .. } => "unknown",
        }
    };
    for (at, is, body, wanted) in [
        ("/ok", None, r#"{"ok":true}"#, "good"),
        ("/ok", None, r#"{"ok":false,"error":"hunter2"}"#, "wrong"),
        ("/ok", None, r#"{"ok":null}"#, "wrong"),
        ("/ok", None, r#"{"ok":0}"#, "good"),
        ("/ok", None, "{}", "wrong"),
        ("/ok", None, "[]", "wrong"),
        ("/ok", None, "", "unknown"),
        ("/ok", None, "<html>", "unknown"),
        ("/ok", None, r#"{"ok":true} trailing"#, "unknown"),
        ("/ok", Some(true.into()), r#"{"ok":"true"}"#, "wrong"),
        ("/a/0/b", Some("x".into()), r#"{"a":[{"b":"x"}]}"#, "good"),
        (
            "/a/1/b",
            Some("x".into()),
            r#"{"a":[{"b":"hunter2"}]}"#,
            "wrong",
        ),
        ("/n", Some(7.into()), r#"{"n":7}"#, "good"),
        ("/n", Some(false.into()), r#"{"n":false}"#, "good"),
    ] {
        assert_eq!(judged(at, is, body), wanted, "{at} {body}");
    }
}

#[test]
fn statuses_are_judged_by_who_could_mend_them() {
    let judged = |status: u16, expect: &[u16], header: Option<(&'static str, &'static str)>| {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).unwrap();
        match judge(status, &headers, expect, "https://a.example") {
            Verdict::Good => "good",
            Verdict::Wrong { .. } => "wrong",
            Verdict::CouldNotCheck { .. } | Verdict::Unfit { .. } => "unknown",
        }
    };
    for (status, expect, wanted) in [
        (200, &[][..], "good"),
        (204, &[200, 204], "good"),
        (404, &[404], "good"),
        (204, &[], "unknown"),
        (302, &[], "unknown"),
        (400, &[], "wrong"),
        (401, &[], "wrong"),
        (403, &[], "wrong"),
        (404, &[], "wrong"),
        (405, &[], "unknown"),
        (407, &[], "unknown"),
        (408, &[], "unknown"),
        (425, &[], "unknown"),
        (429, &[], "unknown"),
        (500, &[], "unknown"),
        (503, &[], "unknown"),
    ] {
        assert_eq!(judged(status, expect, None), wanted, "{status}");
    }
    assert_eq!(
        judged(403, &[], Some(("x-ratelimit-remaining", "0"))),
        "unknown"
    );
    assert_eq!(
        judged(403, &[], Some(("x-ratelimit-remaining", "7"))),
        "wrong"
    );
    assert_eq!(judged(403, &[], Some(("retry-after", "60"))), "unknown");
}

#[tokio::test]
async fn the_service_is_asked_and_the_guard_holds() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 2048];
            let read = stream.read(&mut head).await.unwrap();
            let good = String::from_utf8_lossy(&head[..read]).contains("Bearer right");
            let status = if good { "200 OK" } else { "401 Unauthorized" };
            let text =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    let spec = ValidateSpec {
        url: format!("http://127.0.0.1:{port}/me"),
        method: "GET".into(),
        send: by_header("Authorization", "Bearer {api_key}"),
        expect: vec![200],
        json: None,
        cache: ValidateSpec::CACHE,
    };
    let ask = async |key: &str, allow_private| {
        let timeout = Duration::from_secs(5);
        let outbound = Outbound::new(Policy {
            allow_private,
            timeout,
            max_answer: 1024,
        });
        validate(&spec, &fields(&[("api_key", key)]), &outbound).await
    };
    assert_eq!(ask("right", true).await, Verdict::Good);
    assert!(matches!(ask("wrong", true).await, Verdict::Wrong { .. }));
    let refused = ask("right", false).await;
    assert!(matches!(&refused, Verdict::CouldNotCheck { why } if why.contains("allow_private")));
}

#[test]
fn a_host_that_a_user_names_is_theirs_to_mend_and_no_address_is_told() {
    let private = OutboundError::Private {
        host: "db.internal".into(),
        address: "10.1.2.3".parse().unwrap(),
    };
    let unknown = OutboundError::Resolve {
        host: "db.internal".into(),
        source: std::sync::Arc::new(std::io::ErrorKind::NotFound.into()),
    };
    let at = "https://{site}.internal/{key}";
    for template in [at, "{site}/api/{key}"] {
        let Verdict::Unfit { why } = no_answer(&private, template) else {
            panic!("it is the user's mistake: {template}");
        };
        assert!(why.contains("`site`") && !why.contains("key"), "{why}");
        assert!(!why.contains("10.1"), "{why}");
        // Whether there is such a name is not told either.
        assert_eq!(no_answer(&unknown, template), Verdict::Unfit { why });
    }
    let Verdict::CouldNotCheck { why } = no_answer(&private, "https://db.internal/{key}") else {
        panic!("it is the operator's mistake");
    };
    assert!(
        why.contains("`db.internal`") && !why.contains("10.1"),
        "{why}"
    );
    let late = OutboundError::Timeout {
        origin: "https://acme.example.com".into(),
        after: Duration::from_secs(1),
    };
    assert!(matches!(
        no_answer(&late, at),
        Verdict::CouldNotCheck { .. }
    ));
    let Verdict::Unfit { why } = no_request(&TemplateError::Url, at) else {
        panic!("it is the user's mistake");
    };
    assert!(why.contains("`site`, `key`"), "{why}");
    let bare = no_request(&TemplateError::Url, "https://a.example");
    assert!(matches!(bare, Verdict::CouldNotCheck { .. }));
}

proptest! {
    #[test]
    fn values_never_change_the_host_or_the_shape(site in "[a-z]{1,8}", key in ".*") {
        let given = fields(&[("site", &site), ("key", &key)]);
        if let Ok(uri) = fill_url("https://{site}.example.com/v1/{key}/me?k={key}", &given) {
            prop_assert_eq!(uri.host().unwrap(), format!("{site}.example.com"));
            prop_assert_eq!(uri.path().split('/').count(), 4);
            prop_assert!(uri.path().starts_with("/v1/") && uri.path().ends_with("/me"));
        }
    }
}
