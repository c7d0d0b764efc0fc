//! All that a file may look like, JavaScript and a command line as well.

use super::*;
use crate::config::{CommandLineApp, from_command_line};

#[test]
fn all_forms_of_a_file_are_read() {
    let room = Room::new();
    for text in [
        "{apps: [{script: 'server'}]}",
        "{apps: {script: 'server'}}",
        "{pm2: [{script: 'server'}]}",
        "[{script: 'server'}]",
        "{script: 'server'}",
        "{exec: 'server', deploy: 1}",
    ] {
        assert_eq!(room.load(text).unwrap().apps.len(), 1, "{text}");
    }
    let options = LoadOptions::default();
    let yaml = "apps:\n  - script: server\n    max_restarts: 3\n";
    for name in ["-", "a.yml", "a.yaml"] {
        let loaded = load_text(name, yaml, &room.shell, &options).unwrap();
        assert_eq!(loaded.apps[0].restart.max_restarts, 3, "{name}");
    }
    assert!(room.refused("7").contains("write `{ \"apps\": [ … ] }`"));
    let package = "{name: 'p', version: '1', scripts: {}, pm2: {apps: [{script: 'server'}]}}";
    let loaded = load_text("x/package.json", package, &room.shell, &options).unwrap();
    assert_eq!((loaded.apps.len(), loaded.warnings.len()), (1, 0));
}

#[test]
fn names_of_ecosystem_files() {
    for yes in [
        "ecosystem.json",
        "a.yml",
        "a.yaml",
        "x.config.js",
        "x.config.mjs",
        "/d/package.json",
        "eco.json.prod",
        "eco.json5",
    ] {
        assert!(is_ecosystem_file(yes), "{yes}");
    }
    for no in [
        "app.js",
        "web",
        "dir.json.d/app.js",
        "server.json.js",
        "config.js",
        "x.config.ts",
    ] {
        assert!(!is_ecosystem_file(no), "{no}");
    }
}

/// Through the real `node`, where there is one.
#[test]
fn javascript_files_are_evaluated_however_they_export() {
    let room = Room::new();
    let path = std::env::var("PATH").unwrap_or_default();
    if resolve::in_path("node", Some(&path)).is_none() {
        eprintln!("skipped: there is no `node` in PATH");
        return;
    }
    let mut shell = room.shell.clone();
    shell.env.insert("PATH".into(), path);
    shell.env.insert("WHO".into(), "me".into());
    let load = |name: &str, text: &str| {
        fs::write(room.dir.path().join(name), text).unwrap();
        load_file(Path::new(name), &shell, &LoadOptions::default())
    };
    for (name, text) in [
        (
            "a.config.js",
            "console.log('hi'); module.exports = {apps: [{script: 'server', name: process.env.WHO}]}",
        ),
        (
            "b.config.cjs",
            "module.exports = async () => [{script: 'server', name: 'me'}]",
        ),
        (
            "c.config.mjs",
            "export const apps = [{script: 'server', name: 'me'}];",
        ),
        (
            "d.config.mjs",
            "export default {apps: [{script: 'server', name: 'me'}]}; setInterval(() => 1, 1e6);",
        ),
    ] {
        let loaded = load(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(loaded.apps[0].name.as_str(), "me", "{name}");
    }
    for (name, text, expected) in [
        (
            "e.config.js",
            "\n\nmodule.exports = {",
            "e.config.js:3: SyntaxError",
        ),
        (
            "f.config.mjs",
            "\nexport default {",
            "f.config.mjs:2: SyntaxError",
        ),
        (
            "g.config.js",
            "throw new Error('no')",
            "g.config.js:1: Error: no",
        ),
        (
            "h.config.mjs",
            "export default undefined",
            "h.config.mjs: exports nothing",
        ),
        (
            "i.config.js",
            "module.exports = [{name: 'x', script: 'server', watch: 3}]",
            "i.config.js: app `x`: `watch` is `3`",
        ),
        (
            "j.config.js",
            "module.exports = {apps: 'x'.repeat(5000000)}",
            "larger than 4 MiB",
        ),
    ] {
        let error = load(name, text).expect_err(name).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_command_line_follows_the_same_rules() {
    let room = Room::new();
    let app = CommandLineApp {
        script: "./server".into(),
        name: Some("web".into()),
        args: vec!["--a b".into()],
        instances: Some("2".into()),
        max_restarts: Some(0),
        restart_delay: Some("2s".into()),
        autorestart: false,
        others: vec![("wait_ready".into(), "true".into())],
        ..CommandLineApp::default()
    };
    let loaded = from_command_line(&app, &room.shell).unwrap();
    let spec = &loaded.apps[0];
    assert_eq!((spec.name.as_str(), spec.instances), ("web", 2));
    assert_eq!(spec.program.args, ["--a b"]);
    assert_eq!(spec.restart.restart_delay, Some(Duration::from_secs(2)));
    assert!(!spec.restart.autorestart && spec.restart.max_restarts == 0);
    assert_eq!(spec.ready_within, Some(Duration::from_secs(3)));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);

    let bad = CommandLineApp {
        kill_timeout: Some("soon".into()),
        ..app.clone()
    };
    let error = from_command_line(&bad, &room.shell)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("`kill_timeout` is `\"soon\"`; write"),
        "{error}"
    );
    let missing = CommandLineApp {
        script: "./nope".into(),
        ..app
    };
    let loaded = from_command_line(&missing, &room.shell).unwrap();
    assert!(loaded.apps.is_empty() && loaded.failed[0].message.contains("does not exist"));
}
