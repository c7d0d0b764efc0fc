//! What restarts an app that runs: too much memory, the clock, changed files.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::{App, Mcpm, sh, wait_for};

/// A shell that holds 40 MB.
const HOG: &str = "x=$(head -c 40000000 /dev/zero | tr '\\0' a); echo full; sleep 1000";

#[test]
fn an_app_that_takes_too_much_memory_is_restarted_and_describe_says_so() {
    let mcpm = Mcpm::new();
    let child = "/bin/sh -c \"$HOG\" & wait";
    let file = mcpm.ecosystem([
        sh("hog", HOG).with("/max_memory_restart", "20M"),
        // What its group takes counts, too.
        sh("parent", child)
            .with("/env/HOG", HOG)
            .with("/max_memory_restart", "20M"),
        sh("roomy", HOG).with("/max_memory_restart", "2G"),
    ]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    let list = mcpm.wait_until(|list| list["hog"].restarts >= 1 && list["parent"].restarts >= 1);
    assert_eq!(list["roomy"].restarts, 0);
    for name in ["hog", "parent"] {
        let shown = mcpm.ok(&["describe", name]);
        let why = "and `max_memory_restart` is 20.0 MiB";
        assert!(
            shown.contains(why) && shown.contains("last restart"),
            "{shown}"
        );
    }
}

#[test]
fn cron_restarts_what_runs_starts_what_was_stopped_and_survives_the_daemon() {
    let mcpm = Mcpm::start([
        sh("ticks", "exec sleep 1000").with("/cron_restart", "* * * * * *"),
        sh("off", "exec sleep 1000").with("/cron", 0),
    ]);
    mcpm.wait_until(|list| list["ticks"].restarts >= 1);
    let shown = mcpm.ok(&["describe", "ticks"]);
    assert!(
        shown.contains("cron restart") && shown.contains("`cron_restart` `* * * * * *`"),
        "{shown}"
    );
    mcpm.ok(&["stop", "ticks"]);
    mcpm.wait_until(|list| list["ticks"].is_up());
    mcpm.kill_daemon();
    let before = mcpm.list()["ticks"].restarts;
    let list = mcpm.wait_until(|list| list["ticks"].restarts > before);
    assert_eq!(list["off"].restarts, 0);
}

#[test]
fn a_typo_in_a_pattern_is_a_mistake_with_its_place() {
    let mcpm = Mcpm::new();
    let file = mcpm.write(
        "ecosystem.json",
        "{ \"apps\": [ {\n  \"name\": \"a\", \"script\": \"/bin/true\",\n  \"cron_restart\": \"61 * * * *\",\n  \
         \"watch\": true, \"ignore_watch\": [\"a[b\"]\n} ] }",
    );
    let said = mcpm.fails(&["start", &file]);
    assert!(
        said.contains("ecosystem.json:3:19: `cron_restart` is `61 * * * *`: its minute `61`"),
        "{said}"
    );
    assert!(
        said.contains("ecosystem.json:4:") && said.contains("its `[` has no `]`"),
        "{said}"
    );
    let said = mcpm.fails(&["start", "/bin/sleep", "-c", "* * *", "--", "9"]);
    assert!(
        said.contains("`cron_restart` is `* * *`: it has 3 fields"),
        "{said}"
    );
}

/// An app that is watched, in a folder of its own.
fn watched(mcpm: &Mcpm) -> (App, PathBuf) {
    let folder = mcpm.folder().join("project");
    fs::create_dir_all(folder.join("node_modules/x")).unwrap();
    fs::create_dir_all(folder.join(".git")).unwrap();
    fs::create_dir_all(folder.join("tmp")).unwrap();
    let app = sh("web", "while :; do echo line; sleep 0.01; done")
        .with("/cwd", folder.to_str().unwrap())
        .with("/watch", true)
        .with("/ignore_watch", json!(["tmp", "**/*.bak", r"\.css$"]))
        .with("/out_file", "web.log");
    (app, folder)
}

#[test]
fn changed_files_restart_and_ignored_ones_and_logs_do_not() {
    let mcpm = Mcpm::new();
    let (app, folder) = watched(&mcpm);
    let file = mcpm.ecosystem([app, sh("other", "exec sleep 1000")]);
    mcpm.ok(&["start", &file]);
    let log = folder.join("web.log");
    wait_for(
        || (log.metadata().ok()?.len() > 20).then_some(()),
        "output into the watched folder",
    );
    for ignored in [
        ".git/HEAD",
        "node_modules/x/i.js",
        "tmp/a.js",
        "old.bak",
        "a.css",
        ".env",
    ] {
        fs::write(folder.join(ignored), "x").unwrap();
    }
    fs::write(folder.join("app.js"), "x").unwrap();
    mcpm.wait_until(|list| list["web"].restarts == 1 && list["web"].is_up());
    let shown = mcpm.ok(&["describe", "web"]);
    assert!(shown.contains("`app.js` changed (`watch`)"), "{shown}");

    // A folder that came later; a file that an editor replaces; a file that is removed.
    fs::create_dir_all(folder.join("lib/deep")).unwrap();
    mcpm.wait_until(|list| list["web"].restarts == 2 && list["web"].is_up());
    fs::write(folder.join("lib/deep/b.js"), "x").unwrap();
    mcpm.wait_until(|list| list["web"].restarts == 3 && list["web"].is_up());
    let shown = mcpm.ok(&["describe", "web"]);
    assert!(
        shown.contains("`lib/deep/b.js` changed (`watch`)"),
        "{shown}"
    );
    fs::write(folder.join("tmp/new"), "y").unwrap();
    fs::rename(folder.join("tmp/new"), folder.join("app.js")).unwrap();
    mcpm.wait_until(|list| list["web"].restarts == 4 && list["web"].is_up());
    fs::remove_file(folder.join("app.js")).unwrap();
    let list = mcpm.wait_until(|list| list["web"].restarts == 5 && list["web"].is_up());
    assert_eq!(list["other"].restarts, 0);
    assert!(mcpm.ok(&["ls"]).contains("enabled"));
}

#[test]
fn a_stop_keeps_the_watch_for_the_next_start_and_starts_nothing() {
    let mcpm = Mcpm::new();
    let (app, folder) = watched(&mcpm);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file]);
    mcpm.ok(&["stop", "web"]);
    fs::write(folder.join("app.js"), "x").unwrap();
    // Another app's restart by its file shows that changes have been dealt with.
    let other = mcpm.write_program("other.sh", "#!/bin/sh\nexec sleep 1000\n");
    mcpm.ok(&["start", &other, "--name", "other", "--watch", &other]);
    mcpm.write_program("other.sh", "#!/bin/sh\nexec sleep 2000\n");
    let list = mcpm.wait_until(|list| list["other"].restarts >= 1);
    assert_eq!(list["web"].status, "stopped");
    let before = list["web"].restarts;
    mcpm.ok(&["start", "web"]);
    fs::write(folder.join("app.js"), "y").unwrap();
    mcpm.wait_until(|list| list["web"].restarts > before);
    // The next daemon watches as well.
    mcpm.kill_daemon();
    let before = mcpm.wait_until(|list| list["web"].is_up())["web"].restarts;
    wait_for(
        || {
            fs::write(folder.join("app.js"), "z").unwrap();
            (mcpm.list()["web"].restarts > before).then_some(())
        },
        "a restart under the next daemon",
    );
}
