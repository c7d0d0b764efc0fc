use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::config::spec::{LogFormat, LogTarget};
use crate::ids::Timestamp;
use crate::logs::aside::Tidier;
use crate::logs::mark::{self, Chunk, Place};
use crate::logs::peek;
use crate::logs::reader::{Beginning, Reader};

struct Fixture {
    dir: tempfile::TempDir,
    logs: Logs,
    pipes: Pipes,
    source: Source,
    files: LogFiles,
}

fn rules() -> Rules {
    Rules {
        daemon: RotateSpec::default(),
        tidier: Tidier::start().unwrap(),
        zone: jiff::tz::TimeZone::UTC,
    }
}

fn logs(run_dir: &Path) -> Logs {
    Logs::start(rules(), run_dir).unwrap()
}

fn source() -> Source {
    Source {
        id: PmId(0),
        name: AppName::parse("a").unwrap(),
    }
}

fn output(files: LogFiles) -> Output {
    let spec = LogSpec {
        out: LogTarget::Default,
        error: LogTarget::Nowhere,
        combined: None,
        merge: true,
        disabled: false,
        format: LogFormat::default(),
        rotate: RotateSpec::default(),
    };
    Output {
        files,
        spec,
        is_heard: true,
    }
}

async fn fixture(out: impl Fn(&Path) -> PathBuf) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let logs = logs(dir.path());
    let pipes = Pipes::of(dir.path(), PmId(0));
    pipes.make(None).unwrap();
    let files = LogFiles {
        out: Some(out(dir.path())),
        ..LogFiles::default()
    };
    let source = source();
    logs.capture(source.clone(), pipes.clone(), output(files.clone()))
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
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
    child.write_all(b"one\ntw\xff").unwrap();
    child.write_all(b"o\n").unwrap();
    let line = follower.recv().await.unwrap();
    let origin = Origin::Process(it.source.clone(), Stream::Out);
    assert_eq!(
        (line.bytes.as_slice(), &line.origin),
        (&b"one"[..], &origin)
    );
    assert_eq!(follower.recv().await.unwrap().bytes, b"tw\xffo");
    let file = it.dir.path().join("sub/a.log");
    until(|| std::fs::read(&file).is_ok_and(|is| is == b"one\ntw\xffo\n")).await;
    it.logs.truncate(it.files.clone()).await;
    assert_eq!(std::fs::read(&file).unwrap(), b"");
    child.write_all(b"no end").unwrap();
    it.logs.settle(PmId(0)).await;
    until(|| std::fs::read(&file).is_ok_and(|is| is == b"no end")).await;
}

#[tokio::test]
async fn a_full_disk_loses_lines_and_counts_them() {
    let it = fixture(|_| PathBuf::from("/dev/full")).await;
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
    child.write_all(b"one\ntwo\n").unwrap();
    let lost = || it.logs.losses().all().first().map(ToString::to_string);
    let told = "a: 2 log lines could not be written to `/dev/full`";
    until(|| lost().is_some_and(|lost| lost.starts_with(told))).await;
    // What is read after the release, and lost, is nobody's.
    child.write_all(b"three\n").unwrap();
    it.logs.release(PmId(0));
    until(|| rustix::io::ioctl_fionread(&child).unwrap() == 0).await;
    until(|| lost().is_none()).await;
}

#[tokio::test]
async fn pipes_are_open_when_capturing_has_begun() {
    let it = fixture(|dir| dir.join("a.log")).await;
    // The writer is gone at once: were nobody else there, its words would be, too.
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
    child.write_all(b"last words\n").unwrap();
    drop(child);
    let file = it.dir.path().join("a.log");
    until(|| std::fs::read(&file).is_ok_and(|is| is == b"last words\n")).await;
}

/// Pipes that are not there yet can't be opened, as when descriptors have run out.
async fn unread() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let logs = logs(dir.path());
    let pipes = Pipes::of(dir.path(), PmId(0));
    let files = LogFiles {
        out: Some(dir.path().join("a.log")),
        ..LogFiles::default()
    };
    let source = source();
    logs.capture(source.clone(), pipes.clone(), output(files.clone()))
        .await;
    let told = logs.losses().unread();
    assert_eq!(told.len(), 1);
    assert!(told[0].to_string().starts_with("a: its output is not"));
    Fixture {
        dir,
        logs,
        pipes,
        source,
        files,
    }
}

#[tokio::test]
async fn what_could_not_be_opened_is_opened_while_the_process_runs() {
    let it = unread().await;
    std::fs::write(it.dir.path().join("a.log"), "of another run\n").unwrap();
    it.pipes.make(None).unwrap();
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
    child.write_all(b"one\n").unwrap();
    let stored = || std::fs::read(it.dir.path().join("a.log")).unwrap();
    until(|| stored() == b"of another run\none\n").await;
    assert!(it.logs.losses().unread().is_empty());
    it.logs.settle(PmId(0)).await;
    let extent = it.logs.extents(PmId(0)).await.recv().await.unwrap();
    assert_eq!((extent.from, extent.to), (15, 19), "no other run's words");
}

#[tokio::test]
async fn what_could_not_be_opened_is_open_when_capturing_has_begun_again() {
    let it = unread().await;
    it.pipes.make(None).unwrap();
    it.logs
        .capture(
            it.source.clone(),
            it.pipes.clone(),
            output(it.files.clone()),
        )
        .await;
    assert!(it.logs.losses().unread().is_empty());
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
    child.write_all(b"last words\n").unwrap();
    drop(child);
    let file = it.dir.path().join("a.log");
    until(|| std::fs::read(&file).is_ok_and(|is| is == b"last words\n")).await;
}

#[tokio::test]
async fn what_is_not_read_is_nobodys_once_it_is_released() {
    let it = unread().await;
    it.logs.release(PmId(0));
    until(|| it.logs.losses().unread().is_empty()).await;
}

#[tokio::test]
async fn a_deleted_log_file_is_made_again() {
    let it = fixture(|dir| dir.join("a.log")).await;
    let file = it.dir.path().join("a.log");
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
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
async fn last_words_about_a_taken_port_are_heard_once() {
    let it = fixture(|dir| dir.join("a.log")).await;
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stderr);
    assert_eq!(it.logs.last_words(PmId(0)).await, None);
    let said = b"Error: listen EADDRINUSE: address already in use :::3000\n    at x\n";
    child.write_all(said).unwrap();
    let heard = it.logs.last_words(PmId(0)).await.unwrap();
    assert!(heard.ends_with("in use :::3000"), "{heard}");
    assert_eq!(it.logs.last_words(PmId(0)).await, None);
}

#[tokio::test]
async fn what_each_run_has_written_is_told_apart() {
    let it = fixture(|dir| dir.join("a.log")).await;
    let file = it.dir.path().join("a.log");
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
    let mut ends = Vec::new();
    for said in ["one\n", "two\nno end"] {
        let begun = it.logs.begin(PmId(0));
        tokio::task::spawn_blocking(move || begun.recv())
            .await
            .unwrap()
            .unwrap();
        child.write_all(said.as_bytes()).unwrap();
        it.logs.settle(PmId(0)).await;
        let mut extents = it.logs.extents(PmId(0)).await;
        let extent = extents.recv().await.unwrap();
        assert_eq!((extent.stream, &extent.path), (Stream::Out, &file));
        // Standard error goes nowhere.
        assert_eq!(extents.recv().await, None);
        ends.push((extent.from, extent.to));
    }
    assert_eq!(ends, [(0, 4), (4, 14)]);
    assert_eq!(it.logs.extents(PmId(7)).await.recv().await, None);
}

#[tokio::test]
async fn a_flood_arrives_whole() {
    let it = fixture(|dir| dir.join("a.log")).await;
    let file = it.dir.path().join("a.log");
    let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
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

/// What a service has written, and a daemon was storing when it was killed.
const CHUNK: &[u8] = b"one\ntwo\n";

/// A home whose daemon was killed over a chunk.
struct Killed {
    dir: tempfile::TempDir,
    pipes: Pipes,
    child: File,
    marks: MarkFile,
}

impl Killed {
    fn over(at: Timestamp) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pipes = Pipes::of(dir.path(), PmId(0));
        pipes.make(None).unwrap();
        let mut child = File::from(pipes.child_ends(None).unwrap().stdout);
        child.write_all(CHUNK).unwrap();
        let mut marks = MarkFile::open(dir.path()).unwrap();
        marks.begin(&Chunk {
            id: PmId(0),
            stream: Stream::Out,
            bytes: CHUNK.len(),
            hash: mark::hash(CHUNK),
            last: b'\n',
            at,
            between_lines: true,
        });
        Self {
            dir,
            pipes,
            child,
            marks,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the next byte of the file goes, after so many of the piece.
    fn place(&self, name: &str, done: usize) -> Place {
        let meta = self.path(name).metadata().unwrap();
        Place {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            done,
        }
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn take(&mut self) {
        let pipe = self.pipes.reader(Stream::Out).unwrap();
        let mut taken = [0; CHUNK.len()];
        peek::consume(pipe.as_fd(), &mut taken, self.marks.trace()).unwrap();
    }

    /// The next daemon comes, and the service ends the line that it has begun.
    async fn goes_on(&mut self, format: LogFormat, combined: Option<&str>) -> Logs {
        let files = LogFiles {
            out: Some(self.path("a.log")),
            error: None,
            combined: combined.map(|name| self.path(name)),
        };
        let mut output = output(files);
        output.spec.format = format;
        let logs = logs(self.dir.path());
        logs.capture(source(), self.pipes.clone(), output).await;
        self.child.write_all(b"ee\n").unwrap();
        logs
    }

    async fn holds(&self, name: &str, expected: &str) {
        let text = || std::fs::read_to_string(self.path(name)).unwrap_or_default();
        for _ in 0..500 {
            if text() == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(text(), expected, "{name}");
    }
}

#[tokio::test]
async fn what_a_killed_daemon_was_storing_is_stored_once() {
    for (written, is_taken, behind) in [
        ("", false, "thr"),
        ("one\nt", false, "thr"),
        ("one\ntwo\n", false, "thr"),
        ("one\ntwo\n", true, "thr"),
        // The same words again are others.
        ("one\ntwo\n", true, "one\ntwo\nthr"),
    ] {
        let mut it = Killed::over(Timestamp::now());
        it.child.write_all(behind.as_bytes()).unwrap();
        it.append("a.log", "zero\n");
        it.marks.note(0, &it.place("a.log", 0));
        it.append("a.log", written);
        if is_taken {
            it.take();
        }
        let logs = it.goes_on(LogFormat::default(), None).await;
        it.holds("a.log", &format!("zero\none\ntwo\n{behind}ee\n"))
            .await;
        drop(logs);
    }
}

#[tokio::test]
async fn a_killed_daemons_chunk_is_stored_once_when_its_file_was_put_aside_meanwhile() {
    // Before or after the mark told of the new file.
    for (is_told, written) in [(false, ""), (true, ""), (true, "tw")] {
        let mut it = Killed::over(Timestamp::now());
        it.child.write_all(b"thr").unwrap();
        it.append("a.log", "zero\none\n");
        it.marks.note(0, &it.place("a.log", 4));
        std::fs::rename(it.path("a.log"), it.path("aside.log")).unwrap();
        it.append("a.log", "");
        if is_told {
            it.marks.note(0, &it.place("a.log", 4));
        }
        it.append("a.log", written);
        let logs = it.goes_on(LogFormat::default(), None).await;
        it.holds("a.log", "two\nthree\n").await;
        it.holds("aside.log", "zero\none\n").await;
        drop(logs);
    }
}

#[tokio::test]
async fn a_killed_daemons_lines_get_the_time_they_have_come_in_each_of_their_files() {
    let mut it = Killed::over(Timestamp::from_millis(1000));
    it.child.write_all(b"thr").unwrap();
    it.append("a.log", "");
    it.marks.note(0, &it.place("a.log", 0));
    it.append("a.log", "[01]: one\n[01]: t");
    let format = LogFormat {
        json: false,
        stamp: Some("[[]ss]".into()),
    };
    let _logs = it.goes_on(format, Some("both.log")).await;
    for name in ["a.log", "both.log"] {
        let text = || std::fs::read_to_string(it.path(name)).unwrap_or_default();
        until(|| text().ends_with(": three\n")).await;
        assert!(text().starts_with("[01]: one\n[01]: two\n["), "{}", text());
        assert_eq!(text().lines().count(), 3, "{}", text());
    }
}

/// One stream without its task, whose log is `a.log` of the folder.
fn reader(dir: &Path) -> Reader {
    let followers = Followers::default();
    let scratch = Scratch::new(CHUNK_MAX).unwrap();
    let marks = MarkFile::open(dir).unwrap();
    let shared = Shared::new(followers, Losses::default(), rules(), scratch, Some(marks));
    let files = LogFiles {
        out: Some(dir.join("a.log")),
        ..LogFiles::default()
    };
    let sink = shared.sink(&source(), Stream::Out, &output(files));
    Reader::new(source(), Stream::Out, sink, shared)
}

#[test]
fn the_beginning_of_a_line_stays_in_its_pipe_as_long_as_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let pipes = Pipes::of(dir.path(), PmId(0));
    pipes.make(None).unwrap();
    let mut child = File::from(pipes.child_ends(None).unwrap().stdout);
    let pipe = pipes.reader(Stream::Out).unwrap();
    let mut reader = reader(dir.path());
    let mut look = |beginning| reader.look(pipe.as_fd(), beginning).ok();
    let stored = || std::fs::read(dir.path().join("a.log")).unwrap_or_default();
    let left = || rustix::io::ioctl_fionread(&pipe).unwrap();

    child.write_all(b"one\ntw").unwrap();
    assert_eq!(look(Beginning::Waits), Some(4));
    assert_eq!(look(Beginning::Waits), None);
    assert_eq!((stored().as_slice(), left()), (&b"one\n"[..], 2));
    child.write_all(b"o\nthr").unwrap();
    assert_eq!(look(Beginning::Goes), Some(4));
    assert_eq!((stored().as_slice(), left()), (&b"one\ntwo\n"[..], 3));
    assert_eq!(look(Beginning::Goes), Some(3));
    assert_eq!((stored().as_slice(), left()), (&b"one\ntwo\nthr"[..], 0));
    assert_eq!(look(Beginning::Goes), None);

    // A line that is longer than its pipe is held in memory, and comes out whole.
    let size = rustix::pipe::fcntl_setpipe_size(&pipe, 8192).unwrap();
    child.write_all(&vec![b'x'; size]).unwrap();
    assert_eq!(look(Beginning::Waits), Some(size));
    assert_eq!((stored().len(), left()), (11, 0));
    child.write_all(b"y\nz\n").unwrap();
    assert_eq!(look(Beginning::Waits), Some(2));
    assert_eq!((stored().len(), left()), (11 + size + 2, 2));
    assert_eq!(look(Beginning::Waits), Some(2));
    assert!(stored().ends_with(b"xy\nz\n"));
}

#[tokio::test]
async fn long_lines_and_small_pipes_hold_up_nobody() {
    for (size, longest) in [(8192, 200_000), (65536, 300_000)] {
        let it = fixture(|dir| dir.join("a.log")).await;
        let file = it.dir.path().join("a.log");
        let mut child = File::from(it.pipes.child_ends(None).unwrap().stdout);
        rustix::pipe::fcntl_setpipe_size(&child, size).unwrap();
        // Each of them is written at once, so that the writer waits in the middle of it.
        let all: Vec<Vec<u8>> = [3, 5000, longest, 1, 70_000, 12]
            .into_iter()
            .map(|length| [vec![b'x'; length], vec![b'\n']].concat())
            .collect();
        let expected = all.concat();
        let written = tokio::task::spawn_blocking(move || {
            child.write_all(b"begin").unwrap();
            all.iter().for_each(|line| child.write_all(line).unwrap());
            child
        });
        let _child = written.await.unwrap();
        let expected = [b"begin".to_vec(), expected].concat();
        until(|| std::fs::read(&file).is_ok_and(|is| is == expected)).await;
    }
}
