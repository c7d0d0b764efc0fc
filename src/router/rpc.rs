//! What a request asks by JSON-RPC that the router answers itself, and that answer.
//!
//! Only for requests that go to no service: of all others no body is collected.

use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

/// A body of a request that is refused anyway: what is longer is refused as plain HTTP.
const BODY_MAX: usize = 256 * 1024;
/// And what takes longer to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Outside of what JSON-RPC and MCP keep for themselves.
pub(super) const CREDENTIALS_EXPIRED: i32 = -33004;

/// What was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// One request, of this id.
    One(Value),
    /// Several in one body (revision 2025-03-26).
    Batch(Vec<Value>),
    /// Nothing that has an answer: notifications, and answers to the service.
    Notice,
}

/// Why nobody answers it.
pub(super) struct Error<'a> {
    /// For programs.
    pub(super) number: i32,
    /// The same as a word.
    pub(super) code: &'a str,
    /// For people, who are shown it as it is.
    pub(super) message: &'a str,
    /// Under which it stands in the log.
    pub(super) request_id: &'a str,
}

/// Reads the body; `None` when it is no JSON-RPC.
pub(super) async fn read(request: Request<Incoming>) -> Option<Call> {
    let mut body = request.into_body();
    let collect = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.ok()?.into_data() else {
                continue;
            };
            if data.len() > BODY_MAX - whole.len() {
                return None;
            }
            whole.extend_from_slice(&data);
        }
        Some(whole)
    };
    parse(&timeout(BODY_TIMEOUT, collect).await.ok()??)
}

fn parse(body: &[u8]) -> Option<Call> {
    match serde_json::from_slice(body).ok()? {
        Value::Array(calls) => {
            let is_rpc = !calls.is_empty() && calls.iter().all(is_message);
            let ids: Vec<Value> = calls.iter().filter_map(id).collect();
            is_rpc.then_some(if ids.is_empty() {
                Call::Notice
            } else {
                Call::Batch(ids)
            })
        }
        one if is_message(&one) => Some(id(&one).map_or(Call::Notice, Call::One)),
        _ => None,
    }
}

fn is_message(value: &Value) -> bool {
    value.get("jsonrpc").is_some_and(|version| version == "2.0")
}

/// The id of a request.
fn id(value: &Value) -> Option<Value> {
    value.get("method")?;
    let id = value.get("id")?;
    (id.is_string() || id.is_number()).then(|| id.clone())
}

impl Call {
    /// The body that says so; `None` when there is nothing to answer.
    pub(super) fn refused(&self, error: &Error<'_>) -> Option<Vec<u8>> {
        let one = |id: &Value| {
            json!({
                "jsonrpc": "2.0",
                "id": id,
                "error": {
                    "code": error.number,
                    "message": error.message,
                    "data": { "code": error.code, "requestId": error.request_id },
                },
            })
        };
        let answer = match self {
            Self::One(id) => one(id),
            Self::Batch(ids) => ids.iter().map(one).collect(),
            Self::Notice => return None,
        };
        Some(serde_json::to_vec(&answer).expect("JSON can be written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Option<Call>) {
        assert_eq!(parse(body.as_bytes()), expected, "{body}");
    }

    #[test]
    fn requests_are_told_from_what_has_no_answer() {
        let call = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        check(&call("7"), Some(Call::One(json!(7))));
        check(&call(r#""7""#), Some(Call::One(json!("7"))));
        check(
            &call("18446744073709551615"),
            Some(Call::One(json!(u64::MAX))),
        );
        check(&call("null"), Some(Call::Notice));
        check(
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            Some(Call::Notice),
        );
        check(
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            Some(Call::Notice),
        );
        let batch = format!("[{},{}]", call("1"), call(r#""b""#));
        check(&batch, Some(Call::Batch(vec![json!(1), json!("b")])));
        for other in [
            "",
            "{}",
            "[]",
            "[1]",
            "7",
            "{\"id\":1,\"method\":\"x\"}",
            "a=b",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn each_id_is_answered_as_it_came() {
        let error = Error {
            number: CREDENTIALS_EXPIRED,
            code: "credentials_expired",
            message: "no",
            request_id: "q",
        };
        let answer = |call: Call| -> Value {
            serde_json::from_slice(&call.refused(&error).unwrap()).unwrap()
        };
        let expected = json!({
            "jsonrpc": "2.0", "id": "7",
            "error": {
                "code": -33004, "message": "no",
                "data": {"code": "credentials_expired", "requestId": "q"}
            }
        });
        assert_eq!(answer(Call::One(json!("7"))), expected);
        let batch = answer(Call::Batch(vec![json!(1), json!(1.0)]));
        assert_eq!(
            (&batch[0]["id"], batch[1]["id"].to_string()),
            (&json!(1), "1.0".to_owned())
        );
        assert_eq!(Call::Notice.refused(&error), None);
    }
}
