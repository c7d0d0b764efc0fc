//! `mcpm why`: how runs have ended, who wanted it, and what followed.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Mcpm, kill, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

/// The exits of the only process of this name, newest first.
#[track_caller]
fn exits(mcpm: &Mcpm, name: &str) -> Vec<Value> {
    let told = mcpm.ok(&["why", name, "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
    told["items"][0]["exits"].as_array().unwrap().clone()
}

/// Waits until the newest exit was wanted by this one, and returns it.
#[track_caller]
fn asked_by(mcpm: &Mcpm, name: &str, who: &str) -> Value {
    let newest = || {
        let newest = exits(mcpm, name).into_iter().next()?;
        (newest["askedBy"] == who).then_some(newest)
    };
    wait_for(newest, &format!("an exit by {who}"))
}

#[test]
fn a_crash_loop_is_told_with_code_lines_and_decisions() {
    let mcpm = Mcpm::new();
    let script = "echo hello; echo going down >&2; exit 3";
    let file = mcpm.ecosystem([sh("bad", script)
        .with("/max_restarts", 3)
        .with("/min_uptime", "60s")]);
    mcpm.run(&["start", &file]);
    mcpm.wait_until(|list| list["bad"].status == "errored");
    let told = mcpm.ok(&["why", "bad"]);
    for part in [
        "bad (0) · errored, 2 restarts",
        "exited with code 3 after ",
        " · peak - ",
        " · by itself",
        "→ started again at once: it ran less than `min_uptime`",
        "→ started again at once: 2nd unstable exit in a row",
        "→ errored: 3 unstable exits in a row (`max_restarts`)",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    // Those of the run itself, and of no other.
    for line in ["| going down\n", "| hello\n"] {
        assert_eq!(told.matches(line).count(), 1, "{line} in {told}");
    }
    let exits = exits(&mcpm, "bad");
    let next: Vec<&Value> = exits.iter().map(|exit| &exit["next"]).collect();
    assert_eq!(next, ["errored", "started", "started"]);
    let newest = &exits[0];
    assert_eq!(
        (&newest["code"], &newest["signal"], &newest["askedBy"]),
        (&json!(3), &Value::Null, &json!("itself"))
    );
    assert_eq!(newest["errorLines"], json!(["going down"]));
    // A shell has less than the daemon, whose memory the kernel counts as its: nobody can know.
    assert_eq!(newest["peakMemory"], Value::Null, "{newest}");
    assert!(newest["uptimeMs"].is_u64(), "{newest}");
    let none = mcpm.ok(&["why", "bad", "--lines", "0"]);
    assert!(!none.contains("going down"), "{none}");
}

#[test]
fn who_asked_for_an_end_is_told() {
    let mcpm = Mcpm::start([sh("web", SLEEP), sh("other", SLEEP)]);
    let never = mcpm.ok(&["why", "web"]);
    assert_eq!(never, "web (0) has not ended yet; it is online\n");
    mcpm.ok(&["restart", "web"]);
    asked_by(&mcpm, "web", "restart");
    mcpm.ok(&["stop", "web"]);
    let stopped = asked_by(&mcpm, "web", "stop");
    assert_eq!(stopped["decision"], "stopped, as asked");
    let told = mcpm.ok(&["why", "web"]);
    for part in ["asked by `stop`", "asked by `restart`", "it wrote nothing"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    mcpm.ok(&["start", "web"]);
    kill(mcpm.list()["web"].pid, "KILL");
    let killed = asked_by(&mcpm, "web", "itself");
    assert_eq!(killed["signal"], "SIGKILL");
    let both = mcpm.ok(&["why", "all", "web"]);
    assert_eq!(both.matches("web (0)").count(), 1, "{both}");
    assert!(both.contains("other (1) has not ended yet"), "{both}");
    // What was deleted is nobody's past.
    mcpm.ok(&["delete", "web"]);
    assert!(mcpm.fails(&["why", "web"]).contains("web"));
    let file = mcpm.ecosystem([sh("web", SLEEP)]);
    mcpm.ok(&["start", &file]);
    assert!(exits(&mcpm, "web").is_empty());
}

#[test]
fn restarts_that_nobody_typed_are_told() {
    let mcpm = Mcpm::start([
        sh("ticks", SLEEP).with("/cron_restart", "* * * * * *"),
        sh("fresh", SLEEP),
    ]);
    let tick = asked_by(&mcpm, "ticks", "clock");
    assert_eq!(tick["askedWhy"], "`cron_restart` `* * * * * *`");
    assert_eq!(tick["decision"], "started again, as asked");
    mcpm.ok(&["reload", "fresh"]);
    let replaced = asked_by(&mcpm, "fresh", "reload");
    assert_eq!(replaced["next"], "replaced");
}

#[test]
fn exits_outlive_the_daemon_and_what_it_missed_is_said() {
    let mcpm = Mcpm::start([sh("web", "echo it runs; exec sleep 1000")]);
    kill(mcpm.list()["web"].pid, "KILL");
    let list = mcpm.wait_until(|list| list["web"].restarts == 1 && list["web"].is_up());
    asked_by(&mcpm, "web", "itself");
    mcpm.kill_daemon();
    let pid = list["web"].pid;
    kill(pid, "KILL");
    let is_reaped = || !Path::new(&format!("/proc/{pid}")).exists();
    wait_for(|| is_reaped().then_some(()), "init to reap it");
    mcpm.wait_until(|list| list["web"].restarts == 2 && list["web"].is_up());
    let told = exits(&mcpm, "web");
    let who: Vec<&Value> = told.iter().map(|exit| &exit["askedBy"]).collect();
    assert_eq!(who, ["unwatched", "itself"]);
    let dead = &told[0];
    assert!(
        dead["uptimeMs"].is_null() && dead["code"].is_null() && dead["signal"].is_null(),
        "{dead}"
    );
    let said = mcpm.ok(&["why", "web"]);
    assert!(
        said.contains("was found dead · no daemon was running") && said.contains("| it runs"),
        "{said}"
    );
    let doubt = "standard output (which of it is of earlier runs cannot be told)";
    assert_eq!(said.matches(doubt).count(), 1, "{said}");
}

#[test]
fn the_end_of_the_daemon_is_told_by_the_next_one() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("web", SLEEP)]);
    mcpm.ok(&["start", &file]);
    mcpm.ok(&["kill"]);
    mcpm.ok(&["start", &file]);
    let told = mcpm.ok(&["why", "web"]);
    assert!(
        told.contains("the daemon ended") && told.contains("→ stopped with the daemon"),
        "{told}"
    );
}

#[test]
fn the_newest_twenty_exits_are_kept() {
    let mcpm = Mcpm::new();
    let loud = "echo so it goes; exit 1";
    let quiet = sh("quiet", "echo nobody hears; exit 1")
        .with("/out_file", "/dev/null")
        .with("/error_file", "/dev/null");
    let file = mcpm.ecosystem([
        sh("loud", loud).with("/max_restarts", 25),
        quiet.with("/max_restarts", 1),
    ]);
    mcpm.run(&["start", &file]);
    mcpm.wait_until(|list| list.all().iter().all(|process| process.status == "errored"));
    let exits = exits(&mcpm, "loud");
    assert_eq!((exits.len(), &exits[0]["next"]), (20, &json!("errored")));
    assert_eq!(exits[0]["outLines"], json!(["so it goes"]));
    let told = mcpm.ok(&["why", "quiet"]);
    assert!(told.contains("its output goes to no file"), "{told}");
}
