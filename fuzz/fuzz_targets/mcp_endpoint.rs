//! No `endpoint` event of a service leads its client to another host, and no name that the service has
//! for a session gets through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpm::ids::Port;
use mcpm::router::mcp::wire::endpoint::{public, session};

fuzz_target!(|data: &[u8]| {
    let Ok(address) = std::str::from_utf8(data) else {
        return;
    };
    let port = Port::new(49160).expect("not zero");
    let mut named = None;
    let written = public(address, ("/id/demo", "/"), port, |name| {
        named = Some(name.to_owned());
        "ours".to_owned()
    });
    let Some(written) = written else {
        return;
    };
    assert!(!written.starts_with("//"), "{written:?}");
    if let Some((before, _)) = written.split_once("://") {
        assert!(before.contains(['/', '?', '#']), "{written:?}");
    }
    let query = written.split_once('?').map_or("", |(_, query)| query);
    let name = session(query).map(|named| named.map(|(name, _)| name));
    assert_eq!(name, Ok(named.map(|_| "ours")));
});
