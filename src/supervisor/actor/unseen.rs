//! What could not be adopted yet: listed, left alone, and looked at again.
//!
//! Such a process has no slot, so that nothing can be done with it, by anybody: whether it lives is not
//! known. Its row stays as the last daemon has written it.

use std::fs::File;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::adopt::{self, NOT_ADOPTED, Seen, Unseen};
use super::super::handle::Message;
use super::super::journal::{Row, Wanted};
use super::super::machine::History;
use super::super::snapshot::{Process, Status};
use super::Actor;
use crate::ids::Timestamp;
use crate::problem::advised;

/// Between two looks, as the captures of logs that found no descriptor do it.
const AGAIN: Duration = Duration::from_secs(1);

/// One of them.
pub(super) struct Left {
    row: Row,
    /// Ends of its pipes that somebody has kept open while no daemon lived.
    kept: Option<Vec<File>>,
    /// As it is shown.
    pub(super) process: Process,
}

impl Left {
    /// Why nothing is done with it.
    pub(super) fn why(&self) -> String {
        self.process.reason.clone().unwrap_or_default()
    }
}

impl Actor {
    pub(super) fn leave_alone(&mut self, unseen: Unseen, kept: Option<Vec<File>>) {
        let Unseen { row, why } = unseen;
        let why = reason(&why);
        let id = row.id;
        if let Some(left) = self.unseen.get_mut(&id) {
            left.process.reason = Some(why);
            return;
        }
        let mut process = Process::registered(id, row.instance, row.spec.clone());
        process.generation = row.generation;
        process.created_at = row.record.created_at;
        process.started_at = row.record.started_at;
        process.held = row.record.held;
        process.history = History {
            restarts: row.record.restarts,
            unstable: row.record.unstable,
            ..History::default()
        };
        process.status = match row.wanted {
            Wanted::Up => Status::Launching,
            Wanted::Down | Wanted::Errored => Status::Stopping,
        };
        process.pid = row.identity.map(|(pid, _)| pid);
        process.reason = Some(why);
        self.place(&mut process);
        let left = Left { row, kept, process };
        self.unseen.insert(id, left);
        self.dirty.insert(id);
    }

    /// Says how many there are, once.
    pub(super) fn tell_of_unseen(&self) {
        if let Some(first) = self.unseen.values().next() {
            let processes = self.unseen.len();
            tracing::error!(processes, "{}", first.why());
        }
    }

    /// Has those that are left looked at, in a while.
    pub(super) fn look_again(&mut self) {
        if self.unseen.is_empty() {
            return;
        }
        let rows: Vec<Row> = self.unseen.values().map(|left| left.row.clone()).collect();
        let (home_id, run_dir) = (self.home_id.clone(), self.run_dir.clone());
        let (cgroups, inbox) = (self.cgroups.clone(), self.inbox.clone());
        self.tasks.spawn(async move {
            tokio::time::sleep(AGAIN).await;
            let (now, today) = (Instant::now(), Timestamp::now());
            let home = move || {
                let home = (home_id.as_str(), run_dir.as_path());
                adopt::look_again(rows, home, &cgroups, now, today)
            };
            let seen = tokio::task::spawn_blocking(home).await.unwrap_or_default();
            let _ = inbox.send(Message::Seen(seen)).await;
        });
    }

    /// They have been looked at.
    pub(super) fn seen(&mut self, seen: Vec<Seen>) {
        // Nobody waits for what a run wrote last whose end was not seen.
        let mut unread = JoinSet::new();
        for one in seen {
            match one {
                Seen::Unseen(unseen) => self.leave_alone(*unseen, None),
                Seen::Found(found) => {
                    let id = found.process.id;
                    let Some(left) = self.unseen.remove(&id) else {
                        continue;
                    };
                    if let Some((event, asked)) = self.take_over(*found, left.kept, &mut unread) {
                        self.note_earlier_end(id, &event);
                        self.feed(id, event, asked);
                    }
                }
            }
        }
        unread.detach_all();
        self.look_again();
    }
}

/// For people.
fn reason(why: &std::io::Error) -> String {
    let why = advised(&why.to_string());
    format!(
        "{NOT_ADOPTED}: this daemon cannot look after it ({why}), so it is neither ended nor started \
         until it can"
    )
}
