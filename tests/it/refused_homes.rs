//! State folders that a daemon cannot or may not use.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{Mcpm, demo, kill, processes_of, reserve, sh};

/// Runs `ls` in a home, which needs a daemon; returns what was complained of.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert_eq!(output.stdout, b"");
    complaint
}

#[track_caller]
fn assert_says(complaint: &str, parts: &[&str]) {
    assert_holds(complaint, parts);
    assert!(complaint.starts_with("error: "), "{complaint}");
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_home_so_deep_that_the_socket_path_is_too_long() {
    let mcpm = Mcpm::new();
    let deep = mcpm.folder().join("x".repeat(100));
    let complaint = refused(mcpm.command(&["ls"]).env("MCPM_HOME", &deep));
    assert_says(&complaint, &["bytes", "107", "MCPM_HOME", "mcpm.sock"]);
    assert!(!deep.exists());
}

#[test]
fn a_second_daemon_on_one_home_names_the_first() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let (daemon, app) = (mcpm.daemon_pid(), mcpm.list()["web"].pid);
    let complaint = mcpm.fails(&["daemon"]);
    assert_says(
        &complaint,
        &["a daemon is running on this home", &daemon.to_string()],
    );
    assert_eq!((mcpm.daemon_pid(), mcpm.list()["web"].pid), (daemon, app));
}

#[test]
fn a_second_daemon_is_refused_though_the_lock_file_of_the_first_was_removed() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let (daemon, app) = (mcpm.daemon_pid(), mcpm.list()["web"].pid);
    let refused = || {
        let complaint = mcpm.fails(&["daemon"]);
        assert_says(
            &complaint,
            &["a daemon is running on this home", &daemon.to_string()],
        );
    };
    fs::remove_file(mcpm.home().join("mcpm.lock")).unwrap();
    refused();
    // The one that was refused has left a file that nobody holds.
    refused();
    assert_eq!((mcpm.daemon_pid(), mcpm.list()["web"].pid), (daemon, app));
    for file in ["mcpm.lock", "mcpm.pid", "mcpm.sock"] {
        fs::remove_file(mcpm.home().join(file)).unwrap();
    }
    refused();
    assert_eq!(processes_of(&mcpm.home()).len(), 2, "the first and its app");
    // It is not in the way of the next one.
    kill(daemon, "KILL");
    assert_eq!(mcpm.list()["web"].pid, app);
}

#[test]
fn a_daemon_that_was_updated_needs_no_lock_file_either() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let first = mcpm.daemon_pid();
    mcpm.ok(&["update"]);
    let second = mcpm.daemon_pid();
    assert_ne!(first, second);
    fs::remove_file(mcpm.home().join("mcpm.lock")).unwrap();
    let complaint = mcpm.fails(&["daemon"]);
    assert_says(&complaint, &[&second.to_string()]);
}

#[test]
fn a_master_key_that_is_open_to_others_is_refused_with_the_remedy() {
    let mcpm = Mcpm::new();
    mcpm.ok(&["ping"]);
    mcpm.ok(&["kill"]);
    let key = mcpm.home().join("master.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let complaint = mcpm.fails(&["ls"]);
    assert_says(&complaint, &["master.key", "chmod 600"]);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    mcpm.ok(&["ls"]);
}

#[test]
fn a_master_key_that_cannot_be_read_or_is_another_one_is_refused() {
    let mcpm = Mcpm::start([demo("demo")]);
    mcpm.instance("alice", "demo");
    mcpm.ok(&["kill"]);
    let key = mcpm.home().join("master.key");
    let good = fs::read(&key).unwrap();
    fs::write(&key, "nonsense").unwrap();
    assert_says(&mcpm.fails(&["ls"]), &["master.key"]);
    fs::remove_file(&key).unwrap();
    // A new key would make every credential unreadable: it is not made.
    let complaint = mcpm.fails(&["ls"]);
    assert_says(&complaint, &["master"]);
    assert!(!key.exists(), "{complaint}");
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: a key that may not be read, since root may read all");
    } else {
        fs::write(&key, &good).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o000)).unwrap();
        assert_says(&mcpm.fails(&["ls"]), &["master.key", "ermission"]);
        fs::remove_file(&key).unwrap();
    }
    fs::write(&key, &good).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert!(mcpm.ok(&["instances"]).contains("alice"), "nothing is lost");
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    for file in ["mcpm.db", "run.db"] {
        let mcpm = Mcpm::new();
        mcpm.ok(&["users", "add", "alice"]);
        mcpm.ok(&["kill"]);
        let path = mcpm.home().join(file);
        let db = rusqlite::Connection::open(&path).unwrap();
        let version: i64 = db
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        db.pragma_update(None, "user_version", 999).unwrap();
        drop(db);
        let complaint = mcpm.fails(&["ls"]);
        assert_says(&complaint, &[file, "newer", "999"]);
        let db = rusqlite::Connection::open(&path).unwrap();
        db.pragma_update(None, "user_version", version).unwrap();
        drop(db);
        assert!(mcpm.ok(&["users"]).contains("alice"));
    }
}

#[test]
fn a_database_that_is_none_is_refused_and_left_alone() {
    let mcpm = Mcpm::new();
    mcpm.ok(&["ping"]);
    mcpm.ok(&["kill"]);
    let path = mcpm.home().join("mcpm.db");
    let nonsense = "this is no database ".repeat(100);
    fs::write(&path, &nonsense).unwrap();
    assert_says(&mcpm.fails(&["ls"]), &["mcpm.db"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), nonsense);
}

#[test]
fn a_home_that_is_a_file_or_someone_elses() {
    let mcpm = Mcpm::new();
    let file = mcpm.write("file", "");
    assert_says(
        &refused(mcpm.command(&["ls"]).env("MCPM_HOME", &file)),
        &[&file],
    );
    if !rustix::process::geteuid().is_root() {
        assert_says(
            &refused(mcpm.command(&["ls"]).env("MCPM_HOME", "/")),
            &["`/`"],
        );
    }
}

#[test]
fn a_stale_socket_and_pid_file_are_no_obstacle() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    mcpm.kill_daemon();
    assert!(mcpm.home().join("mcpm.sock").exists());
    assert!(mcpm.ok(&["ls"]).contains("web"));
}

#[test]
fn a_router_address_that_is_taken_warns_and_services_run_all_the_same() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mcpm = Mcpm::new();
    let file = mcpm.ecosystem([demo("demo")]);
    let output = mcpm
        .command(&["start", &file])
        .env("MCPM_LISTEN", &address)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "no user can reach a service");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let us = std::process::id().to_string();
    for part in ["warning:", &address, "is taken by", &us, "MCPM_LISTEN"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(mcpm.list()["demo"].is_up());
    for command in ["ls", "services", "config"] {
        let said = mcpm.run(&[command]).stderr;
        assert!(said.contains("is taken by"), "{command}: {said}");
    }
    drop(taken);
    crate::harness::wait_for(
        || std::net::TcpStream::connect(&address).ok(),
        "the router, once the address is free",
    );
}

#[test]
fn settings_that_are_wrong_are_refused_by_name() {
    let mcpm = Mcpm::new();
    for (name, value) in [
        ("MCPM_LISTEN", "localhost"),
        ("MCPM_PUBLIC_URL", "example.com"),
        ("MCPM_MAX_BODY", "big"),
    ] {
        let complaint = refused(mcpm.command(&["ls"]).env(name, value));
        assert_says(&complaint, &[name, value]);
    }
    mcpm.ok(&["ping"]);
    mcpm.ok(&["kill"]);
    fs::write(mcpm.home().join("mcpm.json"), "{ \"listen\": true }").unwrap();
    assert_says(&mcpm.fails(&["ls"]), &["mcpm.json:1:13", "`listen`"]);
}

#[test]
fn a_second_start_with_another_address_is_refused_and_names_both() {
    let mcpm = Mcpm::start([demo("demo")]);
    let own = mcpm.origin().replace("http://", "");
    let app = "apps: [{ name: 'web', script: '/bin/sh', args: '-c \"exec sleep 1000\"' }]";
    let file = mcpm.write("plain.json", &format!("{{ {app} }}"));
    let other = "127.0.0.1:1";
    let complaint = refused(mcpm.command(&["start", &file]).env("MCPM_LISTEN", other));
    assert_says(&complaint, &[&own, other, "MCPM_LISTEN", "mcpm kill"]);

    let block = format!("{{ mcpm: {{ listen: '{other}' }}, {app} }}");
    let block = mcpm.write("block.json", &block);
    let complaint = refused(mcpm.command(&["start", &block]).env_remove("MCPM_LISTEN"));
    assert_says(&complaint, &[&own, other, "MCPM_LISTEN", "block.json"]);
    assert_eq!(mcpm.list().all().len(), 1, "nothing was started");

    // Where the shell agrees with the daemon, it wins over the file as ever.
    mcpm.ok(&["start", &block]);
    // An idle daemon moves.
    mcpm.ok(&["delete", "all"]);
    let free = reserve();
    let address = format!("127.0.0.1:{free}");
    let output = mcpm
        .command(&["start", &file])
        .env("MCPM_LISTEN", &address)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_holds(&mcpm.ok(&["config"]), &[&address, "MCPM_LISTEN"]);
}

#[test]
fn a_damaged_run_db_is_put_aside_and_what_runs_is_named() {
    let mcpm = Mcpm::start([sh("web", "exec sleep 1000")]);
    let pid = mcpm.list()["web"].pid;
    mcpm.kill_daemon();
    for beside in ["run.db-wal", "run.db-shm"] {
        let _ = fs::remove_file(mcpm.home().join(beside));
    }
    fs::write(mcpm.home().join("run.db"), "no database ".repeat(200)).unwrap();
    let ran = mcpm.run(&["ls"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let named = format!("pid {pid} (`web`)");
    assert_holds(&ran.stderr, &["warning: ", "run.db.broken-", &named]);
    assert!(mcpm.daemon_log().contains("ERROR"), "it is logged, too");
    // Told as long as this daemon runs; the next one finds its own file in order.
    mcpm.ok(&["kill"]);
    let said = mcpm.run(&["ls"]).stderr;
    assert!(!said.contains("run.db.broken-"), "{said}");
    assert_holds(&said, &[&named]);
}

#[test]
fn settings_come_from_files_and_two_that_differ_are_both_named() {
    let mcpm = Mcpm::start([demo("demo")]);
    mcpm.ok(&["kill"]);
    let own = mcpm.home().join("mcpm.json");
    fs::write(
        &own,
        "// as in a file\n{ public_url: 'https://one.example' }",
    )
    .unwrap();
    let config = mcpm.ok(&["config"]);
    assert_holds(&config, &["https://one.example", "/home/mcpm.json"]);

    let block = |url: &str| {
        let text = format!("{{ mcpm: {{ public_url: '{url}' }}, apps: [] }}");
        let app = "apps: [{ name: 'x', script: '/bin/sh', args: '-c \"exec sleep 1000\"' }]";
        mcpm.write("own.json", &text.replace("apps: []", app))
    };
    let complaint = mcpm.fails(&["start", &block("https://two.example")]);
    assert_says(
        &complaint,
        &[
            "https://one.example",
            "https://two.example",
            "mcpm.json",
            "own.json",
        ],
    );

    // Without the file in the home, the block holds, also for a daemon that sees no file.
    mcpm.ok(&["kill"]);
    fs::remove_file(&own).unwrap();
    mcpm.ok(&["start", &block("https://two.example")]);
    for _ in 0..2 {
        let config = mcpm.ok(&["config"]);
        assert_holds(&config, &["https://two.example", "own.json"]);
        mcpm.ok(&["kill"]);
    }
}
