//! All that an app has started ends with it, wherever it went.

use std::fs;
use std::path::Path;

use crate::harness::{App, Mcpm, is_alive, kill, processes_of, sh, wait_for};

/// Starts three and says their pids: one in a group of its own (a job of a shell), one with a session
/// of its own, and one that has lost its parents as well.
const SLIPPERY: &str = "bash -c 'set -m; sh -c \"echo \\$\\$ >job; exec sleep 1001\" & wait' & \
     setsid sh -c 'echo $$ >session; exec sleep 1002' & \
     (setsid sh -c 'echo $$ >daemon; exec sleep 1003' &) & \
     while [ ! -s job ] || [ ! -s session ] || [ ! -s daemon ]; do sleep 0.05; done; ";

fn pids(folder: &Path) -> Vec<u32> {
    let pid = |name: &str| -> Option<u32> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    ["job", "session", "daemon"]
        .into_iter()
        .filter_map(pid)
        .collect()
}

struct Fixture {
    mcpm: Mcpm,
    folder: tempfile::TempDir,
}

fn fixture(then: &str, change: impl Fn(App) -> App) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let app = sh("app", &format!("{SLIPPERY}{then}"));
    let app = app.with("/cwd", folder.path().to_str().unwrap());
    let app = app.with("/kill_timeout", 500);
    let mcpm = Mcpm::start([change(app)]);
    Fixture { mcpm, folder }
}

impl Fixture {
    fn all_three(&self) -> Vec<u32> {
        let there = || Some(pids(self.folder.path())).filter(|pids| pids.len() == 3);
        let pids = wait_for(there, "three pids");
        assert!(pids.iter().all(|&pid| is_alive(pid)), "{pids:?}");
        pids
    }
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_stop_ends_what_has_left_the_process_group() {
    let it = fixture("exec sleep 1000", |app| app);
    let pids = it.all_three();
    it.mcpm.ok(&["stop", "app"]);
    let left: Vec<_> = pids.iter().filter(|&&pid| is_alive(pid)).collect();
    assert!(left.is_empty(), "{left:?} of {pids:?}");
    // None of them had a parent that would collect it but the daemon.
    let collected = || pids.iter().all(|&pid| !exists(pid)).then_some(());
    wait_for(collected, "the end of the last zombie");
}

#[test]
fn what_a_dead_run_has_left_behind_is_ended_before_the_next() {
    let then = "[ -e first ] && exec sleep 1000; mkdir first; mv job session daemon first; exit 3";
    let it = fixture(then, |app| app);
    it.mcpm
        .wait_until(|list| list["app"].restarts == 1 && list["app"].is_up());
    let first = pids(&it.folder.path().join("first"));
    let left: Vec<_> = first.iter().filter(|&&pid| is_alive(pid)).collect();
    assert!(first.len() == 3 && left.is_empty(), "{left:?} of {first:?}");
    it.all_three();
    it.mcpm.ok(&["delete", "app"]);
    assert_eq!(processes_of(&it.mcpm.home()), [it.mcpm.daemon_pid()]);
}

#[test]
fn the_next_daemon_finds_them_too() {
    let it = fixture("exec sleep 1000", |app| app);
    let pids = it.all_three();
    it.mcpm.kill_daemon();
    it.mcpm.ok(&["delete", "app"]);
    let left: Vec<_> = pids.iter().filter(|&&pid| is_alive(pid)).collect();
    assert!(left.is_empty(), "{left:?} of {pids:?}");
}

#[test]
fn without_treekill_what_has_left_the_group_is_left_alone() {
    let it = fixture("exec sleep 1000", |app| app.with("/treekill", false));
    let first = it.all_three();
    // Its root dies while no daemon lives: what it has left behind is the next daemon's business.
    let root = it.mcpm.list()["app"].pid;
    it.mcpm.kill_daemon();
    for name in ["job", "session", "daemon"] {
        fs::remove_file(it.folder.path().join(name)).unwrap();
    }
    kill(root, "KILL");
    it.mcpm
        .wait_until(|list| list["app"].is_up() && list["app"].pid != root);
    let second = it.all_three();
    it.mcpm.ok(&["delete", "app"]);
    let all = [first, second].concat();
    let alive: Vec<_> = all.iter().filter(|&&pid| is_alive(pid)).collect();
    let is_whole = alive.len() == 6;
    all.iter().for_each(|&pid| kill(pid, "KILL"));
    assert!(is_whole, "{alive:?} of {all:?}");
}
