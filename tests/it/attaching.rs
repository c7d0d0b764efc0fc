//! `attach`: what is typed reaches the process, what it writes comes back, and leaving ends nothing.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::harness::{Mcpm, kill, sh, wait_for};

const ECHO: &str = "while read -r line; do echo \"got $line\"; echo \"saw $line\" >&2; done";

/// An `attach` with a hand on its keyboard.
struct Attached {
    child: Child,
    keyboard: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Attached {
    fn to(mcpm: &Mcpm, target: &str) -> Self {
        let mut command = mcpm.command(&["attach", target]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            keyboard: child.stdin.take(),
            child,
            lines,
        }
    }

    /// Types until the process answers: the first words may come before `attach` listens.
    fn talk(&mut self, word: &str) {
        let keyboard = self.keyboard.as_mut().unwrap();
        let answer = format!("got {word}");
        wait_for(
            || {
                writeln!(keyboard, "{word}").unwrap();
                self.lines
                    .try_iter()
                    .any(|line| line == answer)
                    .then_some(())
            },
            "the answer to what was typed",
        );
    }

    fn code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for(
            || {
                status = self.child.try_wait().unwrap();
                status.map(|_| ())
            },
            "its end",
        );
        status.unwrap().code()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_typed_is_answered_and_leaving_ends_nothing() {
    let mcpm = Mcpm::start([sh("echo", ECHO)]);
    let pid = mcpm.list()["echo"].pid;
    let mut attached = Attached::to(&mcpm, "echo");
    attached.talk("one");
    // Ctrl-D.
    drop(attached.keyboard.take());
    assert_eq!(attached.code(), Some(0));
    let mut attached = Attached::to(&mcpm, "0");
    attached.talk("two");
    // Ctrl-C.
    kill(attached.child.id(), "INT");
    assert_eq!(attached.code(), Some(0));
    let list = mcpm.list();
    assert_eq!((list["echo"].pid, list["echo"].restarts), (pid, 0));
}

#[test]
fn after_the_death_of_the_daemon_it_works_as_before() {
    let mcpm = Mcpm::start([sh("echo", ECHO)]);
    let pid = mcpm.list()["echo"].pid;
    mcpm.kill_daemon();
    let mut attached = Attached::to(&mcpm, "echo");
    attached.talk("hello");
    assert_eq!(mcpm.list()["echo"].pid, pid);
}

#[test]
fn it_wants_one_process_that_runs() {
    let mcpm = Mcpm::start([
        sh("twin", ECHO).with("/instances", 2),
        sh("idle", ECHO).with("/autostart", false),
    ]);
    assert!(
        mcpm.fails(&["attach", "twin"])
            .contains("name one by its id: 0, 1")
    );
    assert!(mcpm.fails(&["attach", "idle"]).contains("does not run"));
    assert!(mcpm.fails(&["attach", "nobody"]).contains("`nobody`"));
}
