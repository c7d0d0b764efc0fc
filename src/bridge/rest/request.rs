//! Tool + arguments + caller → the request to the API. Pure.
//!
//! Placeholders are filled, what is left becomes the query (GET, HEAD, DELETE) or a JSON body. Of
//! the caller's headers only those go on that the configuration names; they were injected by the
//! router for this very request.

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use serde_json::{Map, Value};

use super::config::{Credential, RestConfig};
use super::parameter::{Parameter, plain};
use super::tool::ToolSpec;
use crate::bridge::caller::Caller;
use crate::outbound::encode;

/// Longest address that is sent; common servers refuse longer ones with an empty page.
const URL_MAX: usize = 16 * 1024;

/// Names of arguments are echoed up to this many characters.
const NAME_SHOWN: usize = 64;

/// Why a call was not sent. The model reads it and can do better.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// What is wrong with the arguments, all of it.
    #[error("{}", .0.join("; "))]
    Arguments(Vec<String>),
    /// Nothing of what the API wants came with the request.
    #[error(
        "no credential came with this call; the service's `auth.inject` must send what its \
         `config.json` forwards"
    )]
    NoCredential,
    /// The arguments make too long an address.
    #[error("the arguments make an address of more than {URL_MAX} bytes; send less")]
    TooLong,
    /// What came out is not an address.
    #[error("the arguments do not make an address")]
    NotAnAddress,
}

/// The request that a call of this tool becomes.
pub(super) fn build(
    config: &RestConfig,
    tool: &ToolSpec,
    arguments: &Map<String, Value>,
    caller: &Caller<'_>,
) -> Result<Request<Bytes>, CallError> {
    let values = check(&tool.parameters, arguments)?;
    let texts: Vec<(&str, String)> = values.iter().map(|&(n, value)| (n, plain(value))).collect();
    let find = |name: &str| {
        texts
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, t)| t.as_str())
    };
    let (path, mut query) = tool.endpoint.fill(find).map_err(|unfit| {
        let shown = &unfit.name;
        let what = format!("argument `{shown}` cannot stand in a path: it is empty or only dots");
        CallError::Arguments(vec![what])
    })?;
    let in_path: Vec<&str> = tool.endpoint.placeholders().collect();
    let rest = values.iter().filter(|(name, _)| !in_path.contains(name));
    let mut body = Bytes::new();
    let in_query = matches!(tool.method, Method::GET | Method::HEAD | Method::DELETE);
    if in_query {
        rest.for_each(|(name, value)| add_to_query(&mut query, name, value));
    } else {
        let object: Map<_, _> = rest
            .map(|&(name, value)| (name.into(), value.clone()))
            .collect();
        body = Bytes::from(Value::Object(object).to_string());
    }
    let headers = headers(config, caller, &mut query, !in_query)?;
    let mut request = Request::new(body);
    *request.method_mut() = tool.method.clone();
    *request.uri_mut() = address(&config.api.base, &path, query.as_deref())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// What a call of each tool of a `config.json` with these arguments would send; sends nothing. For
/// fuzzing, and for trying a file out.
///
/// # Errors
/// Every mistake of the file. For a single tool: why the call would be refused.
pub fn dry_run(
    config: &str,
    arguments: &Map<String, Value>,
    from_router: &Parts,
) -> Result<Vec<Result<Request<Bytes>, String>>, Vec<String>> {
    let config = RestConfig::parse(config)?;
    let caller = Caller::from_parts(from_router);
    let one = |tool| build(&config, tool, arguments, &caller).map_err(|error| error.to_string());
    Ok(config.tools.iter().map(one).collect())
}

/// The value of each parameter that has one, in the order of the file.
fn check<'a>(
    parameters: &'a [Parameter],
    arguments: &'a Map<String, Value>,
) -> Result<Vec<(&'a str, &'a Value)>, CallError> {
    let mut wrong = Vec::new();
    let mut values = Vec::new();
    for parameter in parameters {
        let name = parameter.name.as_str();
        let given = arguments.get(name).filter(|value| !value.is_null());
        match given.or(parameter.default.as_ref()) {
            Some(value) => match parameter.check(value) {
                Ok(()) => values.push((name, value)),
                Err(what) => wrong.push(format!("argument `{name}` {what}")),
            },
            None if parameter.required => wrong.push(format!("argument `{name}` is missing")),
            None => {}
        }
    }
    for name in arguments.keys() {
        if !parameters.iter().any(|parameter| parameter.name == *name) {
            let shown: String = name.chars().take(NAME_SHOWN).collect();
            wrong.push(format!("argument `{shown}` is unknown"));
        }
    }
    if wrong.is_empty() {
        Ok(values)
    } else {
        Err(CallError::Arguments(wrong))
    }
}

/// Lists become the parameter repeated, as HTML forms do it.
fn add_to_query(query: &mut Option<String>, name: &str, value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| add_pair(query, name, item)),
        value => add_pair(query, name, value),
    }
}

fn add_pair(query: &mut Option<String>, name: &str, value: &Value) {
    add_raw(
        query,
        &format!("{}={}", encode(name), encode(&plain(value))),
    );
}

fn add_raw(query: &mut Option<String>, pair: &str) {
    let query = query.get_or_insert_default();
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(pair);
}

fn headers(
    config: &RestConfig,
    caller: &Caller<'_>,
    query: &mut Option<String>,
    has_body: bool,
) -> Result<HeaderMap, CallError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &config.api.headers {
        headers.insert(name, value.clone());
    }
    if !forward(&config.credential, caller, &mut headers, query) && config.credential.required {
        return Err(CallError::NoCredential);
    }
    Ok(headers)
}

/// Copies the caller's credential; whether there was any.
fn forward(
    credential: &Credential,
    caller: &Caller<'_>,
    headers: &mut HeaderMap,
    query: &mut Option<String>,
) -> bool {
    let mut found = false;
    for name in &credential.headers {
        if let Some(value) = caller.injected(name.as_str()) {
            let mut value = value.clone();
            value.set_sensitive(true);
            headers.insert(name, value);
            found = true;
        }
    }
    for name in &credential.query {
        if let Some(pair) = caller.injected_query(name) {
            add_raw(query, pair);
            found = true;
        }
    }
    found
}

fn address(base: &str, path: &str, query: Option<&str>) -> Result<Uri, CallError> {
    // `/` alone means the base itself: APIs tell `…/v1` and `…/v1/` apart.
    let path = if path == "/" { "" } else { path };
    let mut address = format!("{base}{path}");
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        address.push('?');
        address.push_str(query);
    }
    if address.len() > URL_MAX {
        return Err(CallError::TooLong);
    }
    address.parse().map_err(|_| CallError::NotAnAddress)
}

/// What must not come back in an answer's text: the credential as it was sent.
pub(super) fn secrets(config: &RestConfig, caller: &Caller<'_>) -> Vec<String> {
    let mut secrets = Vec::new();
    for name in &config.credential.headers {
        if let Some(Ok(text)) = caller.injected(name.as_str()).map(HeaderValue::to_str) {
            // Behind the scheme (`Bearer …`) is what an API would repeat.
            let (scheme, secret) = text.split_once(' ').unwrap_or(("", text));
            if scheme.eq_ignore_ascii_case("basic") {
                secrets.extend(basic(secret));
            }
            secrets.push(secret.to_owned());
        }
    }
    for name in &config.credential.query {
        if let Some((_, value)) = caller
            .injected_query(name)
            .and_then(|pair| pair.split_once('='))
        {
            secrets.push(value.to_owned());
            secrets.push(
                percent_encoding::percent_decode_str(value)
                    .decode_utf8_lossy()
                    .into(),
            );
        }
    }
    secrets
}

/// `user:password` and the password, out of RFC 7617's base64.
fn basic(encoded: &str) -> Vec<String> {
    let decoded = BASE64.decode(encoded.trim().as_bytes()).ok();
    let Some(pair) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return Vec::new();
    };
    let password = pair
        .split_once(':')
        .map(|(_, password)| password.to_owned());
    // The longer one first: what is hidden once needs no second look.
    std::iter::once(pair).chain(password).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn config(tool: Value, auth: Value) -> RestConfig {
        let text = json!({
            "name": "x", "auth": auth, "tools": [tool],
            "api": { "baseURL": "https://api.example.com/v1", "headers": { "X-Version": "7" } },
        });
        RestConfig::parse(&text.to_string()).unwrap()
    }

    fn call(config: &RestConfig, arguments: Value) -> Result<Request<Bytes>, CallError> {
        let from_router = Request::get("/mcp?appid=k%201&other=2")
            .header("authorization", "Bearer alice-key")
            .header("x-mcpm-router-secret", "s3cret")
            .header("cookie", "c=1");
        let (parts, ()) = from_router.body(()).unwrap().into_parts();
        let caller = Caller::from_parts(&parts);
        build(
            config,
            &config.tools[0],
            arguments.as_object().unwrap(),
            &caller,
        )
    }

    fn search(method: &str) -> RestConfig {
        let tool = json!({
            "name": "t", "method": method, "endpoint": "/r/{owner}/issues?fixed=1",
            "parameters": {
                "owner": { "type": "string", "required": true },
                "q": { "type": "string" }, "n": { "type": "integer", "default": 5 },
                "labels": { "type": "array" }, "all": { "type": "boolean" },
            },
        });
        config(tool, json!({ "type": "api_key" }))
    }

    #[test]
    fn the_rest_becomes_a_query() {
        for method in ["GET", "HEAD", "DELETE"] {
            let arguments =
                json!({ "owner": "a/b", "q": "x&y=z", "labels": ["p q", 1], "all": true });
            let request = call(&search(method), arguments).unwrap();
            let expected = "https://api.example.com/v1/r/a%2Fb/issues?fixed=1&q=x%26y%3Dz&n=5\
                            &labels=p%20q&labels=1&all=true";
            assert_eq!(request.uri().to_string(), expected);
            assert!(request.body().is_empty() && !request.headers().contains_key(CONTENT_TYPE));
        }
    }

    #[test]
    fn the_rest_becomes_a_body() {
        for method in ["POST", "PUT", "PATCH"] {
            let request = call(&search(method), json!({ "owner": "o", "labels": ["p"] })).unwrap();
            assert_eq!(
                request.uri().path_and_query().unwrap(),
                "/v1/r/o/issues?fixed=1"
            );
            assert_eq!(&request.body()[..], br#"{"n":5,"labels":["p"]}"#);
            assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
        }
    }

    #[test]
    fn only_the_named_headers_of_the_caller_go_on() {
        let request = call(&search("GET"), json!({ "owner": "o" })).unwrap();
        let mut sent: Vec<_> = request.headers().keys().map(|name| name.as_str()).collect();
        sent.sort_unstable();
        assert_eq!(sent, ["accept", "authorization", "x-version"]);
        assert_eq!(request.headers()["authorization"], "Bearer alice-key");
        assert!(!format!("{request:?}").contains("alice-key"));
    }

    #[test]
    fn credentials_in_the_query_go_on_and_missing_ones_end_the_call() {
        let tool = json!({ "name": "t", "endpoint": "/" });
        let by_query = config(
            tool.clone(),
            json!({ "type": "api_key", "forwardQuery": ["appid"] }),
        );
        let request = call(&by_query, json!({})).unwrap();
        assert_eq!(
            request.uri().to_string(),
            "https://api.example.com/v1?appid=k%201"
        );
        assert!(!request.headers().contains_key("authorization"));
        let other = config(
            tool,
            json!({ "type": "api_key", "forwardHeaders": ["X-Key"] }),
        );
        assert_eq!(
            call(&other, json!({})).unwrap_err(),
            CallError::NoCredential
        );
    }

    #[test]
    fn what_must_not_come_back_is_known_in_every_form_an_api_may_repeat() {
        let of = |header: &str, query: &str| {
            let auth = json!({
                "type": "basic_auth", "forwardHeaders": ["Authorization"], "forwardQuery": ["k"],
            });
            let config = config(json!({ "name": "t", "endpoint": "/" }), auth);
            let request = Request::get(format!("/mcp?{query}")).header("authorization", header);
            let (parts, ()) = request.body(()).unwrap().into_parts();
            secrets(&config, &Caller::from_parts(&parts))
        };
        assert_eq!(of("Bearer abc", ""), ["abc"]);
        assert_eq!(of("abc", "k=a%20b"), ["abc", "a%20b", "a b"]);
        assert_eq!(of("Basic dTpwOncw", ""), ["u:p:w0", "p:w0", "dTpwOncw"]);
        assert_eq!(of("Basic ???", ""), ["???"]);
    }

    #[test]
    fn a_dry_run_shows_what_each_tool_would_send() {
        let (parts, ()) = Request::get("/mcp").body(()).unwrap().into_parts();
        let text = json!({
            "name": "x", "api": { "baseURL": "https://a.example" },
            "tools": [{ "name": "a", "endpoint": "/a" },
                      { "name": "b", "endpoint": "/{id}", "parameters": { "id": {} } }],
        });
        let sent = dry_run(&text.to_string(), &Map::new(), &parts).unwrap();
        assert_eq!(sent[0].as_ref().unwrap().uri().path(), "/a");
        assert_eq!(sent[1].as_ref().unwrap_err(), "argument `id` is missing");
        assert!(dry_run("{}", &Map::new(), &parts).is_err());
    }

    #[test]
    fn every_wrong_argument_is_named() {
        let error = call(
            &search("GET"),
            json!({ "q": 1, "n": 1.5, "what": 1, "all": null }),
        );
        let expected = "argument `owner` is missing; \
                        argument `q` must be of type `string`, not a number; \
                        argument `n` must be of type `integer`, not a number with a fraction; \
                        argument `what` is unknown";
        assert_eq!(error.unwrap_err().to_string(), expected);
        let error = call(&search("GET"), json!({ "owner": ".." }))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "argument `owner` cannot stand in a path: it is empty or only dots"
        );
        let error = call(
            &search("GET"),
            json!({ "owner": "o", "q": "x".repeat(URL_MAX) }),
        );
        assert_eq!(error.unwrap_err(), CallError::TooLong);
    }

    proptest! {
        #[test]
        fn no_argument_reaches_another_place(owner in ".*", q in ".*") {
            if let Ok(request) = call(&search("GET"), json!({ "owner": owner, "q": q })) {
                let uri = request.uri();
                prop_assert_eq!(uri.authority().unwrap().as_str(), "api.example.com");
                prop_assert_eq!(uri.path().split('/').count(), 5);
                prop_assert!(uri.path().starts_with("/v1/r/") && uri.path().ends_with("/issues"));
                prop_assert_eq!(uri.query().unwrap().split('&').count(), 3);
            }
        }
    }
}
