//! Users, their tokens and their instances, by command and over REST.

use serde_json::{Value, json};

use crate::harness::{Mcpm, demo};

#[test]
fn users_add_prints_the_token_alone_and_once() {
    let mcpm = Mcpm::new();
    let ran = mcpm.run(&["users", "add", "alice"]);
    let token = ran.stdout.trim_end();
    assert!(
        token.starts_with("mcpm_u_") && !token.contains(char::is_whitespace),
        "{ran}"
    );
    assert_eq!(ran.stdout, format!("{token}\n"));
    assert_eq!(ran.stderr, "");
    let refused = mcpm.fails(&["users", "add", "alice"]);
    assert!(refused.contains("alice"), "{refused}");
    let list = mcpm.ok(&["users"]);
    assert!(list.contains("alice") && !list.contains(token), "{list}");
    let second = mcpm.ok(&["users", "token", "alice"]);
    assert!(second.starts_with("mcpm_u_") && second.trim_end() != token);
    mcpm.ok(&["users", "rm", "alice"]);
    assert!(!mcpm.ok(&["users"]).contains("alice"));
}

#[test]
fn authenticate_answers_with_id_url_and_message() {
    let mcpm = Mcpm::start([demo("demo")]);
    let path = "/api/v1/services/demo/authenticate";
    let answer = mcpm.api("alice", "POST", path, r#"{"apiKey":"alice-key"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    let grant = answer.json();
    let names: Vec<_> = grant.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["instanceId", "instanceUrl", "message"]);
    let (id, url) = (
        grant["instanceId"].as_str().unwrap(),
        grant["instanceUrl"].as_str().unwrap(),
    );
    assert!(id.starts_with("dem_"), "{id}");
    assert_eq!(url, format!("{}/{id}/demo", mcpm.origin()));

    // The same user keeps the URL; another one gets another.
    assert_eq!(mcpm.instance("alice", "demo"), url);
    assert_ne!(mcpm.instance("bob", "demo"), url);

    let mine = mcpm
        .api("alice", "GET", "/api/v1/user/instances", "")
        .json();
    assert_eq!(mine["items"].as_array().unwrap().len(), 1, "{mine}");
    let one = mcpm
        .api("alice", "GET", "/api/v1/services/demo/instance", "")
        .json();
    assert_eq!(one["instanceUrl"], url);
}

#[test]
fn the_catalogue_and_my_instances_come_in_pages() {
    let names = ["demo-a", "demo-b", "demo-c"];
    let mcpm = Mcpm::start(names.map(demo));
    for name in names {
        mcpm.instance("alice", name);
    }
    for path in ["/api/v1/services", "/api/v1/user/instances"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = mcpm.api("alice", "GET", &format!("{path}?limit=2{cursor}"), "");
            let page = page.json();
            let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
            assert!(items.len() <= 2, "{page}");
            let service = |item: &Value| item["service"].as_str().unwrap().to_owned();
            seen.extend(items.iter().map(service));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, names, "{path}");
        let refused = mcpm.api("alice", "GET", &format!("{path}?limt=2"), "");
        assert_eq!(refused.status, 400, "{refused:?}");
    }
}

#[test]
fn an_instance_is_made_by_command_with_the_key_from_stdin() {
    let mcpm = Mcpm::start([demo("demo")]);
    mcpm.token("alice");
    for stdin in ["the-key\n", "the-key", r#"{"api_key": "the-key"}"#] {
        let ran = mcpm.run_with(&["instances", "add", "demo", "--user", "alice"], stdin);
        assert_eq!(ran.code, Some(0), "{ran}");
        assert!(
            ran.stdout.starts_with(&format!("{}/dem_", mcpm.origin())),
            "{ran}"
        );
        assert_eq!(ran.stdout.lines().count(), 1, "the URL alone: {ran}");
    }
    let table = mcpm.ok(&["instances"]);
    let row = table
        .lines()
        .find(|line| line.contains("alice"))
        .expect("its row");
    let id = row.split('│').nth(1).unwrap().trim();
    assert!(id.starts_with("ins_") && row.contains("active"), "{row}");
    assert!(
        !table.contains("dem_"),
        "the id in the URL is a secret: {table}"
    );

    mcpm.ok(&["instances", "rm", id]);
    assert!(!mcpm.ok(&["instances"]).contains("alice"));
    assert!(mcpm.fails(&["instances", "rm", id]).contains(id));
}

#[test]
fn a_secret_is_never_taken_from_the_arguments() {
    let mcpm = Mcpm::start([demo("demo")]);
    mcpm.token("alice");
    let add = ["instances", "add", "demo", "--user", "alice"];
    let refused = mcpm.fails(&[&add[..], &["--field", "api_key=hush"]].concat());
    assert!(
        refused.contains("api_key") && refused.contains("stdin"),
        "{refused}"
    );
    let refused = mcpm.fails(&add);
    assert!(
        refused.contains("api_key"),
        "an empty stdin is no key: {refused}"
    );
    assert!(!mcpm.ok(&["instances"]).contains("alice"));
}

#[test]
fn keys_and_tokens_appear_nowhere() {
    let mcpm = Mcpm::start([demo("demo")]);
    let url = mcpm.instance("alice", "demo");
    let id = url.split('/').nth(3).unwrap().to_owned();
    let secrets = ["alice-key".to_owned(), mcpm.token("alice"), id];
    let mut said = mcpm.daemon_log();
    for args in [
        &["jlist"][..],
        &["describe", "demo"],
        &["services"],
        &["instances", "--json"],
        &["users"],
    ] {
        said += &mcpm.ok(args);
    }
    for secret in &secrets {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    mcpm.ok(&["kill"]);
    for file in ["mcpm.db", "run.db", "mcpm.log"] {
        let bytes = std::fs::read(mcpm.home().join(file)).unwrap();
        for secret in &secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} in {file}");
        }
    }
}

#[test]
fn a_removed_instance_is_gone_and_a_removed_user_takes_theirs_along() {
    let mcpm = Mcpm::start([demo("demo")]);
    let path = "/api/v1/services/demo/instance";
    mcpm.instance("alice", "demo");
    assert_eq!(mcpm.api("alice", "DELETE", path, "").status, 204);
    assert_eq!(mcpm.api("alice", "GET", path, "").status, 404);
    mcpm.instance("bob", "demo");
    let token = mcpm.token("bob");
    mcpm.ok(&["users", "rm", "bob"]);
    let list: Value = serde_json::from_str(&mcpm.ok(&["instances", "--json"])).unwrap();
    assert_eq!(list["items"], json!([]));
    let header = format!("Bearer {token}");
    let url = format!("{}/api/v1/user/instances", mcpm.origin());
    let answer = mcpm
        .send("GET", &url, &[("Authorization", &header)], b"")
        .read();
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[test]
fn users_and_instances_outlive_the_daemon() {
    let mcpm = Mcpm::start([demo("demo")]);
    let url = mcpm.instance("alice", "demo");
    mcpm.kill_daemon();
    mcpm.ok(&["ping"]);
    let answer = mcpm.api("alice", "GET", "/api/v1/services/demo/instance", "");
    assert_eq!(answer.json()["instanceUrl"], url);
    mcpm.ok(&["kill"]);
    let users = mcpm.ok(&["users"]);
    assert!(users.contains("alice"), "{users}");
    assert!(mcpm.ok(&["instances"]).contains("alice"));
}
