use proptest::prelude::*;

use super::*;
use crate::config::AppSpec;
use crate::supervisor::testing;

const READY_WITHIN: Duration = Duration::from_secs(2);

fn specs(says_ready: bool) -> AppSpec {
    AppSpec {
        ready_within: says_ready.then_some(READY_WITHIN),
        ..testing::spec("web")
    }
}

/// One run, as the world knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    pid: u32,
    ordered: bool,
    alive: bool,
    group: bool,
    terminated: bool,
    killed: bool,
}

impl Run {
    fn is_there(self) -> bool {
        self.ordered || self.alive || self.group
    }
}

/// A process, and a world that answers only what was ordered.
struct World {
    spec: AppSpec,
    pair: Pair,
    history: History,
    now: Instant,
    main: Run,
    beside: Option<Run>,
    next_pid: u32,
    ends: Vec<Option<String>>,
    is_forgotten: bool,
}

impl World {
    fn online(says_ready: bool) -> Self {
        let now = testing::now();
        Self {
            spec: specs(says_ready),
            pair: Pair {
                main: State::Online { pid: 1, since: now },
                beside: None,
                held: None,
            },
            history: History::default(),
            now,
            main: Run {
                pid: 1,
                alive: true,
                ..Run::default()
            },
            beside: None,
            next_pid: 2,
            ends: Vec::new(),
            is_forgotten: false,
        }
    }

    fn reload(&mut self) {
        if self.pair.can_double() {
            self.pair.beside = Some(Beside::Launching { cancelled: None });
            self.beside = Some(Run {
                ordered: true,
                ..Run::default()
            });
        }
    }

    fn is_possible(&self, whose: Whose, event: &Event) -> bool {
        let run = match whose {
            Whose::Main => Some(self.main),
            Whose::Beside => self.beside,
        };
        run.is_some_and(|run| match event {
            Event::Spawned { .. } | Event::SpawnFailed { .. } => run.ordered,
            Event::Exited { .. } | Event::Ready => run.alive,
            Event::GroupGone => run.group && !run.alive,
            _ => true,
        })
    }

    fn see(&mut self, whose: Whose, event: Event) {
        if self.is_forgotten || !self.is_possible(whose, &event) {
            return;
        }
        let mut event = event;
        let run = match whose {
            Whose::Main => &mut self.main,
            Whose::Beside => self.beside.as_mut().unwrap(),
        };
        match &mut event {
            Event::Spawned { pid } => {
                (run.pid, *pid) = (self.next_pid, self.next_pid);
                self.next_pid += 1;
                (run.ordered, run.alive) = (false, true);
            }
            Event::SpawnFailed { .. } => run.ordered = false,
            Event::Exited { leftovers, .. } => (run.alive, run.group) = (false, *leftovers),
            Event::GroupGone => run.group = false,
            _ => {}
        }
        let policies = Policies {
            main: testing::policy(&self.spec),
            beside: testing::policy(&self.spec),
        };
        let pair = self.pair.clone();
        let step = step(pair, whose, event, self.history, policies, self.now);
        self.pair = step.pair;
        self.history = step.history;
        for order in step.orders {
            self.obey(order);
        }
        self.check();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Main(Effect::Spawn) => {
                assert!(!self.main.is_there(), "a second copy: {self:?}");
                let is_new = self
                    .beside
                    .is_some_and(|run| run.is_there() && !run.terminated && !run.killed);
                assert!(!is_new, "a third run: {self:?}");
                self.main = Run {
                    ordered: true,
                    ..Run::default()
                };
            }
            Order::Main(Effect::Terminate(pid)) => {
                assert_eq!(pid, self.main.pid);
                self.main.terminated = true;
            }
            Order::Main(Effect::KillGroup(_)) => self.main.killed = true,
            Order::Main(Effect::Forget) => {
                assert!(
                    !self.main.is_there() && self.beside.is_none(),
                    "forgot what runs: {self:?}"
                );
                self.is_forgotten = true;
            }
            Order::Beside(Effect::Terminate(pid)) => {
                let run = self.beside.as_mut().unwrap();
                assert_eq!(pid, run.pid);
                run.terminated = true;
            }
            Order::Beside(Effect::KillGroup(_)) => self.beside.as_mut().unwrap().killed = true,
            Order::Swap => std::mem::swap(&mut self.main, self.beside.as_mut().unwrap()),
            Order::Alone(failure) => {
                let run = self.beside.take().unwrap();
                assert!(!run.is_there(), "left alone: {run:?}");
                self.ends.push(failure);
            }
            Order::Main(Effect::WakeAt(_) | Effect::Explain(_))
            | Order::Beside(Effect::WakeAt(_)) => {}
            Order::Beside(Effect::Spawn | Effect::Explain(_) | Effect::Forget) => {
                panic!("not for the run beside: {order:?}")
            }
        }
    }

    /// What holds after every step.
    fn check(&self) {
        assert_eq!(
            self.pair.beside.is_some(),
            self.beside.is_some(),
            "{self:?}"
        );
        match &self.pair.main {
            State::Online { pid, .. } | State::Starting { pid, .. } => {
                assert_eq!(*pid, self.main.pid, "{self:?}");
                // Its end may be known already, and wait for the other's.
                assert!(self.main.alive || self.pair.held.is_some(), "{self:?}");
            }
            State::Launching { .. } => {
                assert!(self.main.ordered || self.pair.held.is_some(), "{self:?}");
            }
            State::Stopped | State::Errored | State::Waiting { .. } => {
                assert!(!self.main.is_there(), "at rest while it runs: {self:?}");
            }
            State::Stopping { .. } | State::Clearing { .. } => {}
        }
    }

    /// The world goes on until nothing more comes by itself: what was told to end does, and what
    /// was ordered starts and stays.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.now += Duration::from_secs(5);
            self.see(Whose::Main, Event::Woke);
            for whose in [Whose::Beside, Whose::Main] {
                self.see(whose, Event::Spawned { pid: 0 });
                let run = match whose {
                    Whose::Main => Some(self.main),
                    Whose::Beside => self.beside,
                };
                if run.is_some_and(|run| run.terminated || run.killed) {
                    self.see(whose, exited(0));
                    self.see(whose, Event::GroupGone);
                }
            }
        }
    }

    fn runs(&self) -> usize {
        let beside = self.beside.is_some_and(Run::is_there);
        usize::from(self.main.is_there()) + usize::from(beside)
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pair,
            main,
            beside,
            ends,
            ..
        } = self;
        write!(f, "{pair:?} with {main:?} beside {beside:?} after {ends:?}")
    }
}

fn exited(code: i32) -> Event {
    Event::Exited {
        exit: Exit::Code(code),
        leftovers: false,
    }
}

#[test]
fn the_new_run_takes_over_once_it_has_lasted_and_only_then_the_old_one_ends() {
    let mut world = World::online(false);
    world.reload();
    world.see(Whose::Beside, Event::Spawned { pid: 0 });
    world.see(Whose::Main, Event::Woke);
    assert!(!world.main.terminated && world.main.pid == 1);
    world.now += Duration::from_secs(1);
    world.see(Whose::Main, Event::Woke);
    assert_eq!(world.main.pid, 2);
    assert!(world.beside.unwrap().terminated);
    assert_eq!(world.history.restarts, 1);
    world.see(Whose::Beside, exited(0));
    assert_eq!((world.ends.as_slice(), world.runs()), (&[None][..], 1));
}

#[test]
fn one_that_ends_or_stays_silent_leaves_the_old_one_as_it_was() {
    let mut world = World::online(true);
    let before = world.pair.main.clone();
    world.reload();
    world.see(Whose::Beside, Event::Spawned { pid: 0 });
    world.now += Duration::from_millis(12);
    world.see(Whose::Beside, exited(3));
    let said = "the new run exited with code 3 after 12 ms".to_owned();
    assert_eq!(world.ends, [Some(said)]);

    world.reload();
    world.see(Whose::Beside, Event::Spawned { pid: 0 });
    world.now += READY_WITHIN;
    world.see(Whose::Main, Event::Woke);
    assert!(world.beside.unwrap().terminated);
    world.see(Whose::Beside, exited(0));
    let said = world.ends[1].as_ref().unwrap();
    assert!(said.contains("within 2000 ms"), "{said}");
    assert_eq!(
        (&world.pair.main, world.history),
        (&before, History::default())
    );
}

#[test]
fn when_the_old_run_dies_meanwhile_the_new_one_is_the_process() {
    let mut world = World::online(false);
    world.reload();
    world.see(Whose::Main, exited(1));
    assert_eq!(world.pair.main, State::Launching { wish: Wish::Run });
    assert_eq!(world.ends, [None]);
    world.see(Whose::Main, Event::Spawned { pid: 0 });
    assert_eq!((world.main.pid, world.runs()), (2, 1));
}

#[test]
fn a_stop_ends_both_before_the_process_is_at_rest() {
    let mut world = World::online(false);
    world.reload();
    world.see(Whose::Beside, Event::Spawned { pid: 0 });
    world.see(Whose::Main, Event::StopAsked);
    assert!(world.main.terminated && world.beside.unwrap().terminated);
    world.see(Whose::Main, exited(0));
    assert!(matches!(world.pair.main, State::Stopping { .. }));
    world.see(Whose::Beside, exited(0));
    assert_eq!((&world.pair.main, world.runs()), (&State::Stopped, 0));
}

#[test]
fn a_stop_of_one_that_could_not_be_started_waits_for_the_end_of_the_old_one() {
    let mut world = World::online(false);
    world.reload();
    let leftovers = Event::Exited {
        exit: Exit::Code(1),
        leftovers: true,
    };
    world.see(Whose::Main, leftovers);
    world.see(Whose::Main, Event::StopAsked);
    let failed = Event::SpawnFailed {
        why: "x".into(),
        transient: true,
    };
    world.see(Whose::Main, failed);
    assert!(matches!(world.pair.main, State::Launching { .. }));
    world.see(Whose::Beside, Event::GroupGone);
    assert_eq!((&world.pair.main, world.runs()), (&State::Stopped, 0));
}

/// Found by the property of deaths: it was started again, and waited for that start for ever.
#[test]
fn one_that_is_to_be_forgotten_when_the_old_one_has_ended_is_not_brought_back() {
    let mut world = World::online(false);
    world.reload();
    let leftovers = Event::Exited {
        exit: Exit::Code(1),
        leftovers: true,
    };
    world.see(Whose::Main, leftovers);
    let failed = Event::SpawnFailed {
        why: "x".into(),
        transient: false,
    };
    world.see(Whose::Main, failed);
    world.see(Whose::Main, Event::DeleteAsked);
    for event in [Event::RestartAsked, Event::StopAsked, Event::StartAsked] {
        world.see(Whose::Main, event);
        assert_eq!(world.pair.main, State::Errored, "{world:?}");
    }
    assert!(!world.is_forgotten);
    world.see(Whose::Beside, Event::GroupGone);
    assert!(world.is_forgotten);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::StartAsked),
        Just(Event::StopAsked),
        Just(Event::RestartAsked),
        Just(Event::DeleteAsked),
        Just(Event::Unhealthy { why: "x".into() }),
        fate(),
    ]
}

/// What comes by itself.
fn fate() -> impl Strategy<Value = Event> {
    let failed = |transient| Event::SpawnFailed {
        why: "x".into(),
        transient,
    };
    let ended = |leftovers| Event::Exited {
        exit: Exit::Code(1),
        leftovers,
    };
    prop_oneof![
        3 => Just(Event::Spawned { pid: 0 }),
        1 => Just(failed(true)),
        1 => Just(failed(false)),
        1 => Just(ended(false)),
        1 => Just(ended(true)),
        2 => Just(Event::GroupGone),
        2 => Just(Event::Ready),
        3 => Just(Event::Woke),
    ]
}

fn whose() -> impl Strategy<Value = Whose> {
    prop_oneof![Just(Whose::Main), Just(Whose::Beside)]
}

proptest! {
    /// Whatever comes in whatever order: never two copies that both are to stay, never one that
    /// nobody watches, and in the end one run or, when it is not to run, none.
    #[test]
    fn no_event_order_leaves_two_runs_or_loses_one(
        says_ready: bool,
        events in proptest::collection::vec((any_event(), whose(), 0u64..3000, any::<bool>()), 1..80),
    ) {
        let mut world = World::online(says_ready);
        for (event, whose, millis, reloads) in events {
            world.now += Duration::from_millis(millis);
            if reloads {
                world.reload();
            }
            let is_asked = matches!(event, Event::StartAsked | Event::StopAsked | Event::RestartAsked | Event::DeleteAsked);
            world.see(if is_asked { Whose::Main } else { whose }, event);
        }
        world.settle();
        prop_assert!(world.pair.beside.is_none() && world.pair.held.is_none(), "{world:?}");
        let up = matches!(world.pair.main, State::Online { .. } | State::Starting { .. });
        let down = matches!(world.pair.main, State::Stopped | State::Errored);
        prop_assert!(up || down, "{world:?}");
        prop_assert_eq!(world.runs(), usize::from(up), "{:?}", world);
    }

    /// As long as nobody asks for anything else and the old run lives, a reload ends with exactly
    /// one run that is online: the new one, or the old one untouched and with its counters.
    #[test]
    fn a_reload_ends_with_one_run_whatever_becomes_of_the_new_one(
        says_ready: bool,
        events in proptest::collection::vec((fate(), 0u64..3000), 0..20),
    ) {
        let mut world = World::online(says_ready);
        let before = world.pair.main.clone();
        world.reload();
        for (event, millis) in events {
            world.now += Duration::from_millis(millis);
            if event == Event::Woke || world.main.pid == 1 || !matches!(event, Event::Exited { .. }) {
                world.see(if event == Event::Woke { Whose::Main } else { Whose::Beside }, event);
            }
        }
        world.settle();
        let is_online = matches!(world.pair.main, State::Online { .. });
        prop_assert!(is_online, "{world:?}");
        prop_assert_eq!(world.runs(), 1);
        match world.ends.as_slice() {
            [None] => prop_assert!(world.main.pid == 2 && world.history.restarts == 1),
            [Some(_)] => prop_assert!(world.pair.main == before && world.history == History::default()),
            ends => prop_assert!(false, "{ends:?}"),
        }
    }
}
