//! A daemon that may have fewer descriptors than the one before it: what it can't look after is left
//! alone, and nothing gets a second copy.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::harness::{List, Mcpm, processes_of, run, sh};

const APPS: usize = 40;
/// More than a daemon without apps has open: enough for a few of them.
const MORE: usize = 20;

/// Has a command start a daemon that may have so many descriptors.
#[track_caller]
fn start_daemon_with(mcpm: &Mcpm, descriptors: usize) {
    let program = mcpm.command(&["ls"]);
    let mut shell = Command::new("/bin/sh");
    let script = format!("ulimit -n {descriptors}; exec \"$0\" ls");
    shell.args(["-c", &script]).arg(program.get_program());
    shell.current_dir(mcpm.folder()).env_clear();
    let given = program.get_envs();
    shell.envs(given.filter_map(|(name, value)| Some((name, value?))));
    let ran = run(shell, "");
    assert_eq!(ran.code, Some(0), "{ran}");
}

/// By number and pid.
fn pids(list: &List) -> BTreeSet<(u64, u32)> {
    let all = list.all().iter();
    all.map(|process| (process.id, process.pid)).collect()
}

#[test]
fn what_there_are_no_descriptors_for_is_left_alone_until_there_are() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem((0..APPS).map(|n| sh(&format!("app{n}"), "exec sleep 1000")));
    mcpm.ok(&["ls"]);
    let first = mcpm.daemon_pid();
    let open = fs::read_dir(format!("/proc/{first}/fd")).unwrap().count();
    mcpm.ok(&["start", &file]);
    let before = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
    mcpm.kill_daemon();

    start_daemon_with(&mcpm, open + MORE);
    let list = mcpm.list();
    assert_eq!(pids(&list), pids(&before));
    let adopted: Vec<&str> = list
        .all()
        .iter()
        .filter(|process| process.is_up())
        .map(|process| process.name.as_str())
        .collect();
    assert!((1..APPS).contains(&adopted.len()), "{list:#?}");
    let daemon = mcpm.daemon_pid();
    let expected = before.all().iter().map(|process| process.pid);
    let expected: BTreeSet<u32> = expected.chain([daemon]).collect();
    let running = || -> BTreeSet<u32> { processes_of(&mcpm.home()).into_iter().collect() };
    assert_eq!(running(), expected, "one copy of each");

    // It can be neither ended nor started by somebody who does not know whether it lives.
    let left = list.all().iter().rfind(|process| !process.is_up()).unwrap();
    for order in ["start", "stop", "restart", "reload", "delete"] {
        let refused = mcpm.fails(&[order, &left.name]);
        assert!(refused.contains("not adopted"), "{order}: {refused}");
    }
    let told = mcpm.run(&["ls"]).stderr;
    let why = ") is not adopted: this daemon cannot look after it";
    assert!(told.contains(why) && told.contains("ulimit"), "{told}");
    assert_eq!(running(), expected, "one copy of each");

    // What is deleted leaves room for another one, which is not started anew.
    mcpm.ok(&["delete", adopted[0]]);
    let grows = |list: &List| {
        let up = list.all().iter().filter(|process| process.is_up());
        up.count() >= adopted.len()
    };
    let list = mcpm.wait_until(grows);
    assert!(pids(&list).is_subset(&pids(&before)), "{list:#?}");

    mcpm.kill_daemon();
    let list = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
    assert_eq!(list.all().len(), APPS - 1);
    assert!(pids(&list).is_subset(&pids(&before)), "{list:#?}");
    assert!(list.all().iter().all(|process| process.restarts == 0));
}
