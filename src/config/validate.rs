//! The `validate` block of `auth` → how to ask an external service whether a credential is right.

use std::time::Duration;

use super::error::{Report, shown};
use super::fields::{self, Fields};
use super::headers;
use super::health::statuses;
use super::keys::{VALIDATE, VALIDATE_JSON};
use super::spec::{InjectSpec, JsonCheck, ValidateSpec};
use super::syntax::{Node, Value};

/// A key that was withdrawn must be of no use some day.
const CACHE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Reads it, if there is one.
pub(super) fn validate(
    auth: &Fields,
    known: &[String],
    inject: &InjectSpec,
    report: &mut Report,
) -> Option<ValidateSpec> {
    let node = auth.raw("validate")?;
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let fields = fields::read(entries, node.at, &VALIDATE, report);
    let Some(url) = fields.owned_text("url") else {
        if fields.lacks("url") {
            report.mistake(node.at, "`validate` has no `url`; write an `https` address");
        }
        return None;
    };
    // Its own headers, or everything that the service itself gets.
    let send = if fields.has("headers") {
        InjectSpec {
            headers: headers::headers(fields.entries("headers"), known, report),
            ..InjectSpec::default()
        }
    } else {
        inject.clone()
    };
    let at = fields.place("url");
    let web = ["https://", "http://", "{"]
        .iter()
        .any(|start| url.starts_with(start));
    if !web || url.contains(char::is_whitespace) || url.contains('#') {
        report.mistake(
            at,
            "`url` is not a web address; write one that begins with `https://`",
        );
        return None;
    }
    headers::template(&url, "url", known, at, report);
    let mut expect = statuses(&fields, "expect");
    if expect.is_empty() {
        expect.push(200);
    }
    let method = fields
        .owned_text("method")
        .unwrap_or_else(|| "GET".to_owned());
    Some(ValidateSpec {
        url,
        send,
        expect,
        json: json(&fields, &method, report),
        method,
        cache: cache(&fields, report),
    })
}

fn cache(validate: &Fields, report: &mut Report) -> Duration {
    match validate.duration("cache") {
        None => ValidateSpec::CACHE,
        Some(given) if given > CACHE_MAX => {
            let message = "`cache` is longer than a day; write a time such as `\"5m\"`";
            report.mistake(validate.place("cache"), message);
            ValidateSpec::CACHE
        }
        Some(given) => given,
    }
}

fn json(validate: &Fields, method: &str, report: &mut Report) -> Option<JsonCheck> {
    let node = validate.raw("json")?;
    if method == "HEAD" {
        let message = "`json` asks for an answer with a body, which `HEAD` has not; write `GET`";
        report.mistake(node.at, message);
    }
    let (at, is) = match &node.value {
        Value::Text(at) => (at.clone(), None),
        Value::Map(entries) => {
            let fields = fields::read(entries, node.at, &VALIDATE_JSON, report);
            let Some(at) = fields.owned_text("at") else {
                if fields.lacks("at") {
                    let message = "`json` has no `at`; write where to look, such as `ok`";
                    report.mistake(node.at, message);
                }
                return None;
            };
            let is = fields.raw("is").map(|node| wanted(node, report));
            (at, is)
        }
        _ => return None,
    };
    let Some(at) = pointer(&at) else {
        let message = format!(
            "`json` looks at {}; write names with dots between them, or a JSON Pointer such as `/ok`",
            shown(&at)
        );
        report.mistake(node.at, message);
        return None;
    };
    Some(JsonCheck { at, is })
}

fn wanted(node: &Node, report: &mut Report) -> serde_json::Value {
    if matches!(node.value, Value::List(_) | Value::Map(_)) {
        let message = "`is` is no single value; write a text, a number, `true` or `false`";
        report.mistake(node.at, message);
    }
    node.to_json()
}

/// A path with dots as a JSON Pointer (RFC 6901); one that is a pointer already stays.
fn pointer(at: &str) -> Option<String> {
    if at.is_empty() || at.chars().any(char::is_control) {
        return None;
    }
    if at.starts_with('/') {
        // `~` stands only before 0 and 1 (RFC 6901 §3).
        let escapes = at.split('~').skip(1);
        let fine = escapes.into_iter().all(|rest| rest.starts_with(['0', '1']));
        return fine.then(|| at.to_owned());
    }
    let names: Vec<&str> = at.split('.').collect();
    if names.iter().any(|name| name.is_empty()) {
        return None;
    }
    let escaped = names
        .iter()
        .map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
    Some(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::super::auth;
    use super::super::syntax::json as read_json;
    use super::*;

    fn read(validate: &str) -> (Option<ValidateSpec>, Report) {
        let mut report = Report::new(Some("f"));
        let text = format!("{{type: 'api_key', validate: {validate}}}");
        let node = read_json::parse(&text).unwrap();
        let spec = auth::read(Some(&node), &mut report);
        (spec.validate, report)
    }

    fn checked(json: &str) -> JsonCheck {
        let (spec, report) = read(&format!("{{url: 'https://x', json: {json}}}"));
        assert!(report.finish().unwrap().is_empty());
        spec.unwrap().json.unwrap()
    }

    #[track_caller]
    fn refused(rest: &str, part: &str) {
        let (_, report) = read(&format!("{{url: 'https://x', {rest}}}"));
        let error = report.finish().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn what_an_answer_must_say_is_written_in_two_ways() {
        let check = |at: &str, is: Option<serde_json::Value>| JsonCheck { at: at.into(), is };
        assert_eq!(checked("'ok'"), check("/ok", None));
        assert_eq!(
            checked("{at: 'ok', is: true}"),
            check("/ok", Some(true.into()))
        );
        assert_eq!(
            checked("{at: 'data.viewer.a/b~c', is: 'x'}"),
            check("/data/viewer/a~1b~0c", Some("x".into()))
        );
        assert_eq!(
            checked("{at: '/data/0/a~1b', is: 7}"),
            check("/data/0/a~1b", Some(7.into()))
        );
        let (spec, _) = read("{url: 'https://x'}");
        assert_eq!(spec.unwrap().json, None);
    }

    #[test]
    fn what_cannot_be_looked_at_is_refused() {
        refused("json: ''", "names with dots");
        refused("json: 'a..b'", "names with dots");
        refused("json: '/a~2'", "names with dots");
        refused("json: {is: true}", "no `at`");
        refused("json: {at: 'a', is: [1]}", "no single value");
        refused("json: 'ok', method: 'HEAD'", "write `GET`");
        refused("json: 7", "json");
    }

    #[test]
    fn a_good_answer_counts_for_five_minutes_unless_told_otherwise() {
        let cache = |rest: &str| {
            read(&format!("{{url: 'https://x' {rest}}}"))
                .0
                .unwrap()
                .cache
        };
        assert_eq!(cache(""), Duration::from_secs(300));
        assert_eq!(cache(", cache: '30s'"), Duration::from_secs(30));
        assert_eq!(cache(", cache: 0"), Duration::ZERO);
        refused("cache: '2d'", "longer than a day");
    }

    #[test]
    fn a_rule_of_an_older_release_is_still_read() {
        let old = r#"{"url":"https://x","method":"GET","send":{"headers":[],"query":[],"basic":null},"expect":[200]}"#;
        let spec: ValidateSpec = serde_json::from_str(old).unwrap();
        assert_eq!((spec.json, spec.cache), (None, ValidateSpec::CACHE));
    }
}
