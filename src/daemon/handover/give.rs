//! The side of the daemon that goes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::record::Recorder;
use super::super::settings::Source;
use super::{Line, PROTOCOL, SOCKET_FD, Word};
use crate::audit::Audit;
use crate::control::descriptor_store;
use crate::control::readiness::READY_FD;
use crate::failpoint;
use crate::home::Home;
use crate::instances::Instances;
use crate::logs::Logs;
use crate::problem::chain;
use crate::supervisor::Supervisor;
use crate::supervisor::spawn::OperatorLimits;
use crate::usage::Ledger;
use crate::users::Users;

/// How long the coming daemon may say nothing: before it can run here, and while it opens the store and
/// the journal.
const WORD_WITHIN: Duration = Duration::from_secs(20);
/// How long a program that is being started is waited for.
const REST_WITHIN: Duration = Duration::from_secs(20);

/// How the coming daemon is started.
pub(in super::super) struct Launch<'a> {
    pub(in super::super) home: &'a Home,
    pub(in super::super) detached: bool,
    pub(in super::super) limits: OperatorLimits,
}

/// What a daemon hands over, and what it must quiet before.
pub(in super::super) struct Going<'a> {
    pub(in super::super) strong: Vec<Source>,
    pub(in super::super) lock: BorrowedFd<'a>,
    pub(in super::super) commands: BorrowedFd<'a>,
    pub(in super::super) router: Option<OwnedFd>,
    pub(in super::super) supervisor: &'a Supervisor,
    pub(in super::super) logs: &'a Logs,
    pub(in super::super) instances: &'a Instances,
    pub(in super::super) users: &'a Users,
    pub(in super::super) ledger: &'a Ledger,
    pub(in super::super) recorder: &'a Recorder,
    pub(in super::super) audit: &'a Audit,
}

/// The other daemon has it all.
#[derive(Debug)]
pub(in super::super) struct Given {
    /// To the other daemon.
    pub(in super::super) line: Line,
    /// Its program.
    pub(in super::super) program: PathBuf,
    /// Its process.
    pub(in super::super) pid: u32,
    /// Its version.
    pub(in super::super) version: String,
    /// Its process, whatever its number comes to mean.
    process: Option<OwnedFd>,
}

impl Given {
    /// Tells it to end, as a signal would.
    pub(in super::super) fn terminate(&self) {
        if let Some(process) = &self.process {
            // One that has ended needs no telling.
            let _ = pidfd_send_signal(process, Signal::TERM);
        }
    }
}

/// The daemon that comes, as long as it is not the daemon. Whoever has one hands over to it or
/// ends it; when both are left undone it ends by itself.
pub(in super::super) struct Coming {
    line: Line,
    child: Child,
    program: PathBuf,
    log: PathBuf,
    version: String,
}

/// Why a hand-over was given up.
#[derive(Debug)]
pub(in super::super) enum Failure {
    /// The coming daemon has ended without a word.
    Ended,
    /// For people.
    Why(String),
}

impl Coming {
    /// Starts this program as the next daemon.
    ///
    /// # Errors
    /// Why it cannot be started, for people.
    pub(in super::super) async fn start(
        program: &Path,
        launch: Launch<'_>,
    ) -> Result<Self, String> {
        if !program.is_absolute() {
            let program = program.display();
            return Err(format!("`{program}` is no absolute path of a program"));
        }
        let (line, theirs) = Line::pair().map_err(|error| format!("cannot hand over: {error}"))?;
        let mut command = command(program, &launch, theirs);
        // On a thread of its own: what the main thread has started counts as an orphan, and is
        // collected.
        let started = tokio::task::spawn_blocking(move || command.spawn()).await;
        let child = started.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
        let child =
            child.map_err(|error| format!("cannot run `{}`: {error}", program.display()))?;
        Ok(Self {
            line,
            child,
            program: program.to_owned(),
            log: launch.home.log(),
            version: String::new(),
        })
    }

    /// Waits until it says that it can run here.
    ///
    /// # Errors
    /// When it can't.
    pub(in super::super) async fn prepared(&mut self) -> Result<(), Failure> {
        match next(&self.line).await? {
            Word::Prepared { protocol, version } if protocol == PROTOCOL => {
                self.version = version;
                failpoint::reach("give.prepared");
                Ok(())
            }
            Word::Prepared { version, .. } => Err(Failure::Why(format!(
                "mcpm {version} cannot take over from {}: use `mcpm kill --keep`, then any command of the new one",
                env!("CARGO_PKG_VERSION")
            ))),
            _ => Err(Failure::Why(STRANGE.to_owned())),
        }
    }

    /// Comes to rest and gives it everything: when this returns well the other one is the daemon. It
    /// is not when this returns badly or is dropped before, and then the supervisor is to be thawed.
    ///
    /// # Errors
    /// When one of the two can't.
    pub(in super::super) async fn take(
        &self,
        going: Going<'_>,
        thawed: oneshot::Receiver<()>,
    ) -> Result<(), Failure> {
        rest(&going, thawed).await?;
        pass(&self.line, &going).await
    }

    /// The daemon from now on.
    pub(in super::super) fn given(self) -> Given {
        let pid = self.child.id();
        tracing::info!(pid, version = %self.version, "handed over");
        // It is not collected yet, so that the number is its own.
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).ok();
        Given {
            line: self.line,
            program: self.program,
            pid,
            version: self.version,
            process,
        }
    }

    /// Ends it. It has done nothing for services yet, and must not begin.
    pub(in super::super) async fn end(self) -> Ended {
        let child = self.child;
        let ended = tokio::task::spawn_blocking(move || end(child)).await;
        Ended {
            status: ended.unwrap_or_default(),
            program: self.program,
            log: self.log,
        }
    }
}

/// A daemon that did not become one.
pub(in super::super) struct Ended {
    status: String,
    program: PathBuf,
    log: PathBuf,
}

impl Ended {
    /// Why, for people.
    pub(in super::super) fn why(&self, failure: Failure) -> String {
        match failure {
            Failure::Ended => format!(
                "`{}` {} before it could take over; see `{}`",
                self.program.display(),
                self.status,
                self.log.display()
            ),
            Failure::Why(why) => why,
        }
    }
}

const STRANGE: &str = "the new daemon speaks another language";

/// Nothing is started, written or read any more.
async fn rest(going: &Going<'_>, thawed: oneshot::Receiver<()>) -> Result<(), Failure> {
    let frozen = going.supervisor.freeze(thawed);
    match timeout(REST_WITHIN, frozen).await {
        Ok(rested) => rested.map_err(|error| Failure::Why(chain(&error)))?,
        Err(_) => {
            let why = "a program is still being started; try again";
            return Err(Failure::Why(why.to_owned()));
        }
    }
    going.logs.pause().await;
    going.recorder.flush().await;
    going.ledger.flush().await;
    going.audit.flush().await;
    let written = going.instances.flush_last_used().await;
    if let Err(error) = written.and(going.users.flush_last_used().await) {
        tracing::warn!(%error, "the times of last use since the last minute are lost");
    }
    Ok(())
}

async fn pass(line: &Line, going: &Going<'_>) -> Result<(), Failure> {
    failpoint::reach("give.rested");
    let mut descriptors = vec![going.lock, going.commands];
    descriptors.extend(going.router.as_ref().map(OwnedFd::as_fd));
    let take = Word::Take {
        strong: going.strong.clone(),
    };
    let lost = |_| Failure::Ended;
    line.say(&take, &descriptors).await.map_err(lost)?;
    failpoint::reach("give.passed");
    match next(line).await? {
        Word::Ready => {
            failpoint::reach("give.before_yours");
            // The last step: what stops this before or in it leaves the word unsaid.
            line.say(&Word::Yours, &[]).await.map_err(lost)?;
            failpoint::reach("give.yours");
            Ok(())
        }
        _ => Err(Failure::Why(STRANGE.to_owned())),
    }
}

async fn next(line: &Line) -> Result<Word, Failure> {
    match timeout(WORD_WITHIN, line.hear()).await {
        Ok(Ok(Some((Word::Failed { why }, _)))) => {
            Err(Failure::Why(format!("the new daemon cannot run: {why}")))
        }
        Ok(Ok(Some((word, _)))) => Ok(word),
        Ok(Ok(None)) => Err(Failure::Ended),
        Ok(Err(_)) => Err(Failure::Why(STRANGE.to_owned())),
        Err(_) => Err(Failure::Why(format!(
            "the new daemon has said nothing for {} s",
            WORD_WITHIN.as_secs()
        ))),
    }
}

/// The coming daemon, in a session of its own, with the environment and the streams of this one and
/// the limits that this one was given.
fn command(program: &Path, launch: &Launch<'_>, theirs: OwnedFd) -> Command {
    let mut command = Command::new(program);
    command
        .args(["daemon", "--take-over"])
        .args(launch.detached.then_some("--detached"))
        .env("MCPM_HOME", launch.home.path())
        .env(SOCKET_FD, theirs.as_raw_fd().to_string())
        .env_remove(READY_FD);
    // They mean this process, until its number is another's.
    for name in descriptor_store::PASSED {
        command.env_remove(name);
    }
    let limits = launch.limits;
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
