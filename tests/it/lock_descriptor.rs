//! Descriptor 198: what has lost its parents and cleared its environment ends with its app all the same.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::harness::{App, Mcpm, is_alive, kill, sh, wait_for};

/// Starts one that has no parent, no group, no session and no environment of its app, and says its pid.
const LOST: &str = "(env -i PATH=\"$PATH\" setsid sh -c 'echo $$ >lost; exec sleep 1004' &); \
     while [ ! -s lost ]; do sleep 0.05; done; exec sleep 1000";

/// The same, and it says that it is of an app of another home.
const STRANGER: &str = "(env -i PATH=\"$PATH\" MCPM_PROCESS=beef.0.1 setsid \
     sh -c 'echo $$ >lost; exec sleep 1004' &); \
     while [ ! -s lost ]; do sleep 0.05; done; exec sleep 1000";

/// Starts five that go from child to child all the time, with nothing of their app but what they have
/// open; a FIFO is among that, and each says there when it is under way. They give up by themselves some
/// time, in case nobody ends them.
const RUNNERS: &str = "mkfifo alive; for n in 1 2 3 4 5; do \
     (env -i PATH=\"$PATH\" setsid sh -c 'next() { [ $1 -gt 0 ] || exit; sleep 0.05; next $(($1 - 1)) & }; \
     next 2000; echo >&3' 3>alive &); done; exec sleep 1000";

struct Fixture {
    mcpm: Mcpm,
    folder: tempfile::TempDir,
}

fn fixture(script: &str, change: impl Fn(App) -> App) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let app = sh("app", script);
    let app = app.with("/cwd", folder.path().to_str().unwrap());
    let app = app.with("/kill_timeout", 500);
    let mcpm = Mcpm::start([change(app)]);
    Fixture { mcpm, folder }
}

impl Fixture {
    fn file(&self) -> PathBuf {
        self.folder.path().join("lost")
    }

    /// Its pid, once nothing but the descriptor tells whose it is.
    fn lost(&self) -> u32 {
        let said = || -> Option<u32> {
            let text = fs::read_to_string(self.file()).ok()?;
            text.trim().parse().ok()
        };
        let pid = wait_for(said, "its pid");
        let daemon = self.mcpm.daemon_pid();
        let is_lost = || (stat(pid)? == (daemon, pid)).then_some(());
        wait_for(is_lost, "the daemon to be its parent");
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environ = String::from_utf8_lossy(&environ).into_owned();
        assert!(!environ.contains("PM2_HOME"), "{environ}");
        pid
    }

    fn locks(&self) -> Vec<String> {
        let entries = fs::read_dir(self.mcpm.home().join("run")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".lock")).collect()
    }
}

/// Parent and session.
fn stat(pid: u32) -> Option<(u32, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<u32> = rest
        .split(' ')
        .skip(1)
        .take(3)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [parent, _, session]: [u32; 3] = fields.try_into().ok()?;
    Some((parent, session))
}

fn descriptor(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/fd/198")).ok()
}

#[test]
fn a_stop_ends_what_only_the_descriptor_tells_of() {
    let it = fixture(LOST, |app| app);
    let lost = it.lost();
    it.mcpm.ok(&["stop", "app"]);
    assert!(!is_alive(lost), "{lost}");
    assert!(it.locks().is_empty(), "{:?}", it.locks());
}

/// The FIFO of the runners, once all of them are under way.
fn runners(it: &Fixture) -> File {
    let path = it.folder.path().join("alive");
    let is_fifo = || fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_fifo());
    wait_for(|| is_fifo().then_some(()), "the FIFO");
    let mut fifo = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    let mut said = 0;
    let mut all_have = || {
        said += fifo.read(&mut [0; 16]).unwrap_or(0);
        (said == 5).then_some(())
    };
    wait_for(&mut all_have, "five runners");
    fifo
}

/// One of them has it open still.
fn is_held(fifo: &mut File) -> bool {
    let read = fifo.read(&mut [0; 16]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn what_goes_from_child_to_child_is_caught_by_a_stop() {
    let it = fixture(RUNNERS, |app| app);
    let mut alive = runners(&it);
    assert!(is_held(&mut alive));
    it.mcpm.ok(&["stop", "app"]);
    assert!(!is_held(&mut alive), "one has run away");
    assert!(it.locks().is_empty(), "{:?}", it.locks());
}

#[test]
fn the_next_daemon_ends_it_too() {
    let it = fixture(LOST, |app| app);
    let lost = it.lost();
    it.mcpm.kill_daemon();
    it.mcpm.ok(&["delete", "app"]);
    assert!(!is_alive(lost), "{lost}");
}

#[test]
fn what_a_run_left_that_died_without_a_daemon_is_ended_before_the_next() {
    let it = fixture(LOST, |app| app);
    let (first, root) = (it.lost(), it.mcpm.list()["app"].pid);
    it.mcpm.kill_daemon();
    fs::remove_file(it.file()).unwrap();
    kill(root, "KILL");
    assert!(is_alive(first));
    it.mcpm
        .wait_until(|list| list["app"].is_up() && list["app"].pid != root);
    assert!(!is_alive(first), "{first}");
    let second = it.lost();
    it.mcpm.ok(&["delete", "app"]);
    assert!(!is_alive(second), "{second}");
    assert!(it.locks().is_empty(), "{:?}", it.locks());
}

#[test]
fn without_treekill_it_is_left_alone() {
    let it = fixture(LOST, |app| app.with("/treekill", false));
    let lost = it.lost();
    it.mcpm.ok(&["delete", "app"]);
    let is_left = is_alive(lost);
    kill(lost, "KILL");
    assert!(is_left, "{lost}");
    assert!(it.locks().is_empty(), "{:?}", it.locks());
}

#[test]
fn what_says_that_it_is_of_another_home_is_named_and_left_alone() {
    let it = fixture(STRANGER, |app| app);
    let stranger = it.lost();
    it.mcpm.ok(&["stop", "app"]);
    let is_left = is_alive(stranger);
    kill(stranger, "KILL");
    assert!(is_left, "{stranger}");
    let log = it.mcpm.daemon_log();
    let is_named = |line: &str| {
        line.contains("left alone") && line.contains(&stranger.to_string()) && line.contains("beef")
    };
    assert!(log.lines().any(is_named), "{log}");
}

#[test]
fn each_run_has_a_lock_of_its_own_and_the_daemon_has_none() {
    let it = fixture("exec sleep 1000", |app| app);
    let run_dir = fs::canonicalize(it.mcpm.home()).unwrap().join("run");
    for generation in 1..=2 {
        let locks = it.locks();
        let [name] = locks.as_slice() else {
            panic!("{locks:?}");
        };
        assert!(name.ends_with(&format!(".0.{generation}.lock")), "{name}");
        let pid = it.mcpm.list()["app"].pid;
        assert_eq!(descriptor(pid), Some(run_dir.join(name)));
        if generation == 1 {
            it.mcpm.ok(&["restart", "app"]);
        }
    }
    let daemon = format!("/proc/{}/fd", it.mcpm.daemon_pid());
    let open = fs::read_dir(daemon).unwrap().flatten();
    let open: Vec<PathBuf> = open
        .filter_map(|link| fs::read_link(link.path()).ok())
        .filter(|file| file.starts_with(&run_dir))
        .collect();
    let has_lock = open
        .iter()
        .any(|file| file.extension().is_some_and(|ending| ending == "lock"));
    assert!(!has_lock, "{open:?}");
    it.mcpm.ok(&["delete", "app"]);
    assert!(it.locks().is_empty(), "{:?}", it.locks());
}

#[test]
fn what_closes_its_descriptors_is_none_the_worse() {
    let it = fixture("exec bash -c 'exec 198<&-; exec sleep 1000'", |app| app);
    let pid = it.mcpm.list()["app"].pid;
    wait_for(
        || descriptor(pid).is_none().then_some(()),
        "the descriptor to be closed",
    );
    it.mcpm.kill_daemon();
    let list = it.mcpm.wait_until(|list| list["app"].is_up());
    assert_eq!(list["app"].pid, pid);
    it.mcpm.ok(&["stop", "app"]);
    assert!(!is_alive(pid));
}
