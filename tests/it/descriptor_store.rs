//! What the service manager keeps while no daemon lives. The test is the service manager: it hears
//! what the daemon says, keeps what it is given, and passes that to the next one.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::harness::{Mcpm, Running, is_alive, sh, wait_for};

/// Speaks, waits until it may go on, has its last words, and ends; the next run stays.
const LAST_WORDS: &str = "if [ -e ended ]; then echo second run; exec sleep 1000; fi; \
                          echo first run; while [ ! -e go ]; do sleep 0.02; done; \
                          echo last; echo words; echo oops >&2; : > ended";

/// The number of the first descriptor that is passed.
const FIRST: i32 = 3;
/// Higher than any that is passed.
const ASIDE: i32 = 100;

/// A service manager with a descriptor store, of one unit.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    store: Vec<(String, OwnedFd)>,
    /// So many descriptors it was given.
    given: usize,
    is_ready: bool,
}

impl Manager {
    fn new(mcpm: &Mcpm) -> Self {
        let path = mcpm.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).unwrap();
        Self {
            socket,
            path,
            store: Vec::new(),
            given: 0,
            is_ready: false,
        }
    }

    /// Starts the unit's daemon, as systemd does: what is in the store becomes its descriptors.
    fn start(&mut self, mcpm: &Mcpm) -> Running {
        self.is_ready = false;
        let daemon = mcpm.command(&["daemon"]);
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"])
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .current_dir(mcpm.folder())
            .env_clear()
            .envs(
                daemon
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("NOTIFY_SOCKET", &self.path)
            .env("FDSTORE", "100");
        if !self.store.is_empty() {
            command
                .env("LISTEN_FDS", self.store.len().to_string())
                .env("LISTEN_FDNAMES", self.names().join(":"));
        }
        let aside =
            |(_, kept): &(String, OwnedFd)| rustix::io::fcntl_dupfd_cloexec(kept, ASIDE).unwrap();
        let passed: Vec<OwnedFd> = self.store.iter().map(aside).collect();
        let in_child = move || -> std::io::Result<()> {
            for (number, kept) in (FIRST..).zip(&passed) {
                #[expect(
                    unsafe_code,
                    reason = "a number is wanted, not a descriptor with an owner"
                )]
                // SAFETY: what has the number belongs to nobody after the exec; at most the word that
                // this has failed is not heard.
                let made = unsafe { libc::dup2(kept.as_raw_fd(), number) };
                if made == -1 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec it makes a few system calls and nothing else.
        #[expect(unsafe_code, reason = "std passes no other descriptors")]
        unsafe {
            command.pre_exec(in_child);
        }
        Running::start(command)
    }

    /// Hears one message.
    #[track_caller]
    fn hear(&mut self) {
        let mut word = [0; 512];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut piece = [IoSliceMut::new(&mut word)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let heard = rustix::net::recvmsg(&self.socket, &mut piece, &mut control, flags);
        let count = heard.expect("a word of the daemon").bytes;
        let mut passed = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                passed.extend(descriptors);
            }
        }
        let word = String::from_utf8_lossy(&word[..count]).into_owned();
        let said = |wanted: &str| word.lines().any(|line| line == wanted);
        let name = word.lines().find_map(|line| line.strip_prefix("FDNAME="));
        let name = name.unwrap_or("stored").to_owned();
        if said("FDSTORE=1") {
            assert!(said("FDPOLL=0") && passed.len() == 1, "{word}");
            self.store.push((name, passed.remove(0)));
            self.given += 1;
        } else if said("FDSTOREREMOVE=1") {
            self.store.retain(|(known, _)| *known != name);
        }
        self.is_ready |= said("READY=1");
    }

    /// Hears until it is so.
    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            self.hear();
        }
    }

    /// What is in the store, in order of names.
    fn names(&self) -> Vec<String> {
        self.store.iter().map(|(name, _)| name.clone()).collect()
    }

    /// These names are in the store, once each, and no others.
    fn has(&self, wanted: &[&str]) -> bool {
        let mut names = self.names();
        names.sort();
        names == wanted
    }

    fn puts(&mut self, name: &str, descriptor: impl Into<OwnedFd>) {
        self.store.push((name.to_owned(), descriptor.into()));
    }
}

fn address(mcpm: &Mcpm) -> String {
    mcpm.origin().trim_start_matches("http://").to_owned()
}

/// Asks on this connection, and reads the answer.
#[track_caller]
fn ask(mut stream: TcpStream, mcpm: &Mcpm) -> String {
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    let host = address(mcpm);
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn last_words_and_clients_wait_for_the_next_daemon() {
    let mcpm = Mcpm::new();
    let mut manager = Manager::new(&mcpm);
    let _first = manager.start(&mcpm);
    manager.until(|manager| manager.is_ready);
    let file = mcpm.ecosystem([sh("app", LAST_WORDS)]);
    mcpm.ok(&["start", &file]);
    manager.until(|manager| manager.has(&["err.0", "out.0", "router"]));
    wait_for(
        || (mcpm.log("app-out.log") == b"first run\n").then_some(()),
        "its first line",
    );
    let app = mcpm.list()["app"].pid;

    mcpm.kill_daemon();
    mcpm.write("go", "");
    wait_for(|| (!is_alive(app)).then_some(()), "the app's end");
    let client = TcpStream::connect(address(&mcpm)).expect("somebody who listens");

    let mut second = manager.start(&mcpm);
    manager.until(|manager| manager.is_ready);
    assert_eq!(mcpm.daemon_pid(), second.pid());
    let answer = ask(client, &mcpm);
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    mcpm.wait_until(|list| list["app"].restarts == 1 && list["app"].is_up());
    wait_for(
        || {
            mcpm.log("app-out.log")
                .ends_with(b"second run\n")
                .then_some(())
        },
        "the next run",
    );
    let log = |name| String::from_utf8_lossy(&mcpm.log(name)).into_owned();
    assert_eq!(log("app-out.log"), "first run\nlast\nwords\nsecond run\n");
    assert_eq!(log("app-error.log"), "oops\n");
    // They are the words of the run that has ended.
    let why = mcpm.ok(&["why", "app"]);
    assert!(
        why.contains("words") && !why.contains("second run"),
        "{why}"
    );

    // What was kept still is, once; what is deleted is not.
    assert!(manager.has(&["err.0", "out.0", "router"]));
    mcpm.ok(&["delete", "app"]);
    manager.until(|manager| manager.has(&["router"]));
    assert_eq!(manager.given, 3);
    mcpm.ok(&["kill"]);
    manager.until(|manager| manager.has(&[]));
    assert_eq!(second.code(), Some(0));
}

#[test]
fn a_daemon_that_leaves_its_services_leaves_what_is_kept() {
    let mcpm = Mcpm::new();
    let mut manager = Manager::new(&mcpm);
    let mut first = manager.start(&mcpm);
    manager.until(|manager| manager.is_ready);
    let file = mcpm.ecosystem([sh("app", "exec sleep 1000")]);
    mcpm.ok(&["start", &file]);
    manager.until(|manager| manager.has(&["err.0", "out.0", "router"]));
    mcpm.ok(&["kill", "--keep"]);
    assert_eq!(first.code(), Some(0));
    let client = TcpStream::connect(address(&mcpm)).expect("somebody who listens");
    let _second = manager.start(&mcpm);
    manager.until(|manager| manager.is_ready);
    assert!(ask(client, &mcpm).starts_with("HTTP/1.1 "));
    assert!(manager.has(&["err.0", "out.0", "router"]));
}

#[test]
fn a_daemon_that_takes_over_has_each_descriptor_kept_once() {
    let mcpm = Mcpm::new();
    let mut manager = Manager::new(&mcpm);
    let _first = manager.start(&mcpm);
    manager.until(|manager| manager.is_ready);
    let file = mcpm.ecosystem([sh("app", "exec sleep 1000")]);
    mcpm.ok(&["start", &file]);
    let all = ["err.0", "out.0", "router"];
    manager.until(|manager| manager.has(&all));
    mcpm.ok(&["update"]);
    // It does not know what it finds, and gives all anew.
    manager.until(|manager| manager.given == 2 * all.len());
    assert!(manager.has(&all), "{:?}", manager.names());
    mcpm.ok(&["delete", "app"]);
    manager.until(|manager| manager.has(&["router"]));
    mcpm.ok(&["kill"]);
    manager.until(|manager| manager.has(&[]));
}

#[test]
fn what_is_not_ours_or_not_wanted_is_closed_and_removed() {
    let mcpm = Mcpm::new();
    let mut manager = Manager::new(&mcpm);
    let (pipe, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let file = mcpm.write("file", "");
    let open = || std::fs::File::open(&file).unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    manager.puts("router", elsewhere);
    manager.puts("out.7", pipe);
    manager.puts("err.7", open());
    manager.puts("nonsense", open());
    let mut daemon = manager.start(&mcpm);
    let wanted = address(&mcpm);
    let is_wanted = |(name, kept): &(String, OwnedFd)| {
        let listener = TcpListener::from(kept.try_clone().unwrap());
        let found = listener.local_addr();
        name == "router" && found.is_ok_and(|found| found.to_string() == wanted)
    };
    manager.until(|manager| manager.store.len() == 1 && is_wanted(&manager.store[0]));
    mcpm.ok(&["kill"]);
    manager.until(|manager| manager.has(&[]));
    assert_eq!(daemon.code(), Some(0));
    let said = daemon.complaints();
    for name in ["out.7", "err.7", "nonsense"] {
        assert!(said.contains(name), "{name} in {said}");
    }
}

#[test]
fn a_daemon_of_a_command_that_has_the_home_gets_the_address() {
    let mcpm = Mcpm::new();
    let mut manager = Manager::new(&mcpm);
    let kept = TcpListener::bind(address(&mcpm)).unwrap();
    manager.puts("router", kept);
    mcpm.ok(&["ping"]);
    let mut refused = manager.start(&mcpm);
    manager.until(|manager| manager.has(&[]));
    assert_eq!(refused.code(), Some(1));
    let answers = || {
        let stream = TcpStream::connect(address(&mcpm)).ok()?;
        Some(ask(stream, &mcpm))
    };
    let answer = wait_for(answers, "the router's answer");
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}
