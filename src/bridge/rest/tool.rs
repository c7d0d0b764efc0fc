//! `tools` of a `config.json` → [`ToolSpec`]s. Pure.

use http::Method;
use serde_json::Value;

use super::config::Credential;
use super::endpoint::Endpoint;
use super::parameter::{Parameter, Type};
use super::reader::{Mistakes, Object};

/// One tool.
#[derive(Clone, Debug)]
pub(super) struct ToolSpec {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) method: Method,
    pub(super) endpoint: Endpoint,
    pub(super) parameters: Vec<Parameter>,
}

/// Reads `tools`; what is forwarded matters because no argument may take its place.
pub(super) fn read_tools(
    root: &Object<'_>,
    credential: &Credential,
    mistakes: &mut Mistakes,
) -> Vec<ToolSpec> {
    let Some(list) = root.list("tools", mistakes) else {
        if root.get("tools").is_none() {
            mistakes.note("tools", "is missing; a bridge without tools serves nothing");
        }
        return Vec::new();
    };
    if list.is_empty() {
        mistakes.note("tools", "is empty; a bridge without tools serves nothing");
    }
    let mut tools: Vec<ToolSpec> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let path = format!("tools[{index}]");
        let Some(entry) = Object::of(value, &path, mistakes) else {
            continue;
        };
        let Some(tool) = read_tool(&entry, credential, mistakes) else {
            continue;
        };
        if tools.iter().any(|other| other.name == tool.name) {
            mistakes.note(&entry.at("name"), format!("`{}` is there twice", tool.name));
        }
        tools.push(tool);
    }
    tools
}

fn read_tool(
    entry: &Object<'_>,
    credential: &Credential,
    mistakes: &mut Mistakes,
) -> Option<ToolSpec> {
    let name = entry.required_text("name", mistakes);
    if let Some(name) = name
        && !is_tool_name(name)
    {
        let what = format!("`{name}` is not a tool's name; write 1 to 128 of `A-Z a-z 0-9 _ - .`");
        mistakes.note(&entry.at("name"), what);
    }
    let description = entry.text("description", mistakes).unwrap_or_default();
    let method = read_method(entry, mistakes);
    let parameters = read_parameters(entry, credential, mistakes);
    let endpoint = entry.required_text("endpoint", mistakes)?;
    let endpoint = match Endpoint::parse(endpoint) {
        Ok(endpoint) => endpoint,
        Err(what) => {
            mistakes.note(&entry.at("endpoint"), what);
            return None;
        }
    };
    let parameters = require_placeholders(entry, &endpoint, parameters, mistakes);
    let description = description.to_owned();
    Some(ToolSpec {
        name: name?.to_owned(),
        description,
        method: method?,
        endpoint,
        parameters,
    })
}

/// MCP's own rule for names of tools.
fn is_tool_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    matches!(name.len(), 1..=128) && name.bytes().all(plain)
}

fn read_method(entry: &Object<'_>, mistakes: &mut Mistakes) -> Option<Method> {
    let text = entry.text("method", mistakes).unwrap_or("GET");
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
    ];
    let method = known
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(text));
    if method.is_none() {
        let what = format!("is `{text}`; write `GET`, `POST`, `PUT`, `PATCH`, `DELETE` or `HEAD`");
        mistakes.note(&entry.at("method"), what);
    }
    method
}

fn read_parameters(
    entry: &Object<'_>,
    credential: &Credential,
    mistakes: &mut Mistakes,
) -> Vec<Parameter> {
    let Some(object) = entry.object("parameters", mistakes) else {
        return Vec::new();
    };
    let mut parameters = Vec::new();
    for (name, value) in object.map {
        let path = object.at(name);
        if credential.query.contains(name) {
            mistakes.note(
                &path,
                "is also in `auth.forwardQuery`: the credential is not an argument",
            );
        }
        let Some(entry) = Object::of(value, &path, mistakes) else {
            continue;
        };
        parameters.extend(Parameter::read(name, &entry, mistakes));
    }
    parameters
}

/// A path can't be built without its values: their parameters exist, are required, and are plain.
fn require_placeholders(
    entry: &Object<'_>,
    endpoint: &Endpoint,
    mut parameters: Vec<Parameter>,
    mistakes: &mut Mistakes,
) -> Vec<Parameter> {
    let declared = |name: &str| {
        let parameters = entry.map.get("parameters").and_then(Value::as_object);
        parameters.is_some_and(|parameters| parameters.contains_key(name))
    };
    for name in endpoint.placeholders() {
        match parameters.iter_mut().find(|one| one.name == name) {
            Some(one) if one.kind == Type::Object => {
                let what = format!("`{{{name}}}` is an object, which a path cannot hold");
                mistakes.note(&entry.at("endpoint"), what);
            }
            Some(one) => one.required = true,
            // Its own mistake is noted already.
            None if declared(name) => {}
            None => {
                let what = format!("`{{{name}}}` is not one of this tool's `parameters`");
                mistakes.note(&entry.at("endpoint"), what);
            }
        }
    }
    parameters
}
