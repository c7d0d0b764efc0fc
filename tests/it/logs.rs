//! Output of services: kept as it came, shown as it was, followed as it comes.

use serde_json::{Value, json};

use crate::harness::{Mcpm, is_alive, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

fn wait_for_log(mcpm: &Mcpm, name: &str, wanted: &[u8]) {
    let mut last = Vec::new();
    let reached = crate::harness::eventually(|| {
        last = mcpm.log(name);
        last == wanted
    });
    let (last, wanted) = (last.escape_ascii(), wanted.escape_ascii());
    assert!(reached, "{name} holds\n{last}\nand not\n{wanted}");
}

#[test]
fn history_shows_the_last_lines_of_each_stream_and_ends() {
    let script = "i=1; while [ $i -le 20 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; ";
    let mcpm = Mcpm::start([sh("web", &format!("{script}{SLEEP}"))]);
    wait_for(
        || {
            mcpm.log("web-error.log")
                .ends_with(b"err 20\n")
                .then_some(())
        },
        "all lines",
    );
    let shown = mcpm.ok(&["logs", "--nostream"]);
    assert!(
        shown.contains("0|web      | out 6\n") && !shown.contains("out 5\n"),
        "{shown}"
    );
    assert!(
        shown.contains("err 6\n") && !shown.contains("err 5\n"),
        "{shown}"
    );
    let shown = mcpm.ok(&["logs", "web", "--nostream", "--lines", "2", "--out"]);
    assert!(
        shown.contains("out 19\n") && !shown.contains("out 18\n"),
        "{shown}"
    );
    assert!(!shown.contains("err"), "{shown}");
    let ran = mcpm.run(&["logs", "web", "--nostream", "--lines", "1", "--raw"]);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("out 20\n", "err 20\n")
    );
    let json = mcpm.ok(&[
        "logs",
        "web",
        "--nostream",
        "--lines",
        "1",
        "--json",
        "--err",
    ]);
    let line: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&line["message"], &line["type"]),
        (&json!("err 20"), &json!("err"))
    );
}

#[test]
fn logs_follows_what_arrives_of_apps_that_come_later_too() {
    let mcpm = Mcpm::start([sh("first", SLEEP)]);
    for (args, id) in [
        (&["logs"][..], 1),
        (&["logs", "-f"], 2),
        (&["logs", "all", "--lines", "0"], 3),
    ] {
        let logs = mcpm.spawn(args);
        // Its title is there once it is connected; with `--lines 0` there is none.
        if args.len() < 4 {
            logs.line(|line| line.contains("last 15 lines of all"));
        }
        let script = "while :; do echo tick; sleep 0.05; done";
        let file = mcpm.ecosystem([sh("second", script)]);
        mcpm.ok(&["start", &file]);
        let line = logs.line(|line| line.ends_with("tick"));
        // Numbers count up: that of a deleted process does not come to mean another one.
        assert_eq!(line, format!("{id}|second   | tick"));
        mcpm.ok(&["delete", "second"]);
        assert!(is_alive(logs.pid()), "it goes on");
    }
}

#[test]
fn the_pieces_of_a_line_stay_together() {
    let writer = |word: &str| {
        format!(
            "i=0; while [ $i -lt 50 ]; do printf '{word}-'; j=0; while [ $j -lt 500 ]; do \
             j=$((j+1)); done; printf '{word}\\n'; i=$((i+1)); done; {SLEEP}"
        )
    };
    let shared = |name: &str| {
        sh(name, &writer(name))
            .with("/merge_logs", true)
            .with("/out_file", "shared.log")
    };
    let mcpm = Mcpm::start([shared("aaa"), shared("bbb")]);
    let path = mcpm.folder().join("shared.log");
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    wait_for(
        || (lines().lines().count() == 100).then_some(()),
        "all lines of both",
    );
    for line in lines().lines() {
        assert!(["aaa-aaa", "bbb-bbb"].contains(&line), "{line}");
    }
}

#[test]
fn the_beginning_of_a_line_is_let_go_when_its_end_does_not_come() {
    let mcpm = Mcpm::start([sh("prompt", &format!("printf 'password: '; {SLEEP}"))]);
    wait_for_log(&mcpm, "prompt-out.log", b"password: ");
}

#[test]
fn bytes_are_kept_as_they_are() {
    let mcpm = Mcpm::start([sh(
        "binary",
        &format!("printf 'a\\377\\000\\033[31mb\\r\\n'; {SLEEP}"),
    )]);
    wait_for_log(&mcpm, "binary-out.log", b"a\xff\0\x1b[31mb\r\n");
    let mut raw = mcpm.command(&["logs", "binary", "--nostream", "--raw"]);
    let output = raw.output().unwrap();
    assert_eq!(output.stdout, b"a\xff\0\x1b[31mb\n", "{output:?}");
}

#[test]
fn what_a_program_wrote_last_is_there_when_it_is_gone() {
    let script = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; printf end; exit 3";
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("job", script).with("/autorestart", false)]);
    mcpm.run(&["start", &file]);
    mcpm.wait_until(|list| list["job"].status == "stopped");
    let log = wait_for(
        || Some(mcpm.log("job-out.log")).filter(|log| log.ends_with(b"end")),
        "the last word",
    );
    assert_eq!(log.split(|&byte| byte == b'\n').count(), 501);
}

#[test]
fn processes_of_one_app_have_their_own_files_unless_merged() {
    let mcpm = Mcpm::start([
        sh("apart", &format!("echo $NODE_APP_INSTANCE; {SLEEP}")).with("/instances", 2),
        sh("merged", &format!("echo $NODE_APP_INSTANCE; {SLEEP}"))
            .with("/instances", 2)
            .with("/merge_logs", true),
    ]);
    wait_for_log(&mcpm, "apart-out-0.log", b"0\n");
    wait_for_log(&mcpm, "apart-out-1.log", b"1\n");
    wait_for(
        || (mcpm.log("merged-out.log").len() == 4).then_some(()),
        "both lines",
    );
}

#[test]
fn a_log_file_that_was_moved_away_is_begun_anew() {
    let script = "while :; do echo tick; sleep 0.05; done";
    let mcpm = Mcpm::start([sh("web", script)]);
    wait_for(
        || (!mcpm.log("web-out.log").is_empty()).then_some(()),
        "the first lines",
    );
    let logs = mcpm.home().join("logs");
    std::fs::rename(logs.join("web-out.log"), logs.join("web-out.1.log")).unwrap();
    wait_for(
        || (!mcpm.log("web-out.log").is_empty()).then_some(()),
        "lines in a new file",
    );
}

#[test]
fn a_new_process_under_an_old_number_is_heard() {
    let mcpm = Mcpm::new();
    for round in 0..15 {
        let name = format!("app{round}");
        let file = mcpm.ecosystem([sh(&name, &format!("echo round {round}; {SLEEP}"))]);
        mcpm.ok(&["start", &file]);
        wait_for_log(
            &mcpm,
            &format!("{name}-out.log"),
            format!("round {round}\n").as_bytes(),
        );
        mcpm.ok(&["delete", &name]);
    }
}

#[test]
fn a_log_on_a_full_disk_loses_lines_and_nothing_else() {
    let script = "while :; do echo tick; sleep 0.02; done";
    let full = sh("full", script)
        .with("/out_file", "/dev/full")
        .with("/merge_logs", true);
    let mcpm = Mcpm::start([full, sh("fine", script)]);
    let lost = || mcpm.daemon_log().contains("could not be written to `");
    wait_for(|| lost().then_some(()), "a word about the lost lines");
    let list = mcpm.list();
    assert!(list["full"].is_up() && list["fine"].is_up());
    wait_for(
        || (mcpm.log("fine-out.log").len() > 20).then_some(()),
        "the other one's lines",
    );
    let complaints = mcpm
        .daemon_log()
        .matches("could not be written to `")
        .count();
    assert_eq!(complaints, 1, "it is said once, not with every line");
    let file = mcpm.ecosystem([sh("third", SLEEP)]);
    let ran = mcpm.run(&["start", &file]);
    assert!(
        ran.stderr.contains("log lines could not be written"),
        "{ran}"
    );
    // Those who follow get the lines all the same.
    mcpm.spawn(&["logs", "full"])
        .line(|line| line.ends_with("tick"));
}

#[test]
fn out_file_null_keeps_nothing() {
    let quiet = sh("quiet", &format!("echo hush; {SLEEP}")).with("/out_file", "/dev/null");
    let mcpm = Mcpm::start([quiet, sh("loud", &format!("echo hey; {SLEEP}"))]);
    wait_for_log(&mcpm, "loud-out.log", b"hey\n");
    assert!(!mcpm.home().join("logs/quiet-out.log").exists());
}
