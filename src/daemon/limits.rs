//! Limits of the daemon, and what its children get instead.
//!
//! The daemon needs several descriptors for each service and connection, so it raises its own
//! limit to the hard one; it holds secrets, so it writes no core. Children get what the operator's
//! shell had, and no share in what systemd grants the daemon (`OOMScoreAdjust=`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::supervisor::spawn::OperatorLimits;

/// Descriptors below which an operator is warned: PM2's users run hundreds of services.
const FILES_ENOUGH: u64 = 4096;

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
    let limits = OperatorLimits {
        files,
        core,
        spared: oom_score() < 0,
    };
    (limits, warning)
}

/// proc_pid_oom_score_adj(5); 0 where it can't be read.
fn oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
