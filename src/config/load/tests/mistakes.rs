//! What is wrong with a file, and how much of that is told.

use proptest::prelude::*;

use super::*;

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
