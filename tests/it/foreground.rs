//! `mcpm daemon`: the daemon itself, as systemd or a container runs it.

use crate::harness::{Mcpm, demo, is_alive, kill, sh, wait_for};

#[test]
fn a_daemon_in_the_foreground_serves_and_ends_in_order() {
    let mcpm = Mcpm::new();
    let mut daemon = mcpm.spawn(&["daemon"]);
    wait_for(
        || mcpm.home().join("mcpm.pid").exists().then_some(()),
        "its pid file",
    );
    assert_eq!(mcpm.daemon_pid(), daemon.pid());
    let file = mcpm.ecosystem([demo("demo")]);
    mcpm.ok(&["start", &file]);
    let demo = mcpm.list()["demo"].pid;
    kill(daemon.pid(), "HUP");
    assert_eq!(
        mcpm.list()["demo"].pid,
        demo,
        "a closed terminal is no reason to end"
    );
    kill(daemon.pid(), "INT");
    assert_eq!(daemon.code(), Some(0));
    let log = daemon.complaints();
    assert!(log.contains("ready") && log.contains("ended"), "{log}");
    assert!(!is_alive(demo));
}

#[test]
fn those_who_follow_logs_are_told_when_the_daemon_ends() {
    let mcpm = Mcpm::start([sh("web", "echo hello; exec sleep 1000")]);
    let mut logs = mcpm.spawn(&["logs"]);
    logs.line(|line| line.ends_with("hello"));
    mcpm.ok(&["kill"]);
    assert_eq!(logs.code(), Some(1), "it ends by itself");
    let said = logs.complaints();
    assert!(
        said.starts_with("error: the daemon has ended; see"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_saved_list_comes_back_with_the_daemon_when_that_is_wanted() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    mcpm.ok(&["save"]);
    mcpm.ok(&["kill"]);
    let _daemon = mcpm.spawn(&["daemon", "--resurrect"]);
    wait_for(
        || mcpm.home().join("mcpm.pid").exists().then_some(()),
        "its pid file",
    );
    mcpm.wait_until(|list| list.get("web").is_some_and(|web| web.is_up()));
}
