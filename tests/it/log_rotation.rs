//! Logs that grow are put aside: no line is lost or cut, and those who read notice nothing.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Mcpm, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

/// Prints `line 1` to `line COUNT` once the file `go` is there.
fn counter(count: u32) -> String {
    format!(
        "while [ ! -e go ]; do sleep 0.02; done; \
         i=1; while [ $i -le {count} ]; do echo line $i; i=$((i+1)); done; {SLEEP}"
    )
}

fn lines(count: u32) -> Vec<String> {
    (1..=count).map(|n| format!("line {n}")).collect()
}

/// What was put aside of a log, oldest first.
fn aside(mcpm: &Mcpm, stem: &str) -> Vec<PathBuf> {
    let mark = format!("{stem}__");
    let mut found: Vec<PathBuf> = fs::read_dir(mcpm.home().join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&mark)
        })
        .collect();
    // `…59.log`, `…59_2.log`, `…59_10.log`: those of one second by their number.
    found.sort_by_key(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mark = name.strip_prefix(&mark).unwrap().split('.').next().unwrap();
        let (time, number) = mark.split_at("2026-11-25_14-03-59".len());
        (
            time.to_owned(),
            number.trim_start_matches('_').parse().unwrap_or(1_u32),
        )
    });
    found
}

fn whole(mcpm: &Mcpm, stem: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for path in aside(mcpm, stem) {
        let part = fs::read(&path).unwrap();
        assert!(
            part.ends_with(b"\n"),
            "{} ends within a line",
            path.display()
        );
        all.extend(part);
    }
    all.extend(mcpm.log(&format!("{stem}.log")));
    all
}

#[test]
fn a_full_log_is_put_aside_and_no_reader_misses_a_line() {
    let rotate = json!({"max_size": "1K", "retain": 0, "compress": false});
    let mcpm = Mcpm::start([sh("web", &counter(1000)).with("/log_rotate", rotate)]);
    let logs = mcpm.spawn(&["logs", "web"]);
    logs.line(|line| line.contains("last 15 lines of web"));
    mcpm.write("go", "");
    let seen = RefCell::new(Vec::new());
    logs.line(|line| {
        seen.borrow_mut()
            .extend(line.split_once("| ").map(|(_, text)| text.to_owned()));
        line.ends_with("line 1000")
    });
    assert_eq!(seen.take(), lines(1000), "the follower sees each line once");
    let text = String::from_utf8(whole(&mcpm, "web-out")).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), lines(1000));
    let parts = aside(&mcpm, "web-out");
    assert!(parts.len() >= 8, "{parts:?}");
    for path in parts {
        assert!(path.metadata().unwrap().len() <= 1024, "{}", path.display());
    }
    let shown = mcpm.ok(&["logs", "web", "--nostream", "--raw", "--lines", "500"]);
    assert_eq!(shown.lines().collect::<Vec<_>>(), lines(1000)[500..]);
}

#[test]
fn what_was_put_aside_is_compressed_and_the_oldest_goes() {
    let rotate = json!({"max_size": 200, "retain": 2});
    let script = counter(200).replace("echo line $i", "echo line $i >&2");
    let mcpm = Mcpm::start([sh("web", &script).with("/log_rotate", rotate)]);
    mcpm.write("go", "");
    let names = || -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        aside(&mcpm, "web-error").into_iter().map(name).collect()
    };
    wait_for(
        || {
            mcpm.log("web-error.log")
                .ends_with(b"line 200\n")
                .then_some(())
        },
        "the last line",
    );
    wait_for(
        || {
            let names = names();
            (names.len() == 2 && names.iter().all(|name| name.ends_with(".log.gz"))).then_some(())
        },
        "two compressed files",
    );
    // About 22 lines fit into each file.
    let shown = mcpm.ok(&["logs", "web", "--err", "--nostream", "--lines", "40"]);
    for line in &lines(200)[160..] {
        assert!(shown.contains(&format!("| {line}\n")), "{line} in {shown}");
    }
    let described = mcpm.ok(&["describe", "web"]);
    assert!(
        described.contains("line 191") && described.contains("line 200"),
        "{described}"
    );
}

#[test]
fn the_daemons_settings_hold_for_apps_that_say_nothing_and_for_its_own_log() {
    let mcpm = Mcpm::new();
    let quiet = sh("default", &counter(100));
    let loud = sh("never", &counter(100)).with("/log_rotate", false);
    let file = json!({
        "mcpm": {"log_rotate": {"max_size": 300, "compress": false}},
        "apps": [quiet.value(), loud.value()],
    });
    let file = mcpm.write("ecosystem.json", &file.to_string());
    mcpm.ok(&["start", &file]);
    let config = mcpm.ok(&["config"]);
    assert!(config.contains("max_size 300, retain 30"), "{config}");
    mcpm.write("go", "");
    for name in ["default-out.log", "never-out.log"] {
        wait_for(
            || mcpm.log(name).ends_with(b"line 100\n").then_some(()),
            "the last line",
        );
    }
    assert!(!aside(&mcpm, "default-out").is_empty() && aside(&mcpm, "never-out").is_empty());
    let own = || -> Vec<PathBuf> {
        let entries = fs::read_dir(mcpm.home()).unwrap().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.to_str().unwrap().contains("/mcpm__"))
            .collect()
    };
    wait_for(
        || {
            mcpm.ok(&["reloadLogs"]);
            (own().len() >= 3).then_some(())
        },
        "parts of the daemon's own log",
    );
    for path in own() {
        assert!(
            fs::read(&path).unwrap().ends_with(b"\n"),
            "{}",
            path.display()
        );
    }
    let shown = mcpm.ok(&["logs", "PM2", "--nostream", "--lines", "1000"]);
    assert!(
        shown.contains("PM2        | ") && shown.contains(" ready ") && !shown.contains("line 1"),
        "all of it, from its first words on: {shown}"
    );
}

#[test]
fn reload_logs_and_sigusr2_open_files_that_others_have_moved() {
    let mcpm = Mcpm::start([sh("web", &counter(3))]);
    let logs = mcpm.home().join("logs");
    let log = logs.join("web-out.log");
    mcpm.write("go", "");
    wait_for(
        || mcpm.log("web-out.log").ends_with(b"line 3\n").then_some(()),
        "the lines",
    );
    fs::rename(&log, logs.join("moved.log")).unwrap();
    assert!(mcpm.ok(&["reloadLogs"]).contains("anew"));
    mcpm.ok(&["restart", "web"]);
    wait_for(
        || (mcpm.log("web-out.log") == b"line 1\nline 2\nline 3\n").then_some(()),
        "lines in a new file",
    );
    crate::harness::kill(mcpm.daemon_pid(), "USR2");
    let told = || mcpm.daemon_log().matches("opened all logs anew").count() == 2;
    wait_for(|| told().then_some(()), "the daemon's word");
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn a_million_lines_arrive_whole_and_hold_up_nobody() {
    let flood = "while [ ! -e go ]; do sleep 0.02; done; seq -f '%099.0f' 1000000";
    let rotate = json!({"retain": 0, "compress": false});
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([
        sh("flood", flood)
            .with("/autorestart", false)
            .with("/log_rotate", rotate),
        sh("other", "echo tick; sleep 0.02; exit 1").with("/max_restarts", 100_000),
    ]);
    // The other one never stays up: nobody waits for that.
    mcpm.ok(&["start", &file, "--no-wait"]);
    let ticks = || mcpm.log("other-out.log").len() / b"tick\n".len();
    let before = ticks();
    mcpm.write("go", "");
    let size = || {
        let parts = aside(&mcpm, "flood-out").into_iter();
        let parts = parts.chain([mcpm.home().join("logs/flood-out.log")]);
        parts
            .map(|path| path.metadata().map_or(0, |meta| meta.len()))
            .sum::<u64>()
    };
    wait_for(|| (size() > 0).then_some(()), "the flood");
    wait_for(
        || (ticks() > before + 3).then_some(()),
        "the other one's lines and restarts",
    );
    wait_for(|| (size() == 100_000_000).then_some(()), "all bytes");
    let all = whole(&mcpm, "flood-out");
    for (number, line) in all.chunks(100).enumerate() {
        let expected = format!("{:099}\n", number + 1);
        assert!(line == expected.as_bytes(), "line {} is cut", number + 1);
    }
    assert!(aside(&mcpm, "flood-out").len() >= 9);
}
