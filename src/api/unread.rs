//! What is said of a query or a body that cannot be read: which parameter or field, what is wrong, and
//! never a value, which may be a key. Pure.

use serde_json::error::Category;

/// Names are repeated up to this many characters.
const NAME_SHOWN: usize = 64;

/// Of a body. serde names what it found, and a value there may be a key: only the place is told.
pub(super) fn body(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let known = error.to_string();
    let what = match error.classify() {
        Category::Data if known.starts_with("invalid type: sequence, expected struct") => {
            "has a list in the place of an object"
        }
        Category::Data => "is JSON, but not of the form it must have",
        _ => "is not JSON",
    };
    let field = known
        .split('`')
        .nth(1)
        .filter(|_| known.starts_with("missing field") || known.starts_with("unknown field"));
    let field = field
        .map(|name| format!(" (see `{name}`)"))
        .unwrap_or_default();
    format!("the body {what}, at line {line}, column {column}{field}")
}

/// Of a query, from what its reader says: a path and a reason, or a reason with names in backticks.
pub(super) fn query(said: &str) -> String {
    let said = said
        .split_once("query string: ")
        .map_or(said, |(_, said)| said);
    let named = |words: &str| {
        let (_, rest) = said.split_once(words)?;
        rest.split_once('`')
    };
    if let Some((name, rest)) = named("unknown field `") {
        let name: String = name.chars().take(NAME_SHOWN).collect();
        let known: Vec<String> = rest
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|name| format!("`{name}`"))
            .collect();
        let known = match known.len() {
            0 => "there are none".to_owned(),
            1 => format!("there is {}", known.concat()),
            _ => format!("there are {}", known.join(", ")),
        };
        return format!("there is no parameter `{name}` here; {known}");
    }
    if let Some((name, _)) = named("missing field `") {
        return format!("the parameter `{name}` is missing");
    }
    if let Some((name, _)) = named("duplicate field `") {
        return format!("the parameter `{name}` is given more than once");
    }
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match said.split_once(": ") {
        Some((name, _)) if is_name(name) => format!(
            "the parameter `{name}` has a value that it cannot have; `/api/v1/openapi.json` says which"
        ),
        _ => "the query cannot be read; `/api/v1/openapi.json` says what it may hold".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Wanted {
        limit: Option<u32>,
        active: Option<bool>,
        state: String,
    }

    #[track_caller]
    fn check(given: &str, expected: &str) {
        let uri = format!("/x?{given}").parse().unwrap();
        let refused = Query::<Wanted>::try_from_uri(&uri).unwrap_err();
        assert_eq!(query(&refused.body_text()), expected, "{given}");
    }

    #[test]
    fn a_query_is_refused_by_the_name_of_its_parameter() {
        let value = |name: &str| {
            format!(
                "the parameter `{name}` has a value that it cannot have; `/api/v1/openapi.json` says \
                 which"
            )
        };
        check("state=x&limit=many", &value("limit"));
        check("state=x&limit=-1", &value("limit"));
        check("state=x&active=perhaps", &value("active"));
        check("limit=1", "the parameter `state` is missing");
        let twice = "the parameter `limit` is given more than once";
        check("state=x&limit=1&limit=2", twice);
        let known = "; there are `limit`, `active`, `state`";
        let none = |name: &str| format!("there is no parameter `{name}` here{known}");
        check("state=x&lim=1", &none("lim"));
        check(&format!("{}=1", "n".repeat(99)), &none(&"n".repeat(64)));
    }

    #[test]
    fn a_body_is_refused_by_its_place_and_without_a_value() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its errors are looked at")]
        struct Wanted {
            key: String,
        }
        for (text, expected) in [
            ("[\"hunter2\"]", "has a list in the place of an object"),
            ("{\"key\":[\"hunter2\"]}", "not of the form it must have"),
            ("{\"key\":2}", "not of the form it must have"),
            ("{}", "(see `key`)"),
            ("{\"key\":\"hunter2\"", "is not JSON"),
        ] {
            let error = crate::api::objects::read::<Wanted>(text.as_bytes()).unwrap_err();
            let said = body(&error);
            assert!(said.contains(expected), "{text}: {said}");
            assert!(
                said.contains("line 1") && !said.contains("hunter2"),
                "{said}"
            );
        }
    }
}
