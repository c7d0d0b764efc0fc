//! The `cors` block of the daemon → the origins whose pages may call. Pure.

use super::daemon_settings;
use super::error::{Report, shown};
use super::fields;
use super::keys::CORS;
use super::syntax::{Node, Value};

/// Reads it; `None` when it is not there.
pub(crate) fn read(node: Option<&Node>, report: &mut Report) -> Option<Vec<String>> {
    let node = node?;
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let fields = fields::read(entries, node.at, &CORS, report);
    if fields.lacks("origins") {
        let message =
            "`cors` has no `origins`; write a list such as `[\"https://app.example.com\"]`";
        report.mistake(node.at, message);
    }
    let mut origins = Vec::new();
    for text in fields.texts("origins") {
        match daemon_settings::origin(text) {
            Some(origin) => origins.push(origin),
            None if text == "*" => {
                let message = "`*` would let every page in; write the origins that may call";
                report.mistake(fields.place("origins"), message);
            }
            None => {
                let message = format!(
                    "{} is no origin; write scheme and host without a path, such as \
                     `https://app.example.com`",
                    shown(text)
                );
                report.mistake(fields.place("origins"), message);
            }
        }
    }
    Some(origins)
}

#[cfg(test)]
mod tests {
    use super::super::syntax::json;
    use super::*;

    fn cors(text: &str) -> Result<Option<Vec<String>>, String> {
        let mut report = Report::new(Some("f"));
        let node = json::parse(text).unwrap();
        let origins = read(Some(&node), &mut report);
        report.finish().map_err(|error| error.to_string())?;
        Ok(origins)
    }

    #[test]
    fn origins_are_read_and_nothing_wider() {
        let two = "{origins: ['https://app.example.com/', 'http://localhost:3000']}";
        let read = cors(two).unwrap().unwrap();
        assert_eq!(read, ["https://app.example.com", "http://localhost:3000"]);
        let one = cors("{origins: 'https://a.example'}").unwrap().unwrap();
        assert_eq!(one, ["https://a.example"]);
        for (text, part) in [
            ("{}", "f:1:1: `cors` has no `origins`"),
            ("{origins: '*'}", "f:1:11: `*` would let every page in"),
            ("{origins: ['https://a/b']}", "`https://a/b` is no origin"),
            ("{origins: ['null']}", "`null` is no origin"),
        ] {
            let said = cors(text).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }
}
