//! The disk that holds the home is full: what runs goes on, once, and a daemon comes up.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Mcpm, processes_of, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";
const TROUBLE: &str = "run.db` cannot be written since ";

/// A small disk at a test's home. Made before the `Mcpm` on it, so that it goes after it.
#[derive(Default)]
struct SmallDisk {
    mounted: Option<PathBuf>,
}

impl SmallDisk {
    /// `false` where nobody may mount one.
    fn mount(&mut self, at: &Path) -> bool {
        fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]);
        let output = mount.arg(at).output();
        let is_mounted = output.is_ok_and(|output| output.status.success());
        self.mounted = is_mounted.then(|| at.to_owned());
        is_mounted
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(at) = &self.mounted {
            let _ = Command::new("umount").arg("-l").arg(at).status();
            // It could not be removed while something was mounted in it.
            let _ = at.parent().map(fs::remove_dir_all);
        }
    }
}

/// Takes all room that is left, and returns the file that has it.
fn fill(home: &Path) -> PathBuf {
    let path = home.join("filler");
    let mut filler = File::create(&path).unwrap();
    while filler.write_all(&[0; 1024]).is_ok() {}
    path
}

/// Everything of this home that runs is the daemon and these.
#[track_caller]
fn assert_only(mcpm: &Mcpm, services: &[u32]) {
    let expected: BTreeSet<u32> = services
        .iter()
        .copied()
        .chain([mcpm.daemon_pid()])
        .collect();
    let found: BTreeSet<u32> = processes_of(&mcpm.home()).into_iter().collect();
    assert_eq!(found, expected);
}

#[test]
fn what_was_restarted_on_a_full_disk_runs_once_under_the_next_daemon() {
    let mut disk = SmallDisk::default();
    let mcpm = Mcpm::new();
    if !disk.mount(&mcpm.home()) {
        eprintln!("skipped: this user may mount no small disk");
        return;
    }
    let file = mcpm.ecosystem([sh("loop", SLEEP), sh("still", SLEEP)]);
    mcpm.ok(&["start", &file]);
    let first = mcpm.list()["loop"].pid;
    let filler = fill(&mcpm.home());
    mcpm.run(&["restart", "loop"]);
    let list = mcpm.wait_until(|list| list["loop"].is_up() && list["loop"].pid != first);
    let services = [list["loop"].pid, list["still"].pid];
    assert_only(&mcpm, &services);
    let told = mcpm.run(&["ls"]);
    assert!(told.to_string().contains(TROUBLE), "{told}");
    let refused = mcpm.fails(&["update"]);
    assert!(
        refused.contains("not all that runs is written"),
        "{refused}"
    );

    for is_full in [true, false] {
        mcpm.kill_daemon();
        let list = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
        let found: Vec<u32> = list.all().iter().map(|process| process.pid).collect();
        assert_eq!(found, services);
        assert_only(&mcpm, &services);
        if is_full {
            fs::remove_file(&filler).unwrap();
            let is_over = || !mcpm.run(&["ls"]).to_string().contains(TROUBLE);
            wait_for(|| is_over().then_some(()), "all to be written");
        }
    }
    // Its next run is newer than all before it.
    mcpm.ok(&["restart", "loop"]);
    let list = mcpm.wait_until(|list| list["loop"].is_up() && list["loop"].pid != services[0]);
    assert_only(&mcpm, &[list["loop"].pid, services[1]]);
}
