//! A stop: the signal, the grace, and SIGKILL to the whole group.

use crate::harness::{Mcpm, Process, is_alive, sh, wait_for};

fn pids(log: &[u8]) -> Vec<u32> {
    String::from_utf8_lossy(log)
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

#[test]
fn a_program_that_ends_in_time_ends_its_own_way() {
    let script = "trap 'echo goodbye; exit 0' INT; while :; do sleep 0.05; done";
    let mcpm = Mcpm::start([sh("polite", script)]);
    mcpm.ok(&["stop", "polite"]);
    wait_for(
        || (mcpm.log("polite-out.log") == b"goodbye\n").then_some(()),
        "its last words",
    );
    let list = mcpm.list();
    assert_eq!(
        (list["polite"].status.as_str(), list["polite"].restarts),
        ("stopped", 0)
    );
    assert!(mcpm.ok(&["describe", "polite"]).contains("code 0 at"));
}

#[test]
fn one_that_ignores_the_signal_is_killed_with_its_whole_group() {
    let script = "trap '' INT; sh -c 'trap \"\" INT; echo $$; while :; do sleep 1; done' & \
                  echo $$; while :; do sleep 1; done";
    let mcpm = Mcpm::start([sh("stubborn", script).with("/kill_timeout", 200)]);
    wait_for(
        || (pids(&mcpm.log("stubborn-out.log")).len() == 2).then_some(()),
        "both pids",
    );
    let pids = pids(&mcpm.log("stubborn-out.log"));
    mcpm.ok(&["stop", "stubborn"]);
    let left: Vec<_> = pids.iter().filter(|&&pid| is_alive(pid)).collect();
    assert!(left.is_empty(), "{left:?} of {pids:?}");
    assert!(mcpm.ok(&["describe", "stubborn"]).contains("SIGKILL"));
}

#[test]
fn children_that_outlive_a_polite_parent_get_the_rest_of_the_grace_and_then_sigkill() {
    let script = "trap 'exit 0' INT; (trap '' INT; exec sleep 1000) & echo $!; \
                  while :; do sleep 0.05; done";
    let mcpm = Mcpm::start([sh("parent", script).with("/kill_timeout", 300)]);
    wait_for(
        || (pids(&mcpm.log("parent-out.log")).len() == 1).then_some(()),
        "the child's pid",
    );
    let child = pids(&mcpm.log("parent-out.log"))[0];
    mcpm.ok(&["stop", "parent"]);
    assert!(!is_alive(child), "the child is gone when the stop is done");
}

#[test]
fn kill_signal_takes_the_place_of_sigint() {
    let script = "trap 'echo hup; exit 0' HUP; trap 'echo int' INT; while :; do sleep 0.05; done";
    let mcpm = Mcpm::start([sh("app", script).with("/kill_signal", "SIGHUP")]);
    mcpm.ok(&["stop", "app"]);
    wait_for(
        || (mcpm.log("app-out.log") == b"hup\n").then_some(()),
        "its last words",
    );
}

#[test]
fn a_slow_stop_delays_nobody() {
    let stubborn = "trap '' INT; while :; do sleep 1; done";
    let mcpm = Mcpm::start([
        sh("slow", stubborn).with("/kill_timeout", 60_000),
        sh("quick", "exec sleep 1000"),
    ]);
    let _stop = mcpm.spawn(&["stop", "slow"]);
    mcpm.wait_until(|list| list["slow"].status == "stopping");
    let before = mcpm.list()["quick"].pid;
    crate::harness::kill(before, "KILL");
    let list = mcpm.wait_until(|list| list["quick"].pid != before && list["quick"].is_up());
    mcpm.ok(&["stop", "quick"]);
    assert_eq!(list["slow"].status, "stopping");
}

#[test]
fn a_stop_during_a_crash_loop_holds() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("looping", "exit 1").with("/max_restarts", 100_000)]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    mcpm.wait_until(|list| list["looping"].restarts > 5);
    mcpm.ok(&["stop", "looping"]);
    let stopped = |process: &Process| (process.status.clone(), process.pid, process.restarts);
    let first = stopped(&mcpm.list()["looping"]);
    assert_eq!(first.0, "stopped");
    mcpm.ok(&["describe", "looping"]);
    assert_eq!(stopped(&mcpm.list()["looping"]), first);
}
