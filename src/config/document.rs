//! The forms that PM2 knows of a whole file → its apps and its settings. Pure.
//!
//! `{apps: [...]}`, `{apps: {...}}`, `{pm2: …}`, a bare list, a bare app; beside the apps, `mcpm`.

use super::daemon_settings;
use super::error::Report;
use super::fields;
use super::keys::TOP;
use super::settings::Settings;
use super::syntax::{Entry, Node, Value};

/// Apps in one file. The reference catalogue has 373.
const APPS_MAX: usize = 10_000;

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) apps: Vec<Node>,
    pub(crate) settings: Settings,
}

/// Reads the top level. In a `package.json` other keys are npm's.
pub(crate) fn read(root: Node, is_package: bool, report: &mut Report) -> Document {
    let document = match root.value {
        Value::List(apps) => Document {
            apps,
            ..Document::default()
        },
        Value::Map(entries) if is_top(&entries) => top(&entries, root.at, is_package, report),
        Value::Map(entries) if is_package => {
            report.mistake(
                root.at,
                "this `package.json` has no apps; write them under `pm2`",
            );
            drop(entries);
            Document::default()
        }
        Value::Map(_) => Document {
            apps: vec![root],
            ..Document::default()
        },
        _ => {
            let message = format!(
                "the file is {}; write `{{ \"apps\": [ … ] }}`",
                root.described()
            );
            report.mistake(root.at, message);
            Document::default()
        }
    };
    if document.apps.len() > APPS_MAX {
        let at = document.apps[APPS_MAX].at;
        report.mistake(
            at,
            format!("more than {APPS_MAX} apps in one file; split it"),
        );
        return Document {
            apps: Vec::new(),
            ..document
        };
    }
    document
}

fn is_top(entries: &[Entry]) -> bool {
    let has = |name: &str| entries.iter().any(|entry| entry.key == name);
    has("apps") || has("pm2") || (has("mcpm") && !has("script"))
}

fn top(
    entries: &[Entry],
    at: super::syntax::Place,
    is_package: bool,
    report: &mut Report,
) -> Document {
    let fields = if is_package {
        let ours = entries
            .iter()
            .filter(|e| matches!(e.key.as_str(), "apps" | "pm2" | "mcpm"));
        fields::read(&ours.cloned().collect::<Vec<_>>(), at, &TOP, report)
    } else {
        fields::read(entries, at, &TOP, report)
    };
    let apps = match fields.raw("apps") {
        Some(node) => match &node.value {
            Value::List(apps) => apps.clone(),
            // `{pm2: {apps: [...]}}`, as some write it into a package.json.
            Value::Map(inner) if inner.iter().any(|e| e.key == "apps") => {
                return top(inner, node.at, is_package, report);
            }
            _ => vec![node.clone()],
        },
        None => Vec::new(),
    };
    let settings = fields.raw("mcpm").and_then(|node| match &node.value {
        Value::Map(entries) => Some(daemon_settings::read(entries, node.at, report)),
        _ => None,
    });
    Document {
        apps,
        settings: settings.unwrap_or_default(),
    }
}
