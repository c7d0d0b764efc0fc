//! Usage: what is counted, who sees it, and what becomes of it when the daemon ends.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{App, Mcpm, is_alive, service, wait_for};

fn keyed(name: &str) -> App {
    service(name).with_api_key()
}

/// What a user sees of their own, once this has come true of its totals.
#[track_caller]
fn report(mcpm: &Mcpm, user: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let ask = || {
        let answer = mcpm.api(user, "GET", "/api/v1/user/usage", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        let report = answer.json();
        wanted(&report["totals"]).then_some(report)
    };
    wait_for(ask, "usage that is as it should be")
}

/// Totals of so many requests, which have been written.
#[track_caller]
fn totals(mcpm: &Mcpm, user: &str, requests: u64) -> Value {
    let mut report = report(mcpm, user, |totals| totals["requests"] == requests);
    report["totals"].take()
}

/// The same as the operator sees it, added up over days.
#[track_caller]
fn admin(mcpm: &Mcpm, args: &[&str]) -> Vec<Value> {
    let all = [&["usage", "--json"][..], args].concat();
    let text = mcpm.ok(&all);
    let mut list: Value = serde_json::from_str(&text).unwrap();
    match list["items"].take() {
        Value::Array(items) => items,
        other => panic!("no list: {other}"),
    }
}

fn requests(rows: &[Value]) -> u64 {
    let each = rows.iter().map(|row| row["usage"]["requests"].as_u64());
    each.map(Option::unwrap).sum()
}

#[test]
fn requests_errors_and_bytes_are_counted_for_whom_they_are() {
    let slow = keyed("slow").with("/mcp/rate_limit", json!({ "per_minute": 1, "burst": 1 }));
    let mcpm = Mcpm::start([keyed("one"), keyed("two"), slow]);
    let one = mcpm.instance("alice", "one");
    let (mut received, mut sent) = (0, 0);
    for length in [1, 1000, 70_000] {
        let body = vec![b'x'; length];
        let answer = mcpm.send("POST", &format!("{one}/echo"), &[], &body).read();
        assert_eq!(answer.body.len(), length);
        received += length;
        sent += length;
    }
    // The service fails, which is an error; a client's mistake is none.
    sent += mcpm.get(&format!("{one}/health/500")).body.len();
    let failed = mcpm.get(&format!("{one}/health"));
    assert_eq!(failed.status, 500);
    sent += failed.body.len();
    sent += mcpm.get(&format!("{one}/health/404")).body.len();
    let missed = mcpm.get(&format!("{one}/health"));
    assert_eq!(missed.status, 404);
    sent += missed.body.len();
    sent += mcpm.get(&format!("{one}/health/200")).body.len();
    // What the router refuses for the client's sake counts for nobody.
    assert_eq!(mcpm.get(&format!("{one}x/echo")).status, 404);
    assert_eq!(mcpm.get(&one.replace("/one", "/two")).status, 404);
    let slow = mcpm.instance("alice", "slow");
    let first = mcpm.get(&slow);
    assert_eq!(first.status, 200);
    sent += first.body.len();
    assert_eq!(mcpm.get(&slow).status, 429);
    // The router's own failure is one.
    let two = mcpm.instance("bob", "two");
    let answer = mcpm
        .send("POST", &format!("{two}/echo"), &[], b"12345")
        .read();
    assert_eq!(answer.status, 200);
    mcpm.ok(&["stop", "two"]);
    assert_eq!(mcpm.get(&two).status, 503);

    let alice = totals(&mcpm, "alice", 9);
    assert_eq!(alice["errors"], 1);
    let bytes = |totals: &Value| (totals["bytesIn"].as_u64(), totals["bytesOut"].as_u64());
    let exact = (Some(received as u64), Some(sent as u64));
    report(&mcpm, "alice", |totals| bytes(totals) == exact);
    let bob = report(&mcpm, "bob", |totals| {
        totals["requests"] == 2 && bytes(totals) == (Some(5), Some(5))
    });
    assert_eq!(bob["totals"]["errors"], 1);
    assert!(
        bob["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["service"] == "two")
    );
    let latency = &alice["latency"];
    let of = |name: &str| latency[name].as_f64().unwrap();
    assert!(
        of("p50Ms") <= of("p90Ms") && of("p90Ms") <= of("p99Ms"),
        "{latency}"
    );
    assert!(
        of("p99Ms") <= of("maxMs") && of("meanMs") <= of("maxMs"),
        "{latency}"
    );
    let mine = mcpm.api("alice", "GET", "/api/v1/services/one/instance", "");
    assert_eq!(mine.json()["usageCount"], 8);
}

#[test]
fn users_see_their_own_and_operators_what_they_ask_for() {
    let mcpm = Mcpm::start([keyed("one"), keyed("two")]);
    for (user, services) in [("alice", &["one", "two"][..]), ("bob", &["one"])] {
        for service in services {
            let url = mcpm.instance(user, service);
            assert_eq!(mcpm.get(&url).status, 200);
        }
    }
    totals(&mcpm, "bob", 1);
    let own = report(&mcpm, "alice", |totals| totals["requests"] == 2);
    assert!(!own.to_string().contains("bob"), "{own}");
    let only = mcpm.api("alice", "GET", "/api/v1/user/usage?service=two", "");
    assert_eq!(only.json()["totals"]["requests"], 1);
    let future = mcpm.api("alice", "GET", "/api/v1/user/usage?from=2999-01-01", "");
    assert_eq!(future.json()["items"], json!([]));
    assert_eq!(future.json()["totals"]["latency"], Value::Null);
    for wrong in [
        "from=today",
        "cursor=x",
        "user=bob",
        "from=2026-02-02&to=2026-01-01",
    ] {
        let answer = mcpm.api("alice", "GET", &format!("/api/v1/user/usage?{wrong}"), "");
        assert_eq!((wrong, answer.status), (wrong, 400), "{answer:?}");
    }
    let refused = mcpm.api("alice", "GET", "/api/v1/admin/usage", "");
    assert_eq!(refused.status, 403);

    // Page by page there is every row once.
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/user/usage?limit=1{cursor}");
        let page = mcpm.api("alice", "GET", &path, "").json();
        assert_eq!(page["totals"].is_null(), !cursor.is_empty(), "{page}");
        found.extend(page["items"].as_array().unwrap().clone());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    // Bytes may have been written a moment later than their request.
    let of = |row: &Value| (row["service"].clone(), row["usage"]["requests"].clone());
    let whole = own["items"].as_array().unwrap().iter().map(of);
    assert_eq!(
        found.iter().map(of).collect::<Vec<_>>(),
        whole.collect::<Vec<_>>()
    );

    assert_eq!(requests(&admin(&mcpm, &[])), 3);
    assert_eq!(requests(&admin(&mcpm, &["--user", "bob"])), 1);
    assert_eq!(requests(&admin(&mcpm, &["--service", "one"])), 2);
    assert_eq!(requests(&admin(&mcpm, &["--since", "2999-01-01"])), 0);
    let by_user = admin(&mcpm, &["--by", "user"]);
    let of = |row: &Value| (row["user"].clone(), row["usage"]["requests"].clone());
    let groups: Vec<_> = by_user.iter().map(of).collect();
    assert_eq!(
        groups,
        [(json!("alice"), json!(2)), (json!("bob"), json!(1))]
    );
    let table = mcpm.ok(&["usage", "--since", "7d"]);
    for word in ["requests", "p99", "alice", "bob", "one", "two", "all"] {
        assert!(table.contains(word), "{table}");
    }
    assert!(
        mcpm.fails(&["usage", "--since", "last week"])
            .contains("7d")
    );
}

#[test]
fn what_a_rotated_or_removed_instance_has_counted_stays() {
    let mcpm = Mcpm::start([keyed("one")]);
    let first = mcpm.instance("alice", "one");
    assert_eq!(mcpm.get(&first).status, 200);
    let rotate = "/api/v1/services/one/instance/rotate";
    let rotated = mcpm.api("alice", "POST", rotate, "").json();
    let second = rotated["instanceUrl"].as_str().unwrap();
    assert_eq!(mcpm.get(&first).status, 404);
    assert_eq!(mcpm.get(second).status, 200);
    let removed = mcpm.api("alice", "DELETE", "/api/v1/services/one/instance", "");
    assert_eq!(removed.status, 204);
    totals(&mcpm, "alice", 2);
    mcpm.ok(&["users", "rm", "alice"]);
    assert_eq!(requests(&admin(&mcpm, &["--user", "alice"])), 2);
}

#[test]
fn a_killed_daemon_loses_no_more_than_its_last_second() {
    let mcpm = Mcpm::start([keyed("one")]);
    let url = mcpm.instance("alice", "one");
    let ask = |count: usize| {
        for _ in 0..count {
            assert_eq!(mcpm.get(&url).status, 200);
        }
    };
    ask(5);
    totals(&mcpm, "alice", 5);
    ask(3);
    mcpm.kill_daemon();
    mcpm.ok(&["ping"]);
    let kept = requests(&admin(&mcpm, &[]));
    assert!((5..=8).contains(&kept), "{kept}");
    // It goes on from there.
    mcpm.wait_until(|list| list["one"].is_up());
    ask(2);
    totals(&mcpm, "alice", kept + 2);
}

#[test]
fn a_daemon_that_ends_in_order_loses_nothing() {
    let mcpm = Mcpm::start([keyed("one")]);
    let url = mcpm.instance("alice", "one");
    for _ in 0..5 {
        assert_eq!(mcpm.get(&url).status, 200);
    }
    mcpm.ok(&["kill"]);
    assert_eq!(requests(&admin(&mcpm, &[])), 5);
}

#[test]
fn an_update_loses_nothing_and_the_old_daemon_counts_on() {
    let mcpm = Mcpm::start([keyed("one")]);
    let url = mcpm.instance("alice", "one");
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    let old = mcpm.daemon_pid();
    mcpm.ok(&["update"]);
    totals(&mcpm, "alice", 1);
    // Through the new one; what it lets go comes through the old one.
    assert_eq!(mcpm.get(&format!("{url}/release")).status, 204);
    assert_eq!(stream.event().as_deref(), Some("second"));
    assert_eq!(stream.event(), None);
    wait_for(|| (!is_alive(old)).then_some(()), "the end of the old one");
    let all = "data: first\n\n".len() + "data: second\n\n".len();
    let totals = totals(&mcpm, "alice", 2);
    assert_eq!(totals["bytesOut"], all);
    assert_eq!(totals["errors"], 0);
}

#[test]
fn how_long_usage_is_kept_is_the_operators_to_say() {
    let mcpm = Mcpm::new();
    mcpm.ok(&["ping"]);
    let shown = mcpm.ok(&["config"]);
    assert!(shown.contains("usage 180d, audit 365d"), "{shown}");
    mcpm.ok(&["kill"]);
    let file = mcpm.home().join("mcpm.json");
    fs::write(&file, r#"{ "retention": { "usage": "30d", "audit": 0 } }"#).unwrap();
    let shown = mcpm.ok(&["config"]);
    assert!(shown.contains("usage 30d, audit for ever"), "{shown}");
    mcpm.ok(&["kill"]);
    fs::write(&file, r#"{ "retention": { "usage": "90m" } }"#).unwrap();
    let said = mcpm.fails(&["config"]);
    assert!(said.contains("write whole days such as"), "{said}");
}
