//! `reload`: the new run first, then the end of the old one; in place where there is a port.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::harness::{
    App, Mcpm, Running, is_alive, kill, processes_of, reserve, server, sh, wait_for,
};

/// Says that it is ready once `go` is there, unless `fall` is; counts until it is told to end.
const SCRIPT: &str = r#"
trap 'echo "end $$"; exit 0' INT
[ -e fall ] && { echo 'it fell' >&2; exit 3; }
echo "begin $$ $COLOUR"
while [ ! -e go ]; do sleep 0.01; done
printf '"ready"\n' >&"$NODE_CHANNEL_FD"
n=0
while :; do echo "$$ $n"; n=$((n+1)); sleep 0.01; done
"#;

/// An app of which a new run can be kept waiting, in the home's folder.
fn patient(mcpm: &Mcpm, name: &str) -> App {
    sh(name, SCRIPT)
        .with("/script", "bash")
        .with("/cwd", mcpm.folder().to_str().unwrap())
        .with("/wait_ready", true)
        .with("/listen_timeout", "1h")
}

/// One that is online.
fn online(apps: impl FnOnce(&Mcpm) -> Vec<App>) -> Mcpm {
    let mcpm = Mcpm::new();
    mcpm.write("go", "");
    let file = mcpm.ecosystem(apps(&mcpm));
    mcpm.ok(&["start", &file]);
    std::fs::remove_file(mcpm.folder().join("go")).unwrap();
    mcpm
}

/// What `describe` shows in this row.
fn row(mcpm: &Mcpm, target: &str, name: &str) -> Option<String> {
    let shown = mcpm.ok(&["describe", target]);
    let line = shown
        .lines()
        .find(|line| line.contains(&format!("│ {name} ")))?;
    line.split('│').nth(2).map(|value| value.trim().to_owned())
}

/// Begins a reload and waits until the new run is there, which is not ready yet.
fn begun(mcpm: &Mcpm, target: &str) -> (Running, u32) {
    let reload = mcpm.spawn(&["reload", target]);
    let pid = wait_for(|| row(mcpm, target, "successor pid"), "the new run");
    (reload, pid.parse().unwrap())
}

fn gone(pid: u32) {
    wait_for(|| (!is_alive(pid)).then_some(()), "the end of a run");
}

#[test]
fn the_old_run_goes_on_until_the_new_one_is_ready() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web")]);
    let before = mcpm.list()["web"].pid;
    let (mut reload, next) = begun(&mcpm, "web");
    let list = mcpm.list();
    assert_eq!((list.all().len(), list["web"].pid), (1, before), "one row");
    assert!(list["web"].is_up() && is_alive(before) && is_alive(next));
    mcpm.write("go", "");
    assert_eq!(reload.code(), Some(0), "{}", reload.complaints());
    let list = mcpm.list();
    assert_eq!((list["web"].pid, list["web"].restarts), (next, 1));
    assert!(list["web"].is_up() && !is_alive(before));
    assert_eq!(row(&mcpm, "web", "successor pid"), None);
    let pid_file = mcpm.home().join("pids/web-0.pid");
    wait_for(
        || (std::fs::read_to_string(&pid_file).ok()? == next.to_string()).then_some(()),
        "the new run's pid file",
    );
    // It is supervised like any other.
    kill(next, "KILL");
    mcpm.wait_until(|list| list["web"].restarts == 2 && list["web"].is_up());
}

#[test]
fn no_line_of_either_run_is_lost() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web")]);
    mcpm.write("go", "");
    mcpm.ok(&["reload", "web"]);
    let pid = mcpm.list()["web"].pid;
    let log = || String::from_utf8_lossy(&mcpm.log("web-out.log")).into_owned();
    wait_for(
        || log().contains(&format!("\n{pid} 20\n")).then_some(()),
        "lines of the new run",
    );
    let text = log();
    let first = text.lines().next().unwrap().split(' ').nth(1).unwrap();
    assert!(
        text.contains(&format!("\nend {first}\n")),
        "it was asked to end: {text}"
    );
    for run in [first, &pid.to_string()] {
        let prefix = format!("{run} ");
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let numbers: Vec<usize> = lines
            .filter_map(|line| line.strip_prefix(&prefix)?.trim().parse().ok())
            .collect();
        let whole: Vec<usize> = (0..numbers.len()).collect();
        assert!(numbers == whole && numbers.len() > 1, "of {run}: {text}");
    }
}

#[test]
fn a_new_run_that_falls_leaves_the_old_one_and_the_other_replicas_as_they_are() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web").with("/instances", 2)]);
    let before = mcpm.list();
    mcpm.write("fall", "");
    let said = mcpm.run(&["reload", "web"]);
    assert_eq!(said.code, Some(1), "{said}");
    let old = format!("the old run (pid {}) goes on", before.all()[0].pid);
    for part in [
        "web (0) is not reloaded: the new run exited with code 3",
        &old,
        "web-error-0.log",
        "left as they are: web (1)",
    ] {
        assert!(said.stderr.contains(part), "{part} in {said}");
    }
    let after = mcpm.list();
    for (old, new) in before.all().iter().zip(after.all()) {
        assert_eq!((old.pid, 0, true), (new.pid, new.restarts, new.is_up()));
        for field in ["pm_uptime", "created_at", "unstable_restarts"] {
            assert_eq!(
                old.raw["pm2_env"][field], new.raw["pm2_env"][field],
                "{field}"
            );
        }
    }
    assert_eq!(mcpm.log("web-error-0.log"), b"it fell\n");
}

#[test]
fn a_new_run_that_never_gets_ready_is_ended() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web")]);
    let web = patient(&mcpm, "web").with("/listen_timeout", 300);
    let file = mcpm.ecosystem([web]);
    let before = mcpm.list()["web"].pid;
    let said = mcpm.fails(&["startOrReload", &file]);
    assert!(
        said.contains("not said that it is ready within 300 ms"),
        "{said}"
    );
    assert!(said.contains("goes on"), "{said}");
    let list = mcpm.list();
    assert_eq!((list["web"].pid, list["web"].restarts), (before, 0));
    let is_shell = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "bash")
    };
    // The answer does not wait until it has ended.
    let one = || {
        (processes_of(&mcpm.home())
            .iter()
            .filter(|pid| is_shell(pid))
            .count()
            == 1)
            .then_some(())
    };
    wait_for(one, "the new run to end");
}

#[test]
fn a_reload_brings_the_files_spec_and_the_shells_variables() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web").with("/env/COLOUR", "red")]);
    mcpm.write("go", "");
    let file = mcpm.ecosystem([patient(&mcpm, "web").with("/env/COLOUR", "green")]);
    mcpm.ok(&["startOrReload", &file]);
    let said = |colour: &str| {
        let pid = mcpm.list()["web"].pid;
        let line = format!("begin {pid} {colour}\n");
        String::from_utf8_lossy(&mcpm.log("web-out.log")).contains(&line)
    };
    assert!(said("green"));
    let mut update = mcpm.command(&["reload", "web", "--update-env"]);
    assert!(
        update
            .env("COLOUR", "blue")
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(said("blue"));
}

#[test]
fn plain_apps_prove_themselves_by_lasting_and_go_one_after_another() {
    let fall = "[ -e fall ] && [ \"$NODE_APP_INSTANCE\" = 1 ] && exit 3; exec sleep 1000";
    let mcpm = Mcpm::new();
    let app = sh("web", fall)
        .with("/cwd", mcpm.folder().to_str().unwrap())
        .with("/instances", 3)
        .with("/min_uptime", 300);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file]);
    let said = mcpm.ok(&["reload", "all"]);
    assert!(!said.contains("in place"), "{said}");
    let list = mcpm.list();
    assert!(list.all().iter().all(|p| p.restarts == 1 && p.is_up()));
    mcpm.write("fall", "");
    mcpm.fails(&["reload", "web"]);
    let after = mcpm.list();
    let restarts: Vec<_> = after.all().iter().map(|p| p.restarts).collect();
    assert_eq!(restarts, [2, 1, 1]);
    assert!(after.all().iter().all(|process| process.is_up()));
}

#[test]
fn what_is_asked_meanwhile_counts_and_ends_both_runs() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web"), patient(mcpm, "api")]);
    let before = mcpm.list()["web"].pid;
    let (mut reload, next) = begun(&mcpm, "web");
    let again = mcpm.fails(&["reload", "web"]);
    assert!(again.contains("being reloaded already"), "{again}");
    mcpm.ok(&["stop", "web"]);
    assert!(!is_alive(before) && !is_alive(next));
    assert_eq!(reload.code(), Some(1));
    assert!(reload.complaints().contains("stopped meanwhile"));
    assert_eq!(mcpm.list()["web"].status, "stopped");

    let (mut reload, next) = begun(&mcpm, "api");
    mcpm.ok(&["delete", "api"]);
    assert!(!is_alive(next));
    assert_eq!(reload.code(), Some(1));
    assert!(mcpm.list().get("api").is_none());
}

#[test]
fn when_the_old_run_dies_meanwhile_the_new_one_takes_its_place() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web")]);
    let before = mcpm.list()["web"].pid;
    let (mut reload, next) = begun(&mcpm, "web");
    kill(before, "KILL");
    mcpm.wait_until(|list| list["web"].pid == next);
    mcpm.write("go", "");
    assert_eq!(reload.code(), Some(0));
    let list = mcpm.list();
    assert_eq!((list["web"].pid, list["web"].restarts), (next, 1));
}

#[test]
fn a_daemon_that_dies_before_the_new_run_is_ready_leaves_the_old_one() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web")]);
    let before = mcpm.list()["web"].pid;
    let (_reload, next) = begun(&mcpm, "web");
    mcpm.kill_daemon();
    let list = mcpm.list();
    assert_eq!((list["web"].pid, list["web"].restarts), (before, 0));
    gone(next);
    let expected = [before, mcpm.daemon_pid()];
    wait_for(
        || {
            let left = processes_of(&mcpm.home());
            let others = left.iter().filter(|pid| !expected.contains(pid));
            // The shell's own children are as short-lived as its pauses.
            others
                .copied()
                .all(|pid| session(pid) == Some(before))
                .then_some(())
        },
        "no second copy",
    );
    assert!(is_alive(before));
    mcpm.write("go", "");
    mcpm.ok(&["reload", "web"]);
    gone(before);
}

fn session(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(3)?
        .parse()
        .ok()
}

#[test]
fn a_daemon_that_dies_after_the_new_run_took_over_keeps_the_new_one() {
    let mcpm = online(|mcpm| vec![patient(mcpm, "web").with("/kill_timeout", "1h")]);
    let before = mcpm.list()["web"].pid;
    // It can't hear that it is to end.
    kill(before, "STOP");
    let (_reload, next) = begun(&mcpm, "web");
    mcpm.write("go", "");
    mcpm.wait_until(|list| list["web"].pid == next);
    let shown = wait_for(|| row(&mcpm, "web", "predecessor pid"), "the old run's row");
    assert_eq!(shown, before.to_string());
    mcpm.kill_daemon();
    let list = mcpm.list();
    assert_eq!((list["web"].pid, list["web"].restarts), (next, 1));
    assert!(is_alive(before));
    kill(before, "CONT");
    gone(before);
    assert!(is_alive(next));
    mcpm.wait_until(|list| list["web"].pid == next && list["web"].is_up());
}

#[test]
fn what_listens_is_restarted_in_place() {
    let web = server("web");
    let port = web.port();
    let mcpm = Mcpm::start([web]);
    wait_for(
        || TcpStream::connect(("127.0.0.1", port)).ok(),
        "the server",
    );
    let before = mcpm.list()["web"].pid;
    let said = mcpm.ok(&["reload", "web"]);
    let why = format!("web listens on port {port}: restarted in place\n");
    assert!(said.contains(&why), "{said}");
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_ok(),
        "it is back"
    );
    let list = mcpm.list();
    assert!(list["web"].pid != before && list["web"].restarts == 1);
}

#[test]
fn replicas_with_ports_of_their_own_are_never_all_away() {
    let (first, second) = two_ports();
    let web = server("web")
        .with("/env/PORT", first.number())
        .with("/increment_var", "PORT")
        .with("/instances", 2);
    let mcpm = Mcpm::start([web]);
    let ports = [first.number(), second.number()];
    let listens = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
    for port in ports {
        wait_for(|| listens(port).then_some(()), "both replicas");
    }
    let done = AtomicBool::new(false);
    let away = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut away = 0;
            while !done.load(Ordering::Relaxed) {
                away += u32::from(!ports.iter().copied().any(listens));
            }
            away
        });
        let said = mcpm.run(&["reload", "web"]);
        done.store(true, Ordering::Relaxed);
        assert_eq!(said.code, Some(0), "{said}");
        assert!(
            said.stdout
                .contains("restarted in place, one after another"),
            "{said}"
        );
        watch.join().unwrap()
    });
    assert_eq!(away, 0);
    assert!(
        mcpm.list()
            .all()
            .iter()
            .all(|p| p.restarts == 1 && p.is_up())
    );
}

/// Two ports of which one follows the other.
pub(crate) fn two_ports() -> (crate::harness::Port, crate::harness::Port) {
    let mut last = reserve();
    let mut kept = Vec::new();
    loop {
        let next = reserve();
        if next.number() == last.number() + 1 {
            return (last, next);
        }
        kept.push(std::mem::replace(&mut last, next));
    }
}

#[test]
fn a_replica_that_does_not_come_back_in_place_ends_the_reload() {
    let (first, _second) = two_ports();
    let web = server("web")
        .with("/env/PORT", first.number())
        .with("/increment_var", "PORT")
        .with("/instances", 2);
    let mcpm = Mcpm::start([web]);
    let listens = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
    for port in [first.number(), first.number() + 1] {
        wait_for(|| listens(port).then_some(()), "both replicas");
    }
    let before = mcpm.list().all()[1].pid;
    // A run that lives, and listens no more.
    let file = mcpm.ecosystem([sh("web", "exec sleep 1000").with("/instances", 2)]);
    let said = mcpm.fails(&["reload", &file]);
    assert!(
        said.contains("does not listen on a port after 3000 ms"),
        "{said}"
    );
    assert!(said.contains("left as they are: web (1)"), "{said}");
    assert_eq!(mcpm.list().all()[1].pid, before);
}

#[test]
fn reloading_what_does_not_run_starts_it() {
    let mcpm =
        Mcpm::start([sh("web", "exec sleep 1000").with("/args", json!(["-c", "exec sleep 1000"]))]);
    mcpm.ok(&["stop", "web"]);
    mcpm.ok(&["reload", "web"]);
    assert!(mcpm.list()["web"].is_up());
}
