//! One log file: opened when the first line comes, appended to, put aside by `rotate.rs`'s rule.
//!
//! What holds: a file is put aside by a new name and the next one is open before anything is
//! written to it, so nothing is copied and no byte is lost; when that fails (a folder without
//! permission) the old one goes on. All who write to one path share one of these. When the disk is
//! full the beginning of a line that could still be written is taken back, so that what is stored are
//! whole lines, and none of them grows together with a later one. Who appends is told before and after
//! each write how far it has come, so that it can be finished when the daemon is killed meanwhile.
//! Nothing here logs: the daemon's own log is such a file, too.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::aside::{self, Tidier};
use super::lines;
use super::mark::{self, Place};
use super::rotate::{self, Facts, Form, Mark, Policy};
use super::stamp::Stamp;
use crate::config::spec::RotateSpec;
use crate::failpoint;
use crate::ids::Timestamp;

/// How often an open log file is checked for having been moved, deleted or emptied by others.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// After a file could not be put aside it is tried again so much later.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// What all log files of a daemon share.
#[derive(Clone)]
pub struct Rules {
    /// The daemon's settings.
    pub daemon: RotateSpec,
    /// Compresses and deletes what was put aside.
    pub tidier: Tidier,
    /// Of the times in names.
    pub zone: TimeZone,
}

/// A log file by its path.
pub struct LogFile {
    path: PathBuf,
    mode: u32,
    /// What the app says of it.
    pub asked: RotateSpec,
    open: Option<Open>,
    /// How often it was opened: tells others that the descriptor is a new one.
    opened: u64,
    /// The newest that was put aside, once the folder was looked through.
    last: Option<Mark>,
    retry_at: Option<Instant>,
    trouble: Option<io::Error>,
    /// It ended within a line when something could not be written: what comes next begins a line.
    is_torn: bool,
}

/// A piece that is not all in its file.
#[derive(Debug)]
pub struct Unstored {
    /// So many bytes of it are.
    pub done: usize,
    /// Why the rest is not.
    pub error: io::Error,
}

impl From<Unstored> for io::Error {
    fn from(unstored: Unstored) -> Self {
        unstored.error
    }
}

struct Open {
    file: File,
    /// A device or a pipe is never put aside.
    is_regular: bool,
    size: u64,
    between_lines: bool,
    begun: Timestamp,
    checked: Instant,
}

impl LogFile {
    /// Nothing is opened yet. A file that is made has this mode.
    pub fn new(path: PathBuf, mode: u32) -> Self {
        Self {
            path,
            mode,
            asked: RotateSpec::default(),
            open: None,
            opened: 0,
            last: None,
            retry_at: None,
            trouble: None,
            is_torn: false,
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, as far as we know; 0 when it is not there, `None` for a device or a pipe.
    pub fn size(&self) -> Option<u64> {
        match &self.open {
            Some(open) => open.is_regular.then_some(open.size),
            None => length_of(&self.path),
        }
    }

    /// The open file and how often one was opened so far.
    pub fn descriptor(&self) -> Option<(&File, u64)> {
        self.open.as_ref().map(|open| (&open.file, self.opened))
    }

    /// Appends all of it, putting the file aside before or between its lines when that is due.
    /// `told` hears where the next byte of the piece goes, before each write and after it.
    ///
    /// # Errors
    /// When not all could be written, and how much was: whole lines, where that could be had.
    pub fn append(
        &mut self,
        piece: &[u8],
        rules: Option<&Rules>,
        told: &mut dyn FnMut(Place),
    ) -> Result<(), Unstored> {
        let policy = rules.map(|rules| (Policy::of(self.asked, rules.daemon), rules));
        let mut rest = piece;
        while !rest.is_empty() {
            let done = piece.len() - rest.len();
            self.check().map_err(|error| Unstored { done, error })?;
            let room = match &policy {
                Some((policy, _)) => self.room(policy, rest),
                None => rest.len(),
            };
            let (now, later) = rest.split_at(room);
            self.write(now, done, told)?;
            rest = later;
            if let Some((policy, rules)) = policy.as_ref().filter(|_| !rest.is_empty()) {
                self.put_aside(*policy, rules);
            }
        }
        Ok(())
    }

    /// How many bytes of the piece a daemon that died at this place has appended.
    pub fn written(&self, piece: &[u8], place: Option<&Place>) -> usize {
        let found = place.and_then(|place| self.found(place, piece.len()));
        mark::written(piece, place, found.as_deref())
    }

    /// Makes it when it is not there, so that who follows it from outside finds it. When that fails the
    /// first line says so.
    pub fn make(&self) {
        if self.open.is_none() && !self.path.exists() {
            let _ = open(&self.path, self.mode);
        }
    }

    /// Opens it anew with the next line: somebody else has moved it.
    pub fn reopen(&mut self) {
        self.open = None;
    }

    /// Empties it. One that is not there is not made.
    ///
    /// # Errors
    /// When it can't be opened or emptied.
    pub fn truncate(&mut self) -> io::Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        let file = open(&self.path, self.mode)?;
        if file.metadata().is_ok_and(|meta| meta.is_file()) {
            file.set_len(0)?;
        }
        self.open = None;
        Ok(())
    }

    /// Why it could not be put aside, told once for each try.
    pub fn take_trouble(&mut self) -> Option<io::Error> {
        self.trouble.take()
    }

    fn room(&self, policy: &Policy, rest: &[u8]) -> usize {
        let waits = self.retry_at.is_some_and(|at| Instant::now() < at);
        match &self.open {
            Some(open) if open.is_regular && !policy.is_off() && !waits => {
                let facts = Facts {
                    size: open.size,
                    between_lines: open.between_lines,
                    begun: open.begun,
                };
                // Without an age no clock has to be read.
                let now = policy.max_age.map_or(open.begun, |_| Timestamp::now());
                rotate::room(policy, facts, rest, now)
            }
            _ => rest.len(),
        }
    }

    /// Has the file open that the path names.
    fn check(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            let now = Instant::now();
            if now - open.checked < CHECK_EVERY {
                return Ok(());
            }
            open.checked = now;
            if open.is_at(&self.path) {
                // Others may have emptied it.
                let size = open.file.metadata()?.len();
                open.between_lines |= size == 0;
                open.size = open.size.min(size);
                return Ok(());
            }
        }
        self.open = None;
        self.open = Some(Open::of(open(&self.path, self.mode)?, &self.path)?);
        self.opened += 1;
        Ok(())
    }

    /// What stands behind the place; `None` when the path names another file, or none that can be
    /// read.
    fn found(&self, place: &Place, most: usize) -> Option<Vec<u8>> {
        let meta = self.path.metadata().ok()?;
        if !meta.is_file() || (meta.dev(), meta.ino()) != (place.device, place.inode) {
            return None;
        }
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(place.length)).ok()?;
        let mut found = Vec::new();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        file.take(most).read_to_end(&mut found).ok()?;
        Some(found)
    }

    /// Writes bytes before which so many of their piece were written.
    fn write(
        &mut self,
        bytes: &[u8],
        done: usize,
        told: &mut dyn FnMut(Place),
    ) -> Result<(), Unstored> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let Some(last) = bytes.last() else {
            return Ok(());
        };
        if self.is_torn && !(open.is_regular && open.between_lines) {
            open.file
                .write_all(b"\n")
                .map_err(|error| Unstored { done, error })?;
            open.size += 1;
        }
        self.is_torn = false;
        let place = open.place(done);
        told(place);
        failpoint::reach("append.before_write");
        let (written, result) = put(&mut open.file, bytes);
        failpoint::reach("append.written");
        if let Err(error) = result {
            let kept = open.keep_whole(&place, &bytes[..written]);
            self.is_torn = match bytes[..kept].last() {
                Some(last) => *last != b'\n',
                None => !open.between_lines,
            };
            // Its length is looked up with the next piece.
            self.open = None;
            let done = done + kept;
            return Err(Unstored { done, error });
        }
        // Told again before the file may be put aside: then it is found no more.
        told(place.after(bytes.len()));
        open.size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        open.between_lines = *last == b'\n';
        Ok(())
    }

    /// Puts the file aside; goes on with it when that can't be done.
    fn put_aside(&mut self, policy: Policy, rules: &Rules) {
        match self.rename_and_open(rules) {
            Ok(Some(real)) => rules.tidier.tidy(real, policy),
            Ok(None) => self.open = None,
            Err(error) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                self.trouble = Some(error);
            }
        }
    }

    /// Returns the path behind links: its folder is where the others are. `None` when the path is
    /// no longer that of the open file.
    fn rename_and_open(&mut self, rules: &Rules) -> io::Result<Option<PathBuf>> {
        if !self
            .open
            .as_ref()
            .is_some_and(|open| open.is_at(&self.path))
        {
            return Ok(None);
        }
        let real = std::fs::canonicalize(&self.path)?;
        if self.last.is_none() {
            let found = aside::found(&real)?;
            self.last = found.into_iter().map(|(mark, _)| mark).max();
        }
        let time = Stamp::new(rotate::NAME_FORMAT, rules.zone.clone())
            .text(Timestamp::now())
            .to_owned();
        let mark = Mark::next(self.last.as_ref(), &time);
        let aside = aside::path(&real, &mark, Form::Plain);
        failpoint::reach("rotate.before_rename");
        std::fs::rename(&real, &aside)?;
        failpoint::reach("rotate.renamed");
        let next = open(&real, self.mode).and_then(|file| Open::of(file, &real));
        match next {
            Ok(next) => {
                self.open = Some(next);
                self.opened += 1;
                self.last = Some(mark);
                failpoint::reach("rotate.reopened");
                Ok(Some(real))
            }
            Err(error) => {
                // The old one is still open; it gets its name back.
                std::fs::rename(&aside, &real)?;
                Err(error)
            }
        }
    }
}

/// The bytes of a file; 0 when it is not there, `None` for a device or a pipe.
pub fn length_of(path: &Path) -> Option<u64> {
    match path.metadata() {
        Ok(meta) => meta.is_file().then_some(meta.len()),
        Err(_) => Some(0),
    }
}

impl Open {
    /// Where the next byte goes. The length is asked for: others may write to it and empty it.
    fn place(&self, done: usize) -> Place {
        let meta = self.file.metadata();
        let place = meta.map(|meta| Place {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            done,
        });
        place.unwrap_or(Place::given_up(done))
    }

    /// A write at this place has failed after so much: cuts the beginning of a line off that it has
    /// left, and says how many of the bytes stay.
    fn keep_whole(&self, place: &Place, written: &[u8]) -> usize {
        let whole = lines::whole(written);
        if whole == written.len() {
            return whole;
        }
        let (end, kept) = (place.after(written.len()).length, place.after(whole).length);
        let is_ours = self.file.metadata().is_ok_and(|meta| {
            // Nobody else has written behind it.
            (meta.dev(), meta.ino(), meta.len()) == (place.device, place.inode, end)
        });
        if self.is_regular && is_ours && self.file.set_len(kept).is_ok() {
            whole
        } else {
            written.len()
        }
    }

    /// The path names this very file.
    fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), path.metadata()) {
            (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    fn of(file: File, path: &Path) -> io::Result<Self> {
        let meta = file.metadata()?;
        let is_regular = meta.is_file();
        let created = meta.created().ok().and_then(|at| {
            let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
            i64::try_from(since.as_millis()).ok()
        });
        Ok(Self {
            is_regular,
            size: meta.len(),
            between_lines: !is_regular || meta.len() == 0 || ends_a_line(path),
            begun: created.map_or_else(Timestamp::now, Timestamp::from_millis),
            checked: Instant::now(),
            file,
        })
    }
}

/// Writes as much as can be written, and says how much that was.
fn put(file: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Reads the last byte; a file that can't be read counts as ending with a line.
fn ends_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    last().map_or(true, |byte| byte == b'\n')
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    let open = || {
        File::options()
            .append(true)
            .create(true)
            .mode(mode)
            // One that is a FIFO without a reader must not hold up everybody's logs.
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open(path)
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            open()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
