//! A file of instances → rows, each with its line. Pure.
//!
//! JSON lines, or CSV with a header; which of them it is, its first character says. A mistake is told
//! by its line and column and never by its value: any value may be a credential that has slipped into
//! the wrong place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::formulas::undone;
use crate::api::import::ImportRow;
use crate::cli::style::tame;
use crate::ids::Timestamp;

/// Longest row, in bytes: more than any credential needs.
const LINE_MAX: usize = 256 * 1024;
/// Some editors put it first.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Names are told up to this many characters.
const NAME_SHOWN: usize = 64;
/// What a header must have.
const NEEDED: [&str; 2] = ["user", "service"];

/// One row.
pub(super) struct Row {
    /// Where it begins, from 1.
    pub(super) line: u64,
    /// How long it is, in bytes.
    pub(super) size: usize,
    /// What it says, or what is wrong with it.
    pub(super) read: Result<ImportRow, String>,
}

/// The rows of a file, in their order.
pub(super) enum Rows<'a> {
    /// An object a line.
    Json {
        /// What is left.
        rest: &'a [u8],
        /// Lines that were read.
        line: u64,
    },
    /// Cells under a header.
    Csv(Box<Table<'a>>),
}

/// Of a CSV file.
pub(super) struct Table<'a> {
    text: &'a [u8],
    reader: csv::Reader<&'a [u8]>,
    columns: Vec<String>,
    /// So far lines were counted.
    counted: usize,
    line: u64,
}

/// Looks at the beginning.
///
/// # Errors
/// The file is empty, or its header names not what it must.
pub(super) fn rows(text: &[u8]) -> Result<Rows<'_>, String> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    match text.trim_ascii_start().first() {
        None => Err("it is empty".to_owned()),
        Some(b'{') => Ok(Rows::Json {
            rest: text,
            line: 0,
        }),
        Some(_) => Table::new(text).map(|table| Rows::Csv(Box::new(table))),
    }
}

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        match self {
            Self::Csv(table) => table.row(),
            Self::Json { rest, line } => loop {
                if rest.is_empty() {
                    return None;
                }
                let end = rest.iter().position(|&b| b == b'\n');
                let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
                *rest = after.strip_prefix(b"\n").unwrap_or(after);
                *line += 1;
                let text = text.trim_ascii();
                if !text.is_empty() {
                    return Some(Row {
                        line: *line,
                        size: text.len(),
                        read: object(text),
                    });
                }
            },
        }
    }
}

impl<'a> Table<'a> {
    fn new(text: &'a [u8]) -> Result<Self, String> {
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(text);
        let mut table = Self {
            text,
            reader,
            columns: Vec::new(),
            counted: 0,
            line: 1,
        };
        let header = table.record().map(|(_, record)| record).unwrap_or_default();
        let mut names = Vec::new();
        for name in &header {
            // What is no header may be a credential: it is not repeated.
            let name = std::str::from_utf8(name).map_err(|_| no_header())?.trim();
            if names.contains(&name) || name.is_empty() || name.len() > NAME_SHOWN {
                return Err(no_header());
            }
            names.push(name);
        }
        if !NEEDED.iter().all(|needed| names.contains(needed)) {
            return Err(no_header());
        }
        table.columns = names.into_iter().map(str::to_owned).collect();
        Ok(table)
    }

    /// The next record and its line. Nothing can go wrong: cells are bytes, as many as there are.
    fn record(&mut self) -> Option<(u64, csv::ByteRecord)> {
        let mut record = csv::ByteRecord::new();
        let is_there = self.reader.read_byte_record(&mut record).unwrap_or(false);
        let start = record.position().map_or(0, csv::Position::byte);
        if !is_there {
            return None;
        }
        // Line ends before it, blank lines among them, are counted here: the reader takes the second
        // byte of a `\r\n` for the beginning of the next record.
        let mut at = usize::try_from(start).unwrap_or(self.text.len());
        while matches!(self.text.get(at), Some(b'\r' | b'\n')) {
            at += 1;
        }
        let passed = self.text.get(self.counted..at).unwrap_or_default();
        self.line += passed.iter().filter(|&&b| b == b'\n').count() as u64;
        self.counted = at;
        Some((self.line, record))
    }

    fn row(&mut self) -> Option<Row> {
        let (line, record) = self.record()?;
        let size = record.as_slice().len();
        let read = if size > LINE_MAX {
            Err(too_long())
        } else {
            self.cells(&record)
        };
        Some(Row { line, size, read })
    }

    fn cells(&self, record: &csv::ByteRecord) -> Result<ImportRow, String> {
        if record.len() != self.columns.len() {
            let (has, wants) = (record.len(), self.columns.len());
            return Err(format!(
                "it has {has} cells, and the header {wants} columns; put cells with commas, quotes \
                 or line ends into quotes"
            ));
        }
        let mut row = empty();
        for (column, cell) in self.columns.iter().zip(record) {
            let cell = std::str::from_utf8(cell)
                .map_err(|_| format!("`{}` is no UTF-8 text", shown(column)))?;
            if cell.is_empty() {
                continue;
            }
            if column == "credential" {
                let fields = serde_json::from_str::<Map<String, Value>>(cell);
                let fields = fields.map_err(|_| "`credential` is no JSON object".to_owned())?;
                credential(&mut row, fields)?;
            } else {
                let is_exported = matches!(column.as_str(), "user" | "label");
                let cell = if is_exported { undone(cell) } else { cell };
                put(&mut row, column, cell.to_owned())?;
            }
        }
        complete(row)
    }
}

fn no_header() -> String {
    "its first line is no header: write the names of the columns there, each once, `user` and \
     `service` among them, and `api_key` or the names of the service's fields"
        .to_owned()
}

fn too_long() -> String {
    format!("it is longer than {LINE_MAX} bytes; is a quote left open, or a line end missing?")
}

/// One line of JSON.
fn object(text: &[u8]) -> Result<ImportRow, String> {
    if text.len() > LINE_MAX {
        return Err(too_long());
    }
    // What the reader says of data repeats them: only the place is told.
    let object: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => "it is no JSON object".to_owned(),
            _ => format!("it is no JSON, at column {}", error.column()),
        })?;
    let mut row = empty();
    for (name, value) in object {
        match value {
            Value::Null => {}
            Value::String(_) if name == "credential" => {
                return Err("`credential` must be an object of texts".to_owned());
            }
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => put(&mut row, &name, text)?,
            Value::Object(fields) if name == "credential" => credential(&mut row, fields)?,
            _ => return Err(format!("`{}` must be a text", shown(&name))),
        }
    }
    complete(row)
}

fn empty() -> ImportRow {
    ImportRow {
        user: String::new(),
        service: String::new(),
        api_key: None,
        additional_credentials: BTreeMap::new(),
        alias: None,
        label: None,
        expires_at: None,
        created_at: None,
    }
}

fn credential(row: &mut ImportRow, fields: Map<String, Value>) -> Result<(), String> {
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::String(text) => field(row, name, text)?,
            _ => return Err(format!("`{}` of `credential` must be a text", shown(&name))),
        }
    }
    Ok(())
}

fn field(row: &mut ImportRow, name: String, value: String) -> Result<(), String> {
    if row.additional_credentials.contains_key(&name) {
        return Err(format!("`{}` is given twice", shown(&name)));
    }
    row.additional_credentials.insert(name, value);
    Ok(())
}

/// One value under its name. What is none of ours is a field of the service.
fn put(row: &mut ImportRow, name: &str, value: String) -> Result<(), String> {
    match name {
        "user" => row.user = value,
        "service" => row.service = value,
        "alias" => row.alias = Some(value),
        "label" => row.label = Some(value),
        "api_key" | "apiKey" => row.api_key = Some(value),
        "expires_at" | "expiresAt" => row.expires_at = Some(time(name, &value)?),
        "created_at" | "createdAt" => row.created_at = Some(time(name, &value)?),
        _ => field(row, name.to_owned(), value)?,
    }
    Ok(())
}

fn time(name: &str, text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>();
    let time = time.map_err(|_| format!("`{name}` is no time such as 2027-01-31T18:00:00Z"))?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}

fn complete(row: ImportRow) -> Result<ImportRow, String> {
    if row.user.is_empty() {
        return Err("it names no `user`".to_owned());
    }
    if row.service.is_empty() {
        return Err("it names no `service`".to_owned());
    }
    Ok(row)
}

/// A name from the file, short and on one line.
fn shown(name: &str) -> String {
    tame(name).chars().take(NAME_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<(u64, Result<ImportRow, String>)> {
        let rows = rows(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        rows.map(|row| (row.line, row.read)).collect()
    }

    fn good(text: &str) -> Vec<(u64, ImportRow)> {
        let read = |(line, row): (u64, Result<ImportRow, String>)| (line, row.unwrap());
        all(text).into_iter().map(read).collect()
    }

    #[test]
    fn both_forms_say_the_same() {
        let csv = "user,service,api_key,alias,label,expires_at,region\r\n\
                   alice,figma,k1,old,\"a, b\",2027-01-31T18:00:00Z,\r\n\
                   \r\n\
                   bob,figma,\"k\r\n2\",,,,eu\r\n\
                   carol,demo,,,,,\r\n";
        let json = r#"{"user":"alice","service":"figma","apiKey":"k1","alias":"old","label":"a, b","expiresAt":"2027-01-31T18:00:00Z","region":""}

            {"user":"bob","service":"figma","api_key":"k\r\n2","credential":{"region":"eu"},"label":null}
            {"user":"carol","service":"demo"}"#;
        let marked = format!("\u{feff}{csv}");
        let value = |rows: Vec<(u64, ImportRow)>| -> Vec<(u64, Value)> {
            let value = |(line, row)| (line, serde_json::to_value::<ImportRow>(row).unwrap());
            rows.into_iter().map(value).collect()
        };
        let from_csv = value(good(csv));
        let lines: Vec<u64> = from_csv.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4, 6], "a cell may have a line end");
        assert_eq!(value(good(&marked)), from_csv);
        assert_eq!(value(good(&csv.replace("\r\n", "\n"))).len(), 3);
        let from_json = value(good(json));
        let lines: Vec<u64> = from_json.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4]);
        let rows = |values: Vec<(u64, Value)>| -> Vec<Value> {
            values.into_iter().map(|(_, row)| row).collect()
        };
        assert_eq!(rows(from_json), rows(from_csv));
    }

    #[test]
    fn what_an_export_has_escaped_is_read_as_it_was_and_no_credential_is_touched() {
        let csv = "user,service,api_key,label\n'=1,demo,'=k,''@x\n'tis,demo,'k,'a\n";
        let rows = good(csv);
        let read = |at: usize| {
            let row: &ImportRow = &rows[at].1;
            let texts = (row.api_key.as_deref(), row.label.as_deref());
            (row.user.as_str(), texts.0.unwrap(), texts.1.unwrap())
        };
        assert_eq!(read(0), ("=1", "'=k", "'@x"));
        assert_eq!(read(1), ("'tis", "'k", "'a"));
        let json = r#"{"user":"'=1","service":"demo"}"#;
        assert_eq!(good(json)[0].1.user, "'=1");
    }

    #[test]
    fn mistakes_are_told_by_place_and_never_by_value() {
        let secret = "hunter2-hunter2";
        for (text, line, wanted) in [
            (
                "{\"user\":\"a\",\"service\":\"b\",\"api_key\":\"SECRET\"",
                1,
                "no JSON, at column",
            ),
            ("{}\n\"SECRET\"", 2, "no JSON object"),
            ("{\"user\":\"a\",\"api_key\":\"SECRET\"}", 1, "no `service`"),
            (
                "{\"user\":\"a\",\"service\":\"b\",\"api_key\":[\"SECRET\"]}",
                1,
                "`api_key` must be",
            ),
            (
                "{\"user\":\"a\",\"service\":\"b\",\"credential\":\"SECRET\"}",
                1,
                "`credential` must",
            ),
            (
                "{\"user\":\"a\",\"service\":\"b\",\"expires_at\":\"SECRET\"}",
                1,
                "`expires_at` is no",
            ),
            ("user,service,api_key\na,b\n", 2, "2 cells"),
            ("user,service,api_key\na,b,SECRET,SECRET\n", 2, "4 cells"),
            (
                "user,service,credential\na,b,SECRET\n",
                2,
                "`credential` is no",
            ),
            (
                "user,service,created_at\na,b,SECRET\n",
                2,
                "`created_at` is no",
            ),
            ("service,user,api_key\n,,SECRET\n", 2, "no `user`"),
        ] {
            let rows = all(&text.replace("SECRET", secret));
            let (at, read) = rows.into_iter().last().unwrap();
            let told = read.err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(at == line && told.contains(wanted), "{text}: {at} {told}");
            assert!(!told.contains("hunter"), "{told}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused_as_a_whole() {
        for text in [
            "",
            "\u{feff}",
            "\r\n\n",
            "alice,figma,hunter2\n",
            "user;service;api_key\n",
            "user,service,user\n",
            "user,service,\n",
        ] {
            let refused = rows(text.as_bytes())
                .err()
                .unwrap_or_else(|| panic!("{text:?}"));
            assert!(!refused.contains("hunter"), "{refused}");
        }
        assert!(good("user,service\n").is_empty());
    }

    #[test]
    fn rows_have_a_length() {
        let long = "x".repeat(LINE_MAX + 1);
        for text in [
            format!("{{\"user\":\"a\",\"service\":\"b\",\"api_key\":\"{long}\"}}"),
            format!("user,service,api_key\na,b,\"{long}"),
        ] {
            let (_, read) = all(&text).pop().unwrap();
            assert!(read.err().unwrap().contains("longer than"));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            if let Ok(found) = rows(&bytes) {
                prop_assert!(found.count() <= bytes.len());
            }
        }

        #[test]
        fn lines_of_csv_are_counted_whatever_ends_them(
            ends in prop::collection::vec("(\r\n|\n|\n\n|\r\n\r\n)", 1..8),
        ) {
            let mut text = "user,service\n".to_owned();
            let mut expected = Vec::new();
            for end in &ends {
                expected.push(1 + text.matches('\n').count() as u64);
                text += &format!("a,b{end}");
            }
            let found: Vec<u64> = good(&text).into_iter().map(|(line, _)| line).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
