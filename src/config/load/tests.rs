//! Whole files, through the door that the CLI uses.

mod forms;
mod mistakes;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::super::spec::{ExecMode, LogTarget, Probe};
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
    assert_eq!(app.env.get("HOME"), Some("/home/u"));
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
    assert_eq!(loaded.apps[0].env.get("PORT"), Some("49160"));
}

#[test]
fn mcpm_bridges_run_this_program() {
    let room = Room::new();
    let app = room.app(
        "{name: 'demo', script: 'mcpm', args: 'bridge demo', mcp: {service: 'demo', port: 49161}}",
    );
    assert_eq!(app.program.script, Path::new("/own/mcpm"));
    assert_eq!(app.program.args, ["bridge", "demo"]);
    assert_eq!(app.env.get("PORT"), Some("49161"));
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
    assert_eq!(loaded.apps[0].env.get("X"), Some("2"));
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
            .get("PORT")
            .unwrap()
            .to_owned()
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
