//! What the journal gets to know of a process.

use tokio::time::Instant;

use super::super::journal::{BesideRecord, NextRun, Record, Row};
use super::super::machine::{Exit, State};
use super::super::recovery::{self, Clocks};
use super::Actor;
use crate::config::AppSpec;
use crate::ids::{PmId, Timestamp};

impl Actor {
    pub(super) fn write_down(&self, id: PmId) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let process = &slot.process;
        let has_run = matches!(
            slot.state,
            State::Starting { .. }
                | State::Online { .. }
                | State::Stopping { .. }
                | State::Clearing { .. }
        );
        let handle = slot.handle.as_ref().filter(|_| has_run);
        let clocks = Clocks {
            now: Instant::now(),
            today: Timestamp::now(),
        };
        let (held, asked) = (slot.held.as_ref(), slot.endings.asked());
        let split = |exit: Exit| match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        self.journal.put(Row {
            id,
            generation: process.generation,
            instance: process.instance,
            wanted: recovery::wanted(&slot.state, held),
            identity: handle.map(|handle| (handle.pid(), handle.start_time())),
            record: Record {
                restarts: process.history.restarts,
                unstable: process.history.unstable,
                delay_ms: u64::try_from(process.history.delay.as_millis()).unwrap_or(u64::MAX),
                created_at: process.created_at,
                started_at: process.started_at,
                last_exit: process.last_exit.map(|(exit, at)| {
                    let (code, signal) = split(exit);
                    (code, signal, at)
                }),
                ended_for: process.ended_for.clone(),
                reason: process.reason.clone(),
                restarted_for: process.restarted_for.clone(),
                held: process.held,
                newest: slot.newest,
                beside: slot.beside.as_ref().map(|second| BesideRecord {
                    generation: second.generation,
                    identity: second
                        .handle
                        .as_ref()
                        .map(|handle| (handle.pid(), handle.start_time())),
                }),
                unshared: process.unshared,
                under_way: recovery::under_way(&slot.state, held, asked, clocks),
                next: slot.next.as_ref().map(|(spec, instance)| NextRun {
                    spec: Box::new(AppSpec::clone(spec)),
                    instance: *instance,
                }),
                channel: slot
                    .lines
                    .identity()
                    .map(|identity| (identity.number, identity.inode)),
            },
            spec: process.spec.clone(),
        });
    }
}
