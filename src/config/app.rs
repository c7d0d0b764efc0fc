//! One entry of `apps` → a [`Draft`]: everything that the file alone decides. Pure.
//!
//! What the machine decides (is the script there, which user is that) is `finish.rs`'s.

use std::collections::BTreeMap;

use crate::ids::AppName;

use super::env::{self, Declared};
use super::error::{Report, shown};
use super::fields::{self, Fields};
use super::keys::APP;
use super::logs;
use super::mcp::{self, Service};
use super::program::{default_name, own_arguments};
use super::spec::{RestartPolicy, RotateSpec, StopPolicy};
use super::syntax::{Node, Place, Value};
use super::triggers;

const MAX_RESTARTS: u32 = 16;
const MIN_UPTIME_MS: u64 = 1000;
const GRACE_MS: u64 = 1600;
const LISTEN_MS: u64 = 3000;
const NAMESPACE: &str = "default";

/// An app that the file has nothing wrong with.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) name: AppName,
    /// Where the name is written, or else the app.
    pub(crate) name_at: Place,
    pub(crate) namespace: String,
    pub(crate) fields: Fields,
    pub(crate) script: String,
    pub(crate) env: BTreeMap<String, String>,
    /// The file itself sets this variable, so we leave it alone.
    pub(crate) sets_home: bool,
    pub(crate) log_rotate: RotateSpec,
    pub(crate) service: Option<Service>,
}

/// Reads an app; `None` when it has a mistake, which is reported.
pub(crate) fn read(
    node: &Node,
    shell: &BTreeMap<String, String>,
    env_name: Option<&str>,
    report: &mut Report,
) -> Option<Draft> {
    let Value::Map(entries) = &node.value else {
        report.mistake(
            node.at,
            format!("an app is {}; write a map", node.described()),
        );
        return None;
    };
    let before = report.mistake_count();
    report.about(
        entries
            .iter()
            .find(|e| e.key == "name")
            .and_then(|e| match &e.node.value {
                Value::Text(name) => Some(name.clone()),
                _ => None,
            }),
    );
    let fields = fields::read(entries, node.at, &APP, report);
    let script = script(&fields, report);
    let name = name(&fields, script.as_deref(), env_name, report);
    let namespace = fields
        .owned_text("namespace")
        .filter(|text| !text.is_empty());
    let namespace = namespace.unwrap_or_else(|| NAMESPACE.to_owned());
    if namespace.len() > 255 || namespace.chars().any(char::is_control) {
        let message = "`namespace` is too long or has control characters; write a short name";
        report.mistake(fields.place("namespace"), message);
    }
    no_nul(&fields, report);
    triggers::check(&fields, report);
    for key in ["instance_var", "increment_var"] {
        if let Some(name) = fields.text(key)
            && !env::is_name(name)
        {
            let message = format!("`{key}` is {}; write a variable's name", shown(name));
            report.mistake(fields.place(key), message);
        }
    }
    let declared = env::declared(&fields, env_name, report);
    let is_bridge = script
        .as_deref()
        .is_some_and(|script| is_bridge(script, fields.texts("args")));
    let service = mcp::read(&fields, &declared, is_bridge, report);
    let mut env = env::merged(shell, fields.get("filter_env"), &declared);
    set_port(
        &mut env,
        &fields,
        &declared,
        service.as_ref(),
        env_name,
        report,
    );
    let sets_home = declared.get("HOME").is_some();
    let log_rotate = logs::rotate(&fields, report).unwrap_or_default();
    report.about(None);
    let draft = Draft {
        name: name?,
        name_at: if fields.has("name") {
            fields.place("name")
        } else {
            node.at
        },
        namespace,
        script: script?,
        env,
        sets_home,
        log_rotate,
        service,
        fields,
    };
    (report.mistake_count() == before).then_some(draft)
}

fn script(fields: &Fields, report: &mut Report) -> Option<String> {
    match fields.text("script") {
        Some(script) if !script.trim().is_empty() => Some(script.to_owned()),
        None if !fields.lacks("script") => None,
        _ => {
            report.mistake(
                fields.at,
                "an app has no `script`; write the file or program to start",
            );
            None
        }
    }
}

fn name(
    fields: &Fields,
    script: Option<&str>,
    env_name: Option<&str>,
    report: &mut Report,
) -> Option<AppName> {
    let given = fields.owned_text("name").filter(|name| !name.is_empty());
    let mut name = given.or_else(|| script.map(default_name))?;
    if let (Some(true), Some(env)) = (fields.flag("append_env_to_name"), env_name) {
        name = format!("{name}-{env}");
    }
    if let Some(prefix) = fields
        .text("name_prefix")
        .filter(|prefix| !prefix.is_empty())
    {
        name = format!("{prefix}:{name}");
    }
    // The error of `AppName` repeats the name as it is, which may be long or many-lined.
    AppName::parse(&name)
        .map_err(|_| {
            let message = format!(
                "{} is not an app name; write 1 to 255 bytes without control characters",
                shown(&name)
            );
            report.mistake(fields.place("name"), message);
        })
        .ok()
}

/// No argument, path or name of the system can hold a NUL.
fn no_nul(fields: &Fields, report: &mut Report) {
    for key in APP.keys {
        let own = fields.text(key.name).into_iter();
        let texts = own.chain(fields.texts(key.name).iter().map(String::as_str));
        if texts.into_iter().any(|text| text.contains('\0')) {
            let message = format!("`{}` holds a NUL character", key.name);
            report.mistake(fields.place(key.name), message);
        }
    }
}

/// `mcpm bridge …`, in either spelling.
fn is_bridge(script: &str, args: &[String]) -> bool {
    // Whether such a file exists is not asked here: nobody calls a bridge of his own `mcpm`.
    own_arguments(script, false).is_some_and(|own| {
        own.iter()
            .chain(args)
            .next()
            .is_some_and(|word| word == "bridge")
    })
}

/// A service's port is `PORT` when the file does not set it. Of a plain app, `port` wins over
/// `env`, and `env_<x>` over both, as in PM2.
fn set_port(
    env: &mut BTreeMap<String, String>,
    fields: &Fields,
    declared: &Declared<'_>,
    service: Option<&Service>,
    env_name: Option<&str>,
    report: &mut Report,
) {
    let own = declared.get("PORT");
    if let Some(service) = service {
        if own.is_none() {
            env.insert("PORT".to_owned(), service.spec.port.to_string());
        }
        return;
    }
    let Some(port) = fields.count("port") else {
        return;
    };
    let block = env_name.and_then(|name| fields.env_blocks.get(name));
    let in_block = block.is_some_and(|entries| entries.iter().any(|e| e.key == "PORT"));
    if in_block {
        return;
    }
    if let Some((text, at)) = own
        && text != port.to_string()
    {
        report.warn(at, format!("`PORT` gives way to `port`, which is {port}"));
    }
    env.insert("PORT".to_owned(), port.to_string());
}

/// What the file says about restarts, with PM2's defaults.
pub(crate) fn restart(fields: &Fields) -> RestartPolicy {
    let max = fields
        .count("max_restarts")
        .and_then(|n| u32::try_from(n).ok());
    let delay = |name: &str| fields.duration(name).filter(|delay| !delay.is_zero());
    RestartPolicy {
        autorestart: fields.flag("autorestart").unwrap_or(true),
        max_restarts: max.unwrap_or(MAX_RESTARTS),
        min_uptime: fields
            .duration("min_uptime")
            .unwrap_or(std::time::Duration::from_millis(MIN_UPTIME_MS)),
        restart_delay: delay("restart_delay"),
        exp_backoff_restart_delay: delay("exp_backoff_restart_delay"),
        stop_exit_codes: fields
            .numbers("stop_exit_codes")
            .iter()
            .filter_map(|&code| i32::try_from(code).ok())
            .collect(),
    }
}

/// What the file says about the end, with PM2's defaults.
pub(crate) fn stop(fields: &Fields) -> StopPolicy {
    let signal = fields
        .count("kill_signal")
        .and_then(|n| i32::try_from(n).ok());
    StopPolicy {
        signal: signal.unwrap_or(nix::sys::signal::Signal::SIGINT as i32),
        grace: fields
            .duration("kill_timeout")
            .unwrap_or(std::time::Duration::from_millis(GRACE_MS)),
        treekill: fields.flag("treekill").unwrap_or(true),
        message: fields.flag("shutdown_with_message").unwrap_or(false),
    }
}

/// How long it may take to say that it is ready, when it is to say so.
pub(crate) fn ready_within(fields: &Fields) -> Option<std::time::Duration> {
    let within = fields
        .duration("listen_timeout")
        .unwrap_or(std::time::Duration::from_millis(LISTEN_MS));
    (fields.flag("wait_ready") == Some(true)).then_some(within)
}
