//! Asks at the terminal; secrets without echo.
//!
//! While a secret is typed the terminal hands over single bytes and makes no signals, so that
//! Ctrl-C comes to us as a byte and echo is on again before we end.

use std::io::{self, IsTerminal, Read, Write};

use anyhow::bail;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Longest input that is taken from stdin or a terminal.
const INPUT_MAX: usize = 64 * 1024;

// Keys that the terminal no longer handles while a secret is typed.
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;

/// Is there someone to ask?
pub(crate) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// All of stdin.
///
/// # Errors
/// When it cannot be read, is too long or no UTF-8.
pub(crate) fn read_all() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(INPUT_MAX + 1).unwrap_or(u64::MAX);
    io::stdin().take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > INPUT_MAX {
        bail!("stdin holds more than {INPUT_MAX} bytes; write the credential only");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => bail!("stdin is no UTF-8 text"),
    }
}

/// Asks for a line that may be seen.
///
/// # Errors
/// When the terminal is gone or ended the input.
pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
    say(&format!("{question}: "))?;
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        bail!("no answer");
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks for a line that nobody shall see.
///
/// # Errors
/// When the terminal is gone, ended the input, or Ctrl-C was typed.
pub(crate) fn ask_secret(question: &str) -> anyhow::Result<String> {
    say(&format!("{question} (not shown): "))?;
    let typed = {
        let _quiet = Quiet::begin()?;
        read_typed()
    };
    say("\n")?;
    match typed? {
        Typed::Line(bytes) => match String::from_utf8(bytes) {
            Ok(line) => Ok(line),
            Err(_) => bail!("what was typed is no UTF-8 text"),
        },
        Typed::Ended => bail!("no answer"),
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut stderr = io::stderr();
    stderr.write_all(text.as_bytes())?;
    stderr.flush()
}

fn read_typed() -> io::Result<Typed> {
    let mut line = TypedLine::default();
    let mut byte = [0];
    loop {
        // One byte at a time and past the buffer of `io::stdin`: what follows is not ours.
        match rustix::io::read(io::stdin(), &mut byte) {
            Ok(0) => return Ok(Typed::Ended),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(typed) = line.feed(byte[0]) {
            return Ok(typed);
        }
    }
}

/// How typing ended.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Line(Vec<u8>),
    /// By Ctrl-C, or by Ctrl-D on an empty line.
    Ended,
}

/// What has been typed so far. Knows the keys that the terminal no longer handles.
#[derive(Debug, Default)]
struct TypedLine(Vec<u8>);

impl TypedLine {
    fn feed(&mut self, byte: u8) -> Option<Typed> {
        match byte {
            b'\n' | b'\r' => return Some(Typed::Line(std::mem::take(&mut self.0))),
            CTRL_C => return Some(Typed::Ended),
            CTRL_D => {
                let typed = std::mem::take(&mut self.0);
                return Some(if typed.is_empty() {
                    Typed::Ended
                } else {
                    Typed::Line(typed)
                });
            }
            // Backspace and Delete take a whole character: its continuation bytes, too.
            BACKSPACE | DELETE => while self.0.pop().is_some_and(|b| b & 0xc0 == 0x80) {},
            CTRL_U => self.0.clear(),
            byte if self.0.len() < INPUT_MAX => self.0.push(byte),
            _ => {}
        }
        None
    }
}

/// No echo until it is dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &[u8], expected: Option<Typed>) {
        let mut line = TypedLine::default();
        let got = typed.iter().find_map(|&byte| line.feed(byte));
        assert_eq!(got, expected);
    }

    #[test]
    fn keys_do_what_the_terminal_did() {
        check(b"key\r", Some(Typed::Line(b"key".to_vec())));
        check(b"kex\x7fy\n", Some(Typed::Line(b"key".to_vec())));
        check("ä\x7fb\n".as_bytes(), Some(Typed::Line(b"b".to_vec())));
        check(b"\x7f\x7fa\n", Some(Typed::Line(b"a".to_vec())));
        check(b"wrong\x15key\n", Some(Typed::Line(b"key".to_vec())));
        check(b"ke\x03", Some(Typed::Ended));
        check(b"\x04", Some(Typed::Ended));
        check(b"key\x04", Some(Typed::Line(b"key".to_vec())));
        check(b"key", None);
    }
}
