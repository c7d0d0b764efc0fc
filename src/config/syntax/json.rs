//! JSON as people write it, read as JSON5: comments, trailing commas, single quotes, bare keys,
//! hexadecimal numbers. PM2 evaluates such a file as JavaScript; expressions are all that is left
//! out, and the message for them says where they belong.

use jsonc_parser::ast::{ObjectPropName, Value as Ast};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::{DEPTH_MAX, Entry, Node, Number, Place, SyntaxError, Value};

/// Reads a whole text.
///
/// # Errors
/// The first place where it is not JSON.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_too_deep(text)?;
    // JavaScript does not forgive a missing comma, and who forgot one wants to know.
    let options = ParseOptions {
        allow_missing_commas: false,
        ..ParseOptions::default()
    };
    let result = parse_to_ast(text, &CollectOptions::default(), &options);
    let ast = result.map_err(|error| explain(text, &error))?.value;
    let ast = ast.ok_or_else(|| SyntaxError {
        at: Place { line: 1, column: 1 },
        message: "the file is empty; write `{ \"apps\": [ … ] }`".to_owned(),
    })?;
    Ok(convert(&ast, &mut Cursor::new(text)))
}

/// Counts brackets outside of strings and comments before the recursive parser sees the text, so
/// that no file can use up the stack. Counts a little too much in broken texts, which are refused
/// anyway.
fn refuse_too_deep(text: &str) -> Result<(), SyntaxError> {
    let bytes = text.as_bytes();
    let (mut depth, mut i) = (0usize, 0usize);
    while i < bytes.len() {
        match bytes[i] {
            quote @ (b'"' | b'\'') => i = skip_string(bytes, i, quote),
            b'/' if bytes.get(i + 1) == Some(&b'/') => {
                i += bytes[i..]
                    .iter()
                    .position(|&b| b == b'\n')
                    .unwrap_or(bytes.len() - i);
            }
            b'/' if bytes.get(i + 1) == Some(&b'*') => {
                let end = bytes[i + 2..].windows(2).position(|w| w == b"*/");
                i = end.map_or(bytes.len(), |end| i + 2 + end + 1);
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            let at = Cursor::new(text).place(i);
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(SyntaxError { at, message });
        }
        i += 1;
    }
    Ok(())
}

/// The index of the closing quote, or the last index.
fn skip_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut i = start + 1;
    while i < bytes.len() && bytes[i] != quote {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i
}

/// Turns byte offsets into places. Offsets must not shrink, so that a file of one long line does
/// not cost the square of its length.
struct Cursor<'a> {
    text: &'a str,
    offset: usize,
    at: Place,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            at: Place { line: 1, column: 1 },
        }
    }

    fn place(&mut self, offset: usize) -> Place {
        let end = self.text.floor_char_boundary(offset.max(self.offset));
        for c in self.text[self.offset..end].chars() {
            if c == '\n' {
                self.at = Place {
                    line: self.at.line.saturating_add(1),
                    column: 1,
                };
            } else {
                self.at.column = self.at.column.saturating_add(1);
            }
        }
        self.offset = end;
        self.at
    }
}

/// Depth is bounded by [`refuse_too_deep`].
fn convert(ast: &Ast<'_>, cursor: &mut Cursor<'_>) -> Node {
    let at = cursor.place(ast.start());
    let value = match ast {
        Ast::NullKeyword(_) => Value::Null,
        Ast::BooleanLit(lit) => Value::Bool(lit.value),
        Ast::NumberLit(lit) => Value::Number(Number::new(number(lit.value), lit.value)),
        Ast::StringLit(lit) => Value::Text(lit.value.to_string()),
        Ast::Array(array) => Value::List(
            array
                .elements
                .iter()
                .map(|item| convert(item, cursor))
                .collect(),
        ),
        Ast::Object(object) => {
            let entries = object.properties.iter().map(|prop| {
                let at = cursor.place(prop.start());
                let key = match &prop.name {
                    ObjectPropName::String(lit) => lit.value.to_string(),
                    ObjectPropName::Word(lit) => lit.value.to_owned(),
                };
                Entry {
                    key,
                    at,
                    node: convert(&prop.value, cursor),
                }
            });
            Value::Map(entries.collect())
        }
    };
    Node { value, at }
}

/// What the scanner took for a number: decimal, hexadecimal, signed, or not finite.
fn number(written: &str) -> f64 {
    let (sign, digits) = match written.as_bytes().first() {
        Some(b'-') => (-1.0, &written[1..]),
        Some(b'+') => (1.0, &written[1..]),
        _ => (1.0, written),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    if let Some(hex) = hex {
        let add = |sum: f64, c: char| sum * 16.0 + f64::from(c.to_digit(16).unwrap_or(0));
        return sign * hex.chars().fold(0.0, add);
    }
    // Rust reads `Infinity`, `NaN`, `.5` and `5.` as JavaScript does.
    sign * digits.parse::<f64>().unwrap_or(f64::NAN)
}

fn explain(text: &str, error: &ParseError) -> SyntaxError {
    let start = error.range().start;
    let at = Cursor::new(text).place(start);
    let word: String = text
        .get(start..)
        .unwrap_or_default()
        .chars()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'))
        .take(40)
        .collect();
    let message = match error.kind() {
        // An unquoted value may be a secret, so only words of JavaScript are repeated.
        ParseErrorKind::UnexpectedWord | ParseErrorKind::UnexpectedToken
            if is_javascript(&word) =>
        {
            format!("`{word}` is an expression, not JSON; write an `ecosystem.config.js` for that")
        }
        ParseErrorKind::UnexpectedWord | ParseErrorKind::UnexpectedToken if !word.is_empty() => {
            "a bare word is not JSON; put texts into quotes".to_owned()
        }
        ParseErrorKind::ExpectedComma => "a comma is missing here".to_owned(),
        ParseErrorKind::UnterminatedObject => "this `{` is never closed".to_owned(),
        ParseErrorKind::UnterminatedArray => "this `[` is never closed".to_owned(),
        ParseErrorKind::MultipleRootJsonValues => {
            "there is more text after the end of the value; is a bracket closed too early?"
                .to_owned()
        }
        ParseErrorKind::ExpectedColonAfterObjectKey => {
            "a colon is missing between key and value".to_owned()
        }
        other => format!("not JSON: {}", other.to_string().to_lowercase()),
    };
    SyntaxError { at, message }
}

fn is_javascript(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "process",
        "require",
        "module",
        "new",
        "undefined",
        "function",
        "async",
        "await",
        "path",
        "os",
        "Number",
        "String",
        "Object",
        "Array",
        "Math",
        "JSON",
        "__dirname",
        "__filename",
    ];
    WORDS.contains(&word.split('.').next().unwrap_or(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> serde_json::Value {
        parse(text).expect("it is JSON5").to_json()
    }

    #[test]
    fn it_reads_what_pm2_evaluates() {
        let text = "\u{feff}// head\n{ apps: [ { 'name': 'a', \"n\": 0x10, m: +.5, /* x */ z: null, }, ], }";
        let expected = serde_json::json!({
            "apps": [ { "name": "a", "n": 16, "m": 0.5, "z": null } ]
        });
        assert_eq!(json(text), expected);
    }

    #[test]
    fn places_count_characters_from_one() {
        let node = parse("{\n  \"ä\": 1, \"b\": [true]\n}").unwrap();
        let Value::Map(entries) = node.value else {
            panic!("a map")
        };
        assert_eq!(entries[0].at, Place { line: 2, column: 3 });
        assert_eq!(entries[0].node.at, Place { line: 2, column: 8 });
        assert_eq!(
            entries[1].node.at,
            Place {
                line: 2,
                column: 16
            }
        );
    }

    #[test]
    fn a_syntax_error_says_where_and_what() {
        let check = |text: &str, line: u32, column: u32, part: &str| {
            let error = parse(text).unwrap_err();
            assert_eq!(
                error.at,
                Place { line, column },
                "{text}: {}",
                error.message
            );
            assert!(error.message.contains(part), "{text}: {}", error.message);
        };
        check("", 1, 1, "empty");
        check("{\n \"a\": 1\n \"b\": 2 }", 2, 8, "comma");
        check("{ a: process.env.X }", 1, 6, "process.env.X");
        check("{ a: hunter2 }", 1, 6, "a bare word");
        check("{ \"a\": [1, 2 ", 1, 8, "never closed");
        check("{} {}", 1, 4, "more text");
        check(&"[".repeat(100_000), 1, 65, "levels");
        check("{ a 1 }", 1, 5, "colon");
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count_as_depth() {
        let many = "[".repeat(500);
        assert!(
            parse(&format!(
                "{{ a: \"{many}\\\"\", b: 1 /* {many} */ }} // {many}"
            ))
            .is_ok()
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn nothing_json_like_panics(text in r#"[\[\]{}:,"'a0-9.x+\-/*\\ \n\u{fe}]{0,200}"#) {
            let _ = parse(&text);
        }
    }
}
