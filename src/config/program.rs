//! An app's `script`, `interpreter`, `args` and `cwd` → what is executed, and where.
//!
//! A script is looked for beside `cwd`, in the ecosystem file's folder, in the shell's folder (PM2:
//! only the shell's), then in `PATH`. A script with a space that is no file is a command line for
//! bash. The word `mcpm` is this very program, installed or not.

use std::path::{Path, PathBuf};

use super::error::shown;
use super::interpreter::{self, Choice};
use super::resolve::{self, Bases};
use super::spec::Program;
use super::words;

/// The name by which a file means this program.
const OWN_NAME: &str = "mcpm";
/// The script that is the file server of this program, as of PM2.
const SERVE: &str = "serve";
/// The command by which this program is that server.
const SITE: &str = "site";

/// What an app says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) script: &'a str,
    pub(crate) args: &'a [String],
    pub(crate) interpreter: Option<&'a str>,
    pub(crate) interpreter_args: &'a [String],
    pub(crate) cwd: Option<&'a str>,
    /// The app's `PATH`.
    pub(crate) path: Option<&'a str>,
    /// This program.
    pub(crate) own: &'a Path,
}

/// What an app gets.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) program: Program,
    pub(crate) cwd: PathBuf,
}

/// What is missing: the key at fault, and a half-sentence.
pub(crate) type Missing = (&'static str, String);

/// Finds it all on this machine.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn find(wanted: Wanted<'_>, bases: Bases<'_>) -> Result<Found, Missing> {
    let cwd = wanted
        .cwd
        .map(|cwd| resolve::folder(cwd, bases))
        .transpose();
    let cwd = cwd.map_err(|message| ("cwd", message))?;
    let file = resolve::file(wanted.script, cwd.as_deref(), bases);
    let is_file = file.as_ref().is_some_and(|(path, _)| path.is_file());
    let named = wanted.interpreter.filter(|name| *name != "none");
    if wanted.script == SERVE && named.is_none() {
        return Ok(Found {
            program: direct(wanted.own.to_owned(), vec![SITE.to_owned()]),
            cwd: cwd.unwrap_or_else(|| home(bases)),
        });
    }
    if let Some(args) = own_arguments(wanted.script, is_file) {
        let args = args
            .into_iter()
            .chain(wanted.args.iter().cloned())
            .collect();
        let program = direct(wanted.own.to_owned(), args);
        // A file that says `mcpm bridge rest ./x.json` means the one beside it.
        return Ok(Found {
            program,
            cwd: cwd.unwrap_or_else(|| home(bases)),
        });
    }
    if let Some((path, base)) = file {
        let base = if Path::new(wanted.script).is_relative() {
            base
        } else {
            bases.shell.into()
        };
        let program = with_interpreter(path, wanted, bases)?;
        return Ok(Found {
            program,
            cwd: cwd.unwrap_or(base),
        });
    }
    let cwd = cwd.unwrap_or_else(|| bases.shell.to_owned());
    if named.is_none() && wanted.script.trim().contains(char::is_whitespace) {
        return Ok(Found {
            program: command_line(wanted)?,
            cwd,
        });
    }
    match resolve::in_path(wanted.script, wanted.path) {
        Some(path) => Ok(Found {
            program: with_interpreter(path, wanted, bases)?,
            cwd,
        }),
        None => Err(("script", not_found(wanted.script, bases))),
    }
}

/// The arguments that a script brings along when it means this program: `mcpm`, a path to an
/// `mcpm` that is not there, or a plain command line such as `mcpm bridge demo`.
pub(crate) fn own_arguments(script: &str, is_file: bool) -> Option<Vec<String>> {
    if script == OWN_NAME {
        return Some(Vec::new());
    }
    if is_file {
        return None;
    }
    let plain = !script.contains(|c: char| "|&;<>()$`\\\"'*?[]#~=%!{}\n".contains(c));
    let mut words = words::split(script).into_iter();
    let first = words.next()?;
    let own = plain && first.rsplit('/').next() == Some(OWN_NAME);
    own.then(|| words.collect())
}

/// PM2's default name: the script's last part without its extension; of a command line the text
/// after the last slash.
pub(crate) fn default_name(script: &str) -> String {
    let script = script.trim().trim_end_matches('/');
    let last = script.rsplit('/').next().unwrap_or(script);
    match last.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => last.to_owned(),
    }
}

fn home(bases: Bases<'_>) -> PathBuf {
    bases.file.unwrap_or(bases.shell).to_owned()
}

fn direct(script: PathBuf, args: Vec<String>) -> Program {
    Program {
        script,
        interpreter: None,
        interpreter_args: Vec::new(),
        args,
    }
}

fn not_found(script: &str, bases: Bases<'_>) -> String {
    let script = script.trim();
    let places = resolve::looked_in(&bases.expand(script), bases);
    let path = if script.contains('/') {
        ""
    } else {
        " and `PATH`"
    };
    format!("`script` {} does not exist; {places}{path}", shown(script))
}

fn with_interpreter(
    path: PathBuf,
    wanted: Wanted<'_>,
    bases: Bases<'_>,
) -> Result<Program, Missing> {
    let shown_path = shown(&path.to_string_lossy());
    let (interpreter, mut between) = match wanted.interpreter {
        Some("none") => (None, Vec::new()),
        Some(name) if !name.trim().is_empty() => {
            let (program, args) = named_interpreter(name.trim(), wanted.path, bases)?;
            (Some(program), args)
        }
        _ if path.is_dir() => {
            let message = format!("`script` {shown_path} is a folder; name the file in it");
            return Err(("script", message));
        }
        _ => chosen_interpreter(&path, wanted)?,
    };
    if interpreter.is_none() && !resolve::is_executable(&path) {
        let message = format!(
            "`script` {shown_path} is not executable; run `chmod +x` on it, or name an `interpreter`"
        );
        return Err(("script", message));
    }
    if interpreter.is_none()
        && let Some(missing) = missing_interpreter(&path, wanted.path)
    {
        let message = format!(
            "`script` {shown_path} is run by {}, as its first line says, which is not there; \
             install it, or name an `interpreter`",
            shown(&missing)
        );
        return Err(("script", message));
    }
    between.extend_from_slice(wanted.interpreter_args);
    let interpreter = interpreter.map(|program| program.to_string_lossy().into_owned());
    // Without an interpreter there is nothing for its arguments to go to.
    let interpreter_args = if interpreter.is_some() {
        between
    } else {
        Vec::new()
    };
    Ok(Program {
        script: path,
        interpreter,
        interpreter_args,
        args: wanted.args.to_vec(),
    })
}

/// The program that a `#!` line names, when it is not there.
fn missing_interpreter(path: &Path, search: Option<&str>) -> Option<String> {
    let line = resolve::first_line(path)?;
    // The kernel splits at the first blank only; a carriage return belongs to the name.
    let line = line.strip_prefix("#!")?.trim_matches([' ', '\t']);
    let (program, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if program.starts_with('/') && !Path::new(program).exists() {
        return Some(program.to_owned());
    }
    let plain = |word: &&str| !word.contains(['-', '=', '/']);
    let named = rest.split_ascii_whitespace().next().filter(plain);
    let named = named.filter(|_| program.ends_with("/env"))?;
    resolve::in_path(named, search)
        .is_none()
        .then(|| named.to_owned())
}

/// Node is asked: it would not start at all with an option that it does not know.
fn strips_types(node: &Path) -> bool {
    let said = std::process::Command::new(node)
        .args([interpreter::STRIP_TYPES, "--version"])
        .output();
    said.is_ok_and(|said| said.status.success())
}

type Interpreter = (Option<PathBuf>, Vec<String>);

fn chosen_interpreter(path: &Path, wanted: Wanted<'_>) -> Result<Interpreter, Missing> {
    let Choice::Program(candidates) = resolve::choice(path) else {
        return Ok((None, Vec::new()));
    };
    for (name, args) in candidates {
        if let Some(program) = resolve::in_path(name, wanted.path) {
            if args.contains(&interpreter::STRIP_TYPES) && !strips_types(&program) {
                let message = format!(
                    "{} needs `bun`, or a `node` that strips types (22.6 or later; {} does not); install \
                     one, or name an `interpreter`",
                    shown(&path.to_string_lossy()),
                    shown(&program.to_string_lossy())
                );
                return Err(("script", message));
            }
            return Ok((
                Some(program),
                args.iter().map(|arg| (*arg).to_owned()).collect(),
            ));
        }
    }
    let names: Vec<String> = candidates
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let message = format!(
        "{} needs {}, which is not in `PATH`; install it, or name an `interpreter`",
        shown(&path.to_string_lossy()),
        names.join(" or ")
    );
    Err(("script", message))
}

fn named_interpreter(
    name: &str,
    path: Option<&str>,
    bases: Bases<'_>,
) -> Result<(PathBuf, Vec<String>), Missing> {
    if let Some(version) = name.strip_prefix("node@") {
        let message = format!(
            "`interpreter` {} asks nvm for node {}, which mcpm does not; write that node's path",
            shown(name),
            shown(version)
        );
        return Err(("exec_interpreter", message));
    }
    if let Some(program) = interpreter_file(name, path, bases) {
        return Ok((program, Vec::new()));
    }
    // `python3 -u` can only mean a program and its arguments.
    let mut words = words::split(name).into_iter();
    if let Some(program) = words
        .next()
        .and_then(|first| interpreter_file(&first, path, bases))
    {
        return Ok((program, words.collect()));
    }
    let place = if name.contains('/') {
        "does not exist or is not executable"
    } else {
        "is not in `PATH`"
    };
    let message = format!(
        "`interpreter` {} {place}; install it, or write its path",
        shown(name)
    );
    Err(("exec_interpreter", message))
}

fn interpreter_file(name: &str, path: Option<&str>, bases: Bases<'_>) -> Option<PathBuf> {
    if !name.contains('/') {
        return resolve::in_path(name, path);
    }
    let (path, _) = resolve::file(name, None, bases)?;
    resolve::is_executable(&path).then_some(path)
}

/// A command line for a shell. Arguments of their own go to its last command.
fn command_line(wanted: Wanted<'_>) -> Result<Program, Missing> {
    let shell = ["bash", "sh"]
        .iter()
        .find_map(|name| resolve::in_path(name, wanted.path));
    let shell = shell.ok_or_else(|| {
        let script = shown(wanted.script);
        (
            "script",
            format!("{script} is a command line and needs `bash`, which is not in `PATH`"),
        )
    })?;
    let mut args = vec!["-c".to_owned(), wanted.script.to_owned()];
    if !wanted.args.is_empty() {
        args[1].push_str(" \"$@\"");
        args.push(shell.to_string_lossy().into_owned());
        args.extend_from_slice(wanted.args);
    }
    Ok(direct(shell, args))
}

#[cfg(test)]
mod tests;
