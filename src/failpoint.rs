//! Places at which the daemon can be made to die at once, as by `kill -9`.
//!
//! For tests alone, and only in a program that was built with the feature `failpoints`: without it
//! [`reach`] is empty and no name of a place is in the program. With it, `MCPM_FAILPOINT=spawn.forked`
//! ends the process when it reaches that place, and `spawn.forked:3` when it reaches it for the third
//! time; it says so on standard error. `scripts/chaos --failpoints` goes through [`NAMES`].

#[cfg(any(test, feature = "failpoints"))]
use std::sync::atomic::{AtomicU32, Ordering};

/// Every place, as `room.step`, in the order in which they are met.
pub const NAMES: [&str; 80] = [
    // A start: the intent is on its way to the journal; it is written; the child is there and
    // nobody knows; its pid is known here and not in the journal; that is on its way there.
    "spawn.intended",
    "spawn.before_fork",
    "spawn.forked",
    "spawn.reported",
    "spawn.known",
    // Of the thread that writes the journal.
    "journal.before_write",
    "journal.written",
    // A stop, and an end by itself.
    "stop.before_signal",
    "stop.signalled",
    "stop.before_kill",
    "stop.killed",
    "exit.seen",
    "exit.collected",
    "exit.told",
    "exit.dealt_with",
    // A reload: the new run is the process, but for the journal.
    "reload.swapped",
    // `delete`: the row is dropped last.
    "delete.forgetting",
    "delete.before_row",
    "delete.forgotten",
    // A daemon comes and finds what another one has left: each process, each one's output.
    "adopt.before_look",
    "adopt.looked",
    "adopt.taken",
    "adopt.before_pipes",
    "adopt.before_news",
    "adopt.done",
    "capture.before_recover",
    "capture.recovered",
    // A chunk of output on its way from the pipe into the file.
    "capture.peeked",
    "capture.marked",
    "append.before_write",
    "append.written",
    "capture.stored",
    "capture.consumed",
    // A full log is put aside.
    "rotate.before_rename",
    "rotate.renamed",
    "rotate.reopened",
    "rotate.compressing",
    "rotate.compressed",
    // A hand-over, as the daemon that goes sees it, and the one that comes.
    "give.prepared",
    "give.rested",
    "give.passed",
    "give.before_yours",
    "give.yours",
    "take.prepared",
    "take.taken",
    "take.before_ready",
    "take.ready",
    "take.yours",
    // A rotation of the master key: its record is written; rows are sealed anew; the key is put in its
    // place; the former one is forgotten.
    "keys.before_record",
    "keys.recorded",
    "keys.before_batch",
    "keys.batch",
    "keys.before_file",
    "keys.file",
    "keys.before_finish",
    "keys.finished",
    // An instance is made: not yet; half of it, in a transaction; stored and answering nobody;
    // answering, and its owner was not told.
    "instance.before_add",
    "instance.half_added",
    "instance.added",
    "instance.shown",
    // It gets another credential.
    "instance.before_replace",
    "instance.half_replaced",
    "instance.replaced",
    "instance.replacement_shown",
    // It gets another URL.
    "instance.before_rotate",
    "instance.half_rotated",
    "instance.rotated",
    "instance.old_ended",
    "instance.rotation_shown",
    // It is switched off, or given other terms.
    "instance.before_change",
    "instance.changed",
    "instance.change_shown",
    // It is removed.
    "instance.before_remove",
    "instance.half_removed",
    "instance.removed",
    "instance.ended",
    // A user is removed with all that is theirs.
    "user.before_remove",
    "user.half_removed",
    "user.removed",
    "user.ended",
];

/// This place is reached.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_name: &str) {}

/// This place is reached; the process may end here.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    static ARMED: std::sync::OnceLock<Option<Armed>> = std::sync::OnceLock::new();
    let armed = || Armed::parse(&std::env::var("MCPM_FAILPOINT").ok()?);
    if ARMED
        .get_or_init(armed)
        .as_ref()
        .is_some_and(|armed| armed.is_due(name))
    {
        let said = format!("failpoint {name}\n");
        let _ = rustix::io::write(rustix::stdio::stderr(), said.as_bytes());
        let (own, kill) = (rustix::process::getpid(), rustix::process::Signal::KILL);
        let _ = rustix::process::kill_process(own, kill);
    }
}

/// Where the process is to die.
#[cfg(any(test, feature = "failpoints"))]
#[derive(Debug)]
struct Armed {
    name: String,
    /// So many times that place is yet to be reached.
    left: AtomicU32,
}

#[cfg(any(test, feature = "failpoints"))]
impl Armed {
    /// Reads `name` or `name:N`; `None` when it is neither.
    fn parse(text: &str) -> Option<Self> {
        let (name, left) = match text.rsplit_once(':') {
            Some((name, count)) => (name, count.parse::<u32>().ok().filter(|&count| count > 0)?),
            None => (text, 1),
        };
        Some(Self {
            name: name.to_owned(),
            left: AtomicU32::new(left),
        })
    }

    /// This place is reached: is it the one, and was it reached often enough?
    fn is_due(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_due_when_it_was_reached_often_enough() {
        let dues = |text: &str| {
            let armed = Armed::parse(text)?;
            let reached = ["a.b", "a.c", "a.b", "a.b"];
            Some(reached.map(|name| armed.is_due(name)))
        };
        assert_eq!(dues("a.b"), Some([true, false, false, false]));
        assert_eq!(dues("a.b:2"), Some([false, false, true, false]));
        assert_eq!(dues("a.b:9"), Some([false; 4]));
        for wrong in ["a.b:", "a.b:0", "a.b:x"] {
            assert_eq!(dues(wrong), None, "{wrong}");
        }
    }
}
