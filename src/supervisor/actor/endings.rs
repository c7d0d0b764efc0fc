//! How runs have ended: who wanted it, what was found, and what the machine has made of it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::exit_log;
use super::super::handle::Trace;
use super::super::kill::Handle;
use super::super::last_exits::{self, Asked, ExitRecord, Key, Next, NoLines, Who};
use super::super::machine::{Event, Exit, State};
use super::super::proc;
use super::super::snapshot::Process;
use super::{Actor, Slot};
use crate::ids::{PmId, Timestamp};
use crate::logs::append::length_of;
use crate::logs::{Extent, Stream};

/// Of a process that is started again, log lines are read not more often.
const LINES_EVERY: Duration = Duration::from_secs(1);

/// What a process remembers of the end of its main run.
#[derive(Default)]
pub(super) struct Endings {
    /// Who wanted it first.
    asked: Option<Asked>,
    /// It has come, and what follows is not decided yet.
    ended: Option<Ended>,
    /// When the lines of a record were read last.
    lines_read: Option<Instant>,
}

/// A run that has ended.
pub(super) struct Ended {
    key: Key,
    exit: Exit,
    record: ExitRecord,
    output: mpsc::Receiver<Extent>,
}

/// What is found of a run that has ended before this daemon came, whether the last one has seen it or
/// none lived. Its log files end with it: the next run is not there yet.
fn trace_of_the_dead(process: &Process, is_seen: bool) -> Trace {
    let (sender, output) = mpsc::channel(2);
    let logs = &process.logs;
    for (stream, path) in [(Stream::Out, &logs.out), (Stream::Error, &logs.error)] {
        let path = path.as_ref().or(logs.combined.as_ref());
        let Some((path, to)) = path.and_then(|path| Some((path.clone(), length_of(path)?))) else {
            continue;
        };
        // There is room for both.
        let _ = sender.try_send(Extent {
            stream,
            path,
            from: 0,
            to,
            is_cut: false,
            may_be_older: true,
        });
    }
    Trace {
        peak_memory: None,
        output,
        is_seen,
    }
}

impl Endings {
    /// A run begins: what was wanted of the last one is not wanted of this one.
    pub(super) fn begin(&mut self) {
        self.asked = None;
    }

    /// Of a run that an earlier daemon was told to end.
    pub(super) fn go_on(&mut self, asked: Option<Asked>) {
        self.asked = asked;
    }

    /// Who wants the end of the run.
    pub(super) fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// The daemon ends, this one or the last, and takes it along.
    pub(super) fn is_closing(&self) -> bool {
        self.asked().is_some_and(|asked| asked.who == Who::Daemon)
    }

    /// The main run has gone from one state to another, since somebody wanted something.
    pub(super) fn note_wish(&mut self, before: &State, after: &State, asked: Option<Asked>) {
        if last_exits::is_wanted_gone(after) && !last_exits::is_wanted_gone(before) {
            self.asked = asked;
        }
    }

    /// The run that has ended, once it is decided what follows.
    pub(super) fn decided(
        &mut self,
        decision: impl FnOnce(Exit) -> Option<(Next, String)>,
    ) -> Option<(Ended, Next, String)> {
        let (next, text) = decision(self.ended.as_ref()?.exit)?;
        Some((self.ended.take()?, next, text))
    }
}

impl Actor {
    /// A run has ended. Called before the machines hear of it.
    pub(super) fn note_end(&mut self, id: PmId, generation: u64, exit: Exit, trace: Trace) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.process.generation == generation {
            slot.note_end(exit, trace);
            return;
        }
        let second = slot
            .beside
            .as_ref()
            .filter(|second| second.generation == generation);
        let Some(second) = second else {
            return;
        };
        let Some((asked, decision)) = last_exits::end_beside(&second.state) else {
            return;
        };
        let key = Key {
            app: second.spec.name.clone(),
            instance: second.instance,
        };
        let ended = ended(key, exit, asked, second.handle.as_ref(), trace);
        self.write_exit(id, ended, Next::Replaced, decision);
    }

    /// What a process hears first under this daemon may be that its run has ended before.
    pub(super) fn note_earlier_end(&mut self, id: PmId, news: &Event) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let (exit, is_seen) = match (news, &slot.state) {
            (Event::Exited { exit, .. }, _) => (*exit, false),
            (Event::GroupGone, State::Clearing { exit, .. }) => (*exit, true),
            _ => return,
        };
        let generation = slot.process.generation;
        let trace = trace_of_the_dead(&slot.process, is_seen);
        self.note_end(id, generation, exit, trace);
    }

    /// Writes down how a run has ended, and what followed.
    pub(super) fn write_exit(&mut self, id: PmId, ended: Ended, next: Next, decision: String) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Ended {
            key,
            mut record,
            output,
            ..
        } = ended;
        record.next = next;
        record.decision = decision;
        let now = Instant::now();
        let last = slot.endings.lines_read;
        let is_recent = last.is_some_and(|last| now - last < LINES_EVERY);
        if is_recent && matches!(next, Next::Started | Next::Waits) {
            record.no_lines = Some(NoLines::TooOften);
            self.exits.put(key, record);
            return;
        }
        slot.endings.lines_read = Some(now);
        let written = self.exits.put_with_lines(key, record, output);
        self.tasks.spawn(written);
    }

    /// It is deleted, and its exits are nobody's. Not when the daemon ends: the next one has it back.
    pub(super) fn forget_exits(&self, process: &Process) {
        let is_same = |other: &Process| {
            (&other.spec.name, other.instance) == (&process.spec.name, process.instance)
        };
        // `start --force` makes two of one name.
        let is_shared = || self.slots.values().any(|slot| is_same(&slot.process));
        if !self.is_closing && !is_shared() {
            self.exits.forget(exit_log::key(process));
        }
    }
}

impl Slot {
    fn note_end(&mut self, exit: Exit, trace: Trace) {
        let asked = match &self.state {
            State::Stopping { .. } => self.endings.asked.clone(),
            State::Starting { .. } | State::Online { .. } if trace.is_seen => {
                Some(Asked::by(Who::Itself))
            }
            State::Starting { .. } | State::Online { .. } => Some(Asked::by(Who::Unwatched)),
            // The last daemon has seen it, and could not write it down.
            State::Clearing { .. } if self.endings.ended.is_none() => Some(Asked::by(Who::Itself)),
            State::Stopped
            | State::Launching { .. }
            | State::Clearing { .. }
            | State::Waiting { .. }
            | State::Errored => return,
        };
        let asked = asked.unwrap_or_else(|| Asked::by(Who::Stop));
        let process = &self.process;
        let key = exit_log::key(process);
        self.endings.ended = Some(ended(key, exit, asked, self.handle.as_ref(), trace));
    }
}

/// What is known of a run that has just ended.
fn ended(key: Key, exit: Exit, asked: Asked, run: Option<&Handle>, trace: Trace) -> Ended {
    // By the clock that its start was noted by: people set the other one.
    let ran = |run: &Handle| {
        let ran = proc::since_start(run.start_time())?;
        u64::try_from(ran.as_millis()).ok()
    };
    let (code, signal) = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
        Exit::Unknown => (None, None),
    };
    let record = ExitRecord {
        at: Timestamp::now(),
        pid: run.map(Handle::pid),
        code,
        signal,
        asked_by: asked.who,
        asked_why: asked.why,
        ran_ms: run.filter(|_| trace.is_seen).and_then(ran),
        peak_memory: trace.peak_memory,
        ..ExitRecord::default()
    };
    Ended {
        key,
        exit,
        record,
        output: trace.output,
    }
}
