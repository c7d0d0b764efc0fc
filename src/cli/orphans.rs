//! Collects what PID 1 of a container inherits: processes whose parent has ended.
//!
//! The daemon waits for its own children by pidfd, and at once; so what is still a zombie after a
//! while is nobody's, and only that is collected here.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// So long the daemon has time for a child of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// Goes on for ever; returns only what kept it from beginning.
pub(super) async fn collect() -> io::Error {
    let mut news = match signal(SignalKind::child()) {
        Ok(news) => news,
        Err(error) => return error,
    };
    while news.recv().await.is_some() {
        let before = zombies();
        sleep(PATIENCE).await;
        for pid in zombies().intersection(&before) {
            let _ = waitpid(Pid::from_raw(*pid), WaitOptions::NOHANG);
        }
    }
    io::ErrorKind::BrokenPipe.into()
}

fn zombies() -> BTreeSet<i32> {
    let me = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        is_zombie_of(me, &stat)
    })
    .collect()
}

/// Reads state and parent from a line of `/proc/PID/stat`, whose second field may hold anything.
fn is_zombie_of(parent: u32, stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    fields.next() == Some("Z") && fields.next().and_then(|f| f.parse().ok()) == Some(parent)
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn zombies_are_told_from_others() {
        assert!(is_zombie_of(1, "7 (a) b) Z 1 7 7 0"));
        assert!(!is_zombie_of(1, "7 (a) S 1 7 7 0"));
        assert!(!is_zombie_of(1, "7 (a) Z 2 7 7 0"));
        assert!(!is_zombie_of(1, ""));
    }

    #[test]
    fn a_child_that_nobody_collects_is_found() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Returns when it has ended, and leaves it uncollected.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_raw(pid).unwrap()), ended).unwrap();
        assert!(zombies().contains(&pid));
        child.wait().unwrap();
    }
}
