//! Counts answers into ready or not (pure).
//!
//! One miss is not an outage; `unhealthy_after` misses in a row are
//! (peers that stopped at the first miss got bug reports).

/// What a service's last answers amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    unhealthy_after: u32,
    failures: u32,
    ready: bool,
}

/// An answer that changes the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It answers again.
    Ready,
    /// It has failed too often in a row.
    Unhealthy,
}

impl Verdict {
    /// Not ready yet. `unhealthy_after` counts as 1 when it is 0.
    pub fn new(unhealthy_after: u32) -> Self {
        Self {
            unhealthy_after: unhealthy_after.max(1),
            failures: 0,
            ready: false,
        }
    }

    /// It has become ready after its start.
    pub fn ready(&mut self) {
        self.failures = 0;
        self.ready = true;
    }

    /// Counts one answer.
    pub fn see(&mut self, alive: bool) -> Option<Change> {
        if alive {
            self.failures = 0;
            let change = (!self.ready).then_some(Change::Ready);
            self.ready = true;
            return change;
        }
        self.failures = self.failures.saturating_add(1);
        if self.ready && self.failures >= self.unhealthy_after {
            self.ready = false;
            return Some(Change::Unhealthy);
        }
        None
    }

    /// Failed answers in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_count() {
        let mut verdict = Verdict::new(3);
        verdict.ready();
        for alive in [false, false, true, false, false] {
            assert_eq!(verdict.see(alive), None);
        }
        assert_eq!(verdict.see(false), Some(Change::Unhealthy));
        assert_eq!(verdict.see(false), None, "said once");
        assert_eq!(verdict.see(true), Some(Change::Ready));
    }
}
