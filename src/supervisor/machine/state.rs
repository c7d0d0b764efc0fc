//! What a process can be, hear and be told: the words of [`step`](super::step). Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::spec::{RestartPolicy, StopPolicy};

/// Where a process is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Does not run, and should not.
    Stopped,
    /// The spawner has the order; `wish` is what was asked for meanwhile.
    Launching {
        /// What to do once it is there.
        wish: Wish,
    },
    /// Runs, and has not said that it is ready.
    Starting {
        /// Root process.
        pid: u32,
        /// Since when.
        since: Instant,
        /// When it counts as ready anyway.
        until: Instant,
    },
    /// Runs.
    Online {
        /// Root process.
        pid: u32,
        /// Since when.
        since: Instant,
    },
    /// Was asked to end; its group gets SIGKILL at `kill_at`.
    Stopping {
        /// Root process.
        pid: u32,
        /// When it was started.
        since: Instant,
        /// End of the grace.
        kill_at: Instant,
        /// What follows.
        then: Then,
    },
    /// The root process ended by itself; what it left behind is being killed.
    Clearing {
        /// The former root process, whose number the group has.
        pid: u32,
        /// How long the root ran.
        ran: Duration,
        /// How it ended.
        exit: Exit,
        /// What was asked for meanwhile.
        wish: Wish,
    },
    /// Ended; will be started again.
    Waiting {
        /// When.
        until: Instant,
    },
    /// Ended too often, or could not be started.
    Errored,
}

/// What was asked of a process that cannot act on it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: go on as planned.
    Run,
    /// To be started anew.
    Restart,
    /// To end.
    Stop,
    /// To end and be forgotten.
    Forget,
}

/// What follows a stop. The journal has it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It stays stopped.
    Stay,
    /// It was asked to start again.
    Start,
    /// It failed its health checks and starts again by its restart policy.
    Recover(String),
    /// It is forgotten.
    Forget,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody can know: no daemon lived.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => write!(f, "was ended by {}", signal_name(*number)),
            Self::Unknown => f.write_str("ended while no daemon was watching"),
        }
    }
}

/// `SIGKILL` for 9, and so on; `signal 77` for one without a name.
pub fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {number}"),
    }
}

/// The number of `SIGHUP`, `hup` or `1`.
pub fn signal_number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .ok();
    let number = || text.parse().ok().filter(|number| (1..=64).contains(number));
    named.map(|signal| signal as i32).or_else(number)
}

/// What is remembered from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Restarts by hand and by itself, since it was registered.
    pub restarts: u32,
    /// Exits in a row that came before `min_uptime`.
    pub unstable: u32,
    /// The last wait before a restart.
    pub delay: Duration,
    /// Starts in a row that failed for want of something.
    pub failed_starts: u32,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Someone wants it to run.
    StartAsked,
    /// Someone wants it to end.
    StopAsked,
    /// Someone wants it to end and start.
    RestartAsked,
    /// Someone wants it gone.
    DeleteAsked,
    /// The spawner has started it.
    Spawned {
        /// Root process, leader of its own session and group.
        pid: u32,
    },
    /// The spawner could not.
    SpawnFailed {
        /// Why, for people.
        why: String,
        /// Worth another try (no free process slot, say); otherwise trying again changes nothing.
        transient: bool,
    },
    /// It says that it is ready.
    Ready,
    /// The root process has ended.
    Exited {
        /// How.
        exit: Exit,
        /// Something that it has started lives.
        leftovers: bool,
    },
    /// The last of what it has started has ended.
    GroupGone,
    /// It failed its health checks.
    Unhealthy {
        /// What they said.
        why: String,
    },
    /// A time it asked to be woken at has come.
    Woke,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start it.
    Spawn,
    /// Send the first signal of its stop policy.
    Terminate(u32),
    /// SIGKILL to every member of the group and to what has left it.
    KillGroup(u32),
    /// Send [`Event::Woke`] at this time.
    WakeAt(Instant),
    /// Show this as the reason for the state it is in.
    Explain(String),
    /// Drop it.
    Forget,
}

/// What rules one process.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Whether and when it comes back.
    pub restart: &'a RestartPolicy,
    /// How it ends.
    pub stop: &'a StopPolicy,
    /// It has an `mcp` block.
    pub service: bool,
    /// It says when it is ready; after this time it counts so anyway.
    pub ready_within: Option<Duration>,
    /// It can't have the port that it needs, since another process of its app has it: an exit is the
    /// end, for this reason.
    pub unshared: Option<&'a str>,
}

/// The outcome of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it is now.
    pub state: State,
    /// What it remembers.
    pub history: History,
    /// What to do, in this order.
    pub effects: Vec<Effect>,
}
