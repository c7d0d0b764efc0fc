//! What may be injected into a request: names of headers, and templates with `{field}` in them.
//!
//! A header that the router or HTTP itself owns is refused here, once, so that the hot path need
//! not look. Templates are never repeated in messages: people write secrets into them.

use super::error::{Report, shown};
use super::syntax::{Entry, Place, Value};

/// Of one hop only (RFC 9110 §7.6.1), of the connection, of the body, or of the router.
const OWNED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "last-event-id",
    "origin",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The router's own, the hop's, and what MCP clients and services say to each other.
const OWNED_PREFIXES: &[&str] = &["x-mcpm-", "x-forwarded-", "proxy-", "mcp-"];

/// Reads a map of header templates.
pub(crate) fn headers(
    entries: &[Entry],
    known: &[String],
    report: &mut Report,
) -> Vec<(String, String)> {
    named_templates(entries, known, report, str::eq_ignore_ascii_case, |name| {
        if !is_header_name(name) {
            Some("is not a header's name; write letters, digits and `-`")
        } else if is_owned(name) {
            Some("is a header that the router sets itself, or that it must not touch; leave it out")
        } else {
            None
        }
    })
}

/// Reads a map of query templates.
pub(crate) fn query(
    entries: &[Entry],
    known: &[String],
    report: &mut Report,
) -> Vec<(String, String)> {
    named_templates(entries, known, report, str::eq, |name| {
        let bad = name.is_empty() || name.chars().any(char::is_control);
        bad.then_some("is not a parameter's name; write letters and digits")
    })
}

fn named_templates(
    entries: &[Entry],
    known: &[String],
    report: &mut Report,
    same: fn(&str, &str) -> bool,
    wrong: impl Fn(&str) -> Option<&'static str>,
) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for Entry { key, at, node } in entries {
        if let Some(wrong) = wrong(key) {
            report.mistake(*at, format!("{} {wrong}", shown(key)));
        } else if let Some(value) = text(&node.value) {
            if template(&value, key, known, node.at, report) {
                if found.iter().any(|(name, _)| same(name, key)) {
                    let message = format!("{} is written twice; the last one counts", shown(key));
                    report.warn(*at, message);
                    found.retain(|(name, _)| !same(name, key));
                }
                found.push((key.clone(), value));
            }
        } else {
            report.mistake(
                node.at,
                format!("{} is no text; write a template", shown(key)),
            );
        }
    }
    found
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_text()),
        _ => None,
    }
}

/// In any spelling: CGI-like services read `X_MCPM_User_Id` as `X-MCPM-User-Id`.
fn is_owned(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let prefixed = OWNED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    prefixed || OWNED.contains(&name.as_str())
}

/// RFC 9110 §5.1: a token.
fn is_header_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(token)
}

/// Checks a template: no control characters, and every `{…}` is a known field.
pub(crate) fn template(
    text: &str,
    key: &str,
    known: &[String],
    at: Place,
    report: &mut Report,
) -> bool {
    match wrong_template(text, known) {
        None => true,
        Some(wrong) => {
            report.mistake(at, format!("{} {wrong}", shown(key)));
            false
        }
    }
}

fn wrong_template(text: &str, known: &[String]) -> Option<String> {
    if text.chars().any(char::is_control) {
        return Some("holds control characters; write one line".to_owned());
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else {
            return Some("has a `{` without `}`; write `{field}`".to_owned());
        };
        if !is_field_name(name) {
            return Some("has braces with no field's name in them; write `{field}`".to_owned());
        }
        if !known.iter().any(|field| field == name) {
            let fields: Vec<String> = known.iter().map(|field| format!("`{{{field}}}`")).collect();
            let hint = if fields.is_empty() {
                "no field is declared".to_owned()
            } else {
                format!("write {}", fields.join(" or "))
            };
            return Some(format!("names `{{{name}}}`, which is not a field; {hint}"));
        }
        rest = behind;
    }
    None
}

/// Names of fields stand in templates and in requests.
pub(crate) fn is_field_name(name: &str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_known_fields_only() {
        let known = ["key".to_owned(), "user".to_owned()];
        for good in ["", "Bearer {key}", "{user}:{key}", "plain"] {
            assert_eq!(wrong_template(good, &known), None, "{good}");
        }
        for (bad, part) in [
            (
                "{nope}",
                "`{nope}`, which is not a field; write `{key}` or `{user}`",
            ),
            ("{key", "without `}`"),
            ("{}", "no field's name"),
            ("{\"a\": \"{key}\"}", "no field's name"),
            ("a\r\nb", "control"),
        ] {
            let wrong = wrong_template(bad, &known).unwrap();
            assert!(wrong.contains(part), "{bad}: {wrong}");
        }
        assert!(
            wrong_template("{a}", &[])
                .unwrap()
                .contains("no field is declared")
        );
    }

    #[test]
    fn what_the_router_owns_is_nobody_elses() {
        for owned in [
            "Host",
            "X_MCPM_User_Id",
            "X-Forwarded-For",
            "Origin",
            "Mcp-Session-Id",
            "MCP-Protocol-Version",
            "Proxy-Authorization",
            "transfer_encoding",
        ] {
            assert!(is_owned(owned), "{owned}");
        }
        for free in ["Authorization", "X-Api-Key", "Cookie", "Accept", "X-Mcp"] {
            assert!(!is_owned(free), "{free}");
        }
    }

    #[test]
    fn headers_are_the_same_in_any_case_and_parameters_are_not() {
        let text = "{a: '1', A: '2'}";
        let Value::Map(entries) = super::super::syntax::json::parse(text).unwrap().value else {
            panic!("a map")
        };
        let mut report = Report::new(None);
        assert_eq!(query(&entries, &[], &mut report).len(), 2);
        assert!(report.finish().unwrap().is_empty());
        let mut report = Report::new(None);
        assert_eq!(
            headers(&entries, &[], &mut report),
            [("A".into(), "2".into())]
        );
        assert!(
            report.finish().unwrap()[0]
                .message
                .contains("`A` is written twice")
        );
    }

    #[test]
    fn header_names_are_tokens() {
        assert!(is_header_name("X-Figma-Token"));
        for bad in ["", "a b", "a:b", "ä", "a\n"] {
            assert!(!is_header_name(bad), "{bad}");
        }
    }
}
