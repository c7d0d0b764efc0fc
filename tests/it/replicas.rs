//! Several processes of one app: their numbers, their ports, and what becomes of those that want one
//! which another has.

use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{App, Mcpm, server, sh, wait_for};
use crate::reloading::two_ports;

/// The instance numbers, by pm_id.
fn instances(mcpm: &Mcpm) -> Vec<Value> {
    let list = mcpm.list();
    let number = |p: &crate::harness::Process| p.raw["pm2_env"]["NODE_APP_INSTANCE"].clone();
    list.all().iter().map(number).collect()
}

/// One of two runs, the other is stopped with a reason.
fn one_is_kept(mcpm: &Mcpm, port: u16) -> Value {
    let list = mcpm.wait_until(|list| list.all().iter().any(|p| p.status == "stopped"));
    let (up, down): (Vec<_>, Vec<_>) = list.all().iter().partition(|p| p.is_up());
    assert_eq!((up.len(), down.len()), (1, 1), "{list:#?}");
    assert_eq!((up[0].restarts, down[0].restarts, down[0].pid), (0, 0, 0));
    assert_eq!(down[0].raw["mcpm"]["unshared"], json!(port));
    let reason = down[0].raw["mcpm"]["reason"].as_str().unwrap().to_owned();
    let kept = up[0].id;
    let begin = format!("process {kept} listens on port {port}, which replicas cannot share yet");
    assert!(
        reason.starts_with(&begin) && reason.contains("increment_var"),
        "{reason}"
    );
    json!({"id": down[0].id, "reason": reason})
}

#[test]
fn replicas_that_cannot_share_a_port_are_one_and_say_why() {
    let web = server("web").with("/instances", 2);
    let port = web.port();
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([web]);
    let started = mcpm.run(&["start", &file]);
    assert_eq!(started.code, Some(0), "{started}");
    let kept = one_is_kept(&mcpm, port);
    let (id, reason) = (kept["id"].to_string(), kept["reason"].as_str().unwrap());
    assert!(started.stdout.contains(reason), "{started}");
    let listed = mcpm.run(&["ls"]);
    assert!(listed.stderr.contains(reason), "{listed}");
    assert!(
        mcpm.ok(&["describe", &id])
            .contains("which replicas cannot share yet")
    );
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());

    // Nor is it tried again by the next daemon.
    mcpm.kill_daemon();
    assert_eq!(one_is_kept(&mcpm, port), kept);

    // Only when somebody asks, and then it is the same again.
    mcpm.ok(&["start", &id]);
    assert_eq!(one_is_kept(&mcpm, port), kept);
    let reloaded = mcpm.run(&["reload", "web"]);
    assert_eq!(reloaded.code, Some(0), "{reloaded}");
    let list = mcpm.wait_until(|list| list.all().iter().any(|p| p.status == "stopped"));
    assert_eq!(list.all().iter().filter(|p| p.is_up()).count(), 1);

    // What is started later wants the port, too.
    let scaled = mcpm.run(&["scale", "web", "3"]);
    assert_eq!(scaled.code, Some(0), "{scaled}");
    mcpm.wait_until(|list| list.all().iter().filter(|p| p.status == "stopped").count() == 2);
}

#[test]
fn a_crash_loop_stays_one_whatever_its_siblings_do() {
    let (first, _) = two_ports();
    let port = first.number();
    let crash =
        "[ \"$NODE_APP_INSTANCE\" = 0 ] && exec \"$PROGRAM\" \"$@\"; echo \"$WORDS\" >&2; exit 1";
    let looping = |words: &str| {
        let server = server("web");
        let value = server.value();
        let mut args = vec![json!("-c"), json!(crash), json!("sh")];
        args.extend(value["args"].as_array().unwrap().iter().cloned());
        let app: App = sh("web", "")
            .with("/args", args)
            .with("/env", value["env"].clone())
            .with("/env/PROGRAM", value["script"].clone())
            .with("/env/PORT", port)
            .with("/env/WORDS", words)
            .with("/instances", 2)
            .with("/max_restarts", 3);
        app
    };
    for words in [
        "segmentation fault",
        "Error: listen EADDRINUSE: address already in use 127.0.0.1:1",
    ] {
        let mcpm = Mcpm::new();
        let file = mcpm.ecosystem([looping(words)]);
        // Whether it fails early enough for `start` to say so depends on the machine.
        mcpm.run(&["start", &file]);
        let list = mcpm.wait_until(|list| list.all()[1].status == "errored");
        assert!(list.all()[0].is_up(), "{words}: {list:#?}");
    }
}

#[test]
fn increment_var_gives_each_its_own_port() {
    let (first, second) = two_ports();
    let web = server("web")
        .with("/env/PORT", first.number())
        .with("/increment_var", "PORT")
        .with("/instances", 2);
    let mcpm = Mcpm::start([web]);
    for port in [&first, &second] {
        let connects = || TcpStream::connect(("127.0.0.1", port.number())).ok();
        wait_for(connects, "a replica on its port");
    }
    let list = mcpm.list();
    let shown: Vec<&Value> = list
        .all()
        .iter()
        .map(|p| &p.raw["pm2_env"]["PORT"])
        .collect();
    assert_eq!(json!(shown), json!([first.to_string(), second.to_string()]));
    assert!(list.all().iter().all(|process| process.is_up()));
}

#[test]
fn numbers_are_kept_whatever_becomes_of_the_others() {
    let app = sh("web", "exec sleep 1000")
        .with("/instances", 3)
        .with("/min_uptime", 100);
    let mcpm = Mcpm::start([app]);
    mcpm.ok(&["delete", "1"]);
    assert_eq!(json!(instances(&mcpm)), json!([0, 2]));
    mcpm.ok(&["reload", "web"]);
    mcpm.ok(&["restart", "web"]);
    assert_eq!(json!(instances(&mcpm)), json!([0, 2]));
    mcpm.ok(&["scale", "web", "4"]);
    assert_eq!(json!(instances(&mcpm)), json!([0, 2, 1, 3]));
    let env = mcpm.ok(&["env", "3"]);
    assert!(env.contains("NODE_APP_INSTANCE: 1\n"), "{env}");
}

#[test]
fn more_processes_than_a_machine_has_room_for_are_refused_by_the_file() {
    let mcpm = Mcpm::new();
    for count in [json!(100_000), json!("100000"), json!(10_001)] {
        let file = mcpm.ecosystem([sh("web", "exec sleep 1000").with("/instances", count)]);
        let said = mcpm.fails(&["start", &file]);
        assert!(
            said.contains("`instances` is") && said.contains("10000"),
            "{said}"
        );
    }
    let said = mcpm.fails(&["start", "/bin/sleep", "-i", "100000", "--", "1000"]);
    assert!(said.contains("10000"), "{said}");
    assert!(
        !mcpm.home().join("mcpm.sock").exists(),
        "no daemon was started for it"
    );
}
