//! Limits of the daemon, what its children get instead, and where they are counted.
//!
//! The daemon needs several descriptors for each service and connection, so it raises its own
//! limit to the hard one; it holds secrets, so it writes no core; when memory is short it is not the
//! first to go. Children get what the operator's shell had, and no share in what is granted to the
//! daemon alone (`OOMScoreAdjust=` of its unit, or what it has taken as root).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::supervisor::cgroup::{Cgroups, Wish};
use crate::supervisor::spawn::OperatorLimits;

/// Descriptors below which an operator is warned: PM2's users run hundreds of services.
const FILES_ENOUGH: u64 = 4096;
/// Of a daemon whose score nobody has chosen: services go first, and then whatever is larger.
const OOM_SCORE: &str = "-500";
/// proc_pid_oom_score_adj(5).
const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// Sets our limits and answers what they were, and a warning.
pub(super) fn raise() -> (OperatorLimits, Option<String>) {
    let files = getrlimit(Resource::Nofile);
    let core = getrlimit(Resource::Core);
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: core.maximum,
        },
    );
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files.maximum,
            maximum: files.maximum,
        },
    );
    let now = getrlimit(Resource::Nofile).current;
    let warning = now.filter(|&now| now < FILES_ENOUGH).map(|now| {
        format!("only {now} open files are allowed (`ulimit -Hn`); hundreds of services need more")
    });
    if oom_score() == 0 {
        // Only root may.
        let _ = std::fs::write(OOM_SCORE_FILE, OOM_SCORE);
    }
    let limits = OperatorLimits {
        files,
        core,
        spared: oom_score() < 0,
    };
    (limits, warning)
}

/// 0 where it can't be read.
fn oom_score() -> i32 {
    let text = std::fs::read_to_string(OOM_SCORE_FILE).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Control groups for processes, where the daemon may make some or `MCPM_CGROUP` says; and a warning
/// when that says nothing that could be meant.
pub(super) fn cgroups(detached: bool, home_id: &str) -> (Cgroups, Option<String>) {
    let text = std::env::var("MCPM_CGROUP").unwrap_or_default();
    let (wish, warning) = match Wish::parse(&text) {
        Ok(wish) => (wish, None),
        Err(wrong) => (Wish::Off, Some(wrong)),
    };
    if let Some(warning) = &warning {
        tracing::warn!("{warning}");
    }
    // A daemon of a command is not the service that the command runs in, and no part of an app.
    if detached {
        Cgroups::leave_run();
    }
    let is_service = !detached && std::env::var_os("NOTIFY_SOCKET").is_some();
    (Cgroups::open(&wish, is_service, home_id), warning)
}
