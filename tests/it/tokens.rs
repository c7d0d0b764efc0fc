//! Tokens: how they are made, named, listed and ended; users who are switched off; and those who
//! guess.

use std::net::{IpAddr, UdpSocket};

use serde_json::{Value, json};

use crate::harness::{Answer, App, Body, Mcpm, eventually, run, service};

/// A service whose URL alone is not enough.
fn guarded(name: &str) -> App {
    service(name).with_api_key().with("/mcp/require_auth", true)
}

fn with(mcpm: &Mcpm, token: &str, method: &str, url: &str, body: &str) -> Body {
    let value = format!("Bearer {token}");
    let headers = [("Authorization", value.as_str())];
    mcpm.send(method, url, &headers, body.as_bytes())
}

/// A call of the REST API with this token.
fn call(mcpm: &Mcpm, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let url = format!("{}/api/v1/{path}", mcpm.origin());
    with(mcpm, token, method, &url, body).read()
}

fn json_of(mcpm: &Mcpm, args: &[&str]) -> Value {
    let text = mcpm.ok(&[args, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The user's tokens, oldest first.
fn tokens_of(mcpm: &Mcpm, user: &str) -> Vec<Value> {
    let list = json_of(mcpm, &["users", "tokens", user]);
    list["items"].as_array().expect("a list").clone()
}

/// Another token of the user; its text and its number.
fn another(mcpm: &Mcpm, user: &str, options: &[&str]) -> (String, String) {
    let made = json_of(mcpm, &[&["users", "token", user][..], options].concat());
    let text = made["token"].as_str().expect("a token").to_owned();
    (text, made["number"].to_string())
}

/// A stream whose first event has arrived.
fn stream(mcpm: &Mcpm, token: &str, url: &str) -> Body {
    let mut stream = with(mcpm, token, "GET", &format!("{url}/events"), "");
    assert_eq!(stream.status, 200);
    assert_eq!(stream.event().as_deref(), Some("first"));
    stream
}

/// The connection ends in the middle of the body.
fn is_cut(stream: Body) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.read())).is_err()
}

#[test]
fn tokens_are_named_listed_and_ended_one_by_one() {
    let mcpm = Mcpm::start([guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    let first = mcpm.token("alice");
    let (phone, number) = another(&mcpm, "alice", &["--name", "phone", "--expires", "90d"]);
    let (laptop, _) = another(&mcpm, "alice", &["--name", "laptop"]);
    let listed = tokens_of(&mcpm, "alice");
    let names: Vec<_> = listed.iter().map(|token| token["name"].clone()).collect();
    assert_eq!(names, [Value::Null, json!("phone"), json!("laptop")]);
    assert_eq!(listed[1]["number"].to_string(), number);
    assert!(listed[1]["expiresAt"].is_string() && listed[0]["expiresAt"].is_null());
    let table = mcpm.ok(&["users", "tokens", "alice"]);
    for token in [&first, &phone, &laptop] {
        assert!(!table.contains(token.as_str()), "{table}");
    }

    let (open, mut other) = (stream(&mcpm, &phone, &url), stream(&mcpm, &laptop, &url));
    mcpm.ok(&["users", "revoke", "alice", &number]);
    assert_eq!(with(&mcpm, &phone, "GET", &url, "").status, 401);
    assert!(is_cut(open), "what went on with it ends");
    assert_eq!(
        with(&mcpm, &laptop, "GET", &format!("{url}/release"), "").status,
        204
    );
    assert_eq!(other.event().as_deref(), Some("second"), "others go on");
    let listed = tokens_of(&mcpm, "alice");
    assert!(listed[1]["revokedAt"].is_string() && listed[1]["active"] == false);
    // Once more is no mistake; one that is not there is.
    mcpm.ok(&["users", "revoke", "alice", &number]);
    let complaint = mcpm.fails(&["users", "revoke", "alice", "4711"]);
    assert!(complaint.contains("4711"), "{complaint}");

    let ended = json_of(&mcpm, &["users", "revoke", "alice", "--all"]);
    assert_eq!(ended["revoked"].as_array().unwrap().len(), 2, "{ended}");
    for token in [&first, &laptop] {
        assert_eq!(with(&mcpm, token, "GET", &url, "").status, 401);
        assert_eq!(call(&mcpm, token, "GET", "services", "").status, 401);
    }
    for args in [["users", "tokens", "nobody"], ["users", "show", "nobody"]] {
        let complaint = mcpm.fails(&args);
        assert!(complaint.contains("nobody"), "{complaint}");
    }
}

#[test]
fn a_token_ends_when_it_was_said_to() {
    let mcpm = Mcpm::start([guarded("demo")]);
    let url = mcpm.instance("alice", "demo");
    let (long, _) = another(&mcpm, "alice", &["--expires", "1h"]);
    let (short, _) = another(&mcpm, "alice", &["--expires", "2s"]);
    assert!(eventually(
        || with(&mcpm, &short, "GET", &url, "").status == 401
    ));
    assert_eq!(call(&mcpm, &short, "GET", "services", "").status, 401);
    assert_eq!(with(&mcpm, &long, "GET", &url, "").status, 200);
    let table = mcpm.ok(&["users", "tokens", "alice"]);
    assert!(table.contains("expired"), "{table}");
    for (when, said) in [("1970-01-01T00:00:00Z", "ended"), ("soon", "90d")] {
        let complaint = mcpm.fails(&["users", "token", "alice", "--expires", when]);
        assert!(complaint.contains(said), "{complaint}");
    }
    let complaint = mcpm.fails(&["users", "token", "alice", "--name", ""]);
    assert!(complaint.contains("64"), "{complaint}");
}

#[test]
fn the_last_use_is_known_at_once_and_by_the_next_daemon() {
    let mcpm = Mcpm::start([guarded("demo")]);
    let token = mcpm.token("alice");
    assert!(tokens_of(&mcpm, "alice")[0]["lastUsedAt"].is_null());
    assert_eq!(call(&mcpm, &token, "GET", "services", "").status, 200);
    let used = tokens_of(&mcpm, "alice")[0]["lastUsedAt"].clone();
    assert!(used.as_str().is_some_and(|at| at.ends_with(":00.000Z")));
    mcpm.ok(&["kill"]);
    assert_eq!(tokens_of(&mcpm, "alice")[0]["lastUsedAt"], used);
}

#[test]
fn a_user_who_is_switched_off_has_nothing_that_opens_and_then_all_of_it_again() {
    let mcpm = Mcpm::start([service("demo").with_api_key(), guarded("guarded")]);
    let (url, behind) = (
        mcpm.instance("alice", "demo"),
        mcpm.instance("alice", "guarded"),
    );
    let token = mcpm.token("alice");
    let bobs = mcpm.instance("bob", "demo");
    let (one, two) = (stream(&mcpm, &token, &url), stream(&mcpm, &token, &behind));
    mcpm.ok(&["users", "disable", "alice"]);
    assert!(is_cut(one) && is_cut(two), "what went on ends");
    let shown = |url: &str| {
        let answer = mcpm.get(url);
        let mut problem = answer.json();
        problem["requestId"] = Value::Null;
        (answer.status, problem)
    };
    let off = || {
        let unknown = shown(&format!("{}/dem_nonsense/demo", mcpm.origin()));
        assert_eq!(unknown.0, 404);
        assert_eq!(shown(&url), unknown, "like one that was never there");
        assert_eq!(with(&mcpm, &token, "GET", &behind, "").status, 404);
        assert_eq!(call(&mcpm, &token, "GET", "services", "").status, 401);
    };
    off();
    assert_eq!(mcpm.get(&bobs).status, 200);
    let table = mcpm.ok(&["users"]);
    let row = table.lines().find(|line| line.contains("alice")).unwrap();
    assert!(row.contains("disabled"), "{row}");
    let ran = mcpm.run_with(&["instances", "add", "demo", "--user", "alice"], "key\n");
    assert!(
        ran.code == Some(1) && ran.stderr.contains("users enable"),
        "{ran}"
    );
    // The next daemon knows it, and once more is no mistake.
    mcpm.kill_daemon();
    mcpm.ok(&["users", "disable", "alice"]);
    off();

    let user = json_of(&mcpm, &["users", "enable", "alice"]);
    assert!(user["disabledAt"].is_null(), "{user}");
    let seen = mcpm.get(&url).json();
    assert_eq!(seen["headers"]["authorization"], "Bearer alice-key");
    assert_eq!(with(&mcpm, &token, "GET", &behind, "").status, 200);
    let complaint = mcpm.fails(&["users", "disable", "nobody"]);
    assert!(complaint.contains("nobody"), "{complaint}");
}

#[test]
fn users_make_see_and_end_their_own_tokens_and_nobody_elses() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let (alice, bob) = (mcpm.token("alice"), mcpm.token("bob"));
    let made = call(
        &mcpm,
        &alice,
        "POST",
        "user/tokens",
        r#"{"name":"my laptop"}"#,
    );
    assert_eq!(made.status, 200, "{made:?}");
    let made = made.json();
    assert!(made["expiresAt"].is_string(), "a token of one's own ends");
    let (own, number) = (made["token"].as_str().unwrap(), made["number"].to_string());
    let mine = call(&mcpm, own, "GET", "user/tokens", "").json();
    assert_eq!(mine["items"].as_array().unwrap().len(), 2, "{mine}");

    let path = format!("user/tokens/{number}");
    let foreign = call(&mcpm, &bob, "DELETE", &path, "");
    let unknown = call(&mcpm, &bob, "DELETE", "user/tokens/4711", "");
    assert_eq!((foreign.status, unknown.status), (404, 404));
    assert_eq!(foreign.json()["code"], "unknown_token");
    let kept = format!("user/tokens?keep={number}");
    assert_eq!(call(&mcpm, &bob, "DELETE", &kept, "").status, 404);
    let bobs = call(&mcpm, &bob, "GET", "user/tokens", "").json();
    assert_eq!(bobs["items"].as_array().unwrap().len(), 1, "{bobs}");
    for path in ["admin/users/alice/tokens", "admin/tokens"] {
        assert_eq!(call(&mcpm, &alice, "GET", path, "").status, 403);
    }
    assert_eq!(call(&mcpm, own, "GET", "user/tokens", "").status, 200);

    // A token that was given for a while makes none that lives longer.
    let (short, _) = another(&mcpm, "alice", &["--expires", "1h"]);
    let limit = tokens_of(&mcpm, "alice").pop().unwrap()["expiresAt"].clone();
    let made = call(&mcpm, &short, "POST", "user/tokens", "").json();
    assert_eq!(made["expiresAt"], limit, "{made}");
    let late = r#"{"expiresAt":"2999-01-01T00:00:00Z"}"#;
    for token in [&alice, &short] {
        let refused = call(&mcpm, token, "POST", "user/tokens", late);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.text().contains("at the latest"), "{refused:?}");
    }

    assert_eq!(call(&mcpm, &alice, "DELETE", &path, "").status, 204);
    assert_eq!(call(&mcpm, own, "GET", "user/tokens", "").status, 401);
    let first = tokens_of(&mcpm, "alice")[0]["number"].to_string();
    let all_but = format!("user/tokens?keep={first}");
    let ended = call(&mcpm, &alice, "DELETE", &all_but, "").json();
    assert_eq!(ended["revoked"].as_array().unwrap().len(), 2, "{ended}");
    assert_eq!(call(&mcpm, &alice, "GET", "user/tokens", "").status, 200);
    assert_eq!(call(&mcpm, &short, "GET", "user/tokens", "").status, 401);
}

#[test]
fn what_an_admin_follows_ends_with_the_token() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let made = json_of(&mcpm, &["tokens", "add", "--name", "ci"]);
    let (token, number) = (made["token"].as_str().unwrap(), made["number"].to_string());
    let kept = mcpm.ok(&["tokens", "add"]).trim().to_owned();
    let watch = format!("{}/api/v1/admin/processes/watch", mcpm.origin());
    let mut watched = with(&mcpm, token, "GET", &watch, "");
    assert_eq!(watched.status, 200);
    assert!(watched.line().is_some_and(|line| line.contains("demo")));
    let table = mcpm.ok(&["tokens"]);
    assert!(table.contains("ci") && !table.contains(token), "{table}");

    mcpm.ok(&["tokens", "revoke", &number]);
    assert!(is_cut(watched));
    assert_eq!(call(&mcpm, token, "GET", "admin/users", "").status, 401);
    assert_eq!(call(&mcpm, &kept, "GET", "admin/users", "").status, 200);
    let numbers = json_of(&mcpm, &["tokens"]);
    let last = numbers["items"][1]["number"].to_string();
    let third = mcpm.ok(&["tokens", "add"]).trim().to_owned();
    let said = mcpm.ok(&["tokens", "revoke", "--all-but", &last]);
    assert!(said.contains("1 token"), "{said}");
    assert_eq!(call(&mcpm, &third, "GET", "admin/users", "").status, 401);
    assert_eq!(call(&mcpm, &kept, "GET", "admin/users", "").status, 200);
    let complaint = mcpm.fails(&["tokens", "revoke", "--all-but", "4711"]);
    assert!(complaint.contains("nothing was revoked"), "{complaint}");
    mcpm.ok(&["tokens", "revoke", "--all"]);
    assert_eq!(call(&mcpm, &kept, "GET", "admin/users", "").status, 401);
    // The socket needs none.
    mcpm.ok(&["users"]);
}

#[test]
fn ids_with_anything_in_them_are_users_like_all_others() {
    let mcpm = Mcpm::new();
    let longest = "\u{1f980}".repeat(63) + "xyz";
    assert_eq!(longest.len(), 255);
    for id in ["a/b c", "..", "50%?#&+", &longest] {
        let token = mcpm.ok(&["users", "add", id]);
        let token = token.trim();
        let (_, number) = another(&mcpm, id, &[]);
        assert_eq!(tokens_of(&mcpm, id).len(), 2, "{id}");
        mcpm.ok(&["users", "revoke", id, &number]);
        assert_eq!(
            call(&mcpm, token, "GET", "services", "").status,
            200,
            "{id}"
        );
        mcpm.ok(&["users", "disable", id]);
        assert_eq!(
            call(&mcpm, token, "GET", "services", "").status,
            401,
            "{id}"
        );
        mcpm.ok(&["users", "enable", id]);
        assert_eq!(
            call(&mcpm, token, "GET", "services", "").status,
            200,
            "{id}"
        );
        let shown = json_of(&mcpm, &["users", "show", id]);
        assert_eq!(shown["user"]["id"], id);
        assert_eq!(shown["tokens"].as_array().unwrap().len(), 2);
        mcpm.ok(&["users", "rm", id]);
        assert_eq!(
            call(&mcpm, token, "GET", "services", "").status,
            401,
            "{id}"
        );
    }
    assert_eq!(json_of(&mcpm, &["users"])["items"], json!([]));
}

/// An address of this machine that is not its own alone.
fn outside() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only says from where it would.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn whoever_guesses_waits_and_what_is_right_passes_meanwhile() {
    let Some(address) = outside() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([service("demo").with_api_key(), guarded("guarded")]);
    let port = mcpm.origin().rsplit(':').next().unwrap().to_owned();
    let mut start = mcpm.command(&["start", &file]);
    start.env("MCPM_LISTEN", format!("0.0.0.0:{port}"));
    let ran = run(start, "");
    assert_eq!(ran.code, Some(0), "{ran}");
    let token = mcpm.token("alice");
    let local = |url: &str| {
        let path = url.splitn(4, '/').nth(3).unwrap().to_owned();
        format!("{}/{path}", mcpm.origin())
    };
    let far = |url: &str| local(url).replace("127.0.0.1", &address.to_string());
    let grant = |service: &str| {
        let path = format!("services/{service}/authenticate");
        let answer = call(&mcpm, &token, "POST", &path, r#"{"apiKey":"k"}"#).json();
        answer["instanceUrl"].as_str().expect("a URL").to_owned()
    };
    let (url, behind) = (grant("demo"), grant("guarded"));
    let wrong_url = far(&url).replace("/dem_", "/dem_x");
    let api = far(&format!("{}/api/v1/services", mcpm.origin()));
    let wrong_token = || with(&mcpm, "mcpm_u_wrong", "GET", &api, "").read();

    assert_eq!(mcpm.get(&wrong_url).status, 404);
    assert_eq!(wrong_token().status, 401);
    let locked = |answer: &Answer| {
        let wait = answer.header("retry-after").map(str::parse::<u32>);
        answer.status == 429
            && answer.json()["code"] == "guessing"
            && wait.is_some_and(|wait| wait.is_ok_and(|seconds| seconds >= 1))
    };
    // One lock-out is over in seconds, so all that is seen of it is seen in one go, or in the next.
    let held = eventually(|| {
        let reached = (0..100).any(|_| locked(&mcpm.get(&wrong_url)));
        assert!(reached, "a hundred wrong URLs in a row are free");
        let foreign = far(&url).replace("/demo", "/other");
        let all = [
            wrong_token(),
            mcpm.get(&foreign),
            with(&mcpm, "mcpm_u_wrong", "GET", &far(&behind), "").read(),
        ];
        // What is right passes, and this machine is not meant.
        assert_eq!(mcpm.get(&far(&url)).status, 200);
        assert_eq!(with(&mcpm, &token, "GET", &far(&behind), "").status, 200);
        assert_eq!(with(&mcpm, &token, "GET", &api, "").status, 200);
        assert_eq!(mcpm.get(&local(&wrong_url)).status, 404);
        all.iter().all(locked)
    });
    assert!(held, "wrong is wrong, whatever it is");
    assert!(
        eventually(|| mcpm.get(&wrong_url).status == 404),
        "whoever waits is free again"
    );
}
