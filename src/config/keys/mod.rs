//! One row per key of an ecosystem file: spellings, type, default, what we do with it.
//!
//! The one table behind the reader (`fields.rs`), the JSON schema (`schema.rs`) and
//! `docs/ecosystem-file.md` (`reference.rs`). A key is in a [`Table`]; a block's table hangs on
//! its [`Kind`]. Every snake_case spelling is also known in camelCase.

mod app;
mod daemon;
mod limits;
mod mcp;

use std::collections::HashMap;
use std::sync::OnceLock;

pub use app::APP;
pub use daemon::{AUDIT, CORS, DAEMON, IDENTITY_PROVIDER, LOG_ROTATE, RETENTION, TOP};
pub use limits::{BYTE_RATE, LIMITS, MCP_LIMITS, QUOTA, REQUEST_RATE};
pub use mcp::{AUTH, AUTH_FIELD, BASIC, HEALTH, INJECT, MCP, RATE_LIMIT, VALIDATE, VALIDATE_JSON};

/// What a block may hold.
#[derive(Debug)]
pub struct Table {
    /// Heading in the papers: `app`, `mcp.auth`.
    pub path: &'static str,
    /// In the order of the papers.
    pub keys: &'static [Key],
    /// `true` when keys of the form `env_<x>` are known too.
    pub env_blocks: bool,
    spellings: OnceLock<HashMap<String, usize>>,
}

/// One row.
#[derive(Debug)]
pub struct Key {
    /// Canonical spelling.
    pub name: &'static str,
    /// Other spellings, beside camelCase.
    pub aliases: &'static [&'static str],
    /// What it may be set to.
    pub kind: Kind,
    /// For people; empty when there is none.
    pub default: &'static str,
    /// What we do with it.
    pub treatment: Treatment,
    /// For people, one sentence without a final stop.
    pub meaning: &'static str,
}

/// What we do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// What it says.
    Acts,
    /// Read and checked, but nothing more: warns by name when it is set to something.
    NotYet,
    /// Never acted upon: it asks for something that is PM2's alone. Warns by name when it is set to
    /// something.
    Never,
    /// Silent: nobody can see that it is ignored (Windows, PM2's hooks inside of Node).
    Invisible,
}

/// What a key may be set to.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text; a number is taken as its digits.
    Text,
    /// A path of a URL: begins with `/`.
    UrlPath,
    /// `true` or `false`.
    Flag,
    /// A whole number, or its digits in quotes.
    Count {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// 1 to 65535.
    Port,
    /// Milliseconds, or a text with a unit.
    Duration,
    /// A duration of whole days.
    Days,
    /// Bytes, or a text with a unit.
    Size,
    /// A list of texts, or one text that is split at white space.
    Words,
    /// One text or a list of texts, none of them split.
    Texts,
    /// `true`, `false`, one text or a list of texts.
    FlagOrTexts,
    /// `true`, `false` or a text.
    FlagOrText,
    /// A number or a list of numbers, each between two bounds.
    Numbers {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A number, or `max`.
    Instances,
    /// A signal by name or number.
    Signal,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Variables: a map of anything that becomes a text.
    Env,
    /// A map of texts.
    Texted,
    /// A map with a table of its own, or one of the short forms.
    Block(&'static Table, &'static [Short]),
    /// A list of maps with a table of their own.
    Blocks(&'static Table),
    /// A map of names that people choose, each with a map that has a table of its own.
    Named(&'static Table),
    /// Anything: not looked at.
    Any,
}

/// A short form of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// `true`
    True,
    /// `false`
    False,
    /// A text.
    Text,
    /// A number.
    Number,
}

impl Table {
    const fn new(path: &'static str, keys: &'static [Key]) -> Self {
        Self {
            path,
            keys,
            env_blocks: false,
            spellings: OnceLock::new(),
        }
    }

    const fn with_env_blocks(mut self) -> Self {
        self.env_blocks = true;
        self
    }

    /// The row of a key, by any of its spellings.
    pub fn find(&self, written: &str) -> Option<&'static Key> {
        self.index().get(written).map(|&i| &self.keys[i])
    }

    /// The spelling most like this one, for a "did you mean".
    pub fn nearest(&self, written: &str) -> Option<&str> {
        let wanted = plain(written);
        let allowed = (wanted.len() / 4).clamp(1, 3);
        let distance = |known: &str| edits(&plain(known), &wanted, allowed);
        let near = self
            .index()
            .keys()
            .filter_map(|known| Some((distance(known)?, known)));
        // The canonical name where spellings are equally near.
        let by_rank = near.min_by_key(|&(d, known)| {
            (
                d,
                self.find(known).is_none_or(|key| key.name != known),
                known.clone(),
            )
        });
        by_rank.map(|(_, known)| known.as_str())
    }

    fn index(&self) -> &HashMap<String, usize> {
        self.spellings.get_or_init(|| {
            let rows = self.keys.iter().enumerate();
            rows.flat_map(|(i, key)| key.spellings().into_iter().map(move |s| (s, i)))
                .collect()
        })
    }
}

impl Key {
    /// Every accepted spelling: name and aliases, each also in camelCase.
    pub fn spellings(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for name in std::iter::once(&self.name).chain(self.aliases) {
            for spelling in [(*name).to_owned(), camel(name)] {
                if !all.contains(&spelling) {
                    all.push(spelling);
                }
            }
        }
        all
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        meaning: &'static str,
    ) -> Self {
        let treatment = Treatment::Acts;
        Self {
            name,
            aliases: &[],
            kind,
            default,
            treatment,
            meaning,
        }
    }

    const fn aka(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn but(mut self, treatment: Treatment) -> Self {
        self.treatment = treatment;
        self
    }
}

impl Kind {
    /// "write …": what a person should put there.
    pub fn expected(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::UrlPath => "a path that begins with `/`, such as `/mcp`".to_owned(),
            Self::Flag => "`true` or `false`, without quotes".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::Duration => "milliseconds such as `1600`, or a time such as `\"10s\"`".to_owned(),
            Self::Days => "whole days such as `\"180d\"`, or `0` for ever".to_owned(),
            Self::Size => "a size such as `\"200M\"`".to_owned(),
            Self::Words => "a list of texts, or one text with spaces between them".to_owned(),
            Self::Texts => "a text or a list of texts".to_owned(),
            Self::FlagOrTexts => "`true`, `false`, a text or a list of texts".to_owned(),
            Self::FlagOrText => "`true`, `false` or a text".to_owned(),
            Self::Numbers { min, max } => {
                format!("a whole number from {min} to {max}, or a list of such")
            }
            Self::Instances => format!(
                "a number of processes up to {}, or `\"max\"`",
                app::INSTANCES.end()
            ),
            Self::Signal => "a signal such as `\"SIGTERM\"`".to_owned(),
            Self::Word(words) => one_of(words),
            Self::Env => "a map of names and values, such as `{ \"NAME\": \"value\" }`".to_owned(),
            Self::Texted => "a map of texts, such as `{ \"name\": \"text\" }`".to_owned(),
            Self::Block(_, shorts) => {
                let mut words = vec!["a map"];
                words.extend(shorts.iter().map(|short| short.word()));
                words.join(" or ")
            }
            Self::Blocks(_) => "a list of maps".to_owned(),
            Self::Named(_) => "a map of names, each with a map".to_owned(),
            Self::Any => "anything".to_owned(),
        }
    }

    /// The type in a word or two, for the papers.
    pub fn word(self) -> String {
        match self {
            Self::Text | Self::UrlPath => "text".to_owned(),
            Self::Flag => "bool".to_owned(),
            Self::Count { .. } | Self::Port => "number".to_owned(),
            Self::Duration => "ms, `\"10s\"`".to_owned(),
            Self::Days => "`\"180d\"`".to_owned(),
            Self::Size => "bytes, `\"200M\"`".to_owned(),
            Self::Words => "list, text".to_owned(),
            Self::Texts => "text, list".to_owned(),
            Self::FlagOrTexts => "bool, text, list".to_owned(),
            Self::FlagOrText => "bool, text".to_owned(),
            Self::Numbers { .. } => "number, list".to_owned(),
            Self::Instances => "number, `max`".to_owned(),
            Self::Signal => "signal".to_owned(),
            Self::Word(words) => words
                .iter()
                .map(|w| format!("`{w}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Env | Self::Texted => "map".to_owned(),
            Self::Block(table, _) => format!("block `{}`", table.path),
            Self::Blocks(table) => format!("list of `{}`", table.path),
            Self::Named(table) => format!("map of `{}`", table.path),
            Self::Any => "any".to_owned(),
        }
    }
}

impl Short {
    fn word(self) -> &'static str {
        match self {
            Self::True => "`true`",
            Self::False => "`false`",
            Self::Text => "a text",
            Self::Number => "a number",
        }
    }
}

/// Bounds of `instances`.
pub(crate) fn instances() -> std::ops::RangeInclusive<i64> {
    app::INSTANCES
}

/// "one of `a`, `b`"
fn one_of(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    if words.len() == 1 {
        words.concat()
    } else {
        format!("one of {}", words.join(", "))
    }
}

/// `max_memory_restart` → `maxMemoryRestart`
pub(crate) fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut all, part| {
        let mut chars = part.chars();
        all.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        all.push_str(chars.as_str());
        all
    })
}

/// What is left of a key when its style is taken away.
fn plain(key: &str) -> String {
    let kept = key
        .chars()
        .filter(|c| !matches!(c, '_' | '-' | ' ' | '.'))
        .take(40);
    kept.flat_map(char::to_lowercase).collect()
}

/// Optimal string alignment distance (a swap is one edit), when it is at most `max`.
fn edits(a: &str, b: &str, max: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > max {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let change = last[j] + usize::from(a[i] != b[j]);
            let mut best = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|&d| d <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table that can be reached from the file's top.
    fn tables() -> Vec<&'static Table> {
        fn add(table: &'static Table, all: &mut Vec<&'static Table>) {
            all.push(table);
            for key in table.keys {
                if let Kind::Block(inner, _) | Kind::Blocks(inner) | Kind::Named(inner) = key.kind {
                    add(inner, all);
                }
            }
        }
        let mut all = Vec::new();
        add(&TOP, &mut all);
        all
    }

    #[test]
    fn no_spelling_means_two_things() {
        for table in tables() {
            let mut seen = HashMap::new();
            for key in table.keys {
                for spelling in key.spellings() {
                    let other = seen.insert(spelling.clone(), key.name);
                    assert_eq!(other, None, "{}: {spelling}", table.path);
                }
            }
        }
    }

    #[test]
    fn the_nearest_spelling_is_found() {
        let check = |written: &str, expected: Option<&str>| {
            assert_eq!(APP.nearest(written), expected, "{written}");
        };
        check("max-memory-restart", Some("max_memory_restart"));
        check("scirpt", Some("script"));
        check("Name", Some("name"));
        check("interpeter", Some("interpreter"));
        check("completely_different", None);
        check("x", None);
    }

    #[test]
    fn camel_case_is_made() {
        assert_eq!(camel("max_memory_restart"), "maxMemoryRestart");
        assert_eq!(camel("env"), "env");
        assert!(
            APP.find("outFile")
                .is_some_and(|key| key.name == "out_file")
        );
        assert!(
            APP.find("errFile")
                .is_some_and(|key| key.name == "error_file")
        );
    }
}
