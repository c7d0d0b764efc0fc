//! Bodies that do not end at once: they arrive piece by piece, and end with what they belong to.

use crate::harness::{Body, Mcpm, eventually, kill, service};

/// A stream whose first event has arrived and whose second has not been sent.
#[track_caller]
fn opened(mcpm: &Mcpm, url: &str) -> Body {
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    assert_eq!(stream.event().as_deref(), Some("first"));
    stream
}

#[test]
fn the_first_event_arrives_before_the_last_is_sent() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let url = mcpm.instance("alice", "demo");
    let mut stream = opened(&mcpm, &url);
    assert_eq!(mcpm.get(&format!("{url}/release")).status, 204);
    assert_eq!(stream.event().as_deref(), Some("second"));
    assert_eq!(stream.event(), None);
}

#[test]
fn a_stream_ends_when_its_url_is_rotated() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let url = mcpm.instance("alice", "demo");
    let bobs = mcpm.instance("bob", "demo");
    let (stream, mut other) = (opened(&mcpm, &url), opened(&mcpm, &bobs));
    let rotated = mcpm.api("alice", "POST", "/api/v1/services/demo/instance/rotate", "");
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert!(is_cut(stream));
    mcpm.get(&format!("{bobs}/release"));
    assert_eq!(other.event().as_deref(), Some("second"), "others go on");
}

#[test]
fn a_stream_whose_service_dies_is_cut_and_not_ended() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let url = mcpm.instance("alice", "demo");
    let stream = opened(&mcpm, &url);
    kill(mcpm.list()["demo"].pid, "KILL");
    assert!(
        is_cut(stream),
        "a clean end would look like the whole answer"
    );
}

#[test]
fn a_push_stream_does_not_hold_up_the_end_of_the_daemon() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let stream = opened(&mcpm, &mcpm.instance("alice", "demo"));
    let daemon = mcpm.daemon_pid();
    mcpm.ok(&["kill"]);
    assert!(eventually(|| !crate::harness::is_alive(daemon)));
    drop(stream);
}

/// The connection ends in the middle of the body.
fn is_cut(stream: Body) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.read())).is_err()
}
