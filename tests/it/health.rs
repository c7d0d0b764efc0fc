//! Health checks: readiness after a start, and a restart when a service no longer answers well.

use crate::harness::{Mcpm, service};

fn port(mcpm: &Mcpm, name: &str) -> u64 {
    mcpm.list()[name].raw["mcpm"]["port"].as_u64().unwrap()
}

fn tell(mcpm: &Mcpm, name: &str, status: u16) {
    mcpm.get(&format!(
        "http://127.0.0.1:{}/health/{status}",
        port(mcpm, name)
    ));
}

#[test]
fn three_wrong_answers_in_a_row_restart_a_service() {
    let mcpm = Mcpm::start([service("moody").with("/mcp/health/interval", "50ms")]);
    tell(&mcpm, "moody", 503);
    let list = mcpm.wait_until(|list| list["moody"].restarts == 1 && list["moody"].is_up());
    let shown = mcpm.ok(&["describe", "moody"]);
    let exit = shown
        .lines()
        .find(|line| line.contains("last exit"))
        .expect("how it ended");
    let why = "3 failed health checks in a row; the last: answered with status 503";
    assert!(exit.contains(why), "{exit}");
    assert!(mcpm.daemon_log().contains(why));
    let health = &list["moody"].raw["mcpm"]["health"];
    assert!(
        health["uptimePercent"].as_f64().unwrap() < 100.0,
        "{health}"
    );
}

#[test]
fn an_answer_that_never_comes_counts_as_wrong() {
    let moody = service("moody")
        .with("/mcp/health/interval", "50ms")
        .with("/mcp/health/timeout", "100ms")
        .with("/mcp/health/unhealthy_after", 2);
    let mcpm = Mcpm::start([moody]);
    tell(&mcpm, "moody", 0);
    mcpm.wait_until(|list| list["moody"].restarts == 1 && list["moody"].is_up());
    let log = mcpm.daemon_log();
    assert!(
        log.contains("2 failed health checks in a row") && log.contains("no answer"),
        "{log}"
    );
}

#[test]
fn any_status_below_500_is_alive_and_one_slip_is_no_outage() {
    let mcpm = Mcpm::start([service("moody").with("/mcp/health/interval", "50ms")]);
    tell(&mcpm, "moody", 404);
    let checks = |list: &crate::harness::List| {
        list["moody"].raw["mcpm"]["health"]["lastCheck"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let mut seen = checks(&mcpm.list());
    for _ in 0..5 {
        let list = mcpm.wait_until(|list| checks(list) != seen);
        seen = checks(&list);
        assert!(list["moody"].is_up());
    }
    assert_eq!(mcpm.list()["moody"].restarts, 0);
}

#[test]
fn a_service_without_checks_is_ready_when_it_runs() {
    let plain = service("plain").with("/mcp/health", false);
    let mcpm = Mcpm::start([plain]);
    assert!(mcpm.list()["plain"].is_up());
}

#[test]
fn what_the_checks_have_counted_outlives_the_daemon() {
    let mcpm = Mcpm::start([service("steady").with("/mcp/health/interval", "50ms")]);
    tell(&mcpm, "steady", 503);
    mcpm.wait_until(|list| list["steady"].restarts == 1 && list["steady"].is_up());
    let percent = |list: &crate::harness::List| {
        list["steady"].raw["mcpm"]["health"]["uptimePercent"].as_f64()
    };
    let before = percent(&mcpm.list()).unwrap();
    mcpm.ok(&["kill", "--keep"]);
    let list = mcpm.wait_until(|list| list["steady"].is_up());
    let after = percent(&list).unwrap();
    assert!(
        after < 100.0 && after >= before - 0.1,
        "{before} before, {after} after"
    );
}
