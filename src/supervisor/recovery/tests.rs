//! What one death leaves, state by state; `deaths.rs` has them all, in any order.

mod deaths;

use std::time::Duration;

use super::*;
use crate::supervisor::last_exits::Who;

const GRACE: Duration = Duration::from_secs(16);
const PID: u32 = 7;

/// An hour after it was started, on a clock that says so.
fn clocks() -> Clocks {
    Clocks {
        now: Instant::now() + Duration::from_secs(3600),
        today: Timestamp::from_millis(1_795_391_347_550),
    }
}

/// The same clocks later, and the wall clock set by so much.
fn later(clocks: Clocks, time: Duration, set_by: i64) -> Clocks {
    let millis = i64::try_from(time.as_millis()).unwrap();
    Clocks {
        now: clocks.now + time,
        today: Timestamp::from_millis(clocks.today.as_millis() + millis + set_by),
    }
}

/// What the next daemon finds of a process in this state, which lives or has ended meanwhile.
fn found(state: &State, alive: bool, then: Clocks, clocks: Clocks) -> Evidence {
    let asked = Asked::because(Who::Restart, "x");
    let under_way = under_way(state, None, Some(&asked), then);
    // As it comes from the file.
    let text = serde_json::to_string(&under_way).unwrap();
    assert_eq!(serde_json::from_str::<UnderWay>(&text).unwrap(), under_way);
    Evidence {
        wanted: wanted(state, None),
        under_way,
        alive: alive.then_some(PID),
        has_begun: true,
        since: then.now,
        last_exit: Some(Exit::Code(3)),
        until: clocks.now,
        grace: GRACE,
        ready_within: Some(GRACE),
        clocks,
    }
}

fn stopping(then: Then, begun: Clocks) -> State {
    State::Stopping {
        pid: PID,
        since: begun.now,
        kill_at: begun.now + GRACE,
        then,
    }
}

fn all_that_follows() -> [Then; 4] {
    let recover = Then::Recover("it does not answer".into());
    [Then::Stay, Then::Start, recover, Then::Forget]
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_under_way_goes_on_where_it_was() {
    let begun = clocks();
    for then in all_that_follows() {
        let state = stopping(then, begun);
        let mut at = begun;
        // However often the daemon changes.
        for _ in 0..3 {
            at = later(at, Duration::from_secs(4), 0);
            let next = begin(found(&state, true, begun, at));
            assert_eq!(next, (state.clone(), Some(Event::Woke)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_clock_puts_a_kill_off() {
    let begun = clocks();
    let state = stopping(Then::Start, begun);
    let kill_at = |time, set_by| {
        let at = later(begun, time, set_by);
        match begin(found(&state, true, begun, at)).0 {
            State::Stopping { kill_at, .. } => kill_at - at.now,
            other => panic!("{other:?}"),
        }
    };
    let second = Duration::from_secs(1);
    assert_eq!(kill_at(second, 0), GRACE - second);
    assert_eq!(kill_at(2 * GRACE, 0), Duration::ZERO);
    assert_eq!(kill_at(second, -3_600_000), GRACE, "set back");
    assert_eq!(kill_at(second, 3_600_000), Duration::ZERO, "set forward");
}

#[tokio::test(start_paused = true)]
async fn what_was_to_follow_an_end_that_nobody_saw_does() {
    let begun = clocks();
    let at = later(begun, GRACE, 0);
    let ended = Event::Exited {
        exit: Exit::Unknown,
        leftovers: false,
    };
    for then in all_that_follows() {
        let (state, news) = begin(found(&stopping(then.clone(), begun), false, begun, at));
        assert!(
            matches!(&state, State::Stopping { then: kept, .. } if *kept == then),
            "{state:?}"
        );
        assert_eq!(news, Some(ended.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_of_a_start_is_asked_again() {
    let begun = clocks();
    let launching = |wish| State::Launching { wish };
    let wishes = [
        (Wish::Restart, Event::RestartAsked),
        (Wish::Stop, Event::StopAsked),
        (Wish::Forget, Event::DeleteAsked),
    ];
    let online = State::Online {
        pid: PID,
        since: begun.now,
    };
    for (wish, event) in wishes {
        let (state, news) = begin(found(&launching(wish), true, begun, begun));
        assert_eq!((&state, news), (&online, Some(event)));
    }
    let not_begun = |wish| {
        begin(Evidence {
            has_begun: false,
            ..found(&launching(wish), false, begun, begun)
        })
    };
    assert_eq!(not_begun(Wish::Stop), (State::Stopped, None));
    let deleted = (State::Stopped, Some(Event::DeleteAsked));
    assert_eq!(not_begun(Wish::Forget), deleted);
    let until = begun.now;
    let starts = (State::Waiting { until }, Some(Event::Woke));
    assert_eq!(not_begun(Wish::Restart), starts);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_waits_for_the_end_of_the_run_beside_it_is_not_forgotten() {
    let begun = clocks();
    let state = State::Errored;
    let held = Some(Event::DeleteAsked);
    let evidence = Evidence {
        under_way: under_way(&state, held.as_ref(), None, begun),
        has_begun: false,
        ..found(&state, false, begun, begun)
    };
    assert_eq!(begin(evidence), (State::Stopped, held));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_to_say_that_it_is_ready_has_the_rest_of_its_time() {
    let begun = clocks();
    let state = State::Starting {
        pid: PID,
        since: begun.now,
        until: begun.now + GRACE,
    };
    let next = |time, set_by| begin(found(&state, true, begun, later(begun, time, set_by)));
    let second = Duration::from_secs(1);
    assert_eq!(next(second, 0), (state.clone(), Some(Event::Woke)));
    let until = |(state, _): (State, Option<Event>)| match state {
        State::Starting { until, .. } => until - begun.now,
        other => panic!("{other:?}"),
    };
    assert_eq!(until(next(2 * GRACE, 0)), 2 * GRACE, "its time is over");
    assert_eq!(until(next(second, -3_600_000)), second + GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_root_whose_end_was_seen_ends_as_it_did() {
    let begun = clocks();
    let state = State::Clearing {
        pid: PID,
        ran: Duration::from_millis(1500),
        exit: Exit::Code(3),
        wish: Wish::Stop,
    };
    let (cleared, news) = begin(found(&state, false, begun, later(begun, GRACE, 0)));
    let expected = State::Clearing {
        pid: 0,
        ran: Duration::from_millis(1500),
        exit: Exit::Code(3),
        wish: Wish::Stop,
    };
    assert_eq!((cleared, news), (expected, Some(Event::GroupGone)));
}

#[tokio::test(start_paused = true)]
async fn rows_of_an_earlier_format_are_read_as_before() {
    let begun = clocks();
    let since = begun.now;
    let row = |wanted, alive, has_begun| {
        begin(Evidence {
            wanted,
            under_way: serde_json::from_str("{}").unwrap(),
            has_begun,
            ..found(&State::Stopped, alive, begun, begun)
        })
    };
    let online = |pid| State::Online { pid, since };
    assert_eq!(row(Wanted::Up, true, true), (online(PID), None));
    let stop = Some(Event::StopAsked);
    assert_eq!(row(Wanted::Down, true, true), (online(PID), stop));
    let ended = Some(Event::Exited {
        exit: Exit::Unknown,
        leftovers: false,
    });
    assert_eq!(row(Wanted::Up, false, true), (online(0), ended.clone()));
    // Nobody saw its end, which is told all the same.
    let (state, news) = row(Wanted::Down, false, true);
    let stays = |state: &State| {
        matches!(
            state,
            State::Stopping {
                then: Then::Stay,
                ..
            }
        )
    };
    assert!(stays(&state), "{state:?}");
    assert_eq!(news, ended);
    assert_eq!(row(Wanted::Down, false, false), (State::Stopped, None));
    assert_eq!(row(Wanted::Errored, false, false), (State::Errored, None));
}
