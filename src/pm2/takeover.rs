//! PM2's list of processes → the apps of an ecosystem file that make the same ones. Pure.
//!
//! PM2 keeps one entry for each process; those that differ only in what tells replicas apart
//! become one app with `instances`. Attributes are left out where they say what holds anyway.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Fields that mean in an ecosystem file what they mean in a list.
const SAME: [&str; 23] = [
    "args",
    "node_args",
    "port",
    "increment_var",
    "max_restarts",
    "min_uptime",
    "restart_delay",
    "exp_backoff_restart_delay",
    "stop_exit_codes",
    "max_memory_restart",
    "cron_restart",
    "watch",
    "ignore_watch",
    "watch_delay",
    "kill_timeout",
    "shutdown_with_message",
    "wait_ready",
    "listen_timeout",
    "log_type",
    "log_date_format",
    "disable_logs",
    "uid",
    "gid",
];
/// PM2's static file server, whose place depends on where PM2 lies.
const SERVE: &str = "/lib/API/Serve.js";

/// An app to start.
#[derive(Debug, PartialEq)]
pub struct App {
    /// Its name.
    pub name: String,
    /// What runs, as PM2 has it.
    pub script: String,
    /// How many processes it has.
    pub instances: u32,
    /// As it stands in an ecosystem file.
    pub entry: Map<String, Value>,
    /// What is not as it was, in sentences.
    pub notes: Vec<String>,
}

/// What no app can be made of.
#[derive(Debug, PartialEq)]
pub struct Left {
    /// Its name, or where it stands in the list.
    pub name: String,
    /// Why.
    pub why: String,
    /// It ought to be one; a module of PM2 ought not.
    pub is_loss: bool,
}

/// What a list comes to.
#[derive(Debug, Default, PartialEq)]
pub struct Takeover {
    /// To be started, in the order of the list.
    pub apps: Vec<App>,
    /// To be told.
    pub left: Vec<Left>,
}

/// One process of the list.
struct Process<'a> {
    fields: &'a Map<String, Value>,
    /// The app that it belongs to; equal for its replicas.
    entry: Map<String, Value>,
}

/// Makes apps of a list. `pm2_home` is where PM2 keeps files whose place nobody has chosen.
/// Variables that are equal in `known` are left out: they come from the shell again.
pub fn apps(
    entries: &[Value],
    pm2_home: &Path,
    known: Option<&BTreeMap<String, String>>,
) -> Takeover {
    let mut takeover = Takeover::default();
    let mut groups: Vec<Vec<Process<'_>>> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let fields = match readable(entry) {
            Ok(fields) => fields,
            Err((why, is_loss)) => {
                let name = entry.get("name").and_then(Value::as_str);
                let name = name.map_or_else(|| format!("entry {number}"), str::to_owned);
                takeover.left.push(Left { name, why, is_loss });
                continue;
            }
        };
        let entry = app_entry(fields, pm2_home, known);
        let process = Process { fields, entry };
        match groups
            .iter_mut()
            .find(|group| group[0].entry == process.entry)
        {
            Some(group) => group.push(process),
            None => groups.push(vec![process]),
        }
    }
    takeover.apps = groups.into_iter().map(together).collect();
    takeover
}

/// The fields of a process that can be started; else why it can't, and whether that is a loss.
fn readable(entry: &Value) -> Result<&Map<String, Value>, (String, bool)> {
    let Value::Object(fields) = entry else {
        return Err(("it is no process".to_owned(), true));
    };
    if is_module(fields) {
        let why = "it is a module of PM2, and stays there";
        return Err((why.to_owned(), false));
    }
    for key in ["name", "pm_exec_path", "pm_cwd"] {
        if text(fields, key).is_none() {
            return Err((format!("the list does not say its `{key}`"), true));
        }
    }
    Ok(fields)
}

/// A program that PM2 runs for itself.
pub fn is_module(fields: &Map<String, Value>) -> bool {
    fields.get("pmx_module") == Some(&Value::Bool(true))
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

/// Replicas → their app.
fn together(mut group: Vec<Process<'_>>) -> App {
    let number = |process: &Process<'_>| {
        let var = text(process.fields, "instance_var").unwrap_or("NODE_APP_INSTANCE");
        process.fields.get(var).and_then(Value::as_u64)
    };
    group.sort_by_key(number);
    let all = group.len();
    let stopped = group
        .iter()
        .filter(|process| text(process.fields, "status") == Some("stopped"))
        .count();
    let first = &group[0];
    let mut entry = first.entry.clone();
    let mut notes = Vec::new();
    // Counted from the first replica's value.
    if let Some(var) = text(first.fields, "increment_var")
        && let Some(value) = first.fields.get(var).filter(|value| !value.is_null())
    {
        let env = entry.entry("env").or_insert_with(|| json!({}));
        env[var] = value.clone();
    }
    let instances = if stopped == all { all } else { all - stopped };
    if stopped == all {
        entry.insert("autostart".to_owned(), json!(false));
        notes.push("stopped in PM2: it is listed and not started".to_owned());
    } else if stopped > 0 {
        notes.push(format!(
            "{stopped} of its {all} processes are stopped in PM2 and left out"
        ));
    }
    let in_cluster = entry.get("exec_mode") == Some(&json!("cluster"));
    if instances > 1 || in_cluster {
        entry.insert("instances".to_owned(), json!(instances));
    }
    // What holds without a word differs with `instances`.
    let merged = first.fields.get("merge_logs") == Some(&json!(true));
    if merged == (instances > 1 || in_cluster) {
        entry.insert("merge_logs".to_owned(), json!(merged));
    }
    App {
        name: text(first.fields, "name").unwrap_or_default().to_owned(),
        script: text(first.fields, "pm_exec_path")
            .unwrap_or_default()
            .to_owned(),
        instances: u32::try_from(instances).unwrap_or(u32::MAX),
        entry,
        notes,
    }
}

fn app_entry(
    fields: &Map<String, Value>,
    pm2_home: &Path,
    known: Option<&BTreeMap<String, String>>,
) -> Map<String, Value> {
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| drop(entry.insert(key.to_owned(), value));
    let script = text(fields, "pm_exec_path").unwrap_or_default();
    put("name", fields["name"].clone());
    if script.ends_with(SERVE) {
        put("script", json!("serve"));
    } else {
        put("script", json!(script));
        put(
            "interpreter",
            json!(text(fields, "exec_interpreter").unwrap_or("none")),
        );
    }
    put("cwd", fields["pm_cwd"].clone());
    if let Some(namespace) = text(fields, "namespace").filter(|name| *name != "default") {
        put("namespace", json!(namespace));
    }
    let in_cluster = text(fields, "exec_mode") == Some("cluster_mode");
    put(
        "exec_mode",
        json!(if in_cluster { "cluster" } else { "fork" }),
    );
    for key in SAME {
        let nothing = [json!(null), json!(false), json!([]), json!("")];
        if let Some(value) = fields.get(key).filter(|value| !nothing.contains(value)) {
            put(key, value.clone());
        }
    }
    for (key, usual) in [
        ("autostart", true),
        ("autorestart", true),
        ("treekill", true),
    ] {
        if fields.get(key) == Some(&json!(!usual)) {
            put(key, json!(!usual));
        }
    }
    if let Some(name) = text(fields, "instance_var").filter(|name| *name != "NODE_APP_INSTANCE") {
        put("instance_var", json!(name));
    }
    for (key, field, folder) in [
        ("out_file", "pm_out_log_path", "logs"),
        ("error_file", "pm_err_log_path", "logs"),
        ("log_file", "pm_log_path", "logs"),
        ("pid_file", "pm_pid_path", "pids"),
    ] {
        if let Some(path) = chosen(fields, field, folder, pm2_home) {
            put(key, json!(path));
        }
    }
    let env = env(fields, known);
    if !env.is_empty() {
        put("env", Value::Object(env));
    }
    // The list has all that the app had, and so nothing comes from the shell of who imports it.
    if known.is_none() {
        put("filter_env", json!(true));
    }
    entry
}

/// A path that somebody has chosen, without the number of its process; `None` for PM2's own.
fn chosen(
    fields: &Map<String, Value>,
    field: &str,
    folder: &str,
    pm2_home: &Path,
) -> Option<String> {
    let path = text(fields, field)?;
    let home = fields.get("env").and_then(|env| env["PM2_HOME"].as_str());
    let is_own = |home: &Path| Path::new(path).parent() == Some(&home.join(folder));
    if is_own(pm2_home) || home.is_some_and(|home| is_own(Path::new(home))) {
        return None;
    }
    let numbered = folder == "pids" || fields.get("merge_logs") != Some(&json!(true));
    Some(if numbered {
        without_number(path)
    } else {
        path.to_owned()
    })
}

/// `app-3.log` → `app.log`.
fn without_number(path: &str) -> String {
    let Some((stem, ending)) = path.rsplit_once('.') else {
        return path.to_owned();
    };
    match stem.rsplit_once('-') {
        Some((base, number))
            if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            format!("{base}.{ending}")
        }
        _ => path.to_owned(),
    }
}

/// The variables that the app was given, without those that PM2 adds.
fn env(
    fields: &Map<String, Value>,
    known: Option<&BTreeMap<String, String>>,
) -> Map<String, Value> {
    let Some(Value::Object(env)) = fields.get("env") else {
        return Map::new();
    };
    let counted = text(fields, "increment_var");
    let is_known = |name: &str, value: &Value| {
        known.is_some_and(|known| known.get(name).map(String::as_str) == value.as_str())
            && value.is_string()
    };
    let kept = env.iter().filter(|(name, value)| {
        !(is_pm2s(name, value, fields) || is_known(name, value) || counted == Some(name.as_str()))
    });
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn is_pm2s(name: &str, value: &Value, fields: &Map<String, Value>) -> bool {
    let own = name.starts_with("PM2_") && !name.starts_with("PM2_SERVE_");
    // PM2 puts the app's own name among its variables, with nothing in it.
    let named =
        text(fields, "name") == Some(name) && (*value == json!("{}") || *value == json!({}));
    own || named
        || name == "unique_id"
        || name.starts_with("NODE_CHANNEL_")
        || name.starts_with("pm_")
}

#[cfg(test)]
mod tests;
