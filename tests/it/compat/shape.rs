//! A list of processes as flat facts, `web.pm_cwd` = `$DIR`, the same from PM2 and from mcpm.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What is compared of `pm2_env`. Both leave out what is as it always is.
const FIELDS: &[(&str, &str)] = &[
    ("namespace", "\"default\""),
    ("status", "\"online\""),
    ("exec_mode", "\"fork_mode\""),
    ("pm_exec_path", "null"),
    ("pm_cwd", "null"),
    ("exec_interpreter", "null"),
    ("node_args", "[]"),
    ("args", "[]"),
    ("version", "null"),
    ("autorestart", "true"),
    ("autostart", "true"),
    ("max_restarts", "16"),
    ("min_uptime", "1000"),
    ("restart_delay", "0"),
    ("exp_backoff_restart_delay", "0"),
    ("stop_exit_codes", "[]"),
    ("max_memory_restart", "null"),
    ("cron_restart", "0"),
    ("watch", "false"),
    ("ignore_watch", "[]"),
    ("watch_delay", "0"),
    ("kill_timeout", "1600"),
    ("treekill", "true"),
    ("shutdown_with_message", "false"),
    ("wait_ready", "false"),
    ("listen_timeout", "3000"),
    ("instance_var", "\"NODE_APP_INSTANCE\""),
    ("increment_var", "null"),
    ("merge_logs", "false"),
    ("log_type", "null"),
    ("log_date_format", "null"),
    ("disable_logs", "false"),
    ("pm_out_log_path", "null"),
    ("pm_err_log_path", "null"),
    ("pm_log_path", "null"),
    ("pm_pid_path", "null"),
];

/// Facts by name.
pub(super) type Facts = BTreeMap<String, Value>;

/// From what `scripts/record-pm2` wrote.
pub(super) fn recorded(case: &Value) -> Facts {
    let mut facts = Facts::from([("codes".to_owned(), case["codes"].clone())]);
    let mut processes = Vec::new();
    let counts = case["perCpu"].as_object();
    for process in case["processes"].as_array().into_iter().flatten() {
        let name = process["name"].as_str().unwrap_or_default();
        let offset = counts.and_then(|counts| counts.get(name)?.as_i64());
        processes.push((name.to_owned(), offset.map(per_cpu), process.clone()));
    }
    add_all(&mut facts, &processes);
    facts
}

fn per_cpu(offset: i64) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let count = i64::try_from(cpus).unwrap_or(1) + offset;
    usize::try_from(count.max(1)).unwrap_or(1)
}

/// From `jlist`, with what each process has said; paths have no machine in them.
pub(super) fn listed(codes: &[Option<i32>], processes: &[Value]) -> Facts {
    let mut facts = Facts::from([("codes".to_owned(), json!(codes))]);
    let named = |process: &Value| {
        let name = process["name"].as_str().unwrap_or_default();
        (name.to_owned(), None, process.clone())
    };
    add_all(&mut facts, &processes.iter().map(named).collect::<Vec<_>>());
    facts
}

/// The first process of a name is `web`, the next `web#1`.
fn add_all(facts: &mut Facts, processes: &[(String, Option<usize>, Value)]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, per_cpu, process) in processes {
        let count = counts.entry(name).or_default();
        let label = match *count {
            0 => name.clone(),
            n => format!("{name}#{n}"),
        };
        *count = per_cpu.unwrap_or(*count + 1);
        add(facts, &label, process);
    }
    for (name, count) in counts {
        facts.insert(format!("{name}.count"), json!(count));
    }
}

fn add(facts: &mut Facts, label: &str, process: &Value) {
    for (field, usual) in FIELDS {
        let usual: Value = serde_json::from_str(usual).expect("JSON");
        let value = match &process[*field] {
            Value::Null => continue,
            // One code may be a number.
            Value::Number(one) if *field == "stop_exit_codes" => json!([one]),
            Value::String(text) if usual.is_number() => {
                text.parse().map_or(json!(text), |n: u64| json!(n))
            }
            // The child gets texts.
            Value::Array(items) if *field == "args" => {
                items.iter().map(|item| json!(text(item))).collect()
            }
            // PM2 starts two apps at once and mcpm one after the other: a replica's number differs.
            Value::String(path) if field.ends_with("_path") => {
                json!(path.replace(&format!("-{}.", process["id"]), "-ID."))
            }
            value => value.clone(),
        };
        if value != usual {
            facts.insert(format!("{label}.{field}"), value);
        }
    }
    let empty = Map::new();
    let variables = process["env"].as_object().unwrap_or(&empty);
    for (name, value) in variables {
        // The child gets texts.
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        facts.insert(format!("{label}.env.{name}"), json!(text));
    }
    let Some(said) = process["said"].as_object() else {
        return;
    };
    for (what, value) in said {
        match value.as_object() {
            None => drop(facts.insert(format!("{label}.said.{what}"), value.clone())),
            Some(variables) => {
                for (name, value) in variables {
                    facts.insert(format!("{label}.said.{what}.{name}"), value.clone());
                }
            }
        }
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// `web.pm2_env.watch` = `boolean`, as it was recorded.
pub(super) fn recorded_types(apps: &Value) -> Facts {
    let mut facts = Facts::new();
    for (app, types) in apps.as_object().into_iter().flatten() {
        for (path, kind) in types.as_object().into_iter().flatten() {
            facts.insert(format!("{app}.{path}"), kind.clone());
        }
    }
    facts
}

/// The same of a list; of several processes of a name the last counts.
pub(super) fn types(processes: &[Value]) -> Facts {
    let mut facts = Facts::new();
    for process in processes {
        let app = text(&process["name"]);
        for (key, value) in process.as_object().into_iter().flatten() {
            facts.insert(format!("{app}.{key}"), json!(kind(value)));
            for (inner, value) in value.as_object().into_iter().flatten() {
                facts.insert(format!("{app}.{key}.{inner}"), json!(kind(value)));
            }
        }
    }
    facts
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What PM2 has and we have not, or have as something else.
pub(super) fn missing(pm2: &Facts, ours: &Facts) -> Vec<(String, String)> {
    let mut differing = differences(pm2, ours);
    differing.retain(|(name, _)| pm2.contains_key(name));
    differing
}

/// Each fact that is not the same: its name, and a line that tells both.
pub(super) fn differences(pm2: &Facts, ours: &Facts) -> Vec<(String, String)> {
    let mut names: Vec<&String> = pm2.keys().chain(ours.keys()).collect();
    names.sort();
    names.dedup();
    // Of replicas without a recorded number only the first counts.
    let counted = |name: &str| {
        let replica = name.split_once('#').map(|(name, _)| name);
        replica.is_none_or(|name| pm2.keys().any(|key| key.starts_with(&format!("{name}#"))))
    };
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    names
        .into_iter()
        .filter(|name| pm2.get(*name) != ours.get(*name) && counted(name))
        .map(|name| {
            let (theirs, ours) = (shown(pm2.get(name)), shown(ours.get(name)));
            (
                name.clone(),
                format!("{name}: {theirs} in PM2, {ours} here"),
            )
        })
        .collect()
}
