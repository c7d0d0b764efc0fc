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

/// Unmaps the pages of our own code; they come back when they are used. Does nothing where that is
/// not possible.
fn release_code() {
    let Ok(program) = fs::read_link("/proc/self/exe") else {
        return;
    };
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else {
        return;
    };
    let program = program.to_string_lossy();
    for (start, end) in maps.lines().filter_map(|line| code_of(line, &program)) {
        #[expect(unsafe_code, reason = "memory is given back by address")]
        // SAFETY: the range is a mapping of this program's file that may be read and executed and
        // not written: what is in memory is what is in the file, and is read from there again.
        let given_back = unsafe { madvise(start as *mut _, end - start, Advice::LinuxDontNeed) };
        if let Err(error) = given_back {
            tracing::debug!(%error, "cannot give back code");
        }
    }
}

/// The range of a line of `/proc/PID/maps` (proc(5)) that is private, read-only code of this file.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.splitn(6, ' ');
    let (range, rights) = (fields.next()?, fields.next()?);
    let file = fields.nth(3)?.trim_start();
    if rights != "r-xp" || file != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_itself_is_meant() {
        let check = |line: &str, expected: Option<(usize, usize)>| {
            assert_eq!(code_of(line, "/usr/bin/mcpm"), expected, "{line}");
        };
        let line = "55d0c000-55d0f000 r-xp 002d6000 fe:00 1234                       /usr/bin/mcpm";
        check(line, Some((0x55d0_c000, 0x55d0_f000)));
        check(&line.replace("r-xp", "r--p"), None);
        check(&line.replace("r-xp", "rwxp"), None);
        check(&line.replace("mcpm", "other"), None);
        check(
            "7ffd1000-7ffd2000 r-xp 00000000 00:00 0                          [vdso]",
            None,
        );
        check("7f00-7f10 r-xp 0 0 0 ", None);
        check("", None);
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        release_code();
        only_code_of_the_program_itself_is_meant();
    }
}
