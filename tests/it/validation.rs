//! Credentials are checked with the external service: at the door, and again when they are refused while
//! they are used. That service is the test's own, and counts what it is asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::harness::{Answer, App, Mcpm, eventually, service};

/// Callers at the same time.
const AT_ONCE: usize = 12;

/// An external service: answers as it is told.
struct External {
    origin: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    answer: &'static str,
    body: &'static str,
    /// Keys that it was asked about.
    asked: Vec<String>,
    /// It answers nobody for now.
    holds: bool,
}

impl External {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let state = State {
            answer: "200 OK",
            body: "{}",
            asked: Vec::new(),
            holds: false,
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let answers = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                // A client that has gone away is none of ours.
                std::thread::spawn(move || answer(stream, &answers));
            }
        });
        Self { origin, state }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
    }

    fn says(&self, answer: &'static str, body: &'static str) {
        self.set(|state| (state.answer, state.body) = (answer, body));
    }

    fn asked(&self) -> usize {
        self.state.0.lock().unwrap().asked.len()
    }

    /// A service whose keys are checked here.
    fn service(&self) -> App {
        service("demo")
            .with_api_key()
            .with("/mcp/allow_private", true)
            .with(
                "/mcp/auth/validate",
                json!({ "url": format!("{}/me", self.origin) }),
            )
    }
}

fn answer(stream: TcpStream, (state, news): &(Mutex<State>, Condvar)) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut key = String::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            key = value.to_owned();
        }
    }
    let mut state = state.lock().unwrap();
    state.asked.push(key);
    let state = news.wait_while(state, |state| state.holds).unwrap();
    let (answer, body) = (state.answer, state.body);
    drop(state);
    let length = body.len();
    let head =
        format!("HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    writer.write_all(format!("{head}{body}").as_bytes()).ok()
}

fn hand_over(mcpm: &Mcpm, user: &str, key: &str) -> Answer {
    let body = json!({ "apiKey": key }).to_string();
    mcpm.api(user, "POST", "/api/v1/services/demo/authenticate", &body)
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["code"], code);
    problem["detail"].as_str().unwrap().to_owned()
}

/// What the audit log tells of these.
fn told(mcpm: &Mcpm, action: &str) -> Vec<Value> {
    let text = mcpm.ok(&["audit", "--action", action, "--json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[test]
fn equal_keys_at_once_are_one_question_and_its_answer_is_remembered() {
    let external = External::start();
    let mcpm = Mcpm::start([external.service()]);
    let (token, origin) = (mcpm.token("alice"), mcpm.origin());
    mcpm.token("bob");
    external.set(|state| state.holds = true);
    let call = || {
        let (bearer, url) = (
            format!("Bearer {token}"),
            format!("{origin}/api/v1/services/demo/authenticate"),
        );
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        crate::harness::request("POST", &url, &headers, br#"{"apiKey":"good"}"#).read()
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(call)).collect();
        assert!(eventually(|| external.asked() > 0));
        external.set(|state| state.holds = false);
        for caller in callers {
            assert_eq!(caller.join().unwrap().status, 200);
        }
    });
    assert_eq!(external.asked(), 1);
    assert_eq!(hand_over(&mcpm, "alice", "good").status, 200);
    assert_eq!(external.asked(), 1, "a yes is remembered");
    assert_eq!(hand_over(&mcpm, "bob", "good").status, 200);
    assert_eq!(external.asked(), 2, "for the one who got it");
    let asked = external.state.0.lock().unwrap().asked.clone();
    assert_eq!(asked, ["Bearer good", "Bearer good"]);
}

#[test]
fn a_wrong_key_is_told_from_one_that_could_not_be_checked() {
    let external = External::start();
    let mcpm = Mcpm::start([external.service()]);
    external.says("401 Unauthorized", "");
    for _ in 0..4 {
        let said = assert_refused(
            &hand_over(&mcpm, "alice", "hunter2"),
            400,
            "invalid_credentials",
        );
        assert!(
            said.contains(&external.origin) && !said.contains("hunter2"),
            "{said}"
        );
    }
    assert_eq!(external.asked(), 1, "a no is remembered for moments");
    for (count, says) in ["429 Too Many Requests", "503 Busy", "302 Found"]
        .iter()
        .enumerate()
    {
        external.says(says, "");
        let refused = hand_over(&mcpm, "alice", "other");
        assert_refused(&refused, 502, "validation_unavailable");
        assert!(refused.header("retry-after").is_some());
        assert_eq!(external.asked(), 2 + count, "nothing of it is remembered");
    }
    external.says("200 OK", "");
    assert_eq!(hand_over(&mcpm, "alice", "other").status, 200);

    // All that was wrong is told in a few rows, of whom and what for, and without the key.
    let count = |rows: &[Value]| -> u64 {
        let times = rows.iter().map(|row| row["detail"].as_str().unwrap());
        times
            .map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    let mut rows = Vec::new();
    assert!(eventually(|| {
        rows = told(&mcpm, "instance.refused");
        !rows.is_empty()
    }));
    assert!((1..=4).contains(&count(&rows)), "{rows:?}");
    let row = &rows[0];
    assert_eq!(
        (&row["actor"], &row["user"]),
        (&json!("user:alice"), &json!("alice"))
    );
    assert_eq!(
        (&row["service"], &row["address"]),
        (&json!("demo"), &json!("127.0.0.1"))
    );
    assert!(!format!("{rows:?}").contains("hunter2"));
}

#[test]
fn an_answer_may_have_to_say_something() {
    let external = External::start();
    let app = external
        .service()
        .with("/mcp/auth/validate/json", json!({ "at": "ok", "is": true }));
    let mcpm = Mcpm::start([app]);
    external.says("200 OK", r#"{"ok":false,"error":"invalid_auth"}"#);
    let said = assert_refused(&hand_over(&mcpm, "alice", "a"), 400, "invalid_credentials");
    assert!(said.contains("/ok"), "{said}");
    external.says("200 OK", "<html>");
    assert_refused(
        &hand_over(&mcpm, "alice", "b"),
        502,
        "validation_unavailable",
    );
    external.says("200 OK", r#"{"ok":true}"#);
    assert_eq!(hand_over(&mcpm, "alice", "c").status, 200);
}

#[test]
fn a_host_that_a_user_names_wrongly_is_a_wrong_field_and_no_address_is_told() {
    let external = External::start();
    let port = external.origin.rsplit(':').next().unwrap();
    let fields = json!([
        { "name": "api_key", "type": "password", "required": true },
        { "name": "site", "type": "text", "required": true },
    ]);
    let validate = json!({ "url": format!("http://{{site}}:{port}/me") });
    let app = external
        .service()
        .with("/mcp/allow_private", false)
        .with("/mcp/auth/fields", fields)
        .with("/mcp/auth/validate", validate);
    let mcpm = Mcpm::start([app]);
    let details = ["localhost", "127.0.0.1", "no-such-host.invalid", "a/b"].map(|site| {
        let body = json!({ "apiKey": "k", "additionalCredentials": { "site": site } });
        let path = "/api/v1/services/demo/authenticate";
        let answer = mcpm.api("alice", "POST", path, &body.to_string());
        assert_refused(&answer, 400, "invalid_credentials")
    });
    for detail in &details {
        assert!(detail.contains("`site`"), "{detail}");
        assert!(
            !detail.contains("127.") && !detail.contains("::1"),
            "{detail}"
        );
    }
    assert_eq!(details[0], details[2], "what is in here is not told");
    assert_eq!(external.asked(), 0);
}

#[test]
fn a_private_address_is_not_asked_unless_the_operator_allows_it() {
    let external = External::start();
    let mcpm = Mcpm::start([external.service().with("/mcp/allow_private", false)]);
    let said = assert_refused(
        &hand_over(&mcpm, "alice", "k"),
        502,
        "validation_unavailable",
    );
    assert!(said.contains("allow_private"), "{said}");
    assert_eq!(external.asked(), 0);
}

#[test]
fn a_credential_that_is_refused_again_and_again_is_checked_and_then_shown_as_expired() {
    let external = External::start();
    let mcpm = Mcpm::start([external.service()]);
    let url = mcpm.instance("alice", "demo");
    let bobs = mcpm.instance("bob", "demo");
    let own = || {
        mcpm.api("alice", "GET", "/api/v1/services/demo/instance", "")
            .json()
    };
    let before = external.asked();

    // The external service takes it: the refusals are the service's own matter, and are shown.
    for _ in 0..2 {
        assert_eq!(mcpm.get(&format!("{url}/status/401")).status, 401);
    }
    assert_eq!(mcpm.get(&format!("{url}/x")).status, 200);
    assert_eq!(own()["refusedSince"], Value::Null, "not in a row");
    for _ in 0..3 {
        assert_eq!(mcpm.get(&format!("{url}/status/401")).status, 401);
    }
    assert!(eventually(|| external.asked() > before));
    assert!(own()["refusedSince"].is_string());
    assert!(mcpm.ok(&["instances"]).contains("refused"));
    assert_eq!(own()["credentialsExpiredAt"], Value::Null);

    // It has withdrawn it: of another instance, since each is asked about every five minutes only.
    external.says("403 Forbidden", "");
    for _ in 0..3 {
        assert_eq!(mcpm.get(&format!("{bobs}/status/401")).status, 401);
    }
    let refused = || mcpm.get(&format!("{bobs}/x")).status == 403;
    assert!(eventually(refused));
    let problem = mcpm.get(&format!("{bobs}/x"));
    let said = assert_refused(&problem, 403, "credentials_expired");
    assert!(said.contains("hand over"), "{said}");
    let rpc = |body: &str| {
        let headers = [("Content-Type", "application/json")];
        mcpm.send("POST", &bobs, &headers, body.as_bytes()).read()
    };
    for method in ["initialize", "tools/call"] {
        let answer = rpc(&format!(
            r#"{{"jsonrpc":"2.0","id":"a7","method":"{method}"}}"#
        ));
        assert_eq!(answer.status, 200, "{answer:?}");
        let (id, error) = (answer.json()["id"].clone(), answer.json()["error"].clone());
        assert_eq!((id, &error["code"]), (json!("a7"), &json!(-33004)));
        assert_eq!(error["data"]["code"], "credentials_expired");
        assert!(error["message"].as_str().unwrap().contains("hand over"));
    }
    let notice = rpc(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!((notice.status, notice.body.len()), (202, 0));
    assert_eq!(mcpm.get(&format!("{url}/x")).status, 200, "others go on");

    let rows = told(&mcpm, "instance.credential_expired");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0]["actor"], &rows[0]["user"]),
        (&json!("system"), &json!("bob"))
    );
    assert!(mcpm.ok(&["instances"]).contains("credentials expired"));

    // It outlives the daemon, and ends with another credential: not with a wrong one.
    mcpm.kill_daemon();
    mcpm.ok(&["ping"]);
    assert_refused(&mcpm.get(&format!("{bobs}/x")), 403, "credentials_expired");
    let bobs_own = || {
        mcpm.api("bob", "GET", "/api/v1/services/demo/instance", "")
            .json()
    };
    assert!(bobs_own()["credentialsExpiredAt"].is_string());
    assert_eq!(bobs_own()["active"], true);
    assert_refused(
        &hand_over(&mcpm, "bob", "worse"),
        400,
        "invalid_credentials",
    );
    assert_refused(&mcpm.get(&format!("{bobs}/x")), 403, "credentials_expired");
    external.says("200 OK", "");
    let granted = hand_over(&mcpm, "bob", "better");
    assert_eq!(granted.json()["instanceUrl"], bobs.as_str());
    let seen = mcpm.get(&format!("{bobs}/x"));
    assert_eq!(seen.json()["headers"]["authorization"], "Bearer better");
    assert_eq!(bobs_own()["credentialsExpiredAt"], Value::Null);
}

#[test]
fn without_a_rule_nothing_is_concluded_from_refusals_but_they_are_shown() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let url = mcpm.instance("alice", "demo");
    for _ in 0..5 {
        assert_eq!(mcpm.get(&format!("{url}/status/401")).status, 401);
    }
    let own = mcpm
        .api("alice", "GET", "/api/v1/services/demo/instance", "")
        .json();
    assert!(own["refusedSince"].is_string());
    assert_eq!(own["credentialsExpiredAt"], Value::Null);
    assert_eq!(mcpm.get(&format!("{url}/x")).status, 200);
    let own = mcpm
        .api("alice", "GET", "/api/v1/services/demo/instance", "")
        .json();
    assert_eq!(own["refusedSince"], Value::Null);
}

#[test]
fn what_was_asked_for_before_a_removal_or_a_revocation_is_not_done_after_it() {
    let external = External::start();
    let mcpm = Mcpm::start([external.service()]);
    let ends: [(&str, &[&[&str]]); 2] = [
        (
            "alice",
            &[&["users", "rm", "alice"], &["users", "add", "alice"]],
        ),
        ("bob", &[&["users", "revoke", "bob", "--all"]]),
    ];
    for (asked, (user, commands)) in ends.iter().enumerate() {
        let (token, origin) = (mcpm.token(user), mcpm.origin());
        external.set(|state| state.holds = true);
        let call = || {
            let bearer = format!("Bearer {token}");
            let url = format!("{origin}/api/v1/services/demo/authenticate");
            let headers = [
                ("Authorization", bearer.as_str()),
                ("Content-Type", "application/json"),
            ];
            crate::harness::request("POST", &url, &headers, br#"{"apiKey":"good"}"#).read()
        };
        std::thread::scope(|scope| {
            let caller = scope.spawn(call);
            assert!(eventually(|| external.asked() > asked));
            for command in *commands {
                mcpm.ok(command);
            }
            external.set(|state| state.holds = false);
            assert_refused(&caller.join().unwrap(), 409, "withdrawn");
        });
    }
    let list: Value = serde_json::from_str(&mcpm.ok(&["instances", "--json"])).unwrap();
    assert!(!list.to_string().contains("demo"), "{list}");
}
