//! The API's answer → the tool's result. Pure.
//!
//! JSON comes back as readable text, and objects as structured content too. What is not a success
//! becomes a tool error that the model can act on. The caller's credential never comes back, even
//! where an API repeats it in an error.

use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Uri};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::Value;

use crate::outbound::{Answer, origin};

/// Bytes of an error's text that are handed on; APIs answer whole web pages.
const ERROR_TEXT_MAX: usize = 4 * 1024;

/// Shorter texts are not looked for: they would be found by chance everywhere.
const SECRET_MIN: usize = 6;

/// What the tool answers.
pub(super) fn result(answer: &Answer, secrets: &[String]) -> CallToolResult {
    let text = match std::str::from_utf8(&answer.body) {
        Ok(text) => hide(text, secrets),
        Err(_) => return error(binary(answer)),
    };
    if answer.status.is_success() {
        success(answer, &text)
    } else {
        error(failure(answer, &text))
    }
}

/// A tool error with this text.
pub(super) fn error(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text.into())])
}

fn success(answer: &Answer, text: &str) -> CallToolResult {
    if text.trim().is_empty() {
        let done = format!("done: the API answered {} without content", answer.status);
        return CallToolResult::success(vec![ContentBlock::text(done)]);
    }
    let parsed = is_json(&answer.headers).then(|| serde_json::from_str::<Value>(text).ok());
    let Some(value) = parsed.flatten() else {
        return CallToolResult::success(vec![ContentBlock::text(text)]);
    };
    let mut result = CallToolResult::success(vec![ContentBlock::text(format!("{value:#}"))]);
    result.structured_content = Some(value).filter(Value::is_object);
    result
}

fn failure(answer: &Answer, text: &str) -> String {
    let mut said = format!("the API answered {}", answer.status);
    if answer.status.is_redirection()
        && let Some(to) = header(&answer.headers, LOCATION).and_then(|to| to.parse::<Uri>().ok())
    {
        // Following could carry the credential to another host.
        let to = to
            .host()
            .map_or_else(|| to.path().to_owned(), |_| origin(&to));
        said.push_str(&format!(" and points to `{to}`, which is not followed"));
    }
    if let Some(after) = header(&answer.headers, RETRY_AFTER) {
        said.push_str(&format!(" (retry after {after})"));
    }
    let text = text.trim();
    if !text.is_empty() {
        said.push_str(": ");
        said.push_str(cut(text, ERROR_TEXT_MAX));
        if text.len() > ERROR_TEXT_MAX {
            said.push_str(" …");
        }
    }
    said
}

fn binary(answer: &Answer) -> String {
    let kind = header(&answer.headers, CONTENT_TYPE).unwrap_or("unknown type");
    let (status, size) = (answer.status, answer.body.len());
    format!("the API answered {status} with {size} bytes of `{kind}`, which is not text")
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = header(headers, CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    essence.is_none_or(|kind| {
        let kind = kind.trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json") || kind == "text/json"
    })
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The text without the secrets.
fn hide(text: &str, secrets: &[String]) -> String {
    let known = secrets.iter().filter(|secret| secret.len() >= SECRET_MIN);
    known.fold(text.to_owned(), |text, secret| {
        if text.contains(secret.as_str()) {
            text.replace(secret.as_str(), "***")
        } else {
            text
        }
    })
}

/// At most so many bytes, never half a character.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    fn answered(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &[u8],
    ) -> CallToolResult {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer {
            status,
            headers: map,
            body: Bytes::copy_from_slice(body),
        };
        result(&answer, &["sk-secret".to_owned(), "a".to_owned()])
    }

    fn text(result: &CallToolResult) -> String {
        result.content[0].as_text().unwrap().text.clone()
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn json_is_readable_and_objects_are_structured() {
        let result = answered(200, &[JSON], br#"{"b":1,"a":[2]}"#);
        assert_eq!(text(&result), "{\n  \"b\": 1,\n  \"a\": [\n    2\n  ]\n}");
        assert_eq!(result.structured_content, Some(json!({"b": 1, "a": [2]})));
        assert_eq!(result.is_error, Some(false));
        assert_eq!(answered(200, &[JSON], b"[1]").structured_content, None);
        assert_eq!(
            text(&answered(200, &[("content-type", "text/plain")], b"{}")),
            "{}"
        );
        assert_eq!(text(&answered(200, &[JSON], b"{broken")), "{broken");
        assert!(text(&answered(204, &[], b"")).contains("204 No Content"));
    }

    #[test]
    fn failures_say_status_and_text_and_when_to_come_back() {
        let result = answered(
            429,
            &[JSON, ("retry-after", "30")],
            br#"{"message":"slow down"}"#,
        );
        assert_eq!(result.is_error, Some(true));
        let expected =
            r#"the API answered 429 Too Many Requests (retry after 30): {"message":"slow down"}"#;
        assert_eq!(text(&result), expected);
        let long = "ä".repeat(ERROR_TEXT_MAX);
        let said = text(&answered(500, &[], long.as_bytes()));
        assert!(said.len() < ERROR_TEXT_MAX + 100 && said.ends_with("ä …"));
    }

    #[test]
    fn redirects_are_told_by_host_only() {
        let said = text(&answered(
            302,
            &[("location", "https://evil.example/x?token=y")],
            b"",
        ));
        assert!(
            said.contains("points to `https://evil.example`, which is not followed"),
            "{said}"
        );
        assert!(text(&answered(301, &[("location", "/new")], b"")).contains("`/new`"));
    }

    #[test]
    fn the_credential_never_comes_back() {
        let said = text(&answered(
            401,
            &[JSON],
            br#"{"error":"bad key sk-secret, a"}"#,
        ));
        assert!(said.ends_with(r#"{"error":"bad key ***, a"}"#), "{said}");
        let echoed = answered(200, &[JSON], br#"{"key":"sk-secret"}"#);
        assert_eq!(echoed.structured_content, Some(json!({"key": "***"})));
    }

    #[test]
    fn what_is_not_text_is_named() {
        let result = answered(200, &[("content-type", "image/png")], &[0x89, 0xff, 0]);
        assert!(text(&result).contains("3 bytes of `image/png`") && result.is_error == Some(true));
    }
}
