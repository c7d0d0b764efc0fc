//! Readiness and messages: Node's channel in any language, and `NOTIFY_SOCKET`.

use serde_json::json;

use crate::harness::{App, Mcpm, sh, wait_for};

/// Says that it is ready when `go` is there, and tells how it is asked to end.
const NODE: &str = r"
const fs = require('fs');
const timer = setInterval(() => {
  if (fs.existsSync('go')) { clearInterval(timer); process.send('ready'); console.log('said it'); }
}, 10);
setInterval(() => process.send({ type: 'tick', data: 1 }), 5);
process.on('message', m => { console.log('asked by message', m); process.exit(0); });
process.on('SIGINT', () => { console.log('asked by signal'); process.exit(0); });
";

/// `true` when there is one; else says that the test was skipped.
fn is_there(program: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .output();
    let there = found.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: there is no `{program}` here");
    }
    there
}

/// One of the open sockets of a process has this abstract name.
fn holds(pid: u32, name: &str) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let named = sockets.lines().filter(|line| line.ends_with(name));
    let inodes = named.filter_map(|line| line.split_whitespace().nth(6));
    let links: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    open.any(|link| links.iter().any(|named| link.as_os_str() == named.as_str()))
}

fn node(mcpm: &Mcpm) -> App {
    let script = mcpm.write("server.js", NODE);
    sh("web", "")
        .with("/script", script)
        .with("/interpreter", "node")
        .with("/args", json!([]))
        .with("/wait_ready", true)
        .with("/listen_timeout", "1h")
        .with("/shutdown_with_message", true)
}

fn log(mcpm: &Mcpm) -> String {
    String::from_utf8_lossy(&mcpm.log("web-out.log")).into_owned()
}

#[test]
fn node_says_when_it_is_ready_and_is_asked_to_end_by_a_message() {
    if !is_there("node") {
        return;
    }
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([node(&mcpm)]);
    let mut start = mcpm.spawn(&["start", &file]);
    let list = mcpm.wait_until(|list| list.get("web").is_some_and(|web| web.pid != 0));
    assert_eq!(list["web"].status, "launching");
    mcpm.write("go", "");
    assert_eq!(start.code(), Some(0), "`start` waits for it");
    assert_eq!(mcpm.list()["web"].status, "online");
    mcpm.ok(&["stop", "web"]);
    let log = log(&mcpm);
    assert!(
        log.contains("asked by message shutdown") && !log.contains("signal"),
        "{log}"
    );
}

#[test]
fn a_child_with_a_channel_outlives_the_daemon_and_hears_the_next_one() {
    if !is_there("node") {
        return;
    }
    let mcpm = Mcpm::new();
    mcpm.write("go", "");
    let file = mcpm.ecosystem([node(&mcpm)]);
    mcpm.ok(&["start", &file]);
    let pid = mcpm.list()["web"].pid;
    mcpm.kill_daemon();
    let list = mcpm.wait_until(|list| list["web"].is_up());
    assert_eq!((list["web"].pid, list["web"].restarts), (pid, 0));
    mcpm.ok(&["stop", "web"]);
    // By message where the system lets us take the channel back, else by the signal.
    wait_for(
        || log(&mcpm).contains("asked by").then_some(()),
        "its last word",
    );
}

#[test]
fn any_language_can_say_ready() {
    let mcpm = Mcpm::new();
    let mut apps = Vec::new();
    if is_there("bash") {
        let script = "printf '\"ready\"\\n' >&\"$NODE_CHANNEL_FD\"; exec sleep 1000";
        apps.push(sh("channel", script).with("/script", "bash"));
    }
    if is_there("python3") {
        let script = "import os,socket,time\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
                      a=os.environ['NOTIFY_SOCKET']\ns.sendto(b'STATUS=up\\nREADY=1', '\\0'+a[1:])\ntime.sleep(1000)";
        apps.push(sh("notify", script).with("/script", "python3"));
    }
    let apps = apps
        .into_iter()
        .map(|app| app.with("/wait_ready", true).with("/listen_timeout", "1h"));
    let file = mcpm.ecosystem(apps);
    mcpm.ok(&["start", &file]);
    assert!(mcpm.list().all().iter().all(|process| process.is_up()));
}

#[test]
fn one_that_says_ready_under_the_next_daemon_is_heard() {
    if !is_there("python3") {
        return;
    }
    let script = "import os,socket,time\nwhile not os.path.exists('go'): time.sleep(0.02)\n\
                  s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\na=os.environ['NOTIFY_SOCKET']\n\
                  s.sendto(b'READY=1', '\\0'+a[1:])\nprint('said it', flush=True)\ntime.sleep(1000)";
    let mcpm = Mcpm::new();
    let app = sh("web", script)
        .with("/script", "python3")
        .with("/wait_ready", true)
        .with("/listen_timeout", "1h");
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file, "--no-wait"]);
    let pid = mcpm.list()["web"].pid;
    for _ in 0..2 {
        mcpm.kill_daemon();
        let list = mcpm.list();
        let web = &list["web"];
        assert_eq!((web.status.as_str(), web.pid), ("launching", pid));
        mcpm.ok(&["update"]);
        assert_eq!(mcpm.list()["web"].status, "launching");
    }
    // The name may be the old daemon's for a moment.
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    let mut variables = environment.split('\0');
    let name = variables.find_map(|variable| variable.strip_prefix("NOTIFY_SOCKET="));
    let name = name.unwrap();
    let daemon = mcpm.daemon_pid();
    wait_for(|| holds(daemon, name).then_some(()), "the name to be had");
    mcpm.write("go", "");
    wait_for(|| log(&mcpm).contains("said it").then_some(()), "its word");
    mcpm.wait_until(|list| list["web"].is_up());
    let shown = mcpm.ok(&["describe", "web"]);
    assert!(!shown.contains("has not said that it is ready"), "{shown}");
}

#[test]
fn one_that_never_says_it_counts_as_online_in_the_end_and_describe_says_so() {
    let mcpm = Mcpm::new();
    let app = sh("mute", "exec sleep 1000")
        .with("/wait_ready", true)
        .with("/listen_timeout", 50);
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file]);
    assert_eq!(mcpm.list()["mute"].status, "online");
    let shown = mcpm.ok(&["describe", "mute"]);
    assert!(
        shown.contains("has not said that it is ready after 50 ms"),
        "{shown}"
    );
}

#[test]
fn what_an_app_says_about_itself_is_in_the_lists() {
    if !is_there("bash") {
        return;
    }
    let message = r#"{"type":"axm:monitor","data":{"Users":{"value":3,"unit":"people"}}}"#;
    let script =
        format!("printf '%s\\n' '{message}' '\"ready\"' >&\"$NODE_CHANNEL_FD\"; exec sleep 1000");
    let app = sh("told", &script)
        .with("/script", "bash")
        .with("/wait_ready", true)
        .with("/listen_timeout", "1h");
    let mcpm = Mcpm::start([app]);
    let list: serde_json::Value = serde_json::from_str(&mcpm.ok(&["jlist"])).unwrap();
    let metric = &list[0]["pm2_env"]["axm_monitor"]["Users"];
    assert_eq!(*metric, json!({ "value": 3, "unit": "people" }));
    assert!(mcpm.ok(&["describe", "told"]).contains("3 people"));
    // Another run has said nothing yet.
    mcpm.ok(&["stop", "told"]);
    let list: serde_json::Value = serde_json::from_str(&mcpm.ok(&["jlist"])).unwrap();
    assert_eq!(list[0]["pm2_env"]["axm_monitor"], json!({}));
}
