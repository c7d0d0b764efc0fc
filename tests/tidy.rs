//! The rules that the compiler cannot hold inside one crate: which room may know which, and which
//! files decide without touching anything. Direction and purity, never taste.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that decide. Every other file whose first lines call it pure is held to the same.
const PURE: [&str; 19] = [
    "config/check.rs",
    "health/verdict.rs",
    "instances/id.rs",
    "limits/bucket.rs",
    "limits/usage.rs",
    "logs/dress.rs",
    "logs/files.rs",
    "logs/lines.rs",
    "logs/mark.rs",
    "logs/rotate.rs",
    "logs/stamp.rs",
    "router/access.rs",
    "router/headers.rs",
    "router/path.rs",
    "supervisor/backoff.rs",
    "supervisor/machine.rs",
    "supervisor/plan.rs",
    "supervisor/restart.rs",
    "vault/seal.rs",
];

/// What a pure file cannot do: look at a clock, at files, sockets, processes, the environment or
/// random numbers, wait, or print. Time and random numbers are passed in.
const TOUCHES: [&str; 26] = [
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    ".elapsed()",
    "std::fs",
    "tokio::fs",
    "std::io",
    "tokio::io",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "tokio::net",
    "std::process",
    "tokio::process",
    "std::env",
    "std::thread",
    "tokio::spawn",
    "tokio::time::sleep",
    ".await",
    "getrandom::",
    "rustix::fs",
    "rustix::io",
    "rustix::time",
    "println!",
    "tracing::",
];

#[test]
fn rooms_know_only_rooms_above_them() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for file in files() {
        let Some(own) = rooms.get(&room(&file)) else {
            continue;
        };
        for (number, line) in production(&file).lines().enumerate() {
            for named in named_rooms(line) {
                match rooms.get(named) {
                    Some(theirs) if theirs <= own => {}
                    Some(_) => wrong.push(format!("{}:{}: {named}", shown(&file), number + 1)),
                    None => panic!("{}:{}: {line}", shown(&file), number + 1),
                }
            }
        }
    }
    let wrong = wrong.join("\n");
    assert!(
        wrong.is_empty(),
        "these name a room that stands below theirs in lib.rs:\n{wrong}"
    );
}

#[test]
fn only_the_daemon_and_the_command_line_know_the_daemon() {
    for file in files() {
        let room = room(&file);
        let knows = production(&file)
            .lines()
            .any(|line| named_rooms(line).contains(&"daemon"));
        assert!(
            !knows || ["daemon", "cli"].contains(&room.as_str()),
            "{}",
            shown(&file)
        );
    }
}

#[test]
fn pure_files_touch_nothing() {
    let all = files();
    let pure: Vec<&PathBuf> = all.iter().filter(|file| is_pure(file)).collect();
    for name in PURE {
        assert!(
            pure.iter().any(|file| file.ends_with(name)),
            "{name} is gone, or renamed"
        );
    }
    let mut wrong = Vec::new();
    for file in pure {
        for (number, line) in production(file).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in TOUCHES.iter().filter(|word| code.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", shown(file), number + 1));
            }
        }
    }
    let wrong = wrong.join("\n");
    assert!(
        wrong.is_empty(),
        "these files say that they are pure:\n{wrong}"
    );
}

#[test]
fn every_failpoint_is_one_place() {
    let mut found = Vec::new();
    for file in files() {
        let text = production(&file);
        for (at, call) in text.match_indices("failpoint::reach(\"") {
            let name = text[at + call.len()..].split('"').next();
            found.extend(name.map(str::to_owned));
        }
    }
    found.sort_unstable();
    let mut names = mcpm::failpoint::NAMES;
    names.sort_unstable();
    assert_eq!(found, names);
}

/// The rooms and their places in the tour of `lib.rs`.
fn rooms() -> BTreeMap<String, usize> {
    let tour = fs::read_to_string(source().join("lib.rs")).expect("lib.rs");
    let names = tour
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let rooms: BTreeMap<_, _> = names.map(str::to_owned).zip(0..).collect();
    assert!(
        rooms.len() > 15,
        "lib.rs lists the rooms as `pub mod NAME;`"
    );
    rooms
}

/// What comes after `crate::` in a line of code.
fn named_rooms(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("crate::")
        .map(|(at, found)| {
            let rest = &code[at + found.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

/// A file without its tests, which may know all rooms.
fn production(file: &Path) -> String {
    if file.ends_with("tests.rs") || file.ends_with("testing.rs") {
        return String::new();
    }
    let text = fs::read_to_string(file).expect("a source file");
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_owned()
}

fn is_pure(file: &Path) -> bool {
    if PURE.iter().any(|name| file.ends_with(name)) {
        return true;
    }
    let text = fs::read_to_string(file).expect("a source file");
    let opening: String = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    // A door's text tells of other files.
    !file.ends_with("mod.rs") && (opening.contains("(pure)") || opening.contains(" Pure"))
}

fn room(file: &Path) -> String {
    let inside = file.strip_prefix(source()).expect("a file of src/");
    let first = inside.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of src/") {
            let path = entry.expect("an entry of src/").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn shown(file: &Path) -> String {
    let inside = file.strip_prefix(source()).expect("a file of src/");
    format!("src/{}", inside.display())
}
