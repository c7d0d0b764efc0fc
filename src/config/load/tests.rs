//! Whole files, through the door that the CLI uses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;

use super::super::spec::{ExecMode, LogTarget, Probe};
use super::super::{CommandLineApp, from_command_line};
use super::*;

/// A folder with `server` (executable) and `app.js`, and a shell that stands in it.
struct Room {
    dir: tempfile::TempDir,
    shell: Shell,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir(path.join("bin")).unwrap();
        for (name, mode) in [("server", 0o755), ("app.js", 0o644), ("bin/node", 0o755)] {
            fs::write(path.join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let env = [
            ("PATH", path.join("bin").display().to_string()),
            ("HOME", "/home/u".into()),
        ];
        let env = env.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let shell = Shell {
            cwd: path.to_owned(),
            env,
            program: "/own/mcpm".into(),
        };
        Self { dir, shell }
    }

    fn load(&self, text: &str) -> Result<Loaded, ConfigError> {
        load_text("eco.json", text, &self.shell, &LoadOptions::default())
    }

    #[track_caller]
    fn app(&self, app: &str) -> AppSpec {
        let mut loaded = self
            .load(&format!("{{apps: [{app}]}}"))
            .expect("no mistakes");
        assert_eq!(loaded.failed, []);
        loaded.apps.remove(0)
    }

    #[track_caller]
    fn refused(&self, text: &str) -> String {
        self.load(text).expect_err("it is refused").to_string()
    }
}

#[test]
fn defaults_are_pm2s() {
    let room = Room::new();
    let app = room.app("{script: './server'}");
    assert_eq!(app.name.as_str(), "server");
    assert_eq!(app.namespace, "default");
    assert_eq!(app.program.script, room.dir.path().join("server"));
    assert_eq!(
        (app.program.interpreter, app.cwd),
        (None, room.dir.path().to_owned())
    );
    assert_eq!((app.exec_mode, app.instances), (ExecMode::ForkMode, 1));
    assert_eq!(
        (app.restart.max_restarts, app.restart.autorestart),
        (16, true)
    );
    assert_eq!(app.restart.min_uptime, Duration::from_secs(1));
    assert_eq!(
        (app.stop.signal, app.stop.grace),
        (2, Duration::from_millis(1600))
    );
    assert_eq!((app.logs.out, app.logs.merge), (LogTarget::Default, true));
    assert!(app.autostart && app.stop.treekill && app.mcp.is_none());
    assert_eq!(app.instance_var, "NODE_APP_INSTANCE");
    assert_eq!(app.env.0["HOME"], "/home/u");
}

#[test]
fn falsy_values_count() {
    let app = Room::new().app(
        "{script: 'server', max_restarts: 0, kill_timeout: 0, restart_delay: 0, autorestart: false,
          stop_exit_codes: 0, instances: 0, exec_mode: 'fork'}",
    );
    assert_eq!(
        (app.restart.max_restarts, app.restart.restart_delay),
        (0, None)
    );
    assert_eq!(
        (app.stop.grace, app.restart.stop_exit_codes),
        (Duration::ZERO, vec![0])
    );
    assert!(app.instances >= 1 && !app.restart.autorestart && !app.logs.merge);
}

#[test]
fn node_with_instances_is_a_cluster() {
    let room = Room::new();
    let mode = |app: &str| room.app(app).exec_mode;
    assert_eq!(
        mode("{script: 'app.js', instances: 2}"),
        ExecMode::ClusterMode
    );
    assert_eq!(mode("{script: 'app.js'}"), ExecMode::ForkMode);
    assert_eq!(mode("{script: 'server', instances: 2}"), ExecMode::ForkMode);
    let forced = "{script: 'app.js', instances: 2, execute_command: true}";
    assert_eq!(mode(forced), ExecMode::ForkMode);
    assert_eq!(
        mode("{script: 'app.js', exec_mode: 'cluster'}"),
        ExecMode::ClusterMode
    );
}

#[test]
fn a_service_is_one_process_and_a_cluster_is_told_what_it_lacks() {
    let room = Room::new();
    let text = "{apps: [
      {script: './server', instances: 'max', mcp: {service: 'a', port: 1}},
      {script: './server', name: 'b', instances: 1, mcp: {service: 'b', port: 2}},
      {script: './app.js', instances: 3},
      {script: './server', name: 'c', instances: 3},
      {script: './server', name: 'd', instance_var: ''},
      {script: './app.js', name: 'e', instances: 2, increment_var: 'PORT'},
    ]}";
    let refused = room.refused(text);
    assert!(refused.contains("6:53: `instance_var` is ``"), "{refused}");
    let loaded = room.load(&text.replace("instance_var: ''", "")).unwrap();
    let counts: Vec<_> = loaded.apps.iter().map(|app| app.instances).collect();
    assert_eq!(counts, [1, 1, 3, 3, 1, 2]);
    assert_eq!(loaded.apps[5].increment_var.as_deref(), Some("PORT"));
    let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("eco.json:2:39: more than one process for a service"));
    assert!(said[1].starts_with("eco.json:4:39: replicas do not share a port"));
}

#[test]
fn log_paths_start_at_the_cwd() {
    let room = Room::new();
    let logs = room
        .app("{script: 'server', out: 'l/a.log', err: 'NULL'}")
        .logs;
    assert_eq!(logs.out, LogTarget::File(room.dir.path().join("l/a.log")));
    assert_eq!(logs.error, LogTarget::Nowhere);
    let logs = room
        .app("{script: 'server', out_file: '~/x.log', disable_logs: false}")
        .logs;
    assert_eq!(logs.out, LogTarget::File("/home/u/x.log".into()));
    let logs = room
        .app("{script: 'server', out_file: 'x', disable_logs: true}")
        .logs;
    assert_eq!(
        (logs.out, logs.error),
        (LogTarget::Nowhere, LogTarget::Nowhere)
    );
}

#[test]
fn the_example_of_the_papers_is_a_service() {
    let room = Room::new();
    let text = r#"{ "apps": [ {
      "name": "mcp-figma", "script": "./server", "max_memory_restart": "500M",
      "env": { "PORT": 49160 },
      "mcp": {
        "service": "figma", "display_name": "Figma", "category": "design",
        "port": 49160, "prefix": "fig",
        "health": { "http": "/health", "interval": "30s", "timeout": "2s", "unhealthy_after": 3 },
        "upstream_path": "/{rest}",
        "auth": {
          "type": "api_key",
          "fields": [ { "name": "api_key", "type": "password", "required": true, "description": "Personal access token" } ],
          "inject": { "headers": { "X-Figma-Token": "{api_key}" } },
          "validate": { "url": "https://api.figma.com/v1/me", "headers": { "X-Figma-Token": "{api_key}" }, "expect": 200 }
        },
        "rate_limit": { "per_minute": 600, "burst": 100 }
      } } ] }"#;
    let loaded = room.load(text).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(loaded.apps[0].triggers.memory_max, Some(500 << 20));
    let service = loaded.apps[0].mcp.as_ref().unwrap();
    assert_eq!(service.health.readiness, Probe::Http("/health".into()));
    assert_eq!(
        service
            .rate_limit
            .map(|limit| (limit.per_minute, limit.burst)),
        Some((600, 100))
    );
    assert_eq!(loaded.apps[0].env.0["PORT"], "49160");
}

#[test]
fn mcpm_bridges_run_this_program() {
    let room = Room::new();
    let app = room.app(
        "{name: 'demo', script: 'mcpm', args: 'bridge demo', mcp: {service: 'demo', port: 49161}}",
    );
    assert_eq!(app.program.script, Path::new("/own/mcpm"));
    assert_eq!(app.program.args, ["bridge", "demo"]);
    assert_eq!(app.env.0["PORT"], "49161");
    let env = "env: {MCP_TYPE: 'x', PORT: 1}";
    let path = |script: &str| {
        room.app(&format!("{{{script}, {env}}}"))
            .mcp
            .unwrap()
            .upstream_path
    };
    assert_eq!(path("script: 'mcpm bridge demo'"), "/{rest}");
    assert_eq!(path("script: 'server'"), "/{instance_id}/{rest}");
}

#[test]
fn every_mistake_is_named_at_once_and_nothing_is_looked_up() {
    let room = Room::new();
    let text = "{ apps: [
  { name: 'a', script: './missing', max_restarts: 'many', mcp: { service: 'x', port: 1 } },
  { name: 'b', autorestart: 'true', mcp: { service: 'x', port: 1 } },
  { name: 'c', script: 'server', mcp: { service: 'y', port: 2 } },
  { name: 'd', script: 'server', mcp: { service: 'y', port: 2 } },
  7
] }";
    assert_eq!(
        room.refused(text),
        "eco.json:2:51: `max_restarts` is `\"many\"`; write a whole number from 0 to 4294967295\n\
         eco.json:3:3: an app has no `script`; write the file or program to start\n\
         eco.json:3:29: `autorestart` is `\"true\"`; write `true`, without quotes\n\
         eco.json:5:50: service type `y` is served by app `c` already (line 4); give `d` a type of \
         its own\n\
         eco.json:5:61: port 2 is taken by app `c` already (line 4); give `d` another\n\
         eco.json:6:3: an app is `7`; write a map"
    );
}

#[test]
fn a_required_key_is_told_once_whether_null_or_wrong() {
    let room = Room::new();
    let text = "{apps: [
      {script: [1]},
      {script: './server', mcp: {service: null, port: 1}},
      {script: './server', mcp: {service: 'b', port: 0}},
      {script: './server', mcp: {service: 'c', port: 3, rate_limit: {per_minute: null}}},
      {script: './server', mcp: {service: 'd', port: 4, auth: {type: [], fields: [{name: {}}, {}]}}},
      {script: './server', mcp: {service: 'e', port: 5, auth: {type: 'api_key',
        inject: {basic: {username: []}}, validate: {url: null}}}},
      {script: './server', mcp: {service: 'f', port: 6, auth: {type: 'api_key', validate: {url: []}}}},
    ]}";
    let refused = room.refused(text);
    let said: Vec<_> = refused
        .lines()
        .map(|line| line.splitn(4, ':').last().unwrap_or_default().trim())
        .collect();
    let expected = [
        "`script` is a list; write a text in quotes",
        "`mcp` has no `service`; write the service type, such as `figma`",
        "`port` is `0`; write a port from 1 to 65535",
        "`rate_limit` has no `per_minute`",
        "`type` is a list; write a text in quotes",
        "`name` is a map; write a text in quotes",
        "a field has no `name`",
        "`username` is a list; write a text in quotes",
        "`validate` has no `url`; write an `https` address",
        "`url` is a list; write a text in quotes",
    ];
    assert_eq!(said, expected, "{refused}");
}

#[test]
fn what_is_missing_fails_its_app_only() {
    let room = Room::new();
    let text = "[ { name: 'a', script: './missing' },\n { name: 'b', script: 'server' },\n\
                 { name: 'c', script: 'server', cwd: 'nowhere' } ]";
    let loaded = room.load(text).unwrap();
    assert_eq!(loaded.apps.len(), 1);
    let failed: Vec<String> = loaded.failed.iter().map(ToString::to_string).collect();
    let dir = room.dir.path().display();
    assert_eq!(
        failed,
        [
            format!(
                "eco.json:1:24: app `a`: `script` `./missing` does not exist; looked in `{dir}`"
            ),
            format!("eco.json:3:37: app `c`: `cwd` `nowhere` does not exist; looked in `{dir}`"),
        ]
    );
}

#[test]
fn two_apps_of_one_name_only_warn() {
    let loaded = Room::new().load("[{name: 'a', script: 'server'}, {name: 'a', script: 'server'}]");
    let loaded = loaded.unwrap();
    assert_eq!((loaded.apps.len(), loaded.warnings.len()), (2, 1));
    assert!(
        loaded.warnings[0]
            .message
            .contains("a second app is named `a` (line 1)")
    );
}

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
fn only_and_env_choose() {
    let room = Room::new();
    let options = LoadOptions {
        env_name: Some("prod".into()),
        only: vec!["b-prod".into(), "zzz".into()],
        given: Vec::new(),
    };
    let text = "[{name: 'a', script: 'server'},
      {name: 'b', script: 'server', append_env_to_name: true, env: {X: 1}, env_prod: {X: 2}}]";
    let loaded = load_text("e.json", text, &room.shell, &options).unwrap();
    assert_eq!(loaded.apps.len(), 1);
    assert_eq!(loaded.apps[0].env.0["X"], "2");
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(
        !warnings.iter().any(|text| text.contains("no `env_prod`")),
        "only `a` has none, and is not asked for: {warnings:?}"
    );
    let all = LoadOptions {
        only: Vec::new(),
        ..options.clone()
    };
    let told = load_text("e.json", text, &room.shell, &all)
        .unwrap()
        .warnings;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().contains("no `env_prod`"), "{told:?}");
    assert!(
        warnings[0].contains("no app is named `zzz`"),
        "{warnings:?}"
    );
}

#[test]
fn port_wins_over_env_but_not_over_the_chosen_block() {
    let room = Room::new();
    let port = |env: Option<&str>| {
        let options = LoadOptions {
            env_name: env.map(str::to_owned),
            only: Vec::new(),
            given: Vec::new(),
        };
        let text = "[{script: 'server', port: 1, env: {PORT: 2}, env_x: {PORT: 3}}]";
        load_text("e.json", text, &room.shell, &options)
            .unwrap()
            .apps[0]
            .env
            .0["PORT"]
            .clone()
    };
    assert_eq!((port(None).as_str(), port(Some("x")).as_str()), ("1", "3"));
}

#[test]
fn settings_of_the_daemon_stand_beside_the_apps() {
    let room = Room::new();
    let text =
        "{mcpm: {listen: ':9000', publicUrl: 'https://a.b/', require_auth: true, max_body: '1M'}}";
    let settings = room.load(text).unwrap().settings;
    assert_eq!(settings.listen, "127.0.0.1:9000".parse().ok());
    assert_eq!(settings.public_url.as_deref(), Some("https://a.b"));
    assert_eq!(
        (settings.require_auth, settings.max_body),
        (Some(true), Some(1 << 20))
    );
    assert!(
        room.refused("{mcpm: {listen: 'x'}}")
            .contains("write an address")
    );
}

#[test]
fn the_files_folder_comes_before_the_shells() {
    let room = Room::new();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("e.json"), "{script: './server'}").unwrap();
    let path = other.path().join("e.json");
    let load = || {
        load_file(&path, &room.shell, &LoadOptions::default())
            .unwrap()
            .apps
            .remove(0)
    };
    assert_eq!(load().cwd, room.dir.path());
    fs::copy(room.dir.path().join("server"), other.path().join("server")).unwrap();
    assert_eq!(load().cwd, other.path());
    assert_eq!(load().program.script, other.path().join("server"));
}

#[test]
fn unreadable_files_are_refused() {
    let room = Room::new();
    let load = |name: &str| {
        load_file(Path::new(name), &room.shell, &LoadOptions::default()).expect_err("it is refused")
    };
    assert!(matches!(load("nope.json"), ConfigError::Read { .. }));
    assert!(matches!(load("nope.config.js"), ConfigError::Read { .. }));
    fs::write(room.dir.path().join("bad.json"), b"{ \xff }").unwrap();
    assert!(matches!(
        load("bad.json"),
        ConfigError::NotUtf8 { offset: 2, .. }
    ));
    let big = " ".repeat(usize::try_from(FILE_MAX).unwrap() + 1);
    assert!(matches!(room.load(&big), Err(ConfigError::TooLarge { .. })));
    fs::write(room.dir.path().join("big.json"), big).unwrap();
    assert!(matches!(load("big.json"), ConfigError::TooLarge { .. }));
    fs::remove_file(room.dir.path().join("bin/node")).unwrap();
    fs::write(room.dir.path().join("x.config.js"), "").unwrap();
    assert!(load("x.config.js").to_string().contains("not in `PATH`"));
}

#[test]
fn too_many_apps_are_refused() {
    let text = format!("[{}]", "{script: 'x'},".repeat(10_001));
    assert!(Room::new().refused(&text).contains("more than 10000 apps"));
}

#[test]
fn a_misspelt_key_is_named_beside_what_it_makes_missing() {
    let text = "{ apps: [{ name: 'c', script: 'server', mcp: { service: 'y', prot: 2 } }] }";
    let said = Room::new().refused(text);
    assert!(
        said.starts_with("eco.json:1:46: a service needs a fixed port"),
        "{said}"
    );
    assert!(
        said.contains("\nwarning: eco.json:1:") && said.contains("did you mean `port`?"),
        "{said}"
    );
}

#[test]
fn a_thousand_mistakes_do_not_become_a_book() {
    let error = Room::new().refused(&format!("[{}]", "1,".repeat(3000)));
    assert_eq!(error.lines().count(), 1001);
    assert!(error.ends_with("and 2000 more mistakes"));
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

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", yaml in any::<bool>()) {
        let shell = Shell { cwd: "/".into(), env: BTreeMap::new(), program: "/mcpm".into() };
        let name = if yaml { "a.yml" } else { "a.json" };
        let _ = load_text(name, &text, &shell, &LoadOptions::default());
    }

    #[test]
    fn no_value_of_any_key_panics(
        keys in proptest::collection::vec((any::<prop::sample::Index>(), 0..16usize), 1..12),
        inner in proptest::collection::vec((any::<prop::sample::Index>(), 0..16usize), 0..12),
    ) {
        const VALUES: [&str; 16] = [
            "null", "true", "false", "0", "-1", "1.5", "1e300", "NaN", "''", "'x'", "'10s'",
            "'{a'", "[]", "[1, 'a', {}]", "{}", "{name: 'a', http: '/', '': {x: [1]}}",
        ];
        let body = |rows: &[crate::config::keys::Key], picks: &[(prop::sample::Index, usize)]| {
            let pairs = picks.iter().map(|(i, v)| format!("{}: {}", i.get(rows).name, VALUES[*v]));
            pairs.collect::<Vec<_>>().join(", ")
        };
        let app = body(crate::config::keys::APP.keys, &keys);
        let mcp = body(crate::config::keys::MCP.keys, &inner);
        let auth = body(crate::config::keys::AUTH.keys, &inner);
        let text = format!("[{{script: 'sh', {app}, mcp: {{service: 's', port: 1, {mcp}, auth: {{{auth}}}}}}}]");
        let shell = Shell { cwd: "/".into(), env: BTreeMap::new(), program: "/mcpm".into() };
        let _ = load_text("a.json", &text, &shell, &LoadOptions::default());
    }
}
