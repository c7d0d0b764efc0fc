//! The loop of the thread that captures: carries out what it is told, and sees to it that each
//! process has its streams read.
//!
//! A stream that can't be opened, since descriptors have run out, is said to be unread and tried again
//! every second until it is open: its process would wait for ever as soon as its pipe is full.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::capture::{Order, Output, Source};
use super::files::{LogFiles, Stream};
use super::pipes::Pipes;
use super::shared::Shared;
use super::stream::{Task, Word};
use crate::ids::PmId;

/// How long after a stream could not be opened it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whose output is to be read, and where it goes.
struct Wanted {
    source: Source,
    pipes: Pipes,
    output: Box<Output>,
}

/// The streams of all processes.
struct Streams {
    open: HashMap<PmId, Vec<Open>>,
    /// Those of which a stream could not be opened.
    missing: HashMap<PmId, Wanted>,
    /// When these are tried again.
    retry_at: Option<Instant>,
    tasks: JoinSet<()>,
    shared: Shared,
}

/// Carries out orders, until nobody is left who gives any.
pub(super) async fn serve(mut inbox: mpsc::Receiver<Order>, shared: Shared) {
    let mut streams = Streams {
        open: HashMap::new(),
        missing: HashMap::new(),
        retry_at: None,
        tasks: JoinSet::new(),
        shared,
    };
    loop {
        let retry_at = streams.retry_at;
        let next = retry_at.unwrap_or_else(Instant::now);
        let order = tokio::select! {
            biased;
            () = tokio::time::sleep_until(next), if retry_at.is_some() => {
                streams.retry();
                continue;
            }
            order = inbox.recv() => order,
        };
        match order {
            Some(order) => streams.carry_out(order).await,
            None => return,
        }
    }
}

impl Streams {
    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Capture {
                source,
                pipes,
                output,
                done,
            } => {
                let wanted = Wanted {
                    source,
                    pipes,
                    output,
                };
                self.capture(wanted).await;
                let _ = done.send(());
            }
            Order::Settle { id, heard } => {
                for Open { sender, .. } in self.of(id) {
                    let _ = sender.send(Word::Settle(heard.clone())).await;
                }
            }
            Order::Begin { id, done } => {
                for Open { sender, .. } in self.of(id) {
                    let _ = sender.send(Word::Begin).await;
                }
                let _ = done.send(());
            }
            Order::Extents { id, answer } => {
                for Open { sender, .. } in self.of(id) {
                    let _ = sender.send(Word::Extent(answer.clone())).await;
                }
            }
            Order::Release { id } => {
                // A stream's task ends when its sender is dropped, after a last read.
                drop(self.open.remove(&id));
                self.missing.remove(&id);
                self.shared.losses.note_read(id);
            }
            Order::Truncate { files, done } => {
                let LogFiles {
                    out,
                    error,
                    combined,
                } = files;
                [out, error, combined]
                    .iter()
                    .flatten()
                    .for_each(|path| self.shared.truncate(path));
                let _ = done.send(());
            }
            Order::Reopen { done } => {
                self.shared.reopen();
                let _ = done.send(());
            }
            Order::Pause { done } => {
                for Open { sender, .. } in self.open.drain().flat_map(|(_, open)| open) {
                    let _ = sender.send(Word::Leave).await;
                }
                for (id, _) in self.missing.drain() {
                    self.shared.losses.note_read(id);
                }
                while self.tasks.join_next().await.is_some() {}
                let _ = done.send(());
            }
            Order::Rotate(daemon) => self.shared.rules.borrow_mut().daemon = daemon,
        }
    }

    fn of(&self, id: PmId) -> impl Iterator<Item = &Open> {
        self.open.get(&id).into_iter().flatten()
    }

    async fn capture(&mut self, wanted: Wanted) {
        let Wanted { source, output, .. } = &wanted;
        for Open { stream, sender, .. } in self.of(source.id) {
            let sink = Box::new(self.shared.sink(source, *stream, output));
            let _ = sender.send(Word::Write(sink)).await;
        }
        while self.tasks.try_join_next().is_some() {}
        match self.open(&wanted, Run::Begins) {
            Ok(()) => self.note_read(&wanted.source),
            Err(error) => self.note_unread(wanted, &error),
        }
    }

    /// Tries again to open what could not be opened.
    fn retry(&mut self) {
        let ids: Vec<PmId> = self.missing.keys().copied().collect();
        for id in ids {
            let Some(wanted) = self.missing.remove(&id) else {
                continue;
            };
            let Err(error) = self.open(&wanted, Run::GoesOn) else {
                self.note_read(&wanted.source);
                continue;
            };
            self.note_unread(wanted, &error);
            if is_out_of_descriptors(&error) {
                // There are none for the others, either.
                break;
            }
        }
        self.retry_at = (!self.missing.is_empty()).then(|| Instant::now() + RETRY_AFTER);
    }

    /// Opens those of its streams that are not open, or whose pipe is another one by now: somebody has
    /// removed the old one, which is read out.
    fn open(&mut self, wanted: &Wanted, run: Run) -> io::Result<()> {
        let Wanted {
            source,
            pipes,
            output,
        } = wanted;
        let open = self.open.entry(source.id).or_default();
        open.retain(|known| {
            let pipe = pipes.identity(known.stream);
            !known.sender.is_closed() && (pipe.is_none() || pipe == known.pipe)
        });
        let mut opened = Ok(());
        for stream in [Stream::Out, Stream::Error] {
            if open.iter().any(|known| known.stream == stream) {
                continue;
            }
            let sink = self.shared.sink(source, stream, output);
            match Task::open(source, stream, pipes, sink, &self.shared) {
                Ok((task, sender)) => {
                    if run == Run::GoesOn {
                        // All that it has written waits in the pipe: the run begins where its file
                        // ends. There is room for one word.
                        let _ = sender.try_send(Word::Begin);
                    }
                    let pipe = task.pipe();
                    open.push(Open {
                        stream,
                        sender,
                        pipe,
                    });
                    self.tasks.spawn_local(task.run());
                }
                Err(error) => opened = Err(error),
            }
        }
        opened
    }

    fn note_read(&mut self, source: &Source) {
        if self.shared.losses.note_read(source.id) {
            tracing::info!(app = %source.name, id = %source.id, "its output is read again");
        }
        self.missing.remove(&source.id);
    }

    fn note_unread(&mut self, wanted: Wanted, error: &io::Error) {
        let source = &wanted.source;
        if self.shared.losses.note_unread(source, error) {
            tracing::error!(
                app = %source.name, id = %source.id, %error,
                "its output is not being read; it is tried again each second"
            );
        }
        self.missing.insert(source.id, wanted);
        self.retry_at
            .get_or_insert_with(|| Instant::now() + RETRY_AFTER);
    }
}

/// A stream that is read.
struct Open {
    stream: Stream,
    sender: mpsc::Sender<Word>,
    /// Device and inode.
    pipe: Option<(u64, u64)>,
}

/// Where a process is when its streams are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// It is about to begin, or its beginning is known.
    Begins,
    /// It has begun without them.
    GoesOn,
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}
