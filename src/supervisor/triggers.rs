//! Whether the clock or a changed file restarts a process in the state it is in (pure).
//!
//! The clock starts even what was stopped, as in PM2 (`reference`: cron). Files don't start what was
//! stopped by hand; it is watched all the same, so that the next start needs no flag. Memory is no
//! cause here: too much of it is a failed check (`machine::Event::Unhealthy`).

use super::machine::{State, Wish};

/// What wants a process restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `cron_restart`.
    Clock,
    /// `watch`.
    Files,
}

/// `held`: stopped by hand, or never started.
pub fn restarts(cause: Cause, state: &State, held: bool) -> bool {
    match state {
        State::Starting { .. } | State::Online { .. } => true,
        State::Stopped | State::Errored | State::Waiting { .. } => cause == Cause::Clock || !held,
        // What is being started has not read anything yet, and what is coming back comes anyway.
        State::Launching { .. } | State::Stopping { .. } => false,
        State::Clearing { wish, .. } => *wish == Wish::Run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clock_starts_what_was_stopped_by_hand() {
        assert!(restarts(Cause::Clock, &State::Stopped, true));
        assert!(!restarts(Cause::Files, &State::Stopped, true));
        assert!(restarts(Cause::Files, &State::Stopped, false));
        assert!(restarts(Cause::Files, &State::Errored, false));
    }

    #[test]
    fn what_is_on_its_way_is_left_alone() {
        for wish in [Wish::Run, Wish::Stop, Wish::Restart, Wish::Forget] {
            assert!(!restarts(Cause::Clock, &State::Launching { wish }, false));
        }
    }
}
