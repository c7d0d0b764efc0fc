//! Where an app's output goes, and its pid file. Pure.

use std::path::{Path, PathBuf};

use super::error::Report;
use super::fields::{self, Fields};
use super::keys::LOG_ROTATE;
use super::resolve::{Bases, tidy};
use super::spec::{ExecMode, LogFormat, LogSpec, LogTarget, RotateSpec};
use super::syntax::{Node, Value};

/// `log_date_format` of `time: true`, as in PM2.
const TIME_FORMAT: &str = "YYYY-MM-DDTHH:mm:ss";
/// `max_size` of `log_rotate: true`.
const MAX_SIZE: u64 = 10 * 1024 * 1024;

/// Relative paths start at the app's `cwd`, as in PM2.
pub(crate) fn read(
    fields: &Fields,
    rotate: RotateSpec,
    cwd: &Path,
    bases: Bases<'_>,
    mode: ExecMode,
) -> LogSpec {
    let disabled = fields.flag("disable_logs") == Some(true);
    let target = |name: &str| match fields.text(name) {
        _ if disabled => LogTarget::Nowhere,
        None | Some("") => LogTarget::Default,
        Some("NULL" | "/dev/null") => LogTarget::Nowhere,
        Some(path) => LogTarget::File(absolute(path, cwd, bases)),
    };
    let combined = match (fields.text("log_file"), fields.flag("log_file")) {
        // A flag of a command line is a text.
        (Some("true"), _) | (_, Some(true)) if !disabled => Some(LogTarget::Default),
        (Some("false" | ""), _) | (None, _) => None,
        _ => Some(target("log_file")).filter(|target| *target != LogTarget::Nowhere),
    };
    // Replicas get a file each, unless one was asked for.
    let single = !fields.has("instances") && mode == ExecMode::ForkMode;
    LogSpec {
        out: target("out_file"),
        error: target("error_file"),
        combined,
        merge: fields.flag("merge_logs").unwrap_or(single),
        disabled,
        format: format(fields),
        rotate,
    }
}

/// `time` wins over a format, as in PM2.
fn format(fields: &Fields) -> LogFormat {
    let usual = fields.flag("time") == Some(true) || fields.flag("log_date_format") == Some(true);
    let asked = fields
        .text("log_date_format")
        .filter(|text| !text.is_empty());
    LogFormat {
        json: fields.text("log_type") == Some("json"),
        stamp: usual.then_some(TIME_FORMAT).or(asked).map(str::to_owned),
    }
}

/// Reads `log_rotate`, of an app or of the daemon; `None` when it is not there.
pub(crate) fn rotate(fields: &Fields, report: &mut Report) -> Option<RotateSpec> {
    let node: &Node = fields.raw("log_rotate")?;
    let Value::Map(entries) = &node.value else {
        let on = RotateSpec {
            max_size: Some(MAX_SIZE),
            ..RotateSpec::default()
        };
        let is_on = matches!(node.value, Value::Bool(true));
        if matches!(&node.value, Value::Number(number) if number.value != 0.0) {
            let message =
                "`log_rotate` is a number; write `false`, or a map such as `{ max_size: \"10M\" }`";
            report.mistake(node.at, message);
        }
        return Some(if is_on { on } else { RotateSpec::OFF });
    };
    let fields = fields::read(entries, node.at, &LOG_ROTATE, report);
    Some(RotateSpec {
        max_size: fields.size("max_size"),
        max_age: fields.duration("max_age"),
        retain: fields
            .count("retain")
            .and_then(|count| u32::try_from(count).ok()),
        compress: fields.flag("compress"),
    })
}

/// `pid_file`, when it is given.
pub(crate) fn pid_file(fields: &Fields, cwd: &Path, bases: Bases<'_>) -> Option<PathBuf> {
    let path = fields.text("pid_file").filter(|path| !path.is_empty())?;
    Some(absolute(path, cwd, bases))
}

fn absolute(path: &str, cwd: &Path, bases: Bases<'_>) -> PathBuf {
    tidy(&cwd.join(bases.expand(path)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::keys::APP;
    use super::super::syntax::{Place, json};
    use super::*;

    fn app(text: &str) -> (LogSpec, usize) {
        let mut report = Report::new(None);
        let Value::Map(entries) = json::parse(text).unwrap().value else {
            panic!("a map")
        };
        let fields = fields::read(&entries, Place::default(), &APP, &mut report);
        let bases = Bases {
            file: None,
            shell: Path::new("/shell"),
            home: Some("/home/me"),
        };
        let rotate = rotate(&fields, &mut report).unwrap_or_default();
        let spec = read(
            &fields,
            rotate,
            Path::new("/app"),
            bases,
            ExecMode::ForkMode,
        );
        (spec, report.mistake_count())
    }

    #[test]
    fn paths_start_at_the_apps_folder_or_at_home() {
        let spec = app("{out: 'a.log', err: '~/b.log', log: '/c.log', combine_logs: false}").0;
        assert_eq!(spec.out, LogTarget::File("/app/a.log".into()));
        assert_eq!(spec.error, LogTarget::File("/home/me/b.log".into()));
        assert_eq!(spec.combined, Some(LogTarget::File("/c.log".into())));
        assert!(!spec.merge);
    }

    #[test]
    fn the_combined_log_may_be_asked_for_without_a_name() {
        let combined = |text: &str| app(text).0.combined;
        assert_eq!(combined("{log_file: true}"), Some(LogTarget::Default));
        assert_eq!(combined("{log_file: 'true'}"), Some(LogTarget::Default));
        for none in [
            "{}",
            "{log_file: false}",
            "{log_file: '/dev/null'}",
            "{log_file: true, disable_logs: true}",
        ] {
            assert_eq!(combined(none), None, "{none}");
        }
    }

    #[test]
    fn time_wins_over_a_format() {
        let format = |text: &str| app(text).0.format;
        assert_eq!(format("{}"), LogFormat::default());
        assert_eq!(
            format("{time: true, log_date_format: 'HH'}")
                .stamp
                .as_deref(),
            Some(TIME_FORMAT)
        );
        let both = format("{log_date_format: 'HH', log_type: 'json'}");
        assert_eq!((both.stamp.as_deref(), both.json), (Some("HH"), true));
        assert_eq!(format("{log_date_format: false}").stamp, None);
    }

    #[test]
    fn rotation_is_a_map_or_off() {
        let rotate = |text: &str| app(text).0.rotate;
        assert_eq!(rotate("{}"), RotateSpec::default());
        assert_eq!(rotate("{log_rotate: false}"), RotateSpec::OFF);
        assert_eq!(rotate("{log_rotate: 0}"), RotateSpec::OFF);
        assert_eq!(rotate("{log_rotate: true}").max_size, Some(MAX_SIZE));
        let all = "{log_rotate: {max_size: '1K', max_age: '1d', retain: 3, compress: false}}";
        assert_eq!(
            rotate(all),
            RotateSpec {
                max_size: Some(1024),
                max_age: Some(Duration::from_secs(86_400)),
                retain: Some(3),
                compress: Some(false),
            }
        );
        assert_eq!(app("{log_rotate: 5}").1, 1);
        assert_eq!(app("{log_rotate: {retain: -1}}").1, 1);
    }
}
