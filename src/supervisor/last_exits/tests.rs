use std::time::Duration;

use super::*;
use crate::config::AppSpec;
use crate::supervisor::machine;
use crate::supervisor::testing;

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

fn spec(change: impl FnOnce(&mut AppSpec)) -> AppSpec {
    let mut spec = testing::spec("a");
    spec.restart.max_restarts = 4;
    change(&mut spec);
    spec
}

fn policy(spec: &AppSpec) -> Policy<'_> {
    Policy {
        restart: &spec.restart,
        stop: &spec.stop,
        service: spec.mcp.is_some(),
        ready_within: None,
        unshared: None,
    }
}

/// What is told of an exit with this code after `ran`, when `unstable` others came before.
fn told(spec: &AppSpec, code: i32, ran: Duration, unstable: u32) -> (Next, String) {
    let now = Instant::now() + LONG;
    let before = State::Online {
        pid: 7,
        since: now - ran,
    };
    let exit = Exit::Code(code);
    let event = Event::Exited {
        exit,
        leftovers: false,
    };
    let history = History {
        unstable,
        ..History::default()
    };
    of_step(before, event, exit, history, policy(spec), now).unwrap()
}

fn of_step(
    before: State,
    event: Event,
    exit: Exit,
    history: History,
    policy: Policy<'_>,
    now: Instant,
) -> Option<(Next, String)> {
    let step = machine::step(before.clone(), event, history, policy, now);
    let end = End {
        exit,
        before: &before,
        after: &step.state,
        has_swapped: false,
        is_closing: false,
        history: step.history,
        policy,
        now,
    };
    end.decision()
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_decided_is_told_with_its_reason() {
    let plain = spec(|_| {});
    let off = spec(|spec| spec.restart.autorestart = false);
    let codes = spec(|spec| spec.restart.stop_exit_codes = vec![0, 3]);
    let never = spec(|spec| spec.restart.max_restarts = 0);
    let fixed = spec(|spec| spec.restart.restart_delay = Some(Duration::from_millis(1500)));
    let growing = spec(|spec| {
        spec.restart.exp_backoff_restart_delay = Some(Duration::from_millis(100));
    });
    for (spec, code, ran, unstable, next, text) in [
        (&plain, 1, LONG, 3, Next::Started, "started again at once"),
        (
            &plain,
            1,
            SHORT,
            0,
            Next::Started,
            "started again at once: it ran less than `min_uptime`",
        ),
        (
            &plain,
            1,
            SHORT,
            2,
            Next::Started,
            "started again at once: 3rd unstable exit in a row",
        ),
        (
            &plain,
            1,
            SHORT,
            3,
            Next::Errored,
            "errored: 4 unstable exits in a row (`max_restarts`)",
        ),
        (
            &never,
            1,
            SHORT,
            0,
            Next::Errored,
            "errored: it ran less than `min_uptime`, and `max_restarts` is 0",
        ),
        (
            &off,
            1,
            LONG,
            0,
            Next::Stopped,
            "stays stopped: `autorestart` is off",
        ),
        (
            &codes,
            3,
            LONG,
            0,
            Next::Stopped,
            "stays stopped: code 3 is in `stop_exit_codes`",
        ),
        (
            &fixed,
            1,
            SHORT,
            1,
            Next::Waits,
            "to be started again after 1500 ms (`restart_delay`): 2nd unstable exit in a row",
        ),
        (
            &growing,
            1,
            SHORT,
            0,
            Next::Waits,
            "to be started again after 100 ms (`exp_backoff_restart_delay`): \
             it ran less than `min_uptime`",
        ),
    ] {
        let expected = (next, text.to_owned());
        assert_eq!(told(spec, code, ran, unstable), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_is_no_decision_of_the_policy() {
    let spec = spec(|_| {});
    let now = Instant::now();
    let stopping = |then| State::Stopping {
        pid: 7,
        since: now,
        kill_at: now,
        then,
    };
    let clearing = |wish| State::Clearing {
        pid: 7,
        ran: SHORT,
        exit: Exit::Code(1),
        wish,
    };
    for (before, next, text) in [
        (stopping(Then::Stay), Next::Stopped, "stopped, as asked"),
        (
            stopping(Then::Start),
            Next::Started,
            "started again, as asked",
        ),
        (
            stopping(Then::Recover("it hangs".to_owned())),
            Next::Started,
            "started again at once: it ran less than `min_uptime`",
        ),
        (
            clearing(Wish::Run),
            Next::Started,
            "started again at once: it ran less than `min_uptime`; \
             children that it left behind were ended",
        ),
        (
            clearing(Wish::Restart),
            Next::Started,
            "started again, as asked; children that it left behind were ended",
        ),
        (
            clearing(Wish::Stop),
            Next::Stopped,
            "stays stopped: that was asked for meanwhile; \
             children that it left behind were ended",
        ),
    ] {
        let exit = Exit::Signal(2);
        let history = History::default();
        let told = of_step(before, Event::GroupGone, exit, history, policy(&spec), now);
        assert_eq!(told, Some((next, text.to_owned())));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_while_remains_are_being_ended() {
    let spec = spec(|_| {});
    let now = Instant::now();
    let exit = Exit::Code(1);
    let event = Event::Exited {
        exit,
        leftovers: true,
    };
    let before = State::Online { pid: 7, since: now };
    let history = History::default();
    let told = of_step(before, event, exit, history, policy(&spec), now);
    assert_eq!(told, None);
}

#[tokio::test(start_paused = true)]
async fn the_daemons_end_and_a_reload_are_told_as_what_they_are() {
    let spec = spec(|_| {});
    let now = Instant::now();
    let before = State::Stopping {
        pid: 7,
        since: now,
        kill_at: now,
        then: Then::Forget,
    };
    let end = End {
        exit: Exit::Signal(2),
        before: &before,
        after: &State::Stopped,
        has_swapped: false,
        is_closing: true,
        history: History::default(),
        policy: policy(&spec),
        now,
    };
    let closed = (Next::Stopped, "stopped with the daemon".to_owned());
    assert_eq!(end.decision(), Some(closed));
    let online = State::Online { pid: 8, since: now };
    let replaced = End {
        after: &online,
        has_swapped: true,
        ..end
    };
    assert_eq!(replaced.decision().unwrap().0, Next::Replaced);
    let retiring = Beside::Retiring {
        pid: 7,
        kill_at: now,
    };
    assert_eq!(end_beside(&retiring).unwrap().0, Asked::by(Who::Reload));
    let proving = Beside::Proving {
        pid: 7,
        since: now,
        until: now,
    };
    assert_eq!(end_beside(&proving).unwrap().0, Asked::by(Who::Itself));
}

#[test]
fn a_sibling_that_has_the_port_is_named() {
    let spec = spec(|_| {});
    let now = Instant::now();
    let before = State::Online { pid: 7, since: now };
    let exit = Exit::Code(1);
    let event = Event::Exited {
        exit,
        leftovers: false,
    };
    let policy = Policy {
        unshared: Some("port 3000 is taken"),
        ..policy(&spec)
    };
    let told = of_step(before, event, exit, History::default(), policy, now);
    let expected = "stays stopped: port 3000 is taken".to_owned();
    assert_eq!(told, Some((Next::Stopped, expected)));
}

#[test]
fn numbers_in_a_row_read_well() {
    let all = [1, 2, 3, 4, 11, 12, 13, 21, 22, 103, 111].map(ordinal);
    let read = [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "103rd", "111th",
    ];
    assert_eq!(all, read);
}

#[test]
fn lines_are_kept_within_bounds_and_as_text() {
    let lines: Vec<Vec<u8>> = (0..30).map(|n| format!("line {n}").into_bytes()).collect();
    let few = kept(&lines);
    assert_eq!((few.len(), few[0].as_str()), (LINES_MAX, "line 10"));
    assert_eq!(kept(&[b"a\xffb".to_vec()]), ["a\u{fffd}b"]);
    let exact = vec![b'x'; LINE_BYTES];
    assert_eq!(kept(&[exact])[0].len(), LINE_BYTES);
    let wide = "é".repeat(LINE_BYTES).into_bytes();
    let cut = kept(std::slice::from_ref(&wide));
    assert_eq!(cut[0], format!("{}…", "é".repeat(LINE_BYTES / 2)));
    let all: Vec<Vec<u8>> = std::iter::repeat_n(wide, LINES_MAX).collect();
    let many = kept(&all);
    let bytes: usize = many.iter().map(String::len).sum();
    assert!(bytes <= STREAM_BYTES && many.len() > 10, "{bytes}");
}

#[test]
fn a_record_of_another_release_is_read() {
    let text = r#"{"at":"2026-11-26T10:14:03.000Z","code":1,"more":true}"#;
    let record: ExitRecord = serde_json::from_str(text).unwrap();
    assert_eq!((record.code, record.asked_by), (Some(1), Who::Itself));
    let text = serde_json::to_string(&ExitRecord {
        no_lines: Some(NoLines::TooOften),
        asked_by: Who::Unwatched,
        ..record
    });
    let text = text.unwrap();
    for part in [r#""noLines":"too_often""#, r#""askedBy":"unwatched""#] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
