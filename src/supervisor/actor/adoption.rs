//! The beginning: takes over what the journal names.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::adopt::{self, Found, Seen};
use super::super::channel::Lines;
use super::super::child_env;
use super::super::handle::Unshared;
use super::super::journal::Row;
use super::super::kill::Handle;
use super::super::last_exits::Asked;
use super::super::machine::{Effect, Event, State, Then};
use super::super::overlap::{Beside, Order};
use super::super::snapshot::Readiness;
use super::reload::Second;
use super::runs::tree_of;
use super::{Actor, Slot};
use crate::failpoint;
use crate::ids::{PmId, Timestamp};
use crate::logs::Logs;

/// How long the way up waits for what services wrote last that have ended meanwhile. A disk that is
/// slow gets it later.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Actor {
    /// Takes over what the journal names. Of the pipes some are still open: what is in them is read,
    /// whether the process lives or has ended.
    pub(super) async fn adopt(&mut self, left: Vec<Row>, mut kept: BTreeMap<PmId, Vec<File>>) {
        let (home_id, run_dir) = (self.home_id.clone(), self.run_dir.clone());
        let (now, today) = (Instant::now(), Timestamp::now());
        let cgroups = self.cgroups.clone();
        let look = move || {
            let found = adopt::find_all(left, (&home_id, &run_dir), &cgroups, now, today);
            cgroups.sweep();
            found
        };
        let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        failpoint::reach("adopt.looked");
        let mut news = Vec::new();
        let mut unread = JoinSet::new();
        for seen in found {
            match seen {
                Seen::Found(found) => {
                    let id = found.process.id;
                    let first = self.take_over(*found, kept.remove(&id), &mut unread);
                    news.extend(first.map(|(event, asked)| (id, event, asked)));
                }
                Seen::Unseen(unseen) => {
                    let kept = kept.remove(&unseen.row.id);
                    self.leave_alone(*unseen, kept);
                }
            }
        }
        let last = |map: Option<PmId>| map.map_or(0, |PmId(last)| last + 1);
        let of_slots = last(self.slots.last_key_value().map(|(id, _)| *id));
        let of_unseen = last(self.unseen.last_key_value().map(|(id, _)| *id));
        self.next_id = of_slots.max(of_unseen);
        self.tell_of_unseen();
        self.look_again();
        // Before it is decided what follows: the next run writes into the same pipes.
        all_read(unread).await;
        failpoint::reach("adopt.before_news");
        for (id, event, asked) in news {
            self.note_earlier_end(id, &event);
            self.feed(id, event, asked);
        }
        failpoint::reach("adopt.done");
    }

    /// Takes over one process; what its machine must hear first, and who wants that. What it wrote last
    /// is read in a task of `unread` when it has ended.
    pub(super) fn take_over(
        &mut self,
        found: Found,
        kept: Option<Vec<File>>,
        unread: &mut JoinSet<()>,
    ) -> Option<(Event, Option<Asked>)> {
        let Found {
            mut process,
            state,
            handle,
            channel,
            news: first,
            asked,
            next,
            newest,
            beside,
        } = found;
        let id = process.id;
        self.place(&mut process);
        if let Some(handle) = &handle {
            tracing::info!(app = %process.spec.name, pid = handle.pid(), "adopted");
            if process.spec.mcp.is_some() {
                process.health.readiness = Readiness::Starting;
            }
            let (generation, spec) = (process.generation, &process.spec);
            let home = (self.home_id.as_str(), self.run_dir.as_path());
            let root = tree_of(home, (id, generation), handle.clone(), spec);
            self.watch(id, generation, root);
        }
        process.life = handle.as_ref().map(Handle::life);
        let lives = handle.is_some();
        let to = self.listener(id, process.generation);
        let mut slot = Slot::new(process, state, handle);
        slot.newest = newest;
        slot.next = next.map(|next| (Arc::new(*next.spec), next.instance));
        slot.endings.go_on(asked.clone());
        if let State::Stopping {
            then: Then::Recover(why),
            ..
        } = &slot.state
        {
            slot.unhealthy = Some(why.clone());
        }
        slot.unshared = slot.process.unshared.map(|port| Unshared {
            port,
            why: slot.process.reason.clone().unwrap_or_default(),
        });
        if let Some(end) = channel {
            slot.lines.listen(end, to.clone(), &mut self.tasks);
        }
        let spec = &slot.process.spec;
        if lives && spec.ready_within.is_some() {
            let run = child_env::run_name(&self.home_id, id, slot.process.generation);
            let user = spec.run_as.map(|user| user.uid);
            slot.lines.take_notify_back(run, user, to, &mut self.tasks);
        }
        self.slots.insert(id, slot);
        failpoint::reach("adopt.before_pipes");
        if (lives || kept.is_some())
            && let Some(capture) = self.capture(id)
        {
            let opened = async move {
                capture.await;
                // It has its pipes open by their names.
                drop(kept);
            };
            if lives {
                self.tasks.spawn(opened);
            } else {
                unread.spawn(read_out(self.logs.clone(), id, opened));
            }
        }
        if let Some((generation, handle)) = beside {
            self.end_left_beside(id, generation, handle, Instant::now());
        }
        self.settle(id);
        failpoint::reach("adopt.taken");
        first.map(|event| (event, asked))
    }

    /// A daemon died during a reload. Its journal says which run is the process; the other is ended,
    /// whether it was to come or to go.
    fn end_left_beside(&mut self, id: PmId, generation: u64, handle: Handle, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let (pid, spec) = (handle.pid(), slot.process.spec.clone());
        tracing::info!(app = %spec.name, pid, "ended: the other run of a reload that was cut short");
        let kill_at = now + spec.stop.grace;
        let home = (self.home_id.as_str(), self.run_dir.as_path());
        let root = tree_of(home, (id, generation), handle.clone(), &spec);
        slot.beside = Some(Second {
            state: Beside::Retiring { pid, kill_at },
            generation,
            instance: slot.process.instance,
            started_at: None,
            handle: Some(handle),
            lines: Lines::default(),
            spec,
        });
        self.watch(id, generation, root);
        self.carry_out(id, Order::Beside(Effect::Terminate(pid)));
        self.carry_out(id, Order::Beside(Effect::WakeAt(kill_at)));
    }
}

/// Has the log files take what a run wrote last that has ended.
async fn read_out(logs: Logs, id: PmId, opened: impl Future<Output = ()>) {
    opened.await;
    logs.settle(id).await;
    let mut extents = logs.extents(id).await;
    // Nothing more comes when both pipes have been read.
    while extents.recv().await.is_some() {}
}

async fn all_read(mut unread: JoinSet<()>) {
    let all = async { while unread.join_next().await.is_some() {} };
    if timeout(LAST_WORDS, all).await.is_err() {
        tracing::warn!("what services wrote last before they ended is still being read");
        unread.detach_all();
    }
}
