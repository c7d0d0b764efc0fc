//! Reads what services write and appends it to their log files.
//!
//! One thread of its own with its own small reactor: blocking on a disk here delays neither the
//! router nor a restart. Per stream one task; while nothing arrives it holds no buffer. Streams
//! take turns, so that a flood holds up nobody else. A log that can't be written (disk full) loses
//! lines, counts them and says so; the service never waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::append::{LogFile, Rules};
use super::dress::Dress;
use super::files::{LogFiles, Stream};
use super::lines::{self, Partial};
use super::losses::Losses;
use super::pipes::Pipes;
use super::words;
use crate::config::spec::{LogSpec, RotateSpec};
use crate::ids::{AppName, PmId, Timestamp};

/// How long the beginning of a line is held back for its end.
const PARTIAL_WAIT: Duration = Duration::from_millis(500);
/// Bytes per read: the size of a pipe.
const BUFFER: usize = 64 * 1024;
/// Reads of one stream in a row before the others get their turn.
const READS_IN_A_ROW: usize = 4;
/// Lines a follower may be behind before it loses the oldest.
const FOLLOWER_LINES: usize = 16 * 1024;
/// Orders to the thread that may be under way: a few for each of the most processes there may be.
/// Room costs nothing until it is used.
const ORDERS: usize = 40_000;
/// At most one warning about a log that can't be written in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Words that are older when a run ends are not about its end.
const WORDS_LAST: Duration = Duration::from_secs(5);
/// How long a run's last words are waited for.
const WORDS_WAIT: Duration = Duration::from_millis(200);
/// More of a line is not kept.
const WORDS_MAX: usize = 512;
/// Mode of a log file: the operator's own, and readable for the group that is to look after logs.
const MODE: u32 = 0o640;
/// A larger buffer of lines with times is given back after use.
const DRESSED_KEPT: usize = 256 * 1024;

/// Whose output it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The process.
    pub id: PmId,
    /// Its app.
    pub name: AppName,
}

/// Who said a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A process, on one of its streams.
    Process(Source, Stream),
    /// The daemon itself, in its own log.
    Daemon,
}

/// One line as it is stored, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub origin: Origin,
    /// Bytes, UTF-8 or not.
    pub bytes: Vec<u8>,
}

/// What becomes of a process's output.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where it goes.
    pub files: LogFiles,
    /// In which form, and how long files get.
    pub spec: LogSpec,
    /// What it says of a port that somebody else has is kept for [`Logs::last_words`].
    pub is_heard: bool,
}

/// What one run has written to one log file, as far as it is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// On which of its streams.
    pub stream: Stream,
    /// The file.
    pub path: PathBuf,
    /// From here, in bytes.
    pub from: u64,
    /// To here.
    pub to: u64,
}

/// So many lines a follower was too slow for.
pub type Missed = u64;

/// Handle to the thread that captures.
#[derive(Clone)]
pub struct Logs {
    orders: mpsc::Sender<Order>,
    followers: broadcast::Sender<Arc<Line>>,
    losses: Losses,
}

enum Order {
    Capture {
        source: Source,
        pipes: Pipes,
        output: Box<Output>,
        done: oneshot::Sender<()>,
    },
    Settle {
        id: PmId,
        heard: Option<mpsc::Sender<String>>,
    },
    Begin {
        id: PmId,
        done: oneshot::Sender<()>,
    },
    Extents {
        id: PmId,
        answer: mpsc::Sender<Extent>,
    },
    Release {
        id: PmId,
    },
    Truncate {
        files: LogFiles,
        done: oneshot::Sender<()>,
    },
    Reopen {
        done: oneshot::Sender<()>,
    },
    Pause {
        done: oneshot::Sender<()>,
    },
    Rotate(RotateSpec),
}

enum Word {
    /// Whoever wants to know is told what was heard.
    Settle(Option<mpsc::Sender<String>>),
    Begin,
    Extent(mpsc::Sender<Extent>),
    Write(Box<Sink>),
}

impl Logs {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(rules: Rules) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (followers, _) = broadcast::channel(FOLLOWER_LINES);
        let losses = Losses::default();
        let logs = Self {
            orders,
            followers: followers.clone(),
            losses: losses.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("mcpm-logs".into())
            .spawn(move || {
                let tasks = tokio::task::LocalSet::new();
                let shared = Shared::new(followers, losses, rules);
                tasks.block_on(&runtime, serve(inbox, shared));
            })?;
        Ok(logs)
    }

    /// Reads this process's FIFOs from now on; they are open when it returns. What is written to a
    /// FIFO that nobody has open is gone with the writer, so a process is started only then. Called
    /// again for the same process, it goes on with the new files.
    pub fn capture(
        &self,
        source: Source,
        pipes: Pipes,
        output: Output,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (done, wait) = oneshot::channel();
        self.order(Order::Capture {
            source,
            pipes,
            output: Box::new(output),
            done,
        });
        async move { drop(wait.await) }
    }

    /// A run has ended: what is in its pipes is read, and what is held of a line is let go.
    pub async fn settle(&self, id: PmId) {
        let _ = self.orders.send(Order::Settle { id, heard: None }).await;
    }

    /// The same, and what the run has said of a taken port in its last moments. A disk that is slow
    /// is not waited for.
    pub async fn last_words(&self, id: PmId) -> Option<String> {
        let (sender, mut heard) = mpsc::channel(2);
        let order = Order::Settle {
            id,
            heard: Some(sender),
        };
        let _ = self.orders.send(order).await;
        let last = tokio::time::timeout(WORDS_WAIT, heard.recv()).await;
        last.ok().flatten()
    }

    /// A run begins: what its process writes from when it returns on is its own.
    pub fn begin(&self, id: PmId) -> impl Future<Output = ()> + Send + use<> {
        let (done, wait) = oneshot::channel();
        self.order(Order::Begin { id, done });
        async move { drop(wait.await) }
    }

    /// What a run has written that has ended, one for each stream that goes to a file; to be asked
    /// for after [`Logs::settle`]. It comes when the thread has done that: nobody needs to wait.
    pub async fn extents(&self, id: PmId) -> mpsc::Receiver<Extent> {
        let (answer, extents) = mpsc::channel(2);
        let _ = self.orders.send(Order::Extents { id, answer }).await;
        extents
    }

    /// The process is forgotten: the same, and its pipes are closed.
    pub fn release(&self, id: PmId) {
        self.order(Order::Release { id });
    }

    /// Empties a process's log files, whether it runs or not; done when it returns.
    pub async fn truncate(&self, files: LogFiles) {
        let (done, wait) = oneshot::channel();
        let order = Order::Truncate { files, done };
        if self.orders.send(order).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Opens all log files anew, since another program has moved them; done when it returns. What
    /// comes next makes a new file.
    pub async fn reopen(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Reopen { done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Reads no more, and closes all pipes; done when it returns. What is written to them waits there
    /// for whoever reads next.
    pub async fn pause(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Pause { done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::error!("the thread that captures logs does not answer; output waits in pipes");
        }
    }

    /// From now on this holds for files whose app does not say otherwise.
    pub async fn rotate(&self, daemon: RotateSpec) {
        let _ = self.orders.send(Order::Rotate(daemon)).await;
    }

    /// Tells those who follow what the daemon has said in its own log.
    pub fn tell(&self, said: &[u8]) {
        tell(&self.followers, &Origin::Daemon, said);
    }

    /// What arrives from now on, of every process and of the daemon.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        self.followers.subscribe()
    }

    /// What no log file could take.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }
}

/// What the thread's tasks have in common.
#[derive(Clone)]
struct Shared {
    followers: broadcast::Sender<Arc<Line>>,
    losses: Losses,
    rules: Rc<RefCell<Rules>>,
    /// One for each path, however many write to it.
    files: Rc<RefCell<HashMap<PathBuf, Weak<RefCell<LogFile>>>>>,
    /// What is read, by one task at a time.
    buffer: Rc<RefCell<Vec<u8>>>,
    /// Lines with what was added to them.
    dressed: Rc<RefCell<Vec<u8>>>,
}

impl Shared {
    fn new(followers: broadcast::Sender<Arc<Line>>, losses: Losses, rules: Rules) -> Self {
        Self {
            followers,
            losses,
            rules: Rc::new(RefCell::new(rules)),
            files: Rc::default(),
            buffer: Rc::new(RefCell::new(vec![0; BUFFER])),
            dressed: Rc::default(),
        }
    }

    fn sink(&self, source: &Source, stream: Stream, output: &Output) -> Sink {
        let Output { files, spec, .. } = output;
        let file = |path: Option<&Path>| path.map(|path| self.file(path, spec.rotate));
        let both = file(files.get(stream)).into_iter();
        let zone = &self.rules.borrow().zone;
        Sink {
            files: both.chain(file(files.combined.as_deref())).collect(),
            is_told: !spec.disabled,
            dress: Dress::of(&spec.format, (source.id, &source.name), stream, zone),
            ear: output.is_heard.then(Ear::default),
            warned: None,
        }
    }

    fn file(&self, path: &Path, asked: RotateSpec) -> Rc<RefCell<LogFile>> {
        let file = self.known(path);
        file.borrow_mut().asked = asked;
        file
    }

    fn truncate(&self, path: &Path) {
        if let Err(error) = self.known(path).borrow_mut().truncate() {
            tracing::warn!(file = %path.display(), %error, "cannot empty a log file");
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

/// The thread's own loop: hands out orders to the streams' tasks.
async fn serve(mut inbox: mpsc::Receiver<Order>, shared: Shared) {
    let mut streams: HashMap<PmId, Vec<(Stream, mpsc::Sender<Word>)>> = HashMap::new();
    let mut tasks = JoinSet::new();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Capture {
                source,
                pipes,
                output,
                done,
            } => {
                if let Some(open) = streams.get(&source.id) {
                    for (stream, sender) in open {
                        let sink = Box::new(shared.sink(&source, *stream, &output));
                        let _ = sender.send(Word::Write(sink)).await;
                    }
                    let _ = done.send(());
                    continue;
                }
                while tasks.try_join_next().is_some() {}
                let mut open = Vec::new();
                for stream in [Stream::Out, Stream::Error] {
                    let sink = shared.sink(&source, stream, &output);
                    match Task::open(&source, stream, &pipes, sink, &shared) {
                        Ok((task, sender)) => {
                            open.push((stream, sender));
                            tasks.spawn_local(task.run());
                        }
                        Err(error) => {
                            tracing::error!(app = %source.name, %error, "cannot read its output");
                        }
                    }
                }
                streams.insert(source.id, open);
                let _ = done.send(());
            }
            Order::Settle { id, heard } => {
                for (_, sender) in streams.get(&id).into_iter().flatten() {
                    let _ = sender.send(Word::Settle(heard.clone())).await;
                }
            }
            Order::Begin { id, done } => {
                for (_, sender) in streams.get(&id).into_iter().flatten() {
                    let _ = sender.send(Word::Begin).await;
                }
                let _ = done.send(());
            }
            Order::Extents { id, answer } => {
                for (_, sender) in streams.get(&id).into_iter().flatten() {
                    let _ = sender.send(Word::Extent(answer.clone())).await;
                }
            }
            // A stream's task ends when its sender is dropped, after a last read.
            Order::Release { id } => drop(streams.remove(&id)),
            Order::Truncate { files, done } => {
                let LogFiles {
                    out,
                    error,
                    combined,
                } = files;
                [out, error, combined]
                    .iter()
                    .flatten()
                    .for_each(|path| shared.truncate(path));
                let _ = done.send(());
            }
            Order::Reopen { done } => {
                for file in shared.files.borrow().values().filter_map(Weak::upgrade) {
                    file.borrow_mut().reopen();
                }
                let _ = done.send(());
            }
            Order::Pause { done } => {
                streams.clear();
                while tasks.join_next().await.is_some() {}
                let _ = done.send(());
            }
            Order::Rotate(daemon) => shared.rules.borrow_mut().daemon = daemon,
        }
    }
}

struct Task {
    source: Source,
    stream: Stream,
    pipe: Receiver,
    words: mpsc::Receiver<Word>,
    partial: Partial,
    sink: Sink,
    /// Where the present run begins in the log file.
    begun: u64,
    shared: Shared,
}

impl Task {
    fn open(
        source: &Source,
        stream: Stream,
        pipes: &Pipes,
        sink: Sink,
        shared: &Shared,
    ) -> io::Result<(Self, mpsc::Sender<Word>)> {
        let (sender, words) = mpsc::channel(4);
        let task = Self {
            source: source.clone(),
            stream,
            pipe: Receiver::from_file_unchecked(pipes.reader(stream)?)?,
            words,
            partial: Partial::default(),
            sink,
            begun: 0,
            shared: shared.clone(),
        };
        Ok((task, sender))
    }

    async fn run(mut self) {
        let mut let_go_at = None;
        loop {
            let deadline = let_go_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                word = self.words.recv() => match word {
                    Some(Word::Settle(heard)) => {
                        self.drain();
                        let words = self.sink.ear.as_mut().and_then(Ear::take);
                        if let (Some(heard), Some(words)) = (heard, words) {
                            let _ = heard.try_send(words);
                        }
                    }
                    Some(Word::Begin) => self.begun = self.sink.end().map_or(0, |(_, end)| end),
                    Some(Word::Extent(answer)) => {
                        if let Some(extent) = self.extent() {
                            let _ = answer.try_send(extent);
                        }
                    }
                    Some(Word::Write(sink)) => self.sink = *sink,
                    None => break,
                },
                ready = self.pipe.readable() => {
                    if ready.is_err() { break }
                    let mut turns = READS_IN_A_ROW;
                    while turns > 0 && self.read() { turns -= 1 }
                    if turns == 0 { tokio::task::yield_now().await }
                }
                () = tokio::time::sleep_until(deadline), if let_go_at.is_some() => self.let_go(),
            }
            let_go_at = match (self.partial.is_empty(), let_go_at) {
                (true, _) => None,
                (false, Some(at)) => Some(at),
                (false, None) => Some(Instant::now() + PARTIAL_WAIT),
            };
        }
        self.drain();
        // Not before the last line: what is lost of it is nobody's.
        self.shared.losses.forget(self.source.id);
    }

    /// What the run that has just ended has written; the next one begins behind it.
    fn extent(&mut self) -> Option<Extent> {
        let (path, to) = self.sink.end()?;
        // The file was put aside or emptied meanwhile: what is in it is the run's.
        let from = if self.begun <= to { self.begun } else { 0 };
        self.begun = to;
        let stream = self.stream;
        Some(Extent {
            stream,
            path,
            from,
            to,
        })
    }

    /// Reads once; `false` when the pipe is empty, as far as the reactor has heard.
    fn read(&mut self) -> bool {
        let buffer = self.shared.buffer.clone();
        let mut buffer = buffer.borrow_mut();
        match self.pipe.try_read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.keep(&buffer[..count]);
                true
            }
        }
    }

    /// Reads what is in the pipe now, and lets go of what is held. Asks the pipe itself: the reactor
    /// may hear of the last bytes after the end of their writer. Not until the pipe is empty: who
    /// still writes, such as a child that was left behind, must not hold up the others.
    fn drain(&mut self) {
        let buffer = self.shared.buffer.clone();
        let mut buffer = buffer.borrow_mut();
        let mut left = rustix::io::ioctl_fionread(self.pipe.as_fd()).unwrap_or(0);
        while left > 0 {
            match rustix::io::read(self.pipe.as_fd(), &mut buffer[..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    self.keep(&buffer[..count]);
                    left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                }
            }
        }
        self.let_go();
    }

    fn keep(&mut self, bytes: &[u8]) {
        let (partial, mut publish) = self.publisher();
        partial.feed(bytes, &mut publish);
    }

    fn let_go(&mut self) {
        let (partial, mut publish) = self.publisher();
        partial.finish(&mut publish);
    }

    fn publisher(&mut self) -> (&mut Partial, impl FnMut(&[u8])) {
        let Self {
            partial,
            sink,
            shared,
            source,
            stream,
            ..
        } = self;
        let publish = |piece: &[u8]| sink.take(piece, shared, source, *stream);
        (partial, publish)
    }
}

fn tell(followers: &broadcast::Sender<Arc<Line>>, origin: &Origin, piece: &[u8]) {
    if followers.receiver_count() == 0 {
        return;
    }
    for line in lines::split(piece) {
        let line = Line {
            origin: origin.clone(),
            bytes: line.to_vec(),
        };
        let _ = followers.send(Arc::new(line));
    }
}

/// Where one stream of one process goes.
struct Sink {
    files: Vec<Rc<RefCell<LogFile>>>,
    is_told: bool,
    dress: Option<Dress>,
    ear: Option<Ear>,
    /// Of a file that could not be written.
    warned: Option<Instant>,
}

impl Sink {
    /// The stream's file and where it ends; `None` when it goes to none.
    fn end(&self) -> Option<(PathBuf, u64)> {
        let file = self.files.first()?.borrow();
        Some((file.path().to_owned(), file.size()?))
    }

    fn take(&mut self, piece: &[u8], shared: &Shared, source: &Source, stream: Stream) {
        if let Some(ear) = &mut self.ear {
            ear.hear(piece);
        }
        let Some(dress) = &mut self.dress else {
            self.store(piece, shared, source, stream);
            return;
        };
        let dressed = shared.dressed.clone();
        let mut dressed = dressed.borrow_mut();
        dressed.clear();
        dress.put_on(piece, Timestamp::now(), &mut dressed);
        self.store(&dressed, shared, source, stream);
        dressed.shrink_to(DRESSED_KEPT);
    }

    fn store(&mut self, piece: &[u8], shared: &Shared, source: &Source, stream: Stream) {
        let rules = shared.rules.borrow();
        for file in &self.files {
            let mut file = file.borrow_mut();
            if let Err(error) = file.append(piece, Some(&rules)) {
                let lines = u64::try_from(lines::split(piece).count()).unwrap_or(u64::MAX);
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
            tell(
                &shared.followers,
                &Origin::Process(source.clone(), stream),
                piece,
            );
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

#[cfg(test)]
mod tests;
