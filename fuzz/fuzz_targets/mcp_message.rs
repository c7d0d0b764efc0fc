//! No body makes the reader of messages panic; it takes for JSON what others take for JSON; and what is
//! put in the place of an id is what everybody reads there, with the rest as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpm::router::mcp::wire::message::{Bad, scan, splice};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok();
    let scan = match scan(data) {
        Ok(scan) => scan,
        Err(Bad::Json(..)) => return,
        Err(Bad::Message { .. }) => return,
    };
    assert!(theirs, "nobody else takes it for JSON");
    // Numbers that no float holds are read here, and by serde as text only.
    let Ok(before) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let ids = scan.messages.iter().filter_map(|one| one.id.clone());
    let changes: Vec<_> = ids.map(|span| (span, "\"ours#1\"".to_owned())).collect();
    let after: Value = serde_json::from_slice(&splice(data, &changes)).expect("still JSON");
    let ours = |mut value: Value| {
        if let Some(id) = value.as_object_mut().and_then(|it| it.get_mut("id")) {
            *id = "ours#1".into();
        }
        value
    };
    let expected = match before {
        Value::Array(all) if scan.is_batch => all.into_iter().map(ours).collect(),
        one => ours(one),
    };
    assert_eq!(after, expected);
});
