//! Writes down how processes have ended, with the last lines of each, and reads it for those who ask.
//!
//! Off the control loop: a restart waits neither for the thread that captures output nor for a file.
//! Who asks waits for what is under way, so that an exit that they have seen is told.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::journal::{Journal, JournalError};
use super::last_exits::{self, ExitRecord, Key, NoLines};
use super::snapshot::Process;
use crate::logs::{Extent, Stream, history};

/// How long it is waited until a run's output is in its files. A disk that is slow has its time.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);
/// How long somebody who asks waits for what is under way.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the journal may take for what it has been told.
const JOURNAL_PATIENCE: Duration = Duration::from_millis(500);

/// Handle for those who write and for those who ask.
#[derive(Clone)]
pub(super) struct ExitLog {
    journal: Journal,
    /// Records whose lines are being read.
    under_way: Arc<watch::Sender<usize>>,
}

/// One record whose lines are being read.
struct UnderWay(Arc<watch::Sender<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0
            .send_modify(|number| *number = number.saturating_sub(1));
    }
}

impl ExitLog {
    pub(super) fn new(journal: Journal) -> Self {
        let (under_way, _) = watch::channel(0);
        Self {
            journal,
            under_way: Arc::new(under_way),
        }
    }

    /// Writes a record down as it is.
    pub(super) fn put(&self, key: Key, record: ExitRecord) {
        self.journal
            .put_exit(self.journal.number_exit(), key, record);
    }

    /// Writes a record down once the last lines of the run are in it. It is under way from now on.
    pub(super) fn put_with_lines(
        &self,
        key: Key,
        record: ExitRecord,
        output: mpsc::Receiver<Extent>,
    ) -> impl Future<Output = ()> + Send + use<> {
        self.under_way.send_modify(|number| *number += 1);
        let under_way = UnderWay(self.under_way.clone());
        let journal = self.journal.clone();
        let number = journal.number_exit();
        async move {
            let record = with_lines(record, output).await;
            journal.put_exit(number, key, record);
            drop(under_way);
        }
    }

    /// The process is forgotten, and its exits with it.
    pub(super) fn forget(&self, key: Key) {
        self.journal.forget_exits(key);
    }

    /// Waits until all that was under way has been given to the journal, but not for ever.
    pub(super) async fn settled(&self) {
        let mut under_way = self.under_way.subscribe();
        let none = under_way.wait_for(|number| *number == 0);
        let _ = tokio::time::timeout(PATIENCE, none).await;
    }

    /// The last exits of these, newest first, not more than `limit` of each.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) async fn of(
        &self,
        processes: &[Arc<Process>],
        limit: usize,
    ) -> Result<Vec<Vec<ExitRecord>>, JournalError> {
        self.settled().await;
        let journal = self.journal.clone();
        let keys: Vec<Key> = processes.iter().map(|process| key(process)).collect();
        let read = move || {
            journal.flush(JOURNAL_PATIENCE);
            journal.exits(&keys, limit)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|_| Ok(Vec::new()))
    }
}

/// Under which its exits are written down.
pub(super) fn key(process: &Process) -> Key {
    Key {
        app: process.spec.name.clone(),
        instance: process.instance,
    }
}

async fn with_lines(mut record: ExitRecord, mut output: mpsc::Receiver<Extent>) -> ExitRecord {
    let mut extents = Vec::new();
    let all = async {
        while let Some(extent) = output.recv().await {
            extents.push(extent);
        }
    };
    let has_come = tokio::time::timeout(OUTPUT_PATIENCE, all).await.is_ok();
    if extents.is_empty() {
        record.no_lines = Some(if has_come {
            NoLines::NoFile
        } else {
            NoLines::Unread
        });
        return record;
    }
    let is_cut = extents.iter().any(|extent| extent.is_cut);
    let may_be_older = extents.iter().any(|extent| extent.may_be_older);
    match tokio::task::spawn_blocking(move || read(extents)).await {
        Ok(Ok((out, error))) => {
            if is_cut && out.is_empty() && error.is_empty() {
                record.no_lines = Some(NoLines::Unstored);
            }
            record.may_be_older = may_be_older && !(out.is_empty() && error.is_empty());
            record.out_lines = out;
            record.error_lines = error;
        }
        Ok(Err(_)) | Err(_) => record.no_lines = Some(NoLines::Unread),
    }
    record
}

/// The last lines of standard output and of standard error. When both go to one file, what is there
/// counts as standard output. Blocks.
fn read(mut extents: Vec<Extent>) -> io::Result<(Vec<String>, Vec<String>)> {
    extents.sort_by_key(|extent| extent.stream == Stream::Error);
    if extents.len() == 2 && extents[0].path == extents[1].path {
        let error = extents.remove(1);
        extents[0].to = extents[0].to.max(error.to);
    }
    let (mut out, mut error) = (Vec::new(), Vec::new());
    for extent in extents {
        let part = extent.from..extent.to;
        let lines = history::last_of_part(&extent.path, part, last_exits::LINES_MAX)?;
        match extent.stream {
            Stream::Out => out = last_exits::kept(&lines),
            Stream::Error => error = last_exits::kept(&lines),
        }
    }
    Ok((out, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppName, Timestamp};

    const APP: &str = "a";

    fn process() -> Arc<Process> {
        let spec = Arc::new(crate::supervisor::testing::spec(APP));
        Arc::new(Process::registered(crate::ids::PmId(0), 0, spec))
    }

    fn record(at: i64) -> ExitRecord {
        ExitRecord {
            at: Timestamp::from_millis(at),
            ..ExitRecord::default()
        }
    }

    fn extent(stream: Stream, path: &std::path::Path, from: u64, to: u64) -> Extent {
        let path = path.to_owned();
        Extent {
            stream,
            path,
            from,
            to,
            is_cut: false,
            may_be_older: false,
        }
    }

    #[tokio::test]
    async fn who_asks_sees_what_is_under_way_with_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&dir.path().join("run.db"), "boot").unwrap();
        let log = ExitLog::new(journal);
        let name = AppName::parse(APP).unwrap();
        assert_eq!(key(&process()).app, name);
        let file = dir.path().join("a.log");
        std::fs::write(&file, "before\nlast words\nof the next run\n").unwrap();
        let (sender, output) = mpsc::channel(2);
        let written = log.put_with_lines(key(&process()), record(1), output);
        log.put(key(&process()), record(2));
        let asked = tokio::spawn({
            let log = log.clone();
            async move { log.of(&[process()], 20).await.unwrap() }
        });
        sender
            .try_send(extent(Stream::Error, &file, 7, 18))
            .unwrap();
        drop(sender);
        written.await;
        let found = asked.await.unwrap().remove(0);
        assert_eq!(found[0], record(2));
        assert_eq!(found[1].error_lines, ["last words"]);
        assert_eq!(found[1].no_lines, None);
        log.forget(key(&process()));
        assert!(log.of(&[process()], 20).await.unwrap()[0].is_empty());
    }

    #[tokio::test]
    async fn output_that_goes_to_no_file_is_told_as_that() {
        let (sender, output) = mpsc::channel(1);
        drop(sender);
        let told = with_lines(record(1), output).await;
        assert_eq!(told.no_lines, Some(NoLines::NoFile));
    }

    #[tokio::test]
    async fn lines_that_could_not_be_stored_are_told_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.log");
        std::fs::write(&file, "one\n").unwrap();
        for (from, lines, no_lines) in [
            (4, Vec::new(), Some(NoLines::Unstored)),
            (0, vec!["one".to_owned()], None),
        ] {
            let (sender, output) = mpsc::channel(1);
            let mut extent = extent(Stream::Out, &file, from, 4);
            extent.is_cut = true;
            sender.try_send(extent).unwrap();
            drop(sender);
            let told = with_lines(record(1), output).await;
            assert_eq!((told.out_lines, told.no_lines), (lines, no_lines));
        }
    }

    #[tokio::test]
    async fn lines_that_may_be_of_an_earlier_run_are_told_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.log");
        std::fs::write(&file, "one\n").unwrap();
        for (to, may_be_older) in [(4, true), (0, false)] {
            let (sender, output) = mpsc::channel(1);
            let mut extent = extent(Stream::Out, &file, 0, to);
            extent.may_be_older = true;
            sender.try_send(extent).unwrap();
            drop(sender);
            let told = with_lines(record(1), output).await;
            assert_eq!(told.may_be_older, may_be_older);
        }
    }

    #[test]
    fn one_file_of_both_streams_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.log");
        std::fs::write(&file, "one\ntwo\n").unwrap();
        let both = vec![
            extent(Stream::Error, &file, 0, 8),
            extent(Stream::Out, &file, 0, 4),
        ];
        let (out, error) = read(both).unwrap();
        assert_eq!(out, ["one", "two"]);
        assert!(error.is_empty());
    }
}
