//! What a request asks by JSON-RPC that the router answers itself, and that answer.
//!
//! Only for requests that go to no service: of all others no body is collected.

use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use http::header::{HeaderMap, HeaderValue};
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
/// The same.
pub(super) const RATE_LIMITED: i32 = -33003;

const SESSION_ID: &str = "mcp-session-id";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// The first revision without sessions. Revisions are dates, and compare as texts.
const SESSIONLESS: &[u8] = b"2026-07-28";

/// What was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// One request, of this id.
    One(Value),
    /// The one with which a client connects, `initialize` or `server/discover`.
    Opening(Value),
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
    /// Seconds, where it helps to wait.
    pub(super) retry_after: Option<u64>,
}

/// Has the client of this request connected, so that it takes an error status for the end? From
/// 2026-07-28 on there is nothing to connect to, and each request counts so.
pub(super) fn is_in_session(headers: &HeaderMap) -> bool {
    let version = headers.get(PROTOCOL_VERSION).map(HeaderValue::as_bytes);
    headers.contains_key(SESSION_ID) || version.is_some_and(|version| version >= SESSIONLESS)
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
        one if is_message(&one) => Some(match id(&one) {
            Some(id) if is_opening(&one) => Call::Opening(id),
            Some(id) => Call::One(id),
            None => Call::Notice,
        }),
        _ => None,
    }
}

fn is_message(value: &Value) -> bool {
    value.get("jsonrpc").is_some_and(|version| version == "2.0")
}

fn is_opening(value: &Value) -> bool {
    let method = value.get("method").and_then(Value::as_str);
    matches!(method, Some("initialize" | "server/discover"))
}

/// The id of a request.
fn id(value: &Value) -> Option<Value> {
    value.get("method")?;
    let id = value.get("id")?;
    (id.is_string() || id.is_number()).then(|| id.clone())
}

impl Call {
    /// Does a client connect with it?
    pub(super) fn opens(&self) -> bool {
        matches!(self, Self::Opening(_))
    }

    /// The body that says so; `None` when there is nothing to answer.
    pub(super) fn refused(&self, error: &Error<'_>) -> Option<Vec<u8>> {
        let mut data = json!({ "code": error.code, "requestId": error.request_id });
        if let Some(seconds) = error.retry_after {
            data["retryAfter"] = seconds.into();
        }
        let one = |id: &Value| {
            json!({
                "jsonrpc": "2.0",
                "id": id,
                "error": {
                    "code": error.number,
                    "message": error.message,
                    "data": data,
                },
            })
        };
        let answer = match self {
            Self::One(id) | Self::Opening(id) => one(id),
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
        for method in ["initialize", "server/discover"] {
            let opening = call("7").replace("tools/list", method);
            check(&opening, Some(Call::Opening(json!(7))));
        }
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
            retry_after: None,
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
        assert_eq!(answer(Call::Opening(json!("7"))), expected);
        assert_eq!(Call::Notice.refused(&error), None);
        let limited = Error {
            number: RATE_LIMITED,
            code: "rate_limited",
            retry_after: Some(3),
            ..error
        };
        let said: Value =
            serde_json::from_slice(&Call::One(json!(1)).refused(&limited).unwrap()).unwrap();
        assert_eq!(
            said["error"]["data"],
            json!({"code": "rate_limited", "requestId": "q", "retryAfter": 3})
        );
    }

    #[test]
    fn a_client_that_has_connected_shows_a_session_or_a_revision_without_them() {
        #[track_caller]
        fn check(name: &'static str, value: &'static str, expected: bool) {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), value)]);
            assert_eq!(is_in_session(&headers), expected, "{headers:?}");
        }
        check("mcp-session-id", "s", true);
        check("mcp-protocol-version", "2026-07-28", true);
        check("mcp-protocol-version", "2027-01-01", true);
        check("mcp-protocol-version", "2025-11-25", false);
        check("accept", "*/*", false);
    }
}
