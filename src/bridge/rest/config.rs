//! `config.json` of a service → [`RestConfig`]: complete and checked. Pure.
//!
//! Keys are those of the catalogue that mcpm reads (`name`, `displayName`, `port`, `api`, `auth`,
//! `tools`); what a bridge does not need is skipped. Three are mcpm's own: `api.headers` (sent with
//! every request), `auth.forwardHeaders` and `auth.forwardQuery` (which of the things that the
//! router injects go on to the API; by default `Authorization`, as received).

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Uri};
use serde_json::Value;

use super::reader::{Mistakes, Object, kind};
use super::tool::{ToolSpec, read_tools};
use crate::ids::Port;
use crate::outbound::origin;

/// Kinds of `auth.type` that the catalogue knows.
const AUTH_TYPES: [&str; 7] = [
    "none",
    "api_key",
    "bearer_token",
    "basic_auth",
    "oauth2",
    "oauth",
    "oauth1",
];

/// Headers that belong to the connection or to us, and so never to a configuration.
const OWN_HEADERS: [&str; 7] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "trailer",
];

/// What a bridge needs of a service's `config.json`.
#[derive(Clone, Debug)]
pub(super) struct RestConfig {
    /// Short name, as clients see it.
    pub(super) name: String,
    /// Name for people.
    pub(super) display_name: String,
    /// For people and models.
    pub(super) description: Option<String>,
    /// The service's version; ours when it has none.
    pub(super) version: Option<String>,
    /// Where to listen when nobody else says.
    pub(super) port: Option<Port>,
    /// Where the API is.
    pub(super) api: Api,
    /// What of the caller goes on to the API.
    pub(super) credential: Credential,
    /// What clients can call; at least one.
    pub(super) tools: Vec<ToolSpec>,
}

/// Where the API is.
#[derive(Clone, Debug, Default)]
pub(super) struct Api {
    /// `https://host/path`, without a final slash, query or fragment.
    pub(super) base: String,
    /// Sent with every request.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// What of the caller goes on to the API.
#[derive(Clone, Debug, Default)]
pub(super) struct Credential {
    /// A call without any of them is refused before the API is asked.
    pub(super) required: bool,
    /// Headers of the router's request.
    pub(super) headers: Vec<HeaderName>,
    /// Query parameters of the router's request.
    pub(super) query: Vec<String>,
}

impl RestConfig {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Every mistake, each with its path.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<String>> {
        let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| vec![format!("not JSON: {error}")])?;
        let mut mistakes = Mistakes::default();
        let config = read(&value, &mut mistakes);
        match config.filter(|_| mistakes.is_empty()) {
            Some(config) => Ok(config),
            None => Err(mistakes.into_list()),
        }
    }
}

fn read(value: &Value, mistakes: &mut Mistakes) -> Option<RestConfig> {
    let Some(map) = value.as_object() else {
        mistakes.note(
            "the file",
            format!("must hold an object, not {}", kind(value)),
        );
        return None;
    };
    let root = Object {
        map,
        path: String::new(),
    };
    let name = root.required_text("name", mistakes);
    let display_name = root.text("displayName", mistakes);
    let description = root.text("description", mistakes).map(str::to_owned);
    let version = root.text("version", mistakes).map(str::to_owned);
    let port = read_port(&root, mistakes);
    let api = read_api(&root, mistakes);
    let credential = read_auth(&root, mistakes);
    let tools = read_tools(&root, &credential, mistakes);
    Some(RestConfig {
        name: name?.to_owned(),
        display_name: display_name.or(name)?.to_owned(),
        description,
        version,
        port,
        api,
        credential,
        tools,
    })
}

fn read_port(root: &Object<'_>, mistakes: &mut Mistakes) -> Option<Port> {
    let value = root.get("port")?;
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    let port = number.and_then(Port::new);
    if port.is_none() {
        mistakes.note(
            "port",
            format!("is `{value}`; write a number from 1 to 65535"),
        );
    }
    port
}

fn read_api(root: &Object<'_>, mistakes: &mut Mistakes) -> Api {
    if root.get("api").is_none() {
        mistakes.note("api", "is missing; write `{ \"baseURL\": \"https://…\" }`");
    }
    let Some(api) = root.object("api", mistakes) else {
        return Api::default();
    };
    let base = api.required_text("baseURL", mistakes).unwrap_or_default();
    if !base.is_empty()
        && let Err(what) = check_base(base)
    {
        mistakes.note("api.baseURL", what);
    }
    let mut headers = Vec::new();
    if let Some(object) = api.object("headers", mistakes) {
        for (name, value) in object.map {
            let path = object.at(name);
            let text = value
                .as_str()
                .and_then(|text| HeaderValue::from_str(text).ok());
            match (read_header(name), text) {
                (Err(what), _) => mistakes.note(&path, what),
                (_, None) => mistakes.note(&path, "must be a text without control characters"),
                (Ok(name), Some(value)) => headers.push((name, value)),
            }
        }
    }
    Api {
        base: base.trim_end_matches('/').to_owned(),
        headers,
    }
}

fn check_base(base: &str) -> Result<(), String> {
    if base.contains(['{', '}', '?', '#']) {
        return Err("must be a plain address without placeholders, query or fragment".into());
    }
    let bad = || "must be an address such as `https://api.example.com/v1`".to_owned();
    let uri: Uri = base.parse().map_err(|_| bad())?;
    let authority = uri.authority().ok_or_else(bad)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
        return Err(bad());
    }
    if authority.as_str().contains('@') {
        return Err(format!(
            "`{}` must not contain a user or password",
            origin(&uri)
        ));
    }
    if uri.path().split('/').any(|part| matches!(part, "." | "..")) {
        return Err("must not contain the segments `.` or `..`".into());
    }
    Ok(())
}

fn read_header(name: &str) -> Result<HeaderName, String> {
    let header: HeaderName = name
        .parse()
        .map_err(|_| format!("`{name}` is not a header name"))?;
    let text = header.as_str();
    if OWN_HEADERS.contains(&text) || text.starts_with("x-mcpm-") || text.starts_with("proxy-") {
        return Err(format!("`{name}` is not for a configuration to send"));
    }
    Ok(header)
}

fn read_auth(root: &Object<'_>, mistakes: &mut Mistakes) -> Credential {
    let Some(auth) = root.object("auth", mistakes) else {
        return Credential::default();
    };
    let kind = auth.text("type", mistakes).unwrap_or("none");
    if kind == "oauth1" {
        mistakes.note(
            "auth.type",
            "`oauth1` is not supported yet; use `oauth2` or `api_key`",
        );
    } else if !AUTH_TYPES.contains(&kind) {
        let known = AUTH_TYPES[..6]
            .iter()
            .map(|one| format!("`{one}`"))
            .collect::<Vec<_>>();
        mistakes.note(
            "auth.type",
            format!("is `{kind}`; write one of {}", known.join(", ")),
        );
    }
    let mut headers = Vec::new();
    for (index, name) in auth
        .texts("forwardHeaders", mistakes)
        .into_iter()
        .enumerate()
    {
        match read_header(name) {
            Ok(header) => headers.push(header),
            Err(what) => mistakes.note(&format!("auth.forwardHeaders[{index}]"), what),
        }
    }
    let query: Vec<String> = auth
        .texts("forwardQuery", mistakes)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let required = kind != "none";
    let named = auth.get("forwardHeaders").is_some() || !query.is_empty();
    if required && !named {
        headers.push(AUTHORIZATION);
    }
    Credential {
        required,
        headers,
        query,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({
            "name": "x", "api": { "baseURL": "https://api.example.com/v1/" },
            "auth": { "type": "api_key" },
            "tools": [{ "name": "get", "endpoint": "/a/{id}", "parameters": { "id": {} } }],
        })
    }

    #[test]
    fn a_minimal_file_gets_its_defaults() {
        let config = RestConfig::parse(&minimal().to_string()).unwrap();
        assert_eq!((config.display_name.as_str(), config.port), ("x", None));
        assert_eq!(config.api.base, "https://api.example.com/v1");
        assert_eq!(config.credential.headers, [AUTHORIZATION]);
        assert!(config.credential.required);
        let tool = &config.tools[0];
        assert_eq!(tool.method, Method::GET);
        assert!(
            tool.parameters[0].required,
            "a placeholder's value is required"
        );
    }

    #[test]
    fn all_mistakes_come_at_once_each_with_its_path() {
        let text = json!({
            "displayName": 7, "port": 70000,
            "api": { "baseURL": "api.example.com", "headers": { "Host": "x", "A": 1 } },
            "auth": { "type": "magic", "forwardHeaders": ["X-MCPM-Router-Secret", 3] },
            "tools": [
                { "name": "a b", "method": "FETCH", "endpoint": "a" },
                { "name": "t", "endpoint": "/{y}", "parameters": { "z": { "type": "int" } } },
                { "name": "t", "endpoint": "/" },
                "nonsense",
            ],
        });
        let mistakes = RestConfig::parse(&text.to_string()).unwrap_err();
        let starts = [
            "name: is missing",
            "displayName: must be a text",
            "port: is `70000`",
            "api.baseURL: must be an address",
            "api.headers.Host: `Host` is not",
            "api.headers.A: must be a text",
            "auth.type: is `magic`",
            "auth.forwardHeaders[1]: must be a text",
            "auth.forwardHeaders[0]: `X-MCPM-Router-Secret` is not",
            "tools[0].name: `a b` is not",
            "tools[0].method: is `FETCH`",
            "tools[0].endpoint: must start with `/`",
            "tools[1].parameters.z.type: is `int`",
            "tools[1].endpoint: `{y}` is not",
            "tools[2].name: `t` is there twice",
            "tools[3]: must be an object, not a string",
        ];
        assert_eq!(mistakes.len(), starts.len(), "{mistakes:#?}");
        for (mistake, start) in mistakes.iter().zip(starts) {
            assert!(mistake.starts_with(start), "{mistake} / {start}");
        }
    }

    #[test]
    fn what_is_forwarded_depends_on_the_kind_and_on_what_is_said() {
        let with = |auth: Value| {
            let mut text = minimal();
            text["auth"] = auth;
            let read = RestConfig::parse(&text.to_string()).unwrap().credential;
            (read.required, read.headers.len(), read.query.len())
        };
        assert_eq!(with(json!({ "type": "none" })), (false, 0, 0));
        assert_eq!(with(Value::Null), (false, 0, 0));
        assert_eq!(with(json!({ "type": "oauth" })), (true, 1, 0));
        let both = json!({ "type": "api_key", "forwardHeaders": ["X-A", "X-B"] });
        assert_eq!(with(both), (true, 2, 0));
        assert_eq!(
            with(json!({ "type": "api_key", "forwardQuery": ["appid"] })),
            (true, 0, 1)
        );
    }

    #[test]
    fn base_addresses_are_plain() {
        for good in [
            "https://a.example",
            "http://127.0.0.1:8080/v1/x",
            "https://[::1]/",
        ] {
            assert!(check_base(good).is_ok(), "{good}");
        }
        for bad in [
            "https://{site}.example.com",
            "https://a.example/?x=1",
            "https://u:p@a.example",
            "https://a.example/a/../b",
            "ftp://a.example",
            "/v1",
        ] {
            let what = check_base(bad).unwrap_err();
            assert!(!what.contains("u:p"), "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", value in "[\\[\\]{}\":,a-z0-9 ]{0,64}") {
            let _ = RestConfig::parse(&text);
            let _ = RestConfig::parse(&value);
            let _ = RestConfig::parse(&format!(r#"{{"name":"x","tools":[{{"endpoint":{text:?}}}]}}"#));
        }
    }
}
