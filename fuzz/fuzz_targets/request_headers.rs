//! No header of a client reaches a service under a name that the router sets, in no spelling, and
//! none of an answer under a name that is the router's.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use mcpm::config::spec::InjectSpec;
use mcpm::ids::{Port, UserId};
use mcpm::router::headers::{Facts, Injection, response};
use mcpm::secret::Secret;

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|&b| b == b'\n').take(64) {
        let mut parts = line.splitn(2, |&b| b == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let spec = InjectSpec {
        headers: vec![("X-Api_Key".into(), "{api_key}".into())],
        ..InjectSpec::default()
    };
    let port = Port::new(49160).expect("not zero");
    let injection = Injection::new(&spec, "demo", port, &Secret::new("router".to_owned()));
    let user = UserId::parse("alice").expect("a user");
    let facts = Facts {
        instance: "ins_abcdefghijkl",
        user: &user,
        request_id: &HeaderValue::from_static("id"),
        peer: [127, 0, 0, 1].into(),
        host: None,
        scheme: "http",
    };
    let sent = injection
        .request(headers.clone(), &facts, |_| Some("key"))
        .expect("it fits");
    for (name, value) in &sent {
        let plain = name.as_str().replace('_', "-");
        match plain.as_str() {
            "x-api-key" => assert_eq!(value, "key"),
            "x-mcpm-user-id" => assert_eq!(value, "alice"),
            "x-mcpm-router-secret" => assert_eq!(value, "router"),
            "authorization" | "cookie" | "origin" | "connection" | "transfer-encoding" => {
                panic!("{name} got through")
            }
            _ => {}
        }
    }
    response(
        &mut headers,
        || ("/id/demo".to_owned(), "/".to_owned()),
        port,
        false,
    );
    for name in [
        "set-cookie",
        "connection",
        "transfer-encoding",
        "x-mcpm-router-secret",
    ] {
        assert!(!headers.contains_key(name), "{name} got through");
    }
});
