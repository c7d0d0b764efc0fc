//! Lines that no log file could take: counted by process, and told until somebody resets it. And
//! processes whose output is not read at all, until it is.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::capture::Source;
use crate::ids::{AppName, PmId, Timestamp};

/// All that was lost; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lost: BTreeMap<PmId, Loss>,
    unread: BTreeMap<PmId, Unread>,
}

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

/// A process whose output is not read: once its pipe is full it waits.
#[derive(Clone, Debug)]
pub struct Unread {
    app: AppName,
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
        let error = Reason::of(error);
        let last = Timestamp::now();
        let mut state = self.lock();
        let loss = state.lost.entry(source.id).or_insert_with(|| Loss {
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
        self.lock().lost.values().cloned().collect()
    }

    pub(super) fn of(&self, id: PmId) -> Option<Loss> {
        self.lock().lost.get(&id).cloned()
    }

    /// It is counted from zero.
    pub fn forget(&self, id: PmId) {
        self.lock().lost.remove(&id);
    }

    /// Its output can't be read; `false` when that is known.
    pub(super) fn note_unread(&self, source: &Source, error: &io::Error) -> bool {
        let unread = Unread {
            app: source.name.clone(),
            error: Reason::of(error),
        };
        self.lock().unread.insert(source.id, unread).is_none()
    }

    /// Its output is read, or it is forgotten; `false` when nothing else is known.
    pub(super) fn note_read(&self, id: PmId) -> bool {
        self.lock().unread.remove(&id).is_some()
    }

    /// Each process whose output is not read.
    pub fn unread(&self) -> Vec<Unread> {
        self.lock().unread.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, error } = self;
        write!(
            f,
            "{app}: its output is not being read: {error}; it waits when its pipe is full, and is \
             tried again each second"
        )
    }
}

impl Reason {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Self::System(code),
            None => Self::Other(error.to_string()),
        }
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

    #[test]
    fn what_is_not_read_is_told_until_it_is() {
        let losses = Losses::default();
        let source = Source {
            id: PmId(0),
            name: AppName::parse("a").unwrap(),
        };
        let none_left = io::Error::from_raw_os_error(24);
        assert!(losses.note_unread(&source, &none_left));
        assert!(!losses.note_unread(&source, &none_left), "it is known");
        losses.forget(PmId(0));
        let told = losses.unread()[0].to_string();
        let expected = "a: its output is not being read: Too many open files (os error 24); ";
        assert!(told.starts_with(expected), "{told}");
        assert!(losses.note_read(PmId(0)) && !losses.note_read(PmId(0)));
        assert!(losses.unread().is_empty());
    }
}
