//! What people ask for: a command becomes a list of events and of processes to wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::handle::{Action, CommandError, Reply, Saved, Start};
use super::super::last_exits::{Asked, Who};
use super::super::machine::{Event, State};
use super::super::plan::{self, Count};
use super::super::target::Target;
use super::super::triggers::{self, Cause};
use super::super::waits::{Done, Goal, Outcome, Wait};
use super::{Actor, PROCESSES_MAX, Slot};
use crate::config::AppSpec;
use crate::config::spec::Env;
use crate::ids::{PmId, Timestamp};

impl Actor {
    pub(super) fn start(&mut self, specs: Vec<Arc<AppSpec>>, how: Start, reply: Reply) {
        let snapshot = self.snapshot();
        let planned = if how.beside {
            plan::start_beside(&snapshot, specs)
        } else {
            plan::start(&snapshot, specs, how.spares)
        };
        let steps = match planned {
            Ok(steps) => steps,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        self.follow(steps, how.unready, reply);
    }

    /// Does what was planned; what is started need not be ready for an answer when that is said.
    fn follow(&mut self, steps: Vec<plan::Step>, unready: bool, reply: Reply) {
        let start = |generation| {
            if unready {
                Goal::Spawned { generation }
            } else {
                Goal::Started { generation }
            }
        };
        let new = steps
            .iter()
            .filter(|step| matches!(step, plan::Step::Start { .. }))
            .count();
        if self.slots.len() + new > PROCESSES_MAX {
            return drop(reply.send(Err(CommandError::TooMany(PROCESSES_MAX))));
        }
        let mut wait = Wait {
            open: BTreeMap::new(),
            outcomes: Vec::new(),
            reply,
        };
        let mut events = Vec::new();
        for step in steps {
            match self.unless_kept(step) {
                plan::Step::Keep { id, spec, .. } => {
                    let name = spec.name.clone();
                    wait.outcomes.push(Outcome::at_once(id, name, None));
                }
                plan::Step::Start { spec, instance } => {
                    let id = self.register(spec.clone(), instance);
                    if spec.autostart {
                        self.expect(&mut wait, id, start);
                        events.push((id, Event::StartAsked));
                    } else {
                        wait.outcomes.push(registered(id, &spec));
                    }
                }
                plan::Step::Restart { id, spec, instance } => {
                    self.expect(&mut wait, id, start);
                    if let Some((_, _, done)) = wait.open.get_mut(&id) {
                        *done = Done::Restarted;
                    }
                    if let Some(slot) = self.slots.get_mut(&id) {
                        slot.next = Some((spec, instance));
                        slot.process.created_at = Timestamp::now();
                    }
                    events.push((id, Event::RestartAsked));
                }
                plan::Step::Leave { id, spec, instance } => {
                    wait.outcomes.push(registered(id, &spec));
                    self.leave(id, spec, instance);
                }
                plan::Step::Remove { id } => {
                    self.expect(&mut wait, id, |_| Goal::Gone);
                    events.push((id, Event::DeleteAsked));
                }
            }
        }
        self.begin(wait, events, Some(Who::Start));
    }

    /// The next run of a process that was to be kept may be waiting with another spec.
    fn unless_kept(&self, step: plan::Step) -> plan::Step {
        match step {
            plan::Step::Keep { id, spec, instance }
                if self.slots.get(&id).is_none_or(|slot| slot.next.is_some()) =>
            {
                plan::Step::Restart { id, spec, instance }
            }
            other => other,
        }
    }

    /// A stopped process is what it would be if it were registered now.
    fn leave(&mut self, id: PmId, spec: Arc<AppSpec>, instance: u32) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        slot.next = None;
        let mut process = slot.process.clone();
        process.spec = spec;
        process.instance = instance;
        process.created_at = Timestamp::now();
        self.place(&mut process);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.process = process;
        }
        self.write_down(id);
        self.dirty.insert(id);
    }

    pub(super) fn act(&mut self, action: Action, target: &str, env: Option<Env>, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let mut wait = Wait {
            open: BTreeMap::new(),
            outcomes: Vec::new(),
            reply,
        };
        let goal = |generation| match action {
            Action::Stop => Goal::Stopped,
            Action::Delete | Action::Close => Goal::Gone,
            Action::Start => Goal::Spawned { generation },
            Action::Restart => Goal::Started { generation },
        };
        let mut events = Vec::new();
        for id in ids {
            self.expect(&mut wait, id, goal);
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            if matches!(action, Action::Start | Action::Restart) {
                slot.process.created_at = Timestamp::now();
                if let Some(env) = &env {
                    let (spec, instance) = slot
                        .next
                        .take()
                        .unwrap_or_else(|| (slot.process.spec.clone(), slot.process.instance));
                    let mut spec = AppSpec::clone(&spec);
                    spec.env.merge(env.iter());
                    slot.next = Some((Arc::new(spec), instance));
                }
            }
            events.push((
                id,
                match action {
                    Action::Start | Action::Restart => Event::RestartAsked,
                    Action::Stop => Event::StopAsked,
                    Action::Delete | Action::Close => Event::DeleteAsked,
                },
            ));
        }
        self.is_closing |= action == Action::Close;
        let who = match action {
            Action::Start => Some(Who::Start),
            Action::Close => Some(Who::Daemon),
            Action::Stop | Action::Restart | Action::Delete => None,
        };
        self.begin(wait, events, who);
    }

    /// The processes that a word means.
    pub(super) fn selected(&mut self, word: &str) -> Result<Vec<PmId>, CommandError> {
        let target = Target::parse(word)?;
        let ids = target.select(&self.snapshot());
        if ids.is_empty() && !target.is_all() {
            return Err(CommandError::Unknown(word.to_owned()));
        }
        Ok(ids)
    }

    pub(super) fn resurrect(&mut self, saved: Vec<Saved>, reply: Reply) {
        let known: BTreeSet<_> = self
            .slots
            .values()
            .map(|slot| &slot.process)
            .chain(self.unseen.values().map(|left| &left.process))
            .map(|process| process.spec.name.clone())
            .collect();
        let mut wait = Wait {
            open: BTreeMap::new(),
            outcomes: Vec::new(),
            reply,
        };
        let mut events = Vec::new();
        for Saved {
            spec,
            instance,
            stopped,
        } in saved
        {
            if known.contains(&spec.name) || self.slots.len() >= PROCESSES_MAX {
                continue;
            }
            let id = self.register(spec, instance);
            if !stopped {
                self.expect(&mut wait, id, |generation| Goal::Spawned { generation });
                events.push((id, Event::StartAsked));
            }
        }
        self.begin(wait, events, None);
    }

    /// Adds to the command's list where this process should get, given its next generation.
    pub(super) fn expect(&self, wait: &mut Wait<Reply>, id: PmId, goal: impl Fn(u64) -> Goal) {
        let Some(slot) = self.slots.get(&id) else {
            wait.outcomes.extend(self.refusal(id));
            return;
        };
        let goal = goal(slot.next_generation());
        let name = slot.process.spec.name.clone();
        wait.open.insert(id, (name, goal, Done::AsAsked));
    }

    /// `who` wants it, unless the events tell.
    pub(super) fn begin(
        &mut self,
        wait: Wait<Reply>,
        events: Vec<(PmId, Event)>,
        who: Option<Who>,
    ) {
        self.waits.push(wait);
        for (id, event) in events {
            self.feed(id, event, who.map(Asked::by));
        }
        self.check_waits(None);
    }

    /// The clock or a changed file wants it restarted.
    pub(super) fn due(&mut self, id: PmId, cause: Cause, why: String) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if !triggers::restarts(cause, &slot.state, slot.process.held) {
            return;
        }
        tracing::info!(app = %slot.process.spec.name, pm_id = %id, "restarted: {why}");
        let who = match cause {
            Cause::Clock => Who::Clock,
            Cause::Files => Who::Files,
        };
        let asked = Asked::because(who, &why);
        slot.process.held = false;
        slot.process.restarted_for = Some((why, Timestamp::now()));
        self.feed(id, Event::RestartAsked, Some(asked));
    }

    pub(super) fn scale(&mut self, target: &str, count: Count, reply: Reply) {
        let planned = self.selected(target).and_then(|ids| {
            let steps = plan::scale(&self.snapshot(), &ids, count)?;
            Ok(steps)
        });
        match planned {
            Ok(steps) => self.follow(steps, false, reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn reset(&mut self, target: &str, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        for &id in &ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.process.history.restarts = 0;
                slot.process.history.unstable = 0;
            }
            self.write_down(id);
            self.dirty.insert(id);
        }
        let outcomes = self.outcomes(&ids, |_| None);
        drop(reply.send(Ok(outcomes)));
    }

    pub(super) fn unwatch(&mut self, target: &str, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        for &id in &ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                Arc::make_mut(&mut slot.process.spec).triggers.watch = None;
            }
            self.write_down(id);
            self.dirty.insert(id);
        }
        let outcomes = self.outcomes(&ids, |_| None);
        drop(reply.send(Ok(outcomes)));
    }

    pub(super) fn signal(&mut self, target: &str, signal: i32, reply: Reply) {
        let ids = match self.selected(target) {
            Ok(ids) => ids,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let outcomes = self.outcomes(&ids, |slot| {
            let lives = matches!(
                slot.state,
                State::Starting { .. } | State::Online { .. } | State::Stopping { .. }
            );
            match slot.handle.as_ref().filter(|_| lives) {
                Some(handle) => {
                    handle.signal_root(signal);
                    None
                }
                None => Some("it does not run".to_owned()),
            }
        });
        drop(reply.send(Ok(outcomes)));
    }

    /// What can be said of a process that could not be adopted.
    fn refusal(&self, id: PmId) -> Option<Outcome> {
        let left = self.unseen.get(&id)?;
        let name = left.process.spec.name.clone();
        Some(Outcome::at_once(id, name, Some(left.why())))
    }

    /// What became of each, at once.
    fn outcomes(&self, ids: &[PmId], error: impl Fn(&Slot) -> Option<String>) -> Vec<Outcome> {
        let one = |&id: &PmId| {
            let Some(slot) = self.slots.get(&id) else {
                return self.refusal(id);
            };
            let name = slot.process.spec.name.clone();
            let error = error(slot);
            Some(Outcome::at_once(id, name, error))
        };
        ids.iter().filter_map(one).collect()
    }
}

fn registered(id: PmId, spec: &AppSpec) -> Outcome {
    Outcome {
        done: Done::Registered,
        ..Outcome::at_once(id, spec.name.clone(), None)
    }
}
