//! From one daemon to the next (pure): what the journal says of a process's state, and what the next
//! daemon makes of that and of what it finds.
//!
//! Every start of a daemon is a recovery, so the two functions are the whole of what a death may
//! change: what they cannot say to each other is lost with the daemon. `actor/record.rs` writes the
//! one, `adopt.rs` asks the other.

use tokio::time::Instant;

use super::journal::Wanted;
use super::machine::{Event, Exit, State, Then, Wish};

/// What is known of a process when a daemon comes.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Should it run?
    pub wanted: Wanted,
    /// The root process of its last run, when that is proven to live.
    pub alive: Option<u32>,
    /// Its last run has begun: its pid was written down.
    pub has_begun: bool,
    /// When that was.
    pub since: Instant,
    /// Before this time it is not to be started again.
    pub until: Instant,
}

/// Should a process in this state run, if the daemon died now? What is `held` waits for the end of
/// the run beside it, and counts.
pub fn wanted(state: &State, held: Option<&Event>) -> Wanted {
    match held {
        Some(Event::StartAsked | Event::RestartAsked) => Wanted::Up,
        Some(Event::StopAsked | Event::DeleteAsked) => Wanted::Down,
        _ => wanted_in(state),
    }
}

/// Where a process's machine begins, and what it must hear first.
pub fn begin(found: Evidence) -> (State, Option<Event>) {
    let since = found.since;
    match (found.alive, found.wanted) {
        (Some(pid), wanted) => {
            let news = (wanted != Wanted::Up).then_some(Event::StopAsked);
            (State::Online { pid, since }, news)
        }
        (None, Wanted::Up) if found.has_begun => {
            let exit = Event::Exited {
                exit: Exit::Unknown,
                leftovers: false,
            };
            (State::Online { pid: 0, since }, Some(exit))
        }
        (None, Wanted::Up) => {
            let until = found.until;
            (State::Waiting { until }, Some(Event::Woke))
        }
        (None, Wanted::Down) => (State::Stopped, None),
        (None, Wanted::Errored) => (State::Errored, None),
    }
}

fn wanted_in(state: &State) -> Wanted {
    match state {
        State::Launching {
            wish: Wish::Stop | Wish::Forget,
        }
        | State::Clearing {
            wish: Wish::Stop | Wish::Forget,
            ..
        }
        | State::Stopping {
            then: Then::Stay | Then::Forget,
            ..
        }
        | State::Stopped => Wanted::Down,
        State::Errored => Wanted::Errored,
        State::Launching { .. }
        | State::Clearing { .. }
        | State::Stopping { .. }
        | State::Starting { .. }
        | State::Online { .. }
        | State::Waiting { .. } => Wanted::Up,
    }
}

#[cfg(test)]
mod tests;
