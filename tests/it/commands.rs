//! What operators type from day to day.

use serde_json::{Value, json};

use crate::harness::{Mcpm, demo, is_alive, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

#[test]
fn ls_shows_a_row_per_process_and_nothing_is_no_failure() {
    let mcpm = Mcpm::new();
    let empty = mcpm.ok(&["ls"]);
    assert!(empty.contains("│ id │ name"), "{empty}");
    let file = mcpm.ecosystem([sh("web", SLEEP), sh("api", SLEEP)]);
    mcpm.ok(&["start", &file]);
    for verb in ["ls", "list", "l", "ps", "status"] {
        let table = mcpm.ok(&[verb]);
        for name in ["web", "api"] {
            let row = table
                .lines()
                .find(|line| line.contains(&format!("│ {name} ")));
            assert!(row.is_some_and(|row| row.contains("online")), "{table}");
        }
    }
    let json: Value = serde_json::from_str(&mcpm.ok(&["ls", "--json"])).unwrap();
    assert_eq!(json["items"][0]["name"], "web");
    let sorted: Value =
        serde_json::from_str(&mcpm.ok(&["ls", "--json", "--sort", "name"])).unwrap();
    assert_eq!(sorted["items"][0]["name"], "api");
    let mini = mcpm.ok(&["ls", "-m"]);
    assert!(
        mini.starts_with("+--- api\nnamespace : default\n"),
        "{mini}"
    );
    assert!(
        mcpm.fails(&["ls", "--sort", "nope"])
            .contains("sort by name")
    );
}

#[test]
fn jlist_has_pm2s_fields_and_hides_what_looks_secret() {
    let app = sh("web", SLEEP).with("/env", json!({ "API_KEY": "hush", "COLOUR": "red" }));
    let mcpm = Mcpm::start([app]);
    let printed = mcpm.ok(&["jlist"]);
    assert!(
        !printed.ends_with('\n') && !printed.contains("hush"),
        "{printed}"
    );
    let list = mcpm.list();
    let env = &list["web"].raw["pm2_env"];
    assert_eq!(env["API_KEY"], "***");
    assert_eq!(env["COLOUR"], "red");
    assert_eq!(env["pm_exec_path"], "/bin/sh");
    assert!(is_alive(list["web"].pid));
    assert!(mcpm.ok(&["jlist", "--show-secrets"]).contains("hush"));
}

#[test]
fn stop_keeps_a_process_listed_start_brings_it_back_and_delete_forgets_it() {
    let mcpm = Mcpm::start([sh("web", SLEEP), sh("api", SLEEP)]);
    let first = mcpm.list()["web"].pid;
    let said = mcpm.ok(&["stop", "web"]);
    assert!(
        said.contains("✓ stopped web (0)") && said.contains("│ id │"),
        "{said}"
    );
    let list = mcpm.list();
    assert_eq!(
        (list["web"].status.as_str(), list["web"].pid),
        ("stopped", 0)
    );
    assert!(!is_alive(first));
    assert_eq!(list["api"].status, "online");
    mcpm.ok(&["stop", "web"]);

    mcpm.ok(&["start", "web"]);
    let list = mcpm.list();
    assert_eq!(list["web"].status, "online");
    mcpm.ok(&["restart", "0", "api"]);
    let after = mcpm.list();
    assert_ne!(after["web"].pid, list["web"].pid);
    assert_eq!(after["api"].restarts, 1);

    mcpm.ok(&["delete", "web"]);
    assert_eq!(mcpm.list().all().len(), 1);
    mcpm.ok(&["del", "all"]);
    assert!(mcpm.list().all().is_empty());
    assert!(!is_alive(after["web"].pid) && !is_alive(after["api"].pid));
}

#[test]
fn a_file_may_be_the_target_of_stop_restart_and_delete() {
    let mcpm = Mcpm::start([sh("web", SLEEP), sh("api", SLEEP)]);
    let file = mcpm.ecosystem([sh("web", SLEEP), sh("new", SLEEP)]);
    mcpm.ok(&["stop", &file]);
    let list = mcpm.list();
    assert_eq!(
        (list["web"].status.as_str(), list["api"].status.as_str()),
        ("stopped", "online")
    );
    mcpm.ok(&["restart", &file]);
    let list = mcpm.list();
    assert_eq!(
        (list["web"].status.as_str(), list["new"].status.as_str()),
        ("online", "online")
    );
    mcpm.ok(&["delete", &file]);
    let left: Vec<_> = mcpm
        .list()
        .all()
        .iter()
        .map(|process| process.name.clone())
        .collect();
    assert_eq!(left, ["api"]);
}

#[test]
fn restart_takes_the_shells_variables_only_when_asked() {
    let mcpm = Mcpm::start([sh("web", "echo \"colour $COLOUR\"; exec sleep 1000")]);
    let colour = |args: &[&str]| {
        let mut command = mcpm.command(args);
        command.env("COLOUR", "blue");
        assert!(command.output().unwrap().status.success());
    };
    let lines = || {
        String::from_utf8_lossy(&mcpm.log("web-out.log"))
            .lines()
            .count()
    };
    colour(&["restart", "web"]);
    wait_for(|| (lines() == 2).then_some(()), "the second run's output");
    colour(&["restart", "web", "--update-env"]);
    wait_for(|| (lines() == 3).then_some(()), "the third run's output");
    assert_eq!(mcpm.log("web-out.log"), b"colour \ncolour \ncolour blue\n");
}

#[test]
fn describe_shows_one_process_and_its_last_log_lines() {
    let mcpm = Mcpm::start([sh("web", "echo hello; echo trouble >&2; exec sleep 1000")]);
    wait_for(
        || (!mcpm.log("web-error.log").is_empty()).then_some(()),
        "its output",
    );
    for verb in ["describe", "show", "desc", "info"] {
        let shown = mcpm.ok(&[verb, "web"]);
        for part in ["online", "/bin/sh", "web-out.log", "hello", "trouble"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
}

#[test]
fn describe_tells_the_memory_that_a_limit_counts() {
    let limited = sh("web", "sleep 1000 & wait").with("/max_memory_restart", "900M");
    let mcpm = Mcpm::start([limited, sh("free", SLEEP)]);
    let shown = mcpm.ok(&["describe", "web"]);
    assert!(
        shown.contains("│ group memory") && shown.contains("restarted above 900.0mb"),
        "{shown}"
    );
    assert!(!mcpm.ok(&["describe", "free"]).contains("group memory"));
    wait_for(
        || {
            let said = mcpm.ok(&["describe", "web", "--json"]);
            let json: Value = serde_json::from_str(&said).unwrap();
            let bytes = |name: &str| json["items"][0][name].as_u64().unwrap();
            (bytes("groupMemory") > bytes("memory")).then_some(())
        },
        "the child's memory",
    );
}

#[test]
fn ping_and_flush_and_config_answer() {
    let mcpm = Mcpm::new();
    assert_eq!(mcpm.ok(&["ping"]), "{ msg: 'pong' }\n");
    let file = mcpm.ecosystem([sh("web", "echo hello; exec sleep 1000")]);
    mcpm.ok(&["start", &file]);
    wait_for(
        || (mcpm.log("web-out.log") == b"hello\n").then_some(()),
        "its output",
    );
    mcpm.ok(&["flush", "web"]);
    assert_eq!(mcpm.log("web-out.log"), b"");
    assert!(mcpm.daemon_log().contains("ready"));
    mcpm.ok(&["flush"]);
    assert_eq!(mcpm.daemon_log(), "");
    let config = mcpm.ok(&["config"]);
    let listen = config
        .lines()
        .find(|line| line.contains("listen"))
        .expect("a row");
    assert!(listen.contains("MCPM_LISTEN"), "{listen}");
}

#[test]
fn what_was_saved_is_resurrected_after_a_kill() {
    let mcpm = Mcpm::start([
        sh("web", SLEEP).with("/env/TOKEN", "hush"),
        sh("api", SLEEP),
    ]);
    mcpm.ok(&["stop", "api"]);
    let saved = mcpm.ok(&["save"]);
    assert!(saved.contains("saved 2 processes"), "{saved}");
    let before = mcpm.list()["web"].pid;
    mcpm.ok(&["kill"]);
    assert!(!is_alive(before));
    assert!(
        mcpm.list().all().is_empty(),
        "a new daemon begins with nothing"
    );
    mcpm.ok(&["resurrect"]);
    let list = mcpm.list();
    assert_eq!(
        (list["web"].status.as_str(), list["api"].status.as_str()),
        ("online", "stopped")
    );
    let dump: Value =
        serde_json::from_slice(&std::fs::read(mcpm.home().join("dump.pm2")).unwrap()).unwrap();
    assert_eq!(dump[0]["TOKEN"], "hush", "the dump is complete");
}

#[test]
fn a_broken_dump_gives_way_to_the_one_before_it_with_a_warning() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    mcpm.ok(&["save"]);
    mcpm.ok(&["save"]);
    mcpm.ok(&["kill"]);
    let dump = mcpm.home().join("dump.pm2");
    std::fs::write(&dump, "{}").unwrap();
    let ran = mcpm.run(&["resurrect"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    for part in ["warning: ", "in place of a list of apps", "dump.pm2.bak"] {
        assert!(ran.stderr.contains(part), "{part} in {ran}");
    }
    assert!(mcpm.list()["web"].is_up());
    mcpm.ok(&["delete", "all"]);
    std::fs::remove_file(mcpm.home().join("dump.pm2.bak")).unwrap();
    let said = mcpm.fails(&["resurrect"]);
    assert!(said.contains("an object in place of a list"), "{said}");
}

#[test]
fn an_empty_list_is_saved_only_by_force() {
    let mcpm = Mcpm::new();
    assert!(mcpm.fails(&["resurrect"]).contains("mcpm save"));
    let file = mcpm.ecosystem([sh("web", SLEEP)]);
    mcpm.ok(&["start", &file]);
    mcpm.ok(&["save"]);
    mcpm.ok(&["delete", "all"]);
    let ran = mcpm.run(&["save"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(
        ran.stderr.contains("left as it is") && ran.stderr.contains("--force"),
        "{ran}"
    );
    mcpm.ok(&["resurrect"]);
    assert!(mcpm.list()["web"].is_up());
    mcpm.ok(&["delete", "all"]);
    let said = mcpm.ok(&["save", "--force"]);
    assert!(said.contains("saved 0 processes"), "{said}");
}

#[test]
fn kill_ends_everything_and_is_content_when_nothing_runs() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    let (daemon, app) = (mcpm.daemon_pid(), mcpm.list()["web"].pid);
    mcpm.ok(&["kill"]);
    assert!(!is_alive(daemon) && !is_alive(app));
    for file in ["mcpm.sock", "mcpm.pid"] {
        assert!(!mcpm.home().join(file).exists(), "{file} is left");
    }
    let said = mcpm.ok(&["kill"]);
    assert!(said.contains("no daemon runs"), "{said}");
}

#[test]
fn services_shows_type_port_health_and_instances() {
    let demo = demo("demo");
    let port = demo.port();
    let mcpm = Mcpm::start([demo, sh("web", SLEEP)]);
    mcpm.instance("alice", "demo");
    let table = mcpm.ok(&["services"]);
    let row = table
        .lines()
        .find(|line| line.starts_with("│ demo"))
        .expect("its row");
    assert!(
        row.contains(&port.to_string()) && row.contains("ready"),
        "{row}"
    );
    assert!(row.trim_end().ends_with("│ 1         │"), "{row}");
    assert!(!table.contains("web"), "no plain apps: {table}");
    let json: Value = serde_json::from_str(&mcpm.ok(&["services", "--json"])).unwrap();
    assert_eq!(json["items"][0]["port"], port);
}

#[test]
fn silent_prints_only_what_was_asked_for() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    assert_eq!(mcpm.ok(&["--silent", "restart", "web"]), "");
    assert!(mcpm.ok(&["-s", "jlist"]).starts_with('['));
    let token = mcpm.ok(&["-s", "users", "add", "alice"]);
    assert!(token.starts_with("mcpm_u_"), "{token}");
}

#[test]
fn two_commands_that_start_the_daemon_at_once_use_the_same_one() {
    let mcpm = Mcpm::new();
    let mut children: Vec<_> = (0..4)
        .map(|_| {
            mcpm.command(&["ping"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children.drain(..) {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"{ msg: 'pong' }\n", "{output:?}");
    }
    let daemons = crate::harness::processes_of(&mcpm.home());
    assert_eq!(daemons, [mcpm.daemon_pid()]);
}

#[test]
fn resurrecting_what_is_listed_already_is_no_failure() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    mcpm.ok(&["save"]);
    let before = mcpm.list()["web"].pid;
    let said = mcpm.ok(&["resurrect"]);
    assert!(said.contains("all that was saved is listed"), "{said}");
    assert_eq!(mcpm.list()["web"].pid, before);
}

#[test]
fn numbers_are_not_given_twice_until_the_list_is_empty() {
    let mcpm = Mcpm::start([sh("a", SLEEP), sh("b", SLEEP)]);
    mcpm.ok(&["delete", "b"]);
    let file = mcpm.ecosystem([sh("c", SLEEP)]);
    mcpm.ok(&["start", &file]);
    assert_eq!(
        mcpm.list()["c"].id,
        2,
        "1 meant another process a moment ago"
    );
    mcpm.ok(&["delete", "all"]);
    mcpm.ok(&["start", &file]);
    assert_eq!(mcpm.list()["c"].id, 0);
}

#[test]
fn logs_of_a_stopped_process_are_emptied_by_the_next_daemon_too() {
    let mcpm = Mcpm::start([sh("web", "echo hello; exec sleep 1000")]);
    wait_for(
        || (!mcpm.log("web-out.log").is_empty()).then_some(()),
        "its output",
    );
    mcpm.ok(&["stop", "web"]);
    mcpm.ok(&["kill", "--keep"]);
    mcpm.ok(&["flush", "web"]);
    assert_eq!(mcpm.log("web-out.log"), b"");
}
