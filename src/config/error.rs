//! What is wrong with an ecosystem file, and where.
//!
//! Three grades: a [`Mistake`] refuses the whole file, an
//! [`AppFailure`] fails one app while the rest goes on, a [`Warning`] is only said. All mistakes of
//! a file are reported at once. Values of environments, templates and secrets are never repeated.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::syntax::Place;

/// Mistakes or warnings kept of one file; a file with more is hopeless or hostile.
const KEPT_MAX: usize = 1000;
/// Characters of a value that a message repeats.
const SHOWN_MAX: usize = 60;

/// A place in a file, as editors take it: `file:line:column`, both from 1.
///
/// Line 0: only the file is known, as in a `.config.js`, which `node` evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match (self.line, self.column) {
            (0, _) => Ok(()),
            (line, 0) => write!(f, ":{line}"),
            (line, column) => write!(f, ":{line}:{column}"),
        }
    }
}

/// Something that refuses the whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where; `None` for a command line.
    pub at: Option<Position>,
    /// What is wrong and what to write.
    pub message: String,
}

/// Something that is said, and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where; `None` for a command line.
    pub at: Option<Position>,
    /// What is wrong and what to write.
    pub message: String,
}

/// An app that can't be started as written, while the rest of the file can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFailure {
    /// The app's name.
    pub name: String,
    /// Where; `None` for a command line.
    pub at: Option<Position>,
    /// What is wrong and what to write.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        placed(f, self.at.as_ref(), &self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        placed(f, self.at.as_ref(), &self.message)
    }
}

impl fmt::Display for AppFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = format!("app `{}`: {}", self.name, self.message);
        placed(f, self.at.as_ref(), &message)
    }
}

fn placed(f: &mut fmt::Formatter<'_>, at: Option<&Position>, message: &str) -> fmt::Result {
    match at {
        Some(at) => write!(f, "{at}: {message}"),
        None => f.write_str(message),
    }
}

/// Why an ecosystem file or a command line was refused. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or can't be read.
    #[error("cannot read the ecosystem file `{}`", path.display())]
    Read {
        /// As the user named it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than any ecosystem file should be.
    #[error("the ecosystem file `{file}` is larger than {} MiB; split it", limit >> 20)]
    TooLarge {
        /// As the user named it.
        file: String,
        /// In bytes.
        limit: u64,
    },
    /// Bytes that are not UTF-8.
    #[error(
        "the ecosystem file `{file}` is not UTF-8 text from byte {offset} on; save it as UTF-8"
    )]
    NotUtf8 {
        /// As the user named it.
        file: String,
        /// The first bad byte, from 0.
        offset: usize,
    },
    /// A `.config.js` that could not be evaluated, for a reason outside of the file.
    #[error("`{file}` is JavaScript and needs `node`, {reason}; or write it as JSON or YAML")]
    Node {
        /// As the user named it.
        file: String,
        /// A half-sentence.
        reason: String,
    },
    /// Every mistake of the file, one a line.
    #[error("{}", lines(mistakes, warnings))]
    Mistakes {
        /// In the file's order; never empty.
        mistakes: Vec<Mistake>,
        /// What may be behind them: a misspelt key is why another is missing.
        warnings: Vec<Warning>,
    },
}

fn lines(mistakes: &[Mistake], warnings: &[Warning]) -> String {
    let mut lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}

/// Collects what is said about one file.
#[derive(Debug)]
pub(crate) struct Report {
    file: Option<Arc<str>>,
    /// The app that is being read: named where a place is not known.
    app: Option<String>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
    left_out: usize,
}

impl Report {
    /// About a file, or about a command line when there is none.
    pub(crate) fn new(file: Option<&str>) -> Self {
        Self {
            file: file.map(Arc::from),
            app: None,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            left_out: 0,
        }
    }

    /// From here on it is about this app.
    pub(crate) fn about(&mut self, app: Option<String>) {
        self.app = app;
    }

    /// A place in this file.
    pub(crate) fn position(&self, at: Place) -> Option<Position> {
        let file = Arc::clone(self.file.as_ref()?);
        Some(Position {
            file,
            line: at.line,
            column: at.column,
        })
    }

    /// Something that refuses the file.
    pub(crate) fn mistake(&mut self, at: Place, message: impl Into<String>) {
        if self.mistakes.len() >= KEPT_MAX {
            self.left_out += 1;
            return;
        }
        let message = self.with_app(at, message.into());
        self.mistakes.push(Mistake {
            at: self.position(at),
            message,
        });
    }

    /// Something to be said.
    pub(crate) fn warn(&mut self, at: Place, message: impl Into<String>) {
        if !self.takes_warnings() {
            return;
        }
        let message = self.with_app(at, message.into());
        self.warnings.push(Warning {
            at: self.position(at),
            message,
        });
    }

    /// `false` when enough was said.
    pub(crate) fn takes_warnings(&self) -> bool {
        self.warnings.len() < KEPT_MAX
    }

    /// How many mistakes there are so far: an app with one is not built.
    pub(crate) fn mistake_count(&self) -> usize {
        self.mistakes.len() + self.left_out
    }

    /// The warnings of a file without mistakes.
    ///
    /// # Errors
    /// All mistakes, when there is any.
    pub(crate) fn finish(mut self) -> Result<Vec<Warning>, ConfigError> {
        // What has no line is about the whole, and comes last.
        let place = |at: &Option<Position>| match at {
            Some(at) if at.line > 0 => (at.line, at.column),
            _ => (u32::MAX, 0),
        };
        self.warnings.sort_by_key(|warning| place(&warning.at));
        if self.mistakes.is_empty() {
            return Ok(self.warnings);
        }
        self.mistakes.sort_by_key(|mistake| place(&mistake.at));
        if self.left_out > 0 {
            let message = format!("and {} more mistakes", self.left_out);
            self.mistakes.push(Mistake { at: None, message });
        }
        Err(ConfigError::Mistakes {
            mistakes: self.mistakes,
            warnings: self.warnings,
        })
    }

    fn with_app(&self, at: Place, message: String) -> String {
        match &self.app {
            Some(app) if at.line == 0 && self.file.is_some() => format!("app `{app}`: {message}"),
            _ => message,
        }
    }
}

/// A word of the file, fit for a message: short, on one line, in backticks.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(SHOWN_MAX)
        .flat_map(char::escape_debug)
        .collect();
    // `escape_debug` is for Rust strings; people's quotes need no backslash.
    short = short.replace("\\\"", "\"").replace("\\'", "'");
    let more = if text.chars().nth(SHOWN_MAX).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{short}{more}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_print_as_editors_take_them() {
        let at = |line, column| Position {
            file: "eco.json".into(),
            line,
            column,
        };
        assert_eq!(at(3, 7).to_string(), "eco.json:3:7");
        assert_eq!(at(3, 0).to_string(), "eco.json:3");
        assert_eq!(at(0, 0).to_string(), "eco.json");
    }

    #[test]
    fn a_long_or_many_lined_value_is_shown_short_and_on_one_line() {
        assert_eq!(shown("a \"b\"\n"), "`a \"b\"\\n`");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_MAX + 3);
    }

    #[test]
    fn mistakes_come_in_the_order_of_the_file() {
        let mut report = Report::new(Some("f"));
        report.mistake(Place { line: 9, column: 1 }, "second");
        report.mistake(Place { line: 2, column: 5 }, "first");
        let error = report.finish().unwrap_err().to_string();
        assert_eq!(error, "f:2:5: first\nf:9:1: second");
    }
}
