//! `mcpm daemon`: the daemon itself, as systemd or a container runs it.

use crate::harness::{
    Mcpm, PROGRAM, Running, demo, eventually, is_alive, job, kill, processes_of, sh, wait_for,
};

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

#[test]
fn runtime_prints_the_apps_output_and_stops_all_on_sigterm() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([sh("web", "echo hello; echo trouble >&2; exec sleep 1000")]);
    let mut runtime = mcpm.spawn(&["runtime", &file]);
    assert_eq!(runtime.line(|line| line.contains("hello")), "hello");
    let web = mcpm.list()["web"].pid;
    assert_eq!(mcpm.daemon_pid(), runtime.pid(), "it is the daemon itself");
    assert!(
        mcpm.log("web-out.log").is_empty(),
        "no file fills the container"
    );
    kill(runtime.pid(), "TERM");
    assert_eq!(runtime.code(), Some(0));
    assert!(!is_alive(web));
}

/// A runtime whose daemon was killed is started again.
#[test]
fn runtime_leaves_alone_what_it_has_taken_over() {
    let mcpm = Mcpm::new();
    let slow = |name: &str| sh(name, "echo hello; exec sleep 1000");
    let file = mcpm.ecosystem([slow("lives"), slow("dies"), slow("changed"), slow("gone")]);
    let mut runtime = mcpm.spawn(&["runtime", "--formatted", &file]);
    runtime.line(|line| line.contains("gone") && line.ends_with("hello"));
    let before = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
    kill(runtime.pid(), "KILL");
    runtime.code();
    kill(before["dies"].pid, "KILL");
    let changed = slow("changed").with("/env/NEW", "1");
    let file = mcpm.ecosystem([slow("lives"), slow("dies"), changed]);
    let mut runtime = mcpm.spawn(&["runtime", "--formatted", &file]);
    let lines = [runtime.line(is_hello), runtime.line(is_hello)].concat();
    assert!(
        lines.contains("dies") && lines.contains("changed"),
        "{lines}"
    );
    let after = mcpm.wait_until(|list| list.all().iter().all(|process| process.is_up()));
    for (name, is_same) in [
        ("lives", true),
        ("dies", false),
        ("changed", false),
        ("gone", true),
    ] {
        assert_eq!(before[name].pid == after[name].pid, is_same, "{name}");
    }
    let told = mcpm.ok(&["why", "dies"]);
    assert!(
        !told.contains("asked by `start`") && !told.contains(" 2. "),
        "{told}"
    );
    let told = mcpm.ok(&["why", "changed"]);
    assert!(told.contains("asked by `start`"), "{told}");
    let refused = mcpm.fails(&["kill", "--keep"]);
    assert!(
        refused.contains("first process of a container"),
        "{refused}"
    );
    assert_eq!(
        mcpm.list()["lives"].pid,
        before["lives"].pid,
        "nothing was done"
    );
    kill(runtime.pid(), "TERM");
    assert_eq!(runtime.code(), Some(0));
    let said = runtime.complaints();
    assert!(
        said.contains("`gone` (3) is not in the file and was up before"),
        "{said}"
    );
}

fn is_hello(line: &str) -> bool {
    line.ends_with("hello")
}

#[test]
fn a_daemon_that_is_stopped_is_named_with_what_to_do() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let daemon = mcpm.daemon_pid();
    kill(daemon, "STOP");
    let refused = mcpm.fails(&["ls"]);
    kill(daemon, "CONT");
    assert!(
        refused.contains(&format!("`kill -CONT {daemon}`")),
        "{refused}"
    );
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn an_order_that_waits_for_a_stopped_daemon_says_so_and_is_done_when_it_goes_on() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let daemon = mcpm.daemon_pid();
    let errors = mcpm.folder().join("errors");
    kill(daemon, "STOP");
    let mut order = mcpm.command(&["restart", "web"]);
    order.stderr(std::fs::File::create(&errors).unwrap());
    let mut order = order.stdout(std::process::Stdio::null()).spawn().unwrap();
    let wanted = format!("`kill -CONT {daemon}`");
    let said = || std::fs::read_to_string(&errors).unwrap().contains(&wanted);
    let is_told = eventually(said);
    kill(daemon, "CONT");
    let status = order.wait().unwrap();
    assert!(is_told, "{:?}", std::fs::read_to_string(&errors));
    assert!(status.success(), "{status}");
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn a_command_waits_for_what_is_left_of_a_killed_daemon() {
    let mcpm = Mcpm::new();
    std::fs::create_dir(mcpm.home()).unwrap();
    // In the place of its last threads: the lock is held, and nobody listens.
    let lock = std::fs::File::create(mcpm.home().join("mcpm.lock")).unwrap();
    lock.lock().unwrap();
    let mut asks = mcpm.spawn(&["ls"]);
    // The command, and the daemon that it has started.
    wait_for(
        || (processes_of(&mcpm.home()).len() > 1).then_some(()),
        "a daemon that waits",
    );
    drop(lock);
    assert_eq!(asks.code(), Some(0), "{}", asks.complaints());
}

#[test]
fn commands_right_after_the_daemons_violent_death_just_work() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let web = mcpm.list()["web"].pid;
    for _ in 0..10 {
        let daemon = i32::try_from(mcpm.daemon_pid()).unwrap();
        let daemon = nix::unistd::Pid::from_raw(daemon);
        nix::sys::signal::kill(daemon, nix::sys::signal::SIGKILL).unwrap();
        assert_eq!(mcpm.list()["web"].pid, web);
    }
}

#[test]
fn too_few_descriptors_are_told_with_their_number() {
    let mcpm = Mcpm::new();
    for limit in [18, 20, 22, 24, 26] {
        let inner = mcpm.command(&["ls"]);
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {limit}; exec \"$0\" ls"), PROGRAM])
            .env_clear()
            .current_dir(mcpm.folder());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap());
        }
        let refused = command.output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{limit}: {said}");
        let number = format!("only {limit} open files are allowed");
        assert!(
            said.contains(&number) && !said.contains("internal error"),
            "{limit}: {said}"
        );
    }
}

#[test]
fn runtime_ends_with_2_when_nothing_runs_any_more() {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([job("job", "echo done")]);
    let mut runtime = mcpm.spawn(&["runtime", "--json", "start", &file]);
    let line = runtime.line(|line| line.starts_with('{'));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["message"], "done");
    assert_eq!(runtime.code(), Some(2));
    let refused = mcpm.fails(&["runtime", "missing.json"]);
    assert!(refused.contains("missing.json"), "{refused}");
}

#[test]
fn it_answers_to_the_names_of_pm2() {
    let mcpm = Mcpm::new();
    let under = |name: &str, args: &[&str]| {
        let link = mcpm.folder().join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
        }
        let inner = mcpm.command(args);
        let mut command = std::process::Command::new(link);
        command
            .args(inner.get_args())
            .env_clear()
            .current_dir(mcpm.folder());
        for (name, value) in inner.get_envs() {
            let name = if name == "MCPM_HOME" {
                "PM2_HOME".as_ref()
            } else {
                name
            };
            command.env(name, value.unwrap());
        }
        command
    };
    let file = mcpm.ecosystem([sh("web", "echo hello; exec sleep 1000")]);
    let started = under("pm2", &["--no-pmx", "start", &file, "--no-vizion"])
        .output()
        .unwrap();
    assert!(started.status.success(), "{started:?}");
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(
        said.contains("`--no-pmx`") && said.contains("`--no-vizion`"),
        "{said}"
    );
    assert!(mcpm.list()["web"].is_up(), "PM2_HOME is the home");
    mcpm.ok(&["kill"]);
    let refused = under("pm2-runtime", &[]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("Usage: pm2-runtime [OPTIONS] <FILE>"),
        "{said}"
    );
    let mut runtime = Running::start(under("pm2-runtime", &[&file]));
    runtime.line(|line| line == "hello");
    kill(runtime.pid(), "INT");
    assert_eq!(runtime.code(), Some(0));
}
