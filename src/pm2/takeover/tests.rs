use proptest::prelude::*;

use super::*;

/// What PM2 7.0.4 saved of an ecosystem file: two replicas in a cluster, a shell script with a
/// clock and a watcher, two processes with ports of their own, a stopped one, a file server, and a
/// module. Paths and variables are shortened.
const SAVED: &str = include_str!("saved.json");

fn saved() -> Vec<Value> {
    serde_json::from_str(SAVED).unwrap()
}

fn takeover() -> Takeover {
    apps(&saved(), Path::new("/home/u/.pm2"), None)
}

fn entry(name: &str) -> Value {
    let found = takeover().apps.into_iter().find(|app| app.name == name);
    Value::Object(found.unwrap().entry)
}

#[test]
fn replicas_in_a_cluster_become_one_app() {
    assert_eq!(
        entry("web"),
        json!({
            "name": "web", "script": "/srv/web.js", "interpreter": "node", "cwd": "/srv",
            "exec_mode": "cluster", "node_args": ["--max-old-space-size=200"],
            "max_memory_restart": 314_572_800,
            "env": { "PATH": "/usr/bin:/bin", "HOME": "/home/u", "PORT": 23001, "API_KEY": "s3cret" },
            "filter_env": true, "instances": 2,
        })
    );
}

#[test]
fn what_restarts_an_app_and_where_it_writes_is_kept() {
    assert_eq!(
        entry("job"),
        json!({
            "name": "job", "script": "/srv/job.sh", "interpreter": "bash", "cwd": "/srv",
            "namespace": "jobs", "exec_mode": "fork", "cron_restart": "0 4 * * *",
            "watch": ["src"], "ignore_watch": ["src/tmp"], "watch_delay": 1000,
            "kill_timeout": 3000, "log_date_format": "YYYY-MM-DD",
            "out_file": "/srv/job-o.log", "error_file": "/dev/null",
            "env": { "PATH": "/usr/bin:/bin", "HOME": "/home/u" }, "filter_env": true,
        })
    );
}

#[test]
fn a_counted_variable_begins_with_the_first_replica() {
    let multi = entry("multi");
    assert_eq!(multi["env"]["PORT"], 23100);
    assert_eq!(
        (&multi["instances"], &multi["increment_var"]),
        (&json!(2), &json!("PORT"))
    );
}

#[test]
fn numbers_that_pm2_put_into_paths_are_taken_out() {
    let numbered = entry("numbered");
    assert_eq!(numbered["out_file"], "/srv/u.log");
    assert_eq!(numbered["log_file"], "/srv/both.log");
    assert_eq!(numbered["pid_file"], "/srv/my.pid");
    assert_eq!(numbered["merge_logs"], false);
    assert!(numbered.get("error_file").is_none(), "PM2 chose that place");
}

#[test]
fn a_stopped_app_is_listed_and_not_started() {
    let found = takeover()
        .apps
        .into_iter()
        .find(|app| app.name == "stopped")
        .unwrap();
    assert_eq!(found.entry["autostart"], false);
    assert!(
        found.notes[0].contains("stopped in PM2"),
        "{:?}",
        found.notes
    );
}

#[test]
fn the_file_server_is_ours() {
    let server = entry("static-page-server-23050");
    assert_eq!(server["script"], "serve");
    assert!(server.get("interpreter").is_none());
    assert_eq!(server["env"]["PM2_SERVE_PORT"], "23050");
    assert!(server["env"].get("PM2_USAGE").is_none());
    assert!(server["env"].get("static-page-server-23050").is_none());
}

#[test]
fn modules_and_what_is_no_process_are_told() {
    let mut entries = saved();
    entries.push(json!(3));
    entries.push(json!({"name": "half", "pm_cwd": "/"}));
    let left = apps(&entries, Path::new("/"), None).left;
    let names: Vec<_> = left.iter().map(|left| left.name.as_str()).collect();
    assert_eq!(names, ["pm2-logrotate", "entry 10", "half"]);
    assert!(left[2].why.contains("pm_exec_path"), "{}", left[2].why);
}

#[test]
fn what_the_shell_has_anyway_is_left_out_of_a_file() {
    let known = BTreeMap::from([
        ("HOME".to_owned(), "/home/u".to_owned()),
        ("PATH".to_owned(), "/x".to_owned()),
    ]);
    let job = apps(&saved(), Path::new("/home/u/.pm2"), Some(&known))
        .apps
        .remove(1);
    assert_eq!(job.entry["env"], json!({ "PATH": "/usr/bin:/bin" }));
    assert!(job.entry.get("filter_env").is_none());
}

proptest! {
    /// Whatever stands in the fields, every process is either in an app or told.
    #[test]
    fn no_list_makes_it_panic_or_lose_a_process(
        entries in proptest::collection::vec((
            "(a|b|c)", any::<Option<bool>>(), 0u64..3, "(stopped|online|)",
            proptest::option::of("(/l/x-1.log|/home/u/.pm2/logs/a-out.log|x|)"),
            proptest::option::of("(PORT|name)"),
        ), 0..12)
    ) {
        let list: Vec<Value> = entries.iter().map(|(name, whole, number, status, log, counted)| {
            let mut entry = json!({
                "name": name, "pm_cwd": "/", "NODE_APP_INSTANCE": number, "status": status,
                "pm_out_log_path": log, "increment_var": counted, "PORT": number,
                "env": { "PORT": 1, "unique_id": status },
            });
            match whole {
                Some(true) => entry["pm_exec_path"] = json!("/a"),
                Some(false) => entry["pm_exec_path"] = json!(3),
                None => {}
            }
            entry
        }).collect();
        let takeover = apps(&list, Path::new("/home/u/.pm2"), None);
        let running = entries.iter().filter(|entry| entry.1 == Some(true)).count();
        prop_assert_eq!(takeover.left.len(), entries.len() - running);
        let started: u32 = takeover.apps.iter().map(|app| app.instances).sum();
        prop_assert!(started as usize <= running);
    }
}
