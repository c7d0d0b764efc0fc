//! Where an app's output goes, and its pid file. Pure.

use std::path::{Path, PathBuf};

use super::fields::Fields;
use super::resolve::{Bases, tidy};
use super::spec::{ExecMode, LogSpec, LogTarget};

/// Relative paths start at the app's `cwd`, as in PM2.
pub(crate) fn read(fields: &Fields, cwd: &Path, bases: Bases<'_>, mode: ExecMode) -> LogSpec {
    let off = fields.flag("disable_logs") == Some(true);
    let target = |name: &str| match fields.text(name) {
        _ if off => LogTarget::Nowhere,
        None | Some("") => LogTarget::Default,
        Some("NULL" | "/dev/null") => LogTarget::Nowhere,
        Some(path) => LogTarget::File(absolute(path, cwd, bases)),
    };
    // Replicas get a file each, unless one was asked for.
    let single = !fields.has("instances") && mode == ExecMode::ForkMode;
    LogSpec {
        out: target("out_file"),
        error: target("error_file"),
        merge: fields.flag("merge_logs").unwrap_or(single),
    }
}

/// `pid_file`, when it is given.
pub(crate) fn pid_file(fields: &Fields, cwd: &Path, bases: Bases<'_>) -> Option<PathBuf> {
    let path = fields.text("pid_file").filter(|path| !path.is_empty())?;
    Some(absolute(path, cwd, bases))
}

fn absolute(path: &str, cwd: &Path, bases: Bases<'_>) -> PathBuf {
    tidy(&cwd.join(bases.expand(path)))
}
