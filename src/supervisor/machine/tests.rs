use super::*;
use crate::config::spec::{RestartPolicy, StopPolicy};
use crate::supervisor::testing;
use proptest::prelude::*;

fn restart_policy() -> RestartPolicy {
    RestartPolicy {
        autorestart: true,
        max_restarts: 16,
        min_uptime: Duration::from_secs(1),
        restart_delay: None,
        exp_backoff_restart_delay: None,
        stop_exit_codes: Vec::new(),
    }
}

fn stop_policy() -> StopPolicy {
    StopPolicy {
        signal: 2,
        grace: Duration::from_millis(1600),
        treekill: true,
        message: false,
    }
}

/// Runs events through one process; time stands still unless moved.
struct Life {
    state: State,
    history: History,
    restart: RestartPolicy,
    stop: StopPolicy,
    service: bool,
    ready_within: Option<Duration>,
    unshared: Option<&'static str>,
    now: Instant,
}

impl Life {
    fn new(state: State, service: bool, now: Instant) -> Self {
        Self {
            state,
            history: History::default(),
            restart: restart_policy(),
            stop: stop_policy(),
            service,
            ready_within: None,
            unshared: None,
            now,
        }
    }

    fn see(&mut self, event: Event) -> Vec<Effect> {
        let policy = Policy {
            restart: &self.restart,
            stop: &self.stop,
            service: self.service,
            ready_within: self.ready_within,
            unshared: self.unshared,
        };
        let step = step(self.state.clone(), event, self.history, policy, self.now);
        self.state = step.state;
        self.history = step.history;
        step.effects
    }
}

fn exited(code: i32) -> Event {
    Event::Exited {
        exit: Exit::Code(code),
        leftovers: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_followed_by_a_start_at_once() {
    let now = Instant::now();
    let mut life = Life::new(State::Online { pid: 7, since: now }, true, now);
    let effects = life.see(Event::Exited {
        exit: Exit::Signal(9),
        leftovers: false,
    });
    assert!(effects.contains(&Effect::Spawn), "{effects:?}");
    assert_eq!(life.history.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_signal_then_grace_then_kill() {
    let now = Instant::now();
    let mut life = Life::new(State::Online { pid: 7, since: now }, false, now);
    let kill_at = now + life.stop.grace;
    assert_eq!(
        life.see(Event::StopAsked),
        [Effect::Terminate(7), Effect::WakeAt(kill_at)]
    );
    assert_eq!(
        life.see(Event::Woke),
        [Effect::WakeAt(kill_at)],
        "too early"
    );
    life.now = kill_at;
    assert_eq!(life.see(Event::Woke), [Effect::KillGroup(7)]);
    assert_eq!(life.see(exited(0)), []);
    assert_eq!(life.state, State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_app_stays_stopped_when_its_exit_arrives_late() {
    let now = Instant::now();
    let mut life = Life::new(State::Stopped, true, now);
    assert_eq!(life.see(exited(1)), []);
    assert_eq!(life.state, State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_a_crashed_root_leaves_behind_is_killed_before_the_next_start() {
    let now = Instant::now();
    let mut life = Life::new(State::Online { pid: 7, since: now }, true, now);
    let effects = life.see(Event::Exited {
        exit: Exit::Code(1),
        leftovers: true,
    });
    assert_eq!(effects, [Effect::KillGroup(7)]);
    assert!(life.see(Event::GroupGone).contains(&Effect::Spawn));
}

#[tokio::test(start_paused = true)]
async fn one_whose_port_a_sibling_has_stays_stopped_and_says_so() {
    let now = Instant::now();
    for leftovers in [false, true] {
        let mut life = Life::new(State::Online { pid: 7, since: now }, false, now);
        life.unshared = Some("replica 0 listens on 3000");
        let exit = Exit::Code(1);
        let mut effects = life.see(Event::Exited { exit, leftovers });
        if leftovers {
            effects = life.see(Event::GroupGone);
        }
        let why = "replica 0 listens on 3000".to_owned();
        assert_eq!(effects, [Effect::Explain(why)]);
        assert_eq!(
            (&life.state, life.history),
            (&State::Stopped, History::default())
        );
        life.unshared = None;
        assert_eq!(life.see(Event::StartAsked), [Effect::Spawn]);
    }
}

#[tokio::test(start_paused = true)]
async fn children_of_a_stopped_root_keep_the_rest_of_the_grace() {
    let now = Instant::now();
    let mut life = Life::new(State::Online { pid: 7, since: now }, false, now);
    life.see(Event::StopAsked);
    assert_eq!(
        life.see(Event::Exited {
            exit: Exit::Signal(2),
            leftovers: true
        }),
        []
    );
    assert!(matches!(life.state, State::Stopping { .. }));
    life.see(Event::GroupGone);
    assert_eq!(life.state, State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn failed_health_checks_restart_by_the_policy() {
    let now = Instant::now();
    let mut life = Life::new(State::Online { pid: 7, since: now }, true, now);
    life.now += Duration::from_secs(90);
    let effects = life.see(Event::Unhealthy {
        why: "3 failed checks".into(),
    });
    assert_eq!(effects[0], Effect::Terminate(7));
    assert!(life.see(exited(0)).contains(&Effect::Spawn));
    assert_eq!(life.history.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn delete_wins_over_whatever_is_asked_after_it() {
    let now = Instant::now();
    let mut life = Life::new(State::Online { pid: 7, since: now }, true, now);
    life.see(Event::DeleteAsked);
    life.see(Event::StartAsked);
    life.see(Event::RestartAsked);
    life.see(Event::StopAsked);
    assert_eq!(life.see(exited(0)), [Effect::Forget]);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_is_errored_and_not_tried_again() {
    let now = Instant::now();
    let mut life = Life::new(State::Stopped, true, now);
    assert_eq!(life.see(Event::StartAsked), [Effect::Spawn]);
    life.see(Event::SpawnFailed {
        why: "no such file".into(),
        transient: false,
    });
    assert_eq!(life.state, State::Errored);
    assert_eq!(
        life.see(Event::RestartAsked),
        [Effect::Spawn],
        "restart works in every state"
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_for_want_of_something_is_tried_again_and_counts_as_no_exit() {
    let now = Instant::now();
    let mut life = Life::new(State::Stopped, false, now);
    life.history.unstable = 15;
    life.state = State::Launching { wish: Wish::Run };
    for tries in 1..=1000 {
        let effects = life.see(Event::SpawnFailed {
            why: "no descriptor".into(),
            transient: true,
        });
        let State::Waiting { until } = life.state else {
            panic!("{:?}", life.state);
        };
        let wait = until - life.now;
        assert!(wait >= Duration::from_millis(50) && wait <= Duration::from_secs(1));
        let [Effect::Explain(why), Effect::WakeAt(_)] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert_eq!(without_next_start(why), "no descriptor");
        let counts = why.contains(&format!("; failed tries: {tries}"));
        assert_eq!(counts, tries > 1, "{why}");
        assert_eq!((life.history.unstable, life.history.restarts), (15, 0));
        life.now = until;
        assert_eq!(life.see(Event::Woke), [Effect::Spawn]);
    }
    life.see(Event::Spawned { pid: 7 });
    assert_eq!(life.history.failed_starts, 0);
    assert_eq!(life.history.unstable, 15);
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_waiting_starts_at_once() {
    let now = Instant::now();
    let mut life = Life::new(
        State::Waiting {
            until: now + Duration::from_secs(9),
        },
        true,
        now,
    );
    life.history.unstable = 7;
    assert_eq!(life.see(Event::RestartAsked), [Effect::Spawn]);
    assert_eq!(life.history.unstable, 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_says_when_it_is_ready_is_waited_for_but_not_for_ever() {
    let now = Instant::now();
    let launching = State::Launching { wish: Wish::Run };
    let mut life = Life::new(launching.clone(), false, now);
    life.ready_within = Some(Duration::from_secs(3));
    let until = now + Duration::from_secs(3);
    let spawned = Event::Spawned { pid: 7 };
    assert_eq!(life.see(spawned.clone()), [Effect::WakeAt(until)]);
    assert!(matches!(life.state, State::Starting { .. }));
    assert_eq!(life.see(Event::Ready), []);
    assert_eq!(life.state, State::Online { pid: 7, since: now });

    life.state = launching;
    life.see(spawned);
    assert_eq!(life.see(Event::Woke), [Effect::WakeAt(until)], "too early");
    life.now = until;
    assert!(matches!(life.see(Event::Woke)[..], [Effect::Explain(_)]));
    assert_eq!(life.state, State::Online { pid: 7, since: now });
    // A crash before it is ready is a crash.
    life.state = State::Starting {
        pid: 7,
        since: now,
        until,
    };
    assert!(life.see(exited(1)).contains(&Effect::Spawn));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::StartAsked),
        Just(Event::StopAsked),
        Just(Event::RestartAsked),
        Just(Event::DeleteAsked),
        Just(Event::Spawned { pid: 1 }),
        Just(Event::SpawnFailed {
            why: "x".into(),
            transient: true
        }),
        Just(Event::SpawnFailed {
            why: "x".into(),
            transient: false
        }),
        Just(Event::Exited {
            exit: Exit::Code(1),
            leftovers: false
        }),
        Just(Event::Exited {
            exit: Exit::Unknown,
            leftovers: true
        }),
        Just(Event::GroupGone),
        Just(Event::Ready),
        Just(Event::Unhealthy { why: "x".into() }),
        Just(Event::Woke),
    ]
}

proptest! {
    /// The world answers only what was ordered: a `Spawned` only after a `Spawn`, an exit only of
    /// what runs. Under any order of wishes there is never a second copy.
    #[test]
    fn no_event_order_spawns_twice(
        says_ready: bool,
        events in proptest::collection::vec((any_event(), 0u64..3000), 1..80),
    ) {
        let now = testing::now();
        let mut life = Life::new(State::Stopped, true, now);
        life.ready_within = says_ready.then_some(Duration::from_secs(2));
        let (mut ordered, mut alive, mut group) = (false, false, false);
        for (event, millis) in events {
            life.now += Duration::from_millis(millis);
            let possible = match &event {
                Event::Spawned { .. } | Event::SpawnFailed { .. } => ordered,
                Event::Exited { .. } => alive,
                Event::GroupGone => group && !alive,
                _ => true,
            };
            if !possible { continue }
            match &event {
                Event::Spawned { .. } => { ordered = false; alive = true; }
                Event::SpawnFailed { .. } => ordered = false,
                Event::Exited { leftovers, .. } => { alive = false; group = *leftovers; }
                Event::GroupGone => group = false,
                _ => {}
            }
            for effect in life.see(event) {
                match effect {
                    Effect::Spawn => {
                        prop_assert!(!ordered && !alive && !group, "a second copy");
                        ordered = true;
                    }
                    Effect::Forget => prop_assert!(!ordered && !alive, "forgot what runs"),
                    _ => {}
                }
            }
            if matches!(life.state, State::Stopped | State::Errored | State::Waiting { .. }) {
                prop_assert!(!alive && !ordered && !group, "at rest while something runs");
            }
        }
    }
}

#[test]
fn signals_are_known_by_name_and_number() {
    for text in ["SIGUSR2", "USR2", "usr2", "12"] {
        assert_eq!(signal_number(text), Some(12), "{text}");
    }
    for text in ["", "SIG", "0", "65", "-1", "NOPE"] {
        assert_eq!(signal_number(text), None, "{text}");
    }
}
