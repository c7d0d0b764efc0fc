//! What may be injected into a request: names of headers, and templates with `{field}` in them.
//!
//! A header that the router or HTTP itself owns is refused here, once, so that the hot path need
//! not look. Templates are never repeated in messages: people write secrets into them.

use super::error::{Report, shown};
use super::syntax::{Entry, Place, Value};

/// Of one hop only (RFC 9110 §7.6.1), of the connection, or of the router.
const OWNED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "mcp-session-id",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const OWNED_PREFIX: &str = "x-mcpm-";

/// Reads a map of header templates.
pub(crate) fn headers(
    entries: &[Entry],
    known: &[String],
    report: &mut Report,
) -> Vec<(String, String)> {
    named_templates(entries, known, report, |name| {
        let lower = name.to_ascii_lowercase();
        if !is_header_name(name) {
            Some("is not a header's name; write letters, digits and `-`")
        } else if OWNED.contains(&lower.as_str()) || lower.starts_with(OWNED_PREFIX) {
            Some("is a header that the router sets itself; leave it out")
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
    named_templates(entries, known, report, |name| {
        let bad = name.is_empty() || name.chars().any(char::is_control);
        bad.then_some("is not a parameter's name; write letters and digits")
    })
}

fn named_templates(
    entries: &[Entry],
    known: &[String],
    report: &mut Report,
    wrong: impl Fn(&str) -> Option<&'static str>,
) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for Entry { key, at, node } in entries {
        if let Some(wrong) = wrong(key) {
            report.mistake(*at, format!("{} {wrong}", shown(key)));
        } else if let Some(value) = text(&node.value) {
            if template(&value, key, known, node.at, report) {
                found.retain(|(name, _)| !name.eq_ignore_ascii_case(key));
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
    fn header_names_are_tokens() {
        assert!(is_header_name("X-Figma-Token"));
        for bad in ["", "a b", "a:b", "ä", "a\n"] {
            assert!(!is_header_name(bad), "{bad}");
        }
    }
}
