//! The tables of `docs/ecosystem-file.md`, made from `keys.rs`.

use super::keys::{
    APP, AUDIT, AUTH, AUTH_FIELD, BASIC, BYTE_RATE, CORS, DAEMON, HEALTH, IDENTITY_PROVIDER,
    INJECT, Key, LIMITS, LOG_ROTATE, MCP, MCP_LIMITS, QUOTA, RATE_LIMIT, REQUEST_RATE, RETENTION,
    TOP, Table, Treatment, VALIDATE, VALIDATE_JSON,
};

/// Every table of the paper, in its order.
pub const TABLES: &[&Table] = &[
    &TOP,
    &APP,
    &MCP,
    &HEALTH,
    &AUTH,
    &AUTH_FIELD,
    &INJECT,
    &BASIC,
    &VALIDATE,
    &VALIDATE_JSON,
    &RATE_LIMIT,
    &MCP_LIMITS,
    &DAEMON,
    &IDENTITY_PROVIDER,
    &CORS,
    &LIMITS,
    &QUOTA,
    &REQUEST_RATE,
    &BYTE_RATE,
    &LOG_ROTATE,
    &RETENTION,
    &AUDIT,
];

/// A line that begins the table in the paper; [`end_mark`] ends it.
pub fn begin_mark(table: &Table) -> String {
    format!("<!-- keys: {} -->", table.path)
}

/// See [`begin_mark`].
pub fn end_mark() -> &'static str {
    "<!-- end of keys -->"
}

/// One table in Markdown.
pub fn markdown(table: &Table) -> String {
    let mut text = String::from("| key | also | type | default | | meaning |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for key in table.keys {
        let cells = [
            format!("`{}`", key.name),
            key.aliases
                .iter()
                .map(|alias| format!("`{alias}`"))
                .collect::<Vec<_>>()
                .join(" "),
            escape(&key.kind.word()),
            escape(key.default),
            supported(key),
            escape(key.meaning),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn supported(key: &Key) -> String {
    match key.treatment {
        Treatment::Acts => "yes".to_owned(),
        Treatment::NotYet => "not yet".to_owned(),
        Treatment::Never => "no".to_owned(),
        Treatment::Invisible => "ignored".to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::schema::schema;
    use super::*;

    /// Run with `UPDATE_DOCS=1` to write both papers anew.
    #[test]
    fn the_papers_say_what_the_keys_say() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let paper = docs.join("ecosystem-file.md");
        let mut expected = fs::read_to_string(&paper).expect("the paper is there");
        for table in TABLES {
            let begin = begin_mark(table);
            let from = expected
                .find(&begin)
                .unwrap_or_else(|| panic!("no {begin}"))
                + begin.len();
            let to = from + expected[from..].find(end_mark()).expect("an end mark");
            expected.replace_range(from..to, &format!("\n{}", markdown(table)));
        }
        let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        check(&paper, &expected);
        check(&docs.join("ecosystem-file.schema.json"), &schema);
    }

    fn check(path: &Path, expected: &str) {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(path, expected).unwrap();
        }
        let found = fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == expected,
            "{} is old: run with UPDATE_DOCS=1",
            path.display()
        );
    }

    #[test]
    fn the_schema_knows_every_spelling() {
        let schema = schema();
        let app = &schema["$defs"]["app"]["properties"];
        for key in APP.keys {
            for spelling in key.spellings() {
                assert!(app.get(&spelling).is_some(), "{spelling}");
            }
        }
        let mcp = &app["mcp"]["anyOf"][0]["properties"];
        assert!(MCP.keys.iter().all(|key| mcp.get(key.name).is_some()));
    }
}
