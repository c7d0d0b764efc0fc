//! What follows when a process ends by itself: the restart policy, seen from outside.

use serde_json::json;

use crate::harness::{Mcpm, demo, is_alive, job, kill, service, sh, wait_for};

/// Begins a line with the milliseconds since boot, so that a test can tell how long a wait was.
const STAMP: &str = "read up rest < /proc/uptime; echo \"$up\"";

/// The waits between the first starts that `STAMP` wrote into this log, in milliseconds, to a
/// hundredth of a second.
#[track_caller]
fn waits(mcpm: &Mcpm, log: &str, count: usize) -> Vec<u64> {
    let lines = |log: &[u8]| log.iter().filter(|&&byte| byte == b'\n').count();
    let log = wait_for(
        || Some(mcpm.log(log)).filter(|log| lines(log) > count),
        "the times of the starts",
    );
    let starts: Vec<f64> = String::from_utf8_lossy(&log)
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    starts
        .windows(2)
        .map(|two| ((two[1] - two[0]) * 1000.0).round() as u64)
        .collect()
}

#[test]
fn a_killed_service_is_back_with_one_more_restart_and_answers_again() {
    let mcpm = Mcpm::start([service("flaky"), demo("demo")]);
    let before = mcpm.list();
    kill(before["flaky"].pid, "KILL");
    let after = mcpm.wait_until(|list| list["flaky"].restarts == 1 && list["flaky"].is_up());
    assert_ne!(after["flaky"].pid, before["flaky"].pid);
    assert_eq!(
        after["demo"].pid, before["demo"].pid,
        "the other one is left alone"
    );
    let port = after["flaky"].raw["mcpm"]["port"].as_u64().unwrap();
    let answer = mcpm.get(&format!("http://127.0.0.1:{port}/hello")).json();
    assert_eq!(answer["pid"], after["flaky"].pid);
    assert!(
        mcpm.ok(&["ls"]).contains("│ 1    │"),
        "`ls` shows the restart"
    );
    assert!(mcpm.ok(&["describe", "flaky"]).contains("SIGKILL"));
}

#[test]
fn a_service_that_crashes_is_restarted() {
    let mcpm = Mcpm::start([service("flaky")]);
    let list = mcpm.list();
    let port = list["flaky"].raw["mcpm"]["port"].as_u64().unwrap();
    mcpm.get(&format!("http://127.0.0.1:{port}/crash"));
    mcpm.wait_until(|list| list["flaky"].restarts == 1 && list["flaky"].is_up());
    let shown = mcpm.ok(&["describe", "flaky"]);
    assert!(shown.contains("code 3"), "{shown}");
}

#[test]
fn a_plain_app_that_crashes_at_once_ends_errored_and_says_why() {
    let mcpm = Mcpm::new();
    let app = sh("bad", "echo going down >&2; exit 3").with("/max_restarts", 4);
    let file = mcpm.ecosystem([app]);
    mcpm.run(&["start", &file]);
    let list = mcpm.wait_until(|list| list["bad"].status == "errored");
    assert_eq!((list["bad"].pid, list["bad"].restarts), (0, 3));
    let shown = mcpm.ok(&["describe", "bad"]);
    for part in [
        "errored",
        "4 unstable exits in a row",
        "exited with code 3",
        "going down",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    // By hand it can be tried again, from the beginning.
    mcpm.run(&["start", "bad"]);
    let list = mcpm.wait_until(|list| list["bad"].status == "errored");
    assert_eq!(
        mcpm.log("bad-error.log"),
        b"going down\n".repeat(8),
        "{list:#?}"
    );
}

#[test]
fn a_service_that_keeps_crashing_is_retried_for_ever_with_growing_waits() {
    let mcpm = Mcpm::new();
    let script = format!("{STAMP}; exit 1");
    let crashing = service("crashing")
        .with("/script", "/bin/sh")
        .with("/args", json!(["-c", script]))
        .with("/max_restarts", 3);
    let file = mcpm.ecosystem([crashing]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    let list = mcpm.wait_until(|list| list["crashing"].restarts >= 8);
    assert_ne!(
        list["crashing"].status, "errored",
        "services are never given up on"
    );
    let shown = mcpm.ok(&["describe", "crashing"]);
    assert!(shown.contains("exited with code 1"), "{shown}");
    let crashes = mcpm.daemon_log().matches("exited with code 1").count();
    // It is said again after a while, and this may take one.
    assert!(
        crashes < 8,
        "a crash like the last one is no news: {crashes}"
    );
    let waits = waits(&mcpm, "crashing-out.log", 8);
    // Twice at once, then 50 ms, and half as long again each time; `/proc/uptime` counts in 10 ms.
    for (wait, at_least) in waits.iter().zip([0, 0, 40, 65, 100, 155, 240, 365]) {
        assert!(*wait >= at_least, "{waits:?}");
    }
}

#[test]
fn restart_delay_is_kept_between_runs() {
    let mcpm = Mcpm::new();
    let script = format!("{STAMP}; exit 1");
    let app = sh("slow", &script)
        .with("/restart_delay", 150)
        .with("/max_restarts", 3);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    mcpm.wait_until(|list| list["slow"].status == "errored");
    let waits = waits(&mcpm, "slow-out.log", 2);
    assert_eq!(waits.len(), 2);
    assert!(waits.iter().all(|wait| *wait >= 140), "{waits:?}");
}

#[test]
fn exp_backoff_grows_by_half_and_shows_as_waiting_restart() {
    let mcpm = Mcpm::new();
    let script = format!("{STAMP}; exit 1");
    let app = sh("backing", &script)
        .with("/exp_backoff_restart_delay", 100)
        .with("/max_restarts", 100);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    let list = mcpm.wait_until(|list| {
        list["backing"].status == "waiting restart" && list["backing"].restarts >= 4
    });
    assert_eq!(list["backing"].pid, 0);
    let waits = waits(&mcpm, "backing-out.log", 3);
    for (wait, at_least) in waits.iter().zip([90, 140, 215]) {
        assert!(*wait >= at_least, "{waits:?}");
    }
    // A restart by hand does not wait for it, and a stop ends the waiting.
    mcpm.ok(&["stop", "backing"]);
    assert_eq!(mcpm.list()["backing"].status, "stopped");
}

#[test]
fn stop_exit_codes_and_autorestart_false_end_it_in_peace() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([
        sh("done", "exit 42").with("/stop_exit_codes", json!([42])),
        job("once", "exit 1"),
    ]);
    mcpm.run(&["start", &file]);
    let list = mcpm.wait_until(|list| list.all().iter().all(|process| process.status == "stopped"));
    assert_eq!((list["done"].restarts, list["once"].restarts), (0, 0));
    assert!(
        mcpm.ok(&["describe", "done"])
            .contains("exited with code 42")
    );
}

#[test]
fn max_restarts_zero_is_taken_at_its_word() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("never", "exit 1").with("/max_restarts", 0)]);
    mcpm.run(&["start", &file]);
    let list = mcpm.wait_until(|list| list["never"].status == "errored");
    assert_eq!(list["never"].restarts, 0);
    assert!(
        mcpm.ok(&["describe", "never"])
            .contains("`max_restarts` is 0")
    );
}

#[test]
fn a_program_that_runs_long_enough_is_restarted_for_ever() {
    let mcpm = Mcpm::new();
    let app = sh("steady", "sleep 0.1; exit 1")
        .with("/min_uptime", 50)
        .with("/max_restarts", 2);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    let list = mcpm.wait_until(|list| list["steady"].restarts >= 5);
    assert_eq!(list["steady"].raw["pm2_env"]["unstable_restarts"], 0);
}

#[test]
fn children_that_a_crashed_program_left_are_ended_before_it_returns() {
    let mcpm = Mcpm::start([sh("parent", "sleep 1000 & echo $!; sleep 1000")]);
    let children = || -> Vec<u32> {
        let log = mcpm.log("parent-out.log");
        String::from_utf8_lossy(&log)
            .lines()
            .map(|line| line.parse().unwrap())
            .collect()
    };
    wait_for(|| (children().len() == 1).then_some(()), "its child's pid");
    kill(mcpm.list()["parent"].pid, "KILL");
    mcpm.wait_until(|list| list["parent"].restarts == 1 && list["parent"].is_up());
    wait_for(
        || (children().len() == 2).then_some(()),
        "its second child's pid",
    );
    let children = children();
    assert!(!is_alive(children[0]) && is_alive(children[1]));
}
