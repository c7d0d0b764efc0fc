//! Asks an external service whether a credential is right.
//!
//! Only an explicit good answer counts. "Wrong" is what the user can mend; a limit that was hit, a
//! service that is down or an address that the guard refused is "could not check", and says why.
//! The filling of templates is pure; values are opened here because this is a place where they
//! leave. No verdict shows a value.

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use zeroize::Zeroizing;

use crate::config::spec::{InjectSpec, JsonCheck, ValidateSpec};
use crate::outbound::{Outbound, encode, origin};
use crate::problem::chain;
use crate::vault::Fields;

/// What the external service thinks of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It said yes.
    Good,
    /// It said no.
    Wrong {
        /// For the user: who said what.
        why: String,
    },
    /// It said neither.
    CouldNotCheck {
        /// For the user and the log: what stood in the way.
        why: String,
    },
}

/// Why a template could not be filled. Shows names, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error("a template of `validate` has a `{{` without `}}`")]
    Unclosed,
    /// No value for a field.
    #[error("`validate` needs the field `{0}`, which was not given")]
    NoValue(String),
    /// Not an address after filling.
    #[error("`validate.url` with these fields is not an address")]
    Url,
    /// Not a method.
    #[error("`validate.method` is not an HTTP method")]
    Method,
    /// Not a header after filling.
    #[error("the header `{0}` of `validate` with these fields is not one")]
    Header(String),
}

/// Asks the external service about the credential in `fields`.
pub async fn validate(spec: &ValidateSpec, fields: &Fields, outbound: &Outbound) -> Verdict {
    let request = match build(spec, fields) {
        Ok(request) => request,
        Err(error) => {
            return Verdict::CouldNotCheck {
                why: error.to_string(),
            };
        }
    };
    let origin = origin(request.uri());
    match outbound.call(request).await {
        Ok(answer) => {
            let verdict = judge(answer.status, &answer.headers, &spec.expect, &origin);
            match (&verdict, &spec.json) {
                (Verdict::Good, Some(check)) => look(check, &answer.body, &origin),
                _ => verdict,
            }
        }
        Err(error) => Verdict::CouldNotCheck { why: chain(&error) },
    }
}

/// Who would be asked about these fields: for people, without a path.
pub(super) fn asked(spec: &ValidateSpec, fields: &Fields) -> Option<String> {
    build(spec, fields)
        .ok()
        .map(|request| origin(request.uri()))
}

/// The request that asks.
fn build(spec: &ValidateSpec, fields: &Fields) -> Result<Request<Bytes>, TemplateError> {
    let method: Method = spec.method.parse().map_err(|_| TemplateError::Method)?;
    let mut request = Request::new(Bytes::new());
    let url = with_query(&spec.url, &spec.send, fields)?;
    *request.uri_mut() = fill_url(&url, fields)?;
    *request.method_mut() = method;
    send(&spec.send, fields, request.headers_mut())?;
    Ok(request)
}

/// The template of the address with the parameters that are sent, which encoding leaves no braces. As in the router, one whose
/// field was not given (only an optional one may be missing) is left out.
fn with_query(url: &str, send: &InjectSpec, fields: &Fields) -> Result<String, TemplateError> {
    let mut url = url.to_owned();
    for (name, template) in &send.query {
        if let Some(value) = optional(fill(template, fields, str::to_owned))? {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{}={}", encode(name), encode(&value)));
        }
    }
    Ok(url)
}

/// The headers that are sent.
fn send(send: &InjectSpec, fields: &Fields, headers: &mut HeaderMap) -> Result<(), TemplateError> {
    let filled = |template: &str| optional(fill(template, fields, str::to_owned));
    for (name, template) in &send.headers {
        let bad = || TemplateError::Header(name.clone());
        let header: HeaderName = name.parse().map_err(|_| bad())?;
        if let Some(filled) = filled(template)? {
            headers.insert(header, secret(&filled).ok_or_else(bad)?);
        }
    }
    if let Some((user, word)) = &send.basic
        && let (Some(user), Some(word)) = (filled(user)?, filled(word)?)
    {
        // RFC 7617 §2.
        let pair = Zeroizing::new(format!("{}:{}", *user, *word));
        let basic = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
        let bad = || TemplateError::Header(AUTHORIZATION.to_string());
        headers.insert(AUTHORIZATION, secret(&basic).ok_or_else(bad)?);
    }
    Ok(())
}

/// Refuses line breaks and other control characters; letters beyond ASCII go as they are.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A template that is left out when a field of it was not given.
fn optional<T>(filled: Result<T, TemplateError>) -> Result<Option<T>, TemplateError> {
    match filled {
        Ok(filled) => Ok(Some(filled)),
        Err(TemplateError::NoValue(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Fills an address. Values are percent-encoded, so that none adds a path, a query or another host;
/// only a template that begins with a field (`{base_url}/api/me`, for software that users host
/// themselves) takes that one as an address. The guard of `outbound` holds for either.
fn fill_url(template: &str, fields: &Fields) -> Result<Uri, TemplateError> {
    let filled = match template
        .strip_prefix('{')
        .and_then(|rest| rest.split_once('}'))
    {
        Some((name, rest)) => {
            let base = fields
                .get(name)
                .ok_or_else(|| TemplateError::NoValue(name.into()))?;
            if base.contains(['?', '#', '@', '\\']) {
                return Err(TemplateError::Url);
            }
            format!(
                "{}{}",
                base.trim_end_matches('/'),
                *fill(rest, fields, encode)?
            )
        }
        None => fill(template, fields, encode)?.to_string(),
    };
    let uri: Uri = filled.parse().map_err(|_| TemplateError::Url)?;
    let host = uri.host().unwrap_or_default();
    let climbs = uri.path().split('/').any(|part| matches!(part, "." | ".."));
    // A value in the host part must itself have been a piece of a host name.
    if host.is_empty() || host.contains('%') || climbs {
        return Err(TemplateError::Url);
    }
    Ok(uri)
}

/// Puts values into `{field}` places.
fn fill(
    template: &str,
    fields: &Fields,
    encode: impl Fn(&str) -> String,
) -> Result<Zeroizing<String>, TemplateError> {
    let mut filled = Zeroizing::new(String::with_capacity(template.len()));
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
        let value = fields
            .get(name)
            .ok_or_else(|| TemplateError::NoValue(name.into()))?;
        filled.push_str(before);
        filled.push_str(&encode(value));
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, expect: &[u16], origin: &str) -> Verdict {
    let good = |status| match expect {
        [] => status == 200,
        expect => expect.contains(&status),
    };
    let why = format!("`{origin}` answered {status}");
    // Some APIs say 403 when a limit is hit; then the key may well be right.
    let limited = headers.contains_key(RETRY_AFTER)
        || headers
            .get("x-ratelimit-remaining")
            .is_some_and(|left| left == "0");
    match status.as_u16() {
        code if good(code) => Verdict::Good,
        403 if limited => Verdict::CouldNotCheck { why },
        // The way of asking was refused, which is the operator's to mend, or the time of it.
        405 | 406 | 407 | 408 | 415 | 425 | 429 => Verdict::CouldNotCheck { why },
        400..=499 => Verdict::Wrong { why },
        _ => Verdict::CouldNotCheck { why },
    }
}

/// What the body of an answer with a good status means. What is no JSON says neither yes nor no: so
/// answer proxies and pages of errors.
fn look(check: &JsonCheck, body: &[u8], origin: &str) -> Verdict {
    let at = &check.at;
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return Verdict::CouldNotCheck {
            why: format!("`{origin}` answered something that is no JSON"),
        };
    };
    let found = body.pointer(at);
    let good = match (&check.is, found) {
        (_, None) => false,
        (Some(wanted), Some(found)) => found == wanted,
        (None, Some(found)) => !found.is_null() && found != &serde_json::Value::Bool(false),
    };
    if good {
        return Verdict::Good;
    }
    // What stands there may be anything, also what was sent: it is not repeated.
    let said = if found.is_some() {
        "says no"
    } else {
        "is missing"
    };
    Verdict::Wrong {
        why: format!("`{at}` {said} in the answer of `{origin}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::outbound::Policy;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().copied().collect()
    }

    fn by_header(name: &str, template: &str) -> InjectSpec {
        InjectSpec {
            headers: vec![(name.into(), template.into())],
            ..InjectSpec::default()
        }
    }

    #[track_caller]
    fn check_url(template: &str, given: &[(&str, &str)], expected: Result<&str, TemplateError>) {
        let got = fill_url(template, &fields(given)).map(|uri| uri.to_string());
        assert_eq!(got, expected.map(str::to_owned), "{template}");
    }

    #[test]
    fn addresses_are_filled_and_nothing_breaks_out() {
        let at = "https://{site}.example.com/v1/{key}?k={key}";
        check_url(
            at,
            &[("site", "acme"), ("key", "a/b?c&d#é ")],
            Ok("https://acme.example.com/v1/a%2Fb%3Fc%26d%23%C3%A9%20?k=a%2Fb%3Fc%26d%23%C3%A9%20"),
        );
        for evil in ["evil.com/", "evil.com#", "x@evil.com", "evil.com:80", ""] {
            check_url(
                at,
                &[("site", evil), ("key", "..")],
                Err(TemplateError::Url),
            );
        }
        check_url(
            at,
            &[("site", "acme"), ("key", "..")],
            Err(TemplateError::Url),
        );
        check_url(
            at,
            &[("site", "acme")],
            Err(TemplateError::NoValue("key".into())),
        );
        check_url("https://a.example/{key", &[], Err(TemplateError::Unclosed));
    }

    #[test]
    fn a_leading_field_is_an_address_of_its_own() {
        let at = "{base}/api/{key}";
        let with = |base| [("base", base), ("key", "k")];
        check_url(
            at,
            &with("https://git.example/x/"),
            Ok("https://git.example/x/api/k"),
        );
        for evil in [
            "https://a.example/?",
            "https://a.example#",
            "https://u:p@a.example",
            "a",
            "",
        ] {
            check_url(at, &with(evil), Err(TemplateError::Url));
        }
    }

    #[test]
    fn headers_are_filled_marked_secret_and_refuse_line_breaks() {
        let spec = ValidateSpec {
            url: "https://a.example/".into(),
            method: "POST".into(),
            send: by_header("X-Key", "Token {key}"),
            expect: vec![],
            json: None,
            cache: ValidateSpec::CACHE,
        };
        let request = build(&spec, &fields(&[("key", "k1")])).unwrap();
        assert_eq!(request.headers()["x-key"], "Token k1");
        assert!(!format!("{request:?}").contains("k1"));
        let error = build(&spec, &fields(&[("key", "k\r\nX: y")])).unwrap_err();
        assert_eq!(error, TemplateError::Header("X-Key".into()));
        // As the router sends it: whether such a key is right is the service's to say.
        let request = build(&spec, &fields(&[("key", "kä")])).unwrap();
        assert_eq!(request.headers()["x-key"].as_bytes(), "Token kä".as_bytes());
    }

    #[test]
    fn everything_that_is_injected_is_sent_but_for_optional_fields_not_given() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let spec = ValidateSpec {
            url: "https://a.example/me?v=1".into(),
            method: "GET".into(),
            send: InjectSpec {
                headers: vec![pair("X-Org", "{org}"), pair("X-Key", "{key}")],
                query: vec![pair("app id", "a {key}"), pair("org", "{org}")],
                basic: Some(pair("{key}", "")),
            },
            expect: vec![],
            json: None,
            cache: ValidateSpec::CACHE,
        };
        let request = build(&spec, &fields(&[("key", "k&1")])).unwrap();
        let uri = request.uri().to_string();
        assert_eq!(uri, "https://a.example/me?v=1&app%20id=a%20k%261");
        assert_eq!(request.headers()["authorization"], "Basic ayYxOg==");
        assert_eq!(request.headers()["x-key"], "k&1");
        assert!(!request.headers().contains_key("x-org"));
        let all = build(&spec, &fields(&[("key", "k"), ("org", "o")])).unwrap();
        assert!(all.uri().query().unwrap().ends_with("&org=o"));
        assert_eq!(all.headers()["x-org"], "o");
    }

    #[test]
    fn an_answer_may_have_to_say_something() {
        let judged = |at: &str, is: Option<serde_json::Value>, body: &str| {
            let check = JsonCheck { at: at.into(), is };
            match look(&check, body.as_bytes(), "https://a.example") {
                Verdict::Good => "good",
                Verdict::Wrong { why } => {
                    assert!(
                        why.contains("https://a.example") && !why.contains("hunter2"),
                        "{why}"
                    );
                    "wrong"
                }
                Verdict::CouldNotCheck { .. } => "unknown",
            }
        };
        for (at, is, body, wanted) in [
            ("/ok", None, r#"{"ok":true}"#, "good"),
            ("/ok", None, r#"{"ok":false,"error":"hunter2"}"#, "wrong"),
            ("/ok", None, r#"{"ok":null}"#, "wrong"),
            ("/ok", None, r#"{"ok":0}"#, "good"),
            ("/ok", None, "{}", "wrong"),
            ("/ok", None, "[]", "wrong"),
            ("/ok", None, "", "unknown"),
            ("/ok", None, "<html>", "unknown"),
            ("/ok", None, r#"{"ok":true} trailing"#, "unknown"),
            ("/ok", Some(true.into()), r#"{"ok":"true"}"#, "wrong"),
            ("/a/0/b", Some("x".into()), r#"{"a":[{"b":"x"}]}"#, "good"),
            (
                "/a/1/b",
                Some("x".into()),
                r#"{"a":[{"b":"hunter2"}]}"#,
                "wrong",
            ),
            ("/n", Some(7.into()), r#"{"n":7}"#, "good"),
            ("/n", Some(false.into()), r#"{"n":false}"#, "good"),
        ] {
            assert_eq!(judged(at, is, body), wanted, "{at} {body}");
        }
    }

    #[test]
    fn statuses_are_judged_by_who_could_mend_them() {
        let judged = |status: u16, expect: &[u16], header: Option<(&'static str, &'static str)>| {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            match judge(status, &headers, expect, "https://a.example") {
                Verdict::Good => "good",
                Verdict::Wrong { .. } => "wrong",
                Verdict::CouldNotCheck { .. } => "unknown",
            }
        };
        for (status, expect, wanted) in [
            (200, &[][..], "good"),
            (204, &[200, 204], "good"),
            (404, &[404], "good"),
            (204, &[], "unknown"),
            (302, &[], "unknown"),
            (400, &[], "wrong"),
            (401, &[], "wrong"),
            (403, &[], "wrong"),
            (404, &[], "wrong"),
            (405, &[], "unknown"),
            (407, &[], "unknown"),
            (408, &[], "unknown"),
            (425, &[], "unknown"),
            (429, &[], "unknown"),
            (500, &[], "unknown"),
            (503, &[], "unknown"),
        ] {
            assert_eq!(judged(status, expect, None), wanted, "{status}");
        }
        assert_eq!(
            judged(403, &[], Some(("x-ratelimit-remaining", "0"))),
            "unknown"
        );
        assert_eq!(
            judged(403, &[], Some(("x-ratelimit-remaining", "7"))),
            "wrong"
        );
        assert_eq!(judged(403, &[], Some(("retry-after", "60"))), "unknown");
    }

    #[tokio::test]
    async fn the_service_is_asked_and_the_guard_holds() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 2048];
                let read = stream.read(&mut head).await.unwrap();
                let good = String::from_utf8_lossy(&head[..read]).contains("Bearer right");
                let status = if good { "200 OK" } else { "401 Unauthorized" };
                let text =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        let spec = ValidateSpec {
            url: format!("http://127.0.0.1:{port}/me"),
            method: "GET".into(),
            send: by_header("Authorization", "Bearer {api_key}"),
            expect: vec![200],
            json: None,
            cache: ValidateSpec::CACHE,
        };
        let ask = async |key: &str, allow_private| {
            let timeout = Duration::from_secs(5);
            let outbound = Outbound::new(Policy {
                allow_private,
                timeout,
                max_answer: 1024,
            });
            validate(&spec, &fields(&[("api_key", key)]), &outbound).await
        };
        assert_eq!(ask("right", true).await, Verdict::Good);
        assert!(matches!(ask("wrong", true).await, Verdict::Wrong { .. }));
        let refused = ask("right", false).await;
        assert!(
            matches!(&refused, Verdict::CouldNotCheck { why } if why.contains("allow_private"))
        );
    }

    proptest! {
        #[test]
        fn values_never_change_the_host_or_the_shape(site in "[a-z]{1,8}", key in ".*") {
            let given = fields(&[("site", &site), ("key", &key)]);
            if let Ok(uri) = fill_url("https://{site}.example.com/v1/{key}/me?k={key}", &given) {
                prop_assert_eq!(uri.host().unwrap(), format!("{site}.example.com"));
                prop_assert_eq!(uri.path().split('/').count(), 4);
                prop_assert!(uri.path().starts_with("/v1/") && uri.path().ends_with("/me"));
            }
        }
    }
}
