//! Waiting for states. The only file of the tests that looks at a clock.

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine with two cores.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(15);

/// A wait that has begun.
pub(crate) struct Patience {
    began: Instant,
}

impl Patience {
    #[expect(
        clippy::disallowed_methods,
        reason = "another program's state is waited for"
    )]
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// What is left of it: nothing when it has lasted longer than anything takes.
    pub(crate) fn left(&self) -> Duration {
        LIMIT.saturating_sub(self.began.elapsed())
    }
}

/// Asks until it is so; `false` when it has not become so in a long time.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let patience = Patience::new();
    loop {
        if is_so() {
            return true;
        }
        if patience.left().is_zero() {
            return false;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "another program's state is waited for"
        )]
        std::thread::sleep(PAUSE);
    }
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn wait_for<T>(mut ask: impl FnMut() -> Option<T>, what: &str) -> T {
    let mut found = None;
    eventually(|| {
        found = ask();
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("waited in vain for {what}"))
}
