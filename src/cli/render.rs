//! The only file that prints: texts, tables and JSON to stdout, complaints and hints to stderr.
//!
//! Invariant: what a program reads (JSON, tokens, URLs, logs) goes to stdout as it is, even when
//! silent; everything meant for people only is muted by `--silent`, and goes to stderr where JSON was
//! asked for. Colours and redrawn lines only in terminals.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use serde::Serialize;

use super::grid::Grid;
use super::style::{Paint, Palette};

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    silent: bool,
    /// A program reads stdout: nothing but JSON goes there.
    is_for_programs: bool,
    colour: bool,
    colour_errors: bool,
    terminal: bool,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Across.
    pub(crate) columns: usize,
    /// Down.
    pub(crate) rows: usize,
}

impl Output {
    /// Looks at stdout, stderr and what the environment says of colours (`NO_COLOR`, `TERM`, …).
    pub(crate) fn new(silent: bool, no_colour: bool) -> Self {
        let wanted = |choice: ColorChoice| !no_colour && choice != ColorChoice::Never;
        Self {
            silent,
            is_for_programs: false,
            colour: wanted(AutoStream::choice(&io::stdout())),
            colour_errors: wanted(AutoStream::choice(&io::stderr())),
            terminal: io::stdout().is_terminal(),
        }
    }

    /// JSON was asked for, so stdout is a program's: lines for people go to stderr.
    pub(crate) fn for_programs(self, is_for_programs: bool) -> Self {
        Self {
            is_for_programs,
            // What is a terminal, and what it shows, is known of stdout only.
            colour: self.colour && !is_for_programs,
            ..self
        }
    }

    /// Colours for what goes to stdout.
    pub(crate) fn palette(&self) -> Palette {
        Palette { on: self.colour }
    }

    /// The size of the terminal behind stdout; `None` for a pipe or a file.
    pub(crate) fn size(&self) -> Option<Size> {
        if !self.terminal {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        let known = size.ws_col > 0 && size.ws_row > 0;
        known.then(|| Size {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
    }

    /// May lines be redrawn in place?
    pub(crate) fn is_live(&self) -> bool {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        !self.silent && !self.is_for_programs && !dumb && self.size().is_some()
    }

    /// A line for people.
    pub(crate) fn line(&self, text: impl Display) -> io::Result<()> {
        self.text(&format!("{text}\n"))
    }

    /// A finished text for people, its line ends in it.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        if self.is_for_programs {
            return io::stderr().write_all(text.as_bytes());
        }
        write_all(text.as_bytes())
    }

    /// A table for people, as wide as the terminal lets it be.
    pub(crate) fn table(&self, grid: &Grid) -> io::Result<()> {
        let columns = self.size().map(|size| size.columns);
        self.text(&grid.render_within(columns, self.palette()))
    }

    /// What was asked for, as it is, silent or not.
    pub(crate) fn data(&self, bytes: &[u8]) -> io::Result<()> {
        write_all(bytes)
    }

    /// What was asked for as JSON, silent or not.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        Ok(write_all(&text)?)
    }

    /// Bytes to stderr as they are: the other half of `logs --raw`.
    pub(crate) fn data_to_stderr(&self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().write_all(bytes)
    }

    /// Why it did not work.
    pub(crate) fn error(&self, text: impl Display) {
        self.complain(Paint::Bad, "error:", text);
    }

    /// What to look after.
    pub(crate) fn warning(&self, text: impl Display) {
        if !self.silent {
            self.complain(Paint::Warn, "warning:", text);
        }
    }

    /// What failed among other things that did not.
    pub(crate) fn failed(&self, text: impl Display) {
        self.complain(Paint::Bad, "✗", text);
    }

    /// A word to the person at the terminal, beside output that a program may be reading.
    pub(crate) fn hint(&self, text: impl Display) {
        if !self.silent && io::stderr().is_terminal() {
            let palette = Palette {
                on: self.colour_errors,
            };
            let _ = writeln!(
                io::stderr(),
                "{}",
                palette.paint(Paint::Dim, &text.to_string())
            );
        }
    }

    fn complain(&self, paint: Paint, word: &str, text: impl Display) {
        let palette = Palette {
            on: self.colour_errors,
        };
        // Nobody left to complain to is no reason to fail.
        let _ = writeln!(io::stderr(), "{} {text}", palette.paint(paint, word));
    }
}

fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
