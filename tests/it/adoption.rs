//! The daemon ends, by force or by order; its services live on, and the next one adopts them.

use std::collections::BTreeSet;
use std::process::Command;

use crate::harness::{
    App, List, Mcpm, Process, Running, demo, is_alive, kill, processes_of, service, sh, wait_for,
};

/// Each line in two halves, each when its file is there.
const HALVES: &str = "i=0; while :; do while [ ! -e begin$i ]; do sleep 0.02; done; \
                      printf 'half '; : > begun$i; \
                      while [ ! -e end$i ]; do sleep 0.02; done; echo line $i; i=$((i+1)); done";

/// In a namespace of pids of its own, whose first process this is: kills the daemon and the service,
/// lets a stranger have the service's number, and starts the next daemon. `$0` is the program, `$1`
/// the ecosystem file.
const REUSE: &str = r#"
set -e
echo begun
"$0" start "$1" >&2
echo - started
pid=$("$0" pid web)
echo - known
daemon=$(cat "$MCPM_HOME/mcpm.pid")
kill -KILL "$daemon" "$pid"
# This shell collects them, between two commands.
while [ -e "/proc/$pid" ] || [ -e "/proc/$daemon" ]; do sleep 0.02; done
echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid || { echo refused; exit 0; }
# Leader of a group of this number, as the service was.
setsid sleep 1000 &
[ $! = "$pid" ]
"$0" ping >&2
echo - answered
until new=$("$0" pid web) && [ "${new:-0}" != 0 ] && [ "$new" != "$pid" ]; do sleep 0.02; done
echo - restarted
"$0" jlist && echo
"$0" delete all >&2
echo - deleted
"$0" kill >&2
kill -0 "$pid"
echo the stranger lives
"#;

/// The same while an adopted service is being stopped: it ends, is collected and loses its number while
/// the daemon sleeps, which wakes up when it is time for SIGKILL.
const REUSE_AT_KILL: &str = r#"
set -e
echo begun
"$0" start "$1" >&2
echo - started
pid=$("$0" pid web)
echo - known
first=$(cat "$MCPM_HOME/mcpm.pid")
kill -KILL "$first"
while [ -e "/proc/$first" ]; do sleep 0.02; done
"$0" ping >&2
echo "- adopted"
daemon=$(cat "$MCPM_HOME/mcpm.pid")
"$0" stop web >&2 &
until "$0" jlist | grep -q '"stopping"'; do sleep 0.02; done
echo "- it is to end"
kill -STOP "$daemon"
kill -KILL "$pid"
while [ -e "/proc/$pid" ]; do sleep 0.02; done
echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid || { echo refused; kill -CONT "$daemon"; exit 0; }
setsid sleep 1000 &
[ $! = "$pid" ]
until [ "$(cut -d ' ' -f 6 "/proc/$pid/stat")" = "$pid" ]; do sleep 0.02; done
# The rest of the grace: nothing shows when a daemon that sleeps would have sent it.
sleep 4
kill -CONT "$daemon"
echo "- the daemon is awake"
until "$0" jlist | grep -q '"stopped"'; do sleep 0.02; done
"$0" jlist && echo
"$0" kill >&2
kill -0 "$pid"
echo the stranger lives
"#;

/// Says that it was told to end, and does not before it is let. Another run of it does not wait.
const SLOW: &str = "[ -e go ] && exec sleep 1000; trap 'echo told' INT; echo up; \
                    while [ ! -e go ]; do sleep 0.02; done";

const COUNT: &str = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.002; done";

#[test]
fn services_outlive_a_killed_daemon_and_the_next_one_adopts_them() {
    let mcpm = Mcpm::start([service("web"), demo("demo"), sh("plain", "exec sleep 1000")]);
    kill(mcpm.list()["web"].pid, "KILL");
    let before = mcpm.wait_until(|list| list["web"].restarts == 1 && list["web"].is_up());
    mcpm.kill_daemon();
    assert!(before.all().iter().all(|process| is_alive(process.pid)));
    // Without any daemon the services go on serving.
    let port = before["web"].raw["mcpm"]["port"].as_u64().unwrap();
    assert_eq!(
        mcpm.get(&format!("http://127.0.0.1:{port}/hello")).status,
        200
    );

    let after = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
    for (old, new) in before.all().iter().zip(after.all()) {
        assert_eq!(
            (&old.name, old.pid, old.restarts),
            (&new.name, new.pid, new.restarts)
        );
        let uptime = "/pm2_env/pm_uptime";
        assert_eq!(old.raw.pointer(uptime), new.raw.pointer(uptime));
    }
    let expected: BTreeSet<u32> = after
        .all()
        .iter()
        .map(|process| process.pid)
        .chain([mcpm.daemon_pid()])
        .collect();
    let found: BTreeSet<u32> = processes_of(&mcpm.home()).into_iter().collect();
    assert_eq!(found, expected, "no second copy");

    // Adopted ones are supervised like own ones.
    kill(after["web"].pid, "KILL");
    mcpm.wait_until(|list| list["web"].restarts == 2 && list["web"].is_up());
    kill(after["plain"].pid, "TERM");
    mcpm.wait_until(|list| list["plain"].restarts == 1 && list["plain"].is_up());
    mcpm.ok(&["stop", "all"]);
    wait_for(
        || (processes_of(&mcpm.home()) == [mcpm.daemon_pid()]).then_some(()),
        "the end of all services",
    );
}

#[test]
fn no_line_of_a_service_that_lives_on_is_lost_or_doubled_or_cut() {
    let mcpm = Mcpm::start([sh("counter", COUNT), sh("halves", HALVES)]);
    wait_for(
        || (mcpm.log("counter-out.log").len() > 500).then_some(()),
        "some lines",
    );
    let mut halves = String::new();
    for round in 0..3 {
        mcpm.write(&format!("begin{round}"), "");
        let begun = mcpm.folder().join(format!("begun{round}"));
        wait_for(|| begun.exists().then_some(()), "the beginning of a line");
        mcpm.kill_daemon();
        mcpm.write(&format!("end{round}"), "");
        mcpm.ok(&["ping"]);
        let size = mcpm.log("counter-out.log").len();
        let more = || mcpm.log("counter-out.log").len() > size + 500;
        wait_for(|| more().then_some(()), "more lines under the next daemon");
        halves += &format!("half line {round}\n");
        let is_whole = || mcpm.log("halves-out.log") == halves.as_bytes();
        wait_for(|| is_whole().then_some(()), "one whole line");
    }
    let log = mcpm.log("counter-out.log");
    let text = String::from_utf8_lossy(&log);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let expected = format!("line {number}\n");
        assert!(
            expected == line || !line.ends_with('\n'),
            "{line:?} instead of {expected:?}"
        );
    }
}

#[test]
fn what_died_or_was_stopped_meanwhile_is_as_it_should_be() {
    let mcpm = Mcpm::start([
        sh("dies", "exec sleep 1000"),
        sh("stopped", "exec sleep 1000"),
        sh("lives", "exec sleep 1000"),
    ]);
    mcpm.ok(&["stop", "stopped"]);
    let before = mcpm.list();
    mcpm.kill_daemon();
    kill(before["dies"].pid, "KILL");
    let after = mcpm.wait_until(|list| list["dies"].restarts == 1 && list["dies"].is_up());
    assert_ne!(after["dies"].pid, before["dies"].pid);
    assert_eq!(after["stopped"].status, "stopped");
    assert_eq!(after["lives"].pid, before["lives"].pid);
    let shown = mcpm.ok(&["describe", "dies"]);
    // Nobody can know, unless it was still a zombie when the next daemon came.
    let known = shown.contains("SIGKILL") || shown.contains("unknown");
    assert!(known && shown.contains("last exit"), "{shown}");
}

#[test]
fn what_was_asked_of_a_slow_app_is_done_under_the_next_daemon() {
    let slow = |name| sh(name, SLOW).with("/kill_timeout", "1h");
    let mcpm = Mcpm::start([slow("again"), slow("gone"), slow("rests")]);
    let said = |name: &str, word: &str| {
        let log = mcpm.log(&format!("{name}-out.log"));
        let said = String::from_utf8_lossy(&log)
            .lines()
            .any(|line| line == word);
        said.then_some(())
    };
    let names = ["again", "gone", "rests"];
    for name in names {
        wait_for(|| said(name, "up"), "its trap");
    }
    let before = mcpm.list();
    let orders: [&[&str]; 3] = [
        &["restart", "again", "--name", "renewed"],
        &["delete", "gone"],
        &["stop", "rests"],
    ];
    let mut orders = orders.map(|order| mcpm.spawn(order));
    for name in names {
        wait_for(|| said(name, "told"), "its signal");
    }
    mcpm.wait_until(|list| {
        list.all()
            .iter()
            .all(|process| process.status == "stopping")
    });
    for _ in 0..2 {
        mcpm.kill_daemon();
        for order in &mut orders {
            let _ = order.code();
        }
        let list = mcpm.list();
        for name in names {
            let (now, then) = (&list[name], &before[name]);
            assert_eq!(
                (now.status.as_str(), now.pid),
                ("stopping", then.pid),
                "{name}"
            );
        }
    }
    mcpm.write("go", "");
    let list = mcpm.wait_until(|list| {
        let is_renewed = |process: &Process| process.is_up() && process.restarts == 1;
        list.get("renewed").is_some_and(is_renewed)
            && list.get("gone").is_none()
            && list["rests"].status == "stopped"
    });
    assert_eq!(list.all().len(), 2);
    assert_ne!(list["renewed"].pid, before["again"].pid);
    let told = mcpm.ok(&["why", "rests"]);
    assert!(told.contains("asked by `stop`"), "{told}");
}

#[test]
fn an_end_that_nobody_saw_is_told_with_who_wanted_it() {
    let mcpm = Mcpm::start([sh("rests", SLOW).with("/kill_timeout", "1h")]);
    let up = || (mcpm.log("rests-out.log") == b"up\n").then_some(());
    wait_for(up, "its trap");
    let mut stop = mcpm.spawn(&["stop", "rests"]);
    let list = mcpm.wait_until(|list| list["rests"].status == "stopping");
    let told = || (mcpm.log("rests-out.log") == b"up\ntold\n").then_some(());
    wait_for(told, "its signal");
    mcpm.kill_daemon();
    let _ = stop.code();
    mcpm.write("go", "");
    let pid = list["rests"].pid;
    wait_for(|| (!is_alive(pid)).then_some(()), "its end");
    mcpm.wait_until(|list| list["rests"].status == "stopped");
    let why = mcpm.ok(&["why", "rests"]);
    assert!(why.contains("asked by `stop`"), "{why}");
    assert!(why.contains("stopped, as asked"), "{why}");
}

#[test]
fn kill_keep_ends_the_daemon_only() {
    let mcpm = Mcpm::start([demo("demo"), sh("counter", COUNT)]);
    let (daemon, before) = (mcpm.daemon_pid(), mcpm.list());
    let said = mcpm.ok(&["kill", "--keep"]);
    assert!(said.contains("processes go on"), "{said}");
    assert!(!is_alive(daemon));
    assert!(before.all().iter().all(|process| is_alive(process.pid)));
    let after = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
    assert_eq!(before["demo"].pid, after["demo"].pid);
    assert_eq!(before["counter"].pid, after["counter"].pid);
}

#[test]
fn a_terminated_daemon_saves_its_list_and_stops_everything() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let (daemon, app) = (mcpm.daemon_pid(), mcpm.list()["web"].pid);
    kill(daemon, "TERM");
    wait_for(|| (!is_alive(daemon)).then_some(()), "the daemon's end");
    assert!(!is_alive(app));
    assert!(mcpm.list().all().is_empty());
    mcpm.ok(&["resurrect"]);
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn a_crash_loop_goes_on_where_it_was() {
    let mcpm = Mcpm::new();
    let app = sh("looping", "exit 1").with("/max_restarts", 3);
    let file = mcpm.ecosystem([app]);
    mcpm.run(&["start", &file]);
    mcpm.wait_until(|list| list["looping"].status == "errored");
    mcpm.kill_daemon();
    let list = mcpm.list();
    assert_eq!(
        (list["looping"].status.as_str(), list["looping"].restarts),
        ("errored", 2)
    );
    assert!(
        mcpm.ok(&["describe", "looping"])
            .contains("3 unstable exits")
    );
}

#[test]
fn what_a_dead_service_left_behind_is_ended_before_it_is_started_again() {
    // The child keeps what its parent had, such as a port.
    let mcpm = Mcpm::start([sh("parent", "sleep 1000 & echo $!; wait")]);
    let log = || String::from_utf8_lossy(&mcpm.log("parent-out.log")).into_owned();
    wait_for(|| log().ends_with('\n').then_some(()), "the child's pid");
    let child: u32 = log().trim().parse().unwrap();
    let parent = mcpm.list()["parent"].pid;
    mcpm.kill_daemon();
    kill(parent, "KILL");
    let reaped = || !std::path::Path::new(&format!("/proc/{parent}")).exists();
    wait_for(|| reaped().then_some(()), "init to reap it");
    assert!(is_alive(child));
    mcpm.wait_until(|list| list["parent"].restarts == 1 && list["parent"].is_up());
    assert!(!is_alive(child));
}

#[test]
fn whenever_the_daemon_dies_there_is_one_copy_of_each_process() {
    let apps = ["a", "b", "c", "d"];
    let mcpm = Mcpm::start(apps.map(|name| sh(name, "exec sleep 1000")));
    for _ in 0..8 {
        // It dies somewhere in the middle of ending and starting four processes.
        let restarts: Vec<_> = (0..4).map(|_| mcpm.spawn(&["restart", "all"])).collect();
        let before = mcpm.list();
        mcpm.kill_daemon();
        for mut restart in restarts {
            // One may come late and start the next daemon; all end.
            let _ = restart.code();
        }
        let list = mcpm.wait_until(|list| {
            list.all().len() == apps.len()
                && list
                    .all()
                    .iter()
                    .all(|process| process.status == "online" && is_alive(process.pid))
        });
        let wanted: BTreeSet<u32> = list
            .all()
            .iter()
            .map(|process| process.pid)
            .chain([mcpm.daemon_pid()])
            .collect();
        let only_these = || {
            processes_of(&mcpm.home())
                .into_iter()
                .collect::<BTreeSet<_>>()
                == wanted
        };
        wait_for(
            || only_these().then_some(()),
            &format!("no others than {wanted:?}; before it was {before:?}"),
        );
    }
}

/// Runs the script in a namespace of pids; the list that it has shown, or `None` when this machine
/// does not let anyone choose pids.
#[track_caller]
fn with_chosen_pids(script: &str, app: App) -> Option<List> {
    if Command::new("unshare").arg("--version").output().is_err() {
        eprintln!("skipped: `unshare` (util-linux) is not here");
        return None;
    }
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([app]);
    let base = mcpm.command(&[]);
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--pid", "--fork", "--mount-proc", "/bin/sh", "-c", script])
        .args([base.get_program(), file.as_ref()])
        .current_dir(mcpm.folder())
        .env_clear()
        .envs(
            base.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    // Each step has the time of a command.
    let script = Running::start(command);
    let lines = std::iter::from_fn(|| script.next_line());
    let said: Vec<String> = lines.filter(|line| !line.starts_with('-')).collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    match said[..] {
        [] | ["begun", "refused"] => {
            eprintln!(
                "skipped: nobody may choose pids here: {}",
                script.complaints()
            );
            None
        }
        ["begun", list, "the stranger lives"] => Some(List::parse(list)),
        _ => panic!("{said:#?} {}", script.complaints()),
    }
}

#[test]
fn a_stranger_who_has_the_number_of_a_dead_service_is_never_signalled() {
    if let Some(list) = with_chosen_pids(REUSE, sh("web", "exec sleep 1000")) {
        assert_eq!(list["web"].restarts, 1);
    }
}

#[test]
fn a_stranger_who_has_got_the_number_during_a_stop_is_not_killed() {
    let app = sh("web", "trap '' INT; exec sleep 1000").with("/kill_timeout", 4000);
    if let Some(list) = with_chosen_pids(REUSE_AT_KILL, app) {
        assert_eq!(list["web"].status, "stopped");
    }
}

#[test]
fn what_runs_and_no_list_names_is_not_started_beside_itself() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("web", "exec sleep 1000"), sh("other", "exec sleep 1000")]);
    mcpm.ok(&["start", &file, "--only", "web"]);
    let lost = mcpm.list()["web"].pid;
    mcpm.kill_daemon();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(mcpm.home().join(format!("run.db{suffix}"))).unwrap();
    }
    let complaint = mcpm.fails(&["start", &file]);
    let named = format!("no list names (pid {lost})");
    assert!(complaint.contains(&named), "{complaint}");
    let list = mcpm.list();
    assert!(list["other"].is_up());
    assert_eq!(
        (list["web"].pid, list["web"].status.as_str()),
        (0, "waiting restart")
    );
    assert!(is_alive(lost), "nobody has ended it");
    kill(lost, "KILL");
    mcpm.wait_until(|list| list["web"].is_up());
}

#[test]
fn what_a_process_says_is_heard_though_its_pipes_are_removed() {
    let say = "i=0; while :; do while [ ! -e say$i ]; do sleep 0.02; done; echo line $i; i=$((i+1)); done";
    let mcpm = Mcpm::start([sh("web", say)]);
    let pid = mcpm.list()["web"].pid;
    let mut said = String::new();
    let hears = |said: &str, what: &str| {
        let is_there = || mcpm.log("web-out.log") == said.as_bytes();
        wait_for(|| is_there().then_some(()), what);
    };
    let remove = || {
        for end in ["in", "out", "err"] {
            std::fs::remove_file(mcpm.home().join(format!("run/0.{end}"))).unwrap();
        }
    };
    remove();
    for round in 0..3 {
        mcpm.write(&format!("say{round}"), "");
        said += &format!("line {round}\n");
        hears(&said, &format!("line {round}"));
        mcpm.kill_daemon();
        assert_eq!(mcpm.list()["web"].pid, pid);
    }
    assert!(mcpm.daemon_log().contains("its pipes were removed"));
    // A new run has new ones, and so it is when they are removed under the daemon that reads them.
    for _ in 0..2 {
        mcpm.ok(&["restart", "web"]);
        said += "line 0\nline 1\nline 2\n";
        hears(&said, "the lines of the next run");
        remove();
    }
}
