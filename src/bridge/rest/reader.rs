//! Reads a JSON object field by field and collects every mistake with its path. Pure.
//!
//! A person mends a file once, not once per mistake: so nothing here stops at the first. A field
//! that is wrong reads as absent, and the mistake is noted. Unknown keys are no mistake, since a
//! catalogue's files say more than a bridge needs.

use serde_json::{Map, Value};

/// Everything wrong so far, each as `path: what`.
#[derive(Default)]
pub(super) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Notes a mistake.
    pub(super) fn note(&mut self, path: &str, what: impl AsRef<str>) {
        self.0.push(format!("{path}: {}", what.as_ref()));
    }

    /// All of them, in the order of the file.
    pub(super) fn into_list(self) -> Vec<String> {
        self.0
    }

    /// None so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One object of the file, and where it stands.
pub(super) struct Object<'a> {
    pub(super) map: &'a Map<String, Value>,
    pub(super) path: String,
}

impl<'a> Object<'a> {
    /// The value as an object; notes a mistake when it isn't one.
    pub(super) fn of(value: &'a Value, path: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let Some(map) = value.as_object() else {
            mistakes.note(path, format!("must be an object, not {}", kind(value)));
            return None;
        };
        Some(Self {
            map,
            path: path.to_owned(),
        })
    }

    /// Where a key of this object stands.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// A key's value; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A text that may be absent.
    pub(super) fn text(&self, key: &str, mistakes: &mut Mistakes) -> Option<&'a str> {
        self.typed(key, mistakes, "a text in quotes", Value::as_str)
    }

    /// A text that must be there and not be empty.
    pub(super) fn required_text(&self, key: &str, mistakes: &mut Mistakes) -> Option<&'a str> {
        if self.get(key).is_none() {
            mistakes.note(&self.at(key), "is missing");
            return None;
        }
        let text = self.text(key, mistakes)?;
        if text.trim().is_empty() {
            mistakes.note(&self.at(key), "is empty");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`, which may be absent.
    pub(super) fn flag(&self, key: &str, mistakes: &mut Mistakes) -> Option<bool> {
        self.typed(key, mistakes, "`true` or `false`", Value::as_bool)
    }

    /// A list that may be absent.
    pub(super) fn list(&self, key: &str, mistakes: &mut Mistakes) -> Option<&'a Vec<Value>> {
        self.typed(key, mistakes, "a list", Value::as_array)
    }

    /// A list of texts; absent is empty.
    pub(super) fn texts(&self, key: &str, mistakes: &mut Mistakes) -> Vec<&'a str> {
        let mut texts = Vec::new();
        for (index, value) in self.list(key, mistakes).into_iter().flatten().enumerate() {
            match value.as_str() {
                Some(text) => texts.push(text),
                None => {
                    let path = format!("{}[{index}]", self.at(key));
                    mistakes.note(
                        &path,
                        format!("must be a text in quotes, not {}", kind(value)),
                    );
                }
            }
        }
        texts
    }

    /// An object that may be absent.
    pub(super) fn object(&self, key: &str, mistakes: &mut Mistakes) -> Option<Object<'a>> {
        Object::of(self.get(key)?, &self.at(key), mistakes)
    }

    fn typed<T>(
        &self,
        key: &str,
        mistakes: &mut Mistakes,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let read = read(value);
        if read.is_none() {
            mistakes.note(
                &self.at(key),
                format!("must be {wanted}, not {}", kind(value)),
            );
        }
        read
    }
}

/// A JSON value's type, as people say it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
