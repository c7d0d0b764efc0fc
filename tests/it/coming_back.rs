//! What is listed and at rest comes back as it was, and a file whose scripts are gone still names its
//! apps.

use std::fs;

use crate::harness::{Mcpm, is_alive, sh};

const LOOP: &str = "#!/bin/sh\nwhile :; do sleep 1; done\n";

#[test]
fn a_script_that_is_started_again_keeps_its_settings_and_its_number() {
    let mcpm = Mcpm::new();
    let script = mcpm.write_program("loop.sh", LOOP);
    mcpm.ok(&[
        "start",
        &script,
        "-n",
        "web",
        "-i",
        "2",
        "--namespace",
        "front",
        "--kill-timeout",
        "5000",
        "--",
        "a",
        "b c",
    ]);
    mcpm.ok(&["stop", "web"]);
    mcpm.ok(&["start", &script, "-n", "web"]);
    let list = mcpm.list();
    assert_eq!(list.all().len(), 2);
    for process in list.all() {
        assert!(process.is_up());
        let env = &process.raw["pm2_env"];
        assert_eq!(env["namespace"], "front");
        assert_eq!(env["kill_timeout"], 5000);
        assert_eq!(env["args"], serde_json::json!(["a", "b c"]));
    }
    // What is said now counts.
    mcpm.ok(&["stop", "web"]);
    mcpm.ok(&["start", &script, "-n", "web", "--kill-timeout", "4000"]);
    let list = mcpm.list();
    assert_eq!(list.all().len(), 2);
    assert_eq!(list.all()[1].raw["pm2_env"]["kill_timeout"], 4000);
    assert_eq!(list.all()[1].raw["pm2_env"]["namespace"], "front");
    // By force a second one comes beside one that runs, and in the place of one that does not.
    mcpm.ok(&["stop", "web"]);
    mcpm.ok(&["start", &script, "-n", "web", "-f"]);
    assert_eq!(mcpm.list().all().len(), 2);
    mcpm.ok(&["start", &script, "-n", "web", "-f"]);
    assert_eq!(mcpm.list().all().len(), 3);
}

#[test]
fn each_run_has_its_unique_id() {
    let mcpm = Mcpm::start([sh("web", "echo $unique_id; exec sleep 1000")]);
    let id = |mcpm: &Mcpm| mcpm.list()["web"].raw["pm2_env"]["unique_id"].clone();
    let first = id(&mcpm);
    assert_eq!(first.as_str().map(str::len), Some(36), "{first}");
    mcpm.ok(&["restart", "web"]);
    assert_ne!(id(&mcpm), first);
}

#[test]
fn apps_whose_script_is_gone_are_stopped_and_deleted_by_their_file() {
    let mcpm = Mcpm::new();
    mcpm.write_program("one.sh", LOOP);
    mcpm.write_program("two.sh", LOOP);
    let apps =
        r#"{"apps": [{"name": "one", "script": "one.sh"}, {"name": "two", "script": "two.sh"}]}"#;
    let file = mcpm.write("ecosystem.json", apps);
    mcpm.ok(&["start", &file]);
    let pid = mcpm.list()["two"].pid;
    fs::remove_file(mcpm.folder().join("two.sh")).unwrap();
    let said = mcpm.ok(&["stop", &file]);
    assert!(said.contains("✓ stopped two"), "{said}");
    assert!(!is_alive(pid));
    mcpm.ok(&["delete", &file]);
    assert!(mcpm.list().all().is_empty());
}

#[test]
fn one_app_that_cannot_be_started_keeps_no_other_from_being_reloaded() {
    let mcpm = Mcpm::new();
    let script = mcpm.write_program("one.sh", LOOP);
    mcpm.ok(&["start", &script, "-n", "one"]);
    let apps =
        r#"{"apps": [{"name": "one", "script": "one.sh"}, {"name": "lost", "script": "lost.sh"}]}"#;
    let file = mcpm.write("ecosystem.json", apps);
    for verb in ["reload", "startOrReload"] {
        let before = mcpm.list()["one"].pid;
        let refused = mcpm.fails(&[verb, &file]);
        assert!(refused.contains("lost"), "{refused}");
        let list = mcpm.list();
        assert!(list["one"].is_up() && list["one"].pid != before, "{list:?}");
    }
}

#[test]
fn what_of_a_saved_list_is_no_app_is_named() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    mcpm.ok(&["save"]);
    mcpm.ok(&["delete", "all"]);
    let dump = mcpm.home().join("dump.pm2");
    let mut list: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(&dump).unwrap()).unwrap();
    list.push(3.into());
    fs::write(&dump, serde_json::to_vec(&list).unwrap()).unwrap();
    let refused = mcpm.fails(&["resurrect"]);
    assert!(refused.contains("entry 1 of `"), "{refused}");
    assert!(mcpm.list()["web"].is_up());
    fs::write(&dump, "[3]").unwrap();
    let refused = mcpm.fails(&["resurrect"]);
    assert!(!refused.contains("is empty"), "{refused}");
}

#[test]
fn an_option_that_selects_is_told_to_have_no_effect_with_a_script() {
    let mcpm = Mcpm::new();
    let script = mcpm.write_program("loop.sh", LOOP);
    for (name, option) in [("one", ["--only", "web"]), ("two", ["--env", "production"])] {
        let ran = mcpm.run(&["start", &script, "-n", name, option[0], option[1]]);
        assert_eq!(ran.code, Some(0), "{ran}");
        assert!(ran.stderr.contains("has no effect here"), "{ran}");
    }
}
