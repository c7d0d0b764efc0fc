//! Limits of the daemon, what its children get instead, and where they are counted.
//!
//! No core: neither a file, nor one that is piped to a program (core(5)). Keys lie in pages that no core
//! has anyway (`vault/guarded.rs`). The daemon stays dumpable (prctl(2)) all the same: what that flag
//! would keep out beside cores are programs of the same user, who can read its folder and speak with it
//! as it is; and the price would be that for a daemon of a plain user its own files in /proc belong to
//! root. Then nobody but root tells by its environment whose daemon it is or measures its memory, and
//! no later write to its OOM score succeeds.
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
    let _ = setrlimit(Resource::Core, no_core(core.maximum));
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

/// So that no core is made, and children can be given back what there was.
fn no_core(maximum: Option<u64>) -> Rlimit {
    // A pipe takes a core of any size, also one of 0 bytes: only at a limit of 1 the kernel gives up
    // before it starts the program. A file of one byte is none either way.
    let current = Some(maximum.map_or(1, |maximum| maximum.min(1)));
    Rlimit { current, maximum }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_is_within_what_is_allowed() {
        for (maximum, current) in [(None, 1), (Some(9), 1), (Some(1), 1), (Some(0), 0)] {
            let limit = no_core(maximum);
            assert_eq!((limit.current, limit.maximum), (Some(current), maximum));
        }
    }
}
