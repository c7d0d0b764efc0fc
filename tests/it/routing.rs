//! From an instance URL to the shared process of its service.

use crate::harness::{Mcpm, service};

#[test]
fn a_stream_reaches_the_client_event_by_event() {
    let mcpm = Mcpm::start([service("feed").with_api_key()]);
    let url = mcpm.instance("alice", "feed");
    let mut stream = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.status, 200);
    let kind = stream.header("content-type");
    assert!(
        kind.is_some_and(|kind| kind.starts_with("text/event-stream")),
        "{kind:?}"
    );
    // The service sends the second event only after this.
    assert_eq!(stream.event().as_deref(), Some("first"));
    mcpm.get(&format!("{url}/release"));
    assert_eq!(stream.event().as_deref(), Some("second"));
    assert_eq!(stream.event(), None);
}

#[test]
fn the_service_gets_the_users_credential_and_identity() {
    let mcpm = Mcpm::start([service("mirror").with_api_key()]);
    for user in ["alice", "bob"] {
        let url = mcpm.instance(user, "mirror");
        let seen = mcpm.get(&format!("{url}/some/where?q=1")).json();
        assert_eq!(seen["path"], "/some/where?q=1");
        let header = |name: &str| {
            seen["headers"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(header("authorization"), format!("Bearer {user}-key"));
        assert_eq!(header("x-mcpm-user-id"), user);
        assert!(header("x-mcpm-instance-id").starts_with("ins_"));
    }
}
