//! `.config.js`, `.config.cjs` and `.config.mjs`: evaluated by `node`, in a process of its own.
//!
//! More forgiving than PM2 where it is a trap: a default export, a named export `apps`, a function
//! (called) and a promise (awaited) all work. What the file prints goes to our standard error, as it
//! comes: people look for mistakes that way. The value has a pipe of its own, so that nothing which
//! is printed can get into it. It has no positions; a syntax error has the line that `node` names.
//!
//! Bounds: [`TIME_MAX`], and the size that the caller gives. Runs the user's own code with the
//! user's own rights, as PM2 does, so only the CLI may call this.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;

use super::{DEPTH_MAX, Entry, Node, Number, Place, SyntaxError, Value};

/// A configuration that takes longer waits for something that will not come.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Of `node`'s complaints.
const STDERR_MAX: u64 = 64 * 1024;

/// Imports the file and writes the export as JSON to the descriptor that is named. Standard output is
/// where people read; standard error is for `node` itself, which prints an error with file and line.
const SCRIPT: &str = r"
const { writeSync } = require('node:fs');
const { pathToFileURL } = require('node:url');
process.stderr.write = process.stdout.write.bind(process.stdout);
const answer = Number(process.argv.pop());
const print = (text) => {
  const bytes = Buffer.from(text);
  let done = 0;
  while (done < bytes.length) done += writeSync(answer, bytes, done);
};
import(pathToFileURL(process.argv[1])).then(async (module) => {
  let value = 'default' in module ? module.default : { ...module };
  if (value && value.__esModule && value.default) value = value.default;
  if (typeof value === 'function') value = value();
  value = await value;
  const text = JSON.stringify(value);
  print(text === undefined ? 'null' : text);
  process.exit(0);
});
";

/// Why a JavaScript file gave no value.
#[derive(Debug, PartialEq)]
pub(crate) enum JsError {
    /// The file is wrong.
    Syntax(SyntaxError),
    /// `node` is not there or did not answer: a half-sentence.
    Node(String),
    /// The result is larger than it may be.
    TooLarge,
}

/// Evaluates an absolute path with the `node` given.
///
/// # Errors
/// See [`JsError`].
pub(crate) fn evaluate(
    node: &Path,
    path: &Path,
    env: &BTreeMap<String, String>,
    cwd: &Path,
    size_max: u64,
) -> Result<Node, JsError> {
    let cannot_start = |error: std::io::Error| {
        JsError::Node(format!(
            "but `{}` can't be started: {error}",
            node.display()
        ))
    };
    let (answer, answers) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| cannot_start(errno.into()))?;
    let mut command = Command::new(node);
    command
        .arg("-e")
        .arg(SCRIPT)
        .arg("--")
        .arg(path)
        .arg(answers.as_raw_fd().to_string())
        .current_dir(cwd)
        .env_clear()
        .envs(env);
    command
        .stdin(Stdio::null())
        .stdout(our_stderr())
        .stderr(Stdio::piped())
        .process_group(0);
    // A file that does not end must not outlive the command that reads it.
    let parent = std::process::id();
    let follow = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
        // It was too late to be told.
        if now.map(|pid| pid.get().cast_unsigned()) != Some(parent) {
            return Err(rustix::io::Errno::SRCH.into());
        }
        rustix::io::fcntl_setfd(&answers, FdFlags::empty())?;
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "std offers a death signal only through pre_exec"
    )]
    // SAFETY: the closure makes three system calls; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(follow);
    }
    let child = command.spawn().map_err(cannot_start)?;
    // Our end for writing, which would keep the answer from ending.
    drop(command);
    let output = collect(child, answer, size_max)?;
    if u64::try_from(output.answer.len()).is_ok_and(|len| len > size_max) {
        return Err(JsError::TooLarge);
    }
    if !output.status.success() {
        return Err(JsError::Syntax(complaint(&output.stderr, path)));
    }
    let value = serde_json::from_slice(&output.answer)
        .map_err(|e| JsError::Node(format!("whose answer was not JSON: {e}")))?;
    let value: serde_json::Value = value;
    let nothing = value.is_null();
    let too_deep = || SyntaxError {
        at: Place::default(),
        message: format!("nested more than {DEPTH_MAX} levels deep"),
    };
    if nothing {
        let message = "exports nothing; write `module.exports = { apps: [ … ] }`".to_owned();
        return Err(JsError::Syntax(SyntaxError {
            at: Place::default(),
            message,
        }));
    }
    convert(value, 0).ok_or_else(|| JsError::Syntax(too_deep()))
}

/// Where people read while stdout may be a program's.
fn our_stderr() -> Stdio {
    let ours = std::io::stderr().as_fd().try_clone_to_owned();
    ours.map_or_else(|_| Stdio::null(), Stdio::from)
}

struct Output {
    status: ExitStatus,
    answer: Vec<u8>,
    stderr: String,
}

/// Reads both pipes in threads, so that neither can fill up, and waits no longer than allowed.
fn collect(mut child: Child, answer: OwnedFd, size_max: u64) -> Result<Output, JsError> {
    let Some(mut stderr) = child.stderr.take() else {
        return Err(JsError::Node("whose pipe is missing".to_owned()));
    };
    let mut answer = File::from(answer);
    // One byte more than allowed tells that it was too much.
    let answer = in_thread(move || first_bytes(&mut answer, size_max.saturating_add(1)));
    let stderr = in_thread(move || {
        let bytes = first_bytes(&mut stderr, STDERR_MAX);
        // Goes on reading, so that the writer never blocks.
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        bytes
    });
    let answer = answer.recv_timeout(TIME_MAX);
    let too_much = answer
        .as_ref()
        .is_ok_and(|bytes| bytes.len() as u64 > size_max);
    let err = if answer.is_ok() && !too_much {
        stderr.recv_timeout(TIME_MAX).ok()
    } else {
        None
    };
    if err.is_none() {
        // The whole group: also what the file has started.
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let status = child
        .wait()
        .map_err(|e| JsError::Node(format!("which can't be waited for: {e}")))?;
    match (answer, err) {
        (Ok(answer), Some(stderr)) => {
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            Ok(Output {
                status,
                answer,
                stderr,
            })
        }
        (Ok(_), None) if too_much => Err(JsError::TooLarge),
        _ => {
            let seconds = TIME_MAX.as_secs();
            Err(JsError::Node(format!(
                "which did not end within {seconds} s"
            )))
        }
    }
}

fn in_thread(read: impl FnOnce() -> Vec<u8> + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (done, answer) = mpsc::sync_channel(1);
    thread::spawn(move || done.send(read()));
    answer
}

fn first_bytes(pipe: &mut impl Read, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A pipe that can't be read is as good as one that ended.
    let _ = pipe.take(count).read_to_end(&mut bytes);
    bytes
}

/// `node` prints `FILE:LINE` above the source line, and `SomeError: message` below it.
fn complaint(stderr: &str, path: &Path) -> SyntaxError {
    let path = path.to_string_lossy();
    let line_after = |text: &str| -> Option<u32> {
        let (_, rest) = text.split_once(&format!("{path}:"))?;
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    let line = stderr.lines().find_map(line_after).unwrap_or(0);
    let is_error = |text: &&str| {
        let word = text.split([':', ' ']).next().unwrap_or_default();
        word.ends_with("Error") && word.chars().all(char::is_alphanumeric)
    };
    let found = stderr
        .lines()
        .find(is_error)
        .or_else(|| stderr.lines().find(|l| !l.is_empty()));
    let message: String = found
        .unwrap_or("`node` failed without a word")
        .chars()
        .take(300)
        .collect();
    SyntaxError {
        at: Place { line, column: 0 },
        message,
    }
}

/// `None` when it is nested too deep.
fn convert(json: serde_json::Value, depth: usize) -> Option<Node> {
    use serde_json::Value as Json;
    if depth > DEPTH_MAX {
        return None;
    }
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(n) => {
            Value::Number(Number::new(n.as_f64().unwrap_or(f64::NAN), &n.to_string()))
        }
        Json::String(text) => Value::Text(text),
        Json::Array(items) => {
            let items: Option<Vec<Node>> = items
                .into_iter()
                .map(|item| convert(item, depth + 1))
                .collect();
            Value::List(items?)
        }
        Json::Object(map) => {
            let entries: Option<Vec<Entry>> = map
                .into_iter()
                .map(|(key, item)| {
                    let node = convert(item, depth + 1)?;
                    Some(Entry {
                        key,
                        at: Place::default(),
                        node,
                    })
                })
                .collect();
            Value::Map(entries?)
        }
    };
    Some(Node::placeless(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_of_node_becomes_a_place_and_a_message() {
        let stderr = "file:///srv/a.config.mjs:2\nfoo(\n    \n\nSyntaxError: Unexpected end of input\n    at x (y:1)";
        let found = complaint(stderr, Path::new("/srv/a.config.mjs"));
        assert_eq!(found.at, Place { line: 2, column: 0 });
        assert_eq!(found.message, "SyntaxError: Unexpected end of input");
        assert_eq!(
            complaint("", Path::new("/x")).message,
            "`node` failed without a word"
        );
    }
}
