//! Where one stream of one process goes: its log files, those who follow, and the ear that listens
//! for taken ports.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::append::{LogFile, Unstored};
use super::capture::{Origin, Output, Source};
use super::dress::Dress;
use super::files::Stream;
use super::lines;
use super::mark::{Mark, Place};
use super::shared::Shared;
use super::words;
use crate::ids::Timestamp;

/// At most one warning about a log that can't be written in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Words that are older when a run ends are not about its end.
const WORDS_LAST: Duration = Duration::from_secs(5);
/// More of a line is not kept.
const WORDS_MAX: usize = 512;
/// A larger buffer of lines with times is given back after use.
const DRESSED_KEPT: usize = 256 * 1024;

/// Where one stream of one process goes.
pub(super) struct Sink {
    files: Vec<Rc<RefCell<LogFile>>>,
    is_told: bool,
    dress: Option<Dress>,
    ear: Option<Ear>,
    /// Of a file that could not be written.
    warned: Option<Instant>,
    /// Something could not be stored since that was asked for.
    is_cut: bool,
}

/// A piece that has arrived.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) source: &'a Source,
    pub(super) stream: Stream,
    pub(super) at: Timestamp,
    /// How far a daemon that died has come with it.
    pub(super) unfinished: Option<&'a Mark>,
}

impl Sink {
    /// To these files, at most [`super::mark::FILES`].
    pub(super) fn new(
        files: Vec<Rc<RefCell<LogFile>>>,
        dress: Option<Dress>,
        output: &Output,
    ) -> Self {
        Self {
            files,
            is_told: !output.spec.disabled,
            dress,
            ear: output.is_heard.then(Ear::default),
            warned: None,
            is_cut: false,
        }
    }

    /// The stream's file and where it ends; `None` when it goes to none.
    pub(super) fn end(&self) -> Option<(PathBuf, u64)> {
        let file = self.files.first()?.borrow();
        Some((file.path().to_owned(), file.size()?))
    }

    /// Something could not be stored since the last time this was asked.
    pub(super) fn was_cut(&mut self) -> bool {
        std::mem::take(&mut self.is_cut)
    }

    /// Something of it is kept.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// What comes next begins a line, as far as lines are dressed.
    pub(super) fn is_between_lines(&self) -> bool {
        self.dress.as_ref().is_none_or(Dress::is_between_lines)
    }

    /// What was heard of a taken port, when those words are the last ones.
    pub(super) fn last_words(&mut self) -> Option<String> {
        self.ear.as_mut().and_then(Ear::take)
    }

    /// Stores a piece and tells it. `told` hears how far it has come in which of the files.
    pub(super) fn take(
        &mut self,
        piece: &[u8],
        arrival: Arrival<'_>,
        shared: &Shared,
        told: &mut dyn FnMut(usize, Place),
    ) {
        if let Some(ear) = &mut self.ear {
            ear.hear(piece);
        }
        let Some(dress) = &mut self.dress else {
            self.store(piece, arrival, shared, told);
            return;
        };
        if let Some(mark) = arrival.unfinished {
            dress.go_on(mark.chunk.between_lines);
        }
        let dressed = shared.dressed.clone();
        let mut dressed = dressed.borrow_mut();
        dressed.clear();
        dress.put_on(piece, arrival.at, &mut dressed);
        self.store(&dressed, arrival, shared, told);
        dressed.shrink_to(DRESSED_KEPT);
    }

    fn store(
        &mut self,
        piece: &[u8],
        arrival: Arrival<'_>,
        shared: &Shared,
        told: &mut dyn FnMut(usize, Place),
    ) {
        let Arrival {
            source,
            stream,
            unfinished,
            ..
        } = arrival;
        let rules = shared.rules.borrow();
        for (index, file) in self.files.iter().enumerate() {
            let mut file = file.borrow_mut();
            let place = |mark: &Mark| mark.places.get(index).copied().flatten();
            let done = unfinished.map_or(0, |mark| file.written(piece, place(mark).as_ref()));
            let rest = &piece[done..];
            let mut told_of_it = |place: Place| told(index, place.behind(done));
            let appended = file.append(rest, Some(&rules), &mut told_of_it);
            if let Err(Unstored { done, error }) = appended {
                // The rest is lost and counted; nobody is to write it later.
                told(index, Place::given_up(piece.len()));
                self.is_cut = true;
                let lines = lines::split(&rest[done..]).count();
                let lines = u64::try_from(lines).unwrap_or(u64::MAX);
                shared.losses.add(source, file.path(), lines, &error);
                let now = Instant::now();
                if self.warned.is_none_or(|at| now - at >= WARN_EVERY) {
                    self.warned = Some(now);
                    if let Some(loss) = shared.losses.of(source.id) {
                        tracing::warn!("{loss}; it goes on");
                    }
                }
            }
            if let Some(error) = file.take_trouble() {
                tracing::warn!(
                    app = %source.name, file = %file.path().display(), %error,
                    "a full log cannot be put aside; it goes on growing"
                );
            }
        }
        if self.is_told {
            let origin = Origin::Process(source.clone(), stream);
            shared.followers.tell(&origin, piece);
        }
    }
}

/// What a run has said of a port that somebody else has, and when.
#[derive(Default)]
struct Ear(Option<(String, Instant)>);

impl Ear {
    fn hear(&mut self, piece: &[u8]) {
        let is_recent = |(_, at): &(String, Instant)| at.elapsed() < WORDS_LAST;
        if self.0.as_ref().is_some_and(is_recent) {
            return;
        }
        if let Some(line) = words::of_a_taken_port(piece) {
            let line = &line[..line.len().min(WORDS_MAX)];
            let text = String::from_utf8_lossy(line).into_owned();
            self.0 = Some((text, Instant::now()));
        }
    }

    /// The words, when they are its last ones.
    fn take(&mut self) -> Option<String> {
        let (words, at) = self.0.take()?;
        (at.elapsed() < WORDS_LAST).then_some(words)
    }
}
