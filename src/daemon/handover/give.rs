//! The side of the daemon that goes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::Resource;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::record::Recorder;
use super::super::settings::Source;
use super::{Line, PROTOCOL, SOCKET_FD, Word};
use crate::api::Gate;
use crate::control::descriptor_store;
use crate::control::readiness::READY_FD;
use crate::failpoint;
use crate::home::Home;
use crate::instances::Instances;
use crate::logs::Logs;
use crate::supervisor::Supervisor;
use crate::supervisor::spawn::OperatorLimits;

/// How long the coming daemon may take to say that it can run here.
const PREPARED_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to open the store and the journal; commands wait meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long commands under way are waited for; one that stops a slow service is cut after it.
const COMMANDS_WITHIN: Duration = Duration::from_secs(10);
/// And how long a program that is being started.
const REST_WITHIN: Duration = Duration::from_secs(20);

/// What a daemon hands over, and what it must quiet before.
pub(in super::super) struct Going<'a> {
    pub(in super::super) home: &'a Home,
    pub(in super::super) detached: bool,
    pub(in super::super) limits: OperatorLimits,
    pub(in super::super) strong: &'a [Source],
    pub(in super::super) lock: BorrowedFd<'a>,
    pub(in super::super) commands: BorrowedFd<'a>,
    pub(in super::super) router: Option<OwnedFd>,
    pub(in super::super) gate: &'a Gate,
    pub(in super::super) supervisor: &'a Supervisor,
    pub(in super::super) logs: &'a Logs,
    pub(in super::super) instances: &'a Instances,
    pub(in super::super) recorder: &'a Recorder,
}

/// The other daemon has it all.
#[derive(Debug)]
pub(in super::super) struct Given {
    /// To the other daemon.
    pub(in super::super) line: Line,
    /// Its process.
    pub(in super::super) pid: u32,
    /// Its version.
    pub(in super::super) version: String,
}

/// Starts this program as the next daemon and hands everything over to it. When that fails nothing
/// has changed.
///
/// # Errors
/// Why it failed, for people.
pub(in super::super) async fn to(program: &Path, going: Going<'_>) -> Result<Given, String> {
    if !program.is_absolute() {
        let program = program.display();
        return Err(format!("`{program}` is no absolute path of a program"));
    }
    let (line, theirs) = Line::pair().map_err(|error| format!("cannot hand over: {error}"))?;
    let mut command = command(program, &going, theirs);
    // On a thread of its own: what the main thread has started counts as an orphan, and is collected.
    let started = tokio::task::spawn_blocking(move || command.spawn()).await;
    let child = started.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
    let child = child.map_err(|error| format!("cannot run `{}`: {error}", program.display()))?;
    let pid = child.id();
    match over(&line, &going).await {
        Ok(version) => {
            tracing::info!(pid, %version, "handed over");
            Ok(Given { line, pid, version })
        }
        Err(why) => {
            // It has done nothing for services yet, and must not begin.
            let ended = tokio::task::spawn_blocking(move || end(child)).await;
            let status = ended.unwrap_or_default();
            Err(match why {
                Failure::Ended => format!(
                    "`{}` {status} before it could take over; see `{}`",
                    program.display(),
                    going.home.log().display()
                ),
                Failure::Why(why) => why,
            })
        }
    }
}

/// Why a hand-over was given up.
enum Failure {
    /// The coming daemon has ended without a word.
    Ended,
    /// For people.
    Why(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

/// From the first word to the last.
async fn over(line: &Line, going: &Going<'_>) -> Result<String, Failure> {
    let version = match next(line, PREPARED_WITHIN).await? {
        Word::Prepared { protocol, version } if protocol == PROTOCOL => version,
        Word::Prepared { version, .. } => {
            return Err(Failure::Why(format!(
                "mcpm {version} cannot take over from {}: use `mcpm kill --keep`, then any command of the new one",
                env!("CARGO_PKG_VERSION")
            )));
        }
        _ => return Err(Failure::Why(STRANGE.to_owned())),
    };
    failpoint::reach("give.prepared");
    going.gate.close();
    let (thaw, thawed) = oneshot::channel();
    let passed = match rest(going, thawed).await {
        Ok(()) => pass(line, going).await,
        Err(why) => Err(Failure::Why(why)),
    };
    match passed {
        Ok(()) => {
            // Dropped, so that the supervisor ends as it stands.
            drop(thaw);
            Ok(version)
        }
        Err(failure) => {
            let _ = thaw.send(());
            going.gate.open();
            Err(failure)
        }
    }
}

const STRANGE: &str = "the new daemon speaks another language";

/// Nothing is started, written or read any more.
async fn rest(going: &Going<'_>, thawed: oneshot::Receiver<()>) -> Result<(), String> {
    if timeout(COMMANDS_WITHIN, going.gate.quiet()).await.is_err() {
        tracing::warn!("commands that are still under way are cut");
    }
    let frozen = going.supervisor.freeze(thawed);
    if !matches!(timeout(REST_WITHIN, frozen).await, Ok(true)) {
        return Err("a program is still being started; try again".to_owned());
    }
    going.logs.pause().await;
    going.recorder.flush().await;
    if let Err(error) = going.instances.flush_last_used().await {
        tracing::warn!(%error, "the times of last use since the last minute are lost");
    }
    Ok(())
}

async fn pass(line: &Line, going: &Going<'_>) -> Result<(), Failure> {
    failpoint::reach("give.rested");
    let mut descriptors = vec![going.lock, going.commands];
    descriptors.extend(going.router.as_ref().map(OwnedFd::as_fd));
    let take = Word::Take {
        strong: going.strong.to_vec(),
    };
    let lost = |_| Failure::Ended;
    line.say(&take, &descriptors).await.map_err(lost)?;
    failpoint::reach("give.passed");
    match next(line, READY_WITHIN).await? {
        Word::Ready => {
            failpoint::reach("give.before_yours");
            line.say(&Word::Yours, &[]).await.map_err(lost)?;
            failpoint::reach("give.yours");
            Ok(())
        }
        _ => Err(Failure::Why(STRANGE.to_owned())),
    }
}

async fn next(line: &Line, within: Duration) -> Result<Word, Failure> {
    match timeout(within, line.hear()).await {
        Ok(Ok(Some((Word::Failed { why }, _)))) => {
            Err(Failure::Why(format!("the new daemon cannot run: {why}")))
        }
        Ok(Ok(Some((word, _)))) => Ok(word),
        Ok(Ok(None)) => Err(Failure::Ended),
        Ok(Err(_)) => Err(Failure::Why(STRANGE.to_owned())),
        Err(_) => Err(Failure::Why(format!(
            "the new daemon has said nothing for {} s",
            within.as_secs()
        ))),
    }
}

/// The coming daemon, in a session of its own, with the environment and the streams of this one and
/// the limits that this one was given.
fn command(program: &Path, going: &Going<'_>, theirs: OwnedFd) -> Command {
    let mut command = Command::new(program);
    command
        .args(["daemon", "--take-over"])
        .args(going.detached.then_some("--detached"))
        .env("MCPM_HOME", going.home.path())
        .env(SOCKET_FD, theirs.as_raw_fd().to_string())
        .env_remove(READY_FD);
    // They mean this process, until its number is another's.
    for name in descriptor_store::PASSED {
        command.env_remove(name);
    }
    let limits = going.limits;
    let in_child = move || {
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
        rustix::process::setsid()?;
        rustix::process::setrlimit(Resource::Nofile, limits.files)?;
        rustix::process::setrlimit(Resource::Core, limits.core)?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes a few system calls and nothing else: no allocation,
    // no lock.
    #[expect(unsafe_code, reason = "std offers setsid only through pre_exec")]
    unsafe {
        command.pre_exec(in_child);
    }
    command
}

/// Ends it, and says how it has ended.
fn end(mut child: Child) -> String {
    // One that has ended already keeps its status.
    let _ = child.kill();
    match child.wait() {
        Ok(status) => format!("has ended ({status})"),
        Err(_) => "has ended".to_owned(),
    }
}
