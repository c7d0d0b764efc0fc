//! Starts the daemon when none runs: `mcpm daemon --detached`, in a session of its own.
//!
//! What holds: the daemon inherits no descriptor but the pipe it reports on and its log (else
//! `$(mcpm start)` would hang until the daemon ends), and nothing is polled: the daemon says when
//! it is ready. Two commands may do this at once; the daemon's lock decides, the loser's daemon
//! waits until the winner listens, says so and ends, and both use the winner's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, timeout};

use crate::control::client::{Client, ClientError, OnSkew};
use crate::control::readiness::{READY_FD, Word};
use crate::home::Home;
use crate::supervisor::child_env::PROCESS_VARIABLE;

/// A daemon that adopts many services or migrates a large store takes its time; more than this
/// and a person should be told.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long another command's daemon, which has the lock already, may take until it listens.
const RIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of the daemon's log that are shown when it died without a word.
const LOG_LINES: usize = 10;

/// Starts a daemon for this home and connects to it, or to another command's that was quicker. When that
/// one is gone by then, once more: the daemon itself waits for what is left of a killed one.
///
/// # Errors
/// When none can start, or none answers in time.
pub(crate) async fn up(home: &Home, on_skew: impl Fn() -> OnSkew) -> anyhow::Result<Client> {
    let deadline = Instant::now() + RIVAL_TIMEOUT;
    loop {
        start(home).await?;
        match Client::connect(&home.socket(), on_skew()).await {
            Err(ClientError::NoDaemon { .. }) if Instant::now() < deadline => {}
            Err(ClientError::NoDaemon { .. }) => return Err(nobody_listens(home)),
            answer => return Ok(answer?),
        }
    }
}

/// Starts a daemon for this home, and returns when it answers or when another one does.
///
/// # Errors
/// When it cannot start: with its own words, or with the end of its log.
async fn start(home: &Home) -> anyhow::Result<()> {
    home.create()?;
    let log = open_log(home)?;
    let log_before = log.metadata().map_or(0, |m| m.len());
    // Not close-on-exec: this end is what the daemon shall inherit.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty())?;
    spawn(home, log, &writer)?;
    drop(writer);
    let said = timeout(START_TIMEOUT, read_word(reader)).await;
    let Ok(said) = said else {
        bail!(
            "the daemon is not ready after {} s; see `{}`",
            START_TIMEOUT.as_secs(),
            home.log().display()
        );
    };
    match Word::parse(&said?) {
        Some(Word::Ok | Word::AlreadyRunning) => Ok(()),
        Some(Word::Error(message)) => bail!("the daemon cannot start: {message}"),
        None => bail!(
            "the daemon died while it started{}",
            last_words(home, log_before)
        ),
    }
}

/// Connects to a daemon that is up or about to be: one that hands over has no socket for a moment.
pub(crate) async fn connect(home: &Home, on_skew: impl Fn() -> OnSkew) -> anyhow::Result<Client> {
    let mut pause = Duration::from_millis(2);
    let tries = async {
        loop {
            match Client::connect(&home.socket(), on_skew()).await {
                Err(ClientError::NoDaemon { .. }) => sleep(pause).await,
                answer => return answer,
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    };
    match timeout(RIVAL_TIMEOUT, tries).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(nobody_listens(home)),
    }
}

fn nobody_listens(home: &Home) -> anyhow::Error {
    anyhow!(
        "a daemon holds `{}` and does not listen on its socket; see `{}`",
        home.path().display(),
        home.log().display()
    )
}

fn open_log(home: &Home) -> anyhow::Result<File> {
    let path = home.log();
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path);
    opened.with_context(|| format!("cannot write the daemon's log `{}`", path.display()))
}

fn spawn(home: &Home, log: File, writer: &OwnedFd) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let ready = writer.as_raw_fd();
    let inherited = descriptors_except(ready).context("cannot list open descriptors")?;
    let mut command = Command::new(&program);
    command
        .args(["daemon", "--detached"])
        .env("MCPM_HOME", home.path())
        .env(READY_FD, ready.to_string())
        // A command that an app has run: the daemon is not a part of that app.
        .env_remove(PROCESS_VARIABLE)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let detach = move || {
        rustix::process::setsid()?;
        for &fd in &inherited {
            close_on_exec(fd);
        }
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "only code between fork and exec can leave the session"
    )]
    // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(detach);
    }
    // Nobody waits for it: it outlives this command, whose end hands it to init.
    let spawned = command.spawn();
    spawned.with_context(|| format!("cannot run `{} daemon`", program.display()))?;
    Ok(())
}

/// Every descriptor above stderr but one. Listed here since `close_range` learned to set flags
/// only in Linux 5.11.
fn descriptors_except(kept: RawFd) -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number: Option<RawFd> = name.to_str().and_then(|name| name.parse().ok());
        found.extend(number.filter(|&fd| fd > 2 && fd != kept));
    }
    Ok(found)
}

fn close_on_exec(fd: RawFd) {
    #[expect(unsafe_code, reason = "inherited descriptors are known by number only")]
    // SAFETY: the number is used for this one call; if it is not open, the call fails.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
}

async fn read_word(reader: OwnedFd) -> io::Result<String> {
    let mut pipe = Receiver::from_owned_fd(reader)?;
    let mut said = Vec::new();
    // Ends at the line's end, not at that of the pipe: a process of the daemon may hold it open.
    while !said.ends_with(b"\n") && pipe.read_buf(&mut said).await? > 0 {}
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// What this daemon wrote into its log, as the end of an error message.
fn last_words(home: &Home, log_before: u64) -> String {
    let path = home.log();
    let read = || -> io::Result<String> {
        let mut log = File::open(&path)?;
        log.seek(SeekFrom::Start(log_before))?;
        let mut bytes = Vec::new();
        log.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if !text.trim().is_empty() => format!(":\n{}", tail(&text, LOG_LINES)),
        _ => format!("; its log `{}` says nothing", path.display()),
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }

    #[test]
    fn a_daemons_last_words_are_those_of_this_start() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path()).unwrap();
        fs::write(home.log(), "old\nnew\n").unwrap();
        assert_eq!(last_words(&home, 4), ":\nnew");
        assert!(last_words(&home, 8).contains("says nothing"));
    }

    #[tokio::test]
    async fn a_pipe_that_closes_without_a_word_is_a_death() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty()).unwrap();
        drop(writer);
        assert_eq!(Word::parse(&read_word(reader).await.unwrap()), None);
    }

    #[tokio::test]
    async fn the_word_is_heard_while_the_pipe_stays_open() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty()).unwrap();
        rustix::io::write(&writer, b"ok\n").unwrap();
        assert_eq!(
            Word::parse(&read_word(reader).await.unwrap()),
            Some(Word::Ok)
        );
    }
}
