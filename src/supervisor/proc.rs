//! What `/proc` says about a process.
//!
//! Numbers are reused: what is read here proves something only together with a start time or an
//! open pidfd.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a file that are read at once: most files of `/proc/PID` are shorter.
const READ_AT_ONCE: usize = 4096;

/// The fields of `/proc/PID/stat` that we need (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `Z` is a zombie.
    pub state: u8,
    /// Parent process.
    pub parent: u32,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// Clock ticks from boot to its start.
    pub start_time: u64,
    /// Memory, in pages.
    pub resident_pages: u64,
    /// Wait status, once it is a zombie; 0 when we may not know.
    pub exit_status: i32,
}

/// Reads it; `None` when there is no such process, or it can't be read.
pub fn stat(pid: u32) -> Option<Stat> {
    read_stat(pid).ok()
}

/// Reads it.
///
/// # Errors
/// When there is no such process, or it can't be read: [`certain`] tells the one from the other.
pub fn read_stat(pid: u32) -> io::Result<Stat> {
    let text = read(pid, "stat")?;
    parse(&String::from_utf8_lossy(&text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What a look at a process has found; `None` when there certainly is no such process, or it is not for
/// us.
///
/// # Errors
/// When this daemon could not look, for want of descriptors or memory: that says nothing of the process.
pub fn certain<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    let is_blind = |error: &io::Error| {
        let errno = Errno::from_io_error(error);
        matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
    };
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_blind(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// One of its files. Files of `/proc` do not say how long they are: std would begin with 32 bytes, and
/// an adoption reads hundreds of files.
fn read(pid: u32, name: &str) -> io::Result<Vec<u8>> {
    let file = File::open(format!("/proc/{pid}/{name}"))?;
    let mut text = Vec::with_capacity(READ_AT_ONCE);
    loop {
        text.reserve(READ_AT_ONCE / 2);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)) {
            Ok(0) => return Ok(text),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The program's name may hold spaces and parentheses, so fields count from the last `)`.
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let mut field = |skip: usize| fields.nth(skip);
    Some(Stat {
        state,
        parent: field(0)?.parse().ok()?,
        group: field(0)?.parse().ok()?,
        session: field(0)?.parse().ok()?,
        start_time: field(15)?.parse().ok()?,
        resident_pages: field(1)?.parse().ok()?,
        exit_status: field(27)?.parse().ok()?,
    })
}

/// A process's memory. The file stays open, which makes a look three times as fast as opening it, and
/// which fails once the process is gone although another has its number.
#[derive(Debug)]
pub struct Statm(File);

impl Statm {
    /// `None` when there is no such process.
    pub fn open(pid: u32) -> Option<Self> {
        File::open(format!("/proc/{pid}/statm")).ok().map(Self)
    }

    /// Resident bytes; `None` once it is gone.
    pub fn resident(&self) -> Option<u64> {
        // Seven numbers.
        let mut buffer = [0; 256];
        let length = self.0.read_at(&mut buffer, 0).ok()?;
        let text = std::str::from_utf8(&buffer[..length]).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

/// Every process. Walks `/proc`: blocks.
pub fn all() -> impl Iterator<Item = (u32, Stat)> {
    all_pids().filter_map(|pid| Some((pid, stat(pid)?)))
}

/// The members of every process group but its leader. Walks `/proc`: blocks.
pub fn groups() -> HashMap<u32, Vec<u32>> {
    let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in all().filter(|(pid, stat)| stat.group != *pid) {
        groups.entry(stat.group).or_default().push(pid);
    }
    groups
}

/// Resident bytes of every process group with its leader. Walks `/proc`: blocks.
pub fn memory_of_groups() -> HashMap<u32, u64> {
    let mut groups: HashMap<u32, u64> = HashMap::new();
    for (_, stat) in all() {
        *groups.entry(stat.group).or_default() += stat.resident_pages;
    }
    let page = rustix::param::page_size() as u64;
    groups.values_mut().for_each(|pages| *pages *= page);
    groups
}

/// Every process with a variable that begins so (`NAME=value`) in the environment it was started
/// with, and that variable. Walks `/proc`: blocks.
pub fn by_environment(begin: &str) -> Vec<(u32, String)> {
    let find = |pid: u32| {
        let environ = read(pid, "environ").ok()?;
        let mut variables = environ.split(|&b| b == 0);
        let found = variables.find(|variable| variable.starts_with(begin.as_bytes()))?;
        Some((pid, String::from_utf8_lossy(found).into_owned()))
    };
    all_pids().filter_map(find).collect()
}

/// The value of a variable in the environment that a process was started with; `None` when it has none,
/// or it can't be read.
pub fn variable(pid: u32, name: &str) -> Option<String> {
    read_variable(pid, name).ok().flatten()
}

/// The same; `None` when it has none.
///
/// # Errors
/// As [`read_stat`].
pub fn read_variable(pid: u32, name: &str) -> io::Result<Option<String>> {
    let environ = read(pid, "environ")?;
    let value = |variable: &[u8]| {
        let rest = variable.strip_prefix(name.as_bytes())?;
        let value = rest.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    Ok(environ.split(|&b| b == 0).find_map(value))
}

/// The first bytes of the name of its program.
pub fn command_name(pid: u32) -> Option<String> {
    let name = read(pid, "comm").ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// The numbers of all processes. Walks `/proc`: blocks.
pub fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// How long ago a process was started, by its start time: nobody sets that clock. `None` for a time
/// that is to come.
pub fn since_start(start_time: u64) -> Option<Duration> {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).ok()?;
    let nanoseconds = u32::try_from(now.tv_nsec).ok()?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let fraction = (start_time % ticks) * 1_000_000_000 / ticks;
    let started = Duration::new(start_time / ticks, u32::try_from(fraction).ok()?);
    Duration::new(seconds, nanoseconds).checked_sub(started)
}

/// Changes with every boot: rows of another boot are about processes that are gone.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"));
    text.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn long_files_are_read_to_their_end() {
        let long = "x".repeat(3 * READ_AT_ONCE);
        let mut command = std::process::Command::new("/bin/cat");
        command.env("LONG", &long).env("MCPM_T", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // What it says proves that it has become its program.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(variable(child.id(), "LONG"), Some(long));
        assert_eq!(variable(child.id(), "MCPM_T").as_deref(), Some("1"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_could_not_be_looked_at_is_not_gone() {
        let failed = |errno: Errno| certain::<()>(Err(errno.into()));
        assert!(matches!(certain(Ok(7)), Ok(Some(7))));
        for errno in [Errno::NOENT, Errno::SRCH, Errno::ACCESS] {
            assert!(matches!(failed(errno), Ok(None)), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(failed(errno).is_err(), "{errno}");
        }
        assert!(matches!(certain(read_stat(u32::MAX)), Ok(None)));
    }

    #[test]
    fn reads_itself() {
        let stat = stat(std::process::id()).unwrap();
        assert!(stat.resident_pages > 0);
        assert!(stat.start_time > 0 && stat.group > 0 && stat.state != b'Z');
    }

    #[test]
    fn what_has_just_begun_has_not_run_for_long() {
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let started = stat(child.id()).unwrap().start_time;
        let (young, old) = (since_start(started), since_start(0));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(young < Some(Duration::from_secs(60)), "{young:?}");
        assert!(young.is_some() && old > young, "{old:?}");
        assert_eq!(since_start(u64::MAX), None);
    }

    #[test]
    fn a_groups_memory_is_that_of_all_its_members() {
        let own = stat(std::process::id()).unwrap();
        let groups = memory_of_groups();
        assert!(groups[&own.group] > 0);
        assert!(!groups.contains_key(&u32::MAX));
    }

    #[test]
    fn a_name_may_hold_anything() {
        let text = "12 (a) b (c)) S 1 12 13 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 \
                    1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 9 0";
        let stat = parse(text).unwrap();
        assert_eq!((stat.state, stat.group, stat.session), (b'S', 12, 13));
        assert_eq!(stat.start_time, 987_654);
    }
}
