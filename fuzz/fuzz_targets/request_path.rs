//! No path makes the router panic, lose a part of it, or leave an instance's part of a service's
//! paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpm::router::path::{Route, Target, climbs, parse};
use percent_encoding::percent_decode_str;

fuzz_target!(|data: &[u8]| {
    let Ok(path) = std::str::from_utf8(data) else {
        return;
    };
    let Route::Instance(Target { id, service, rest }) = parse(path) else {
        return;
    };
    assert!(!id.contains('/') && !service.contains('/'));
    let whole = format!("{id}/{service}/{rest}");
    let given = path.strip_prefix('/').unwrap_or(path);
    assert_eq!(whole.trim_end_matches('/'), given.trim_end_matches('/'));
    let decoded = percent_decode_str(rest).decode_utf8_lossy().into_owned();
    if !climbs(rest) {
        assert!(decoded.split(['/', '\\']).all(|segment| segment != ".."));
    }
});
