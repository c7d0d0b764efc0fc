use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn one(text: &str) -> Message {
    let scan = scan(text.as_bytes()).unwrap();
    assert!(!scan.is_batch);
    scan.messages.into_iter().next().unwrap()
}

#[track_caller]
fn check(text: &str, span: Option<&Span>, expected: &str) {
    assert_eq!(
        span.map(|span| &text[span.clone()]),
        Some(expected),
        "{text}"
    );
}

#[test]
fn what_is_read_stands_where_it_is_said() {
    let text = r#" {"jsonrpc": "2.0", "id" : 1.0 , "method":"tools/call",
        "params":{"name":"x","_meta":{"progressToken":"t\"","io.modelcontextprotocol/protocolVersion":"2026-07-28"},
        "arguments":{"id":7,"requestId":9},"requestState":"s"}} "#;
    let message = one(text);
    assert_eq!(message.kind(), Kind::Request);
    assert!(message.is("tools/call"));
    check(text, message.id.as_ref(), "1.0");
    check(text, message.params.token.as_ref(), r#""t\"""#);
    check(
        text,
        message.params.own_revision.as_ref(),
        r#""2026-07-28""#,
    );
    check(text, message.params.state.as_ref(), r#""s""#);
    assert_eq!(message.params.cancelled, None);
    assert_eq!(&text[message.span.clone()], text.trim());
}

#[test]
fn what_is_neither_one_nor_the_other_has_a_fault() {
    let fault = |text: &str| one(text).fault();
    for good in [
        r#"{"id":1,"method":"x"}"#,
        r#"{"method":"x"}"#,
        r#"{"id":1,"result":{}}"#,
        r#"{"id":null,"error":{}}"#,
    ] {
        assert_eq!(fault(good), None, "{good}");
    }
    for bad in [
        r#"{"id":null,"method":"x"}"#,
        r#"{"id":{},"method":"x"}"#,
        r#"{"id":1,"method":"x","result":{}}"#,
        r#"{"id":1,"result":{},"error":{}}"#,
    ] {
        assert!(fault(bad).is_some(), "{bad}");
    }
}

#[test]
fn kinds_are_told_apart() {
    let kind = |text: &str| one(text).kind();
    assert_eq!(kind(r#"{"id":"a","method":"x"}"#), Kind::Request);
    assert_eq!(kind(r#"{"method":"x"}"#), Kind::Notification);
    assert_eq!(kind(r#"{"id":null,"method":"x"}"#), Kind::Notification);
    assert_eq!(kind(r#"{"id":1,"result":{}}"#), Kind::Result);
    assert_eq!(kind(r#"{"id":1,"result":null}"#), Kind::Result);
    assert_eq!(kind(r#"{"id":null,"error":{}}"#), Kind::Error);
    for other in ["{}", r#"{"id":1}"#, "7", "null", r#""x""#] {
        assert_eq!(kind(other), Kind::Other, "{other}");
    }
}

#[test]
fn a_member_may_not_stand_there_twice_in_any_spelling() {
    for text in [
        r#"{"id":1,"method":"x","id":2}"#,
        r#"{"id":1,"method":"x","\u0069d":2}"#,
        r#"{"id":1,"method":"x","method":"y"}"#,
        r#"{"id":1,"method":"x","params":{"requestState":"a","requestState":"b"}}"#,
        r#"{"id":1,"method":"x","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
        r#"{"id":1,"method":"x","params":{"name":"a","name":"b"}}"#,
        r#"{"id":1,"method":"x","params":{"_meta":{},"_meta":{"progressToken":2}}}"#,
    ] {
        let bad = scan(text.as_bytes()).unwrap_err();
        assert_eq!(bad.number(), -32600, "{text}");
        assert!(bad.id().is_some(), "{text}");
    }
    assert!(scan(br#"{"id":1,"method":"x","params":{"a":1,"a":2}}"#).is_ok());
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let said = |text: &[u8]| scan(text).unwrap_err().to_string();
    assert_eq!(
        said(b"{\"id\":}"),
        "the body is not JSON: a value is missing at byte 6"
    );
    assert_eq!(
        said(b"{} x"),
        "the body is not JSON: something stands behind its end at byte 3"
    );
    assert_eq!(
        said(b"{\"a\":\"\xff\"}"),
        "the body is not JSON: it is not UTF-8 at byte 6"
    );
    let deep = ["[".repeat(200), "]".repeat(200)].concat();
    assert!(said(deep.as_bytes()).contains("too deeply"));
    let many = format!("[{}]", vec!["{}"; 300].join(","));
    assert_eq!(said(many.as_bytes()), "more than 256 messages");
}

#[test]
fn a_batch_has_all_its_messages() {
    let text = r#"[{"id":1,"method":"a"}, {"method":"b"}]"#;
    let scan = scan(text.as_bytes()).unwrap();
    assert!(scan.is_batch);
    let texts: Vec<&str> = scan
        .messages
        .iter()
        .map(|one| &text[one.span.clone()])
        .collect();
    assert_eq!(texts, [r#"{"id":1,"method":"a"}"#, r#"{"method":"b"}"#]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let key = prop_oneof![
            Just("id".to_owned()),
            Just("method".to_owned()),
            Just("params".to_owned()),
            Just("_meta".to_owned()),
            Just("progressToken".to_owned()),
            any::<String>(),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..6)
                .prop_map(|pairs| { Value::Object(pairs.into_iter().collect()) }),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_what_others_take_for_json(value in any_json(), pretty: bool, cut in any::<prop::sample::Index>(), byte: u8) {
        let mut text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        prop_assert!(scan(&text).is_ok());
        if !text.is_empty() {
            let at = cut.index(text.len());
            text[at] = byte;
        }
        let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(&text).is_ok();
        match scan(&text) {
            Ok(_) => prop_assert!(theirs, "{:?}", String::from_utf8_lossy(&text)),
            Err(Bad::Json(..)) => prop_assert!(!theirs, "{:?}", String::from_utf8_lossy(&text)),
            Err(Bad::Message { .. }) => {}
        }
    }

    #[test]
    fn what_is_put_in_the_place_of_an_id_is_read_there(id: i64, new: String, rest in any_json()) {
        let text = format!(r#"{{"a":{rest},"id":{id},"method":"x"}}"#);
        let span = one(&text).id.unwrap();
        let new = Value::from(new).to_string();
        let spliced = String::from_utf8(splice(text.as_bytes(), &[(span, new.clone())])).unwrap();
        let again = one(&spliced).id.unwrap();
        prop_assert_eq!(&spliced[again], &new);
    }

    #[test]
    fn no_bytes_panic(text: Vec<u8>) {
        let _ = scan(&text);
    }
}
