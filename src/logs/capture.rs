//! Reads what services write and appends it to their log files.
//!
//! One thread of its own with its own small reactor: blocking on a disk here delays neither the
//! router nor a restart. Per stream one task, which says when to look into its pipe; `reader.rs`
//! looks, `sink.rs` stores. While nothing arrives a stream holds no buffer. Streams take turns, so
//! that a flood holds up nobody else. A log that can't be written (disk full) loses lines, counts
//! them and says so; the service never waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::append::{LogFile, Rules};
use super::dress::Dress;
use super::files::{LogFiles, Stream};
use super::losses::Losses;
use super::mark::CHUNK_MAX;
use super::mark_file::MarkFile;
use super::peek::Scratch;
use super::pipes::Pipes;
use super::reader::{Beginning, Reader};
use super::sink::{Sink, tell};
use super::wait::Wait;
use crate::config::spec::{LogSpec, RotateSpec};
use crate::ids::{AppName, PmId};

/// Reads of one stream in a row before the others get their turn.
const READS_IN_A_ROW: usize = 4;
/// Lines a follower may be behind before it loses the oldest.
const FOLLOWER_LINES: usize = 16 * 1024;
/// Orders to the thread that may be under way: a few for each of the most processes there may be.
/// Room costs nothing until it is used.
const ORDERS: usize = 40_000;
/// How long a run's last words are waited for.
const WORDS_WAIT: Duration = Duration::from_millis(200);
/// Mode of a log file: the operator's own, and readable for the group that is to look after logs.
const MODE: u32 = 0o640;

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
    /// Somebody else reads from now on: what is in the pipe is theirs.
    Leave,
    Write(Box<Sink>),
}

impl Logs {
    /// Starts the thread. In the folder of the FIFOs it keeps what the next daemon must know.
    ///
    /// # Errors
    /// When no thread or no descriptors can be had.
    pub fn start(rules: Rules, run_dir: &Path) -> io::Result<Self> {
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
        let scratch = Scratch::new(CHUNK_MAX)?;
        let marks = MarkFile::open(run_dir).inspect_err(|error| {
            tracing::warn!(
                folder = %run_dir.display(), %error,
                "cannot write down which log lines are being stored; should this daemon be killed, \
                 some may be stored twice"
            );
        });
        let marks = marks.ok();
        std::thread::Builder::new()
            .name("mcpm-logs".into())
            .spawn(move || {
                let tasks = tokio::task::LocalSet::new();
                let shared = Shared::new(followers, losses, rules, scratch, marks);
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
pub(super) struct Shared {
    pub(super) followers: broadcast::Sender<Arc<Line>>,
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
    fn new(
        followers: broadcast::Sender<Arc<Line>>,
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

    fn sink(&self, source: &Source, stream: Stream, output: &Output) -> Sink {
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
                for (_, sender) in streams.drain().flat_map(|(_, open)| open) {
                    let _ = sender.send(Word::Leave).await;
                }
                while tasks.join_next().await.is_some() {}
                let _ = done.send(());
            }
            Order::Rotate(daemon) => shared.rules.borrow_mut().daemon = daemon,
        }
    }
}

struct Task {
    pipe: Receiver,
    words: mpsc::Receiver<Word>,
    reader: Reader,
    source: Source,
    losses: Losses,
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
        let pipe = Receiver::from_file_unchecked(pipes.reader(stream)?)?;
        let mut reader = Reader::new(source.clone(), stream, sink, shared.clone());
        reader.recover(pipe.as_fd());
        let task = Self {
            pipe,
            words,
            reader,
            source: source.clone(),
            losses: shared.losses.clone(),
        };
        Ok((task, sender))
    }

    async fn run(mut self) {
        self.reader.wait_for_unfinished().await;
        let mut wait: Option<Wait> = None;
        loop {
            let next = wait.map_or_else(Instant::now, Wait::until);
            let taken = tokio::select! {
                biased;
                word = self.words.recv() => match word {
                    Some(Word::Settle(heard)) => {
                        self.drain();
                        let words = self.reader.sink().last_words();
                        if let (Some(heard), Some(words)) = (heard, words) {
                            let _ = heard.try_send(words);
                        }
                        // What has come meanwhile may not have been told.
                        Taken::Share
                    }
                    Some(Word::Write(sink)) => {
                        self.reader.write_to(*sink);
                        continue;
                    }
                    Some(Word::Begin) => {
                        self.reader.begin();
                        continue;
                    }
                    Some(Word::Extent(answer)) => {
                        if let Some(extent) = self.reader.extent() {
                            let _ = answer.try_send(extent);
                        }
                        continue;
                    }
                    Some(Word::Leave) => {
                        self.reader.let_go();
                        return;
                    }
                    None => break,
                },
                ready = self.pipe.readable() => {
                    if ready.is_err() { break }
                    self.take_turns(wait, Self::look_when_ready)
                }
                () = tokio::time::sleep_until(next), if wait.is_some() => {
                    wait = wait.map(Wait::longer);
                    self.take_turns(wait, Self::look)
                }
            };
            let taken = match taken {
                Taken::Nothing | Taken::All
                    if self.reader.is_waiting() && self.reader.is_flooded() =>
                {
                    Taken::Share
                }
                taken => taken,
            };
            if taken == Taken::Share {
                tokio::task::yield_now().await;
            }
            wait = match (taken, self.reader.is_waiting(), wait) {
                (Taken::Share, _, _) => Some(Wait::at_once(Instant::now())),
                (_, false, _) => None,
                (Taken::Nothing, true, Some(wait)) => Some(wait),
                (_, true, _) => Some(Wait::since(Instant::now())),
            };
        }
        self.drain();
        // Not before the last line: what is lost of it is nobody's.
        self.losses.forget(self.source.id);
    }

    /// Takes some chunks in a row.
    fn take_turns(&mut self, wait: Option<Wait>, look: fn(&mut Self, Beginning) -> bool) -> Taken {
        let is_over = wait.is_some_and(|wait| wait.is_over(Instant::now()));
        let mut beginning = if is_over {
            Beginning::Goes
        } else {
            Beginning::Waits
        };
        let mut turns = READS_IN_A_ROW;
        while turns > 0 && look(self, beginning) {
            turns -= 1;
            // What comes behind it has not waited yet.
            beginning = Beginning::Waits;
        }
        match turns {
            0 => Taken::Share,
            READS_IN_A_ROW => Taken::Nothing,
            _ => Taken::All,
        }
    }

    /// Takes one chunk; `false` when there is none to be taken.
    fn look(&mut self, beginning: Beginning) -> bool {
        self.reader.look(self.pipe.as_fd(), beginning).is_ok()
    }

    /// The same when the reactor has heard of something. When nothing is to be taken it is told so,
    /// whatever is left in the pipe: the next thing to hear of is something new.
    fn look_when_ready(&mut self, beginning: Beginning) -> bool {
        let Self { pipe, reader, .. } = self;
        let look = || {
            let taken = reader.look(pipe.as_fd(), beginning);
            taken.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))
        };
        pipe.try_io(look).is_ok()
    }

    /// Takes what is in the pipe now, and lets go of the beginning of a line. Asks the pipe itself:
    /// the reactor may hear of the last bytes after the end of their writer. Not until the pipe is
    /// empty: who still writes, such as a child that was left behind, must not hold up the others.
    fn drain(&mut self) {
        let pipe = self.pipe.as_fd();
        let mut left = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
        while left > 0 {
            match self.reader.look(pipe, Beginning::Goes) {
                Ok(count) => left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)),
                Err(_) => break,
            }
        }
        self.reader.let_go();
    }
}

/// How much a stream took in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    /// What there was.
    All,
    /// As much as it may: there may be more.
    Share,
}

#[cfg(test)]
mod tests;
