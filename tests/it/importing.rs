//! Coming from PM2: its saved list, and its running processes.
//!
//! A stand-in speaks PM2's protocol with what the real one has been seen to send; the real one is
//! asked as well where there is one (`pm2` in `PATH`, or `MCPM_TEST_PM2`).

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{Mcpm, reserve, wait_for};

/// An entry of PM2's list, as PM2 7 makes it of a shell script.
fn entry(mcpm: &Mcpm, pm_id: u64, name: &str, script: &str) -> Value {
    let home = mcpm.folder().join("pm2");
    json!({
        "name": name, "pm_exec_path": script, "pm_cwd": mcpm.folder(), "pm_id": pm_id,
        "exec_interpreter": "sh", "exec_mode": "fork_mode", "node_args": [], "instances": 1,
        "namespace": "default", "merge_logs": true, "vizion": true, "autostart": true,
        "autorestart": true, "treekill": true, "instance_var": "NODE_APP_INSTANCE",
        "NODE_APP_INSTANCE": 0, "status": "online", "username": "u", "kill_timeout": 3000,
        "pm_out_log_path": home.join(format!("logs/{name}-out.log")),
        "pm_err_log_path": home.join(format!("logs/{name}-error.log")),
        "pm_pid_path": home.join(format!("pids/{name}-{pm_id}.pid")),
        "env": {
            "PATH": std::env::var("PATH").unwrap(), "GREETING": "hello", "PM2_HOME": home,
            "PM2_USAGE": "CLI", name: "{}", "unique_id": "6ba7b810",
        },
    })
}

fn tell(mcpm: &Mcpm) -> String {
    mcpm.write_program(
        "tell.sh",
        "echo \"$GREETING [$PM2_USAGE] [$one]\"; exec sleep 1000\n",
    )
}

/// PM2's home of this test; made when it is asked for.
fn pm2_home(mcpm: &Mcpm) -> PathBuf {
    let home = mcpm.folder().join("pm2");
    fs::create_dir_all(&home).unwrap();
    home
}

fn import(mcpm: &Mcpm, args: &[&str]) -> crate::harness::Ran {
    let mut command = mcpm.command(&["import", "pm2"]);
    command.args(args).env("PM2_HOME", pm2_home(mcpm));
    crate::harness::run(command, "")
}

/// What answers on PM2's socket; its list shrinks as it is told to forget processes.
struct Pm2 {
    list: Arc<Mutex<Vec<Value>>>,
}

impl Pm2 {
    fn start(home: &Path, list: Vec<Value>) -> Self {
        let listener = UnixListener::bind(home.join("rpc.sock")).unwrap();
        let list = Arc::new(Mutex::new(list));
        let shared = list.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let list = shared.clone();
                std::thread::spawn(move || answer(stream, &list));
            }
        });
        Self { list }
    }

    fn names(&self) -> Vec<String> {
        let list = self.list.lock().unwrap();
        list.iter()
            .map(|entry| entry["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Reads calls and answers them, in the bytes that PM2 7.0.4 uses.
fn answer(mut stream: UnixStream, list: &Mutex<Vec<Value>>) -> Option<()> {
    loop {
        let mut first = [0];
        stream.read_exact(&mut first).ok()?;
        assert_eq!(first[0], 0x12, "version 1, two parts");
        let mut part = || {
            let mut length = [0; 4];
            stream.read_exact(&mut length).ok()?;
            let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut bytes).ok()?;
            String::from_utf8(bytes).ok()
        };
        let (call, id) = (part()?, part()?);
        let call: Value = serde_json::from_str(call.strip_prefix("j:")?).ok()?;
        let mut list = list.lock().unwrap();
        let answer = match call["method"].as_str()? {
            "getMonitorData" => {
                let shown = list.iter().map(|entry| {
                    json!({ "pid": 1, "name": entry["name"], "pm2_env": entry, "pm_id": entry["pm_id"] })
                });
                json!({ "args": [shown.collect::<Value>()] })
            }
            "stopWatch" => json!({ "args": [] }),
            "deleteProcessId" => {
                let before = list.len();
                list.retain(|entry| entry["pm_id"] != call["args"][0]);
                if list.len() < before {
                    json!({ "args": [{}] })
                } else {
                    json!({ "error": format!("{} : id unknown", call["args"][0]), "stack": "…" })
                }
            }
            other => json!({ "error": format!("method \"{other}\" does not exist") }),
        };
        let body = format!("j:{answer}");
        let mut bytes = vec![0x12];
        for part in [body.as_str(), id.as_str()] {
            bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        stream.write_all(&bytes).ok()?;
    }
}

#[test]
fn a_saved_list_becomes_apps_of_the_same_names_and_variables() {
    let mcpm = Mcpm::new();
    let script = tell(&mcpm);
    let mut second = entry(&mcpm, 1, "twin", &script);
    second["NODE_APP_INSTANCE"] = json!(1);
    let mut stopped = entry(&mcpm, 3, "idle", &script);
    stopped["status"] = json!("stopped");
    let module =
        json!({"name": "pm2-logrotate", "pmx_module": true, "pm_exec_path": "/x", "pm_cwd": "/"});
    let list = json!([
        entry(&mcpm, 0, "twin", &script),
        second,
        entry(&mcpm, 2, "one", &script),
        stopped,
        module
    ]);
    let dump = mcpm.write("saved.pm2", &list.to_string());
    let ran = import(&mcpm, &[&dump]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(
        ran.stderr.contains("pm2-logrotate: it is a module"),
        "{ran}"
    );
    let list = mcpm.list();
    let names: Vec<_> = list
        .all()
        .iter()
        .map(|p| (p.name.clone(), p.status.clone()))
        .collect();
    let expected = [
        ("twin", "online"),
        ("twin", "online"),
        ("one", "online"),
        ("idle", "stopped"),
    ];
    assert_eq!(names, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let said = wait_for(
        || {
            Some(String::from_utf8_lossy(&mcpm.log("one-out.log")).into_owned())
                .filter(|s| !s.is_empty())
        },
        "its greeting",
    );
    assert_eq!(
        said, "hello [] []\n",
        "PM2's own variables are not passed on"
    );
    // Once more: what is listed is left alone.
    let again = import(&mcpm, &[&dump]);
    assert_eq!(again.code, Some(0), "{again}");
    assert!(
        again.stderr.contains("one: it is listed here already"),
        "{again}"
    );
    assert_eq!(mcpm.list()["one"].restarts, 0);
}

#[test]
fn a_running_pm2_is_left_alone_unless_it_is_taken_over() {
    let mcpm = Mcpm::new();
    let script = tell(&mcpm);
    let home = pm2_home(&mcpm);
    let mut gone = entry(&mcpm, 1, "gone", "/nonexistent/gone.sh");
    gone["exec_interpreter"] = json!("none");
    let pm2 = Pm2::start(&home, vec![entry(&mcpm, 0, "web", &script), gone]);
    let refused = import(&mcpm, &[]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(
        refused.stderr.contains("PM2 runs 1 of these processes"),
        "{refused}"
    );
    let shown = import(&mcpm, &["--dry-run"]);
    assert!(
        shown.stdout.contains("forget: 0\n") && shown.stdout.contains("✗ gone: "),
        "{shown}"
    );
    assert_eq!(pm2.names(), ["web", "gone"], "nothing has happened so far");
    let taken = import(&mcpm, &["--take-over"]);
    assert_eq!(taken.code, Some(1), "one app has no script: {taken}");
    assert!(taken.stdout.contains("PM2 has ended 1 process"), "{taken}");
    assert_eq!(
        pm2.names(),
        ["gone"],
        "what can't be started here goes on there"
    );
    assert!(mcpm.list()["web"].is_up());
    let saved = fs::read_to_string(home.join("dump.pm2")).unwrap();
    let saved: Vec<Value> = serde_json::from_str(&saved).unwrap();
    assert_eq!(saved.len(), 2, "`pm2 resurrect` brings back all of them");
    assert!(saved[0].get("pm_id").is_none() && saved[0]["env"]["GREETING"] == "hello");
}

#[test]
fn without_a_running_pm2_its_saved_list_counts_and_that_is_said() {
    let mcpm = Mcpm::new();
    let none = import(&mcpm, &[]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("no PM2 runs in"), "{none}");
    let list = json!([entry(&mcpm, 0, "web", &tell(&mcpm))]);
    fs::write(pm2_home(&mcpm).join("dump.pm2"), list.to_string()).unwrap();
    let shown = import(&mcpm, &["--dry-run", "--json"]);
    assert_eq!(shown.code, Some(0), "{shown}");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert!(
        shown["source"].as_str().unwrap().contains("none runs in"),
        "{shown}"
    );
    assert_eq!(shown["apps"][0]["app"]["env"]["GREETING"], "hello");
}

#[test]
fn a_folder_is_refused_and_the_reason_told_once() {
    let mcpm = Mcpm::new();
    let ran = import(&mcpm, &["."]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert_eq!(ran.stderr.matches("irectory").count(), 1, "{ran}");
}

#[test]
fn an_ecosystem_file_can_be_written_instead() {
    let mcpm = Mcpm::new();
    let list = json!([entry(&mcpm, 0, "web", &tell(&mcpm))]);
    let dump = mcpm.write("saved.pm2", &list.to_string());
    let file = mcpm.folder().join("made.json");
    let file = file.to_str().unwrap();
    let ran = import(&mcpm, &[&dump, "--write", file]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let text = fs::read_to_string(file).unwrap();
    assert!(!text.contains("PATH\"") && text.contains("hello"), "{text}");
    let again = import(&mcpm, &[&dump, "--write", file]);
    assert_eq!(
        again.code,
        Some(1),
        "what is there is not written over: {again}"
    );
    mcpm.ok(&["start", file]);
    assert!(mcpm.list()["web"].is_up());
}

#[test]
fn a_socket_that_speaks_something_else_is_named() {
    let mcpm = Mcpm::new();
    let listener = UnixListener::bind(pm2_home(&mcpm).join("rpc.sock")).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let ran = import(&mcpm, &["--dry-run"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("cannot understand the PM2 behind"),
        "{ran}"
    );
}

/// The real one, when there is one; else says that the test was skipped.
fn real_pm2() -> Option<String> {
    let named = std::env::var("MCPM_TEST_PM2").ok();
    let found = named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        let mut folders = std::env::split_paths(&path).map(|folder| folder.join("pm2"));
        Some(folders.find(|file| file.is_file())?.to_str()?.to_owned())
    });
    if found.is_none() {
        eprintln!("skipped: there is no `pm2` here; MCPM_TEST_PM2 may name one");
    }
    found
}

/// Ends the real PM2 with the test.
struct RealPm2<'a> {
    program: String,
    mcpm: &'a Mcpm,
}

impl RealPm2<'_> {
    fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(self.mcpm.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.mcpm.folder())
            .env("PM2_HOME", pm2_home(self.mcpm));
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for RealPm2<'_> {
    fn drop(&mut self) {
        self.run(&["kill"]);
    }
}

fn greeting(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.rsplit("\r\n\r\n").next()?.to_owned())
}

#[test]
fn the_real_pm2_hands_over_and_takes_back() {
    let Some(program) = real_pm2() else { return };
    let mcpm = Mcpm::new();
    let pm2 = RealPm2 {
        program,
        mcpm: &mcpm,
    };
    let port = reserve();
    let number = port.number();
    assert!(TcpListener::bind(("127.0.0.1", number)).is_ok());
    mcpm.write(
        "web.js",
        "require('http').createServer((q, s) => s.end(process.env.GREETING + process.ppid))\
         .listen(process.env.PORT, '127.0.0.1');",
    );
    let app = json!({ "apps": [
        { "name": "web", "script": "./web.js", "env": { "PORT": number, "GREETING": "hello " } },
        { "name": "idle", "script": "./web.js", "autostart": false },
    ]});
    let file = mcpm.write("ecosystem.json", &app.to_string());
    pm2.run(&["start", &file]);
    let before = wait_for(|| greeting(number), "PM2's web");
    let taken = import(&mcpm, &["--take-over"]);
    assert_eq!(taken.code, Some(0), "{taken}");
    let after = wait_for(|| greeting(number), "our web");
    assert!(
        after.starts_with("hello ") && after != before,
        "{before} {after}"
    );
    assert_eq!(mcpm.list()["idle"].status, "stopped");
    assert_eq!(
        pm2.run(&["jlist"]).lines().last(),
        Some("[]"),
        "PM2 has let go"
    );
    // And back again.
    mcpm.ok(&["delete", "all"]);
    pm2.run(&["resurrect"]);
    let back = wait_for(|| greeting(number), "PM2's web again");
    assert!(back.starts_with("hello ") && back != after, "{back}");
}
