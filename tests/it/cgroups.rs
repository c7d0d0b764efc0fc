//! Each process has a control group of its own where the daemon may make some.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::harness::{App, Mcpm, eventually, is_alive, kill, run, sh, wait_for};

/// Has a child that nothing but the group shows: it has lost its parents, is in a session of its own
/// and has cleared its environment; and it does not end by the first signal.
const LOST: &str = "rm -f lost; (setsid env -i /bin/sh -c 'echo $$ >lost; exec sleep 1003' &) & \
     while [ ! -s lost ]; do sleep 0.05; done; exec sleep 1000";

/// A group of this test's own; ended and removed on drop.
struct Groups(PathBuf);

impl Groups {
    /// Makes one. Where that cannot be the test says so.
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let Some(mount) = mount.and_then(|line| line.split(' ').nth(4)) else {
            eprintln!("skipped: no cgroup v2 is mounted here");
            return None;
        };
        let folder = Path::new(mount).join(format!("mcpm-it-{name}-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&folder) {
            eprintln!("skipped: no control group can be made: {error}");
            return None;
        }
        let groups = Self(folder);
        if !groups.0.join("cgroup.kill").exists() {
            eprintln!("skipped: this kernel does not end control groups (5.14 does)");
            return None;
        }
        Some(groups)
    }

    /// The names of the groups in it.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().flatten();
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        folders
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    /// The only one in it.
    #[track_caller]
    fn only(&self) -> String {
        let mut names = self.names();
        assert_eq!(names.len(), 1, "{names:?}");
        names.remove(0)
    }

    fn pids(&self, name: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.0.join(name).join("cgroup.procs")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let removed = eventually(|| remove(&self.0).is_ok());
        if !removed {
            eprintln!("{} is left", self.0.display());
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// A home whose daemons make groups there.
struct Fixture {
    mcpm: Mcpm,
    groups: Groups,
}

fn fixture(name: &str, apps: impl FnOnce(&Path) -> Vec<App>) -> Option<Fixture> {
    let groups = Groups::new(name)?;
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem(apps(mcpm.folder()));
    let it = Fixture { mcpm, groups };
    it.ok(&["start", &file]);
    Some(it)
}

fn lost_app(folder: &Path) -> App {
    let app = sh("app", LOST).with("/kill_timeout", 500);
    app.with("/cwd", folder.to_str().unwrap())
}

impl Fixture {
    /// Runs a command; the daemon that it may start makes groups.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let mut command = self.mcpm.command(args);
        command.env("MCPM_CGROUP", &self.groups.0);
        let ran = run(command, "");
        assert_eq!(ran.code, Some(0), "mcpm {}: {ran}", args.join(" "));
        ran.stdout
    }

    /// The child that nothing else shows.
    fn lost(&self) -> u32 {
        let path = self.mcpm.folder().join("lost");
        let read = || {
            let text = fs::read_to_string(&path).ok()?;
            let pid: u32 = text.trim().parse().ok()?;
            is_alive(pid).then_some(pid)
        };
        wait_for(read, "the pid of the lost one")
    }
}

#[test]
fn what_nothing_else_shows_ends_with_its_process() {
    let Some(it) = fixture("ends", |folder| vec![lost_app(folder)]) else {
        return;
    };
    let (root, lost) = (it.mcpm.list()["app"].pid, it.lost());
    let first = it.groups.only();
    let pids = it.groups.pids(&first);
    assert!(pids.contains(&root) && pids.contains(&lost), "{pids:?}");
    let shown = it.ok(&["describe", "app"]);
    let folder = it.groups.0.join(&first);
    assert!(shown.contains(folder.to_str().unwrap()), "{shown}");

    it.ok(&["restart", "app"]);
    assert!(!is_alive(lost), "{lost} of {first}");
    let lost = it.lost();
    let second = it.groups.only();
    assert_ne!(first, second);
    assert!(it.groups.pids(&second).contains(&lost));

    it.ok(&["stop", "app"]);
    assert!(!is_alive(lost), "{lost} of {second}");
    assert!(it.groups.names().is_empty(), "{:?}", it.groups.names());
}

#[test]
fn the_next_daemon_finds_the_group_again() {
    let Some(it) = fixture("adopted", |folder| vec![lost_app(folder)]) else {
        return;
    };
    let (root, lost) = (it.mcpm.list()["app"].pid, it.lost());
    let first = it.groups.only();
    it.mcpm.kill_daemon();
    // What an earlier daemon has left behind, without a process.
    let (home, _) = first.split_once('.').unwrap();
    fs::create_dir_all(it.groups.0.join(format!("{home}.77.1/inner"))).unwrap();
    it.ok(&["ls"]);
    assert_eq!(it.mcpm.list()["app"].pid, root);
    assert_eq!(it.groups.only(), first);

    let said = it.ok(&["update"]);
    assert!(said.contains("went on"), "{said}");
    assert_eq!(it.mcpm.list()["app"].pid, root);
    assert_eq!(it.groups.only(), first);

    // The root dies while no daemon lives: what it has left behind is in the next run's way.
    it.mcpm.kill_daemon();
    kill(root, "KILL");
    assert!(is_alive(lost));
    it.ok(&["ls"]);
    it.mcpm
        .wait_until(|list| list["app"].is_up() && list["app"].pid != root);
    assert!(!is_alive(lost));
    let lost = it.lost();
    assert_ne!(it.groups.only(), first);
    it.ok(&["delete", "app"]);
    assert!(!is_alive(lost));
    assert!(it.groups.names().is_empty(), "{:?}", it.groups.names());
}

#[test]
fn without_treekill_a_group_is_left_alone_until_it_is_empty() {
    let apps = |folder: &Path| {
        let app = lost_app(folder).with("/treekill", false);
        vec![app, sh("other", "exec sleep 1000")]
    };
    let Some(it) = fixture("left", apps) else {
        return;
    };
    let lost = it.lost();
    it.ok(&["delete", "app"]);
    assert!(is_alive(lost));
    assert_eq!(it.groups.names().len(), 2, "{:?}", it.groups.names());
    kill(lost, "KILL");
    it.ok(&["delete", "other"]);
    assert!(it.groups.names().is_empty(), "{:?}", it.groups.names());
}

#[test]
fn the_kernel_watches_a_memory_limit() {
    let Some(groups) = Groups::new("memory") else {
        return;
    };
    let offered = fs::read_to_string(groups.0.join("cgroup.controllers")).unwrap();
    drop(groups);
    if !offered.split_whitespace().any(|name| name == "memory") {
        eprintln!("skipped: cgroup v2 does not count memory here");
        return;
    }
    let hog = "while [ ! -e go ]; do sleep 0.05; done; \
         x=$(head -c 300000000 /dev/zero | tr '\\0' a); exec sleep 1000";
    let apps = |folder: &Path| {
        let app = sh("hog", hog).with("/cwd", folder.to_str().unwrap());
        vec![app.with("/max_memory_restart", "60M")]
    };
    let it = fixture("memory", apps).expect("it was possible a moment ago");
    let mark = it.groups.0.join(it.groups.only()).join("memory.high");
    let set = || {
        let text = fs::read_to_string(&mark).ok()?;
        Some(text.trim().to_owned()).filter(|text| text != "max")
    };
    let high = wait_for(set, "the mark where the kernel speaks");
    assert_eq!(high, (76 * 1024 * 1024).to_string());
    fs::write(it.mcpm.folder().join("go"), "").unwrap();
    it.mcpm.wait_until(|list| list["hog"].restarts > 0);
    let shown = it.ok(&["describe", "hog"]);
    assert!(
        shown.contains("`max_memory_restart` is 60.0 MiB"),
        "{shown}"
    );
}

#[test]
fn a_word_that_means_no_group_is_named_and_keeps_nothing_from_running() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("app", "exec sleep 1000")]);
    let mut command = mcpm.command(&["start", &file]);
    command.env("MCPM_CGROUP", "on");
    let ran = run(command, "");
    assert_eq!(ran.code, Some(0), "{ran}");
    let log = mcpm.daemon_log();
    assert!(log.contains("MCPM_CGROUP is `on`"), "{log}");
    assert!(mcpm.list()["app"].is_up());
}
