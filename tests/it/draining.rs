//! What a daemon that has handed over still serves, and when it stops.

use serde_json::Value;

use crate::harness::{App, Body, Mcpm, eventually, is_alive, kill, processes_of, request, service};
use crate::upgrading::{update, wait_for_end};

/// A push stream or, by POST, an answer that is being given: its first piece has come.
#[track_caller]
fn begun(method: &str, url: &str, headers: &[(&str, &str)]) -> Body {
    let mut stream = request(method, &format!("{url}/events"), headers, b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    stream
}

/// Lets the service finish them, and reads them to their ends.
#[track_caller]
fn are_finished(mcpm: &Mcpm, streams: impl IntoIterator<Item = Body>) {
    let port = mcpm.list()["web"].raw["mcpm"]["port"].as_u64().unwrap();
    let released = mcpm.get(&format!("http://127.0.0.1:{port}/release"));
    assert_eq!(released.status, 204);
    for mut stream in streams {
        assert_eq!(stream.event().as_deref(), Some("second"));
        assert_eq!(stream.event(), None);
    }
}

/// The connection ends in the middle of the body.
fn is_cut(stream: Body) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.read())).is_err()
}

fn web() -> App {
    service("web").with_api_key()
}

#[test]
fn what_others_have_begun_goes_on_when_an_instance_ends() {
    let mcpm = Mcpm::start([web()]);
    let carol = mcpm.instance("carol", "web");
    let others: Vec<Body> = ["GET", "POST"]
        .map(|method| begun(method, &carol, &[]))
        .into();
    let dave = begun("POST", &mcpm.instance("dave", "web"), &[]);
    let erin = begun("GET", &mcpm.instance("erin", "web"), &[]);
    let frank = begun("GET", &mcpm.instance("frank", "web"), &[]);
    let (first, second) = update(&mcpm);
    // Through one that has something to finish itself.
    let late = begun("GET", &carol, &[]);
    update(&mcpm);
    let rotate = "/api/v1/services/web/instance/rotate";
    assert_eq!(mcpm.api("dave", "POST", rotate, "").status, 200);
    assert!(is_cut(dave), "at once");
    mcpm.ok(&["users", "disable", "erin"]);
    assert!(is_cut(erin), "at once");
    // Another end is no end.
    let listed = mcpm.ok(&["instances", "--user", "carol", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed["items"][0]["id"].as_str().unwrap();
    mcpm.ok(&["instances", "expire", id, "30d"]);
    let path = "/api/v1/services/web/instance";
    let removed = mcpm.api("frank", "DELETE", path, "");
    assert_eq!(removed.status, 204, "{removed:?}");
    assert!(is_cut(frank), "at once");
    assert!(is_alive(first) && is_alive(second));
    are_finished(&mcpm, others.into_iter().chain([late]));
    wait_for_end(first);
    wait_for_end(second);
}

#[test]
fn what_was_begun_with_a_token_ends_with_it_alone() {
    let mcpm = Mcpm::start([web().with("/mcp/require_auth", true)]);
    let url = mcpm.instance("alice", "web");
    let with = |token: &str| {
        begun(
            "POST",
            &url,
            &[("Authorization", &format!("Bearer {token}"))],
        )
    };
    let kept = with(&mcpm.token("alice"));
    let made = mcpm.ok(&["users", "token", "alice", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let ended = with(made["token"].as_str().unwrap());
    let (old, _) = update(&mcpm);
    mcpm.ok(&["users", "revoke", "alice", &made["number"].to_string()]);
    assert!(is_cut(ended), "at once");
    assert!(is_alive(old));
    are_finished(&mcpm, [kept]);
    wait_for_end(old);
}

#[test]
fn what_was_begun_goes_on_when_the_next_daemon_is_killed() {
    let mcpm = Mcpm::start([web()]);
    let url = mcpm.instance("carol", "web");
    let mut streams = vec![begun("GET", &url, &[]), begun("POST", &url, &[])];
    let (first, second) = update(&mcpm);
    streams.push(begun("GET", &url, &[]));
    let (_, third) = update(&mcpm);
    kill(third, "KILL");
    // Another one adopts the service.
    let list = mcpm.wait_until(|list| list["web"].is_up());
    assert_eq!(list["web"].restarts, 0);
    assert!(is_alive(first) && is_alive(second));
    are_finished(&mcpm, streams);
    wait_for_end(first);
    wait_for_end(second);
}

#[test]
fn a_signal_still_ends_what_goes_on_when_the_next_daemon_is_killed() {
    let mcpm = Mcpm::start([web()]);
    let mut stream = begun("GET", &mcpm.instance("carol", "web"), &[]);
    let (old, new) = update(&mcpm);
    kill(new, "KILL");
    kill(old, "TERM");
    assert_eq!(stream.event(), None, "it ends at once");
    wait_for_end(old);
}

#[test]
fn a_stream_that_the_old_daemon_still_serves_ends_with_its_instance() {
    let mcpm = Mcpm::start([service("web").with_api_key()]);
    let url = mcpm.instance("alice", "web");
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    let (first, second) = update(&mcpm);
    // Through one that has nothing to finish itself.
    update(&mcpm);
    assert!(is_alive(first) && is_alive(second));
    let rotated = mcpm.api("alice", "POST", "/api/v1/services/web/instance/rotate", "");
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert!(is_cut(stream), "at once");
    wait_for_end(first);
    wait_for_end(second);
}

#[test]
fn a_signal_ends_what_the_old_daemon_still_serves_and_nothing_else() {
    let mcpm = Mcpm::start([service("web").with_api_key()]);
    let url = mcpm.instance("alice", "web");
    let pid = mcpm.list()["web"].pid;
    let mut streams = Vec::new();
    let mut daemons = Vec::new();
    for _ in 0..2 {
        let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
        assert_eq!(stream.event().as_deref(), Some("first"));
        streams.push(stream);
        daemons.push(update(&mcpm).0);
    }
    // The second one waits for the first one, too.
    kill(daemons[1], "TERM");
    for stream in &mut streams {
        assert_eq!(stream.event(), None, "it ends at once");
    }
    daemons.into_iter().for_each(wait_for_end);
    let list = mcpm.list();
    assert!(list["web"].is_up() && list["web"].pid == pid, "{list:?}");
    assert_eq!(mcpm.get(&format!("{url}/x")).status, 200);
}

#[test]
fn kill_ends_those_too_that_still_finish_something() {
    let mcpm = Mcpm::start([service("web").with_api_key()]);
    let url = mcpm.instance("alice", "web");
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.event().as_deref(), Some("first"));
    let (old, new) = update(&mcpm);
    assert!(is_alive(old));
    mcpm.ok(&["kill"]);
    assert!(!is_alive(new));
    wait_for_end(old);
    assert!(eventually(|| processes_of(&mcpm.home()).is_empty()));
}
