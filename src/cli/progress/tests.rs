use super::*;
use crate::cli::samples::{process, service};
use crate::ids::Timestamp;

const MS: Duration = Duration::from_millis(1);

fn exit(code: i32) -> Option<LastExit> {
    Some(LastExit {
        code: Some(code),
        signal: None,
        at: Timestamp::default(),
        why: None,
    })
}

fn ids(list: &[Process]) -> Vec<PmId> {
    list.iter().map(|p| p.pm_id).collect()
}

#[test]
fn a_service_counts_when_it_is_ready() {
    let mut list = [service(0, "demo", 49160, Readiness::Starting)];
    let mut progress = Progress::new(&ids(&list), &list, None);
    assert!(progress.observe(&list, MS).is_empty());
    assert_eq!(progress.deadline(), Some(Duration::from_secs(60)));
    list[0] = service(0, "demo", 49160, Readiness::Ready);
    assert_eq!(progress.observe(&list, 41 * MS), [0]);
    assert!(progress.is_settled() && !progress.has_failed());
    assert_eq!(progress.deadline(), None);
    let step = &progress.steps[0];
    assert_eq!(step.place.as_deref(), Some("127.0.0.1:49160"));
    assert_eq!(step.note(), "ready in 41 ms");
}

#[test]
fn a_plain_app_counts_when_it_has_been_online_for_a_moment() {
    let list = [process(0, "web")];
    let mut progress = Progress::new(&ids(&list), &list, None);
    progress.observe(&list, MS);
    assert!(!progress.is_settled());
    assert_eq!(progress.deadline(), Some(MS + SETTLING));
    assert!(progress.expire(SETTLING).is_empty());
    assert_eq!(progress.expire(MS + SETTLING), [0]);
    assert_eq!(progress.steps[0].note(), "online in 1 ms");
    assert_eq!(progress.done().collect::<Vec<_>>(), [PmId(0)]);
}

#[test]
fn one_that_is_there_after_many_ends_says_so_and_has_shown_it_for_longer() {
    let mut list = [process(0, "web")];
    let mut progress = Progress::new(&ids(&list), &list, None);
    list[0].unstable_restarts = 12;
    list[0].restarts = 12;
    list[0].last_exit = exit(0);
    progress.observe(&list, MS);
    assert!(progress.expire(SETTLING_AGAIN_MAX).is_empty());
    assert_eq!(progress.expire(SETTLING_AGAIN_MAX + MS), [0]);
    assert_eq!(
        progress.steps[0].note(),
        "online in 1 ms, after it had ended 12 times: exited with code 0"
    );
    // What comes later is not what was seen.
    list[0].restarts = 13;
    progress.observe(&list, SETTLING_AGAIN_MAX * 2);
    assert_eq!(progress.done().next(), Some(PmId(0)));
}

#[test]
fn who_waits_for_its_turn_is_not_late_while_the_queue_moves() {
    let late = |limit| {
        let mut list = [process(0, "a"), process(1, "b"), process(2, "c")];
        for queued in &mut list {
            (queued.status, queued.pid) = (Status::Launching, 0);
        }
        let mut progress = Progress::new(&ids(&list), &list, limit);
        progress.observe(&list, MS);
        (list[0].status, list[0].pid) = (Status::Online, 10);
        progress.observe(&list, 9000 * MS);
        progress.expire(12_000 * MS);
        let failed = |step: &Step| matches!(step.stage, Stage::Failed(_));
        let late = progress.steps.iter().filter(|step| failed(step)).count();
        progress.expire(19_000 * MS);
        (late, progress.is_settled())
    };
    assert_eq!(late(None), (0, true));
    assert_eq!(late(Some(PLAIN_TIMEOUT)), (2, true), "so it was asked");
}

#[test]
fn an_app_that_crashes_at_once_is_never_online() {
    let mut list = [process(0, "web")];
    let mut progress = Progress::new(&ids(&list), &list, None);
    progress.observe(&list, MS);
    // Another run of it each time; the list shows it online in between.
    for run in 1..5 {
        list[0].pid += 1;
        list[0].unstable_restarts = run;
        list[0].last_exit = exit(1);
        progress.observe(&list, MS + SETTLING * run);
        assert_eq!(progress.steps[0].note(), "exited with code 1");
    }
    // The same run counts once it has lasted for longer than the others.
    let before = MS + SETTLING * 4;
    assert_eq!(progress.deadline(), Some(before + SETTLING_AGAIN_MAX));
    list[0].status = Status::Errored;
    list[0].reason = Some("16 unstable exits".into());
    assert_eq!(progress.observe(&list, MS * 900), [0]);
    assert!(progress.has_failed());
    assert_eq!(progress.steps[0].note(), "16 unstable exits");
}

#[test]
fn a_crash_loop_of_a_service_is_one_line_and_its_end_the_reason() {
    let mut list = [service(0, "demo", 49160, Readiness::Starting)];
    let mut progress = Progress::new(&ids(&list), &list, Some(MS * 100));
    progress.observe(&list, MS);
    let mut news = 0;
    for run in 1..9 {
        list[0].restarts = run;
        list[0].unstable_restarts = run;
        list[0].last_exit = exit(3);
        let down = run % 2 == 0;
        list[0].status = [Status::Online, Status::WaitingRestart][usize::from(down)];
        list[0].reason = down.then(|| "exited with code 3".to_owned());
        let health = list[0].health.as_mut().unwrap();
        health.last_failure = Some("nobody listens on its port".into());
        let changed = progress.observe(&list, MS * run);
        news += changed
            .iter()
            .filter(|&&at| progress.steps[at].is_news())
            .count();
    }
    assert_eq!(news, 1);
    progress.expire(MS * 100);
    assert_eq!(
        progress.steps[0].note(),
        "not ready after 100 ms: exited with code 3; it goes on trying"
    );
}

#[test]
fn a_port_that_a_stranger_took_later_is_told_in_the_checks_words() {
    let mut taken = service(0, "demo", 49160, Readiness::PortTaken);
    let health = taken.health.as_mut().unwrap();
    health.last_failure = Some("port 49160 is taken by nginx".into());
    assert_eq!(
        stage(&taken),
        Stage::Failed("port 49160 is taken by nginx".into())
    );
}

#[test]
fn what_cannot_work_has_failed_with_its_reason() {
    let mut taken = service(0, "demo", 49160, Readiness::PortTaken);
    taken.reason = Some("port 49160 is held by nginx (pid 7)".into());
    let mut errored = process(1, "web");
    errored.status = Status::Errored;
    let list = [taken, errored];
    let mut progress = Progress::new(&ids(&list), &list, None);
    progress.observe(&list, MS);
    assert!(progress.has_failed() && progress.is_settled());
    assert_eq!(
        progress.steps[0].note(),
        "port 49160 is held by nginx (pid 7)"
    );
    assert_eq!(progress.steps[1].note(), "errored");
}

#[test]
fn a_crash_loop_is_told_and_given_up_on() {
    let mut looping = service(0, "demo", 49160, Readiness::Down);
    looping.status = Status::WaitingRestart;
    looping.reason = Some("exited with code 1".into());
    let list = [looping];
    let mut progress = Progress::new(&ids(&list), &list, Some(2 * MS));
    assert_eq!(progress.observe(&list, MS), [0]);
    assert!(progress.expire(MS).is_empty());
    assert_eq!(progress.expire(2 * MS), [0]);
    let note = progress.steps[0].note();
    assert_eq!(
        note,
        "not ready after 2 ms: exited with code 1; it goes on trying"
    );
}

#[test]
fn what_is_settled_stays_so() {
    let mut list = [process(0, "web")];
    let mut progress = Progress::new(&ids(&list), &list, None);
    progress.observe(&list, MS);
    progress.expire(MS + SETTLING);
    list[0].status = Status::Errored;
    assert!(progress.observe(&list, 2 * SETTLING).is_empty());
    assert!(!progress.has_failed());
}

#[test]
fn a_job_that_has_ended_well_is_done() {
    let mut job = process(0, "job");
    job.status = Status::Stopped;
    job.last_exit = exit(0);
    assert!(matches!(stage(&job), Stage::Done(_)));
    job.last_exit = exit(3);
    assert_eq!(stage(&job), Stage::Failed("ended with code 3".into()));
}

#[test]
fn a_replica_without_a_port_is_neither_there_nor_a_failure() {
    let mut list = [process(0, "web"), process(1, "web")];
    for process in &mut list {
        process.spec.instances = 2;
    }
    let mut progress = Progress::new(&ids(&list), &list, None);
    progress.observe(&list, MS);
    assert!(
        progress.expire(MS + SETTLING).is_empty(),
        "too early to tell"
    );
    list[1].status = Status::Stopped;
    list[1].reason = Some("replica 0 listens on port 3000".into());
    list[1].unshared = crate::ids::Port::new(3000);
    list[1].last_exit = exit(1);
    progress.observe(&list, 300 * MS);
    progress.expire(MS + SETTLING_OF_REPLICAS);
    assert!(progress.is_settled() && !progress.has_failed());
    let there: Vec<PmId> = progress.done().collect();
    assert_eq!(there, [PmId(0)]);
    let note = progress.steps[1].note();
    assert_eq!(note, "stopped: replica 0 listens on port 3000");
}

#[test]
fn replicas_are_told_apart_and_a_deleted_one_has_failed() {
    let list = [process(0, "web"), process(1, "web"), process(2, "api")];
    let mut progress = Progress::new(&ids(&list), &list, None);
    let labels: Vec<_> = progress.steps.iter().map(|s| s.label.as_str()).collect();
    assert_eq!(labels, ["web (0)", "web (1)", "api"]);
    let alone = Progress::new(&[PmId(1)], &list, None);
    assert_eq!(alone.steps[0].label, "web (1)", "there is another");
    progress.observe(&list[..2], MS);
    assert!(progress.has_failed());
}
