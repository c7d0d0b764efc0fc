//! A tool's parameters: read from the file, shown as JSON Schema, checked in a call. Pure.

use serde_json::{Map, Value, json};

use super::reader::{Mistakes, Object, kind};

/// JSON Schema keywords that are handed on to clients as they stand.
const SCHEMA_KEYS: [&str; 15] = [
    "title",
    "description",
    "default",
    "enum",
    "examples",
    "format",
    "items",
    "properties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
];

/// The JSON types a parameter may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}

const TYPES: [(&str, Type); 6] = [
    ("string", Type::String),
    ("integer", Type::Integer),
    ("number", Type::Number),
    ("boolean", Type::Boolean),
    ("array", Type::Array),
    ("object", Type::Object),
];

impl Type {
    fn parse(text: &str) -> Option<Self> {
        TYPES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|&(_, found)| found)
    }

    fn name(self) -> &'static str {
        TYPES
            .iter()
            .find(|&&(_, found)| found == self)
            .map_or("?", |(name, _)| name)
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            // JSON Schema: 3.0 is an integer.
            Self::Integer => {
                value.is_i64()
                    || value.is_u64()
                    || value.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// One parameter of a tool.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) required: bool,
    pub(super) default: Option<Value>,
    choices: Option<Vec<Value>>,
    schema: Map<String, Value>,
}

impl Parameter {
    /// Reads one entry of `parameters`.
    pub(super) fn read(name: &str, entry: &Object<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let kind = match entry.text("type", mistakes) {
            None if entry.get("type").is_some() => return None,
            None => Type::String,
            Some(text) => match Type::parse(text) {
                Some(kind) => kind,
                None => {
                    let known = TYPES.map(|(name, _)| format!("`{name}`")).join(", ");
                    mistakes.note(
                        &entry.at("type"),
                        format!("is `{text}`; write one of {known}"),
                    );
                    return None;
                }
            },
        };
        let required = entry.flag("required", mistakes).unwrap_or(false);
        let choices = entry.list("enum", mistakes).cloned();
        let default = entry.get("default").cloned();
        let mut schema = Map::new();
        schema.insert("type".into(), kind.name().into());
        for key in SCHEMA_KEYS {
            if let Some(value) = entry.get(key) {
                schema.insert(key.into(), value.clone());
            }
        }
        let parameter = Self {
            name: name.into(),
            kind,
            required,
            default,
            choices,
            schema,
        };
        if let Some(default) = &parameter.default
            && let Err(why) = parameter.check(default)
        {
            mistakes.note(&entry.at("default"), why);
        }
        Some(parameter)
    }

    /// Whether a value may be given for it.
    ///
    /// # Errors
    /// What it must be instead.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        if !self.kind.fits(value) {
            return Err(format!(
                "must be of type `{}`, not {}",
                self.kind.name(),
                kind(value)
            ));
        }
        match &self.choices {
            Some(choices) if !choices.contains(value) => {
                let allowed: Vec<_> = choices
                    .iter()
                    .map(|one| format!("`{}`", plain(one)))
                    .collect();
                Err(format!("must be one of {}", allowed.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

/// The `inputSchema` of a tool. Arguments that it does not name are refused in a call, and so here.
pub(super) fn input_schema(parameters: &[Parameter]) -> Map<String, Value> {
    let properties: Map<_, _> = parameters
        .iter()
        .map(|one| (one.name.clone(), Value::Object(one.schema.clone())))
        .collect();
    let required: Vec<_> = parameters
        .iter()
        .filter(|one| one.required && one.default.is_none())
        .map(|one| one.name.as_str())
        .collect();
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), false.into());
    schema
}

/// A value as it stands in a path or a query: texts without quotes, the rest as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items)
            if items
                .iter()
                .all(|item| !item.is_array() && !item.is_object()) =>
        {
            items.iter().map(plain).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entry: Value) -> Result<Parameter, Vec<String>> {
        let mut mistakes = Mistakes::default();
        let object = Object::of(&entry, "parameters.x", &mut mistakes).unwrap();
        let parameter = Parameter::read("x", &object, &mut mistakes);
        if mistakes.is_empty() {
            Ok(parameter.unwrap())
        } else {
            Err(mistakes.into_list())
        }
    }

    #[test]
    fn values_are_checked_by_type_and_choice() {
        for (kind, good, bad) in [
            ("string", json!("1"), json!(1)),
            ("integer", json!(-1), json!(1.5)),
            ("integer", json!(2.0), json!("2")),
            ("number", json!(1.5), json!("1.5")),
            ("boolean", json!(false), json!("false")),
            ("array", json!([1]), json!("1")),
            ("object", json!({}), json!([])),
        ] {
            let parameter = read(json!({ "type": kind })).unwrap();
            assert!(parameter.check(&good).is_ok(), "{kind} {good}");
            let why = parameter.check(&bad).unwrap_err();
            assert!(why.contains(&format!("`{kind}`")), "{why}");
        }
        let state = read(json!({ "enum": ["open", "closed"] })).unwrap();
        assert_eq!(
            state.check(&json!("x")).unwrap_err(),
            "must be one of `open`, `closed`"
        );
    }

    #[test]
    fn mistakes_have_their_place() {
        let mistakes = read(json!({ "type": "text" })).unwrap_err();
        assert!(mistakes[0].starts_with("parameters.x.type: is `text`; write one of `string`"));
        let mistakes = read(json!({ "type": "integer", "default": "a", "required": "yes" }));
        assert_eq!(
            mistakes.unwrap_err(),
            [
                "parameters.x.required: must be `true` or `false`, not a string",
                "parameters.x.default: must be of type `integer`, not a string",
            ]
        );
    }

    #[test]
    fn the_schema_says_what_the_check_demands() {
        let a = read(json!({ "type": "integer", "required": true, "minimum": 1, "in": "path" }));
        let b = read(json!({ "required": true, "default": "eu", "description": "Region" }));
        let [mut a, mut b] = [a.unwrap(), b.unwrap()];
        (a.name, b.name) = ("a".into(), "b".into());
        let expected = json!({
            "type": "object",
            "properties": {
                "a": { "type": "integer", "minimum": 1 },
                "b": { "type": "string", "description": "Region", "default": "eu" },
            },
            "required": ["a"],
            "additionalProperties": false,
        });
        assert_eq!(Value::Object(input_schema(&[a, b])), expected);
    }
}
