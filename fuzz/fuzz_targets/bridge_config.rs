//! No `config.json` and no arguments make a bridge panic, call another host than the file names, climb
//! out of its base path, or hand on a header of the router's that nobody named.
//!
//! Input: a configuration, a NUL byte, the arguments of a call; both JSON.
#![no_main]

use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use mcpm::bridge::rest::dry_run;
use serde_json::{Map, Value};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (config, arguments) = text.split_once('\0').unwrap_or((text, "{}"));
    let arguments: Map<String, Value> = serde_json::from_str(arguments).unwrap_or_default();
    let from_router = Request::get("/mcp?appid=key&other=1")
        .header("authorization", "Bearer key")
        .header("cookie", "a=b")
        .header("x-mcpm-router-secret", "secret")
        .header("x-mcpm-user-id", "alice");
    let (from_router, ()) = from_router.body(()).expect("a request").into_parts();
    let Ok(sent) = dry_run(config, &arguments, &from_router) else {
        return;
    };
    let file: Value =
        serde_json::from_str(config.trim_start_matches('\u{feff}')).expect("it was read");
    let base = file["api"]["baseURL"]
        .as_str()
        .expect("it was checked")
        .trim_end_matches('/');
    let base: Uri = base.parse().expect("it was checked");
    for request in sent.iter().flatten() {
        assert_eq!(request.uri().authority(), base.authority());
        let path = request.uri().path();
        assert!(
            path.starts_with(base.path().trim_end_matches('/')),
            "{path}"
        );
        let climbs = |part: &str| {
            matches!(
                part.to_ascii_lowercase().replace("%2e", ".").as_str(),
                "." | ".."
            )
        };
        assert!(!path.split('/').any(climbs), "{path}");
        assert!(
            request
                .headers()
                .keys()
                .all(|name| !name.as_str().starts_with("x-mcpm-"))
        );
    }
});
