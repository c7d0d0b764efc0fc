//! The JSON Schema of ecosystem files, made from `keys.rs`: editors complete and check with it.
//!
//! Says the same as the reader about spellings and types. Unknown keys are allowed, since they
//! only warn; rules across keys are the reader's alone.

use serde_json::{Map, Value, json};

use super::keys::{APP, Key, Kind, Short, TOP, Table};

/// The whole schema (draft 2020-12).
pub fn schema() -> Value {
    let app = json!({ "$ref": "#/$defs/app" });
    let mut top = table(&TOP);
    top["anyOf"] =
        json!([{ "required": ["apps"] }, { "required": ["pm2"] }, { "required": ["mcpm"] }]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcpm ecosystem file",
        "anyOf": [ top, { "type": "array", "items": app.clone() }, app ],
        "$defs": { "app": table(&APP) },
    })
}

fn table(table: &Table) -> Value {
    let mut properties = Map::new();
    for key in table.keys {
        for spelling in key.spellings() {
            properties.insert(spelling, property(key));
        }
    }
    let mut object = json!({ "type": "object", "properties": properties });
    if table.env_blocks {
        object["patternProperties"] = json!({ "^env_\\S+$": { "type": "object" } });
    }
    object
}

fn property(key: &Key) -> Value {
    let mut property = kind(key.kind);
    property["description"] = Value::String(key.meaning.to_owned());
    property
}

fn kind(kind: Kind) -> Value {
    let digits = json!({ "type": "string", "pattern": "^-?[0-9]+$" });
    match kind {
        Kind::Text => json!({ "type": ["string", "number", "null"] }),
        Kind::UrlPath => json!({ "type": ["string", "null"], "pattern": "^/" }),
        Kind::Flag => json!({ "type": ["boolean", "null"] }),
        Kind::Count { min, max } => {
            json!({ "anyOf": [bounded(min, max), digits, { "type": "null" }] })
        }
        Kind::Port => json!({ "anyOf": [bounded(1, 65535), digits, { "type": "null" }] }),
        Kind::Numbers { min, max } => json!({ "anyOf": [
            bounded(min, max), digits.clone(), { "type": "null" },
            { "type": "array", "items": { "anyOf": [bounded(min, max), digits] } },
        ] }),
        Kind::Duration | Kind::Days | Kind::Size => {
            json!({ "type": ["number", "string", "null"], "minimum": 0 })
        }
        Kind::Words | Kind::Texts => list(&["string", "number"]),
        Kind::FlagOrTexts => list(&["string", "number", "boolean"]),
        Kind::FlagOrText => json!({ "type": ["boolean", "string", "number", "null"] }),
        Kind::Instances => json!({ "anyOf": [
            { "type": ["integer", "null"] }, { "const": "max" }, digits,
        ] }),
        Kind::Signal => json!({ "type": ["string", "integer", "null"] }),
        Kind::Word(words) => {
            let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            all.push(Value::Null);
            json!({ "enum": all })
        }
        Kind::Env => json!({ "type": ["object", "null"] }),
        Kind::Texted => json!({
            "type": ["object", "null"], "additionalProperties": { "type": ["string", "number"] },
        }),
        Kind::Block(inner, shorts) => {
            let mut forms = vec![table(inner), json!({ "type": "null" })];
            forms.extend(shorts.iter().map(|short| match short {
                Short::True => json!({ "const": true }),
                Short::False => json!({ "const": false }),
                Short::Text => json!({ "type": "string" }),
                Short::Number => json!({ "type": "number" }),
            }));
            json!({ "anyOf": forms })
        }
        Kind::Blocks(inner) => {
            let item = if inner.path == APP.path {
                json!({ "$ref": "#/$defs/app" })
            } else {
                table(inner)
            };
            json!({ "anyOf": [ { "type": "array", "items": item.clone() }, item, { "type": "null" } ] })
        }
        Kind::Named(inner) => {
            let each = json!({ "anyOf": [table(inner), { "const": false }] });
            json!({ "type": ["object", "null"], "additionalProperties": each })
        }
        Kind::Any => json!({}),
    }
}

fn bounded(min: i64, max: i64) -> Value {
    json!({ "type": "integer", "minimum": min, "maximum": max })
}

fn list(items: &[&str]) -> Value {
    let mut types: Vec<&str> = items.to_vec();
    types.extend(["array", "null"]);
    json!({ "type": types, "items": { "type": ["string", "number", "boolean"] } })
}
