//! Reads what services write and appends it to their log files.
//!
//! One thread of its own with its own small reactor: blocking on a disk here delays neither the
//! router nor a restart. Per stream one task; while nothing arrives it holds no buffer. A log that
//! can't be written (disk full) loses lines, counts them and says so; the service never waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

use super::files::{LogFiles, Stream};
use super::lines::{self, Partial};
use super::pipes::Pipes;
use crate::ids::{AppName, PmId};

/// How long the beginning of a line is held back for its end.
const PARTIAL_WAIT: Duration = Duration::from_millis(500);
/// Bytes per read: the size of a pipe.
const BUFFER: usize = 64 * 1024;
/// Reads of one stream in a row before the others get their turn.
const READS_IN_A_ROW: usize = 16;
/// Lines a follower may be behind before it loses the oldest.
const FOLLOWER_LINES: usize = 4096;
/// Orders to the thread that may be under way: a few for each of the most processes there may be.
/// Room costs nothing until it is used.
const ORDERS: usize = 40_000;
/// At most one warning about a log that can't be written in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// How often an open log file is checked for having been deleted.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Whose output it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The process.
    pub id: PmId,
    /// Its app.
    pub name: AppName,
}

/// One line as it arrived, without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub source: Source,
    /// Which stream.
    pub stream: Stream,
    /// Bytes as they came, UTF-8 or not.
    pub bytes: Vec<u8>,
}

/// So many lines a follower was too slow for.
pub type Missed = u64;

/// Handle to the thread that captures.
#[derive(Clone)]
pub struct Logs {
    orders: mpsc::Sender<Order>,
    followers: broadcast::Sender<Arc<Line>>,
    lost: Arc<AtomicU64>,
}

enum Order {
    Capture {
        source: Source,
        pipes: Pipes,
        files: LogFiles,
        done: oneshot::Sender<()>,
    },
    Settle {
        id: PmId,
    },
    Release {
        id: PmId,
    },
    Truncate {
        id: PmId,
        files: LogFiles,
        done: oneshot::Sender<()>,
    },
}

enum Word {
    Settle,
    Truncate(oneshot::Sender<()>),
    Write(Option<PathBuf>),
}

impl Logs {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start() -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (followers, _) = broadcast::channel(FOLLOWER_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let logs = Self {
            orders,
            followers: followers.clone(),
            lost: lost.clone(),
        };
        let shared = Shared { followers, lost };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("mcpm-logs".into())
            .spawn(move || {
                let tasks = tokio::task::LocalSet::new();
                tasks.block_on(&runtime, serve(inbox, shared));
            })?;
        Ok(logs)
    }

    /// Reads this process's FIFOs from now on; they are open when the future is done. What is written
    /// to a FIFO that nobody has open is gone with the writer, so a process is started only then.
    /// Called again for the same process, it goes on with the new files. The order is given at once,
    /// after those before it: a number may be released and captured anew, for another process.
    pub fn capture(
        &self,
        source: Source,
        pipes: Pipes,
        files: LogFiles,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (done, wait) = oneshot::channel();
        self.order(Order::Capture {
            source,
            pipes,
            files,
            done,
        });
        async move { drop(wait.await) }
    }

    /// A run has ended: what is in its pipes is read, and what is held of a line is let go.
    pub async fn settle(&self, id: PmId) {
        let _ = self.orders.send(Order::Settle { id }).await;
    }

    /// The process is forgotten: the same, and its pipes are closed.
    pub fn release(&self, id: PmId) {
        self.order(Order::Release { id });
    }

    /// Empties the process's log files, whether it runs or not; done when it returns.
    pub async fn truncate(&self, id: PmId, files: LogFiles) {
        let (done, wait) = oneshot::channel();
        let order = Order::Truncate { id, files, done };
        if self.orders.send(order).await.is_ok() {
            let _ = wait.await;
        }
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::error!("the thread that captures logs does not answer; output waits in pipes");
        }
    }

    /// What arrives from now on, of every process.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        self.followers.subscribe()
    }

    /// Lines that no log file could take since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Shared {
    followers: broadcast::Sender<Arc<Line>>,
    lost: Arc<AtomicU64>,
}

/// The thread's own loop: hands out orders to the streams' tasks.
async fn serve(mut inbox: mpsc::Receiver<Order>, shared: Shared) {
    let buffer = Rc::new(RefCell::new(vec![0; BUFFER]));
    let mut streams: HashMap<PmId, Vec<mpsc::Sender<Word>>> = HashMap::new();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Capture {
                source,
                pipes,
                files,
                done,
            } => {
                if let Some(open) = streams.get(&source.id) {
                    for (sender, path) in open.iter().zip([files.out, files.error]) {
                        let _ = sender.send(Word::Write(path)).await;
                    }
                    let _ = done.send(());
                    continue;
                }
                let mut open = Vec::new();
                for stream in [Stream::Out, Stream::Error] {
                    let path = files.get(stream).map(Path::to_owned);
                    match Task::open(&source, stream, &pipes, path, &shared, &buffer) {
                        Ok((task, sender)) => {
                            open.push(sender);
                            tokio::task::spawn_local(task.run());
                        }
                        Err(error) => {
                            tracing::error!(app = %source.name, %error, "cannot read its output");
                        }
                    }
                }
                streams.insert(source.id, open);
                let _ = done.send(());
            }
            Order::Settle { id } => {
                for sender in streams.get(&id).into_iter().flatten() {
                    let _ = sender.send(Word::Settle).await;
                }
            }
            // A stream's task ends when its sender is dropped, after a last read.
            Order::Release { id } => drop(streams.remove(&id)),
            Order::Truncate { id, files, done } => {
                let open = streams.get(&id);
                if open.is_none() {
                    [files.out, files.error]
                        .into_iter()
                        .for_each(|path| Sink::new(path).truncate());
                }
                for sender in open.into_iter().flatten() {
                    let (one, wait) = oneshot::channel();
                    if sender.send(Word::Truncate(one)).await.is_ok() {
                        let _ = wait.await;
                    }
                }
                let _ = done.send(());
            }
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
    shared: Shared,
    buffer: Rc<RefCell<Vec<u8>>>,
}

impl Task {
    fn open(
        source: &Source,
        stream: Stream,
        pipes: &Pipes,
        path: Option<PathBuf>,
        shared: &Shared,
        buffer: &Rc<RefCell<Vec<u8>>>,
    ) -> io::Result<(Self, mpsc::Sender<Word>)> {
        let (sender, words) = mpsc::channel(4);
        let task = Self {
            source: source.clone(),
            stream,
            pipe: Receiver::from_file_unchecked(pipes.reader(stream)?)?,
            words,
            partial: Partial::default(),
            sink: Sink::new(path),
            shared: shared.clone(),
            buffer: buffer.clone(),
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
                    Some(Word::Settle) => {
                        while self.read_now() {}
                        self.let_go();
                    }
                    Some(Word::Truncate(done)) => {
                        self.sink.truncate();
                        let _ = done.send(());
                    }
                    Some(Word::Write(path)) => self.sink.redirect(path),
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
        while self.read_now() {}
        self.let_go();
    }

    /// Reads once; `false` when the pipe is empty, as far as the reactor has heard.
    fn read(&mut self) -> bool {
        self.read_by(|pipe, buffer| pipe.try_read(buffer))
    }

    /// Reads once; `false` when the pipe is empty. Asks the pipe itself: the reactor may hear of the
    /// last bytes after the end of their writer.
    fn read_now(&mut self) -> bool {
        self.read_by(|pipe, buffer| Ok(rustix::io::read(pipe.as_fd(), buffer)?))
    }

    fn read_by(&mut self, read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>) -> bool {
        let buffer = self.buffer.clone();
        let mut buffer = buffer.borrow_mut();
        match read(&self.pipe, &mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.keep(&buffer[..count]);
                true
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Self {
            partial,
            sink,
            shared,
            source,
            stream,
            ..
        } = self;
        partial.feed(bytes, |piece| publish(piece, sink, shared, source, *stream));
    }

    fn let_go(&mut self) {
        let Self {
            partial,
            sink,
            shared,
            source,
            stream,
            ..
        } = self;
        partial.finish(|piece| publish(piece, sink, shared, source, *stream));
    }
}

fn publish(piece: &[u8], sink: &mut Sink, shared: &Shared, source: &Source, stream: Stream) {
    if let Err(error) = sink.write(piece) {
        let lines = u64::try_from(lines::split(piece).count()).unwrap_or(u64::MAX);
        shared.lost.fetch_add(lines, Ordering::Relaxed);
        sink.complain(source, lines, &error);
    }
    if shared.followers.receiver_count() > 0 {
        for line in lines::split(piece) {
            let line = Line {
                source: source.clone(),
                stream,
                bytes: line.to_vec(),
            };
            let _ = shared.followers.send(Arc::new(line));
        }
    }
}

/// One log file, opened when the first line comes.
struct Sink {
    path: Option<PathBuf>,
    file: Option<File>,
    checked: Option<Instant>,
    lost: u64,
    warned: Option<Instant>,
}

impl Sink {
    fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            file: None,
            checked: None,
            lost: 0,
            warned: None,
        }
    }

    fn redirect(&mut self, path: Option<PathBuf>) {
        if self.path != path {
            *self = Self::new(path);
        }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let now = Instant::now();
        if self.checked.is_none_or(|at| now - at >= CHECK_EVERY) {
            self.checked = Some(now);
            // Deleted or moved away: begin a new file under the old name.
            let same = |file: &File| match (file.metadata(), path.metadata()) {
                (Ok(open), Ok(named)) => open.dev() == named.dev() && open.ino() == named.ino(),
                _ => false,
            };
            if self.file.as_ref().is_some_and(|file| !same(file)) {
                self.file = None;
            }
        }
        if self.file.is_none() {
            self.file = Some(open_log(path)?);
        }
        match &mut self.file {
            Some(file) => file.write_all(piece),
            None => Ok(()),
        }
    }

    fn truncate(&mut self) {
        let Some(path) = self.path.as_ref().filter(|path| path.exists()) else {
            return;
        };
        if let Ok(file) = open_log(path)
            && file.metadata().is_ok_and(|meta| meta.is_file())
            && let Err(error) = file.set_len(0)
        {
            tracing::warn!(file = %path.display(), %error, "cannot empty a log file");
        }
    }

    fn complain(&mut self, source: &Source, lines: u64, error: &io::Error) {
        self.lost = self.lost.saturating_add(lines);
        let now = Instant::now();
        if self.warned.is_some_and(|at| now - at < WARN_EVERY) {
            return;
        }
        self.warned = Some(now);
        let file = self.path.as_deref().unwrap_or(Path::new("")).display();
        tracing::warn!(
            app = %source.name, %file, lost = self.lost, %error,
            "lines of its log are lost; the service goes on"
        );
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = || {
        File::options()
            .append(true)
            .create(true)
            .mode(0o640)
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
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        logs: Logs,
        pipes: Pipes,
        source: Source,
        files: LogFiles,
    }

    async fn fixture(out: impl Fn(&Path) -> PathBuf) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start().unwrap();
        let pipes = Pipes::of(dir.path(), PmId(0));
        pipes.make(None).unwrap();
        let source = Source {
            id: PmId(0),
            name: AppName::parse("a").unwrap(),
        };
        let files = LogFiles {
            out: Some(out(dir.path())),
            error: None,
        };
        logs.capture(source.clone(), pipes.clone(), files.clone())
            .await;
        Fixture {
            dir,
            logs,
            pipes,
            source,
            files,
        }
    }

    async fn until(mut true_now: impl FnMut() -> bool) {
        for _ in 0..500 {
            if true_now() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come to pass");
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_were_written_and_followers_see_them() {
        let it = fixture(|dir| dir.join("sub/a.log")).await;
        let mut follower = it.logs.follow();
        let mut child = File::from(it.pipes.child_ends().unwrap().stdout);
        child.write_all(b"one\ntw\xff").unwrap();
        child.write_all(b"o\n").unwrap();
        let line = follower.recv().await.unwrap();
        assert_eq!(
            (line.bytes.as_slice(), &line.source),
            (&b"one"[..], &it.source)
        );
        assert_eq!(follower.recv().await.unwrap().bytes, b"tw\xffo");
        let file = it.dir.path().join("sub/a.log");
        until(|| std::fs::read(&file).is_ok_and(|is| is == b"one\ntw\xffo\n")).await;
        it.logs.truncate(PmId(0), it.files.clone()).await;
        assert_eq!(std::fs::read(&file).unwrap(), b"");
        child.write_all(b"no end").unwrap();
        it.logs.settle(PmId(0)).await;
        until(|| std::fs::read(&file).is_ok_and(|is| is == b"no end")).await;
    }

    #[tokio::test]
    async fn a_full_disk_loses_lines_and_counts_them() {
        let it = fixture(|_| PathBuf::from("/dev/full")).await;
        let mut child = File::from(it.pipes.child_ends().unwrap().stdout);
        child.write_all(b"one\ntwo\n").unwrap();
        until(|| it.logs.lost() == 2).await;
    }

    #[tokio::test]
    async fn pipes_are_open_when_capturing_has_begun() {
        let it = fixture(|dir| dir.join("a.log")).await;
        // The writer is gone at once: were nobody else there, its words would be, too.
        let mut child = File::from(it.pipes.child_ends().unwrap().stdout);
        child.write_all(b"last words\n").unwrap();
        drop(child);
        let file = it.dir.path().join("a.log");
        until(|| std::fs::read(&file).is_ok_and(|is| is == b"last words\n")).await;
    }

    #[tokio::test]
    async fn a_deleted_log_file_is_made_again() {
        let it = fixture(|dir| dir.join("a.log")).await;
        let file = it.dir.path().join("a.log");
        let mut child = File::from(it.pipes.child_ends().unwrap().stdout);
        child.write_all(b"one\n").unwrap();
        until(|| file.exists()).await;
        std::fs::remove_file(&file).unwrap();
        until(|| {
            child.write_all(b"two\n").unwrap();
            file.exists()
        })
        .await;
    }

    #[tokio::test]
    async fn a_flood_arrives_whole() {
        let it = fixture(|dir| dir.join("a.log")).await;
        let file = it.dir.path().join("a.log");
        let mut child = File::from(it.pipes.child_ends().unwrap().stdout);
        let line = [b'x'; 99];
        let written = tokio::task::spawn_blocking(move || {
            for _ in 0..50_000 {
                child.write_all(&line).unwrap();
                child.write_all(b"\n").unwrap();
            }
        });
        written.await.unwrap();
        until(|| file.metadata().is_ok_and(|meta| meta.len() == 5_000_000)).await;
    }
}
