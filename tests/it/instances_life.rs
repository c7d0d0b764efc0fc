//! What becomes of an instance after it was made: disabled, expired, rotated, called something, removed;
//! on its URL and on open streams.

use serde_json::{Value, json};

use crate::harness::{Answer, Body, Mcpm, eventually, raw, service};

/// As many users as a slow machine serves at once, and what each of them asks.
const USERS: usize = 24;
const REQUESTS: usize = 10;
/// Changes that go on meanwhile.
const CHANGES: usize = 30;

/// The public number of the user's instance.
#[track_caller]
fn number(mcpm: &Mcpm, user: &str) -> String {
    let own = mcpm.api(user, "GET", "/api/v1/services/demo/instance", "");
    own.json()["id"].as_str().expect("a number").to_owned()
}

/// What the command answers as JSON: the first of its instances.
#[track_caller]
fn first(mcpm: &Mcpm, args: &[&str]) -> Value {
    let text = mcpm.ok(&[&["instances"][..], args, &["--json"]].concat());
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"][0].clone()
}

/// A stream whose first event has arrived.
#[track_caller]
fn opened(mcpm: &Mcpm, url: &str) -> Body {
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    stream
}

/// The connection ends in the middle of the body, by itself: not when nothing has come for too long.
fn is_cut(stream: Body) -> bool {
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.read()));
    read.is_err_and(|why| {
        let told = why.downcast_ref::<String>().map_or("", String::as_str);
        !told.contains("WouldBlock") && !told.contains("TimedOut")
    })
}

#[track_caller]
fn assert_dead(answer: &Answer) {
    assert_eq!(answer.status, 404, "{answer:?}");
    assert_eq!(answer.json()["code"], "unknown_instance");
}

#[test]
fn a_disabled_instance_is_dead_at_once_and_lives_again() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let (url, bobs) = (mcpm.instance("alice", "demo"), mcpm.instance("bob", "demo"));
    let id = number(&mcpm, "alice");
    let (stream, other) = (opened(&mcpm, &url), opened(&mcpm, &bobs));
    let said = mcpm.ok(&["instances", "disable", &id]);
    assert!(said.contains(&id) && !said.contains(&url), "{said}");
    assert!(is_cut(stream), "streams of what is disabled end");
    assert_dead(&mcpm.get(&url));
    mcpm.get(&format!("{bobs}/release"));
    assert!(!is_cut(other), "others go on");

    // It stays disabled over everything but the operator's word.
    let body = r#"{"apiKey":"another"}"#;
    let granted = mcpm.api("alice", "POST", "/api/v1/services/demo/authenticate", body);
    assert!(
        granted.json()["message"]
            .as_str()
            .unwrap()
            .contains("disabled")
    );
    assert_eq!(granted.json()["instanceUrl"], url.as_str());
    assert_dead(&mcpm.get(&url));
    let patch = |body: &str| mcpm.api("alice", "PATCH", "/api/v1/services/demo/instance", body);
    assert_eq!(patch(r#"{"disabled":false}"#).status, 400);
    mcpm.kill_daemon();
    mcpm.ok(&["ping"]);
    assert_dead(&mcpm.get(&url));
    let listed = first(&mcpm, &["--inactive"]);
    assert_eq!(
        (&listed["id"], &listed["active"]),
        (&json!(id), &json!(false))
    );

    mcpm.ok(&["instances", "enable", &id]);
    let seen = mcpm.get(&format!("{url}/x")).json();
    assert_eq!(seen["headers"]["authorization"], "Bearer another");

    // Nor does its owner get it back by making it anew.
    let remove = || mcpm.api("alice", "DELETE", "/api/v1/services/demo/instance", "");
    mcpm.ok(&["instances", "disable", &id]);
    assert_eq!(remove().status, 204);
    let granted = mcpm.api("alice", "POST", "/api/v1/services/demo/authenticate", body);
    let (url, said) = (granted.json()["instanceUrl"].clone(), granted.text());
    assert!(said.contains("disabled"), "{said}");
    let url = url.as_str().unwrap();
    assert_dead(&mcpm.get(url));
    mcpm.ok(&["instances", "enable", &number(&mcpm, "alice")]);
    assert_eq!(mcpm.get(&format!("{url}/x")).status, 200);
}

#[test]
fn an_instance_ends_when_its_time_comes_and_not_before() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let url = mcpm.instance("alice", "demo");
    let id = number(&mcpm, "alice");
    let stream = opened(&mcpm, &url);
    let until = |when: &str| first(&mcpm, &["expire", &id, when]);
    assert!(until("30d")["expiresAt"].is_string());
    assert_eq!(mcpm.get(&format!("{url}/x")).status, 200);
    // A second is long enough for a request, and short enough to wait for.
    until("1s");
    assert!(is_cut(stream), "an open stream ends with its instance");
    assert_dead(&mcpm.get(&url));
    let refused = mcpm.fails(&["instances", "enable", &id]);
    assert!(
        refused.contains("expired") && refused.contains(&id),
        "{refused}"
    );
    assert!(mcpm.ok(&["instances"]).contains("expired"));
    assert_eq!(until("never")["expiresAt"], Value::Null);
    assert_eq!(mcpm.get(&format!("{url}/x")).status, 200);
    let refused = mcpm.fails(&["instances", "expire", &id, "soon"]);
    assert!(refused.contains("90d"), "{refused}");
}

#[test]
fn an_expiry_outlives_the_daemon() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    mcpm.token("alice");
    let add = [
        "instances",
        "add",
        "demo",
        "--user",
        "alice",
        "--expires",
        "5s",
        "--label",
        "trial",
    ];
    let url = mcpm.run_with(&add, "the-key").stdout.trim().to_owned();
    assert!(url.starts_with("http"), "{url}");
    mcpm.kill_daemon();
    mcpm.ok(&["ping"]);
    assert!(eventually(|| mcpm.get(&format!("{url}/x")).status == 404));
    let one = first(&mcpm, &["ls", "--user", "alice"]);
    assert_eq!(one["label"], "trial");
    let over = mcpm.run_with(
        &[
            "instances",
            "add",
            "demo",
            "--user",
            "alice",
            "--expires",
            "2001-01-01",
        ],
        "the-key",
    );
    assert!(
        over.code == Some(1) && over.stderr.contains("over"),
        "{over}"
    );
}

#[test]
fn the_operator_kills_a_url_and_its_owner_alone_sees_the_new_one() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let url = mcpm.instance("alice", "demo");
    let id = number(&mcpm, "alice");
    mcpm.ok(&["instances", "label", &id, "my laptop"]);
    let stream = opened(&mcpm, &url);
    let said = mcpm.run(&["instances", "rotate", &id]);
    assert!(is_cut(stream));
    assert_dead(&mcpm.get(&url));
    let own = mcpm
        .api("alice", "GET", "/api/v1/services/demo/instance", "")
        .json();
    let new = own["instanceUrl"].as_str().unwrap();
    assert_ne!(new, url);
    assert_eq!(
        (&own["id"], &own["label"]),
        (&json!(id), &json!("my laptop"))
    );
    assert_eq!(mcpm.get(&format!("{new}/x")).status, 200);
    let secret = new.split('/').nth(3).unwrap();
    assert!(!format!("{said}").contains(secret), "{said}");
    let shown = mcpm.ok(&["instances", "show", &id]);
    assert!(
        shown.contains("my laptop") && !shown.contains(secret),
        "{shown}"
    );
}

#[test]
fn several_at_once_and_what_is_wrong_with_one_is_told() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let urls = ["alice", "bob"].map(|user| mcpm.instance(user, "demo"));
    let ids = ["alice", "bob"].map(|user| number(&mcpm, user));
    let told = mcpm.fails(&["instances", "disable", &ids[0], "ins_nobodynobod", &ids[1]]);
    assert!(told.contains("ins_nobodynobod"), "{told}");
    urls.iter().for_each(|url| assert_dead(&mcpm.get(url)));
    mcpm.ok(&["instances", "enable", &ids[0], &ids[1]]);
    mcpm.ok(&["instances", "rm", &ids[0], &ids[1]]);
    urls.iter().for_each(|url| assert_dead(&mcpm.get(url)));
    let list: Value = serde_json::from_str(&mcpm.ok(&["instances", "--json"])).unwrap();
    assert_eq!(list["items"], json!([]));
}

#[test]
fn of_two_editors_the_later_one_is_refused() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    mcpm.instance("alice", "demo");
    let path = "/api/v1/services/demo/instance";
    let seen = mcpm.api("alice", "GET", path, "");
    let tag = seen.header("etag").expect("an ETag").to_owned();
    assert_eq!(
        tag,
        format!("\"{}\"", seen.json()["version"].as_str().unwrap())
    );
    let token = format!("Bearer {}", mcpm.token("alice"));
    let edit = |tag: &str, label: &str| {
        let headers = [("Authorization", token.as_str()), ("If-Match", tag)];
        let body = json!({ "label": label }).to_string();
        let url = format!("{}{path}", mcpm.origin());
        mcpm.send("PATCH", &url, &headers, body.as_bytes()).read()
    };
    let one = edit(&tag, "one");
    assert_eq!((one.status, &one.json()["label"]), (200, &json!("one")));
    let two = edit(&tag, "two");
    assert_eq!(
        (two.status, &two.json()["code"]),
        (412, &json!("instance_changed"))
    );
    let again = one.header("etag").unwrap();
    assert_eq!(edit(again, "three").status, 200);
    assert_eq!(edit("*", &"x".repeat(101)).status, 400);
}

#[test]
fn what_was_changed_meanwhile_is_neither_removed_nor_rotated() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    mcpm.instance("alice", "demo");
    let admin = mcpm.ok(&["tokens", "add"]).trim().to_owned();
    let call = |token: &str, method: &str, path: &str, tag: &str, body: &str| {
        let token = format!("Bearer {token}");
        let mut headers = vec![("Authorization", token.as_str())];
        if !tag.is_empty() {
            headers.push(("If-Match", tag));
        }
        let url = format!("{}/api/v1{path}", mcpm.origin());
        mcpm.send(method, &url, &headers, body.as_bytes()).read()
    };
    let alice = mcpm.token("alice");
    let own = "/services/demo/instance";
    let of_admin = format!("/admin/instances/{}", number(&mcpm, "alice"));
    let tag = |token: &str, path: &str| {
        let seen = call(token, "GET", path, "", "");
        seen.header("etag").expect("an ETag").to_owned()
    };
    let old = tag(&alice, own);
    let key = json!({ "apiKey": "another" }).to_string();
    let granted = call(&alice, "POST", "/services/demo/authenticate", "", &key);
    assert_eq!(granted.status, 200, "{granted:?}");
    // Another credential is another state.
    assert_ne!(tag(&alice, own), old);
    let rotations = [format!("{own}/rotate"), format!("{of_admin}/rotate")];
    for (token, method, path) in [
        (&alice, "DELETE", own),
        (&alice, "POST", &rotations[0]),
        (&admin, "DELETE", &of_admin),
        (&admin, "POST", &rotations[1]),
    ] {
        let refused = call(token, method, path, &old, "");
        let code = refused.json()["code"].clone();
        assert_eq!(
            (refused.status, code),
            (412, json!("instance_changed")),
            "{path}"
        );
    }
    let rotated = call(&alice, "POST", &rotations[0], &tag(&alice, own), "");
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let rotated = call(&admin, "POST", &rotations[1], &tag(&admin, &of_admin), "");
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let removed = call(&alice, "DELETE", own, rotated.header("etag").unwrap(), "");
    assert_eq!(removed.status, 204, "{removed:?}");
}

#[test]
fn a_user_who_was_changed_meanwhile_is_not_changed_unseen() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    mcpm.ok(&["users", "add", "bob"]);
    let admin = format!("Bearer {}", mcpm.ok(&["tokens", "add"]).trim());
    let path = "/api/v1/admin/users/bob";
    let call = |method: &str, rest: &str, tag: Option<&str>, body: &str| {
        let mut headers = vec![("Authorization", admin.as_str())];
        headers.extend(tag.map(|tag| ("If-Match", tag)));
        let url = format!("{}{path}{rest}", mcpm.origin());
        mcpm.send(method, &url, &headers, body.as_bytes()).read()
    };
    let seen = call("GET", "", None, "");
    let old = seen.header("etag").expect("an ETag").to_owned();
    let version = seen.json()["user"]["version"].clone();
    assert_eq!(json!(old.trim_matches('"')), version);
    let off = call("POST", "/disable", Some(&old), "");
    assert_eq!(off.status, 200, "{off:?}");
    for (method, rest, body) in [
        ("POST", "/disable", ""),
        ("POST", "/enable", ""),
        ("POST", "/group", r#"{"group":null}"#),
        ("DELETE", "", ""),
    ] {
        let refused = call(method, rest, Some(&old), body);
        let code = refused.json()["code"].clone();
        assert_eq!(
            (refused.status, code),
            (412, json!("user_changed")),
            "{rest}"
        );
    }
    let on = call("POST", "/enable", off.header("etag"), "");
    assert_eq!(on.status, 200, "{on:?}");
    let gone = call("DELETE", "", on.header("etag"), "");
    assert_eq!(gone.status, 204, "{gone:?}");
}

/// One request on a connection of its own, without the harness, which stays on its own thread.
fn ask(host: &str, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    raw(host, request.as_bytes()).read()
}

#[test]
fn everybody_gets_their_own_while_instances_come_and_go() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let host = mcpm.origin().replace("http://", "");
    let alias = |n: usize| format!("old-{n:03}-8d7f0c1b2a3e4f5a6b7c8d9e0f1a2b3c");
    let rows: String = (0..USERS)
        .map(|n| format!("user {n},demo,key-{n},{}\n", alias(n)))
        .collect();
    let csv = format!("user,service,api_key,alias\n{rows}");
    let ran = mcpm.run_with(&["instances", "import", "-", "--add-users"], &csv);
    assert_eq!(ran.code, Some(0), "{ran}");

    std::thread::scope(|scope| {
        for n in 0..USERS {
            let (host, path) = (&host, format!("/{}/demo/who", alias(n)));
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    let answer = ask(host, &path);
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let seen = &answer.json()["headers"];
                    assert_eq!(seen["x-mcpm-user-id"], format!("user%20{n}"));
                    assert_eq!(seen["authorization"], format!("Bearer key-{n}"));
                }
            });
        }
        // Meanwhile others come, get other URLs, and go; in an order that is the same each time.
        let mut number = 7_usize;
        let mut urls: [Option<String>; 3] = [None, None, None];
        for change in 0..CHANGES {
            number = (number * 1_103_515_245 + 12_345) % (1 << 31);
            let (who, what) = ((number >> 8) % urls.len(), (number >> 16) % 3);
            let user = format!("guest-{who}");
            let base = "/api/v1/services/demo";
            let next = match (what, &urls[who]) {
                (0, Some(_)) => {
                    let path = format!("{base}/instance/rotate");
                    let rotated = mcpm.api(&user, "POST", &path, "").json();
                    rotated["instanceUrl"].as_str().map(str::to_owned)
                }
                (1, Some(_)) => {
                    let gone = mcpm.api(&user, "DELETE", &format!("{base}/instance"), "");
                    assert_eq!(gone.status, 204, "{gone:?}");
                    None
                }
                _ => {
                    let body = json!({ "apiKey": format!("guest-{who}-{change}") });
                    let path = format!("{base}/authenticate");
                    let made = mcpm.api(&user, "POST", &path, &body.to_string()).json();
                    made["instanceUrl"].as_str().map(str::to_owned)
                }
            };
            if let Some(old) = urls[who].take().filter(|old| Some(old) != next.as_ref()) {
                assert_dead(&mcpm.get(&old));
            }
            if let Some(url) = &next {
                let seen = mcpm.get(&format!("{url}/who")).json();
                assert_eq!(seen["headers"]["x-mcpm-user-id"], user);
                let key = seen["headers"]["authorization"].as_str().unwrap();
                assert!(key.starts_with(&format!("Bearer guest-{who}-")), "{key}");
            }
            urls[who] = next;
        }
    });
}
