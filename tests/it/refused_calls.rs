//! Commands and REST calls that are refused: one clear message, the right code or status, and
//! everything else goes on.

use serde_json::Value;

use crate::harness::{Answer, Mcpm, demo, raw, sh};

#[test]
fn unknown_names_and_ids_are_named() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    for args in [
        ["stop", "nobody"],
        ["restart", "nobody"],
        ["delete", "nobody"],
        ["start", "nobody"],
        ["describe", "nobody"],
        ["why", "nobody"],
        ["logs", "nobody"],
        ["flush", "nobody"],
        ["stop", "7"],
        ["start", "7"],
    ] {
        let complaint = mcpm.fails(&args);
        assert!(complaint.contains(args[1]), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{args:?}: {complaint}");
    }
    assert!(mcpm.list()["web"].is_up());
    let complaint = mcpm.fails(&["users", "rm", "nobody"]);
    assert!(complaint.contains("nobody"), "{complaint}");
    let ran = mcpm.run_with(&["instances", "add", "web", "--user", "alice"], "key");
    assert!(
        ran.code == Some(1) && ran.stderr.contains("no service `web`"),
        "{ran}"
    );
}

#[test]
fn wrong_command_lines_are_refused_with_code_one() {
    let mcpm = Mcpm::new();
    for args in [
        &["strat"][..],
        &["stop"],
        &["ls", "--nope"],
        &["logs", "--lines", "many"],
        &[],
    ] {
        let ran = mcpm.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {ran}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
    assert!(
        !mcpm.home().exists(),
        "no daemon was started for any of them"
    );
}

/// It is a problem document (RFC 9457) with these members.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let problem = answer.json();
    assert_eq!(
        (&problem["status"], &problem["code"]),
        (&Value::from(status), &code.into())
    );
    for member in ["type", "title", "detail", "requestId"] {
        assert!(problem[member].is_string(), "{member} in {problem}");
    }
}

#[test]
fn tokens_that_are_missing_wrong_or_of_the_wrong_kind() {
    let mcpm = Mcpm::start([demo("demo")]);
    let call = |token: Option<&str>, path: &str| {
        let value = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = value
            .iter()
            .map(|value| ("Authorization", value.as_str()))
            .collect();
        mcpm.send("GET", &format!("{}{path}", mcpm.origin()), &headers, b"")
            .read()
    };
    let user = mcpm.token("alice");
    let admin = mcpm.ok(&["tokens", "add"]).trim().to_owned();
    for token in [None, Some("mcpm_u_nonsense"), Some("")] {
        for path in [
            "/api/v1/services",
            "/api/v1/user/instances",
            "/api/v1/admin/processes",
        ] {
            let answer = call(token, path);
            assert_problem(&answer, 401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_problem(
        &call(Some(&user), "/api/v1/admin/processes"),
        403,
        "forbidden",
    );
    assert_problem(
        &call(Some(&admin), "/api/v1/user/instances"),
        403,
        "forbidden",
    );
    assert_eq!(call(Some(&admin), "/api/v1/admin/processes").status, 200);
    assert_eq!(call(Some(&user), "/api/v1/services").status, 200);
    assert_eq!(
        call(None, "/health").json(),
        serde_json::json!({ "ok": true })
    );
}

#[test]
fn services_and_paths_that_are_not_there() {
    let mcpm = Mcpm::start([demo("demo")]);
    let post = |path: &str| mcpm.api("alice", "POST", path, r#"{"apiKey":"k"}"#);
    assert_problem(
        &post("/api/v1/services/figma/authenticate"),
        404,
        "unknown_service",
    );
    assert_problem(
        &post("/api/v1/services/NO%20WAY/authenticate"),
        404,
        "unknown_service",
    );
    assert_problem(
        &mcpm.api("alice", "GET", "/api/v1/nonsense", ""),
        404,
        "not_found",
    );
    let answer = mcpm.api("alice", "DELETE", "/api/v1/services", "");
    assert_problem(&answer, 405, "method_not_allowed");
    assert_problem(
        &mcpm.api("alice", "GET", "/api/v1/services/demo/instance", ""),
        404,
        "unknown_instance",
    );
}

#[test]
fn bodies_that_are_too_large_broken_or_wrong() {
    let mcpm = Mcpm::start([demo("demo")]);
    let path = "/api/v1/services/demo/authenticate";
    let post = |body: &str| mcpm.api("alice", "POST", path, body);
    let large = format!(r#"{{"apiKey":"{}"}}"#, "x".repeat(300 * 1024));
    assert_problem(&post(&large), 413, "body_too_large");
    for body in ["{", r#"{"apiKey":7}"#, r#"{"apikey":"k"}"#, "\u{1}"] {
        assert_problem(&post(body), 400, "bad_request");
    }
    let missing = post("{}");
    assert_eq!(missing.status, 400);
    assert!(missing.text().contains("api_key"), "{missing:?}");
    let injected = post(r#"{"apiKey":"k\r\nX-Evil: 1"}"#);
    assert_eq!(injected.status, 400, "{injected:?}");
    let unknown = post(r#"{"apiKey":"k","additionalCredentials":{"nonsense":"x"}}"#);
    assert!(
        unknown.status == 400 && unknown.text().contains("nonsense"),
        "{unknown:?}"
    );
    // Nothing of it has changed anything.
    assert_eq!(
        mcpm.api("alice", "GET", "/api/v1/services/demo/instance", "")
            .status,
        404
    );
    mcpm.instance("alice", "demo");
}

#[test]
fn queries_paths_and_admin_bodies_that_are_wrong() {
    let mcpm = Mcpm::start([demo("demo")]);
    let admin = mcpm.ok(&["tokens", "add"]).trim().to_owned();
    let header = format!("Bearer {admin}");
    let call = |method: &str, path: &str, body: &str| {
        let url = format!("{}{path}", mcpm.origin());
        let headers = [("Authorization", header.as_str())];
        mcpm.send(method, &url, &headers, body.as_bytes()).read()
    };
    for (path, named) in [
        ("/api/v1/admin/users?limit=many", "limit"),
        ("/api/v1/admin/users?limti=1", "limti"),
        ("/api/v1/admin/processes?secrets=perhaps", "secrets"),
        ("/api/v1/admin/logs?stream=both", "stream"),
        ("/api/v1/services/%FF", "UTF-8"),
    ] {
        let answer = call("GET", path, "");
        assert_problem(&answer, 400, "bad_request");
        assert!(answer.text().contains(named), "{path}: {answer:?}");
    }
    for (path, body, named) in [
        (
            "processes/stop",
            r#"{"target":"demo","forse":true}"#,
            "forse",
        ),
        ("processes/stop", "{}", "target"),
        ("flush", r#"{"targets":"demo"}"#, "targets"),
        ("daemon/stop", r#"{"keeep":true}"#, "keeep"),
        ("users", r#"{"id":"a","name":"b"}"#, "name"),
    ] {
        let answer = call("POST", &format!("/api/v1/admin/{path}"), body);
        assert_problem(&answer, 400, "bad_request");
        assert!(answer.text().contains(named), "{path}: {answer:?}");
    }
    assert!(mcpm.list()["demo"].is_up());
}

#[test]
fn the_last_page_of_users_says_that_it_is_the_last() {
    let mcpm = Mcpm::new();
    for user in ["alice", "bob", "carol", "dave"] {
        mcpm.ok(&["users", "add", user]);
    }
    let header = format!("Bearer {}", mcpm.ok(&["tokens", "add"]).trim());
    let page = |query: &str| {
        let url = format!("{}/api/v1/admin/users?{query}", mcpm.origin());
        mcpm.send("GET", &url, &[("Authorization", &header)], b"")
            .read()
            .json()
    };
    let first = page("limit=2");
    assert_eq!(first["nextCursor"], "bob", "{first}");
    let last = page("limit=2&cursor=bob");
    assert_eq!(last["items"][1]["id"], "dave", "{last}");
    assert_eq!(last["nextCursor"], Value::Null, "{last}");
}

#[test]
fn requests_that_are_no_http() {
    let mcpm = Mcpm::new();
    mcpm.ok(&["ping"]);
    let host = mcpm.origin().replace("http://", "");
    for bytes in [
        "NONSENSE\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20)),
    ] {
        let answer = raw(&host, bytes.as_bytes());
        assert!(
            (400..500).contains(&answer.status),
            "{} for {:.40}",
            answer.status,
            bytes
        );
    }
    assert_eq!(mcpm.get(&format!("{}/health", mcpm.origin())).status, 200);
}

#[test]
fn user_ids_have_a_length() {
    let mcpm = Mcpm::new();
    let long = "x".repeat(256);
    for id in ["", long.as_str()] {
        let complaint = mcpm.fails(&["users", "add", id]);
        assert!(complaint.contains("255"), "{complaint}");
    }
    mcpm.ok(&["users", "add", &"x".repeat(255)]);
    mcpm.ok(&["users", "add", "j\u{f6}rg@example.com/\u{1f980}"]);
    let list = mcpm.ok(&["users"]);
    assert!(list.contains("j\u{f6}rg@example.com/\u{1f980}"), "{list}");
}

#[test]
fn a_list_is_no_object_and_a_parameter_is_named() {
    let mcpm = Mcpm::start([demo("demo")]);
    mcpm.token("alice");
    let token = format!("Bearer {}", mcpm.ok(&["tokens", "add"]).trim());
    let call = |method: &str, path: &str, body: &str| {
        let headers = [("Authorization", token.as_str())];
        let url = format!("{}/api/v1{path}", mcpm.origin());
        mcpm.send(method, &url, &headers, body.as_bytes()).read()
    };
    let row = r#"["bob","demo",null,{},null,null,null,null]"#;
    let rows = format!(r#"{{"rows":[{row}],"addUsers":true}}"#);
    for (path, body) in [
        ("/admin/users", r#"["bob",null]"#),
        ("/admin/users", " [\"bob\"]"),
        ("/admin/users", "[]"),
        ("/admin/instances/import", rows.as_str()),
    ] {
        let refused = call("POST", path, body);
        assert_problem(&refused, 400, "bad_request");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains("object") && !detail.contains("bob"),
            "{detail}"
        );
    }
    assert_eq!(call("GET", "/admin/users/bob", "").status, 404);
    for (query, name) in [("limit=many", "`limit`"), ("limi=1", "`limi`")] {
        let refused = call("GET", &format!("/admin/users?{query}"), "");
        assert_problem(&refused, 400, "bad_request");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(name) && !detail.contains("deserialize"),
            "{detail}"
        );
    }
}
