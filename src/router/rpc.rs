//! What a request asks by JSON-RPC that the router answers itself, and that answer.

use std::borrow::Cow;
use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use http::header::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::timeout;

/// A body of a request that is refused anyway: what is longer is refused as plain HTTP.
const BODY_MAX: usize = 256 * 1024;
/// And what takes longer to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The service is not there, and will be: this and the next ones lie outside of what JSON-RPC and MCP
/// keep for themselves.
pub(super) const SERVICE_UNAVAILABLE: i32 = -33001;
/// It did not answer in time.
pub(super) const UPSTREAM_TIMEOUT: i32 = -33002;
/// More than may be sent.
pub(super) const RATE_LIMITED: i32 = -33003;
/// The credential is taken no longer.
pub(super) const CREDENTIALS_EXPIRED: i32 = -33004;
/// It ended before it answered, or spoke nonsense.
pub(super) const UPSTREAM_FAILED: i32 = -33006;
/// A token cannot be refreshed just now.
pub(super) const CREDENTIALS_UNAVAILABLE: i32 = -33007;
/// As the SDKs' servers say it.
pub(super) const UNKNOWN_SESSION: i32 = -32001;
/// What nothing else says.
pub(super) const INTERNAL: i32 = -32603;

/// `Mcp-Session-Id`.
pub(super) const SESSION_ID: &str = "mcp-session-id";
/// `MCP-Protocol-Version`.
pub(super) const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// The first revision without sessions. Revisions are dates, and compare as texts.
pub(super) const SESSIONLESS: &[u8] = b"2026-07-28";

/// What was called; ids as they were spelt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// One request, of this id.
    One(Box<str>),
    /// The one with which a client connects, `initialize` or `server/discover`.
    Opening(Box<str>),
    /// Several in one body (revision 2025-03-26).
    Batch(Vec<Box<str>>),
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

/// `None` when it is no JSON-RPC.
fn parse(body: &[u8]) -> Option<Call> {
    let body = std::str::from_utf8(body).ok()?;
    if let Ok(calls) = serde_json::from_str::<Vec<Message<'_>>>(body) {
        let is_rpc = !calls.is_empty() && calls.iter().all(Message::is_rpc);
        let ids: Vec<Box<str>> = calls.iter().filter_map(Message::call).collect();
        return is_rpc.then_some(if ids.is_empty() {
            Call::Notice
        } else {
            Call::Batch(ids)
        });
    }
    let one: Message<'_> = serde_json::from_str(body).ok()?;
    one.is_rpc().then(|| match one.call() {
        Some(id) if one.opens() => Call::Opening(id),
        Some(id) => Call::One(id),
        None => Call::Notice,
    })
}

/// What is read of a message.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default, borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(default, borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

impl Message<'_> {
    fn is_rpc(&self) -> bool {
        self.jsonrpc == "2.0"
    }

    fn opens(&self) -> bool {
        let method = self.method.as_deref();
        matches!(method, Some("initialize" | "server/discover"))
    }

    /// The id of a request.
    fn call(&self) -> Option<Box<str>> {
        self.method.as_ref()?;
        let id = self.id?.get();
        let is_id = id.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        is_id.then(|| id.into())
    }
}

impl Call {
    /// Does a client connect with it?
    pub(super) fn opens(&self) -> bool {
        matches!(self, Self::Opening(_))
    }

    /// The body that says so, made of an error as JSON; `None` when there is nothing to answer.
    pub(super) fn refused(&self, error: &str) -> Option<String> {
        match self {
            Self::One(id) | Self::Opening(id) => Some(answer(id, error)),
            Self::Batch(ids) => {
                let all: Vec<String> = ids.iter().map(|id| answer(id, error)).collect();
                Some(format!("[{}]", all.join(",")))
            }
            Self::Notice => None,
        }
    }
}

impl Error<'_> {
    /// As it stands in an answer.
    pub(super) fn json(&self) -> String {
        let mut data = json!({ "code": self.code, "requestId": self.request_id });
        if let Some(seconds) = self.retry_after {
            data["retryAfter"] = seconds.into();
        }
        json!({ "code": self.number, "message": self.message, "data": data }).to_string()
    }
}

/// An answer that is an error. `id` as it was spelt, and `error` are JSON.
pub(super) fn answer(id: &str, error: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Option<Call>) {
        assert_eq!(parse(body.as_bytes()), expected, "{body}");
    }

    #[test]
    fn requests_are_told_from_what_has_no_answer() {
        let call = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        check(&call("7"), Some(Call::One("7".into())));
        check(&call(r#""7""#), Some(Call::One(r#""7""#.into())));
        check(
            &call("18446744073709551615"),
            Some(Call::One("18446744073709551615".into())),
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
            check(&opening, Some(Call::Opening("7".into())));
        }
        let batch = format!("[{},{}]", call("1"), call(r#""b""#));
        check(&batch, Some(Call::Batch(vec!["1".into(), r#""b""#.into()])));
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
            serde_json::from_str(&call.refused(&error.json()).unwrap()).unwrap()
        };
        let expected = json!({
            "jsonrpc": "2.0", "id": "7",
            "error": {
                "code": -33004, "message": "no",
                "data": {"code": "credentials_expired", "requestId": "q"}
            }
        });
        assert_eq!(answer(Call::One(r#""7""#.into())), expected);
        let batch = answer(Call::Batch(vec!["1".into(), "1.0".into()]));
        assert_eq!(
            (&batch[0]["id"], batch[1]["id"].to_string()),
            (&json!(1), "1.0".to_owned())
        );
        assert_eq!(answer(Call::Opening(r#""7""#.into())), expected);
        assert_eq!(Call::Notice.refused("{}"), None);
        let limited = Error {
            number: RATE_LIMITED,
            code: "rate_limited",
            retry_after: Some(3),
            ..error
        };
        let said: Value =
            serde_json::from_str(&Call::One("1".into()).refused(&limited.json()).unwrap()).unwrap();
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
