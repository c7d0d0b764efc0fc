//! Which processes a word means (pure). PM2's order, first match wins.

use std::path::Path;

use regex_lite::Regex;

use super::snapshot::{Process, Snapshot};
use crate::ids::PmId;

/// `all`, `/regex/`, a name, a script's path, a namespace or a pm_id.
#[derive(Clone, Debug)]
pub struct Target {
    word: String,
    pattern: Option<Regex>,
}

/// Why a word can mean nothing.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` is no regular expression that names can be compared with: {why}")]
pub struct PatternError {
    word: String,
    why: String,
}

impl Target {
    /// Reads a word. What stands between two slashes is a regular expression in JavaScript's
    /// syntax, without look-around and back-references: those take time without a limit.
    ///
    /// # Errors
    /// When that is none.
    pub fn parse(word: &str) -> Result<Self, PatternError> {
        let inside = word.strip_prefix('/').and_then(|w| w.strip_suffix('/'));
        let pattern = match inside.filter(|inside| !inside.is_empty()) {
            // PM2's own habit: `\/` and `/` are the same.
            Some(inside) => {
                Some(
                    Regex::new(&inside.replace("\\/", "/")).map_err(|error| PatternError {
                        word: word.to_owned(),
                        why: error.to_string(),
                    })?,
                )
            }
            None => None,
        };
        Ok(Self {
            word: word.to_owned(),
            pattern,
        })
    }

    /// Every process.
    pub fn all() -> Self {
        Self {
            word: "all".to_owned(),
            pattern: None,
        }
    }

    /// Does it mean whatever there is? Then nothing to be found is no mistake.
    pub fn is_all(&self) -> bool {
        self.word == "all"
    }

    /// The word as it was written.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// The processes that it means, by pm_id; empty when it means none.
    pub fn select(&self, snapshot: &Snapshot) -> Vec<PmId> {
        let by = |matches: &dyn Fn(&Process) -> bool| -> Vec<PmId> {
            let processes = snapshot.processes.iter();
            processes
                .filter(|process| matches(process))
                .map(|process| process.id)
                .collect()
        };
        let word = self.word.as_str();
        if self.is_all() {
            return by(&|_| true);
        }
        if let Some(pattern) = &self.pattern {
            return by(&|process| pattern.is_match(process.spec.name.as_str()));
        }
        let named = by(&|process| process.spec.name.as_str() == word);
        if !named.is_empty() {
            return named;
        }
        if let Ok(number) = word.parse() {
            let grouped = by(&|process| process.spec.namespace == word);
            return if grouped.is_empty() {
                by(&|process| process.id == PmId(number))
            } else {
                grouped
            };
        }
        let scripted = by(&|process| process.spec.program.script == Path::new(word));
        if !scripted.is_empty() {
            return scripted;
        }
        by(&|process| process.spec.namespace == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::testing;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn snapshot() -> Snapshot {
        let process = |id: u32, name: &str, namespace: &str| {
            let mut spec = testing::spec(name);
            spec.namespace = namespace.into();
            Arc::new(Process::registered(PmId(id), 0, Arc::new(spec)))
        };
        Snapshot {
            processes: vec![
                process(0, "web", "default"),
                process(1, "web", "default"),
                process(2, "api", "web"),
                process(3, "0", "default"),
                process(4, "b/c", "7"),
            ],
        }
    }

    #[track_caller]
    fn check(word: &str, expected: &[u32]) {
        let found = Target::parse(word).unwrap().select(&snapshot());
        let ids: Vec<_> = found.iter().map(|id| id.0).collect();
        assert_eq!(ids, expected, "{word}");
    }

    #[test]
    fn names_come_before_namespaces_and_both_before_ids() {
        check("all", &[0, 1, 2, 3, 4]);
        check("web", &[0, 1]);
        check("default", &[0, 1, 3]);
        check("0", &[3]);
        check("2", &[2]);
        check("7", &[4]);
        check("9", &[]);
        check("nobody", &[]);
        check("/bin/sleep", &[0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_pattern_is_compared_with_names_only() {
        check("/we/", &[0, 1]);
        check("/^(web|api)$/", &[0, 1, 2]);
        check("/^\\d$/", &[3]);
        check("/default/", &[]);
        check("/^WEB$/", &[]);
        check("/(?i)^WEB$/", &[0, 1]);
        check("/b\\/c/", &[4]);
        check("//", &[]);
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        let error = Target::parse("/(/").unwrap_err().to_string();
        assert!(error.starts_with("`/(/` is no regular"), "{error}");
        assert!(Target::parse("/(?=x)/").is_err());
    }

    proptest! {
        #[test]
        fn no_word_panics_and_all_is_the_most(word in ".*") {
            if let Ok(target) = Target::parse(&word) {
                prop_assert!(target.select(&snapshot()).len() <= 5);
            }
        }
    }
}
