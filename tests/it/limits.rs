//! Limits: whose they are, what they count, and what is told to whoever is over one.

use std::cell::Cell;

use serde_json::{Value, json};

use crate::harness::{Answer, App, Body, Mcpm, eventually, kill, service, wait_for};

fn keyed(name: &str) -> App {
    service(name).with_api_key()
}

/// These apps, and these limits in a file of settings of its own.
#[track_caller]
fn limited(apps: impl IntoIterator<Item = App>, limits: &Value) -> Mcpm {
    let mcpm = Mcpm::new();
    limit(&mcpm, limits);
    let file = mcpm.ecosystem(apps);
    mcpm.ok(&["start", &file]);
    mcpm
}

/// Puts limits in force; nothing is started.
#[track_caller]
fn limit(mcpm: &Mcpm, limits: &Value) {
    let text = json!({ "mcpm": { "limits": limits } }).to_string();
    let file = mcpm.write("settings.json", &text);
    mcpm.ok(&["start", &file]);
}

/// What is refused says which limit it was, and when to come again.
#[track_caller]
fn refused(answer: &Answer, part: &str) -> u64 {
    assert_eq!(answer.status, 429, "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["code"], "rate_limited");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(part), "{detail}");
    let seconds = answer.header("retry-after").expect("Retry-After");
    seconds.parse().expect("whole seconds")
}

/// How many of so many requests pass before one is refused.
#[track_caller]
fn free(mcpm: &Mcpm, url: &str) -> usize {
    let passes = |_: &usize| match mcpm.get(url).status {
        200 => true,
        429 => false,
        status => panic!("{status}"),
    };
    (0..50).take_while(passes).count()
}

#[track_caller]
fn post(mcpm: &Mcpm, url: &str, bytes: usize) -> Answer {
    mcpm.send("POST", &format!("{url}/echo"), &[], &vec![b'x'; bytes])
        .read()
}

#[test]
fn calls_of_the_api_are_limited_for_each_user_and_for_no_operator() {
    let limits = json!({ "calls": {"per_minute": 6, "burst": 5} });
    let mcpm = limited([service("demo")], &limits);
    let (alice, admin) = (mcpm.token("alice"), mcpm.ok(&["tokens", "add"]));
    let call = |token: &str, path: &str| {
        let value = format!("Bearer {}", token.trim());
        let url = format!("{}/api/v1/{path}", mcpm.origin());
        mcpm.send("GET", &url, &[("Authorization", &value)], b"")
            .read()
    };
    let passes = |_: &usize| call(&alice, "services").status == 200;
    assert_eq!((0..50).take_while(passes).count(), 5);
    let seconds = refused(&call(&alice, "user/instances"), "calls of this user");
    assert!((1..=10).contains(&seconds), "{seconds}");
    let bob = mcpm.token("bob");
    assert_eq!(call(&bob, "services").status, 200);
    for _ in 0..20 {
        assert_eq!(call(&admin, "admin/users").status, 200);
    }
    let told = call(&admin, "admin/limits").json();
    assert_eq!(told["calls"], json!({"perMinute": 6, "burst": 5}));
    assert_eq!(told["validations"]["perMinute"], 30);
    limit(&mcpm, &json!({ "calls": 0 }));
    assert_eq!((0..50).take_while(passes).count(), 50);
}

#[test]
fn a_user_has_one_limit_over_two_services_and_others_have_theirs() {
    let limits = json!({ "user": { "requests": { "per_minute": 1, "burst": 4 } } });
    let mcpm = limited([keyed("one"), keyed("two")], &limits);
    let (one, two) = (mcpm.instance("alice", "one"), mcpm.instance("alice", "two"));
    let bobs = mcpm.instance("bob", "one");
    for url in [&one, &two, &one, &two] {
        assert_eq!(mcpm.get(url).status, 200);
    }
    for url in [&one, &two] {
        let wait = refused(
            &mcpm.get(url),
            "the user of this instance has sent, over all",
        );
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(free(&mcpm, &bobs), 4);
    // A new URL is no new allowance, nor is another instance.
    let rotated = mcpm.api("alice", "POST", "/api/v1/services/one/instance/rotate", "");
    let url = rotated.json()["instanceUrl"].as_str().unwrap().to_owned();
    assert_eq!(mcpm.get(&url).status, 429);
    mcpm.api("alice", "DELETE", "/api/v1/services/one/instance", "");
    assert_eq!(mcpm.get(&mcpm.instance("alice", "one")).status, 429);
}

#[test]
fn a_service_has_one_limit_over_two_users() {
    let one = keyed("one").with(
        "/mcp/limits",
        json!({ "service": { "requests": { "per_minute": 1, "burst": 3 } } }),
    );
    let mcpm = Mcpm::start([one, keyed("two")]);
    let (alices, bobs) = (mcpm.instance("alice", "one"), mcpm.instance("bob", "one"));
    for url in [&alices, &bobs, &alices] {
        assert_eq!(mcpm.get(url).status, 200);
    }
    for url in [&alices, &bobs] {
        let answer = mcpm.get(url);
        refused(
            &answer,
            "this service has been sent just now too many requests",
        );
        assert!(!answer.text().contains("alice"), "{answer:?}");
    }
    let other = mcpm.instance("alice", "two");
    assert_eq!(free(&mcpm, &other), 50);
}

#[test]
fn groups_have_limits_of_their_own() {
    let limits = json!({
        "user": { "requests": { "per_minute": 1, "burst": 3 } },
        "groups": {
            "free": { "requests": { "per_minute": 1, "burst": 1 } },
            "pro": { "requests": { "per_minute": 1, "burst": 6 }, "streams": 5 },
        },
    });
    let mcpm = limited([keyed("demo")], &limits);
    let unknown = mcpm.fails(&["users", "add", "eve", "--group", "gold"]);
    assert!(unknown.contains("there are `free`, `pro`"), "{unknown}");
    assert!(!mcpm.ok(&["users"]).contains("eve"));
    mcpm.token("alice");
    mcpm.ok(&["users", "set-group", "alice", "pro"]);
    let alice = mcpm.instance("alice", "demo");
    let bob = mcpm.instance("bob", "demo");
    assert_eq!((free(&mcpm, &alice), free(&mcpm, &bob)), (6, 3));
    let shown: Value =
        serde_json::from_str(&mcpm.ok(&["users", "show", "alice", "--json"])).unwrap();
    assert_eq!(shown["user"]["group"], "pro");
    assert_eq!(shown["limits"]["requests"]["burst"], 6);
    assert_eq!(
        (&shown["limits"]["streams"], &shown["limits"]["bytes"]),
        (&json!(5), &Value::Null)
    );
    let text = mcpm.ok(&["users", "show", "alice"]);
    assert!(
        text.contains("1 requests/min (burst 6), 5 streams"),
        "{text}"
    );
    // What is used stays used: three of six are more than three.
    mcpm.ok(&["users", "set-group", "bob", "pro"]);
    assert_eq!(free(&mcpm, &bob), 3);
    mcpm.ok(&["users", "set-group", "bob", "--none"]);
    assert_eq!(free(&mcpm, &bob), 0);
    let missing = mcpm.fails(&["users", "set-group", "nobody", "pro"]);
    assert!(missing.contains("there is no user `nobody`"), "{missing}");
    // The group is still there when the daemon is another one.
    mcpm.ok(&["users", "add", "carol", "--group", "free"]);
    mcpm.kill_daemon();
    mcpm.wait_until(|list| list["demo"].is_up());
    let listed: Value = serde_json::from_str(&mcpm.ok(&["users", "--json"])).unwrap();
    let groups: Vec<&Value> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["group"])
        .collect();
    assert_eq!(groups, [&json!("pro"), &Value::Null, &json!("free")]);
    assert_eq!(
        wait_for(
            || Some(free(&mcpm, &alice)).filter(|&free| free > 0),
            "an answer"
        ),
        6
    );
}

#[test]
fn streams_beyond_the_limit_are_refused_until_one_ends() {
    let limits = json!({ "user": { "streams": 2 } });
    let mcpm = limited([keyed("one"), keyed("two")], &limits);
    let (one, two) = (mcpm.instance("alice", "one"), mcpm.instance("alice", "two"));
    let bobs = mcpm.instance("bob", "one");
    let open = |url: &str, accept: &[(&str, &str)]| -> Body {
        let mut stream = mcpm.send("GET", &format!("{url}/events"), accept, b"");
        if stream.status == 200 {
            assert_eq!(stream.event().as_deref(), Some("first"));
        }
        stream
    };
    let events = [("Accept", "application/json, text/event-stream;q=0.5")];
    let first = open(&one, &events);
    let second = open(&two, &[]);
    assert_eq!((first.status, second.status), (200, 200));
    for accept in [&events[..], &[]] {
        let wait = refused(&open(&one, accept).read(), "has too many open streams");
        assert_eq!(wait, 1);
    }
    assert_eq!(mcpm.get(&one).status, 200, "a request is no stream");
    let other = open(&bobs, &events);
    assert_eq!(other.status, 200);
    // One ends since its client has gone, one since its service has.
    drop(first);
    let third = wait_for(
        || Some(open(&one, &events)).filter(|stream| stream.status == 200),
        "the place of a stream that has ended",
    );
    kill(mcpm.list()["two"].pid, "KILL");
    let fourth = wait_for(
        || Some(open(&one, &events)).filter(|stream| stream.status == 200),
        "the place of a stream whose service has ended",
    );
    assert_eq!(open(&one, &events).status, 429);
    // And one by itself.
    mcpm.get(&format!("{one}/release"));
    drop((third, fourth, second));
    assert!(eventually(|| open(&one, &events).status == 200));
}

#[test]
fn bytes_beyond_the_limit_are_owed_and_no_body_is_cut() {
    // A byte each millisecond.
    let limits = json!({ "instance": { "bytes": { "per_minute": "60000", "burst": "50K" } } });
    let mcpm = limited([keyed("demo")], &limits);
    let url = mcpm.instance("alice", "demo");
    let answer = post(&mcpm, &url, 28_000);
    assert_eq!((answer.status, answer.body.len()), (200, 28_000));
    // 28,000 came, 28,000 went, and 51,200 were there: 4,800 are owed.
    let first = come_again(&mcpm, &url, "this instance has sent too many bytes");
    assert!((1..=5).contains(&first), "{first}");
    assert_eq!(mcpm.get(&mcpm.instance("bob", "demo")).status, 200);
}

#[test]
fn a_call_within_a_session_is_told_as_json_rpc() {
    let limits = json!({ "instance": { "requests": { "per_minute": 1, "burst": 1 } } });
    let plain = keyed("plain").with("/mcp/protocol", "http");
    let mcpm = limited([keyed("demo"), plain], &limits);
    let url = mcpm.instance("alice", "demo");
    assert_eq!(free(&mcpm, &url), 1);
    let (session, modern) = (
        ("Mcp-Session-Id", "s"),
        ("MCP-Protocol-Version", "2026-07-28"),
    );
    let older = ("MCP-Protocol-Version", "2025-11-25");
    let call = |url: &str, header, method: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":"a7","method":"{method}"}}"#);
        mcpm.send("POST", url, &[header], body.as_bytes()).read()
    };
    let part = "this instance has sent too many requests";
    for header in [session, modern] {
        let answer = call(&url, header, "tools/call");
        assert_eq!(answer.status, 200, "{answer:?}");
        let (id, error) = (answer.json()["id"].clone(), answer.json()["error"].clone());
        assert_eq!((id, &error["code"]), (json!("a7"), &json!(-33003)));
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
        let data = &error["data"];
        assert_eq!(data["code"], "rate_limited");
        assert!(data["requestId"].is_string(), "{data}");
        let seconds = data["retryAfter"].as_u64().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    // Where a client connects an error status is understood, and elsewhere there is nothing else.
    for (header, method) in [
        (older, "initialize"),
        (session, "initialize"),
        (modern, "server/discover"),
        (older, "tools/call"),
    ] {
        refused(&call(&url, header, method), part);
    }
    refused(&mcpm.send("GET", &url, &[session], b"").read(), part);
    refused(&mcpm.send("POST", &url, &[session], b"a=b").read(), part);
    let notice = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let notice = mcpm.send("POST", &url, &[session], notice).read();
    assert_eq!((notice.status, notice.body.len()), (202, 0));
    let url = mcpm.instance("alice", "plain");
    assert_eq!(free(&mcpm, &url), 1);
    refused(&call(&url, session, "tools/call"), part);
}

#[test]
fn whoever_waits_as_told_passes() {
    let limits = json!({ "instance": { "requests": { "per_minute": 20, "burst": 2 } } });
    let mcpm = limited([keyed("demo")], &limits);
    let url = mcpm.instance("alice", "demo");
    assert_eq!(free(&mcpm, &url), 2);
    let first = come_again(&mcpm, &url, "this instance has sent too many requests");
    assert!((1..=3).contains(&first), "{first}");
}

/// Asks until it is let in, and answers what was told first. Each wait that is told is what is left of
/// the one before: asking again costs nothing.
#[track_caller]
fn come_again(mcpm: &Mcpm, url: &str, part: &str) -> u64 {
    let first = refused(&mcpm.get(url), part);
    let last = Cell::new(first);
    let asked = || {
        let answer = mcpm.get(url);
        if answer.status == 200 {
            return Some(());
        }
        let left = refused(&answer, part);
        assert!(left <= last.replace(left), "it does not grow");
        None
    };
    wait_for(asked, "the end of the wait");
    assert_eq!(last.get(), 1, "the last second is told as one");
    first
}

#[test]
fn limits_change_while_all_runs_and_cut_nothing() {
    let limits =
        |burst: u64| json!({ "user": { "requests": { "per_minute": 1, "burst": burst } } });
    let mcpm = limited([keyed("demo")], &limits(3));
    let url = mcpm.instance("alice", "demo");
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    let pid = mcpm.list()["demo"].pid;
    assert_eq!(free(&mcpm, &url), 2);
    limit(&mcpm, &limits(6));
    assert_eq!(free(&mcpm, &url), 3);
    let config = mcpm.ok(&["config"]);
    assert!(
        config.contains("user: 1 requests/min (burst 6)"),
        "{config}"
    );
    limit(&mcpm, &json!({}));
    assert_eq!(free(&mcpm, &url), 50);
    mcpm.get(&format!("{url}/release"));
    assert_eq!(stream.event().as_deref(), Some("second"), "it went on");
    assert_eq!(mcpm.list()["demo"].pid, pid);
    let counts = mcpm.ok(&["users", "show", "alice"]);
    assert!(counts.contains("none"), "{counts}");
    // Another file may not take them away.
    limit(&mcpm, &limits(9));
    let other = json!({ "mcpm": { "max_body": "8M" } }).to_string();
    let refused = mcpm.fails(&["start", &mcpm.write("other.json", &other)]);
    assert!(refused.contains("`limits`"), "{refused}");
    let bad = json!({ "mcpm": { "limits": { "user": { "requests": "many" } } } }).to_string();
    let refused = mcpm.fails(&["start", &mcpm.write("settings.json", &bad)]);
    assert!(refused.contains("`requests`"), "{refused}");
    let url = mcpm.instance("bob", "demo");
    assert_eq!(free(&mcpm, &url), 9);
}

#[test]
fn operators_see_how_often_each_limit_was_hit() {
    let limits = json!({ "user": { "requests": { "per_minute": 1, "burst": 1 }, "streams": 1 } });
    let mcpm = limited([keyed("demo")], &limits);
    let url = mcpm.instance("alice", "demo");
    assert_eq!(free(&mcpm, &url), 1);
    assert_eq!(mcpm.get(&url).status, 429);
    let token = mcpm.ok(&["tokens", "add"]);
    let token = format!("Bearer {}", token.trim());
    let path = format!("{}/api/v1/admin/limits", mcpm.origin());
    let answer = mcpm
        .send("GET", &path, &[("Authorization", token.as_str())], b"")
        .read();
    let all = answer.json();
    assert_eq!(all["user"]["streams"], 1);
    let hits = |of: &str, resource: &str| {
        let counts = all["refused"].as_array().unwrap().iter();
        let mut found = counts.filter(|it| it["of"] == of && it["resource"] == resource);
        found.next().unwrap()["count"].clone()
    };
    assert_eq!(hits("user", "requests"), 2);
    assert_eq!(hits("user", "streams"), 0);
    assert_eq!(
        mcpm.api("alice", "GET", "/api/v1/admin/limits", "").status,
        403
    );
}
