//! YAML 1.2 with the core schema, anchors, aliases and merge keys (`<<`), one document.
//!
//! Built from the parser's events, without recursion, so that depth, and what aliases may grow to
//! (`COPIED_MAX`), are bounded here. A key that comes twice is kept twice, as in JSON.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::super::error::shown;
use super::{DEPTH_MAX, Entry, Node, Number, Place, SyntaxError, Value};

/// Nodes that anchors and aliases may copy in one file: more is a bomb, not a configuration.
const COPIED_MAX: usize = 200_000;

/// Reads a whole text.
///
/// # Errors
/// The first place where it is not YAML.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| explain(&error))?;
        if event == Event::StreamEnd {
            break;
        }
        builder.take(event, place(&span.start))?;
    }
    builder.root.ok_or_else(|| SyntaxError {
        at: Place { line: 1, column: 1 },
        message: "the file is empty; write `apps:` and a list below it".to_owned(),
    })
}

fn explain(error: &ScanError) -> SyntaxError {
    // The parser has a limit of its own, for brackets that it reads ahead.
    let message = if error.info().contains("recursion limit") {
        format!("nested more than {DEPTH_MAX} levels deep")
    } else {
        format!("not YAML: {}", error.info().to_lowercase())
    };
    SyntaxError {
        at: place(error.marker()),
        message,
    }
}

fn place(mark: &Marker) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        line: number(mark.line()),
        column: number(mark.col().saturating_add(1)),
    }
}

#[derive(Default)]
struct Builder {
    /// Lists and maps that are open.
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    documents: usize,
}

struct Open {
    at: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<Key>,
        merges: Vec<Node>,
    },
}

struct Key {
    text: String,
    at: Place,
    merge: bool,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Place) -> Result<(), SyntaxError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(at),
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(key) = self.missing_key() {
                    let merge = text == "<<" && style == ScalarStyle::Plain;
                    *key = Some(Key {
                        text: text.into_owned(),
                        at,
                        merge,
                    });
                    return Ok(());
                }
                let value = scalar(&text, style, tag.as_deref(), at)?;
                self.put(Node { value, at }, anchor)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                // An anchor inside of its own definition, or one whose copy was too large.
                let node = node.ok_or_else(|| error(at, "this alias has no anchor before it"))?;
                self.count(&node, at)?;
                self.put(node, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                known_tag(tag.as_deref(), at)?;
                self.open(Open {
                    at,
                    anchor,
                    content: Content::List(Vec::new()),
                })
            }
            Event::MappingStart(anchor, tag) => {
                known_tag(tag.as_deref(), at)?;
                let content = Content::Map {
                    entries: Vec::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(Open {
                    at,
                    anchor,
                    content,
                })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn document(&mut self, at: Place) -> Result<(), SyntaxError> {
        self.documents += 1;
        if self.documents > 1 {
            return Err(error(
                at,
                "a second document begins here; write one document in a file",
            ));
        }
        Ok(())
    }

    /// The place of the next key, when the innermost open thing is a map that waits for one.
    fn missing_key(&mut self) -> Option<&mut Option<Key>> {
        match &mut self.open.last_mut()?.content {
            Content::Map { key, .. } if key.is_none() => Some(key),
            _ => None,
        }
    }

    fn open(&mut self, open: Open) -> Result<(), SyntaxError> {
        if self.missing_key().is_some() {
            return Err(error(open.at, "a key must be a plain word or a text"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(error(
                open.at,
                &format!("nested more than {DEPTH_MAX} levels deep"),
            ));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(Open {
            at,
            anchor,
            content,
        }) = self.open.pop()
        else {
            return Ok(()); // The parser closes only what it opened.
        };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map {
                entries, merges, ..
            } => Value::Map(self.merged(entries, merges)?),
        };
        self.put(Node { value, at }, anchor)
    }

    /// Adds what `<<` brings, where the map itself and earlier `<<` do not say otherwise.
    fn merged(
        &mut self,
        mut entries: Vec<Entry>,
        merges: Vec<Node>,
    ) -> Result<Vec<Entry>, SyntaxError> {
        if merges.is_empty() {
            return Ok(entries);
        }
        let mut known: HashSet<String> = entries.iter().map(|e| e.key.clone()).collect();
        for merge in merges {
            let sources = match merge.value {
                Value::List(items) => items,
                _ => vec![merge],
            };
            for source in sources {
                self.count(&source, source.at)?;
                let Value::Map(more) = source.value else {
                    return Err(error(source.at, "`<<` takes a map, or a list of maps"));
                };
                entries.extend(more.into_iter().filter(|e| known.insert(e.key.clone())));
            }
        }
        Ok(entries)
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.count(&node, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map {
                entries,
                key: slot,
                merges,
            } => match slot.take() {
                Some(key) if key.merge => merges.push(node),
                Some(key) => entries.push(Entry {
                    key: key.text,
                    at: key.at,
                    node,
                }),
                None => return Err(error(node.at, "a key must be a plain word or a text")),
            },
        }
        // What an alias brings may be deep itself.
        if self.open.len() + depth(self.last()) > DEPTH_MAX {
            return Err(error(
                self.last().at,
                &format!("nested more than {DEPTH_MAX} levels deep"),
            ));
        }
        Ok(())
    }

    fn last(&self) -> &Node {
        const NOTHING: &Node = &Node {
            value: Value::Null,
            at: Place { line: 0, column: 0 },
        };
        match self.open.last().map(|open| &open.content) {
            Some(Content::List(items)) => items.last().unwrap_or(NOTHING),
            Some(Content::Map { entries, .. }) => entries.last().map_or(NOTHING, |e| &e.node),
            None => NOTHING,
        }
    }

    fn count(&mut self, node: &Node, at: Place) -> Result<(), SyntaxError> {
        self.copied += size(node, COPIED_MAX - self.copied);
        if self.copied >= COPIED_MAX {
            return Err(error(
                at,
                "anchors and aliases make this file far too large",
            ));
        }
        Ok(())
    }
}

/// Nodes in this one, itself included; stops counting at `limit`.
fn size(node: &Node, limit: usize) -> usize {
    let mut waiting = vec![node];
    let mut seen = 0;
    while let Some(node) = waiting.pop() {
        seen += 1;
        if seen >= limit {
            return limit;
        }
        match &node.value {
            Value::List(items) => waiting.extend(items),
            Value::Map(entries) => waiting.extend(entries.iter().map(|e| &e.node)),
            _ => {}
        }
    }
    seen
}

/// Levels of lists and maps in this node.
fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| depth(&e.node)).max().unwrap_or(0),
        _ => 0,
    }
}

fn error(at: Place, message: &str) -> SyntaxError {
    SyntaxError {
        at,
        message: message.to_owned(),
    }
}

/// Only the core schema's tags mean something here.
fn known_tag(tag: Option<&Tag>, at: Place) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(error(
            at,
            &format!("the tag {} means nothing here", shown(&tag.to_string())),
        )),
        _ => Ok(()),
    }
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: Place,
) -> Result<Value, SyntaxError> {
    known_tag(tag, at)?;
    let suffix = tag.map(|tag| tag.suffix.as_str());
    let is_text = match suffix {
        Some("str") => true,
        Some("bool" | "int" | "float" | "null") => false,
        Some(_) => return Err(error(at, "this tag means nothing here")),
        None => style != ScalarStyle::Plain,
    };
    Ok(if is_text {
        Value::Text(text.to_owned())
    } else {
        plain(text)
    })
}

/// YAML 1.2.2 §10.3.2, tag resolution of the core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(text) {
            Some(value) => Value::Number(Number::new(value, text)),
            None => Value::Text(text.to_owned()),
        },
    }
}

fn number(text: &str) -> Option<f64> {
    let radix = |digits: &str, base: u32| {
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
        let add =
            |sum: f64, c: char| sum * f64::from(base) + f64::from(c.to_digit(base).unwrap_or(0));
        all.then(|| digits.chars().fold(0.0, add))
    };
    if let Some(hex) = text.strip_prefix("0x") {
        return radix(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return radix(octal, 8);
    }
    match text.strip_prefix(['-', '+']).unwrap_or(text) {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // Rust's own words for numbers (`inf`, `nan`) are texts in YAML.
    let shaped = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if shaped && text.bytes().any(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: serde_json::Value) {
        assert_eq!(parse(text).expect("it is YAML").to_json(), expected);
    }

    #[track_caller]
    fn refuse(text: &str, line: u32, part: &str) {
        let error = parse(text).expect_err("it is refused");
        assert_eq!(error.at.line, line, "{}", error.message);
        assert!(error.message.contains(part), "{}", error.message);
    }

    #[test]
    fn it_reads_an_ecosystem_file() {
        check(
            "apps:\n  - name: web # the site\n    script: ./a.js\n    args: [\"1\", 2]\n    watch: no\n    env:\n      PORT: 0x10\n      T: ~\n",
            json!({ "apps": [ {
                "name": "web", "script": "./a.js", "args": ["1", 2], "watch": "no",
                "env": { "PORT": 16, "T": null }
            } ] }),
        );
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        check(
            "base: &b {a: 1, b: 2}\nx: {<<: *b, b: 3}\ny: *b\n",
            json!({ "base": {"a": 1, "b": 2}, "x": {"b": 3, "a": 1}, "y": {"a": 1, "b": 2} }),
        );
        check(
            "a: &x 1\nb: !!str 2\n'<<': 3\n",
            json!({"a": 1, "b": "2", "<<": 3}),
        );
    }

    #[test]
    fn places_are_lines_and_columns_from_one() {
        let node = parse("a: 1\nb:\n  - c\n").unwrap();
        let Value::Map(entries) = node.value else {
            panic!("a map")
        };
        assert_eq!(entries[1].at, Place { line: 2, column: 1 });
        let Value::List(items) = &entries[1].node.value else {
            panic!("a list")
        };
        assert_eq!(items[0].at, Place { line: 3, column: 5 });
    }

    #[test]
    fn mistakes_say_where() {
        refuse("", 1, "empty");
        refuse("a: 1\n---\nb: 2\n", 2, "second document");
        refuse("a: [1, 2\n", 2, "not YAML");
        refuse("a: !foo 1\n", 1, "tag");
        refuse("a: *b\n", 1, "not YAML");
        refuse("? [a]\n: 1\n", 1, "a key must be");
        refuse(&"[".repeat(10_000), 1, "levels");
        refuse("a: 1\nx: {<<: 5}\n", 2, "`<<` takes");
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        let mut last = 'a';
        for name in 'b'..='i' {
            let aliases = vec![format!("*{last}"); 9].join(",");
            text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
            last = name;
        }
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains("too large"), "{}", error.message);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn nothing_yaml_like_panics(text in r#"[\[\]{}:,"'a0-9.x+\-&*!<|>?#% \n\t]{0,200}"#) {
            let _ = parse(&text);
        }
    }
}
