//! Lines that no log file could take: counted by process, and told until somebody resets it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::capture::Source;
use crate::ids::{AppName, PmId, Timestamp};

/// All that was lost; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Mutex<BTreeMap<PmId, Loss>>>);

/// Lines of one process that no log file could take.
#[derive(Clone, Debug)]
pub struct Loss {
    app: AppName,
    /// The last file that could not be written.
    file: PathBuf,
    lines: u64,
    last: Timestamp,
    error: Reason,
}

/// A text only when it is shown: a full disk fails thousands of times a second.
#[derive(Clone, Debug)]
enum Reason {
    System(i32),
    Other(String),
}

impl Losses {
    pub(super) fn add(&self, source: &Source, file: &Path, lines: u64, error: &io::Error) {
        let error = match error.raw_os_error() {
            Some(code) => Reason::System(code),
            None => Reason::Other(error.to_string()),
        };
        let last = Timestamp::now();
        let mut losses = self.lock();
        let loss = losses.entry(source.id).or_insert_with(|| Loss {
            app: source.name.clone(),
            file: file.to_owned(),
            lines: 0,
            last,
            error: error.clone(),
        });
        if loss.file != file {
            file.clone_into(&mut loss.file);
        }
        loss.lines = loss.lines.saturating_add(lines);
        loss.last = last;
        loss.error = error;
    }

    /// Of each process that lost some.
    pub fn all(&self) -> Vec<Loss> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn of(&self, id: PmId) -> Option<Loss> {
        self.lock().get(&id).cloned()
    }

    /// It is counted from zero.
    pub fn forget(&self, id: PmId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PmId, Loss>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            app,
            file,
            lines,
            last,
            error,
        } = self;
        let many = if *lines == 1 { "line" } else { "lines" };
        let file = file.display();
        write!(
            f,
            "{app}: {lines} log {many} could not be written to `{file}`, the last at {last}: {error}"
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(code) => io::Error::from_raw_os_error(*code).fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_process_until_they_are_forgotten() {
        let losses = Losses::default();
        let source = |id, name| Source {
            id: PmId(id),
            name: AppName::parse(name).unwrap(),
        };
        let full = io::Error::from_raw_os_error(28);
        losses.add(&source(0, "a"), Path::new("/x"), 1, &full);
        losses.add(&source(1, "b"), Path::new("/y"), 1, &full);
        losses.add(&source(0, "a"), Path::new("/z"), 2, &full);
        let told = losses.all()[0].to_string();
        assert!(told.starts_with("a: 3 log lines could not be written to `/z`"));
        assert!(told.ends_with("No space left on device (os error 28)"));
        let one = losses.of(PmId(1)).unwrap().to_string();
        assert!(one.starts_with("b: 1 log line could"), "{one}");
        losses.forget(PmId(0));
        assert_eq!(losses.all().len(), 1);
    }
}
