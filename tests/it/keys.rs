//! The master key and its rotation, by command, while everything works on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{Mcpm, Ran, run, service, wait_for};

/// What `keys --json` says.
#[track_caller]
fn keys(mcpm: &Mcpm) -> Value {
    serde_json::from_str(&mcpm.ok(&["keys", "--json"])).unwrap()
}

/// Alice's URL, at which the service must get her own key.
#[track_caller]
fn answers(mcpm: &Mcpm, url: &str) {
    let hello = format!("{url}/hello");
    let answer = wait_for(
        || {
            let answer = mcpm.get(&hello);
            (answer.status != 503).then_some(answer)
        },
        "an answer of the service",
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("Bearer alice-key"), "{answer:?}");
    let mine = mcpm.api("alice", "GET", "/api/v1/services/web/instance", "");
    assert_eq!(
        mine.json()["instanceUrl"],
        url,
        "the id opens, and the token counts"
    );
}

#[test]
fn our_own_key_is_rotated_and_urls_tokens_and_services_stay() {
    let mcpm = Mcpm::start([service("web").with_api_key()]);
    let url = mcpm.instance("alice", "web");
    let file = mcpm.home().join("master.key");
    let (old, before, pid) = (
        fs::read_to_string(&file).unwrap(),
        keys(&mcpm),
        mcpm.list()["web"].pid,
    );
    assert_eq!(before["source"], "home");
    assert_eq!(before["path"], file.to_str().unwrap());
    assert!(
        before["since"].is_string() && before["rotation"].is_null(),
        "{before}"
    );

    let said = mcpm.ok(&["keys", "rotate"]);
    let after = keys(&mcpm);
    let new = fs::read_to_string(&file).unwrap();
    assert!(new != old && after["number"] != before["number"]);
    assert!(after["rotation"].is_null(), "{after}");
    assert!(said.contains(after["number"].as_str().unwrap()), "{said}");
    assert!(!said.contains(new.trim()) && !said.contains(old.trim()));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    answers(&mcpm, &url);

    mcpm.kill_daemon();
    answers_again(&mcpm, &url);
    mcpm.ok(&["keys", "rotate", "--json"]);
    mcpm.ok(&["update"]);
    answers(&mcpm, &url);
    assert_eq!(mcpm.list()["web"].pid, pid);

    // The key of a backup from before the rotation is told from a wrong one.
    mcpm.ok(&["kill", "--keep"]);
    let last = fs::read_to_string(&file).unwrap();
    fs::write(&file, &new).unwrap();
    let refused = mcpm.fails(&["ls"]);
    assert!(
        refused.contains("from before the last rotation"),
        "{refused}"
    );
    fs::write(&file, "00".repeat(32)).unwrap();
    let refused = mcpm.fails(&["ls"]);
    assert!(
        refused.contains("not the one this database was made with"),
        "{refused}"
    );
    fs::write(&file, last).unwrap();
    answers_again(&mcpm, &url);
}

/// The same when another daemon has to be started first.
#[track_caller]
fn answers_again(mcpm: &Mcpm, url: &str) {
    mcpm.ok(&["ping"]);
    mcpm.wait_until(|list| list["web"].is_up());
    answers(mcpm, url);
}

/// Runs a command with this master key in the environment.
fn with_key(mcpm: &Mcpm, key: &str, args: &[&str], stdin: &str) -> Ran {
    let mut command = mcpm.command(args);
    command.env("MCPM_MASTER_KEY", key);
    run(command, stdin)
}

#[test]
fn a_key_from_the_environment_is_rotated_in_steps_and_each_of_them_can_wait() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([service("web").with_api_key()]);
    let (old, new) = ("a1".repeat(32), "b2".repeat(32));
    let started = with_key(&mcpm, &old, &["start", &file], "");
    assert_eq!(started.code, Some(0), "{started}");
    let url = mcpm.instance("alice", "web");
    let number = keys(&mcpm)["number"].clone();
    assert_eq!(keys(&mcpm)["source"], "environment");

    for (stdin, why) in [
        ("", "64 hex digits"),
        (old.as_str(), "in use"),
        ("hunter2", "64 hex digits"),
    ] {
        let refused = mcpm.run_with(&["keys", "rotate"], stdin);
        assert_eq!(refused.code, Some(1), "{refused}");
        assert!(
            refused.stderr.contains(why) && !refused.stderr.contains("hunter2"),
            "{refused}"
        );
    }
    let ran = mcpm.run_with(&["keys", "rotate"], &format!("{new}\n"));
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("set MCPM_MASTER_KEY"), "{ran}");
    assert!(
        !ran.to_string().contains(&new) && !ran.to_string().contains(&old),
        "{ran}"
    );
    let waits = keys(&mcpm);
    assert_eq!(waits["rotation"]["waitsForKey"], true, "{waits}");
    assert_eq!(waits["number"], number, "{waits}");
    let again = mcpm.run_with(&["keys", "rotate"], "");
    assert!(again.stderr.contains("being rotated already"), "{again}");
    answers(&mcpm, &url);

    // The daemon dies before the operator has done anything; another one takes over.
    mcpm.kill_daemon();
    let back = with_key(&mcpm, &old, &["ping"], "");
    assert_eq!(back.code, Some(0), "{back}");
    mcpm.ok(&["update"]);
    mcpm.wait_until(|list| list["web"].is_up());
    answers(&mcpm, &url);
    let waits = || {
        let now = keys(&mcpm);
        (now["rotation"]["waitsForKey"] == true).then_some(())
    };
    wait_for(waits, "a rotation that waits");

    // With the new key it is over.
    mcpm.ok(&["kill", "--keep"]);
    let wrong = with_key(&mcpm, &"c3".repeat(32), &["ls"], "");
    assert!(
        wrong
            .stderr
            .contains("not the one this database was made with"),
        "{wrong}"
    );
    let there = with_key(&mcpm, &new, &["ping"], "");
    assert_eq!(there.code, Some(0), "{there}");
    wait_for(
        || keys(&mcpm)["rotation"].is_null().then_some(()),
        "the end of the rotation",
    );
    assert_ne!(keys(&mcpm)["number"], number);
    mcpm.wait_until(|list| list["web"].is_up());
    answers(&mcpm, &url);
    mcpm.ok(&["kill", "--keep"]);
    let former = with_key(&mcpm, &old, &["ls"], "");
    assert!(
        former.stderr.contains("from before the last rotation"),
        "{former}"
    );
}

#[test]
fn a_new_key_that_was_lost_is_given_up_and_the_old_one_stays() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([service("web").with_api_key()]);
    let old = "a1".repeat(32);
    let started = with_key(&mcpm, &old, &["start", &file], "");
    assert_eq!(started.code, Some(0), "{started}");
    let url = mcpm.instance("alice", "web");
    let number = keys(&mcpm)["number"].clone();
    assert!(
        mcpm.fails(&["keys", "cancel"])
            .contains("not being rotated")
    );
    let ran = mcpm.run_with(&["keys", "rotate"], &"b2".repeat(32));
    assert_eq!(ran.code, Some(0), "{ran}");
    let said = mcpm.ok(&["keys", "cancel"]);
    assert!(said.contains("as before"), "{said}");
    let after = keys(&mcpm);
    assert!(
        after["rotation"].is_null() && after["number"] == number,
        "{after}"
    );
    answers(&mcpm, &url);
    mcpm.kill_daemon();
    let back = with_key(&mcpm, &old, &["ping"], "");
    assert_eq!(back.code, Some(0), "{back}");
    mcpm.wait_until(|list| list["web"].is_up());
    answers(&mcpm, &url);
}
