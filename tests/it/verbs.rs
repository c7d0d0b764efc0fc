//! PM2's smaller verbs.

use serde_json::{Value, json};

use crate::harness::{Mcpm, demo, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

fn count(mcpm: &Mcpm, name: &str) -> usize {
    let list = mcpm.list();
    list.all().iter().filter(|p| p.name == name).count()
}

#[test]
fn scale_goes_up_with_the_next_number_and_down_newest_first() {
    let mcpm = Mcpm::start([sh(
        "web",
        "echo \"I am $NODE_APP_INSTANCE\"; exec sleep 1000",
    )]);
    let said = mcpm.ok(&["scale", "web", "3"]);
    assert!(
        said.contains("✓ started web (1)") && said.contains("✓ started web (2)"),
        "{said}"
    );
    let list = mcpm.list();
    let numbers: Vec<_> = list
        .all()
        .iter()
        .map(|p| p.raw["pm2_env"]["NODE_APP_INSTANCE"].clone())
        .collect();
    assert_eq!(json!(numbers), json!([0, 1, 2]));
    // As many as the app was started with, in PM2, too.
    let mut told = list.all().iter().map(|p| &p.raw["pm2_env"]["instances"]);
    assert!(told.all(|instances| *instances == 1), "{list:#?}");
    mcpm.ok(&["scale", "web", "+1"]);
    assert_eq!(count(&mcpm, "web"), 4);
    let said = mcpm.ok(&["scale", "web", "-3"]);
    assert!(said.contains("✓ deleted web (3)"), "{said}");
    assert_eq!(mcpm.list()["web"].id, 0);
    assert!(mcpm.fails(&["scale", "web", "1"]).contains("nothing to do"));
    for (args, said) in [
        (["scale", "nobody", "2"], "nobody"),
        (["scale", "web", "many"], "`+N`"),
    ] {
        let refused = mcpm.fails(&args);
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn a_service_is_one_process() {
    let mcpm = Mcpm::start([demo("demo")]);
    assert!(mcpm.fails(&["scale", "demo", "2"]).contains("one process"));
    assert_eq!(count(&mcpm, "demo"), 1);
}

#[test]
fn reset_counts_from_zero() {
    let mcpm = Mcpm::start([sh("web", SLEEP), sh("api", SLEEP)]);
    mcpm.ok(&["restart", "all"]);
    let said = mcpm.ok(&["reset", "web"]);
    assert!(said.contains("✓ reset web (0)"), "{said}");
    let list = mcpm.list();
    assert_eq!((list["web"].restarts, list["api"].restarts), (0, 1));
    mcpm.fails(&["reset", "nobody"]);
}

#[test]
fn ids_pids_and_variables_are_printed_for_scripts() {
    let app = sh("web", SLEEP)
        .with("/instances", 2)
        .with("/env", json!({"API_KEY": "hush"}));
    let mcpm = Mcpm::start([app, sh("api", SLEEP)]);
    assert_eq!(mcpm.ok(&["id", "web"]), "[ 0, 1 ]\n");
    assert_eq!(mcpm.ok(&["id", "nobody"]), "[]\n");
    let pids: String = mcpm.list().all()[..2]
        .iter()
        .map(|p| format!("{}\n", p.pid))
        .collect();
    assert_eq!(mcpm.ok(&["pid", "web"]), pids);
    mcpm.ok(&["stop", "api"]);
    assert_eq!(mcpm.ok(&["pid", "api"]), "0\n");
    assert_eq!(mcpm.ok(&["pid", "nobody"]), "\n");
    let env = mcpm.ok(&["env", "1"]);
    for line in ["API_KEY: hush", "NODE_APP_INSTANCE: 1", "name: web"] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    mcpm.fails(&["env", "99"]);
    let json: Value = serde_json::from_str(&mcpm.ok(&["env", "0", "--json"])).unwrap();
    assert_eq!(json["items"][0]["env"]["API_KEY"], "hush");
}

#[test]
fn prettylist_reads_as_nodes_inspect() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    let text = mcpm.ok(&["prettylist"]);
    assert!(text.starts_with("[\n  {\n    pid: "), "{text}");
    for line in [
        "    name: 'web',",
        "      status: 'online',",
        "    pm_id: 0,",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let same = serde_json::from_str::<Value>(&text).is_err();
    assert!(same, "it is not JSON, as in PM2");
}

#[test]
fn signals_and_lines_reach_the_process() {
    let script =
        "trap 'echo usr2' USR2; echo ready; while :; do read -r line && echo \"got $line\"; done";
    let mcpm = Mcpm::start([sh("web", script), sh("deaf", SLEEP)]);
    let log = || String::from_utf8_lossy(&mcpm.log("web-out.log")).into_owned();
    let wait = |text: &str| wait_for(|| log().contains(text).then_some(()), text);
    wait("ready");
    mcpm.ok(&["send", "0", "hello  world"]);
    wait("got hello  world\n");
    let said = mcpm.ok(&["sendSignal", "SIGUSR2", "web"]);
    assert!(said.contains("✓ signalled web (0)"), "{said}");
    mcpm.ok(&["send", "web", "--again"]);
    wait("usr2");
    wait("got --again");
    assert!(
        mcpm.fails(&["sendSignal", "SIGNOPE", "web"])
            .contains("`SIGNOPE`")
    );
    mcpm.ok(&["stop", "deaf"]);
    for args in [["sendSignal", "USR1", "deaf"], ["send", "deaf", "x"]] {
        let refused = mcpm.fails(&args);
        assert!(refused.contains("it does not run"), "{refused}");
    }
}

#[test]
fn cleardump_empties_the_saved_list() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    mcpm.ok(&["save"]);
    mcpm.ok(&["cleardump"]);
    let dump = std::fs::read_to_string(mcpm.home().join("dump.pm2")).unwrap();
    assert_eq!(dump, "[]");
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn init_writes_a_file_that_starts_and_never_over_another() {
    let mcpm = Mcpm::new();
    mcpm.ok(&["init", "simple"]);
    let refused = mcpm.fails(&["ecosystem"]);
    assert!(refused.contains("left as it is"), "{refused}");
    let path = mcpm.folder().join("ecosystem.config.js");
    assert!(std::fs::read_to_string(&path).unwrap().contains("./app.js"));
}

#[test]
fn values_are_kept_as_pm2_keeps_them() {
    let mcpm = Mcpm::new();
    mcpm.ok(&["set", "a:b", "v"]);
    mcpm.ok(&["multiset", "x 1 y 2"]);
    mcpm.ok(&["config", "z", "3"]);
    assert_eq!(mcpm.ok(&["get", "a.b"]), "v\n");
    assert_eq!(mcpm.ok(&["config", "z"]), "3\n");
    mcpm.ok(&["conf", "w.p", "-4"]);
    assert_eq!(mcpm.ok(&["conf", "w:p"]), "-4\n");
    mcpm.ok(&["unset", "w"]);
    let all = mcpm.ok(&["conf"]);
    assert!(all.contains("$ mcpm set a:b v\n"), "{all}");
    assert_eq!(mcpm.fails(&["get", "nope"]), "");
    mcpm.ok(&["unset", "x"]);
    let file = std::fs::read(mcpm.home().join("module_conf.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(file, json!({"a": {"b": "v"}, "y": "2", "z": "3"}));
    assert!(
        !mcpm.home().join("mcpm.sock").exists(),
        "no daemon is needed"
    );
}

#[test]
fn reload_restarts_one_after_another_and_stops_at_the_first_that_stays_away() {
    let file = "#!/bin/sh\n[ -e \"$FLAG\" ] && [ \"$NODE_APP_INSTANCE\" = 1 ] && exit 3\nexec sleep 1000\n";
    let mcpm = Mcpm::new();
    let program = mcpm.write_program("serve", file);
    let flag = mcpm.folder().join("flag");
    let app = sh("web", "")
        .with("/script", program)
        .with("/args", json!([]))
        .with("/instances", 3)
        .with("/max_restarts", 0)
        .with("/env/FLAG", flag.to_str().unwrap());
    let file = mcpm.ecosystem([app, sh("api", SLEEP)]);
    mcpm.ok(&["start", &file]);
    let said = mcpm.ok(&["reload", "all"]);
    assert!(!said.contains("│"), "no table: {said}");
    assert!(
        mcpm.list()
            .all()
            .iter()
            .all(|p| p.restarts == 1 && p.is_up())
    );
    std::fs::write(&flag, "").unwrap();
    let before = mcpm.list();
    let refused = mcpm.run(&["reload", "web"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    let after = mcpm.list();
    let pids = |at: usize| (before.all()[at].pid, after.all()[at].pid);
    assert_ne!(pids(0).0, pids(0).1);
    assert_eq!(pids(2).0, pids(2).1, "the third is left alone: {refused}");
    assert!(refused.stderr.contains("web (2)"), "{refused}");
}

#[test]
fn a_file_starts_what_is_missing_and_reloads_the_rest() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    let changed = sh("web", "echo new; exec sleep 1000").with("/instances", 2);
    let file = mcpm.ecosystem([changed, sh("api", SLEEP)]);
    for verb in ["startOrReload", "startOrGracefulReload", "startOrRestart"] {
        let said = mcpm.ok(&[verb, &file]);
        assert!(said.contains("│ id │"), "{verb}: {said}");
        assert_eq!((count(&mcpm, "web"), count(&mcpm, "api")), (2, 1), "{verb}");
    }
    let list = mcpm.list();
    assert_eq!((list.all()[0].restarts, list["api"].restarts), (3, 2));
    wait_for(
        || {
            mcpm.log("web-out-0.log")
                .starts_with(b"new\n")
                .then_some(())
        },
        "the new script",
    );
}

#[test]
fn report_has_what_a_ticket_needs_and_no_secret() {
    let mcpm = Mcpm::start([sh("web", SLEEP).with("/env/API_KEY", "hush")]);
    let text = mcpm.ok(&["report"]);
    for part in ["mcpm (daemon)", "│ web ", "Daemon log", "ready"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn verbs_that_are_refused_say_why() {
    let mcpm = Mcpm::new();
    for verb in [
        "link",
        "plus",
        "profile:cpu",
        "inspect",
        "install",
        "deploy",
    ] {
        let said = mcpm.fails(&[verb, "x"]);
        assert!(
            said.contains("not there on purpose") && said.lines().count() == 1,
            "{said}"
        );
    }
    assert!(mcpm.fails(&["strat"]).contains("start"));
}

#[test]
fn ls_shows_those_that_are_named() {
    let mcpm = Mcpm::start([sh("web", SLEEP), sh("api", SLEEP)]);
    let said = mcpm.ok(&["status", "web"]);
    assert!(said.contains("web") && !said.contains("api"), "{said}");
    assert!(mcpm.fails(&["ls", "nobody"]).contains("`nobody`"));
    let json = mcpm.ok(&["ls", "api", "--json"]);
    assert!(
        json.contains("\"api\"") && !json.contains("\"web\""),
        "{json}"
    );
}

#[test]
fn where_json_is_asked_for_nothing_else_is_on_stdout() {
    let mcpm = Mcpm::new();
    let ran = mcpm.run(&["update", "--json"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "null\n"),
        "{ran}"
    );
    assert!(ran.stderr.contains("no daemon runs"), "{ran}");
    let file = mcpm.ecosystem([sh("web", SLEEP)]);
    for line in [
        &["start", file.as_str(), "--json"][..],
        &["restart", "web", "--json"],
        &["stop", "web", "--json"],
        &["save", "--json"],
        &["reset", "web", "--json"],
        &["flush", "--json"],
        &["delete", "web", "--json"],
    ] {
        let ran = mcpm.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran}");
        assert!(ran.stderr.contains("`--json` has no effect here"), "{ran}");
    }
    for line in [
        &["ls", "--json"][..],
        &["pid", "--json"],
        &["ping", "--json"],
        &["config", "--json"],
        &["services", "--json"],
        &["users", "--json"],
        &["kill", "--json"],
    ] {
        let said = mcpm.ok(line);
        let json = serde_json::from_str::<serde_json::Value>(&said);
        assert!(said.is_empty() || json.is_ok(), "{line:?}: {said}");
    }
}

#[test]
fn a_line_without_a_verb_says_what_is_missing() {
    let mcpm = Mcpm::new();
    for line in [&["-s"][..], &["--name", "x"], &["-i", "2", "--name", "x"]] {
        let said = mcpm.fails(line);
        let typed = format!(
            "a command is missing: what shall be done with `{}`?",
            line.join(" ")
        );
        assert!(said.contains(&typed), "{said}");
    }
}

#[test]
fn what_selects_apps_of_a_file_needs_a_file() {
    let mcpm = Mcpm::start([sh("web", SLEEP), sh("api", SLEEP)]);
    for line in [
        ["start", "all", "--only", "web"],
        ["delete", "all", "--only", "web"],
        ["stop", "all", "--only", "web"],
        ["restart", "all", "--only", "web"],
    ] {
        let said = mcpm.fails(&line);
        assert!(
            said.contains("`--only` selects apps of an ecosystem file"),
            "{said}"
        );
    }
    let list = mcpm.list();
    assert!(
        list.all().len() == 2 && list.all().iter().all(|p| p.is_up()),
        "{list:#?}"
    );
}

#[test]
fn the_last_one_of_an_option_counts_and_the_shell_may_ask_for_silence() {
    let mcpm = Mcpm::start([sh("web", SLEEP)]);
    let said = mcpm.ok(&["ls", "--sort", "id", "--sort", "name"]);
    assert!(said.contains("web"), "{said}");
    let quiet = mcpm.command(&["ls"]).env("PM2_SILENT", "true").output();
    assert!(quiet.expect("mcpm").stdout.is_empty());
}
