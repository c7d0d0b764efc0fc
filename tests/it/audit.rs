//! The audit log: who has done what, from where and when; and what looks like crossing from one user
//! to another.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{App, Mcpm, demo, service, wait_for};

/// What the command tells, newest first.
#[track_caller]
fn told(mcpm: &Mcpm, filters: &[&str]) -> Vec<Value> {
    let text = mcpm.ok(&[&["audit", "--json", "--limit", "1000"][..], filters].concat());
    let list: Value = serde_json::from_str(&text).expect("JSON");
    list["items"].as_array().expect("a list").clone()
}

/// Some of the members of each, as one text.
fn shown(events: &[Value], members: &[&str]) -> Vec<String> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let one = |event: &Value| {
        let words: Vec<String> = members.iter().map(|name| text(event, name)).collect();
        words.join(" ")
    };
    events.iter().map(one).collect()
}

/// A service that wants a token of the owner.
fn guarded(name: &str) -> App {
    service(name).with_api_key().with("/mcp/require_auth", true)
}

fn with_token(mcpm: &Mcpm, url: &str, token: &str) -> u16 {
    let value = format!("Bearer {token}");
    let answer = mcpm.send("GET", url, &[("Authorization", &value)], b"");
    answer.read().status
}

#[test]
fn whoever_is_known_is_named_when_they_are_refused() {
    let mcpm = Mcpm::start([demo("demo")]);
    let (alice, bob) = (mcpm.token("alice"), mcpm.token("bob"));
    let url = format!("{}/api/v1/admin/users", mcpm.origin());
    for token in [&alice, &alice, &alice, &bob] {
        assert_eq!(with_token(&mcpm, &url, token), 403);
    }
    let refusals = || told(&mcpm, &["--action", "api.refused", "--actor", "user:alice"]);
    let events = wait_for(|| Some(refusals()).filter(|all| !all.is_empty()), "a row");
    assert_eq!(
        shown(&events, &["action", "actor", "address", "detail"]),
        ["api.refused user:alice 127.0.0.1 3 × forbidden"]
    );
    assert!(told(&mcpm, &["--actor", "user:nobody"]).is_empty());
    assert_eq!(
        told(&mcpm, &["--actor", "admin"]).len(),
        3,
        "one start, two users"
    );
}

#[test]
fn each_act_is_told_once_with_who_what_and_from_where() {
    let mcpm = Mcpm::start([demo("demo")]);
    mcpm.token("alice");
    mcpm.instance("alice", "demo");
    mcpm.instance("alice", "demo");
    let rotate = "/api/v1/services/demo/instance/rotate";
    assert_eq!(mcpm.api("alice", "POST", rotate, "").status, 200);
    let admin = mcpm.ok(&["tokens", "add"]);
    let value = format!("Bearer {}", admin.trim());
    let url = format!("{}/api/v1/admin/users/alice/tokens", mcpm.origin());
    let answer = mcpm.send("POST", &url, &[("Authorization", &value)], b"");
    assert_eq!(answer.read().status, 200);
    for verb in ["stop", "start", "restart", "reset"] {
        mcpm.ok(&[verb, "demo"]);
    }
    let path = "/api/v1/services/demo/instance";
    assert_eq!(mcpm.api("alice", "DELETE", path, "").status, 204);
    mcpm.ok(&["users", "rm", "alice"]);
    mcpm.ok(&["delete", "demo"]);
    // What is refused has not happened.
    mcpm.fails(&["users", "rm", "alice"]);
    mcpm.fails(&["stop", "nobody"]);

    let mut events = told(&mcpm, &[]);
    events.reverse();
    let mut lines = shown(&events, &["action", "actor", "address", "user", "service"]);
    let by_token = lines.iter_mut().find(|line| line.contains("admin:"));
    let by_token = by_token.expect("what was done with an admin token");
    let number = by_token.split([':', ' ']).nth(2).expect("a number");
    assert!(number.parse::<i64>().is_ok(), "{by_token}");
    *by_token = by_token.replace(&format!("admin:{number}"), "admin:N");
    assert_eq!(
        lines,
        [
            "process.start admin socket - -",
            "user.add admin socket alice -",
            "instance.create user:alice 127.0.0.1 alice demo",
            "instance.credential user:alice 127.0.0.1 alice demo",
            "instance.rotate user:alice 127.0.0.1 alice demo",
            "token.add admin socket - -",
            "token.add admin:N 127.0.0.1 alice -",
            "process.stop admin socket - -",
            "process.start admin socket - -",
            "process.restart admin socket - -",
            "process.reset admin socket - -",
            "instance.remove user:alice 127.0.0.1 alice demo",
            "user.remove admin socket alice -",
            "process.delete admin socket - -",
        ]
    );
    let of_alice = told(&mcpm, &["--action", "instance."]);
    let public = of_alice[0]["instance"].as_str().expect("a public number");
    assert!(public.starts_with("ins_"), "{public}");
    for event in &of_alice {
        assert_eq!(event["instance"], public);
        assert_eq!(event["requestId"].as_str().unwrap().len(), 26);
    }
}

#[test]
fn the_log_is_filtered_and_read_in_pages() {
    let mcpm = Mcpm::new();
    for user in ["alice", "bob", "carol"] {
        mcpm.token(user);
        mcpm.ok(&["users", "token", user]);
    }
    let users = |filters: &[&str]| shown(&told(&mcpm, filters), &["user"]);
    assert_eq!(users(&["--action", "user."]), ["carol", "bob", "alice"]);
    assert_eq!(users(&["--user", "bob"]), ["bob", "bob"]);
    assert_eq!(users(&["--user", "bob", "--action", "token"]), ["bob"]);
    assert_eq!(users(&["--since", "1h"]).len(), 6);
    assert!(users(&["--until", "1h"]).is_empty());
    assert!(users(&["--service", "demo"]).is_empty());
    let refused = mcpm.fails(&["audit", "--instance", "carol"]);
    assert!(refused.contains("`carol`"), "{refused}");
    let table = mcpm.ok(&["audit", "--limit", "2"]);
    assert!(
        table.contains("token.add") && table.contains("carol"),
        "{table}"
    );
    assert!(!table.contains("bob"), "{table}");

    let admin = mcpm.ok(&["tokens", "add"]);
    let value = format!("Bearer {}", admin.trim());
    let (mut cursor, mut numbers) = (String::new(), Vec::new());
    loop {
        let url = format!("{}/api/v1/admin/audit?limit=3{cursor}", mcpm.origin());
        let answer = mcpm.send("GET", &url, &[("Authorization", &value)], b"");
        let page = answer.read().json();
        let items = page["items"].as_array().unwrap();
        numbers.extend(items.iter().map(|event| event["number"].as_i64().unwrap()));
        let Some(next) = page["nextCursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(numbers.len(), 7);
    assert!(numbers.is_sorted_by(|a, b| a > b), "{numbers:?}");
    // A user may not read it.
    let answer = mcpm.api("alice", "GET", "/api/v1/admin/audit", "");
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[test]
fn who_follows_sees_what_is_done_now() {
    let mcpm = Mcpm::new();
    mcpm.token("alice");
    let follower = mcpm.spawn(&["audit", "--follow"]);
    follower.line(|line| line.contains("user.add") && line.contains("alice"));
    mcpm.token("bob");
    let line = follower.line(|line| line.contains("user.add"));
    assert!(line.contains("by admin user bob from socket"), "{line}");
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_and_an_update_loses_nothing() {
    let mcpm = Mcpm::start([demo("demo")]);
    mcpm.token("alice");
    mcpm.kill_daemon();
    let added = told(&mcpm, &["--action", "user.add"]);
    assert_eq!(shown(&added, &["user"]), ["alice"]);
    mcpm.instance("alice", "demo");
    mcpm.ok(&["update"]);
    let made = told(&mcpm, &["--action", "instance."]);
    assert_eq!(shown(&made, &["action"]), ["instance.create"]);
    // Told by the daemon that went, with its last breath.
    let updated = || {
        let updates = told(&mcpm, &["--action", "daemon.update"]);
        (updates.len() == 1).then_some(updates)
    };
    wait_for(updated, "the update to be told");
    mcpm.ok(&["kill"]);
    let stopped = told(&mcpm, &["--action", "daemon.stop"]);
    assert_eq!(shown(&stopped, &["actor", "address"]), ["admin socket"]);
}

#[test]
fn a_token_of_another_user_is_an_isolation_event() {
    let mcpm = Mcpm::start([guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    let (own, foreign) = (mcpm.token("alice"), mcpm.token("bob"));
    assert_eq!(with_token(&mcpm, &url, &own), 200);
    for _ in 0..5 {
        assert_eq!(with_token(&mcpm, &url, &foreign), 404);
    }
    let events = told(&mcpm, &["--action", "isolation."]);
    let members = ["action", "actor", "user", "service", "address"];
    assert_eq!(
        shown(&events, &members),
        ["isolation.foreign_token user:bob alice demo 127.0.0.1"]
    );
    let used = told(&mcpm, &["--action", "router.first_use"]);
    let members = ["actor", "user", "service", "address"];
    assert_eq!(shown(&used, &members), ["url alice demo 127.0.0.1"]);
    let log = mcpm.daemon_log();
    assert!(log.contains("isolation.foreign_token"), "{log}");
    let admin = mcpm.ok(&["tokens", "add"]);
    let value = format!("Bearer {}", admin.trim());
    let info = format!("{}/api/v1/admin/daemon", mcpm.origin());
    let info = mcpm.send("GET", &info, &[("Authorization", &value)], b"");
    assert_eq!(info.read().json()["isolationEvents"], 1);
}

#[test]
fn a_flood_of_guesses_is_few_rows_and_shows_no_id() {
    let mcpm = Mcpm::start([guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    let id = url.split('/').nth(3).unwrap().to_owned();
    let (own, foreign) = (mcpm.token("alice"), mcpm.token("bob"));
    for n in 0..100 {
        let guess = format!("{}/dem_000000000000_{n:026}/demo", mcpm.origin());
        assert_eq!(mcpm.get(&guess).status, 404);
    }
    for _ in 0..12 {
        assert_eq!(with_token(&mcpm, &url, "mcpm_u_made_up_by_eve"), 401);
    }
    with_token(&mcpm, &url, &foreign);
    // At its end the daemon tells what it has counted.
    mcpm.ok(&["kill"]);
    let refused = told(&mcpm, &["--action", "router.refused"]);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for event in &refused {
        let detail = event["detail"].as_str().unwrap();
        let (times, reason) = detail.split_once(" × ").expect("a count and a reason");
        *counts.entry(reason.to_owned()).or_insert(0) += times.parse::<u64>().unwrap();
    }
    let expected = [("unauthorized", 12), ("unknown_instance", 101)];
    for (reason, times) in expected {
        assert_eq!(counts.remove(reason), Some(times), "{refused:#?}");
    }
    assert!(counts.is_empty(), "{counts:?}");
    assert!(refused.len() <= 8, "{refused:#?}");
    let mut events = shown(&told(&mcpm, &["--action", "isolation."]), &["action"]);
    events.sort();
    assert_eq!(
        events,
        [
            "isolation.foreign_token",
            "isolation.guessed_ids",
            "isolation.wrong_tokens"
        ]
    );

    let mut said = mcpm.ok(&["audit", "--json", "--limit", "1000"]) + &mcpm.daemon_log();
    mcpm.ok(&["kill"]);
    let db = std::fs::read(mcpm.home().join("mcpm.db")).unwrap();
    said += &String::from_utf8_lossy(&db);
    for secret in [&id, &own, &foreign] {
        assert!(!said.contains(secret.as_str()), "{secret}");
    }
    for secret in ["dem_000000000000", "mcpm_u_made_up_by_eve", "alice-key"] {
        assert!(!said.contains(secret), "{secret}");
    }
}

/// Takes one POST, answers it, and hands on its first line and its body.
fn webhook() -> (u16, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, posts) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                let line = line.to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = "HTTP/1.1 204 Taken\r\nConnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
            let body = serde_json::from_slice(&body).unwrap();
            if sender.send((first, body)).is_err() {
                return;
            }
        }
    });
    (port, posts)
}

#[test]
fn isolation_events_are_posted_to_the_operators_webhook() {
    let (port, posts) = webhook();
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([guarded("demo")]);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut ecosystem: Value = serde_json::from_str(&text).unwrap();
    let url = format!("http://127.0.0.1:{port}/told?key=hush");
    ecosystem["mcpm"] = json!({ "audit": { "webhook": url } });
    let file = mcpm.write("ecosystem.json", &ecosystem.to_string());
    mcpm.ok(&["start", &file]);
    let config = mcpm.ok(&["config"]);
    assert!(
        config.contains(&format!("http://127.0.0.1:{port}/…")),
        "{config}"
    );
    assert!(!config.contains("hush"), "{config}");

    let url = mcpm.instance("alice", "demo");
    let foreign = mcpm.token("bob");
    assert_eq!(with_token(&mcpm, &url, &foreign), 404);
    let (first, event) = posts
        .recv_timeout(Duration::from_secs(20))
        .expect("the event is posted");
    assert!(first.starts_with("POST /told?key=hush "), "{first}");
    assert_eq!(event["event"], "isolation.foreign_token");
    assert_eq!(
        (&event["actor"], &event["user"]),
        (&json!("user:bob"), &json!("alice"))
    );
    assert!(event["instance"].as_str().unwrap().starts_with("ins_"));
    let all = event.to_string();
    for secret in [url.split('/').nth(3).unwrap(), &foreign, "hush"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[test]
fn a_webhook_that_is_no_address_is_refused_without_being_shown() {
    let mcpm = Mcpm::new();
    let file = json!({
        "apps": [{ "name": "web", "script": "sleep", "args": "1000" }],
        "mcpm": { "audit": { "webhook": "hooks.example.com/hush" } },
    });
    let file = mcpm.write("bad.json", &file.to_string());
    let refused = mcpm.fails(&["start", &file]);
    assert!(
        refused.contains("`webhook`") && !refused.contains("hush"),
        "{refused}"
    );
}
