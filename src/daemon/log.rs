//! The daemon's own log: lines on standard error, which the starting command has pointed at
//! `mcpm.log` (or which a terminal, systemd or a container reads).
//!
//! When it is `mcpm.log` it is put aside like any other log, and standard error, where panics go,
//! follows to the new file. `MCPM_LOG` sets the level: `error`, `warn`, `info` (the default),
//! `debug`.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::ids::Timestamp;
use crate::logs::Logs;
use crate::logs::append::{LogFile, Rules};

/// For this user only: the log names users and services.
const MODE: u32 = 0o600;

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Timestamp::now())
    }
}

/// Logs to standard error, wherever it goes; does nothing when that was done before. Our bridges
/// use it.
pub fn start() {
    install(io::stderr);
}

/// The daemon's own log.
#[derive(Clone)]
pub(super) struct OwnLog(Arc<Mutex<State>>);

struct State {
    /// `None` while standard error is not `mcpm.log`.
    file: Option<LogFile>,
    /// Which of its descriptors standard error is.
    opened: u64,
    rules: Option<Rules>,
    followers: Option<Logs>,
}

impl OwnLog {
    /// Logs to standard error; when that is this file, the file is looked after from now on.
    pub(super) fn start(path: &Path) -> Self {
        let is_it = || -> io::Result<bool> {
            let (is, named) = (
                rustix::fs::fstat(rustix::stdio::stderr())?,
                path.metadata()?,
            );
            Ok((is.st_dev, is.st_ino) == (named.dev(), named.ino()))
        };
        let file = is_it()
            .unwrap_or(false)
            .then(|| LogFile::new(path.to_owned(), MODE));
        let own = Self(Arc::new(Mutex::new(State {
            file,
            opened: 1,
            rules: None,
            followers: None,
        })));
        install(own.clone());
        own
    }

    /// From now on it is put aside by these rules, and told to those who follow.
    pub(super) fn attach(&self, rules: Rules, followers: Logs) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.rules = Some(rules);
        state.followers = Some(followers);
    }

    /// Opens the file anew, since another program has moved it.
    pub(super) fn reopen(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.iter_mut().for_each(LogFile::reopen);
    }
}

impl State {
    fn write(&mut self, said: &[u8]) -> io::Result<()> {
        if let Some(logs) = &self.followers {
            logs.tell(said);
        }
        let Some(file) = &mut self.file else {
            return io::stderr().write_all(said);
        };
        file.append(said, self.rules.as_ref(), &mut |_| {})?;
        // It goes on growing when it can't be put aside: there is no other place to say so.
        let _ = file.take_trouble();
        if let Some((descriptor, opened)) = file.descriptor()
            && opened != self.opened
        {
            rustix::stdio::dup2_stderr(descriptor)?;
            rustix::stdio::dup2_stdout(descriptor)?;
            self.opened = opened;
        }
        Ok(())
    }
}

/// Hands lines to the log, each in one piece.
pub(super) struct LineWriter(OwnLog);

impl Write for LineWriter {
    fn write(&mut self, said: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.write(said)?;
        Ok(said.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for OwnLog {
    type Writer = LineWriter;

    fn make_writer(&self) -> LineWriter {
        LineWriter(self.clone())
    }
}

fn install(writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let wanted = std::env::var("MCPM_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let level: LevelFilter = wanted.unwrap_or(LevelFilter::INFO);
    // Libraries speak of every request at `info`, and of headers at `debug`: only their warnings.
    let levels = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("mcpm", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false)
        .with_timer(Clock);
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(levels))
        .try_init();
}
