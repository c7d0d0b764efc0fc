//! What restarts a process beside people and its own end: `max_memory_restart`, `cron_restart`,
//! `watch`. Pure.

use std::path::Path;

use super::cron::Cron;
use super::error::{Report, shown};
use super::fields::Fields;
use super::resolve::{Bases, tidy};
use super::spec::{Triggers, WatchSpec};
use super::typed::Typed;
use super::watch::Rules;

/// Reports patterns that mean nothing.
pub(crate) fn check(fields: &Fields, report: &mut Report) {
    if let Some(text) = cron_text(fields)
        && let Err(error) = Cron::parse(text)
    {
        let message = format!("`cron_restart` is {}: {error}", shown(text));
        report.mistake(fields.place("cron_restart"), message);
    }
    if fields.flag("cron_restart") == Some(true) {
        let message = "`cron_restart` is `true`; write a pattern such as `\"0 4 * * *\"`";
        report.mistake(fields.place("cron_restart"), message);
    }
    for pattern in fields.texts("ignore_watch") {
        if let Err(why) = Rules::check(pattern) {
            let message = format!("`ignore_watch` has {}: {why}", shown(pattern));
            report.mistake(fields.place("ignore_watch"), message);
        }
    }
}

/// What [`check`] has found to be right.
pub(crate) fn read(fields: &Fields, cwd: &Path, bases: Bases<'_>) -> Triggers {
    Triggers {
        memory_max: fields.size("max_memory_restart").filter(|&limit| limit > 0),
        cron: cron_text(fields).and_then(|text| Cron::parse(text).ok()),
        watch: watch(fields, cwd, bases),
    }
}

/// `0`, `false` and an empty text are none.
fn cron_text(fields: &Fields) -> Option<&str> {
    let text = fields.text("cron_restart")?;
    (!matches!(text.trim(), "" | "0" | "false")).then_some(text)
}

fn watch(fields: &Fields, cwd: &Path, bases: Bases<'_>) -> Option<WatchSpec> {
    let paths: Vec<&str> = match &fields.get("watch")?.value {
        Typed::Flag(false) => return None,
        Typed::Flag(true) => Vec::new(),
        Typed::Text(text) if matches!(text.as_str(), "" | "false") => return None,
        Typed::Text(text) if text == "true" => Vec::new(),
        Typed::Text(text) => vec![text],
        _ => fields.texts("watch").iter().map(String::as_str).collect(),
    };
    let mut paths: Vec<_> = paths
        .into_iter()
        .map(|path| tidy(&cwd.join(bases.expand(path))))
        .collect();
    if paths.is_empty() {
        paths.push(cwd.to_owned());
    }
    Some(WatchSpec {
        base: cwd.to_owned(),
        paths,
        ignore: fields.texts("ignore_watch").to_vec(),
        extensions: Vec::new(),
        delay: fields.duration("watch_delay").unwrap_or_default(),
    })
}
