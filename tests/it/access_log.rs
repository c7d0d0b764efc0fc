//! The access log: what a line tells, when it is written, and what is never in one.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Mcpm, service, wait_for};

/// With a log of this form.
#[track_caller]
fn logged(form: &str) -> Mcpm {
    let mcpm = Mcpm::new();
    let text = json!({ "mcpm": { "access_log": form } }).to_string();
    let file = mcpm.write("settings.json", &text);
    mcpm.ok(&["start", &file]);
    let file = mcpm.ecosystem([service("demo").with_api_key()]);
    mcpm.ok(&["start", &file]);
    mcpm
}

fn text(mcpm: &Mcpm) -> String {
    fs::read_to_string(mcpm.home().join("logs/access.log")).unwrap_or_default()
}

/// The line with this path.
#[track_caller]
fn line(mcpm: &Mcpm, path: &str) -> Value {
    let find = || {
        let text = text(mcpm);
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect(line));
        lines.into_iter().find(|line: &Value| line["path"] == path)
    };
    wait_for(find, "the line")
}

#[test]
fn each_request_is_a_line_without_the_secret_of_its_url() {
    let mcpm = logged("json");
    let url = mcpm.instance("alice", "demo");
    let sent = mcpm.send(
        "POST",
        &format!("{url}/echo?key=hunter2"),
        &[],
        b"twelve bytes",
    );
    let id = sent.header("x-mcpm-request-id").unwrap().to_owned();
    assert_eq!(sent.read().status, 200);
    let told = line(&mcpm, "/echo");
    assert_eq!(told["requestId"], id);
    assert_eq!(told["client"], "127.0.0.1");
    assert!(
        told["instance"].as_str().unwrap().starts_with("ins_"),
        "{told}"
    );
    assert_eq!(
        (&told["service"], &told["method"]),
        (&json!("demo"), &json!("POST"))
    );
    assert_eq!(
        (&told["status"], &told["code"]),
        (&json!(200), &Value::Null)
    );
    assert_eq!(
        (&told["bytesIn"], &told["bytesOut"]),
        (&json!(12), &json!(12))
    );
    assert!(told["durationMs"].as_f64().unwrap() > 0.0);
    // What is refused is told by its code, and shows nothing of where it went.
    let secret = url.rsplit('/').nth(1).unwrap().to_owned();
    assert_eq!(
        mcpm.get(&format!("{}/demo/{secret}", mcpm.origin())).status,
        404
    );
    let list = mcpm.send(
        "POST",
        &url,
        &[("Content-Type", "application/json")],
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
    );
    drop(list.read());
    let refused = wait_for(
        || {
            text(&mcpm)
                .lines()
                .find(|it| it.contains("unknown_instance"))
                .map(str::to_owned)
        },
        "the refusal",
    );
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!(
        (&refused["path"], &refused["status"]),
        (&Value::Null, &json!(404))
    );
    wait_for(
        || {
            text(&mcpm)
                .contains("\"mcpMethod\":\"tools/list\"")
                .then_some(())
        },
        "the method of MCP",
    );
    line(&mcpm, "/api/v1/services/demo/authenticate");
    let all = text(&mcpm);
    for private in [&*secret, "hunter2", "alice-key", &mcpm.token("alice")] {
        assert!(!all.contains(private), "{private}\n{all}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(mcpm.home().join("logs/access.log"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_stream_is_a_line_when_it_ends_and_nothing_is_lost_at_the_end() {
    let mcpm = logged("text");
    let url = mcpm.instance("alice", "demo");
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    assert_eq!(mcpm.get(&url).status, 200);
    wait_for(
        || text(&mcpm).contains(" GET / 200 ").then_some(()),
        "the request",
    );
    assert!(!text(&mcpm).contains(" GET /events "));
    assert_eq!(mcpm.get(&format!("{url}/release")).status, 204);
    while stream.event().is_some() {}
    mcpm.ok(&["kill"]);
    let all = text(&mcpm);
    assert!(all.contains(" GET /events 200 - 0 "), "{all}");
    assert!(all.contains(" GET /release 204 "), "{all}");
}

#[test]
fn nothing_is_logged_unless_somebody_says_so() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    assert_eq!(mcpm.get(&mcpm.instance("alice", "demo")).status, 200);
    mcpm.ok(&["kill"]);
    assert!(!mcpm.home().join("logs/access.log").exists());
}
