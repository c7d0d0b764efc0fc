//! The thread that writes the lines, and the handle to it.
//!
//! The file is put aside like any other log. The thread is there from the moment on at which a log is
//! wanted. It is no task: files block.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderValue, Method};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::line::Line;
use super::record::Record;
use crate::config::settings::AccessLogForm;
use crate::logs::append::{LogFile, Rules};
use crate::metrics::Count;

/// Lines that may wait: a tenth of a second's worth of a router that is as busy as can be, 2 MiB.
const QUEUE: usize = 8192;
/// Lines that are written in one go.
const BATCH: usize = 512;
/// For this user only: addresses of clients are nobody else's business.
const MODE: u32 = 0o600;
/// That lines were lost is said no more often.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How long the end of the daemon waits for the lines that wait.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Handle to the log. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog(Arc<Inner>);

struct Inner {
    path: PathBuf,
    queue: OnceLock<mpsc::Sender<Word>>,
    shared: Arc<Shared>,
}

/// What the thread and those who write have in common.
#[derive(Default)]
struct Shared {
    form: AtomicU8,
    dropped: Count,
    rules: ArcSwapOption<Rules>,
}

enum Word {
    Line(Box<Line>),
    /// All that came before is written when this is answered.
    Flush(oneshot::Sender<()>),
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessLog({})", self.0.path.display())
    }
}

impl Shared {
    fn form(&self) -> AccessLogForm {
        match self.form.load(Ordering::Relaxed) {
            1 => AccessLogForm::Text,
            2 => AccessLogForm::Json,
            _ => AccessLogForm::Off,
        }
    }
}

impl AccessLog {
    /// One at this path, which is off.
    pub fn new(path: PathBuf) -> Self {
        Self(Arc::new(Inner {
            path,
            queue: OnceLock::new(),
            shared: Arc::default(),
        }))
    }

    /// Writes in this form from now on, and is put aside by these rules.
    pub fn apply(&self, form: AccessLogForm, rules: Rules) {
        let Inner {
            path,
            queue,
            shared,
        } = &*self.0;
        shared.rules.store(Some(Arc::new(rules)));
        let number = match form {
            AccessLogForm::Off => 0,
            AccessLogForm::Text => 1,
            AccessLogForm::Json => 2,
        };
        shared.form.store(number, Ordering::Relaxed);
        if number == 0 || queue.get().is_some() {
            return;
        }
        let (sender, lines) = mpsc::channel(QUEUE);
        let writer = Writer {
            file: LogFile::new(path.clone(), MODE),
            shared: shared.clone(),
            told: (0, None),
        };
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        match thread.spawn(move || writer.run(lines)) {
            Ok(_) => drop(queue.set(sender)),
            Err(error) => tracing::error!(%error, "cannot start the thread of the access log"),
        }
    }

    /// A request begins; `None` while no log is wanted.
    pub fn begin(
        &self,
        request_id: &HeaderValue,
        client: IpAddr,
        method: &Method,
    ) -> Option<Arc<Record>> {
        if self.0.shared.form.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (log, id) = (self.clone(), request_id.clone());
        Some(Arc::new(Record::new(log, id, client, method.clone())))
    }

    /// Never waits: without room the line is dropped, and counted.
    pub(super) fn write(&self, line: Line) {
        let queue = self.0.queue.get();
        let is_taken = queue.is_some_and(|it| it.try_send(Word::Line(Box::new(line))).is_ok());
        if !is_taken {
            self.0.shared.dropped.add();
        }
    }

    /// Lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.get()
    }

    /// Waits until what was written so far is in the file, and not for long.
    pub async fn close(&self) {
        let Some(queue) = self.0.queue.get() else {
            return;
        };
        let (done, is_done) = oneshot::channel();
        let flush = async {
            // A thread that is gone has nothing left to write.
            let _ = queue.send(Word::Flush(done)).await;
            let _ = is_done.await;
        };
        let _ = tokio::time::timeout(CLOSE_WITHIN, flush).await;
    }
}

/// The thread.
struct Writer {
    file: LogFile,
    shared: Arc<Shared>,
    /// How many lost lines were told of, and when.
    told: (u64, Option<Instant>),
}

impl Writer {
    fn run(mut self, mut lines: mpsc::Receiver<Word>) {
        let mut piece = String::new();
        while let Some(first) = lines.blocking_recv() {
            let more = std::iter::from_fn(|| lines.try_recv().ok());
            let words: Vec<Word> = std::iter::once(first).chain(more).take(BATCH).collect();
            let (form, mut count) = (self.shared.form(), 0);
            for word in words {
                match word {
                    Word::Line(line) => {
                        piece += &line.text(form);
                        count += 1;
                    }
                    Word::Flush(done) => {
                        self.store(&mut piece, &mut count);
                        let _ = done.send(());
                    }
                }
            }
            self.store(&mut piece, &mut count);
            self.tell();
        }
    }

    fn store(&mut self, piece: &mut String, count: &mut u64) {
        let rules = self.shared.rules.load_full();
        if let Err(unstored) = self
            .file
            .append(piece.as_bytes(), rules.as_deref(), &mut |_| {})
        {
            let stored = piece.as_bytes()[..unstored.done].iter();
            let stored = stored.filter(|&&b| b == b'\n').count() as u64;
            self.shared.dropped.add_many(count.saturating_sub(stored));
        }
        // It goes on growing when it can't be put aside.
        if let Some(error) = self.file.take_trouble() {
            tracing::warn!(%error, "the access log cannot be put aside");
        }
        piece.clear();
        *count = 0;
    }

    fn tell(&mut self) {
        let (told, when) = self.told;
        let lost = self.shared.dropped.get();
        if lost > told && when.is_none_or(|when| when.elapsed() >= TOLD_EVERY) {
            let lines = lost - told;
            tracing::warn!(
                lines,
                "the access log has lost lines: the disk is full, or slower than the requests"
            );
            self.told = (lost, Some(Instant::now()));
        }
    }
}
