//! A raw map and its table → typed fields. Finds unknown keys, keys written twice, wrong types.
//!
//! Every mistake of the map goes into the report; what is left can be read without looking at
//! types again. `null` counts as absent, as in PM2; every other value counts, `0` and `false` too
//! (PM2 loses them).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::error::{Report, shown};
use super::keys::{Key, Kind, Table, Treatment};
use super::syntax::{Entry, Node, Place, Value};
use super::typed::{Typed, Wrong, typed};

/// One key that was given.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Where the value begins.
    pub(crate) at: Place,
    pub(crate) value: Typed,
}

/// What a map says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    /// Where the map begins.
    pub(crate) at: Place,
    given: BTreeMap<&'static str, Field>,
    /// Keys whose value was refused, which has been reported.
    refused: BTreeSet<&'static str>,
    /// `env_<x>` blocks by `<x>`.
    pub(crate) env_blocks: BTreeMap<String, Vec<Entry>>,
}

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&Field> {
        self.given.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Not written, or `null`. A key whose value was refused is not absent: its mistake is told.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        !self.has(name) && !self.refused.contains(name)
    }

    /// Where a key's value stands, or else the map.
    pub(crate) fn place(&self, name: &str) -> Place {
        self.get(name).map_or(self.at, |field| field.at)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value {
            Typed::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn owned_text(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)?.value {
            Typed::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub(crate) fn count(&self, name: &str) -> Option<i64> {
        match self.get(name)?.value {
            Typed::Count(count) => Some(count),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name)?.value {
            Typed::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        match self.get(name)?.value {
            Typed::Size(size) => Some(size),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, name: &str) -> &[String] {
        match self.get(name).map(|field| &field.value) {
            Some(Typed::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub(crate) fn numbers(&self, name: &str) -> &[i64] {
        match self.get(name).map(|field| &field.value) {
            Some(Typed::Numbers(numbers)) => numbers,
            _ => &[],
        }
    }

    pub(crate) fn raw(&self, name: &str) -> Option<&Node> {
        match &self.get(name)?.value {
            Typed::Raw(node) => Some(node),
            _ => None,
        }
    }

    /// The entries of a key that is a map.
    pub(crate) fn entries(&self, name: &str) -> &[Entry] {
        match self.raw(name).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        }
    }
}

/// Reads a map by its table.
pub(crate) fn read(entries: &[Entry], at: Place, table: &Table, report: &mut Report) -> Fields {
    let mut fields = Fields {
        at,
        ..Fields::default()
    };
    let mut written: BTreeMap<&str, &str> = BTreeMap::new();
    let mut idle: Vec<(&'static Key, &Entry)> = Vec::new();
    for entry in entries {
        let Some(key) = table.find(&entry.key) else {
            other_key(entry, table, &mut fields, report);
            continue;
        };
        if matches!(entry.node.value, Value::Null) {
            continue;
        }
        if let Some(before) = written.insert(key.name, &entry.key) {
            let message = if before == entry.key {
                format!(
                    "{} is written twice; the last one counts",
                    shown(&entry.key)
                )
            } else {
                let (before, now) = (shown(before), shown(&entry.key));
                format!("{before} and {now} mean the same; the last one counts")
            };
            report.warn(entry.at, message);
            idle.retain(|(other, _)| other.name != key.name);
        }
        match typed(&entry.node, key.kind) {
            Ok(value) => {
                fields.given.insert(
                    key.name,
                    Field {
                        at: entry.node.at,
                        value,
                    },
                );
                let idles = matches!(key.treatment, Treatment::NotYet | Treatment::Never);
                if idles && !entry.node.is_falsy() {
                    idle.push((key, entry));
                }
            }
            Err(wrong) => {
                fields.refused.insert(key.name);
                wrong.report(&entry.key, key.kind, report);
            }
        }
    }
    for (key, entry) in idle {
        // The default, written out, asks for nothing.
        if key.default == format!("`{}`", fields.text(key.name).unwrap_or("\0")) {
            continue;
        }
        let name = shown(&entry.key);
        let message = match key.treatment {
            Treatment::Never => format!("{name} has no effect here: {}", key.meaning),
            _ => format!("{name} is not acted upon yet"),
        };
        report.warn(entry.at, message);
    }
    fields
}

fn other_key(entry: &Entry, table: &Table, fields: &mut Fields, report: &mut Report) {
    let block = entry
        .key
        .strip_prefix("env_")
        .filter(|name| !name.is_empty());
    if let (true, Some(name)) = (table.env_blocks, block) {
        match &entry.node.value {
            Value::Map(entries) => {
                fields.env_blocks.insert(name.to_owned(), entries.clone());
            }
            Value::Null => {}
            _ => Wrong::of(&entry.node).report(&entry.key, Kind::Env, report),
        }
        return;
    }
    // Looking for the nearest is slow enough to matter in a file of nothing but unknown keys.
    if !report.takes_warnings() {
        return;
    }
    let hint = match table.nearest(&entry.key) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    };
    report.warn(
        entry.at,
        format!("{} is not a key of {}{hint}", shown(&entry.key), a(table)),
    );
}

fn a(table: &Table) -> String {
    match table.path {
        "app" => "an app".to_owned(),
        "top level" => "an ecosystem file's top level".to_owned(),
        path => format!("`{path}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::APP;
    use super::super::syntax::json;
    use super::*;

    fn app(text: &str) -> (Fields, Report) {
        let mut report = Report::new(Some("f"));
        let Value::Map(entries) = json::parse(text).unwrap().value else {
            panic!("a map")
        };
        let fields = read(&entries, Place::default(), &APP, &mut report);
        (fields, report)
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = app(text).1.finish().unwrap_err().to_string();
        assert_eq!(error, expected);
    }

    #[track_caller]
    fn warned(text: &str, expected: &[&str]) {
        let warnings = app(text).1.finish().unwrap();
        let found: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn falsy_values_count_and_numbers_may_stand_in_quotes() {
        let (fields, report) = app(
            "{max_restarts: 0, restart_delay: '0', killTimeout: '2s', name: 7, kill_signal: 'term',
              stop_exit_codes: [0], args: '-a \"b c\"', instances: 'max', cwd: null}",
        );
        assert!(report.finish().unwrap().is_empty());
        assert_eq!(fields.count("max_restarts"), Some(0));
        assert_eq!(fields.duration("restart_delay"), Some(Duration::ZERO));
        assert_eq!(
            fields.duration("kill_timeout"),
            Some(Duration::from_secs(2))
        );
        assert_eq!(fields.text("name"), Some("7"));
        assert_eq!(fields.count("kill_signal"), Some(15));
        assert_eq!(fields.numbers("stop_exit_codes"), [0]);
        assert_eq!(fields.texts("args"), ["-a", "b c"]);
        assert_eq!(fields.count("instances"), Some(0));
        assert!(!fields.has("cwd"));
    }

    #[test]
    fn a_wrong_type_says_what_to_write() {
        refused(
            "{autorestart: 'true'}",
            "f:1:15: `autorestart` is `\"true\"`; write `true`, without quotes",
        );
        refused(
            "{autorestart: 'yes'}",
            "f:1:15: `autorestart` is `\"yes\"`; write `true`, since `yes` and `on` are only texts",
        );
        refused(
            "{max_restarts: -1,\n script: [1]}",
            "f:1:16: `max_restarts` is `-1`; write a whole number from 0 to 4294967295\n\
             f:2:10: `script` is a list; write a text in quotes",
        );
        refused(
            "{min_uptime: '3 weeks'}",
            "f:1:14: `min_uptime` is `\"3 weeks\"`; write milliseconds such as `1600`, or a time \
             such as `\"10s\"`",
        );
        refused("{args: ['a', {}]}", "f:1:14: `args` is a map; write a text");
        refused(
            "{env_prod: 1}",
            "f:1:12: `env_prod` is `1`; write a map of names and values, such as `{ \"NAME\": \
             \"value\" }`",
        );
        let secret = app("{env: 'KEY=hunter2'}")
            .1
            .finish()
            .unwrap_err()
            .to_string();
        assert!(
            secret.contains("`env` is a text") && !secret.contains("hunter2"),
            "{secret}"
        );
    }

    #[test]
    fn what_is_not_acted_upon_warns_by_name_unless_it_is_off() {
        warned(
            "{depends_on: 'a', time: false, write: true, vizion: true, log_type: 'raw', io: {}}",
            &[
                "f:1:2: `depends_on` is not acted upon yet",
                "f:1:32: `write` is not acted upon yet",
                "f:1:76: `io` has no effect here: PM2's cloud",
            ],
        );
    }

    #[test]
    fn unknown_and_doubled_keys_warn() {
        warned(
            "{nmae: 'x', script: 'a', exec: 'b', zzzzzz: 1}",
            &[
                "f:1:2: `nmae` is not a key of an app; did you mean `name`?",
                "f:1:26: `script` and `exec` mean the same; the last one counts",
                "f:1:37: `zzzzzz` is not a key of an app",
            ],
        );
    }
}
