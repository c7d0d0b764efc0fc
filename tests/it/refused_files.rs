//! Ecosystem files and scripts that cannot be started: one clear message, exit code 1, and
//! everything that runs already runs on.

use std::net::{TcpListener, TcpStream};

use serde_json::json;

use crate::harness::{App, Mcpm, demo, is_alive, job, kill, service, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

/// Starts a file of this name and text beside one app that runs; returns what was complained of.
/// Nothing has changed afterwards.
#[track_caller]
fn refused(name: &str, text: &str) -> String {
    let mcpm = Mcpm::start([sh("bystander", SLEEP)]);
    let before = mcpm.list()["bystander"].pid;
    let file = mcpm.write(name, text);
    let complaint = mcpm.fails(&["start", &file]);
    let list = mcpm.list();
    assert_eq!(list.all().len(), 1, "nothing of the file was started");
    assert_eq!(
        (list["bystander"].pid, list["bystander"].restarts),
        (before, 0)
    );
    complaint
}

#[track_caller]
fn assert_says(complaint: &str, parts: &[&str]) {
    for part in parts {
        assert!(complaint.contains(part), "{part:?} is not in\n{complaint}");
    }
}

#[test]
fn a_file_that_is_missing() {
    let mcpm = Mcpm::new();
    let complaint = mcpm.fails(&["start", "nowhere.json"]);
    assert_says(&complaint, &["nowhere.json"]);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(
        !mcpm.home().join("mcpm.pid").exists(),
        "no daemon was started for it"
    );
    let complaint = mcpm.fails(&["start"]);
    assert_says(&complaint, &["ecosystem.config.js"]);
}

#[test]
fn broken_json_is_shown_with_its_place() {
    let complaint = refused(
        "broken.json",
        "{\n  \"apps\": [\n    { \"name\": \"x\",, }\n  ]\n}",
    );
    assert_says(&complaint, &["broken.json:3:19"]);
}

#[test]
fn broken_yaml_is_shown_with_its_place() {
    let complaint = refused("broken.yaml", "apps:\n  - name: x\n   script: [\n");
    assert_says(&complaint, &["broken.yaml:"]);
}

#[test]
fn a_javascript_file_is_read_by_node_or_refused_without_it() {
    let mcpm = Mcpm::new();
    let broken = mcpm.write("ecosystem.config.js", "module.exports = { apps: [ ;");
    let complaint = mcpm.fails(&["start", &broken]);
    if !has_node() {
        assert_says(&complaint, &["node"]);
        eprintln!("skipped: what node says of a broken file, for there is no node here");
        return;
    }
    assert_says(&complaint, &["ecosystem.config.js", "SyntaxError"]);
    let text = "module.exports = { apps: [ { name: 'web', script: '/bin/sh', \
                interpreter: 'none', args: ['-c', 'exec sleep 1000'] } ] }";
    let file = mcpm.write("ecosystem.config.cjs", text);
    mcpm.ok(&["start", &file]);
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn what_a_javascript_file_prints_is_shown_and_is_not_its_value() {
    if !has_node() {
        eprintln!("skipped: there is no node here");
        return;
    }
    let mcpm = Mcpm::new();
    let prints = "console.log('{ \"apps\": 1 }'); console.error('to stderr'); \
                  require('child_process').execSync('echo by a child', { stdio: 'inherit' });";
    let value = "module.exports = { apps: [ { name: 'web', script: '/bin/sh', \
                 interpreter: 'none', args: ['-c', 'exec sleep 1000'] } ] }";
    let file = mcpm.write("ecosystem.config.cjs", &format!("{prints} {value}"));
    let ran = mcpm.run(&["start", &file]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let shown = ["{ \"apps\": 1 }", "to stderr", "by a child"];
    assert_says(&ran.stderr, &shown);
    for part in shown {
        assert!(!ran.stdout.contains(part), "{ran}");
    }
    let broken = mcpm.write("broken.config.cjs", &format!("{prints}\nnobody.there"));
    let complaint = mcpm.fails(&["start", &broken]);
    assert_says(&complaint, &shown);
    assert_says(&complaint, &["broken.config.cjs:2", "ReferenceError"]);
}

#[test]
fn without_node_a_javascript_file_is_refused_by_name() {
    let mcpm = Mcpm::new();
    let file = mcpm.write("ecosystem.config.js", "module.exports = { apps: [] }");
    let mut command = mcpm.command(&["start", &file]);
    command.env("PATH", "/nowhere");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_says(&complaint, &["ecosystem.config.js", "node"]);
}

#[test]
fn a_javascript_file_that_does_not_end_dies_with_the_command() {
    if !has_node() {
        eprintln!("skipped: there is no node here");
        return;
    }
    let mcpm = Mcpm::new();
    let file = mcpm.write("ecosystem.config.js", "while (true) {}");
    let start = mcpm.spawn(&["start", &file]);
    let node = wait_for(|| evaluating(&file), "node");
    kill(start.pid(), "KILL");
    wait_for(|| (!is_alive(node)).then_some(()), "node's end");
}

/// The process that evaluates this file.
fn evaluating(file: &str) -> Option<u32> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains(file) && line.contains("pathToFileURL")
        })
}

fn has_node() -> bool {
    std::process::Command::new("node")
        .arg("--version")
        .output()
        .is_ok()
}

#[test]
fn wrong_types_are_shown_all_at_once_each_with_its_place() {
    let text = r#"{
  "apps": [
    { "name": "a", "script": {}, "max_memory_restart": "lots" },
    { "name": "b", "script": "/bin/sh", "instances": [], "kill_timeout": "soon" },
    { "name": "c", "script": "/bin/sh", "mcp": { "service": "No Spaces", "port": 99999 } }
  ]
}"#;
    let complaint = refused("types.json", text);
    assert_says(
        &complaint,
        &[
            "types.json:3:30",
            "`script`",
            "types.json:3:56",
            "`max_memory_restart`",
            "200M",
            "types.json:4:54",
            "`instances`",
            "types.json:4:74",
            "`kill_timeout`",
            "types.json:5:61",
            "types.json:5:82",
        ],
    );
    assert!(
        !complaint.contains("needs a fixed port"),
        "a port that is wrong is not missing, too: {complaint}"
    );
}

#[test]
fn an_unknown_key_only_warns_with_its_place() {
    let mcpm = Mcpm::new();
    let text = json!({ "apps": [job("web", SLEEP).with("/max_restart", 3).value()] });
    let file = mcpm.write("unknown.json", &text.to_string());
    let ran = mcpm.run(&["start", &file]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_says(
        &ran.stderr,
        &[
            "warning:",
            "unknown.json:1:",
            "`max_restart`",
            "`max_restarts`",
        ],
    );
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn two_services_of_one_type_or_on_one_port_refuse_the_file() {
    let (one, two) = (demo("one"), demo("two"));
    let port = one.port();
    let two = two.with("/mcp/port", port).with("/mcp/service", "one");
    let text = json!({ "apps": [one.value(), two.value()] });
    let complaint = refused("twins.json", &serde_json::to_string_pretty(&text).unwrap());
    assert_says(
        &complaint,
        &["`one`", "`two`", &port.to_string(), "twins.json:"],
    );
}

#[test]
fn a_service_that_takes_a_running_ones_port_or_type_is_refused() {
    let running = demo("one");
    let port = running.port();
    let mcpm = Mcpm::start([running]);
    let before = mcpm.list()["one"].pid;
    let file = mcpm.ecosystem([demo("two").with("/mcp/port", port)]);
    let complaint = mcpm.fails(&["start", &file]);
    assert_says(&complaint, &["`two`", "`one`", &port.to_string()]);
    let list = mcpm.list();
    assert_eq!((list.all().len(), list["one"].pid), (1, before));
}

/// These apps fail, each in one line at its place, and the rest of the file starts.
#[track_caller]
fn fails_alone(broken: App, parts: &[&str]) {
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([broken, sh("rest", SLEEP)]);
    let ran = mcpm.run(&["start", &file]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert_says(&ran.stderr, &["ecosystem.json:"]);
    assert_says(&ran.stderr, parts);
    assert!(mcpm.list()["rest"].is_up(), "{ran}");
}

#[test]
fn a_script_that_is_missing() {
    fails_alone(
        sh("x", "").with("/script", "./nowhere.sh"),
        &["`x`", "`./nowhere.sh`"],
    );
}

#[test]
fn a_script_that_is_not_executable() {
    let mcpm = Mcpm::new();
    let script = mcpm.write("plain", "#!/bin/sh\n");
    fails_alone(
        sh("x", "").with("/script", script),
        &["`x`", "not executable", "chmod +x"],
    );
}

#[test]
fn an_interpreter_or_a_folder_that_is_missing() {
    let odd = sh("x", SLEEP).with("/interpreter", "/nowhere/python");
    fails_alone(odd, &["`x`", "/nowhere/python"]);
    fails_alone(
        sh("x", SLEEP).with("/cwd", "/nowhere/at/all"),
        &["`x`", "/nowhere/at/all"],
    );
}

#[test]
fn a_script_that_vanishes_while_it_runs_ends_errored_with_the_reason() {
    let mcpm = Mcpm::new();
    let script = mcpm.write_program("work.sh", "#!/bin/sh\nexec sleep 1000\n");
    let file = mcpm.ecosystem([sh("work", "").with("/script", script.clone())]);
    mcpm.ok(&["start", &file]);
    std::fs::remove_file(&script).unwrap();
    kill(mcpm.list()["work"].pid, "KILL");
    mcpm.wait_until(|list| list["work"].status == "errored");
    assert_says(
        &mcpm.ok(&["describe", "work"]),
        &["cannot run", "work.sh", "no such file"],
    );
    let complaint = mcpm.fails(&["restart", "work"]);
    assert_says(&complaint, &["work (0)", "cannot run"]);
}

#[test]
fn a_port_that_a_stranger_has_fails_that_service_and_names_the_stranger() {
    let wanted = demo("demo");
    let port = wanted.port();
    let mcpm = Mcpm::new();
    // A program of its own: a test that starts commands shares its sockets with them for a moment.
    let serve = format!("bridge demo --no-router-secret --port {port}");
    let stranger = mcpm.spawn(&serve.split(' ').collect::<Vec<_>>());
    wait_for(
        || TcpStream::connect(("127.0.0.1", port)).ok(),
        "the stranger's port",
    );
    let file = mcpm.ecosystem([wanted, sh("rest", SLEEP)]);
    let ran = mcpm.run(&["start", &file]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let (them, port) = (stranger.pid().to_string(), port.to_string());
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert_says(&said, &["demo", &port, "taken", &them]);
    let list = mcpm.list();
    assert!(list["rest"].is_up());
    // It stays so while the port is tried again and again, and each try is not news.
    for _ in 0..20 {
        let list = mcpm.list();
        assert_eq!(list["demo"].readiness.as_deref(), Some("port_taken"));
        assert_eq!(list["demo"].restarts, 0, "nothing was started");
    }
    assert_eq!(mcpm.daemon_log().matches("is taken by").count(), 1);
    assert_says(&mcpm.ok(&["describe", "demo"]), &["taken", &them]);
    // Once it is free the service comes by itself.
    drop(stranger);
    mcpm.wait_until(|list| list["demo"].is_up());
}

#[test]
fn a_stranger_that_answers_on_a_services_port_gets_no_traffic() {
    // The service itself listens nowhere; a stranger has the port on another address.
    let lazy = service("lazy")
        .with("/script", "/bin/sh")
        .with("/args", json!(["-c", SLEEP]))
        .with("/mcp/health", json!({ "tcp": true }));
    let port = lazy.port();
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([lazy]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    let _stranger = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let list = mcpm.wait_until(|list| list["lazy"].readiness.as_deref() == Some("port_taken"));
    assert_eq!(list["lazy"].status, "online");
    let us = std::process::id().to_string();
    assert_says(&mcpm.ok(&["describe", "lazy"]), &["port taken", &us]);
}
