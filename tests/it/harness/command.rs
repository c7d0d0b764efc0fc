//! Runs the program, to its end or beside the test.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::wait::{Patience, eventually};

/// A command that says nothing for so long hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "code {code:?}\n── stdout ──\n{stdout}── stderr ──\n{stderr}──"
        )
    }
}

/// Runs it to its end, and until nobody holds its output: a daemon that kept it would make
/// `$(mcpm start)` hang.
#[track_caller]
pub(crate) fn run(mut command: Command, stdin: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program under test");
    let mut input = child.stdin.take().expect("a pipe");
    // A command that reads nothing may be gone already.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let stdout = collect(child.stdout.take().expect("a pipe"));
    let stderr = collect(child.stderr.take().expect("a pipe"));
    let mut status = None;
    let ended = eventually(|| {
        status = child.try_wait().expect("a child");
        status.is_some()
    });
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |from: &Receiver<Vec<u8>>| {
        let bytes = from.recv_timeout(LIMIT).unwrap_or_else(|_| {
            panic!("{command:?} has ended and something still holds its output")
        });
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let ran = Ran {
        code: status.and_then(|status| status.code()),
        stdout: text(&stdout),
        stderr: text(&stderr),
    };
    assert!(ended, "{command:?} does not end: {ran}");
    ran
}

fn collect(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A command that goes on; ended on drop.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<Vec<u8>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program under test");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = collect(child.stderr.take().expect("a pipe"));
        Self {
            child,
            lines,
            errors,
        }
    }

    /// The next line that is like this; those before it are dropped.
    #[track_caller]
    pub(crate) fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let patience = Patience::new();
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(patience.left()) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("the line never came; these did: {seen:#?}"),
            }
        }
    }

    /// The next line; `None` when it has ended its output.
    #[track_caller]
    pub(crate) fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line comes, and no end"),
        }
    }

    /// Its own pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote to stderr, once it has ended.
    #[track_caller]
    pub(crate) fn complaints(&self) -> String {
        let bytes = self.errors.recv_timeout(LIMIT).expect("its end");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it ends by itself; `None` when a signal ended it.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        let mut status = None;
        let ended = eventually(|| {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert!(ended, "it does not end");
        status.and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it with a terminal for its output, of 100 columns and 30 rows, and returns all that came
/// out; `None` when there is no `script` program (util-linux) to make one with.
#[track_caller]
pub(crate) fn in_terminal(command: &Command) -> Option<String> {
    let quoted = |text: &std::ffi::OsStr| {
        let text = text.to_str().expect("UTF-8");
        format!("'{}'", text.replace('\'', r"'\''"))
    };
    let mut line = String::from("stty cols 100 rows 30; exec");
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        line += &format!(" {}", quoted(word));
    }
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env_clear();
    script.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    script.env("TERM", "xterm").env("SHELL", "/bin/sh");
    if let Some(folder) = command.get_current_dir() {
        script.current_dir(folder);
    }
    let is_there = Command::new("script").arg("--version").output().is_ok();
    is_there.then(|| run(script, "").stdout)
}
