//! Instance URLs: whose request reaches which service, with what, and what is refused.

use serde_json::{Value, json};

use crate::harness::{Answer, Mcpm, kill, service};

/// A service that gets the user's key as `X-Key`.
fn keyed(name: &str) -> crate::harness::App {
    service(name).with(
        "/mcp/auth",
        json!({
            "type": "api_key",
            "fields": [{ "name": "api_key", "type": "password", "required": true }],
            "inject": { "headers": { "X-Key": "{api_key}" } },
        }),
    )
}

fn code(answer: &Answer) -> String {
    answer.json()["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_service_sees_whose_request_it_is_and_nothing_made_up() {
    let mcpm = Mcpm::start([keyed("demo")]);
    let mut seen_pids = Vec::new();
    for user in ["alice", "bob"] {
        let url = mcpm.instance(user, "demo");
        let made_up = [
            ("X-Key", "stolen"),
            ("x_key", "stolen"),
            ("X-MCPM-User-Id", "eve"),
            ("X_MCPM_User_Id", "eve"),
            ("X-MCPM-Router-Secret", "guess"),
            ("Authorization", "Bearer mcpm_u_mine"),
            ("Cookie", "session=1"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("Mcp-Session-Id", "somebody's"),
        ];
        let answer = mcpm
            .send("POST", &format!("{url}/a%2Fb?q=1"), &made_up, b"{}")
            .read();
        let seen: Value = answer.json();
        assert_eq!(
            (&seen["path"], &seen["body"]),
            (&json!("/a%2Fb?q=1"), &json!("{}"))
        );
        let headers = &seen["headers"];
        assert_eq!(headers["x-key"], format!("{user}-key"));
        assert_eq!(headers["x-mcpm-user-id"], user);
        assert_eq!(headers["x-mcpm-service"], "demo");
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        let public = headers["x-mcpm-instance-id"].as_str().unwrap();
        assert!(
            public.starts_with("ins_") && !url.contains(public),
            "{public}"
        );
        for stripped in [
            "x_key",
            "x_mcpm_user_id",
            "authorization",
            "cookie",
            "mcp-session-id",
        ] {
            assert!(headers.get(stripped).is_none(), "{stripped}: {headers}");
        }
        let request_id = answer.header("x-mcpm-request-id").unwrap();
        assert_eq!(headers["x-mcpm-request-id"], request_id);
        seen_pids.push(seen["pid"].clone());
        let id = url.split('/').nth(3).unwrap();
        assert!(
            !answer.text().contains(id),
            "the secret id stays with the router"
        );
    }
    assert_eq!(seen_pids[0], seen_pids[1], "one process serves both");
}

#[test]
fn the_routers_secret_is_the_one_that_the_service_was_started_with() {
    let mcpm = Mcpm::start([keyed("demo")]);
    let url = mcpm.instance("alice", "demo");
    let sent = || mcpm.get(&url).json()["headers"]["x-mcpm-router-secret"].clone();
    let secret = sent();
    let pid = mcpm.list()["demo"].pid;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let variable = format!("MCPM_ROUTER_SECRET={}", secret.as_str().unwrap());
    assert!(
        environment
            .split(|&byte| byte == 0)
            .any(|entry| entry == variable.as_bytes())
    );
    // The service lives on, so the next daemon must know the same.
    mcpm.kill_daemon();
    mcpm.ok(&["ping"]);
    mcpm.wait_until(|list| list["demo"].is_up());
    assert_eq!(mcpm.list()["demo"].pid, pid);
    assert_eq!(sent(), secret);
}

#[test]
fn an_empty_rest_goes_where_the_service_says() {
    let http = keyed("web").with("/mcp/protocol", "http");
    let by_path = keyed("old").with("/mcp/upstream_path", "/{instance_id}/{rest}");
    let mcpm = Mcpm::start([keyed("demo"), http, by_path]);
    let path = |url: &str| {
        mcpm.get(url).json()["path"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let demo = mcpm.instance("alice", "demo");
    assert_eq!(path(&demo), "/mcp");
    assert_eq!(path(&format!("{demo}/")), "/mcp");
    assert_eq!(path(&mcpm.instance("alice", "web")), "/");
    let old = mcpm.instance("alice", "old");
    let seen = path(&format!("{old}/tools"));
    assert!(
        seen.starts_with("/ins_") && seen.ends_with("/tools"),
        "{seen}"
    );
    let climbing = mcpm.get(&format!("{old}/../ins_aaaaaaaaaaaa/tools"));
    assert_eq!(
        (climbing.status, code(&climbing).as_str()),
        (400, "bad_path")
    );
}

#[test]
fn all_that_is_no_instance_hears_the_same() {
    let mcpm = Mcpm::start([keyed("demo"), keyed("other")]);
    let url = mcpm.instance("alice", "demo");
    let rotated = mcpm.instance("bob", "demo");
    let answer = mcpm.api("bob", "POST", "/api/v1/services/demo/instance/rotate", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let removed = mcpm.instance("carol", "demo");
    mcpm.api("carol", "DELETE", "/api/v1/services/demo/instance", "");
    let shown = |url: &str| {
        let answer = mcpm.get(url);
        let mut body = answer.json();
        assert_eq!(body["requestId"].as_str().unwrap().len(), 26);
        body["requestId"] = Value::Null;
        let mut headers = answer.headers;
        headers.retain(|(name, _)| !["date", "x-mcpm-request-id"].contains(&name.as_str()));
        (answer.status, headers, body)
    };
    let unknown = shown(&format!(
        "{}/dem_000000000000_aaaaaaaaaaaaaaaaaaaaaaaaaa/demo",
        mcpm.origin()
    ));
    assert_eq!(
        (unknown.0, &unknown.2["code"]),
        (404, &json!("unknown_instance"))
    );
    for stranger in [
        rotated,
        removed,
        url.replace("/demo", "/other"),
        url.replace("/demo", "/nothing"),
        url.replace("/demo", ""),
        format!("{url}x"),
        format!("{}/%2e%2e/demo", mcpm.origin()),
    ] {
        assert_eq!(shown(&stranger), unknown, "{stranger}");
    }
    assert_eq!(mcpm.get(&url).status, 200);
}

#[test]
fn a_rotated_url_works_and_the_old_one_is_dead_at_once() {
    let mcpm = Mcpm::start([keyed("demo")]);
    let old = mcpm.instance("alice", "demo");
    assert_eq!(mcpm.get(&old).status, 200);
    let answer = mcpm.api("alice", "POST", "/api/v1/services/demo/instance/rotate", "");
    let new = answer.json()["instanceUrl"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(mcpm.get(&old).status, 404);
    let seen = mcpm.get(&new).json();
    assert_eq!(seen["headers"]["x-key"], "alice-key");
}

#[test]
fn where_the_service_wants_it_only_the_owners_token_opens_the_url() {
    let mcpm = Mcpm::start([keyed("demo").with("/mcp/require_auth", true)]);
    let url = mcpm.instance("alice", "demo");
    let with = |token: &str| {
        let value = format!("Bearer {token}");
        mcpm.send("GET", &url, &[("Authorization", &value)], b"")
            .read()
    };
    let none = mcpm.get(&url);
    assert_eq!((none.status, code(&none).as_str()), (401, "unauthorized"));
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    assert_eq!(with("mcpm_u_wrong").status, 401);
    let foreign = with(&mcpm.token("bob"));
    assert_eq!(
        (foreign.status, code(&foreign).as_str()),
        (404, "unknown_instance")
    );
    let own = with(&mcpm.token("alice"));
    assert_eq!(own.status, 200);
    assert!(own.json()["headers"].get("authorization").is_none());
}

#[test]
fn limits_hold() {
    let limited = keyed("demo").with("/mcp/rate_limit", json!({ "per_minute": 1, "burst": 2 }));
    let mcpm = Mcpm::start([limited, keyed("other")]);
    let url = mcpm.instance("alice", "demo");
    assert_eq!([mcpm.get(&url).status, mcpm.get(&url).status], [200, 200]);
    let refused = mcpm.get(&url);
    assert_eq!(
        (refused.status, code(&refused).as_str()),
        (429, "rate_limited")
    );
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(mcpm.get(&mcpm.instance("bob", "demo")).status, 200);

    let other = mcpm.instance("alice", "other");
    let large = vec![b'x'; 8 * 1024 * 1024];
    assert_eq!(mcpm.send("POST", &other, &[], &large).read().status, 200);
    let too_large = mcpm
        .send("POST", &other, &[], &[&large[..], b"x"].concat())
        .read();
    assert_eq!(
        (too_large.status, code(&too_large).as_str()),
        (413, "body_too_large")
    );
}

#[test]
fn a_page_of_another_site_reaches_nothing() {
    let mcpm = Mcpm::start([keyed("demo")]);
    let url = mcpm.instance("alice", "demo");
    let path = url.strip_prefix(&mcpm.origin()).unwrap();
    let host = mcpm.origin().replace("http://", "");
    for path in [path, "/api/v1/services", "/health"] {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let answer = crate::harness::raw(&host, head.as_bytes()).read();
        assert_eq!(
            (answer.status, code(&answer).as_str()),
            (421, "unknown_host"),
            "{path}"
        );
    }
    let foreign = mcpm
        .send("GET", &url, &[("Origin", "https://evil.example")], b"")
        .read();
    assert_eq!(
        (foreign.status, code(&foreign).as_str()),
        (403, "foreign_origin")
    );
}

#[test]
fn a_listener_for_all_answers_under_addresses_and_its_public_name_alone() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([keyed("demo")]);
    let host = mcpm.origin().replace("http://", "");
    let mut start = mcpm.command(&["start", &file]);
    start.env("MCPM_LISTEN", host.replace("127.0.0.1", "0.0.0.0"));
    start.env("MCPM_PUBLIC_URL", "https://mcp.example.com");
    let ran = crate::harness::run(start, "");
    assert_eq!(ran.code, Some(0), "{ran}");
    let ask = |path: &str, name: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        crate::harness::raw(&host, head.as_bytes()).read()
    };
    for name in [
        "10.1.2.3:8080",
        "localhost",
        "mcp.example.com",
        "[2001:db8::1]",
    ] {
        assert_eq!(ask("/api/v1/services", name).status, 401, "{name}");
    }
    for path in ["/api/v1/services", "/dem_x/demo"] {
        let answer = ask(path, "evil.example");
        let told = (answer.status, code(&answer));
        assert_eq!(told, (421, "unknown_host".to_owned()), "{path}");
    }
    // What asks whether we live names whatever it likes.
    assert_eq!(ask("/health", "balancer.internal").status, 200);
}

#[test]
fn a_service_that_is_down_is_unavailable_and_the_others_are_not() {
    let mcpm = Mcpm::start([keyed("demo"), keyed("other")]);
    let (demo, other) = (
        mcpm.instance("alice", "demo"),
        mcpm.instance("alice", "other"),
    );
    mcpm.ok(&["stop", "demo"]);
    let answer = mcpm.get(&demo);
    assert_eq!(
        (answer.status, code(&answer).as_str()),
        (503, "service_unavailable")
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(mcpm.get(&other).status, 200);
    mcpm.ok(&["start", "demo"]);
    mcpm.wait_until(|list| list["demo"].is_up());
    assert_eq!(mcpm.get(&demo).status, 200);
    mcpm.ok(&["delete", "demo"]);
    assert_eq!(
        mcpm.get(&demo).status,
        503,
        "the instance lives, its app is gone"
    );
}

#[test]
fn a_request_that_meets_a_restart_is_answered_by_the_next_run() {
    let mcpm = Mcpm::start([keyed("demo")]);
    let url = mcpm.instance("alice", "demo");
    let mut pid = mcpm.get(&url).json()["pid"].clone();
    for restarts in 1..=5 {
        kill(u32::try_from(pid.as_u64().unwrap()).unwrap(), "KILL");
        let answer = mcpm.get(&url);
        assert_eq!(answer.status, 200, "{answer:?}");
        let next = answer.json()["pid"].clone();
        assert_ne!(next, pid);
        pid = next;
        assert_eq!(mcpm.list()["demo"].restarts, restarts);
    }
}

#[test]
fn a_request_whose_service_dies_is_told_and_the_url_answers_again() {
    let mcpm = Mcpm::start([keyed("demo")]);
    let url = mcpm.instance("alice", "demo");
    let before = mcpm.get(&url).json()["pid"].clone();
    assert_eq!(mcpm.get(&format!("{url}/crash")).status, 202);
    mcpm.wait_until(|list| list["demo"].restarts == 1 && list["demo"].is_up());
    let after = mcpm.get(&url).json()["pid"].clone();
    assert_ne!(before, after);
}

#[test]
fn a_client_behind_a_trusted_proxy_is_known_by_its_own_address() {
    let mcpm = Mcpm::new();
    let settings = json!({ "mcpm": { "trusted_proxies": ["127.0.0.1"] } }).to_string();
    mcpm.ok(&["start", &mcpm.write("settings.json", &settings)]);
    let file = mcpm.ecosystem([keyed("demo")]);
    mcpm.ok(&["start", &file]);
    let url = mcpm.instance("alice", "demo");
    let said = [
        ("X-Forwarded-For", "1.1.1.1, 192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
    ];
    let seen: Value = mcpm
        .send("GET", &format!("{url}/a"), &said, b"")
        .read()
        .json();
    assert_eq!(seen["headers"]["x-forwarded-for"], "192.0.2.1");
    assert_eq!(seen["headers"]["x-forwarded-proto"], "https");
    let told = mcpm.ok(&["audit", "--json"]);
    assert!(
        told.contains("192.0.2.1") && !told.contains("1.1.1.1"),
        "{told}"
    );
    let config = mcpm.ok(&["config"]);
    assert!(config.contains("trusted_proxies"), "{config}");

    let wrong = json!({ "mcpm": { "trusted_proxies": ["10.0.0.1/8"] } }).to_string();
    let said = mcpm.fails(&["start", &mcpm.write("wrong.json", &wrong)]);
    assert!(
        said.contains("`10.0.0.1/8` in `trusted_proxies` is no network"),
        "{said}"
    );
}
