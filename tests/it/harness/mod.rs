//! One mcpm for one test: its own home, ports and processes, all gone when it is dropped.
//!
//! A test says what it wants (`apps.rs`), lets the real binary do it (`Mcpm::run` and its kin), and
//! waits for states (`Mcpm::wait_until`), never for times. When a test fails, the daemon's log is
//! printed.

mod apps;
mod command;
mod consent;
mod http;
mod issuer;
mod list;
mod ports;
mod puppet;
#[path = "../../../src/identity/testing.rs"]
mod tokens;
mod wait;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use apps::{App, demo, job, server, service, sh, stateful};
pub(crate) use command::{Ran, Running, in_terminal, run};
pub(crate) use consent::{CLIENT_SECRET, Provider};
pub(crate) use http::{Answer, Body, raw, request};
pub(crate) use issuer::{Issuer, claims};
pub(crate) use list::{List, Process};
pub(crate) use ports::{Port, reserve};
pub(crate) use tokens::Signer;
pub(crate) use wait::{eventually, wait_for};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mcpm");

/// A home with whatever runs in it.
pub(crate) struct Mcpm {
    /// Holds `home` and the files that a test writes.
    folder: TempDir,
    listen: Port,
    /// Kept until the end, so that no other test takes them.
    _apps: RefCell<Vec<App>>,
    tokens: RefCell<HashMap<String, String>>,
}

impl Mcpm {
    /// An empty home; nothing runs.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("mcpm-it-")
            .tempdir()
            .expect("a temporary folder");
        Self {
            folder,
            listen: reserve(),
            _apps: RefCell::default(),
            tokens: RefCell::default(),
        }
    }

    /// These apps, started from an ecosystem file and ready.
    #[track_caller]
    pub(crate) fn start(apps: impl IntoIterator<Item = App>) -> Self {
        let mcpm = Self::new();
        let file = mcpm.ecosystem(apps);
        mcpm.ok(&["start", &file]);
        mcpm
    }

    /// Writes the apps to `ecosystem.json` and returns its path.
    pub(crate) fn ecosystem(&self, apps: impl IntoIterator<Item = App>) -> String {
        let apps: Vec<App> = apps.into_iter().collect();
        let values: Vec<&Value> = apps.iter().map(App::value).collect();
        let text = serde_json::to_string_pretty(&json!({ "apps": values })).unwrap();
        self._apps.borrow_mut().extend(apps);
        self.write("ecosystem.json", &text)
    }

    /// Writes a file beside the home and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str()
            .expect("temporary folders are UTF-8")
            .to_owned()
    }

    /// Writes a program beside the home and returns its path.
    pub(crate) fn write_program(&self, name: &str, text: &str) -> String {
        let path = self.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The folder beside whose `home` files are written; commands run in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `$MCPM_HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A log file of the home's `logs` folder as it is now; empty while it is not there.
    pub(crate) fn log(&self, name: &str) -> Vec<u8> {
        fs::read(self.home().join("logs").join(name)).unwrap_or_default()
    }

    /// What the daemon has logged so far.
    pub(crate) fn daemon_log(&self) -> String {
        let log = fs::read(self.home().join("mcpm.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The daemon's pid, as its file says.
    #[track_caller]
    pub(crate) fn daemon_pid(&self) -> u32 {
        let text = fs::read_to_string(self.home().join("mcpm.pid")).expect("a daemon's pid file");
        text.trim().parse().expect("a number")
    }

    /// Ends the daemon as a crash would, and waits until its last thread is gone: until then its
    /// socket takes connections.
    #[track_caller]
    pub(crate) fn kill_daemon(&self) {
        kill(self.daemon_pid(), "KILL");
        let socket = self.home().join("mcpm.sock");
        let refused = || std::os::unix::net::UnixStream::connect(&socket).is_err();
        wait_for(|| refused().then_some(()), "the daemon's socket to be dead");
    }

    /// `http://127.0.0.1:PORT` of the router and the API.
    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.listen)
    }

    /// A command line with this home's environment and nothing else of ours.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("MCPM_HOME", self.home())
            .env("MCPM_LISTEN", format!("127.0.0.1:{}", self.listen));
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    /// Runs a command that reads this from stdin.
    #[track_caller]
    pub(crate) fn run_with(&self, args: &[&str], stdin: &str) -> Ran {
        command::run(self.command(args), stdin)
    }

    /// Runs a command that must succeed; returns its stdout.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "mcpm {}: {ran}", args.join(" "));
        ran.stdout
    }

    /// Runs a command that must be refused with exit code 1; returns its stderr.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(1), "mcpm {}: {ran}", args.join(" "));
        ran.stderr
    }

    /// Starts a command that goes on, such as `logs`.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// What `jlist` says now.
    #[track_caller]
    pub(crate) fn list(&self) -> List {
        List::parse(&self.ok(&["jlist"]))
    }

    /// Waits until the list is as it should be, and returns it.
    #[track_caller]
    pub(crate) fn wait_until(&self, wanted: impl Fn(&List) -> bool) -> List {
        let mut list = self.list();
        let reached = eventually(|| {
            let there = wanted(&list);
            if !there {
                list = self.list();
            }
            there
        });
        assert!(reached, "the list never became what was wanted: {list:#?}");
        list
    }

    /// A user's token; the user is added when it is asked for the first time.
    #[track_caller]
    pub(crate) fn token(&self, user: &str) -> String {
        let mut tokens = self.tokens.borrow_mut();
        let add = || self.ok(&["users", "add", user]).trim().to_owned();
        tokens.entry(user.to_owned()).or_insert_with(add).clone()
    }

    /// Gives the user an instance of the service, with the key `USER-key`; returns its URL.
    #[track_caller]
    pub(crate) fn instance(&self, user: &str, service: &str) -> String {
        let path = format!("/api/v1/services/{service}/authenticate");
        let body = json!({ "apiKey": format!("{user}-key") });
        let answer = self.api(user, "POST", &path, &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        answer["instanceUrl"].as_str().expect("a URL").to_owned()
    }

    /// A call of the REST API with the user's token.
    #[track_caller]
    pub(crate) fn api(&self, user: &str, method: &str, path: &str, body: &str) -> Answer {
        let token = format!("Bearer {}", self.token(user));
        let url = format!("{}{path}", self.origin());
        let headers = [
            ("Authorization", token.as_str()),
            ("Content-Type", "application/json"),
        ];
        http::request(method, &url, &headers, body.as_bytes()).read()
    }

    /// Asks once and reads the whole answer.
    #[track_caller]
    pub(crate) fn get(&self, url: &str) -> Answer {
        http::request("GET", url, &[], b"").read()
    }

    /// Sends a body and leaves the answer's body to be read piece by piece.
    #[track_caller]
    pub(crate) fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Body {
        http::request(method, url, headers, body)
    }

    /// Ends everything that carries this home in its environment: the daemon first, so that it
    /// brings nothing back.
    fn end(&self) {
        let home = self.home();
        if let Ok(pid) = fs::read_to_string(home.join("mcpm.lock"))
            && let Ok(pid) = pid.trim().parse()
            && belongs_to(pid, &home)
        {
            kill(pid, "KILL");
        }
        let all_gone = eventually(|| {
            let left = processes_of(&home);
            left.iter().for_each(|&pid| send_signal(pid, "KILL"));
            left.is_empty()
        });
        if !all_gone {
            eprintln!(
                "processes of {} are left: {:?}",
                home.display(),
                processes_of(&home)
            );
        }
    }
}

impl Drop for Mcpm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── the daemon's log ──\n{}──", self.daemon_log());
        }
        self.end();
    }
}

/// Sends a signal to one process and, when it must die of it, waits until it has.
#[track_caller]
pub(crate) fn kill(pid: u32, signal: &str) {
    send_signal(pid, signal);
    if signal == "KILL" {
        wait_for(
            || (!is_alive(pid)).then_some(()),
            "the end of a killed process",
        );
    }
}

fn send_signal(pid: u32, signal: &str) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let signal: nix::sys::signal::Signal = format!("SIG{signal}").parse().expect("a signal");
    // One that has just ended is what was wanted.
    let _ = nix::sys::signal::kill(pid, signal);
}

/// Runs, and is no zombie. The first thread of a killed process is one while others still end, and
/// hold its sockets.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    state.is_some_and(|state| state != 'Z' || threads() > 1)
}

/// Every process that has this home in its environment.
pub(crate) fn processes_of(home: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| belongs_to(pid, home))
        .collect()
}

fn belongs_to(pid: u32, home: &Path) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let home = home.to_str().expect("temporary folders are UTF-8");
    let variables = [format!("MCPM_HOME={home}"), format!("PM2_HOME={home}")];
    environ
        .split(|&byte| byte == 0)
        .any(|found| variables.iter().any(|wanted| found == wanted.as_bytes()))
}
