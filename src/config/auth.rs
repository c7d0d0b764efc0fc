//! The `auth` block of a service → what a user must give, and where it goes.
//!
//! No secret of the operator may stand in a file: a literal OAuth client secret refuses the file,
//! and its value appears in no message.

use super::error::{Report, shown};
use super::fields::{self, Fields};
use super::headers::{self, is_field_name};
use super::keys::{AUTH, AUTH_FIELD, BASIC, INJECT};
use super::spec::{AuthField, AuthKind, AuthSpec, InjectSpec};
use super::syntax::{Node, Place, Value};
use super::validate::validate;

const AUTHORIZATION: &str = "Authorization";
/// The field that the OAuth flow itself fills.
const ACCESS_TOKEN: &str = "access_token";

/// A service that asks for nothing.
pub(crate) fn none() -> AuthSpec {
    AuthSpec {
        kind: AuthKind::None,
        fields: Vec::new(),
        inject: InjectSpec::default(),
        validate: None,
        oauth: None,
    }
}

/// One key, sent as a bearer token: what services of the reference system expect.
pub(crate) fn reference_api_key() -> AuthSpec {
    let fields = default_fields(AuthKind::ApiKey);
    let inject = default_inject(AuthKind::ApiKey, &fields).unwrap_or_default();
    AuthSpec {
        kind: AuthKind::ApiKey,
        fields,
        inject,
        ..none()
    }
}

/// Reads it; a text is its `type`.
pub(crate) fn read(node: Option<&Node>, report: &mut Report) -> AuthSpec {
    let Some(node) = node else { return none() };
    refuse_client_secrets(node, report);
    match &node.value {
        Value::Text(word) => from_fields(&Fields::default(), word, node.at, report),
        Value::Map(entries) => {
            let fields = fields::read(entries, node.at, &AUTH, report);
            if fields.lacks("type") {
                report.mistake(node.at, format!("`auth` has no `type`; write {KINDS}"));
            }
            let word = fields.text("type").unwrap_or("none");
            from_fields(&fields, word, fields.place("type"), report)
        }
        _ => none(),
    }
}

const KINDS: &str = "`api_key`, `bearer_token`, `basic_auth`, `oauth2` or `none`";

fn from_fields(given: &Fields, word: &str, at: Place, report: &mut Report) -> AuthSpec {
    // With a kind that is none, the rest of the block is read all the same: every mistake at once.
    let kind = kind(word, at, report).unwrap_or(AuthKind::None);
    let mut fields = auth_fields(given.raw("fields"), report);
    if fields.is_empty() {
        fields = default_fields(kind);
    }
    let mut known: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    if kind == AuthKind::Oauth2 {
        known.push(ACCESS_TOKEN.to_owned());
    }
    let mut inject = inject(given, &known, report);
    if inject == InjectSpec::default() {
        inject = default_inject(kind, &fields).unwrap_or_else(|| {
            let message = "`basic_auth` needs fields `username` and `password`, or `inject.basic`";
            report.mistake(at, message);
            InjectSpec::default()
        });
    }
    let validate = validate(given, &known, &inject, report);
    let oauth = given.raw("oauth").map(Node::to_json);
    if oauth.is_some() && kind != AuthKind::Oauth2 {
        report.warn(
            given.place("oauth"),
            "`oauth` means nothing unless `type` is `oauth2`",
        );
    }
    AuthSpec {
        kind,
        fields,
        inject,
        validate,
        oauth,
    }
}

fn kind(word: &str, at: Place, report: &mut Report) -> Option<AuthKind> {
    Some(match word {
        "none" => AuthKind::None,
        "api_key" | "apiKey" => AuthKind::ApiKey,
        "bearer_token" | "bearerToken" | "bearer" => AuthKind::BearerToken,
        "basic_auth" | "basicAuth" | "basic" => AuthKind::BasicAuth,
        "oauth2" | "oauth" => {
            let message =
                "`oauth2` is not acted upon yet: nobody can get an instance of this service";
            report.warn(at, message);
            AuthKind::Oauth2
        }
        "oauth1" => {
            let message = "OAuth 1 (`oauth1`) is not built yet; take the service out, or write \
                           `oauth2` or `api_key` if it can do that";
            report.mistake(at, message);
            return None;
        }
        other => {
            report.mistake(at, format!("`type` is {}; write {KINDS}", shown(other)));
            return None;
        }
    })
}

fn auth_fields(node: Option<&Node>, report: &mut Report) -> Vec<AuthField> {
    let mut found: Vec<AuthField> = Vec::new();
    let items = match node.map(|node| &node.value) {
        Some(Value::List(items)) => items.as_slice(),
        Some(Value::Map(_)) => node.map(std::slice::from_ref).unwrap_or_default(),
        _ => &[],
    };
    for item in items {
        let Value::Map(entries) = &item.value else {
            let message = format!("a field is {}; write a map with a `name`", item.described());
            report.mistake(item.at, message);
            continue;
        };
        let fields = fields::read(entries, item.at, &AUTH_FIELD, report);
        let Some(field) = auth_field(&fields, report) else {
            continue;
        };
        if found.iter().any(|other| other.name == field.name) {
            let message = format!("the field {} is declared twice", shown(&field.name));
            report.mistake(fields.place("name"), message);
        } else {
            found.push(field);
        }
    }
    found
}

fn auth_field(fields: &Fields, report: &mut Report) -> Option<AuthField> {
    let name = match fields.owned_text("name") {
        Some(name) if is_field_name(&name) => name,
        Some(name) => {
            let message = format!(
                "{} is not a field's name; write letters, digits and `_`",
                shown(&name)
            );
            report.mistake(fields.place("name"), message);
            return None;
        }
        None => {
            if fields.lacks("name") {
                report.mistake(fields.at, "a field has no `name`");
            }
            return None;
        }
    };
    let secret = match fields.text("type") {
        None | Some("password" | "secret" | "token" | "hidden") => true,
        Some("text" | "string" | "email" | "url" | "number" | "textarea" | "select" | "tel") => {
            false
        }
        Some(other) => {
            let message = format!(
                "{} is not a known type of field; it is hidden as `password` is",
                shown(other)
            );
            report.warn(fields.place("type"), message);
            true
        }
    };
    let default = fields.owned_text("default");
    let required = fields.flag("required").unwrap_or(default.is_none());
    let description = fields.owned_text("description");
    Some(AuthField {
        name,
        secret,
        required,
        description,
        default,
    })
}

fn default_fields(kind: AuthKind) -> Vec<AuthField> {
    let field = |name: &str, secret| AuthField {
        name: name.to_owned(),
        secret,
        required: true,
        description: None,
        default: None,
    };
    match kind {
        AuthKind::None | AuthKind::Oauth2 => Vec::new(),
        AuthKind::ApiKey => vec![field("api_key", true)],
        AuthKind::BearerToken => vec![field("token", true)],
        AuthKind::BasicAuth => vec![field("username", false), field("password", true)],
    }
}

/// `None` when the fields do not say which are user and password.
fn default_inject(kind: AuthKind, fields: &[AuthField]) -> Option<InjectSpec> {
    let bearer = |name: &str| InjectSpec {
        headers: vec![(AUTHORIZATION.to_owned(), format!("Bearer {{{name}}}"))],
        ..InjectSpec::default()
    };
    let of = |wanted: &dyn Fn(&&AuthField) -> bool| fields.iter().find(wanted);
    match kind {
        AuthKind::None => Some(InjectSpec::default()),
        AuthKind::Oauth2 => Some(bearer(ACCESS_TOKEN)),
        AuthKind::ApiKey | AuthKind::BearerToken => {
            let field = of(&|f| f.required && f.secret).or_else(|| of(&|f| f.secret));
            Some(bearer(&field.or_else(|| fields.first())?.name))
        }
        AuthKind::BasicAuth => {
            let user = of(&|f| f.name == "username").or_else(|| of(&|f| !f.secret))?;
            let password = of(&|f| f.name == "password").or_else(|| of(&|f| f.secret))?;
            let basic = (
                format!("{{{}}}", user.name),
                format!("{{{}}}", password.name),
            );
            Some(InjectSpec {
                basic: Some(basic),
                ..InjectSpec::default()
            })
        }
    }
}

fn inject(auth: &Fields, known: &[String], report: &mut Report) -> InjectSpec {
    let entries = auth.entries("inject");
    let given = fields::read(entries, auth.place("inject"), &INJECT, report);
    let inject = InjectSpec {
        headers: headers::headers(given.entries("headers"), known, report),
        query: headers::query(given.entries("query"), known, report),
        basic: basic(given.raw("basic"), known, report),
    };
    let header = inject
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION));
    if header && inject.basic.is_some() {
        report.mistake(
            given.place("basic"),
            "`basic` and a header `Authorization` clash; keep one",
        );
    }
    inject
}

fn basic(node: Option<&Node>, known: &[String], report: &mut Report) -> Option<(String, String)> {
    let node = node?;
    let (user, password) = match &node.value {
        Value::Text(text) => match text.split_once(':') {
            Some((user, password)) => (user.to_owned(), password.to_owned()),
            None => {
                report.mistake(
                    node.at,
                    "`basic` has no colon; write `\"{username}:{password}\"`",
                );
                return None;
            }
        },
        Value::Map(entries) => {
            let fields = fields::read(entries, node.at, &BASIC, report);
            let Some(user) = fields.owned_text("username") else {
                if fields.lacks("username") {
                    report.mistake(node.at, "`basic` has no `username`; write a template");
                }
                return None;
            };
            (user, fields.owned_text("password").unwrap_or_default())
        }
        _ => return None,
    };
    let fine = headers::template(&user, "basic", known, node.at, report)
        && headers::template(&password, "basic", known, node.at, report);
    fine.then_some((user, password))
}

/// Looks at keys only, at every depth: the file may hold the name of a secret, never the secret.
fn refuse_client_secrets(node: &Node, report: &mut Report) {
    match &node.value {
        Value::List(items) => items
            .iter()
            .for_each(|item| refuse_client_secrets(item, report)),
        Value::Map(entries) => {
            for entry in entries {
                let key = entry.key.to_ascii_lowercase().replace(['_', '-'], "");
                match key.as_str() {
                    "clientsecret" => {
                        let message = "a client secret must not stand in a file; write \
                                       `client_secret_env` with a variable's name, or \
                                       `client_secret_file` with a path";
                        report.mistake(entry.at, message);
                    }
                    "clientsecretenv" | "clientsecretfile" if !matches!(&entry.node.value, Value::Text(text) if !text.is_empty()) =>
                    {
                        report.mistake(entry.node.at, format!("{} is no text", shown(&entry.key)));
                    }
                    _ => refuse_client_secrets(&entry.node, report),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::json;
    use super::*;

    fn auth(text: &str) -> (AuthSpec, Report) {
        let mut report = Report::new(Some("f"));
        let node = json::parse(text).unwrap();
        let auth = read(Some(&node), &mut report);
        (auth, report)
    }

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let error = auth(text).1.finish().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn each_kind_has_fields_and_an_injection_of_its_own() {
        let bearer = |name: &str| vec![pair("Authorization", &format!("Bearer {{{name}}}"))];
        assert_eq!(auth("'api_key'").0.inject.headers, bearer("api_key"));
        assert_eq!(
            auth("{type: 'bearer_token'}").0.inject.headers,
            bearer("token")
        );
        assert_eq!(
            auth("{type: 'oauth'}").0.inject.headers,
            bearer("access_token")
        );
        assert_eq!(auth("{type: 'oauth'}").0.kind, AuthKind::Oauth2);
        assert_eq!(
            auth("'basic_auth'").0.inject.basic,
            Some(pair("{username}", "{password}"))
        );
        assert_eq!(auth("'none'").0, none());
        let own = auth("{type: 'api_key', fields: [{name: 'host', type: 'url'}, {name: 'k'}]}").0;
        assert_eq!(own.inject.headers, bearer("k"));
        assert!(own.fields[1].secret && own.fields[1].required && !own.fields[0].secret);
    }

    #[test]
    fn the_example_of_the_papers_is_read() {
        let (auth, report) = auth(
            "{type: 'api_key', fields: [{name: 'api_key', type: 'password', required: true}],
              inject: {headers: {'X-Figma-Token': '{api_key}'}, query: {v: '1'}},
              validate: {url: 'https://api.figma.com/v1/me', expect: 200}}",
        );
        assert!(report.finish().unwrap().is_empty());
        assert_eq!(auth.inject.headers, [pair("X-Figma-Token", "{api_key}")]);
        assert_eq!(auth.inject.query, [pair("v", "1")]);
        let validate = auth.validate.unwrap();
        assert_eq!(
            (validate.method.as_str(), validate.expect),
            ("GET", vec![200])
        );
        assert_eq!(validate.send, auth.inject);
    }

    #[test]
    fn validation_sends_what_is_injected_unless_it_has_headers_of_its_own() {
        let send = |text: &str| auth(text).0.validate.unwrap().send;
        let basic = send("{type: 'basic_auth', validate: {url: 'https://x'}}");
        assert_eq!(basic.basic, Some(pair("{username}", "{password}")));
        let query = send(
            "{type: 'api_key', inject: {query: {appid: '{api_key}'}}, validate: {url: 'https://x'}}",
        );
        assert_eq!(query.query, [pair("appid", "{api_key}")]);
        let own = send(
            "{type: 'basic_auth', validate: {url: 'https://x', headers: {'X-K': '{password}'}}}",
        );
        assert_eq!(own.headers, [pair("X-K", "{password}")]);
        assert_eq!((own.basic, own.query.len()), (None, 0));
    }

    #[test]
    fn what_must_not_be_injected_is_refused() {
        let inject =
            |headers: &str| format!("{{type: 'api_key', inject: {{headers: {{{headers}}}}}}}");
        refused(&inject("'X-MCPM-User-Id': '1'"), "router sets itself");
        refused(&inject("'Host': 'x'"), "router sets itself");
        refused(&inject("'a b': 'x'"), "not a header's name");
        refused(&inject("'X-A': '{nope}'"), "write `{api_key}`");
        refused(&inject("'X-A': 'a\\nb'"), "control characters");
        refused("{type: 'oauth1'}", "not built yet");
        refused("{type: 'magic'}", "write `api_key`");
        refused("{fields: []}", "has no `type`");
        refused(
            "{type: 'api_key', fields: [{name: 'a'}, {name: 'a'}, {}, 3]}",
            "declared twice",
        );
        refused("{type: 'api_key', validate: {url: 'ftp://x'}}", "https://");
    }

    #[test]
    fn a_client_secret_refuses_the_file_and_is_not_repeated() {
        for key in ["client_secret", "clientSecret", "Client-Secret"] {
            let text = format!("{{type: 'oauth2', oauth: {{x: [{{'{key}': 'hunter2'}}]}}}}");
            let error = auth(&text).1.finish().unwrap_err().to_string();
            assert!(
                error.contains("client_secret_env") && !error.contains("hunter2"),
                "{error}"
            );
        }
        let fine = "{type: 'oauth2', oauth: {client_secret_env: 'FIGMA_SECRET'}}";
        let (auth, report) = auth(fine);
        assert_eq!(report.finish().unwrap().len(), 1); // Not acted upon yet.
        assert_eq!(auth.oauth.unwrap()["client_secret_env"], "FIGMA_SECRET");
    }
}
