//! What all streams of the thread that captures have in common: its log files, one for each path, its
//! buffers, and those who are told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use super::append::{LogFile, Rules};
use super::capture::{Output, Source};
use super::dress::Dress;
use super::files::Stream;
use super::followers::Followers;
use super::losses::Losses;
use super::mark::CHUNK_MAX;
use super::mark_file::MarkFile;
use super::peek::Scratch;
use super::sink::Sink;
use crate::config::spec::RotateSpec;

/// Mode of a log file: the operator's own, and readable for the group that is to look after logs.
const MODE: u32 = 0o640;

/// What the thread's tasks have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) followers: Followers,
    pub(super) losses: Losses,
    pub(super) rules: Rc<RefCell<Rules>>,
    /// One for each path, however many write to it.
    files: Rc<RefCell<HashMap<PathBuf, Weak<RefCell<LogFile>>>>>,
    /// What was seen in a pipe, by one task at a time.
    pub(super) buffer: Rc<RefCell<Vec<u8>>>,
    /// Lines with what was added to them.
    pub(super) dressed: Rc<RefCell<Vec<u8>>>,
    /// Through which pipes are looked into.
    pub(super) scratch: Rc<Scratch>,
    /// What the next daemon must know; `None` when it can't be kept.
    pub(super) marks: Rc<RefCell<Option<MarkFile>>>,
    /// Told when what a killed daemon was storing is stored.
    pub(super) finished: Rc<Notify>,
}

impl Shared {
    /// Nothing is open yet.
    pub(super) fn new(
        followers: Followers,
        losses: Losses,
        rules: Rules,
        scratch: Scratch,
        marks: Option<MarkFile>,
    ) -> Self {
        Self {
            followers,
            losses,
            rules: Rc::new(RefCell::new(rules)),
            files: Rc::default(),
            buffer: Rc::new(RefCell::new(vec![0; CHUNK_MAX])),
            dressed: Rc::default(),
            scratch: Rc::new(scratch),
            marks: Rc::new(RefCell::new(marks)),
            finished: Rc::default(),
        }
    }

    /// Where a stream goes.
    pub(super) fn sink(&self, source: &Source, stream: Stream, output: &Output) -> Sink {
        let Output { files, spec, .. } = output;
        let file = |path: Option<&Path>| path.map(|path| self.file(path, spec.rotate));
        let both = file(files.get(stream)).into_iter();
        let zone = &self.rules.borrow().zone;
        Sink::new(
            both.chain(file(files.combined.as_deref())).collect(),
            Dress::of(&spec.format, (source.id, &source.name), stream, zone),
            output,
        )
    }

    fn file(&self, path: &Path, asked: RotateSpec) -> Rc<RefCell<LogFile>> {
        let file = self.known(path);
        file.borrow_mut().asked = asked;
        file.borrow().make();
        file
    }

    /// Empties a log file.
    pub(super) fn truncate(&self, path: &Path) {
        if let Err(error) = self.known(path).borrow_mut().truncate() {
            tracing::warn!(file = %path.display(), %error, "cannot empty a log file");
        }
    }

    /// Opens all log files anew with their next lines.
    pub(super) fn reopen(&self) {
        for file in self.files.borrow().values().filter_map(Weak::upgrade) {
            file.borrow_mut().reopen();
        }
    }

    fn known(&self, path: &Path) -> Rc<RefCell<LogFile>> {
        let mut files = self.files.borrow_mut();
        let known = files.get(path).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            files.retain(|_, file| file.strong_count() > 0);
            let file = Rc::new(RefCell::new(LogFile::new(path.to_owned(), MODE)));
            files.insert(path.to_owned(), Rc::downgrade(&file));
            file
        })
    }
}
