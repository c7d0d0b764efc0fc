use std::fs::File;
use std::io::Write;

use super::*;
use crate::config::spec::LogTarget;
use crate::logs::aside::Tidier;

struct Fixture {
    dir: tempfile::TempDir,
    logs: Logs,
    pipes: Pipes,
    source: Source,
    files: LogFiles,
}

async fn fixture(out: impl Fn(&Path) -> PathBuf) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::start(Rules {
        daemon: RotateSpec::default(),
        tidier: Tidier::start().unwrap(),
        zone: jiff::tz::TimeZone::UTC,
    })
    .unwrap();
    let pipes = Pipes::of(dir.path(), PmId(0));
    pipes.make(None).unwrap();
    let source = Source {
        id: PmId(0),
        name: AppName::parse("a").unwrap(),
    };
    let files = LogFiles {
        out: Some(out(dir.path())),
        ..LogFiles::default()
    };
    let spec = LogSpec {
        out: LogTarget::Default,
        error: LogTarget::Nowhere,
        combined: None,
        merge: true,
        disabled: false,
        format: crate::config::spec::LogFormat::default(),
        rotate: RotateSpec::default(),
    };
    let output = Output {
        files: files.clone(),
        spec,
        is_heard: true,
    };
    logs.capture(source.clone(), pipes.clone(), output).await;
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
    let mut child = File::from(it.pipes.child_ends().unwrap().stdout);
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
async fn last_words_about_a_taken_port_are_heard_once() {
    let it = fixture(|dir| dir.join("a.log")).await;
    let mut child = File::from(it.pipes.child_ends().unwrap().stderr);
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
    let mut child = File::from(it.pipes.child_ends().unwrap().stdout);
    let mut ends = Vec::new();
    for said in ["one\n", "two\nno end"] {
        it.logs.begin(PmId(0)).await;
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
