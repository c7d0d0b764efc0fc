//! Where the output of a process goes (pure).
//!
//! Rule: PM2's file names, so that scripts that read them go on working.

use std::path::{Path, PathBuf};

use crate::config::AppSpec;
use crate::config::spec::LogTarget;
use crate::ids::PmId;

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// The log files of one process; `None` goes nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFiles {
    /// Of standard output.
    pub out: Option<PathBuf>,
    /// Of standard error.
    pub error: Option<PathBuf>,
    /// Of both.
    pub combined: Option<PathBuf>,
}

impl LogFiles {
    /// The files of process `id` of this app, with the defaults in `logs_dir`.
    pub fn of(spec: &AppSpec, id: PmId, logs_dir: &Path) -> Self {
        let place = |target: &LogTarget, stream: &str| match target {
            LogTarget::Nowhere => None,
            LogTarget::Default => {
                let name = file_name(spec.name.as_str());
                let number = if spec.logs.merge {
                    String::new()
                } else {
                    format!("-{id}")
                };
                Some(logs_dir.join(format!("{name}{stream}{number}.log")))
            }
            LogTarget::File(path) if spec.logs.merge => Some(path.clone()),
            LogTarget::File(path) => Some(numbered(path, ".log", id)),
        };
        Self {
            out: place(&spec.logs.out, "-out"),
            error: place(&spec.logs.error, "-error"),
            combined: spec
                .logs
                .combined
                .as_ref()
                .and_then(|target| place(target, "")),
        }
    }

    /// The file of one of the streams.
    pub fn get(&self, stream: Stream) -> Option<&Path> {
        match stream {
            Stream::Out => self.out.as_deref(),
            Stream::Error => self.error.as_deref(),
        }
    }
}

/// An app's name as a file name: what is not a letter, digit, `.`, `-` or `\` becomes `-`.
pub fn file_name(app: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '\\');
    app.chars().map(|c| if keep(c) { c } else { '-' }).collect()
}

/// The pid file of process `id` of this app, by default in `pids_dir`. The number is in its name
/// even when the app gives one, as in PM2: replicas would write over each other's.
pub fn pid_file(spec: &AppSpec, id: PmId, pids_dir: &Path) -> PathBuf {
    match &spec.pid_file {
        Some(path) => numbered(path, ".pid", id),
        None => pids_dir.join(format!("{}-{id}.pid", file_name(spec.name.as_str()))),
    }
}

/// `app.log` → `app-3.log`; `app-2.log` → `app-3.log`; other endings are left alone.
fn numbered(path: &Path, ending: &str, id: PmId) -> PathBuf {
    let text = path.to_string_lossy();
    let Some(stem) = text.strip_suffix(ending) else {
        return path.to_owned();
    };
    let base = match stem.rsplit_once('-') {
        Some((base, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            base
        }
        _ => stem,
    };
    PathBuf::from(format!("{base}-{id}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_file_names_as_in_pm2() {
        assert_eq!(file_name("a_b/c d.é-1"), "a-b-c-d.--1");
    }

    #[test]
    fn a_number_goes_before_the_ending() {
        let check = |from: &str, to: &str| {
            assert_eq!(numbered(Path::new(from), ".log", PmId(7)), Path::new(to));
        };
        check("/l/app.log", "/l/app-7.log");
        check("/l/app-2.log", "/l/app-7.log");
        check("/l/app.txt", "/l/app.txt");
        check("/l/app-x.log", "/l/app-x-7.log");
        let pid = numbered(Path::new("/run/web.pid"), ".pid", PmId(7));
        assert_eq!(pid, Path::new("/run/web-7.pid"));
    }
}
