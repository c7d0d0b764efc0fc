//! What a word on the command line means, for every verb that takes one.

use crate::harness::{Mcpm, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

fn fleet() -> Mcpm {
    Mcpm::start([
        sh("web-1", SLEEP).with("/namespace", "front"),
        sh("web-2", SLEEP).with("/namespace", "front"),
        sh("api", SLEEP),
    ])
}

fn statuses(mcpm: &Mcpm) -> String {
    let list = mcpm.list();
    let words = list
        .all()
        .iter()
        .map(|p| format!("{}={}", p.name, p.status));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn patterns_and_namespaces_reach_their_processes() {
    let mcpm = fleet();
    mcpm.ok(&["stop", "/^web-/"]);
    assert_eq!(statuses(&mcpm), "web-1=stopped web-2=stopped api=online");
    mcpm.ok(&["start", "/-2$/"]);
    assert_eq!(statuses(&mcpm), "web-1=stopped web-2=online api=online");
    mcpm.ok(&["restart", "front"]);
    assert_eq!(statuses(&mcpm), "web-1=online web-2=online api=online");
    mcpm.ok(&["delete", "/web/"]);
    assert_eq!(statuses(&mcpm), "api=online");
    for (word, said) in [("/web/", "`/web/`"), ("/(/", "no regular expression")] {
        let refused = mcpm.fails(&["restart", word]);
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn verbs_where_pm2_forgot_take_them_too() {
    let mcpm = fleet();
    let shown = mcpm.ok(&["describe", "front", "/api/"]);
    assert_eq!(shown.matches("Describing process").count(), 3, "{shown}");
    for word in ["all", "front", "/./", "0"] {
        mcpm.ok(&["flush", word]);
    }
    let logs = mcpm.ok(&["logs", "front", "--nostream"]);
    assert!(
        logs.contains("web-1-out.log") && !logs.contains("api-out.log"),
        "{logs}"
    );
    let logs = mcpm.ok(&["logs", "/-2$/", "api", "--nostream"]);
    assert!(
        logs.contains("web-2-out.log") && logs.contains("api-out.log"),
        "{logs}"
    );
    assert!(!logs.contains("web-1-out.log"), "{logs}");
    let refused = mcpm.fails(&["logs", "/(/", "--nostream"]);
    assert!(refused.contains("no regular expression"), "{refused}");
}

#[test]
fn every_target_is_done_and_one_that_fails_fails_the_command() {
    let mcpm = fleet();
    let ran = mcpm.run(&["stop", "nobody", "web-1", "99", "api"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    for word in ["`nobody`", "`99`"] {
        assert!(ran.stderr.contains(word), "{ran}");
    }
    assert_eq!(statuses(&mcpm), "web-1=stopped web-2=online api=stopped");

    let refused = mcpm.fails(&["start", "missing.js", "web-1", "api"]);
    assert!(refused.contains("missing.js"), "{refused}");
    assert_eq!(statuses(&mcpm), "web-1=online web-2=online api=online");
}

#[test]
fn a_script_is_known_by_its_path_as_the_shell_sees_it() {
    let mcpm = Mcpm::new();
    mcpm.write_program("serve.sh", "#!/bin/sh\nexec sleep 1000\n");
    mcpm.ok(&["start", "serve.sh", "--name", "web"]);
    mcpm.ok(&["stop", "./serve.sh"]);
    let stopped = || (mcpm.list()["web"].status == "stopped").then_some(());
    wait_for(stopped, "its end");
    let shown = mcpm.ok(&["describe", "serve.sh"]);
    assert!(shown.contains("name web"), "{shown}");
}
