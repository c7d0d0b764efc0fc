//! The last exits of a process: what is kept of each, and in which words (pure).
//!
//! `machine.rs` decides what follows an exit; here is told what it has decided, and why. `mcpm why`
//! shows it. Records outlive the daemon and the boot. They are stored as JSON: members are only added.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::machine::{Event, Exit, History, Policy, State, Then, Wish};
use super::overlap::Beside;
use crate::ids::{AppName, Timestamp};

/// Records of one process: the newest so many.
pub const EACH_MAX: usize = 20;
/// Records of all processes together. With all the lines that a record may have that is 64 MiB; a
/// usual one has less than 1 KiB.
pub const ALL_MAX: usize = 4000;
/// Last lines of each stream in a record.
pub const LINES_MAX: usize = 20;
/// More of a line is not kept, in bytes.
const LINE_BYTES: usize = 500;
/// More of a stream is not kept, in bytes: half of what a record may have.
const STREAM_BYTES: usize = 8 * 1024;

/// Whose records they are. Numbers of processes do not outlive a boot, names do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its app.
    pub app: AppName,
    /// Which of the app's processes.
    pub instance: u32,
}

/// One exit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExitRecord {
    /// When; of one that nobody saw, when it was found.
    pub at: Timestamp,
    /// Its root process, when that is known.
    pub pid: Option<u32>,
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Number of the signal, when one ended it. Neither: nobody can know.
    pub signal: Option<i32>,
    /// Who wanted it to end.
    pub asked_by: Who,
    /// What they said: the file that changed, what the checks found.
    pub asked_why: Option<String>,
    /// How long it ran, in milliseconds.
    pub ran_ms: Option<u64>,
    /// The most memory it had at a time, in bytes: it, or one of its children that it has waited
    /// for. Not less than what this daemon had when it started it, and known of its own children
    /// only.
    pub peak_memory: Option<u64>,
    /// What followed.
    pub next: Next,
    /// The same for people, with its reason.
    pub decision: String,
    /// The last lines that it wrote to standard output.
    pub out_lines: Vec<String>,
    /// The last lines that it wrote to standard error.
    pub error_lines: Vec<String>,
    /// Nobody knows where the run begins in its log: the lines may be of earlier ones, too.
    pub may_be_older: bool,
    /// Why no lines are here, when that is not because it wrote none.
    pub no_lines: Option<NoLines>,
}

/// Who wanted a run to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Nobody here: it ended by itself, or somebody outside of mcpm has ended it.
    #[default]
    Itself,
    /// `start` of what runs already.
    Start,
    /// `stop`.
    Stop,
    /// `restart`.
    Restart,
    /// `reload`.
    Reload,
    /// `delete`, or `scale`.
    Delete,
    /// Failed health checks.
    Health,
    /// `max_memory_restart`.
    Memory,
    /// `cron_restart`.
    Clock,
    /// `watch`.
    Files,
    /// The daemon, which stops everything when it ends.
    Daemon,
    /// Nobody can know: no daemon ran.
    Unwatched,
}

/// Who wanted a run to end, and what they said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Who.
    pub who: Who,
    /// In a sentence, when there is more to say.
    #[serde(default)]
    pub why: Option<String>,
}

/// What followed an exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// It was started again at once.
    #[default]
    Started,
    /// It was to be started again after a wait.
    Waits,
    /// It stayed stopped.
    Stopped,
    /// It was given up.
    Errored,
    /// The other run of a reload is the process.
    Replaced,
}

/// Why a record has no lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoLines {
    /// Its output goes to no file.
    NoFile,
    /// Those of an exit less than a second before were read: not again.
    TooOften,
    /// The files could not be read.
    Unread,
    /// They could not be stored: the disk was full.
    Unstored,
}

impl Asked {
    /// Without a word.
    pub fn by(who: Who) -> Self {
        Self { who, why: None }
    }

    /// With their reason.
    pub fn because(who: Who, why: &str) -> Self {
        let why = Some(why.to_owned());
        Self { who, why }
    }

    /// Who is behind an event when nobody says more; `None` for one that ends nothing.
    pub fn of(event: &Event) -> Option<Self> {
        match event {
            Event::StopAsked => Some(Self::by(Who::Stop)),
            Event::RestartAsked => Some(Self::by(Who::Restart)),
            Event::DeleteAsked => Some(Self::by(Who::Delete)),
            Event::Unhealthy { why } => Some(Self::because(Who::Health, why)),
            Event::StartAsked
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::Ready
            | Event::Exited { .. }
            | Event::GroupGone
            | Event::Woke => None,
        }
    }
}

/// It is being ended, or will be as soon as it runs, since somebody wanted that.
pub fn is_wanted_gone(state: &State) -> bool {
    match state {
        State::Stopping { .. } => true,
        State::Launching { wish } => *wish != Wish::Run,
        State::Stopped
        | State::Starting { .. }
        | State::Online { .. }
        | State::Clearing { .. }
        | State::Waiting { .. }
        | State::Errored => false,
    }
}

/// The end of a main run, and what a step has made of it.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// How it ended.
    pub exit: Exit,
    /// Where it was before the step.
    pub before: &'a State,
    /// Where its process is now.
    pub after: &'a State,
    /// The run that stood beside it is the process now.
    pub has_swapped: bool,
    /// The daemon is ending, and stops everything.
    pub is_closing: bool,
    /// What the process remembers now.
    pub history: History,
    /// What has ruled the run.
    pub policy: Policy<'a>,
    /// When the step was made.
    pub now: Instant,
}

impl End<'_> {
    /// What followed, and why; `None` while something of the run is still being ended.
    pub fn decision(&self) -> Option<(Next, String)> {
        let (next, mut text) = self.followed()?;
        if matches!(self.before, State::Clearing { .. }) {
            text += "; children that it left behind were ended";
        }
        Some((next, text))
    }

    fn followed(&self) -> Option<(Next, String)> {
        if self.has_swapped {
            let text = "the new run of a reload is in its place";
            return Some((Next::Replaced, text.to_owned()));
        }
        match self.after {
            State::Starting { .. }
            | State::Online { .. }
            | State::Stopping { .. }
            | State::Clearing { .. } => None,
            State::Launching { .. } => Some((Next::Started, self.again("started again at once"))),
            State::Waiting { until } => {
                let wait = until.saturating_duration_since(self.now).as_millis();
                let when = format!("to be started again after {wait} ms");
                Some((Next::Waits, self.again(&when)))
            }
            State::Stopped => Some((Next::Stopped, self.stays())),
            State::Errored => Some((Next::Errored, self.given_up())),
        }
    }

    fn again(&self, when: &str) -> String {
        let is_asked = matches!(
            self.before,
            State::Stopping {
                then: Then::Start,
                ..
            } | State::Clearing {
                wish: Wish::Restart,
                ..
            }
        );
        if is_asked {
            return "started again, as asked".to_owned();
        }
        let restart = self.policy.restart;
        let is_waiting = matches!(self.after, State::Waiting { .. });
        let delay = match (
            restart.exp_backoff_restart_delay,
            restart.restart_delay,
            is_waiting,
        ) {
            (Some(_), _, true) => " (`exp_backoff_restart_delay`)",
            (None, Some(_), true) => " (`restart_delay`)",
            _ => "",
        };
        match self.history.unstable {
            0 => format!("{when}{delay}"),
            1 => format!("{when}{delay}: it ran less than `min_uptime`"),
            times => format!("{when}{delay}: {} unstable exit in a row", ordinal(times)),
        }
    }

    fn stays(&self) -> String {
        match self.before {
            State::Stopping { .. } if self.is_closing => {
                return "stopped with the daemon".to_owned();
            }
            State::Stopping { .. } => return "stopped, as asked".to_owned(),
            State::Clearing {
                wish: Wish::Stop | Wish::Forget,
                ..
            } => return "stays stopped: that was asked for meanwhile".to_owned(),
            _ => {}
        }
        if let Some(why) = self.policy.unshared {
            return format!("stays stopped: {why}");
        }
        let restart = self.policy.restart;
        match self.exit {
            _ if !restart.autorestart => "stays stopped: `autorestart` is off".to_owned(),
            Exit::Code(code) if restart.stop_exit_codes.contains(&code) => {
                format!("stays stopped: code {code} is in `stop_exit_codes`")
            }
            Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => "stays stopped".to_owned(),
        }
    }

    fn given_up(&self) -> String {
        if self.policy.restart.max_restarts == 0 {
            return "errored: it ran less than `min_uptime`, and `max_restarts` is 0".to_owned();
        }
        let times = self.history.unstable;
        format!("errored: {} (`max_restarts`)", in_a_row(times))
    }
}

/// Who wanted the end of a run that stood beside the main one, and what followed; `None` when it
/// had not been started.
pub fn end_beside(beside: &Beside) -> Option<(Asked, String)> {
    match beside {
        Beside::Launching { .. } => None,
        Beside::Proving { .. } => {
            let text = "the reload has failed; the old run goes on".to_owned();
            Some((Asked::by(Who::Itself), text))
        }
        Beside::Ending { why, .. } => {
            let text = "the reload has failed; the old run goes on".to_owned();
            Some((Asked::because(Who::Reload, why), text))
        }
        Beside::Retiring { .. } => {
            let text = "the other run of the reload is the process".to_owned();
            Some((Asked::by(Who::Reload), text))
        }
    }
}

/// `1 unstable exit`, `2 unstable exits in a row`.
pub fn in_a_row(times: u32) -> String {
    match times {
        1 => "1 unstable exit".to_owned(),
        times => format!("{times} unstable exits in a row"),
    }
}

/// `2nd`, `3rd`, `11th`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// As text, and no more than is kept of a stream; the newest come first in that.
pub fn kept(lines: &[Vec<u8>]) -> Vec<String> {
    let mut room = STREAM_BYTES;
    let mut kept = Vec::new();
    for line in lines.iter().rev().take(LINES_MAX) {
        let line = cut(line);
        if line.len() > room {
            break;
        }
        room -= line.len();
        kept.push(line);
    }
    kept.reverse();
    kept
}

fn cut(line: &[u8]) -> String {
    // One byte more shows that there is more.
    let text = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES + 1)]);
    if text.len() <= LINE_BYTES {
        return text.into_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(LINE_BYTES)])
}

#[cfg(test)]
mod tests;
