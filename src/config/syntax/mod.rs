//! Text → one raw value with positions, whatever the syntax: JSON, YAML or JavaScript.
//!
//! Nothing here knows what the keys mean. Limits: [`DEPTH_MAX`] levels; sizes are `load.rs`'s.

pub mod json;
pub mod yaml;
pub(crate) mod js;

/// Levels of lists and maps in one another. Real files have six.
pub const DEPTH_MAX: usize = 64;

/// Where something stands; line and column from 1, the column in characters. Line 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// A raw value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What stands there.
    pub value: Value,
    /// Where it begins.
    pub at: Place,
}

/// What JSON, YAML and JavaScript have in common.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// Any number.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object, in the order of the file; a key may come twice.
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As written.
    pub key: String,
    /// Where the key begins.
    pub at: Place,
    /// What it is set to.
    pub node: Node,
}

/// A number, with its digits where these say more than a float holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// As JavaScript would compute with it.
    pub value: f64,
    /// As it stands in the file.
    pub written: Box<str>,
}

/// Why a text is not JSON or YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntaxError {
    /// Where.
    pub at: Place,
    /// What is wrong and what to write.
    pub message: String,
}

impl Node {
    /// A value whose place is not known.
    pub(crate) fn placeless(value: Value) -> Self {
        Self {
            value,
            at: Place::default(),
        }
    }

    /// A text whose place is not known.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::placeless(Value::Text(text.into()))
    }

    /// What `serde_json` holds, without places.
    pub(crate) fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        Self::placeless(match value {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => {
                Value::Number(Number::new(n.as_f64().unwrap_or(f64::NAN), &n.to_string()))
            }
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        at: Place::default(),
                        node: Self::from_json(value),
                    })
                    .collect(),
            ),
        })
    }

    /// The same as `serde_json` would hold it; of keys that come twice the last.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(n) => n.to_json(),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|e| (e.key.clone(), e.node.to_json()));
                Json::Object(pairs.collect())
            }
        }
    }

    /// JavaScript's idea of a value that is nothing: PM2 treats it as switched off.
    pub(crate) fn is_falsy(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Number(n) => n.value == 0.0 || n.value.is_nan(),
            Value::Text(text) => text.is_empty(),
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// Words for a message: what stands there, without repeating long or secret things.
    pub(crate) fn described(&self) -> String {
        match &self.value {
            Value::Null => "`null`".to_owned(),
            Value::Bool(b) => format!("`{b}`"),
            Value::Number(n) => super::error::shown(&n.written),
            Value::Text(text) => super::error::shown(&format!("\"{text}\"")),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

impl Number {
    /// From a decimal or JavaScript-like text; the caller has checked that it is a number.
    pub(crate) fn new(value: f64, written: &str) -> Self {
        Self {
            value,
            written: written.into(),
        }
    }

    /// The whole number, when it is one that a float holds exactly.
    pub(crate) fn whole(&self) -> Option<i64> {
        let exact = self.value.fract() == 0.0 && self.value.abs() <= 9_007_199_254_740_991.0;
        #[expect(clippy::cast_possible_truncation, reason = "checked on the line above")]
        exact.then_some(self.value as i64)
    }

    /// As a child finds it in its environment: JavaScript's spelling, but every digit of a long
    /// whole number (JavaScript would round a 64-bit id).
    pub(crate) fn to_text(&self) -> String {
        let digits = self.written.strip_prefix('-').unwrap_or(&self.written);
        let plain = digits.bytes().all(|b| b.is_ascii_digit())
            && (digits == "0" || digits.starts_with(|c| matches!(c, '1'..='9')));
        if plain {
            return self.written.clone().into();
        }
        javascript_spelling(self.value)
    }

    fn to_json(&self) -> serde_json::Value {
        match self.whole() {
            Some(whole) => whole.into(),
            None => self.value.into(),
        }
    }
}

/// ECMA-262 `Number::toString`.
fn javascript_spelling(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if (1e-6..1e21).contains(&value.abs()) || value.is_nan() {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_javascript_does_but_lose_no_digit() {
        let check = |value: f64, written: &str, expected: &str| {
            assert_eq!(Number::new(value, written).to_text(), expected);
        };
        check(3000.0, "3000", "3000");
        check(3000.0, "3e3", "3000");
        check(255.0, "0xFF", "255");
        check(1.5, "1.50", "1.5");
        check(1e21, "1e21", "1e+21");
        check(1e-7, "1e-7", "1e-7");
        check(-0.0, "-0.0", "0");
        check(1e18, "987654321098765432", "987654321098765432");
    }
}
