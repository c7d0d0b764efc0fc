//! `/metrics`: who may read it, and what it tells of requests, streams and refusals.

use crate::harness::{Answer, Body, Mcpm, eventually, service};

/// The numbers, as an operator reads them.
#[track_caller]
fn page(mcpm: &Mcpm) -> String {
    let answer = admin(mcpm);
    assert_eq!(answer.status, 200, "{answer:?}");
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    answer.text()
}

#[track_caller]
fn admin(mcpm: &Mcpm) -> Answer {
    let shown = format!("Bearer {}", mcpm.ok(&["tokens", "add"]).trim());
    let url = format!("{}/metrics", mcpm.origin());
    mcpm.send("GET", &url, &[("Authorization", &shown)], b"")
        .read()
}

/// The number in the line that begins so.
#[track_caller]
fn number(page: &str, name: &str) -> f64 {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {name}:\n{page}"));
    line.parse().expect("a number")
}

#[test]
fn operators_read_it_and_nobody_else() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    assert_eq!(mcpm.get(&format!("{}/metrics", mcpm.origin())).status, 401);
    let url = mcpm.instance("alice", "demo");
    let users = mcpm.api("alice", "GET", "/metrics", "");
    assert_eq!(users.status, 403, "{users:?}");
    assert_eq!(mcpm.get(&url).status, 200);
    let page = page(&mcpm);
    assert_eq!(number(&page, "mcpm_processes{status=\"online\"}"), 1.0);
    assert_eq!(number(&page, "mcpm_app_restarts_total{app=\"demo\"}"), 0.0);
    assert!(number(&page, "mcpm_app_memory_bytes{app=\"demo\"}") > 0.0);
    assert!(number(&page, "process_resident_memory_bytes") > 0.0);
    assert!(number(&page, "process_start_time_seconds") > 1e9);
    let build = format!(
        "mcpm_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(number(&page, &build), 1.0);
    let secret = url.split('/').find(|part| part.len() > 20).unwrap();
    for private in ["alice", "ins_", secret] {
        assert!(!page.contains(private), "{private}\n{page}");
    }
}

#[test]
fn requests_streams_and_refusals_are_counted() {
    let mcpm = Mcpm::start([service("demo").with_api_key()]);
    let url = mcpm.instance("alice", "demo");
    for _ in 0..3 {
        assert_eq!(mcpm.get(&url).status, 200);
    }
    assert_eq!(
        mcpm.get(&format!("{}/dem_nobody/demo", mcpm.origin()))
            .status,
        404
    );
    let stream: Body = mcpm.send("GET", &format!("{url}/events"), &[], b"");
    assert_eq!(stream.status, 200);
    let during = page(&mcpm);
    assert_eq!(number(&during, "mcpm_streams_open{service=\"demo\"}"), 1.0);
    assert_eq!(
        number(&during, "mcpm_requests_in_flight{service=\"demo\"}"),
        1.0
    );
    let answered = "mcpm_requests_total{service=\"demo\",outcome=\"answered\"}";
    assert_eq!(number(&during, answered), 4.0);
    let took = "mcpm_request_duration_seconds_bucket{service=\"demo\",le=\"+Inf\"}";
    assert_eq!(number(&during, took), 4.0);
    assert_eq!(
        number(&during, "mcpm_refused_total{code=\"unknown_instance\"}"),
        1.0
    );
    let new = "mcpm_upstream_connections_total{service=\"demo\",kind=\"new\"}";
    assert!(number(&during, new) >= 1.0);
    drop(stream);
    assert!(eventually(|| {
        let page = page(&mcpm);
        let open = number(&page, "mcpm_streams_open{service=\"demo\"}");
        open + number(&page, "mcpm_requests_in_flight{service=\"demo\"}") == 0.0
    }));
    mcpm.ok(&["stop", "demo"]);
    assert_eq!(mcpm.get(&url).status, 503);
    // A service keeps its numbers over its runs.
    mcpm.ok(&["start", "demo"]);
    assert!(eventually(|| mcpm.get(&url).status == 200));
    let after = page(&mcpm);
    assert!(number(&after, answered) >= 5.0, "{after}");
    let failed = "mcpm_requests_total{service=\"demo\",outcome=\"failed\"}";
    assert!(number(&after, failed) >= 1.0);
}
