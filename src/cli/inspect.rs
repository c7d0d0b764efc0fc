//! JSON values as Node's `util.inspect` writes them, which is how PM2's `prettylist`, `id` and `ping`
//! print; scripts look for such lines. Pure.
//!
//! Follows Node 20 with its defaults (`compact: 3`, `breakLength: 80`, which also is how
//! `console.log` prints), depth without end, and, unlike Node, no cut after 100 items: a list of 373
//! processes shows them all. `inspect/node20.json` holds what node itself wrote.

use serde_json::{Map, Value};

const BREAK_LENGTH: usize = 80;
/// So many inner levels go on one line.
const COMPACT: usize = 3;
/// Longer lists are grouped in columns.
const UNGROUPED: usize = 6;

/// The value in Node's way, without a line end.
pub(crate) fn inspect(value: &Value) -> String {
    Writer::default().value(value, 0)
}

/// Where the writer is. Node decides by the depth of what it wrote last.
#[derive(Default)]
struct Writer {
    depth: usize,
    indent: usize,
}

impl Writer {
    fn value(&mut self, value: &Value, level: usize) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(truth) => truth.to_string(),
            Value::Number(number) => self::number(number),
            Value::String(text) => self.text(text),
            Value::Array(items) => self.list(items, level),
            Value::Object(entries) => self.map(entries, level),
        }
    }

    fn list(&mut self, items: &[Value], level: usize) -> String {
        if items.is_empty() {
            return "[]".to_owned();
        }
        self.depth = level;
        let parts: Vec<String> = items.iter().map(|item| self.inside(item, level)).collect();
        let numbers = items.iter().all(Value::is_number);
        let count = parts.len();
        let parts = if count > UNGROUPED {
            self.grouped(parts, numbers)
        } else {
            parts
        };
        let whole = parts.len() == count;
        self.joined(&parts, whole, level, ['[', ']'])
    }

    fn map(&mut self, entries: &Map<String, Value>, level: usize) -> String {
        if entries.is_empty() {
            return "{}".to_owned();
        }
        self.depth = level;
        let mut parts = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let value = self.inside(value, level);
            parts.push(format!("{}: {value}", key(name)));
        }
        self.joined(&parts, true, level, ['{', '}'])
    }

    fn inside(&mut self, value: &Value, level: usize) -> String {
        self.indent += 2;
        let text = self.value(value, level + 1);
        self.indent -= 2;
        text
    }

    /// On one line when it is short and not deep, else a line for each part.
    fn joined(
        &self,
        parts: &[String],
        may_be_one_line: bool,
        level: usize,
        [open, close]: [char; 2],
    ) -> String {
        if may_be_one_line && self.depth - level < COMPACT {
            let start = parts.len() + self.indent + 1 + 10;
            let long: usize = parts.iter().map(|part| units(part)).sum();
            let fits = long + parts.len() + start <= BREAK_LENGTH;
            let line = parts.join(", ");
            if fits && !line.contains('\n') {
                return format!("{open} {line} {close}");
            }
        }
        let indent = " ".repeat(self.indent);
        let lines = parts.join(&format!(",\n{indent}  "));
        format!("{open}\n{indent}  {lines}\n{indent}{close}")
    }

    /// Short items in columns; as they are when columns would not help.
    fn grouped(&self, parts: Vec<String>, numbers: bool) -> Vec<String> {
        const SEPARATOR: usize = 2;
        let wide: Vec<usize> = parts.iter().map(|part| units(part)).collect();
        let widest = wide.iter().copied().max().unwrap_or(0);
        let total: usize = wide.iter().map(|one| one + SEPARATOR).sum();
        let column = widest + SEPARATOR;
        let helps = column * 3 + self.indent < BREAK_LENGTH && (total > 5 * column || widest <= 6);
        if !helps {
            return parts;
        }
        let columns = columns(parts.len(), column, total)
            .min((BREAK_LENGTH - self.indent) / column)
            .min(COMPACT * 4)
            .min(15);
        if columns <= 1 {
            return parts;
        }
        let room =
            |at: usize| wide.iter().skip(at).step_by(columns).max().unwrap_or(&0) + SEPARATOR;
        let rooms: Vec<usize> = (0..columns).map(room).collect();
        let row = |parts: &[String]| {
            let mut text = String::new();
            for (at, part) in parts.iter().enumerate() {
                let is_last = at + 1 == parts.len();
                let (shown, room) = if is_last {
                    (part.clone(), rooms[at] - SEPARATOR)
                } else {
                    (format!("{part}, "), rooms[at])
                };
                let blank = " ".repeat(room.saturating_sub(units(&shown)));
                text += &match (numbers, is_last) {
                    (true, _) => blank + &shown,
                    (false, true) => shown,
                    (false, false) => shown + &blank,
                };
            }
            text
        };
        parts.chunks(columns).map(row).collect()
    }

    fn text(&self, text: &str) -> String {
        let room = BREAK_LENGTH.saturating_sub(self.indent + 4);
        let long = units(text) > 16 && units(text) > room;
        let inner = text.strip_suffix('\n').unwrap_or(text);
        if !long || !inner.contains('\n') {
            return quoted(text);
        }
        let indent = " ".repeat(self.indent + 2);
        let lines: Vec<String> = text.split_inclusive('\n').map(quoted).collect();
        lines.join(&format!(" +\n{indent}"))
    }
}

/// As many columns as make a block about 2.5 times as wide as it is high, in Node's formula.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts; the result is a count again"
)]
fn columns(items: usize, column: usize, total: usize) -> usize {
    let (items, column, total) = (items as f64, column as f64, total as f64);
    let bias = (column - total / items).sqrt();
    let biased = (column - 3.0 - bias).max(1.0);
    ((2.5 * biased * items).sqrt() / biased).round() as usize
}

/// Length as JavaScript counts it.
fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn number(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => format!("{float}"),
        _ => number.to_string(),
    }
}

fn key(name: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && name.chars().all(word) && !starts_with_digit {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// In the quotes that need no escaping, single ones first.
fn quoted(text: &str) -> String {
    let quote = if !text.contains('\'') {
        '\''
    } else if !text.contains('"') {
        '"'
    } else if !text.contains('`') && !text.contains("${") {
        '`'
    } else {
        '\''
    };
    let mut shown = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => shown += "\\n",
            '\t' => shown += "\\t",
            '\r' => shown += "\\r",
            '\u{8}' => shown += "\\b",
            '\u{c}' => shown += "\\f",
            '\\' => shown += "\\\\",
            c if c == quote => {
                shown.push('\\');
                shown.push(c);
            }
            c if c.is_control() => shown += &format!("\\x{:02X}", u32::from(c)),
            c => shown.push(c),
        }
    }
    shown.push(quote);
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: &Value, expected: &str) {
        assert_eq!(inspect(value), expected);
    }

    #[test]
    fn node_itself_writes_it_so() {
        let cases: Value = serde_json::from_str(include_str!("inspect/node20.json")).unwrap();
        for case in cases.as_array().unwrap() {
            assert_eq!(inspect(&case["value"]), case["text"].as_str().unwrap());
        }
    }

    #[test]
    fn short_values_take_one_line() {
        check(&json!([]), "[]");
        check(&json!([0, 1]), "[ 0, 1 ]");
        check(&json!({"msg": "pong"}), "{ msg: 'pong' }");
        check(
            &json!({"a-b": null, "c": {}, "d": [true]}),
            "{ 'a-b': null, c: {}, d: [ true ] }",
        );
    }

    #[test]
    fn more_than_six_items_stand_in_columns() {
        let ids: Vec<u32> = (0..8).collect();
        check(&json!(ids), "[\n  0, 1, 2, 3,\n  4, 5, 6, 7\n]");
    }

    #[test]
    fn quotes_are_chosen_and_controls_escaped() {
        check(&json!("it's"), "\"it's\"");
        check(&json!("'\""), "`'\"`");
        check(&json!("'\"`"), "'\\'\"`'");
        check(&json!("a\nb\u{1b}\\"), "'a\\nb\\x1B\\\\'");
    }
}
