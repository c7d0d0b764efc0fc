//! What is added to lines, and where they go besides their own file.

use serde_json::Value;

use crate::harness::{Mcpm, sh, wait_for};

const SLEEP: &str = "exec sleep 1000";

fn wait_for_line(mcpm: &Mcpm, name: &str) -> String {
    let line = wait_for(
        || Some(mcpm.log(name)).filter(|log| log.ends_with(b"\n")),
        "a line",
    );
    String::from_utf8(line).unwrap()
}

#[test]
fn times_and_json_are_stored_as_pm2_stores_them() {
    let hello = format!("echo hello; {SLEEP}");
    let mcpm = Mcpm::start([
        sh("time", &hello).with("/time", true),
        sh("date", &hello).with("/log_date_format", "[on] YYYY-MM-DD Z"),
        sh("json", &hello).with("/log_type", "json"),
    ]);
    let line = wait_for_line(&mcpm, "time-out.log");
    let (time, text) = line.split_once(": ").unwrap();
    assert_eq!(
        (time.len(), &time[10..11], text),
        (19, "T", "hello\n"),
        "{line}"
    );
    let line = wait_for_line(&mcpm, "date-out.log");
    assert!(
        line.starts_with("on 20") && line.ends_with(":00: hello\n"),
        "{line}"
    );
    let line = wait_for_line(&mcpm, "json-out.log");
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (
            &object["message"],
            &object["type"],
            &object["process_id"],
            &object["app_name"]
        ),
        (&"hello\n".into(), &"out".into(), &2.into(), &"json".into())
    );
    assert!(
        object["timestamp"].as_str().unwrap().ends_with('Z'),
        "{line}"
    );
    let list: Value = serde_json::from_str(&mcpm.ok(&["jlist"])).unwrap();
    assert_eq!(list[0]["pm2_env"]["log_date_format"], "YYYY-MM-DDTHH:mm:ss");
    assert_eq!(list[2]["pm2_env"]["log_type"], "json");
}

#[test]
fn the_combined_log_has_both_streams_and_disabled_logs_are_nowhere() {
    let both = format!("echo out; echo err >&2; {SLEEP}");
    let mcpm = Mcpm::start([
        sh("web", &both).with("/log_file", true),
        sh("home", &both)
            .with("/combine_logs", true)
            .with("/log_file", "~/all.log"),
        sh("silent", "while :; do echo hush; sleep 0.02; done").with("/disable_logs", true),
    ]);
    let has_both = |log: &[u8]| {
        let text = String::from_utf8_lossy(log);
        text.contains("out\n") && text.contains("err\n")
    };
    wait_for(
        || has_both(&mcpm.log("web.log")).then_some(()),
        "both streams",
    );
    let at_home = || std::fs::read(mcpm.folder().join("all.log")).unwrap_or_default();
    wait_for(|| has_both(&at_home()).then_some(()), "both streams");
    assert_eq!(mcpm.log("web-out.log"), b"out\n");
    let list: Value = serde_json::from_str(&mcpm.ok(&["jlist"])).unwrap();
    let path = list[0]["pm2_env"]["pm_log_path"].as_str().unwrap();
    assert!(path.ends_with("/logs/web.log"), "{path}");
    assert!(mcpm.ok(&["describe", "web"]).contains("entire log path"));
    mcpm.ok(&["flush", "web"]);
    assert_eq!(mcpm.log("web.log"), b"");
    // Who follows it hears nothing of it, while others are heard.
    let logs = mcpm.spawn(&["logs", "silent", "web", "--raw", "--lines", "0"]);
    let heard = std::cell::Cell::new(false);
    wait_for(
        || {
            mcpm.ok(&["restart", "web"]);
            (mcpm.log("web-out.log").len() >= 8).then_some(())
        },
        "lines of the other one",
    );
    logs.line(|line| {
        heard.set(heard.get() || line == "hush");
        line == "out"
    });
    assert!(!heard.get() && !mcpm.home().join("logs/silent-out.log").exists());
}

#[test]
fn json_history_has_the_time_of_a_line_or_none() {
    let dated =
        sh("dated", "echo hi; exec sleep 1000").with("/log_date_format", "YYYY-MM-DD HH:mm:ss Z");
    let mcpm = Mcpm::start([dated, sh("plain", "echo hi; exec sleep 1000")]);
    for name in ["dated", "plain"] {
        wait_for_line(&mcpm, &format!("{name}-out.log"));
    }
    let history = |name: &str| -> Value {
        serde_json::from_str(&mcpm.ok(&["logs", name, "--json", "--nostream"])).unwrap()
    };
    let line = history("dated");
    let time = line["timestamp"].as_str().expect("a time");
    // To the second, as the line has it.
    assert!(time.ends_with(".000Z"), "{line}");
    assert_eq!(history("plain")["timestamp"], Value::Null);
}

#[test]
fn logs_has_pm2s_flags() {
    let tick = "while :; do echo oh tick; sleep 0.05; done";
    let mcpm = Mcpm::start([sh("a", tick), sh("b", tick), sh("c", tick)]);
    let logs = mcpm.spawn(&["logs", "a", "1", "--format"]);
    let line = logs.line(|line| line.contains(" app=b id=1 type=out message=oh tick"));
    assert!(line.starts_with("timestamp=20"), "{line}");
    logs.line(|line| {
        assert!(!line.contains("app=c"), "{line}");
        line.contains(" app=a id=0 ")
    });
    let logs = mcpm.spawn(&["logs", "c", "--lines", "0", "--timestamp", "[at] ss"]);
    let line = logs.line(|line| line.ends_with("oh tick"));
    assert!(
        line.starts_with("at ") && line.contains(" 2|c        | "),
        "{line}"
    );
    let logs = mcpm.spawn(&["logs", "--lines", "0"]);
    logs.line(|line| line.ends_with("oh tick"));
    mcpm.ok(&["reloadLogs"]);
    logs.line(|line| line.starts_with("PM2        | ") && line.contains("opened all logs anew"));
    let error = mcpm.fails(&["logs", "a", "nobody", "--nostream"]);
    assert!(error.contains("`nobody`"), "{error}");
}
