//! A session of MCP goes on, whichever process ends meanwhile: the service, the daemon, or both.

use serde_json::{Value, json};

use crate::harness::{Answer, Mcpm, eventually, kill, request, stateful};

/// A client in a session.
struct Session {
    url: String,
    id: String,
    calls: u64,
}

impl Session {
    #[track_caller]
    fn open(url: &str) -> Self {
        let mut session = Self {
            url: url.to_owned(),
            id: String::new(),
            calls: 0,
        };
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": { "name": "t", "version": "0" },
        });
        let opening =
            json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let answer = session.post(&opening);
        assert_eq!(answer.status, 200, "{answer:?}");
        session.id = answer
            .header("mcp-session-id")
            .expect("a session")
            .to_owned();
        let answer =
            session.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        assert_eq!(answer.status, 202, "{answer:?}");
        session
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        if !self.id.is_empty() {
            headers.push(("Mcp-Session-Id", &self.id));
        }
        headers
    }

    #[track_caller]
    fn post(&self, message: &Value) -> Answer {
        let body = message.to_string();
        request("POST", &self.url, &self.headers(), body.as_bytes()).read()
    }

    /// Calls a tool, which must be answered under the call's id; says which process did, and its how
    /// manieth call of the session that was.
    #[track_caller]
    fn call(&mut self) -> (u32, u64) {
        self.calls += 1;
        let message = json!({
            "jsonrpc": "2.0", "id": self.calls, "method": "tools/call",
            "params": { "name": "who", "arguments": {} },
        });
        let answer = self.post(&message);
        let said = answer.json();
        assert_eq!(
            (answer.status, &said["id"]),
            (200, &json!(self.calls)),
            "{answer:?}"
        );
        let text = said["result"]["content"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("{answer:?}"));
        let (pid, calls) = text.split_once(' ').unwrap();
        (pid.parse().unwrap(), calls.parse().unwrap())
    }
}

/// The daemon is there again, and so is its router.
#[track_caller]
fn bring_back(mcpm: &Mcpm) {
    mcpm.ok(&["ls"]);
    let router = mcpm.origin();
    let router = router.trim_start_matches("http://");
    assert!(eventually(|| std::net::TcpStream::connect(router).is_ok()));
}

#[test]
fn a_session_outlives_its_service() {
    let mcpm = Mcpm::start([stateful("demo")]);
    let mut session = Session::open(&mcpm.instance("alice", "demo"));
    let (mut before, calls) = session.call();
    assert_eq!(calls, 1);
    for _ in 0..3 {
        kill(before, "KILL");
        let (now, calls) = session.call();
        assert_ne!(now, before);
        assert_eq!(calls, 1, "it is a new session for the service");
        assert_eq!(session.call(), (now, 2));
        before = now;
    }
    mcpm.ok(&["restart", "demo"]);
    assert_ne!(session.call().0, before);
}

#[test]
fn a_session_outlives_the_daemon() {
    let mcpm = Mcpm::start([stateful("demo")]);
    let mut session = Session::open(&mcpm.instance("alice", "demo"));
    let mut other = Session::open(&mcpm.instance("bob", "demo"));
    let (service, _) = session.call();
    mcpm.kill_daemon();
    bring_back(&mcpm);
    assert_eq!(
        session.call(),
        (service, 2),
        "the service has noticed nothing"
    );
    mcpm.ok(&["update"]);
    assert_eq!(session.call(), (service, 3));

    // The other one has not been seen by this daemon.
    mcpm.kill_daemon();
    kill(service, "KILL");
    bring_back(&mcpm);
    let (next, calls) = other.call();
    assert!(next != service && calls == 1);
    assert_eq!(session.call(), (next, 1));

    // Nor does it change hands.
    let foreign = other.headers()[2];
    let message = json!({ "jsonrpc": "2.0", "id": "x", "method": "ping" }).to_string();
    let headers = [("Content-Type", "application/json"), foreign];
    let answer = request("POST", &session.url, &headers, message.as_bytes()).read();
    let said = answer.json();
    assert_eq!(
        (answer.status, &said["id"], &said["error"]["code"]),
        (404, &json!("x"), &json!(-32001))
    );
}

#[test]
fn a_session_that_has_ended_stays_ended() {
    let mcpm = Mcpm::start([stateful("demo")]);
    let session = Session::open(&mcpm.instance("alice", "demo"));
    let ended = request("DELETE", &session.url, &session.headers(), b"").read();
    assert_eq!(ended.status, 200, "{ended:?}");
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(session.post(&ping).status, 404);
    mcpm.kill_daemon();
    bring_back(&mcpm);
    assert_eq!(session.post(&ping).status, 404);
}

#[test]
fn a_stream_stays_open_while_its_service_restarts() {
    let mcpm = Mcpm::start([stateful("demo")]);
    let session = Session::open(&mcpm.instance("alice", "demo"));
    let mut stream = request("GET", &session.url, &session.headers(), b"");
    assert_eq!(stream.status, 200);
    let mut next = || -> Value {
        let event = stream.event().expect("it goes on");
        serde_json::from_str(&event).unwrap()
    };
    // Which process speaks, and whether that was announced.
    let mut said_by = || {
        let mut event = next();
        let has_changed = event["method"] == "notifications/tools/list_changed";
        if has_changed {
            event = next();
        }
        (event["params"]["data"].as_u64().unwrap(), has_changed)
    };
    let (mut before, has_changed) = said_by();
    assert!(!has_changed);
    for _ in 0..2 {
        kill(mcpm.list()["demo"].pid, "KILL");
        let (by, has_changed) = said_by();
        assert!(by != before && has_changed);
        mcpm.wait_until(|list| u64::from(list["demo"].pid) == by);
        before = by;
    }
}
