//! After an exit: restart, give up, or stay stopped (pure). `backoff.rs` says how long to wait.
//!
//! Unstable is an exit before `min_uptime`; one stable run forgets the
//! unstable ones; a service is tried for ever, a plain app until `max_restarts`.

use std::time::Duration;

use super::backoff;
use super::last_exits;
use super::machine::{Exit, History};
use crate::config::spec::RestartPolicy;

/// What follows an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start again after this wait.
    Again(Duration),
    /// Nothing more: that was a wished end.
    Stay,
    /// Nothing more: it ends too often.
    GiveUp(String),
}

/// Decides what follows when a process ended by itself after `ran`.
pub fn after_exit(
    policy: &RestartPolicy,
    service: bool,
    exit: Exit,
    ran: Duration,
    history: History,
) -> (Decision, History) {
    if !policy.autorestart {
        return (Decision::Stay, history);
    }
    if let Exit::Code(code) = exit
        && policy.stop_exit_codes.contains(&code)
    {
        return (Decision::Stay, history);
    }
    again(policy, service, &exit.to_string(), ran, history)
}

/// Decides what follows when a run of `ran` ended for `why`, and it should run.
pub fn again(
    policy: &RestartPolicy,
    service: bool,
    why: &str,
    ran: Duration,
    mut history: History,
) -> (Decision, History) {
    let unstable = ran < policy.min_uptime;
    history.unstable = if unstable {
        history.unstable.saturating_add(1)
    } else {
        0
    };
    if unstable && policy.max_restarts == 0 {
        let reason = format!("{why} before `min_uptime`, and `max_restarts` is 0");
        return (Decision::GiveUp(reason), history);
    }
    if unstable && !service && history.unstable >= policy.max_restarts {
        let times = last_exits::in_a_row(history.unstable);
        let reason = format!("{times} (`max_restarts`); the last: {why}");
        return (Decision::GiveUp(reason), history);
    }
    let settled = match policy.exp_backoff_restart_delay {
        Some(_) => ran >= backoff::EXPONENTIAL_RESET,
        None => !unstable,
    };
    let last = if settled {
        Duration::ZERO
    } else {
        history.delay
    };
    history.delay = backoff::delay(policy, service, history.unstable, last);
    history.restarts = history.restarts.saturating_add(1);
    (Decision::Again(history.delay), history)
}

/// What follows when it could not be started for want of something that may be there in a moment, such
/// as a descriptor: it is tried again after this wait, for ever. Nothing has run, so nothing was
/// unstable, and nothing was restarted.
pub fn after_failed_start(mut history: History) -> (Duration, History) {
    history.failed_starts = history.failed_starts.saturating_add(1);
    (backoff::failed_start(history.failed_starts), history)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            autorestart: true,
            max_restarts: 3,
            min_uptime: Duration::from_secs(1),
            restart_delay: None,
            exp_backoff_restart_delay: None,
            stop_exit_codes: vec![0],
        }
    }

    const SHORT: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_secs(5);

    #[test]
    fn a_plain_app_gives_up_after_max_restarts_unstable_exits() {
        let mut history = History::default();
        for _ in 0..2 {
            let (decision, next) = after_exit(&policy(), false, Exit::Code(1), SHORT, history);
            assert_eq!(decision, Decision::Again(Duration::ZERO));
            history = next;
        }
        let (decision, next) = after_exit(&policy(), false, Exit::Code(1), SHORT, history);
        assert!(matches!(decision, Decision::GiveUp(_)), "{decision:?}");
        assert_eq!(next.restarts, 2, "16 launches make 15 restarts, as in PM2");
    }

    #[test]
    fn a_service_never_gives_up() {
        let mut history = History::default();
        for _ in 0..100 {
            let (decision, next) = after_exit(&policy(), true, Exit::Code(1), SHORT, history);
            assert!(matches!(decision, Decision::Again(_)));
            history = next;
        }
        assert_eq!(history.delay, backoff::SERVICE_MAX);
    }

    #[test]
    fn one_stable_run_forgets_the_unstable_ones() {
        let history = History {
            restarts: 9,
            unstable: 2,
            delay: Duration::from_millis(75),
            ..History::default()
        };
        let (decision, next) = after_exit(&policy(), true, Exit::Signal(9), LONG, history);
        assert_eq!(decision, Decision::Again(Duration::ZERO));
        assert_eq!((next.unstable, next.restarts), (0, 10));
    }

    #[test]
    fn a_stop_code_stays_but_a_signal_is_not_code_zero() {
        let history = History::default();
        assert_eq!(
            after_exit(&policy(), false, Exit::Code(0), LONG, history).0,
            Decision::Stay
        );
        assert_eq!(
            after_exit(&policy(), false, Exit::Signal(9), LONG, history).0,
            Decision::Again(Duration::ZERO)
        );
    }

    #[test]
    fn max_restarts_zero_means_zero() {
        let policy = RestartPolicy {
            max_restarts: 0,
            ..policy()
        };
        let (decision, _) = after_exit(&policy, true, Exit::Code(1), SHORT, History::default());
        assert!(matches!(decision, Decision::GiveUp(_)));
        let (decision, _) = after_exit(&policy, true, Exit::Code(1), LONG, History::default());
        assert!(
            matches!(decision, Decision::Again(_)),
            "a stable run may come back"
        );
    }

    #[test]
    fn a_start_that_failed_for_want_of_something_counts_as_no_run() {
        let before = History {
            restarts: 9,
            unstable: 2,
            delay: Duration::from_millis(75),
            ..History::default()
        };
        let mut history = before;
        let mut waits = Vec::new();
        for _ in 0..1000 {
            let (wait, next) = after_failed_start(history);
            waits.push(wait.as_millis());
            history = next;
        }
        assert_eq!(waits[..4], [50, 75, 112, 168]);
        assert_eq!(waits[8..10], [1000, 1000]);
        let failed_starts = 1000;
        let expected = History {
            failed_starts,
            ..before
        };
        assert_eq!(history, expected);
    }

    #[test]
    fn autorestart_false_stays() {
        let policy = RestartPolicy {
            autorestart: false,
            ..policy()
        };
        let (decision, _) = after_exit(&policy, true, Exit::Code(1), SHORT, History::default());
        assert_eq!(decision, Decision::Stay);
    }
}
