//! Apps and machines that do not behave: whatever happens to one of them happens to it alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{Mcpm, Running, is_alive, kill, processes_of, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";
/// See `supervisor/run_lock.rs`.
const LOCK_NUMBER: u64 = 198;

/// The only line of a log, once it is there.
#[track_caller]
fn line_of(mcpm: &Mcpm, log: &str) -> String {
    let line = || {
        let text = String::from_utf8(mcpm.log(log)).ok()?;
        text.ends_with('\n').then_some(text)
    };
    wait_for(line, "its line").trim().to_owned()
}

#[test]
fn a_program_that_forks_and_ends_is_errored_and_leaves_no_copies() {
    let script = "sleep 1000 </dev/null >/dev/null 2>&1 & exit 0";
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("daemon", script).with("/max_restarts", 4)]);
    // What `start` says of one that ends at once is shown elsewhere; here it may be slow to end.
    mcpm.run(&["start", &file]);
    mcpm.wait_until(|list| list["daemon"].status == "errored");
    let told = mcpm.ok(&["why", "daemon"]);
    assert!(
        told.contains("; children that it left behind were ended"),
        "{told}"
    );
    let daemon = mcpm.daemon_pid();
    let left = || {
        let mut left = processes_of(&mcpm.home());
        left.retain(|&pid| pid != daemon && is_alive(pid));
        left.len()
    };
    wait_for(|| (left() <= 1).then_some(()), "the copies to be ended");
    mcpm.ok(&["delete", "daemon"]);
    wait_for(|| (left() == 0).then_some(()), "the last copy to be ended");
}

#[test]
fn a_folder_that_vanished_is_named_and_the_rest_runs() {
    let mcpm = Mcpm::new();
    let folder = mcpm.folder().join("rooms/one");
    fs::create_dir_all(&folder).unwrap();
    let file = mcpm.ecosystem([
        sh("guest", SLEEP).with("/cwd", folder.to_str().unwrap()),
        sh("other", SLEEP),
    ]);
    mcpm.ok(&["start", &file]);
    fs::remove_dir_all(&folder).unwrap();
    assert!(mcpm.list()["guest"].is_up(), "it keeps what it has");
    let other = mcpm.list()["other"].pid;
    let complaint = mcpm.fails(&["restart", "guest"]);
    assert!(
        complaint.contains("guest (0)") && complaint.contains("rooms/one"),
        "{complaint}"
    );
    let list = mcpm.wait_until(|list| list["guest"].status == "errored");
    assert_eq!((list["other"].pid, list["other"].restarts), (other, 0));
    let shown = mcpm.ok(&["describe", "guest"]);
    assert!(shown.contains("rooms/one"), "{shown}");
    fs::create_dir_all(&folder).unwrap();
    mcpm.ok(&["restart", "guest"]);
    mcpm.wait_until(|list| list["guest"].is_up());
}

/// The numbers of a process's descriptors that mean something that is called so.
fn descriptors(pid: u32, kind: &str) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let number = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let is_meant = target.to_str()?.starts_with(kind);
        let number = entry.file_name().to_str()?.parse().ok()?;
        is_meant.then_some(number)
    };
    entries.filter_map(|entry| number(entry.unwrap())).collect()
}

/// Lets a daemon have no descriptor beyond those that it has, and takes the free numbers among them by
/// connections to its router. Returns those, and how many it could have before.
fn use_up_descriptors(mcpm: &Mcpm, daemon: u32) -> (Vec<TcpStream>, Option<u64>) {
    // The number that services know the daemon's lock by is taken from the start.
    let used = descriptors(daemon, "");
    let most = used.range(..LOCK_NUMBER).max().unwrap() + 1;
    let before = limit_descriptors(daemon, Some(most));
    let sockets = || descriptors(daemon, "socket:").len();
    let mut connections = Vec::new();
    loop {
        if descriptors(daemon, "").range(..most).count() as u64 == most {
            return (connections, before);
        }
        let now = sockets();
        let router = mcpm.origin().replace("http://", "");
        connections.push(TcpStream::connect(router).unwrap());
        wait_for(|| (sockets() > now).then_some(()), "the router to accept");
    }
}

/// Waits until the memory of an app is watched: what the daemon opens for that stays open, and would
/// take the place of a command later.
fn wait_until_watched(daemon: u32, app: u32) {
    let watched = PathBuf::from(format!("/proc/{app}/statm"));
    let is_open = |number: u64| {
        let file = fs::read_link(format!("/proc/{daemon}/fd/{number}"));
        file.is_ok_and(|file| file == watched)
    };
    let opened = || (0..100).any(is_open).then_some(());
    wait_for(opened, "the app's memory to be watched");
}

/// Lets a process that runs have so many descriptors, and says how many it could have before.
fn limit_descriptors(pid: u32, most: Option<u64>) -> Option<u64> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
    let files = rustix::process::Resource::Nofile;
    let now = Rlimit {
        current: most,
        maximum: rustix::process::getrlimit(files).maximum,
    };
    rustix::process::prlimit(pid, files, now).unwrap().current
}

#[test]
fn a_daemon_without_descriptors_answers_and_starts_what_it_could_not_when_it_can() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("web", SLEEP).with("/max_restarts", 2)]);
    mcpm.ok(&["start", &file]);
    let daemon = mcpm.daemon_pid();
    wait_until_watched(daemon, mcpm.list()["web"].pid);
    let (connections, before) = use_up_descriptors(&mcpm, daemon);
    let complaint = mcpm.fails(&["restart", "web"]);
    assert!(complaint.contains("Too many open files"), "{complaint}");
    let failed = || {
        let shown = mcpm.ok(&["describe", "web"]);
        let (_, number) = shown.split_once("; failed tries: ")?;
        let number = number.split(|next: char| !next.is_ascii_digit()).next()?;
        let number: u32 = number.parse().ok()?;
        (number > 3).then_some(())
    };
    wait_for(failed, "more tries than `max_restarts` lets an app fall");
    mcpm.wait_until(|list| list["web"].status == "waiting restart");
    let said = || {
        mcpm.run(&["ls"])
            .stderr
            .contains("web (0) waits: cannot start it just now")
    };
    wait_for(|| said().then_some(()), "`ls` to say why it waits");
    limit_descriptors(daemon, before);
    drop(connections);
    let list = mcpm.wait_until(|list| list["web"].is_up());
    assert_eq!(list["web"].restarts, 1);
    let log = mcpm.daemon_log();
    let told = log
        .lines()
        .filter(|line| line.contains("cannot start it just now"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(log.contains("started at last"), "{log}");
}

#[test]
fn a_shell_whose_folder_vanished_is_told_so() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    let gone = mcpm.folder().join("gone");
    fs::create_dir(&gone).unwrap();
    let line = "rmdir \"$PWD\"; \"$0\" start ./app.js; echo \"code $?\"; \"$0\" ls";
    let mut shell = std::process::Command::new("/bin/sh");
    let program = mcpm.command(&[]);
    shell
        .args(["-c", line])
        .arg(program.get_program())
        .env_clear();
    shell.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = shell.current_dir(&gone).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        out.contains("code 1") && err.contains("folder"),
        "{out}{err}"
    );
    assert!(out.contains("web"), "a list needs no folder: {out}{err}");
}

#[test]
fn a_line_of_a_megabyte_arrives_whole_and_holds_up_nobody() {
    let long = "head -c 1000000 /dev/zero | tr '\\0' x; echo end; exec sleep 1000";
    let mcpm = Mcpm::start([sh("long", long), sh("short", "echo short; exec sleep 1000")]);
    let log = wait_for(
        || Some(mcpm.log("long-out.log")).filter(|log| log.ends_with(b"end\n")),
        "its end",
    );
    assert_eq!(log.len(), 1_000_004);
    assert!(log[..1_000_000].iter().all(|&byte| byte == b'x'));
    assert_eq!(line_of(&mcpm, "short-out.log"), "short");
    let shown = mcpm.ok(&["logs", "short", "--nostream", "--raw"]);
    assert_eq!(shown, "short\n");
    let shown = mcpm.ok(&["logs", "long", "--nostream", "--raw", "--lines", "1"]);
    assert!(shown.ends_with("end\n"), "{} bytes", shown.len());
}

#[test]
fn logs_that_cannot_be_written_are_named_and_the_app_runs() {
    let mcpm = Mcpm::new();
    let file = mcpm.write("no-folder", "a file\n");
    let app = sh("web", "echo one; echo two >&2; exec sleep 1000")
        .with("/out_file", format!("{file}/out.log"))
        .with("/error_file", format!("{file}/deep/err.log"));
    let file = mcpm.ecosystem([app, sh("fine", "echo fine; exec sleep 1000")]);
    mcpm.run(&["start", &file]);
    mcpm.wait_until(|list| list["web"].is_up() && list["fine"].is_up());
    assert_eq!(line_of(&mcpm, "fine-out.log"), "fine");
    let told = || {
        mcpm.daemon_log()
            .contains("no-folder/out.log")
            .then_some(())
    };
    wait_for(told, "a word about it in the daemon's log");
    mcpm.ok(&["restart", "web"]);
    mcpm.wait_until(|list| list["web"].is_up());
}

/// Lets no file of the daemon get longer, as a full disk would; `None` is no limit.
#[track_caller]
fn limit_files(mcpm: &Mcpm, bytes: Option<u64>) {
    let pid = i32::try_from(mcpm.daemon_pid()).ok();
    let pid = pid.and_then(Pid::from_raw).expect("a pid");
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_full_disk_takes_whole_lines_or_none_and_those_that_are_lost_are_counted() {
    // So long that no other file of the daemon gets there.
    const BEGIN: u64 = 16 * 1024 * 1024;
    let limit = rustix::process::getrlimit(Resource::Fsize);
    if limit.maximum.is_some() {
        eprintln!("skipped: the length of files is limited here");
        return;
    }
    let mcpm = Mcpm::new();
    let log = mcpm.folder().join("web.log");
    let mut file = fs::File::create(&log).unwrap();
    file.seek(SeekFrom::Start(BEGIN - 1)).unwrap();
    file.write_all(b"\n").unwrap();
    let added = || {
        let mut file = fs::File::open(&log).unwrap();
        file.seek(SeekFrom::Start(BEGIN)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    // A program that ignores the signal gets an error in its place.
    let program = mcpm.command(&["daemon"]);
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$0\" daemon"])
        .arg(program.get_program())
        .current_dir(mcpm.folder())
        .env_clear();
    shell.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let _daemon = Running::start(shell);
    let pid = mcpm.home().join("mcpm.pid");
    wait_for(|| pid.exists().then_some(()), "the daemon");
    let script = "while [ ! -e go ]; do sleep 0.02; done; \
        i=0; while [ $i -lt 40 ]; do echo line $i is long; i=$((i+1)); done; \
        while [ ! -e room ]; do sleep 0.02; done; echo after; exec sleep 1000";
    let app = sh("web", script)
        .with("/out_file", log.to_str().unwrap())
        .with("/log_rotate", false);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file]);
    // Six lines of 15 bytes, and the beginning of another one.
    limit_files(&mcpm, Some(BEGIN + 100));
    mcpm.write("go", "");
    let told = || {
        let told = mcpm.run(&["ls"]).stderr;
        told.contains("web: 34 log lines could not be written to")
            .then_some(())
    };
    wait_for(told, "the lines that were lost");
    limit_files(&mcpm, None);
    mcpm.write("room", "");
    wait_for(
        || added().ends_with("after\n").then_some(()),
        "what follows",
    );
    let mut expected: Vec<String> = (0..6).map(|i| format!("line {i} is long")).collect();
    expected.push("after".to_owned());
    assert_eq!(added().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_watched_folder_of_a_hundred_thousand_files_restarts_once_for_one_change() {
    const FOLDERS: usize = 100;
    const FILES: usize = 1_000;
    let mcpm = Mcpm::new();
    let top = mcpm.folder().join("much");
    let one = mcpm.write("one", "");
    for folder in 0..FOLDERS {
        let folder = top.join(folder.to_string());
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES {
            // Links take no time and no space; file systems allow many thousands to one file.
            let path = folder.join(file.to_string());
            if fs::hard_link(&one, &path).is_err() {
                symlink(&one, &path).unwrap();
            }
        }
    }
    let app = sh("web", SLEEP)
        .with("/cwd", top.to_str().unwrap())
        .with("/watch", true);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file]);
    let path = top.join("57/new.js");
    // Until the folders are watched a change is nobody's business.
    let restarted = || {
        fs::write(&path, "changed").unwrap();
        (mcpm.list()["web"].restarts > 0).then_some(())
    };
    wait_for(restarted, "a restart");
    mcpm.wait_until(|list| list["web"].is_up());
    assert!(mcpm.ok(&["describe", "web"]).contains("57/new.js"));
}

#[test]
fn names_may_be_anything_that_can_be_typed() {
    let names = [
        "two words",
        "päckchen 📦",
        "a/b/../c",
        "-x",
        "$HOME",
        "a'b\"c",
        "7",
        "..",
        "all/",
    ];
    let apps = names.map(|name| sh(name, "echo \"$name\"; exec sleep 1000"));
    let mcpm = Mcpm::start(apps);
    for name in names {
        let list = mcpm.list();
        let log = list[name].raw["pm2_env"]["pm_out_log_path"]
            .as_str()
            .unwrap()
            .to_owned();
        let logs = mcpm.home().join("logs");
        assert_eq!(
            Path::new(&log).parent(),
            Some(logs.as_path()),
            "{name} stays in its folder"
        );
        let said = || {
            fs::read_to_string(&log)
                .ok()
                .filter(|text| text.ends_with('\n'))
        };
        let text = wait_for(said, "its name");
        assert!(text.lines().any(|line| line == name), "{name}: {text}");
        let before = list[name].pid;
        // After `--` come the arguments of the app, as in PM2: a name like an option is no target.
        let id = list[name].id.to_string();
        let target = if name.starts_with('-') {
            id.as_str()
        } else {
            name
        };
        mcpm.ok(&["restart", target]);
        let list = mcpm.wait_until(|list| list[name].is_up() && list[name].pid != before);
        assert_eq!(list[name].restarts, 1);
        assert!(mcpm.ok(&["describe", "--", name]).contains(name));
        mcpm.ok(&["logs", "--nostream", "--", name]);
    }
    let table = mcpm.ok(&["ls"]);
    for name in names {
        assert!(table.contains(name), "{name} is not in\n{table}");
    }
    mcpm.ok(&["save"]);
    mcpm.ok(&["delete", "all"]);
    mcpm.ok(&["resurrect"]);
    mcpm.wait_until(|list| {
        names
            .iter()
            .all(|name| list.get(name).is_some_and(|p| p.is_up()))
    });
}

#[test]
fn a_delete_during_a_restart_is_the_last_word() {
    // It takes its time to end, so that the delete comes in the middle.
    let script = "trap 'sleep 2; exit 0' INT; echo $$; while :; do sleep 0.02; done";
    let web = sh("web", script).with("/kill_timeout", 20_000);
    let mcpm = Mcpm::start([web, sh("other", SLEEP)]);
    let pid: u32 = line_of(&mcpm, "web-out.log").parse().unwrap();
    let mut restart = mcpm.spawn(&["restart", "web"]);
    mcpm.wait_until(|list| list.get("web").is_none_or(|web| web.status == "stopping"));
    mcpm.ok(&["delete", "web"]);
    assert_eq!(restart.code(), Some(1), "what was deleted is not restarted");
    let list = mcpm.list();
    assert!(list.get("web").is_none() && list["other"].is_up());
    assert!(!is_alive(pid));
    let daemon = mcpm.daemon_pid();
    let left: Vec<u32> = processes_of(&mcpm.home());
    let wanted = BTreeSet::from([daemon, list["other"].pid]);
    assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn fifty_commands_at_once_all_get_their_answer() {
    let names = ["a", "b", "c", "d", "e"];
    let mcpm = Mcpm::start(names.map(|name| sh(name, SLEEP)));
    let line = |n: usize| -> Vec<&str> {
        let name = names[n / 5 % 5];
        match n % 5 {
            0 => vec!["restart", name],
            1 => vec!["jlist"],
            2 => vec!["describe", name],
            3 => vec!["logs", name, "--nostream"],
            _ => vec!["ls"],
        }
    };
    let children: Vec<_> = (0..50)
        .map(|n| {
            let mut command = mcpm.command(&line(n));
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        // Two restarts of one process at once may find that the other was first.
        assert!(
            output.status.success() || n % 5 == 0,
            "{:?}: {told}",
            line(n)
        );
    }
    let list = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
    assert_eq!(list.all().len(), names.len());
    assert!(
        list.all().iter().all(|process| process.restarts >= 1),
        "{list:#?}"
    );
    let pids: BTreeSet<u32> = list
        .all()
        .iter()
        .map(|p| p.pid)
        .chain([mcpm.daemon_pid()])
        .collect();
    let only_these = || {
        processes_of(&mcpm.home())
            .into_iter()
            .collect::<BTreeSet<_>>()
            == pids
    };
    wait_for(|| only_these().then_some(()), "one copy of each");
}

#[test]
fn an_interpreter_that_vanishes_ends_it_errored_with_its_name() {
    let mcpm = Mcpm::new();
    let shell = mcpm.folder().join("mysh");
    fs::copy("/bin/sh", &shell).unwrap();
    let script = mcpm.write("work.sh", "exec sleep 1000\n");
    let app = sh("work", "")
        .with("/script", script)
        .with("/args", serde_json::json!([]))
        .with("/interpreter", shell.to_str().unwrap());
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file]);
    fs::remove_file(&shell).unwrap();
    kill(mcpm.list()["work"].pid, "KILL");
    mcpm.wait_until(|list| list["work"].status == "errored");
    let shown = mcpm.ok(&["describe", "work"]);
    assert!(shown.contains("mysh"), "{shown}");
}
