//! Instances that move in from a file, and out again without their secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{App, Mcpm, eventually, service};

/// A random UUID and its like: enough to go on as a URL.
const OLD: &str = "0b6f1c52-9a77-4e0e-8d2b-3c1f5a6e7d80";
const OTHER: &str = "V1StGXR8_Z5jdHi6B-myTx";
/// Rows of the import that is broken off: more than go into one call.
const MANY: usize = 1500;

fn demo() -> App {
    service("demo").with_api_key()
}

/// What is listed, by user: user and what else.
fn listed(mcpm: &Mcpm) -> Vec<Value> {
    let list: Value = serde_json::from_str(&mcpm.ok(&["instances", "--json"])).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[test]
fn old_urls_go_on_and_everybody_keeps_their_key() {
    let mcpm = Mcpm::start([demo()]);
    let json_lines = format!(
        "{{\"user\":\"alice\",\"service\":\"demo\",\"api_key\":\"alice-key\",\"alias\":\"{OLD}\",\
         \"label\":\"work\",\"created_at\":\"2024-05-01T10:00:00Z\"}}\n\
         {{\"user\":\"bob\",\"service\":\"demo\",\"credential\":{{\"api_key\":\"bob-key\"}}}}\n"
    );
    let file = mcpm.write("instances.jsonl", &json_lines);
    let unknown = mcpm.fails(&["instances", "import", &file]);
    assert!(
        unknown.contains("line 1") && unknown.contains("--add-users"),
        "{unknown}"
    );
    assert!(listed(&mcpm).is_empty(), "nothing was imported");

    let dry = mcpm.ok(&["instances", "import", &file, "--add-users", "--dry-run"]);
    assert!(dry.contains("would be imported: 2"), "{dry}");
    assert!(listed(&mcpm).is_empty() && !mcpm.ok(&["users"]).contains("alice"));

    let done = mcpm.ok(&["instances", "import", &file, "--add-users"]);
    assert!(done.contains("imported: 2"), "{done}");
    let seen = mcpm.get(&format!("{}/{OLD}/demo/x", mcpm.origin())).json();
    assert_eq!(seen["headers"]["authorization"], "Bearer alice-key");
    assert_eq!(seen["headers"]["x-mcpm-user-id"], "alice");
    let all = listed(&mcpm);
    assert_eq!(all.len(), 2);
    let alice = all.iter().find(|one| one["user"] == "alice").unwrap();
    assert_eq!(alice["label"], "work");
    assert_eq!(alice["createdAt"], "2024-05-01T10:00:00.000Z");

    // The same again changes nothing.
    let again = mcpm.ok(&["instances", "import", &file, "--json"]);
    let counts: Value = serde_json::from_str(&again).unwrap();
    let expected = json!({
        "added": 0, "existed": 2, "otherUrl": 0, "refused": 0, "newIds": 0
    });
    assert_eq!(counts, expected);
    assert_eq!(listed(&mcpm), all);

    // Out again: all but what is secret.
    let csv = mcpm.ok(&["instances", "export", "--csv"]);
    let head = "user,service,id,label,created_at,last_used_at,expires_at,disabled_at";
    assert_eq!(csv.lines().next(), Some(head));
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let lines = mcpm.ok(&["instances", "export", "--user", "alice"]);
    let one: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(one["label"], "work");
    for secret in [OLD, "alice-key", "bob-key"] {
        let said = format!("{csv}{lines}{done}{again}{}", mcpm.daemon_log());
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

/// Long enough and of many letters, and guessed all the same.
const WORDS: &str = "carol-instance-of-the-demo-service-2";

#[test]
fn an_old_id_that_can_be_guessed_is_replaced_and_the_mapping_tells() {
    let mcpm = Mcpm::start([demo()]);
    let rows = format!(
        "user,service,api_key,alias\nalice,demo,a-key,user-1\nbob,demo,b-key,{OTHER}\ncarol,demo,c-key,{WORDS}\n"
    );
    let file = mcpm.write("instances.csv", &rows);
    let import = ["instances", "import", file.as_str(), "--add-users"];
    let refused = mcpm.fails(&import);
    assert!(
        refused.contains("2 lines") && refused.contains("--mapping"),
        "{refused}"
    );
    assert!(listed(&mcpm).is_empty());

    let map = mcpm.folder().join("map.csv");
    let map = map.to_str().unwrap();
    mcpm.ok(&[&import[..], &["--mapping", map]].concat());
    let mode = fs::metadata(map).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(map).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let words: Vec<&str> = lines[2].split(',').collect();
    assert_eq!((words[0], words[2]), ("carol", WORDS));
    assert!(words[5].contains("words"), "{text}");
    let cells: Vec<&str> = lines[1].split(',').collect();
    assert_eq!(cells[..3], ["alice", "demo", "user-1"]);
    assert_eq!(cells[4], format!("{}/{}/demo", mcpm.origin(), cells[3]));
    let seen = mcpm.get(&format!("{}/x", cells[4])).json();
    assert_eq!(seen["headers"]["authorization"], "Bearer a-key");
    assert_eq!(
        mcpm.get(&format!("{}/user-1/demo/x", mcpm.origin())).status,
        404
    );
    assert_eq!(
        mcpm.get(&format!("{}/{OTHER}/demo/x", mcpm.origin()))
            .status,
        200
    );

    // Again, after it was broken off, say: the whole mapping, in another file.
    let refused = mcpm.fails(&[&import[..], &["--mapping", map]].concat());
    assert!(refused.contains("map.csv"), "{refused}");
    let second = mcpm.folder().join("map-2.csv");
    let second = second.to_str().unwrap();
    mcpm.ok(&[&import[..], &["--mapping", second]].concat());
    assert_eq!(fs::read_to_string(second).unwrap(), text);
}

#[test]
fn every_mistake_is_told_with_its_line_and_nothing_is_imported() {
    let mcpm = Mcpm::start([demo()]);
    mcpm.token("carol");
    let huge = "x".repeat(300 * 1024);
    let taken = ["carol,demo,c-key,", OLD, ",,"].concat();
    let first = mcpm.write(
        "first.csv",
        &format!("user,service,api_key,alias,region,label\n{taken}\n"),
    );
    mcpm.ok(&["instances", "import", &first]);

    let rows = [
        "user,service,api_key,alias,region,label".to_owned(),
        "alice,demo,SECRET-1,,,".to_owned(),
        "alice,demo,SECRET-2,,,".to_owned(),
        "bob,nonsense,SECRET-3,,,".to_owned(),
        "bob,demo,SECRET-4,,SECRET-5,".to_owned(),
        "bob,demo".to_owned(),
        format!("dave,demo,SECRET-6,{OLD},,"),
        "erin,demo,,,,".to_owned(),
        format!("erin,demo,{huge},,,"),
        format!("fred,demo,SECRET-7,,,{}", "x".repeat(101)),
        "gus,demo,SECRET-8,,,fine".to_owned(),
    ];
    let file = mcpm.write("bad.csv", &(rows.join("\r\n") + "\r\n"));
    let told = mcpm.fails(&["instances", "import", &file, "--add-users"]);
    for (line, wanted) in [
        (3, "line 2"),
        (4, "no such service"),
        (5, "`region`"),
        (6, "2 cells"),
        (7, "another instance"),
        (8, "api_key"),
        (9, "longer than"),
        (10, "100 characters"),
    ] {
        let found = told
            .lines()
            .find(|text| text.contains(&format!("line {line}: ")))
            .unwrap_or_else(|| panic!("line {line} is not told: {told}"));
        assert!(found.contains(wanted), "{found}");
    }
    assert!(
        told.contains("nothing was imported") && told.contains("--skip-bad"),
        "{told}"
    );
    assert!(!told.contains("SECRET") && !told.contains(OLD), "{told}");
    assert_eq!(listed(&mcpm).len(), 1, "carol's");

    let skipping = mcpm.run(&["instances", "import", &file, "--add-users", "--skip-bad"]);
    assert_eq!(skipping.code, Some(1), "{skipping}");
    assert!(skipping.stdout.contains("imported: 2"), "{skipping}");
    assert!(skipping.stdout.contains("left out: 8"), "{skipping}");
    let users: Vec<Value> = listed(&mcpm)
        .iter()
        .map(|one| one["user"].clone())
        .collect();
    assert_eq!(users.len(), 3);
    for user in ["alice", "carol", "gus"] {
        assert!(users.contains(&json!(user)), "{users:?}");
    }
}

#[test]
fn files_that_are_none_are_refused_whole() {
    let mcpm = Mcpm::start([demo()]);
    for (text, wanted) in [
        ("", "empty"),
        ("\u{feff}", "empty"),
        ("\n\n", "empty"),
        ("user,service,api_key\n", "no rows"),
        ("alice,demo,SECRET\n", "no header"),
        ("user;service;api_key\nalice;demo;SECRET\n", "no header"),
        ("[{\"user\":\"alice\"}]", "no header"),
        (
            "{\"user\":\"alice\",\"api_key\":\"SECRET\"}",
            "no `service`",
        ),
        ("{\"user\":\"alice\",\"api_key\":\"SECRET\"", "no JSON"),
    ] {
        let ran = mcpm.run_with(&["instances", "import", "-", "--add-users"], text);
        assert_eq!(ran.code, Some(1), "{text:?}: {ran}");
        assert!(ran.stderr.contains(wanted), "{text:?}: {ran}");
        assert!(!ran.stderr.contains("SECRET"), "{ran}");
    }
    let missing = mcpm.fails(&["instances", "import", "nowhere.csv"]);
    assert!(missing.contains("nowhere.csv"), "{missing}");
    // What some editors put first, and line ends of another system.
    let text = "\u{feff}user,service,api_key\r\nalice,demo,the-key\r\n";
    let ran = mcpm.run_with(&["instances", "import", "-", "--add-users"], text);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert_eq!(listed(&mcpm).len(), 1);
}

#[test]
fn an_import_that_was_broken_off_is_begun_again() {
    let mcpm = Mcpm::start([demo()]);
    let rows: String = (0..MANY)
        .map(|n| format!("user-{n},demo,key-{n}\n"))
        .collect();
    let file = mcpm.write("many.csv", &format!("user,service,api_key\n{rows}"));
    let mut running = mcpm.spawn(&["instances", "import", &file, "--add-users"]);
    let begun = || !listed(&mcpm).is_empty();
    assert!(eventually(begun), "some of it is there");
    mcpm.kill_daemon();
    // On a fast machine it may have been done already.
    let code = running.code();
    assert!(code == Some(0) || !running.complaints().is_empty());
    mcpm.ok(&["ping"]);
    let before = listed(&mcpm);
    let again = mcpm.ok(&["instances", "import", &file, "--add-users", "--json"]);
    let counts: Value = serde_json::from_str(&again).unwrap();
    let (added, existed) = (counts["added"].as_u64(), counts["existed"].as_u64());
    assert_eq!(existed, Some(before.len() as u64));
    assert_eq!(added.unwrap() + existed.unwrap(), MANY as u64);
    let after = listed(&mcpm);
    assert_eq!(after.len(), MANY);
    assert_eq!(after[..before.len()], before, "what was there is as it was");
}
