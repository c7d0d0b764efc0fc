//! How long the beginning of a line waits for its end, and when its pipe is looked into meanwhile
//! (pure).
//!
//! The kernel tells of what is written on top of something only when that write ends, and some
//! kernels not even then: a writer that fills the pipe in the middle of a write would wait as long as
//! the line does. So the pipe is looked into without being told, soon at first and then less and less
//! often: such a writer waits no longer than it has taken to come.

use std::time::Duration;

use tokio::time::Instant;

/// How long the beginning of a line is held back for its end.
const LINE_WAIT: Duration = Duration::from_millis(500);
/// The first look comes after this time, each other one after twice the time of the one before.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// The beginning of a line waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    over_at: Instant,
    look_at: Instant,
    pause: Duration,
}

impl Wait {
    /// It has come now.
    pub(super) fn since(now: Instant) -> Self {
        Self {
            over_at: now + LINE_WAIT,
            look_at: now + FIRST_LOOK,
            pause: FIRST_LOOK,
        }
    }

    /// There may be more than is known: the first look is due now.
    pub(super) fn at_once(now: Instant) -> Self {
        Self {
            look_at: now,
            ..Self::since(now)
        }
    }

    /// When the next look is due.
    pub(super) fn until(self) -> Instant {
        self.look_at.min(self.over_at)
    }

    /// Its end is not waited for any longer.
    pub(super) fn is_over(self, now: Instant) -> bool {
        self.over_at <= now
    }

    /// That look is done; this is the wait for the one after it.
    pub(super) fn longer(self) -> Self {
        let pause = self.pause * 2;
        Self {
            look_at: self.look_at + pause,
            pause,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_get_rare_and_the_wait_ends() {
        let now = Instant::now();
        let mut wait = Wait::since(now);
        let mut looks = Vec::new();
        while !wait.is_over(wait.until()) {
            looks.push((wait.until() - now).as_millis());
            wait = wait.longer();
        }
        assert_eq!(looks, [1, 3, 7, 15, 31, 63, 127, 255]);
        assert_eq!(wait.until() - now, LINE_WAIT);
        assert_eq!(Wait::at_once(now).until(), now);
    }
}
