//! Reads what services write and appends it to their log files.
//!
//! One thread of its own with its own small reactor: blocking on a disk here delays neither the
//! router nor a restart. Here is the handle to it, and what it is told; `serve.rs` is its loop. Per
//! stream one task (`stream.rs`), which says when to look into its pipe; `reader.rs` looks, `sink.rs`
//! stores. A log that can't be written (disk full) loses lines, counts them and says so; the service
//! never waits.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::append::Rules;
use super::files::{LogFiles, Stream};
use super::followers::{Followers, Following};
use super::losses::Losses;
use super::mark::CHUNK_MAX;
use super::mark_file::MarkFile;
use super::peek::Scratch;
use super::pipes::Pipes;
use super::serve::serve;
use super::shared::Shared;
use crate::config::spec::{LogSpec, RotateSpec};
use crate::ids::{AppName, PmId};

/// Orders to the thread that may be under way: a few for each of the most processes there may be.
/// Room costs nothing until it is used.
const ORDERS: usize = 40_000;
/// How long a run's last words are waited for.
const WORDS_WAIT: Duration = Duration::from_millis(200);

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
    /// Some of what it has written could not be stored.
    pub is_cut: bool,
    /// Nobody knows where the run begins: earlier ones may have written some of it.
    pub may_be_older: bool,
}

/// So many lines a follower was too slow for.
pub type Missed = u64;

/// Handle to the thread that captures.
#[derive(Clone)]
pub struct Logs {
    orders: mpsc::Sender<Order>,
    followers: Followers,
    losses: Losses,
}

/// What the thread is told.
pub(super) enum Order {
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
        done: std::sync::mpsc::SyncSender<()>,
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

impl Logs {
    /// Starts the thread. In the folder of the FIFOs it keeps what the next daemon must know.
    ///
    /// # Errors
    /// When no thread or no descriptors can be had.
    pub fn start(rules: Rules, run_dir: &Path) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let followers = Followers::default();
        let losses = Losses::default();
        let logs = Self {
            orders,
            followers: followers.clone(),
            losses: losses.clone(),
        };
        let scratch = Scratch::new(CHUNK_MAX)?;
        let marks = MarkFile::open(run_dir).inspect_err(|error| {
            tracing::warn!(
                folder = %run_dir.display(), %error,
                "cannot write down which log lines are being stored; should this daemon be killed, \
                 some may be stored twice"
            );
        });
        let marks = marks.ok();
        // A runtime must not be dropped within another, as it would be here when no thread can be had.
        let (begun, begins) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("mcpm-logs".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(begun.send(Err(error))),
                };
                let _ = begun.send(Ok(()));
                let tasks = tokio::task::LocalSet::new();
                let shared = Shared::new(followers, losses, rules, scratch, marks);
                tasks.block_on(&runtime, serve(inbox, shared));
            })?;
        begins.recv().map_err(io::Error::other)??;
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

    /// A run begins: what its process writes is its own from when something comes from the receiver,
    /// or its end.
    pub fn begin(&self, id: PmId) -> std::sync::mpsc::Receiver<()> {
        // Never waited for by the logs: there is room for what they say.
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        self.order(Order::Begin { id, done });
        wait
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
        self.followers.tell(&Origin::Daemon, said);
    }

    /// What arrives from now on, of every process and of the daemon.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        self.followers.follow()
    }

    /// The same for somebody who has followed the daemon before this one to its end: with what has
    /// arrived here until now.
    pub fn follow_on(&self) -> Following {
        self.followers.follow_on()
    }

    /// Those who followed the daemon before this one will come: what arrives is kept for them.
    pub fn expect_followers(&self) {
        self.followers.expect();
    }

    /// Another daemon has taken over: those who follow get what is on its way to them, and no more.
    pub fn dismiss_followers(&self) {
        self.followers.dismiss();
    }

    /// What no log file could take, and what is not read.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }
}

#[cfg(test)]
mod tests;
