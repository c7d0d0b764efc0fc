//! Starts processes, each in its own session and process group.
//!
//! One thread, so that hundreds of `fork`s delay neither exits nor requests. Before a start it
//! waits (not for ever) until the intent is in the journal; those of a batch get there together. A child that nobody could write down is
//! found by its name (`adopt/unwritten.rs`), but only while its process has a row.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::process::Rlimit;
use tokio::sync::mpsc;

use self::launch::{Inheritance, Launcher, Program};
use super::cgroup::Cgroups;
use super::channel::{self, End, Ends};
use super::child_env::{self, PROCESS_VARIABLE};
use super::elsewhere::Elsewhere;
use super::exits;
use super::journal::{Journal, Mark};
use super::kill::Handle;
use super::run_lock::{self, Reserved, RunLock};
use crate::config::AppSpec;
use crate::failpoint;
use crate::ids::{PmId, Port};
use crate::logs::pipes::Pipes;
use crate::sockets;

mod launch;

/// How long a start waits for its intent to be written before it goes on without; the end of a run
/// that another has taken over from likewise.
pub(super) const JOURNAL_PATIENCE: Duration = Duration::from_millis(200);

/// How long a start waits for the logs before it goes on without them.
const LOGS_PATIENCE: Duration = Duration::from_millis(200);
/// The same while they have not answered another start: enough when they are well again.
const LOGS_PATIENCE_LOST: Duration = Duration::from_millis(1);

/// One process to start.
#[derive(Debug)]
pub struct Order {
    /// Its number.
    pub id: PmId,
    /// Which of its starts this is.
    pub generation: u64,
    /// What it is made from.
    pub spec: Arc<AppSpec>,
    /// Variables that it gets beside those of its spec, and before them.
    pub env: BTreeMap<String, String>,
    /// Its standard streams.
    pub pipes: Pipes,
    /// Its lock.
    pub lock: RunLock,
    /// What must be in the journal before it is started.
    pub intent: Mark,
    /// Says, or ends, when what it writes counts as its own; `None`: from the start.
    pub begun: Option<Receiver<()>>,
    /// Where its pid is written; `None` for a run that is not its process's main one yet.
    pub pid_file: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub id: PmId,
    /// Which of its starts it was.
    pub generation: u64,
    /// The run, or why there is none.
    pub outcome: Result<Run, SpawnError>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Run {
    /// Itself.
    pub handle: Handle,
    /// Our end of Node's channel.
    pub channel: Option<End>,
    /// Where it says `READY=1`.
    pub notify: Option<UnixDatagram>,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its program is not there or may not be run.
    #[error("cannot run `{program}`: {why}")]
    Program {
        /// What was to be run.
        program: String,
        /// What the system said, in words.
        why: String,
    },
    /// Its working directory is not there.
    #[error("its working directory `{0}` is not there or may not be entered")]
    Cwd(String),
    /// Its fixed port is somebody else's.
    #[error("port {port} is taken by {owner}")]
    PortTaken {
        /// The port.
        port: Port,
        /// Pid, program and user.
        owner: String,
    },
    /// A run that an earlier daemon has started is there, and in no list.
    #[error(
        "it runs already, as a process that no list names (pid {0}): end that one with `kill {0}`"
    )]
    Runs(u32),
    /// Something holds the lock of this very run.
    #[error(
        "an earlier run of the same number lives, and holds `{0}`: end it (`fuser {0}` names it)"
    )]
    Locked(String),
    /// Something that may be better in a moment.
    #[error("cannot start it just now: {0}")]
    Transient(#[from] io::Error),
}

impl SpawnError {
    /// Another try can help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Program { .. } | Self::Cwd(_) => false,
            Self::PortTaken { .. } | Self::Runs(_) | Self::Locked(_) | Self::Transient(_) => true,
        }
    }

    /// What is there under the names of this run is another's.
    fn is_anothers(&self) -> bool {
        matches!(self, Self::Runs(_) | Self::Locked(_))
    }
}

/// The limits that the operator's shell gave us, for children: ours are raised.
#[derive(Clone, Copy, Debug)]
pub struct OperatorLimits {
    /// `RLIMIT_NOFILE`.
    pub files: Rlimit,
    /// `RLIMIT_CORE`.
    pub core: Rlimit,
    /// The kernel ends the daemon later than others when memory is short (`OOMScoreAdjust=` of its
    /// unit). Children are as any other program.
    pub spared: bool,
}

/// Starts the thread; orders go in by the sender, outcomes come to `report`. A second thread finds
/// out who has a port that is taken: that walks `/proc`, and other starts do not wait for it.
///
/// # Errors
/// When no thread can be had.
pub fn start(
    journal: Journal,
    limits: OperatorLimits,
    cgroups: Cgroups,
    elsewhere: Elsewhere,
    mut orders: mpsc::Receiver<Order>,
    report: impl Fn(Spawned) + Send + Sync + 'static,
) -> io::Result<()> {
    let report = Arc::new(report);
    // As many places as there may be orders.
    let (taken, mut questions) = mpsc::channel::<(PmId, u64, Port)>(orders.max_capacity());
    let answer = report.clone();
    let thread = std::thread::Builder::new().name("mcpm-ports".into());
    thread.spawn(move || {
        while let Some((id, generation, port)) = questions.blocking_recv() {
            let outcome = Err(SpawnError::PortTaken {
                port,
                owner: owner(port),
            });
            answer(Spawned {
                id,
                generation,
                outcome,
            });
        }
    })?;
    let mut launcher = Launcher::new()?;
    let thread = std::thread::Builder::new().name("mcpm-spawn".into());
    thread.spawn(move || {
        let mut number = Reserved::default();
        let mut logs = Patience::default();
        while let Some(mut order) = orders.blocking_recv() {
            let (id, generation) = (order.id, order.generation);
            // Five microseconds; a port that is taken fails the service before it is started.
            if let Some(mcp) = &order.spec.mcp
                && !sockets::can_bind(mcp.port)
            {
                let _ = taken.blocking_send((id, generation, mcp.port));
                continue;
            }
            failpoint::reach("spawn.intended");
            journal.flush_to(order.intent, JOURNAL_PATIENCE);
            if let Some(begun) = order.begun.take() {
                logs.wait(&begun);
            }
            number.keep();
            let outcome = match elsewhere.copy_of(id, &order.spec.name) {
                Some(pid) => Err(SpawnError::Runs(pid)),
                None => spawn(&order, limits, &cgroups, &mut launcher),
            };
            if outcome.as_ref().is_err_and(|error| !error.is_anothers()) {
                order.lock.remove();
            }
            report(Spawned {
                id,
                generation,
                outcome,
            });
        }
    })?;
    Ok(())
}

/// How long the next start waits until what its process writes counts as its own.
#[derive(Debug, Default)]
struct Patience {
    /// The logs did not answer in time; the starts behind that one shall not all wait as long.
    is_lost: bool,
}

impl Patience {
    fn wait(&mut self, begun: &Receiver<()>) {
        let limit = match self.is_lost {
            false => LOGS_PATIENCE,
            true => LOGS_PATIENCE_LOST,
        };
        let timed_out = begun.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if timed_out && !self.is_lost {
            tracing::warn!(
                "the logs are busy: starts go on without them, `why` may miss first lines"
            );
        }
        self.is_lost = timed_out;
    }
}

fn spawn(
    order: &Order,
    limits: OperatorLimits,
    cgroups: &Cgroups,
    launcher: &mut Launcher,
) -> Result<Run, SpawnError> {
    let ends = order.pipes.child_ends(order.spec.run_as)?;
    let mut env = child_env::all(&order.spec.env, &order.env);
    let pair = order.spec.has_channel().then(Ends::new).transpose()?;
    let channel = pair.as_ref().map(End::of).transpose()?;
    let number = pair
        .as_ref()
        .map(|ends| ends.theirs.as_raw_fd().to_string());
    if let Some(number) = &number {
        env.insert("NODE_CHANNEL_FD", number);
        env.insert("NODE_CHANNEL_SERIALIZATION_MODE", "json");
    }
    let run = order.env.get(PROCESS_VARIABLE).map_or("", String::as_str);
    let notify = match order.spec.ready_within {
        Some(_) => Some(channel::notify_socket(run)?),
        None => None,
    };
    if let Some((_, address)) = &notify {
        env.insert("NOTIFY_SOCKET", address);
    }
    let kept: Vec<BorrowedFd<'_>> = pair
        .iter()
        .flat_map(|ends| [ends.ours.as_fd(), ends.theirs.as_fd()])
        .collect();
    // A channel may be known to its child by the lock's number.
    let has_number = |end: &BorrowedFd<'_>| end.as_raw_fd() == run_lock::NUMBER;
    let lock = lock(order)?.filter(|_| !kept.iter().any(has_number));
    let group = cgroups.make(run);
    let program = program(&order.spec, &env)?;
    let gets = Inheritance {
        stdio: [ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd()],
        kept: &kept,
        lock: lock.as_ref().map(AsFd::as_fd),
        group: group.as_ref().map(AsFd::as_fd),
        user: order.spec.run_as,
        files: limits.files,
        core: limits.core,
    };
    failpoint::reach("spawn.before_fork");
    let spawned = launcher.launch(&program, &gets);
    if spawned.is_err() {
        cgroups.release(run);
    }
    let pid = spawned.map_err(|error| explain(&order.spec, error))?;
    failpoint::reach("spawn.forked");
    cgroups.check(run, pid);
    let handle = match Handle::open(pid, None) {
        Ok(handle) => handle.as_child(exits::own_peak()),
        // Out of descriptors: one that cannot be watched must not run beside the next try.
        Err(error) => {
            launch::end(pid);
            cgroups.release(run);
            return Err(error.into());
        }
    };
    if limits.spared {
        // Not in the child: one that has become another user may not.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
    }
    if let Some(file) = &order.pid_file
        && let Err(error) = write_pid(file, pid)
    {
        let file = file.display();
        tracing::warn!(app = %order.spec.name, %file, %error, "cannot write its pid file");
    }
    Ok(Run {
        handle,
        channel,
        notify: notify.map(|(socket, _)| socket),
    })
}

/// The lock for the child. It is evidence: that it cannot be made keeps nothing from starting. That
/// somebody holds it does: a run of this number is there.
fn lock(order: &Order) -> Result<Option<OwnedFd>, SpawnError> {
    match order.lock.take() {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(SpawnError::Locked(order.lock.path().display().to_string()))
        }
        Err(error) => {
            tracing::warn!(app = %order.spec.name, %error, "starts without a lock");
            Ok(None)
        }
    }
}

fn program(spec: &AppSpec, env: &BTreeMap<&str, &str>) -> io::Result<Program> {
    let program = &spec.program;
    let script = program.script.as_os_str();
    let own = program.args.iter().map(OsStr::new);
    match &program.interpreter {
        None => Program::new(script, own, env, &spec.cwd),
        Some(interpreter) => {
            let args = program.interpreter_args.iter().map(OsStr::new);
            let args = args.chain([script]).chain(own);
            Program::new(OsStr::new(interpreter), args, env, &spec.cwd)
        }
    }
}

/// Who is on a port that cannot be had.
fn owner(port: Port) -> String {
    match sockets::listener_owner(port) {
        Ok(Some(listener)) => listener.to_string(),
        // An outgoing connection sits on it: gone in a moment.
        _ => "a connection, not a listener (see `net.ipv4.ip_local_reserved_ports`)".to_owned(),
    }
}

fn explain(spec: &AppSpec, error: io::Error) -> SpawnError {
    let run = match &spec.program.interpreter {
        Some(interpreter) => interpreter.clone(),
        None => spec.program.script.display().to_string(),
    };
    let program = |why: &str| SpawnError::Program {
        program: run.clone(),
        why: why.to_owned(),
    };
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !spec.cwd.is_dir() => {
            SpawnError::Cwd(spec.cwd.display().to_string())
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            program("there is no such file (or the program its first line names is missing)")
        }
        io::ErrorKind::PermissionDenied => program("it is not executable for this user"),
        io::ErrorKind::IsADirectory => program("it is a folder"),
        io::ErrorKind::ArgumentListTooLong => program("its arguments and variables are too long"),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            program("it is neither a program of this machine nor a script with a `#!` line")
        }
        _ => SpawnError::Transient(error),
    }
}

/// Writes a pid file, and the folder that it is in.
///
/// # Errors
/// When the folder can't be written.
pub(super) fn write_pid(file: &Path, pid: u32) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn logs_that_do_not_answer_delay_one_start_and_not_those_behind_it() {
        let mut patience = Patience::default();
        let (done, begun) = sync_channel(1);
        patience.wait(&begun);
        assert!(patience.is_lost);
        let began = tokio::time::Instant::now();
        (0..50).for_each(|_| patience.wait(&begun));
        assert!(began.elapsed() < LOGS_PATIENCE * 40);
        done.send(()).unwrap();
        patience.wait(&begun);
        assert!(!patience.is_lost);
        drop(done);
        patience.wait(&begun);
        assert!(
            !patience.is_lost,
            "a run without a capture has nothing to wait for"
        );
    }
}
