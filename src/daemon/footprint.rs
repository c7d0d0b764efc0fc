//! Gives back the memory that only starting things and answering commands needs.
//!
//! The kernel maps a program's code in windows of many pages around each one that is used, and the
//! allocator keeps what was freed. What the way up and a boot of services have used (parsers,
//! migrations, specs) would count as the daemon's memory for its whole life. Given back once things
//! are quiet, what is still needed returns from the page cache within microseconds, and the rest
//! stays away: half of the daemon (`docs/measurements.md`). Requests through the router are no
//! reason to begin again: what they need stays.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use tokio::sync::Notify;

/// So long nobody started or asked anything before memory is given back.
const QUIET: Duration = Duration::from_secs(10);

/// Gives memory back when things are quiet after the way up, and after each command.
pub(super) async fn run(called: Arc<Notify>) {
    loop {
        while tokio::time::timeout(QUIET, called.notified()).await.is_ok() {}
        release_code();
        trim_heap();
        called.notified().await;
    }
}

/// Lets the allocator have no more arenas than there are cores. It would make one for each of the first
/// threads, and what is freed in one of them serves no other: a tenth of the memory of a daemon with
/// hundreds of services. To be called before there are threads.
pub(super) fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX);
        // SAFETY: it takes no pointer, and nobody else is in the allocator (mallopt(3)).
        #[expect(unsafe_code, reason = "only libc knows its heap")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, most.max(2));
        }
    }
}

/// Has the allocator give free pages back to the system.
fn trim_heap() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "only libc knows its heap")]
    // SAFETY: it takes no pointer and may be called at any time, from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the pages of code and constants, ours and those of libraries; they come back when they are
/// used. Does nothing where that is not possible.
fn release_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (start, end) in unchanged(&maps) {
        #[expect(unsafe_code, reason = "memory is given back by address")]
        // SAFETY: the range is a private mapping of a file that may not be written and has no page of
        // its own: what is in memory is what is in the file, and is read from there again.
        let given_back = unsafe { madvise(start as *mut _, end - start, Advice::LinuxDontNeed) };
        if let Err(error) = given_back {
            tracing::debug!(%error, "cannot give back code");
        }
    }
}

/// The ranges in `/proc/PID/smaps` (proc(5)) that map files privately, may not be written, and are as in
/// the file: what relocation has changed has anonymous pages.
fn unchanged(maps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut range = None;
    for line in maps.lines() {
        if let Some(begun) = mapping(line) {
            range = begun;
        } else if line.strip_prefix("Anonymous:").map(str::trim) == Some("0 kB") {
            found.extend(range.take());
        }
    }
    found
}

/// `None` for a line that begins no mapping; `Some(None)` for a mapping that is not meant.
fn mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let range = (number(start)?, number(end)?);
    let rights = fields.next()?;
    let is_file = fields
        .nth(3)
        .is_some_and(|name| name.trim_start().starts_with('/'));
    let is_meant = is_file && matches!(rights, "r-xp" | "r--p");
    Some(is_meant.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_meant() {
        let check = |line: &str, anonymous: &str, expected: &[(usize, usize)]| {
            let text = format!("{line}\nSize: 4 kB\nAnonymous: {anonymous}\nVmFlags: rd\n");
            assert_eq!(unchanged(&text), expected, "{text}");
        };
        let line = "55d0c000-55d0f000 r-xp 002d6000 fe:00 1234                       /usr/bin/mcpm";
        let range = [(0x55d0_c000, 0x55d0_f000)];
        check(line, "        0 kB", &range);
        check(line, "        4 kB", &[]);
        check(&line.replace("r-xp", "r--p"), "0 kB", &range);
        for rights in ["rw-p", "rwxp", "r--s", "---p"] {
            check(&line.replace("r-xp", rights), "0 kB", &[]);
        }
        let own = "7ffd1000-7ffd2000 r-xp 00000000 00:00 0                          [vdso]";
        check(own, "0 kB", &[]);
        check("7f00-7f10 r-xp 0 0 0 ", "0 kB", &[]);
        check("", "0 kB", &[]);
        // The next mapping is another one.
        check(&format!("{line}\nAnonymous: 4 kB\n{own}"), "0 kB", &[]);
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        release_code();
        only_what_is_as_in_its_file_is_meant();
    }
}
