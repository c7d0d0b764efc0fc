//! `dump.pm2`: a list of processes as PM2 saves it, as raw entries.
//!
//! Written whole to a new file (0600: it holds complete environments) that then takes the name, so
//! that a crash leaves the old list or the new one; the old one is kept as `dump.pm2.bak`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Largest dump that is read, in bytes.
const DUMP_MAX: u64 = 256 * 1024 * 1024;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Nothing was ever saved.
    #[error("nothing was saved in `{}`; `mcpm save` does that", .0.display())]
    Missing(PathBuf),
    /// The file can't be read.
    #[error("cannot read `{}`: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why; in the text, which also stands alone in warnings, and so no source of it.
        why: io::Error,
    },
    /// It is no list of processes.
    #[error("`{}` is not a saved list: {why}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// A list as it was saved.
#[derive(Debug)]
pub struct Entries {
    /// One for each process, as far as it is one.
    pub entries: Vec<Value>,
    /// That it is an older list, and why.
    pub warning: Option<String>,
}

/// Saves a list.
///
/// # Errors
/// When the folder can't be written; the old list is then still there.
pub fn write(path: &Path, entries: &[Value]) -> io::Result<()> {
    let new = path.with_extension("pm2.new");
    let _ = std::fs::remove_file(&new);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(entries)?)?;
    file.sync_all()?;
    if path.exists() {
        let _ = std::fs::copy(path, path.with_extension("pm2.bak"));
    }
    std::fs::rename(&new, path)
}

/// Reads a list; one that is broken gives way to the one before it, which [`write()`] has kept, and
/// PM2 keeps, too.
///
/// # Errors
/// When there is none, or neither can be read. Nothing is changed then.
pub fn read(path: &Path) -> Result<Entries, DumpError> {
    let error = match read_one(path) {
        Ok(entries) => {
            return Ok(Entries {
                entries,
                warning: None,
            });
        }
        Err(error @ DumpError::Missing(_)) => return Err(error),
        Err(error) => error,
    };
    let older = path.with_extension("pm2.bak");
    let Ok(entries) = read_one(&older) else {
        return Err(error);
    };
    let warning = format!("{error}; took the list before it, `{}`", older.display());
    Ok(Entries {
        entries,
        warning: Some(warning),
    })
}

fn read_one(path: &Path) -> Result<Vec<Value>, DumpError> {
    let at = || path.to_owned();
    let failed = |why| DumpError::Read { path: at(), why };
    let size = match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DumpError::Missing(at()));
        }
        found => found.map_err(failed)?.len(),
    };
    let broken = |why| DumpError::Broken { path: at(), why };
    if size > DUMP_MAX {
        return Err(broken(format!("it is larger than {DUMP_MAX} bytes")));
    }
    parse(&std::fs::read(path).map_err(failed)?).map_err(broken)
}

/// The list that a text is, or why it is none.
fn parse(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let what = match serde_json::from_slice(bytes) {
        Ok(Value::Array(entries)) => return Ok(entries),
        Ok(Value::Object(_)) => "an object",
        Ok(_) => "a single value",
        Err(error) if error.is_eof() => return Err("it is cut off".to_owned()),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return Err(format!("it is no JSON at line {line}, column {column}"));
        }
    };
    Err(format!("it holds {what} in place of a list of apps"))
}
