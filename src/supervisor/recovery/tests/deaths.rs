//! A world in which the daemon may die between any two steps, and the next one finds what is left.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::AppSpec;
use crate::supervisor::machine::{Effect, History};
use crate::supervisor::overlap::{self, Beside, Order, Pair, Policies, Whose};
use crate::supervisor::testing;

/// How far a run has come. Its number is its generation, and its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The spawner has the order.
    Ordered,
    /// It lives, and the daemon does not know yet.
    Forked,
    /// It lives.
    Alive,
    /// Its root has ended, and something that it has started lives.
    Remains,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    phase: Phase,
    /// It was told to end.
    ends: bool,
}

/// What the journal knows, as far as it matters here.
#[derive(Clone, Debug)]
struct Row {
    wanted: Wanted,
    under_way: UnderWay,
    generation: u32,
    has_begun: bool,
    beside: Option<u32>,
    newest: u32,
    history: History,
}

/// What people have asked for last, when that is certain to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastAsked {
    Up,
    Down,
    Gone,
}

#[derive(Clone, Debug)]
enum Step {
    /// Somebody wants something.
    Ask(Event),
    Reload,
    /// The spawner starts what it was told to, once the intent is written.
    Fork(Whose),
    /// And reports.
    Report(Whose),
    Fail(Whose, bool),
    Exit(Whose, bool),
    Gone(Whose),
    Ready(Whose),
    Woke,
    /// The journal has written what was put.
    Write,
    /// The daemon dies and the next one comes; meanwhile its process may die, too.
    Die(bool),
}

#[derive(Debug)]
struct World {
    spec: AppSpec,
    began: Instant,
    now: Instant,
    /// What the daemon knows, and loses.
    pair: Pair,
    history: History,
    main: u32,
    beside: Option<u32>,
    newest: u32,
    /// The old run is told to end when the journal has written that it is not the process any more.
    retires: bool,
    put: Option<Option<Row>>,
    is_forgotten: bool,
    /// What stays.
    written: Option<Row>,
    runs: BTreeMap<u32, Run>,
    /// What is asked, and whether that is written.
    asked: Option<LastAsked>,
    is_deleted: bool,
    /// The run that was asked to make room for another one.
    outdated: Option<u32>,
}

impl World {
    /// Registered, and neither wanted nor running.
    fn new(says_ready: bool) -> Self {
        let now = testing::now();
        let mut world = Self {
            spec: AppSpec {
                ready_within: says_ready.then_some(Duration::from_secs(2)),
                ..testing::spec("web")
            },
            began: now,
            now,
            pair: Pair {
                main: State::Stopped,
                beside: None,
                held: None,
            },
            history: History::default(),
            main: 0,
            beside: None,
            newest: 0,
            retires: false,
            put: None,
            is_forgotten: false,
            written: None,
            runs: BTreeMap::new(),
            asked: None,
            is_deleted: false,
            outdated: None,
        };
        world.write_down();
        world.write();
        world
    }

    fn take(&mut self, step: Step) {
        if self.is_forgotten && !matches!(step, Step::Write | Step::Die(_)) {
            return;
        }
        match step {
            Step::Ask(event) => self.ask(event),
            Step::Reload => self.reload(),
            Step::Fork(whose) => self.fork(whose),
            Step::Report(whose) => {
                if let Some((pid, run)) = self.in_phase(whose, Phase::Forked) {
                    run.phase = Phase::Alive;
                    self.see(whose, Event::Spawned { pid });
                }
            }
            Step::Fail(whose, transient) => {
                if let Some((pid, _)) = self.in_phase(whose, Phase::Ordered) {
                    self.runs.remove(&pid);
                    let why = "x".into();
                    self.see(whose, Event::SpawnFailed { why, transient });
                }
            }
            Step::Exit(whose, leftovers) => {
                if let Some((pid, run)) = self.in_phase(whose, Phase::Alive) {
                    run.phase = Phase::Remains;
                    if !leftovers {
                        self.runs.remove(&pid);
                    }
                    let exit = Exit::Code(1);
                    self.see(whose, Event::Exited { exit, leftovers });
                }
            }
            Step::Gone(whose) => {
                if let Some((pid, _)) = self.in_phase(whose, Phase::Remains) {
                    self.runs.remove(&pid);
                    self.see(whose, Event::GroupGone);
                }
            }
            Step::Ready(whose) => {
                if self.in_phase(whose, Phase::Alive).is_some() {
                    self.see(whose, Event::Ready);
                }
            }
            Step::Woke => self.see(Whose::Main, Event::Woke),
            Step::Write => self.write(),
            Step::Die(takes_it_along) => self.die(takes_it_along),
        }
    }

    fn ask(&mut self, event: Event) {
        self.is_deleted |= event == Event::DeleteAsked;
        self.asked = match event {
            Event::DeleteAsked => Some(LastAsked::Gone),
            // Hardly anything brings back what is being deleted.
            _ if self.is_deleted => None,
            Event::StopAsked => Some(LastAsked::Down),
            _ => Some(LastAsked::Up),
        };
        let is_new = self.pair.main == State::Launching { wish: Wish::Run };
        self.outdated = match event {
            // A start that is under way is as new as a restart would make it.
            Event::RestartAsked if is_new => self.outdated,
            Event::RestartAsked if !self.is_deleted => Some(self.main),
            _ => None,
        };
        self.see(Whose::Main, event);
    }

    fn reload(&mut self) {
        if self.pair.can_double() {
            self.newest += 1;
            self.pair.beside = Some(Beside::Launching { cancelled: None });
            self.beside = Some(self.newest);
            self.order(self.newest);
            self.write_down();
        }
    }

    fn fork(&mut self, whose: Whose) {
        if self.in_phase(whose, Phase::Ordered).is_some() {
            self.write();
        }
        if let Some((_, run)) = self.in_phase(whose, Phase::Ordered) {
            run.phase = Phase::Forked;
        }
    }

    /// The run, when it has come so far and no farther.
    fn in_phase(&mut self, whose: Whose, phase: Phase) -> Option<(u32, &mut Run)> {
        let pid = match whose {
            Whose::Main => self.main,
            Whose::Beside => self.beside?,
        };
        let run = self.runs.get_mut(&pid)?;
        (run.phase == phase).then_some((pid, run))
    }

    fn see(&mut self, whose: Whose, event: Event) {
        let policies = Policies {
            main: testing::policy(&self.spec),
            beside: testing::policy(&self.spec),
        };
        let pair = self.pair.clone();
        let step = overlap::step(pair, whose, event, self.history, policies, self.now);
        self.pair = step.pair;
        self.history = step.history;
        for order in step.orders {
            self.obey(order);
        }
        self.write_down();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Main(Effect::Spawn) => {
                assert!(!self.runs.contains_key(&self.main), "twice: {self:?}");
                self.newest += 1;
                self.main = self.newest;
                self.order(self.main);
            }
            Order::Main(Effect::Terminate(_) | Effect::KillGroup(_)) => self.end(self.main),
            Order::Main(Effect::Forget) => self.is_forgotten = true,
            Order::Beside(Effect::Terminate(_))
                if matches!(self.pair.beside, Some(Beside::Retiring { .. })) =>
            {
                self.retires = true;
            }
            Order::Beside(Effect::Terminate(_) | Effect::KillGroup(_)) => {
                self.end(self.beside.unwrap());
            }
            Order::Swap => std::mem::swap(&mut self.main, self.beside.as_mut().unwrap()),
            Order::Alone(_) => {
                let run = self.runs.get(&self.beside.take().unwrap());
                assert!(run.is_none(), "left alone: {run:?}");
                self.retires = false;
            }
            Order::Main(Effect::WakeAt(_) | Effect::Explain(_))
            | Order::Beside(
                Effect::Spawn | Effect::WakeAt(_) | Effect::Explain(_) | Effect::Forget,
            ) => {}
        }
    }

    fn order(&mut self, generation: u32) {
        let (phase, ends) = (Phase::Ordered, false);
        self.runs.insert(generation, Run { phase, ends });
    }

    fn end(&mut self, generation: u32) {
        if let Some(run) = self.runs.get_mut(&generation) {
            run.ends = true;
        }
    }

    fn clocks(&self) -> Clocks {
        let millis = (self.now - self.began).as_millis();
        Clocks {
            now: self.now,
            today: Timestamp::from_millis(1_795_391_347_550 + i64::try_from(millis).unwrap()),
        }
    }

    fn write_down(&mut self) {
        let has_begun = match self.pair.main {
            State::Starting { pid, .. }
            | State::Online { pid, .. }
            | State::Stopping { pid, .. }
            | State::Clearing { pid, .. } => pid > 0,
            State::Stopped | State::Launching { .. } | State::Waiting { .. } | State::Errored => {
                false
            }
        };
        let held = self.pair.held.as_ref();
        self.put = Some((!self.is_forgotten).then_some(Row {
            wanted: wanted(&self.pair.main, held),
            under_way: under_way(&self.pair.main, held, None, self.clocks()),
            generation: self.main,
            has_begun,
            beside: self.beside,
            newest: self.newest,
            history: self.history,
        }));
    }

    fn write(&mut self) {
        if let Some(row) = self.put.take() {
            self.written = row;
        }
        if std::mem::take(&mut self.retires)
            && let Some(beside) = self.beside
        {
            self.end(beside);
        }
    }

    fn die(&mut self, takes_it_along: bool) {
        if self.put.take().is_some() {
            // What was asked may not be written.
            (self.asked, self.outdated) = (None, None);
        }
        self.retires = false;
        self.runs.retain(|_, run| run.phase != Phase::Ordered);
        if takes_it_along {
            self.runs.remove(&self.main);
        }
        let Some(row) = self.written.clone() else {
            assert!(self.runs.is_empty(), "nobody's: {self:?}");
            return;
        };
        self.is_forgotten = false;
        let end = row.under_way.end.as_ref();
        self.is_deleted = end.is_some_and(|end| end.then == Then::Forget);
        self.main = row.generation;
        self.newest = row.newest;
        self.history = row.history;
        // What is left of a run whose root is dead is ended.
        self.runs.retain(|_, run| run.phase != Phase::Remains);
        for (generation, run) in &mut self.runs {
            let is_named = *generation == row.generation || Some(*generation) == row.beside;
            assert!(is_named, "no row names {generation}: {row:?}");
            run.phase = Phase::Alive;
        }
        let alive = self.runs.contains_key(&self.main).then_some(self.main);
        let (main, news) = begin(Evidence {
            wanted: row.wanted,
            under_way: row.under_way,
            alive,
            has_begun: row.has_begun,
            since: self.now,
            last_exit: Some(Exit::Code(1)),
            until: self.now,
            grace: self.spec.stop.grace,
            ready_within: self.spec.ready_within,
            clocks: self.clocks(),
        });
        self.beside = row.beside.filter(|beside| self.runs.contains_key(beside));
        let beside = self.beside.map(|pid| Beside::Retiring {
            pid,
            kill_at: self.now + self.spec.stop.grace,
        });
        self.pair = Pair {
            main,
            beside,
            held: None,
        };
        if let Some(beside) = self.beside {
            self.end(beside);
        }
        self.write_down();
        if let Some(news) = news {
            self.see(Whose::Main, news);
        }
    }

    /// The world goes on until nothing more comes by itself: what was told to end does, and what was
    /// ordered starts and stays.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.now += Duration::from_secs(5);
            self.take(Step::Write);
            self.take(Step::Woke);
            for whose in [Whose::Beside, Whose::Main] {
                self.take(Step::Fork(whose));
                self.take(Step::Report(whose));
                let pid = match whose {
                    Whose::Main => Some(self.main),
                    Whose::Beside => self.beside,
                };
                let run = pid.and_then(|pid| self.runs.get(&pid));
                if run.is_some_and(|run| run.ends) {
                    self.take(Step::Exit(whose, false));
                    self.take(Step::Gone(whose));
                }
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let whose = || prop_oneof![Just(Whose::Main), Just(Whose::Beside)];
    prop_oneof![
        1 => Just(Step::Ask(Event::StartAsked)),
        1 => Just(Step::Ask(Event::StopAsked)),
        1 => Just(Step::Ask(Event::RestartAsked)),
        1 => Just(Step::Ask(Event::DeleteAsked)),
        2 => Just(Step::Reload),
        4 => whose().prop_map(Step::Fork),
        4 => whose().prop_map(Step::Report),
        1 => (whose(), any::<bool>()).prop_map(|(whose, transient)| Step::Fail(whose, transient)),
        2 => (whose(), any::<bool>()).prop_map(|(whose, leftovers)| Step::Exit(whose, leftovers)),
        2 => whose().prop_map(Step::Gone),
        2 => whose().prop_map(Step::Ready),
        3 => Just(Step::Woke),
        3 => Just(Step::Write),
        3 => any::<bool>().prop_map(Step::Die),
    ]
}

proptest! {
    /// Whatever comes in whatever order, and whenever daemons die: no run is started while the one
    /// before it lives, none lives that no row names, and in the end there is one run of what should
    /// run and none of what should not.
    #[test]
    fn whenever_daemons_die_what_is_wanted_runs_once(
        says_ready: bool,
        steps in proptest::collection::vec((any_step(), 0u64..3000), 1..120),
    ) {
        let mut world = World::new(says_ready);
        for (step, millis) in steps {
            world.now += Duration::from_millis(millis);
            world.take(step);
        }
        world.settle();
        let up = matches!(world.pair.main, State::Online { .. } | State::Starting { .. });
        let at_rest = world.is_forgotten
            || matches!(world.pair.main, State::Stopped | State::Errored);
        prop_assert!(up || at_rest, "{world:?}");
        let expected: Vec<u32> = up.then_some(world.main).into_iter().collect();
        let running: Vec<u32> = world.runs.keys().copied().collect();
        prop_assert_eq!(running, expected, "{:?}", world);
        match world.asked {
            Some(LastAsked::Up) => prop_assert!(up || world.pair.main == State::Errored, "{world:?}"),
            Some(LastAsked::Down) => prop_assert!(!up, "{world:?}"),
            Some(LastAsked::Gone) => prop_assert!(world.is_forgotten, "{world:?}"),
            None => {}
        }
        if let Some(outdated) = world.outdated.filter(|_| up) {
            prop_assert!(world.main > outdated, "not renewed: {world:?}");
        }
    }
}
