//! Control groups of runs (cgroup v2), where a part of the tree was given to the daemon.
//!
//! Each run begins in a group of its own, which is called as the run is in `MCPM_PROCESS`, so that the
//! next daemon finds it again by name. What a run has started stays in it, whatever it does to its
//! environment, its session and its parents: the group says who is left (`tree.rs` asks), ends all
//! of them at once, and counts their memory (`memory_guard.rs`). It is removed when the last has ended.
//!
//! `place.rs` decides where groups may be made, and `charge.rs` what their memory means; `pressure.rs`
//! hears the kernel. Nothing here is needed: where groups can't be had, or one can't be
//! made, runs are supervised without. A run with `treekill: false` has one, too, and it is never ended
//! through it.

mod place;
mod charge;
mod pressure;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Access;

pub use self::place::Wish;
use self::place::{DAEMON, Place};
pub(super) use self::pressure::{Felt, Pressure};
use super::child_env::run_name;
use super::snapshot::Process;
use crate::ids::PmId;

/// The processes of a group; a pid written to it moves there.
const PROCESSES: &str = "cgroup.procs";
/// What a service manager writes on a group that it has given away: the first where everyone may
/// read it, the second where only root may.
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];
/// Programs may make groups below theirs; deeper ones are left alone.
const DEPTH_MAX: usize = 16;
/// Groups that could not be removed yet, and are tried again: what `treekill: false` leaves running.
/// Beyond these the next daemon does it.
const LEFT_MAX: usize = 64;

/// The groups of all runs; none where none can be had.
#[derive(Clone, Debug, Default)]
pub struct Cgroups(Option<Arc<Base>>);

/// What they are below of.
#[derive(Debug)]
struct Base {
    folder: PathBuf,
    home_id: String,
    has_memory: bool,
    /// A run was seen in its group: it works.
    is_proven: AtomicBool,
    /// That it does not work was said.
    has_complained: AtomicBool,
    left: Mutex<BTreeSet<String>>,
}

impl Cgroups {
    /// Looks where groups can be made and takes the place; a daemon that lives right there moves into a
    /// group of its own. `is_service`: a service manager has started it.
    pub fn open(wish: &Wish, is_service: bool, home_id: &str) -> Self {
        let own = own_folder();
        let place = place::choose(wish, own.as_deref(), is_service, is_delegated);
        let Some(place) = place else {
            return Self::default();
        };
        let folder = place.folder.display().to_string();
        match Base::take(place, own.as_deref(), home_id) {
            Ok(base) => {
                let memory = base.has_memory;
                tracing::info!(%folder, memory, "each process gets a control group");
                Self(Some(Arc::new(base)))
            }
            Err(error) => {
                tracing::warn!(%folder, %error, "cannot make control groups; processes run without");
                Self::default()
            }
        }
    }

    /// Leaves the group of the run that this process was started in: a daemon that a command has
    /// started is not a part of the app that has called the command.
    pub fn leave_run() {
        let own = own_folder();
        let Some(above) = own.as_deref().and_then(place::above_run) else {
            return;
        };
        let id = std::process::id().to_string();
        let enter = |group: &Path| fs::write(group.join(PROCESSES), &id);
        if let Err(error) = enter(&above.join(DAEMON)).or_else(|_| enter(above)) {
            let folder = above.display();
            tracing::warn!(%folder, %error, "cannot leave the control group of an app, and ends with it");
        }
    }

    /// A group for this run: the file that it enters by, open for a child. `None` when it has to go
    /// without.
    pub(super) fn make(&self, run: &str) -> Option<OwnedFd> {
        let (base, folder) = self.find(run)?;
        let made = make(&folder);
        let entry = made.and_then(|()| File::options().write(true).open(folder.join(PROCESSES)));
        match entry {
            Ok(file) => Some(file.into()),
            Err(error) => {
                base.complain(&error.to_string());
                None
            }
        }
    }

    /// A child was to enter its group: whether that works is looked at until it has worked once.
    pub(super) fn check(&self, run: &str, pid: u32) {
        let Some((base, _)) = self.find(run) else {
            return;
        };
        if base.is_proven.load(Ordering::Relaxed) {
            return;
        }
        if self.holds(run, pid) {
            base.is_proven.store(true, Ordering::Relaxed);
        } else {
            base.complain("a process could not enter its group");
            self.release(run);
        }
    }

    /// The run's group is where this process is. The caller holds its pidfd, or does not mind another
    /// process of that number.
    pub(super) fn holds(&self, run: &str, pid: u32) -> bool {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let path = place::own_path(&cgroups);
        self.find(run).is_some() && path.is_some_and(|path| path.split('/').any(|at| at == run))
    }

    /// All processes of the run's group, and of groups that were made below it.
    pub(super) fn pids(&self, run: &str) -> Vec<u32> {
        let mut pids = Vec::new();
        if let Some((_, folder)) = self.find(run) {
            collect(&folder, DEPTH_MAX, &mut pids);
        }
        pids
    }

    /// Ends all of the run's group at once (Linux 5.14), whoever forks meanwhile. Where there is no
    /// such group nothing is done.
    pub(super) fn kill(&self, run: &str) {
        if let Some((_, folder)) = self.find(run) {
            let kill = || File::options().write(true).open(folder.join("cgroup.kill"));
            let _ = kill().and_then(|mut file| io::Write::write_all(&mut file, b"1"));
        }
    }

    /// The run has ended: its group is removed, now or when what was left running has ended.
    pub(super) fn release(&self, run: &str) {
        let Some((base, _)) = self.find(run) else {
            return;
        };
        let mut left = base.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.insert(run.to_owned());
        left.retain(|run| remove(&base.folder.join(run), DEPTH_MAX).is_err());
        while left.len() > LEFT_MAX {
            left.pop_first();
        }
    }

    /// Removes what an earlier daemon of this home has left, where nothing lives. To be called before
    /// anything is started.
    pub(super) fn sweep(&self) {
        let Some(base) = &self.0 else {
            return;
        };
        let ours = format!("{}.", base.home_id);
        for folder in below(&base.folder) {
            let name = folder.file_name().unwrap_or_default();
            if name.to_string_lossy().starts_with(&ours) {
                // One with processes refuses.
                let _ = remove(&folder, DEPTH_MAX);
            }
        }
    }

    /// The kernel counts memory for groups.
    pub(super) fn count_memory(&self) -> bool {
        self.0.as_ref().is_some_and(|base| base.has_memory)
    }

    /// The memory of a run whose root is this process; `None` when the kernel does not count it.
    pub(super) fn memory(&self, id: PmId, generation: u64, pid: u32) -> Option<Memory> {
        let base = self.0.as_ref().filter(|base| base.has_memory)?;
        let run = run_name(&base.home_id, id, generation);
        let is_there = self.holds(&run, pid);
        is_there.then(|| Memory::of(base.folder.join(run)))
    }

    /// The folder of a process's group, when it runs and has one.
    pub(super) fn folder(&self, process: &Process) -> Option<PathBuf> {
        let base = self.0.as_ref()?;
        process.pid?;
        let run = run_name(&base.home_id, process.id, process.generation);
        Some(base.folder.join(run)).filter(|folder| folder.is_dir())
    }

    fn find(&self, run: &str) -> Option<(&Base, PathBuf)> {
        let base = self.0.as_deref().filter(|_| !run.is_empty())?;
        Some((base, base.folder.join(run)))
    }
}

impl Base {
    fn take(place: Place, own: Option<&Path>, home_id: &str) -> io::Result<Self> {
        let Place {
            folder,
            has_controllers,
        } = place;
        fs::metadata(folder.join(PROCESSES))?;
        rustix::fs::access(&folder, Access::WRITE_OK | Access::EXEC_OK)?;
        if has_controllers && own == Some(folder.as_path()) {
            let daemon = folder.join(DAEMON);
            make(&daemon)?;
            fs::write(daemon.join(PROCESSES), std::process::id().to_string())?;
        }
        Ok(Self {
            has_memory: has_controllers && hand_on_memory(&folder),
            folder,
            home_id: home_id.to_owned(),
            is_proven: AtomicBool::default(),
            has_complained: AtomicBool::default(),
            left: Mutex::default(),
        })
    }

    fn complain(&self, why: &str) {
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            let folder = self.folder.display();
            tracing::warn!(%folder, "a process runs without a control group: {why}");
        }
    }
}

/// The memory of one run, as the kernel counts it.
#[derive(Debug)]
pub(super) struct Memory(PathBuf);

impl Memory {
    /// Of the group in this folder.
    pub(super) fn of(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Has the kernel speak when the run has come near this limit.
    ///
    /// # Errors
    /// When the group is gone.
    pub(super) fn speak_at(&self, limit: u64) -> io::Result<()> {
        fs::write(self.0.join("memory.high"), charge::high(limit).to_string())
    }

    /// Bytes that the run holds and that cannot be dropped; `None` once it is gone.
    pub(super) fn held(&self) -> Option<u64> {
        let read = |file: &str| fs::read_to_string(self.0.join(file)).ok();
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let swapped = number("memory.swap.current").unwrap_or(0);
        Some(charge::held(
            number("memory.current")?,
            swapped,
            &read("memory.stat")?,
        ))
    }

    /// The file that changes when the kernel speaks.
    fn events(&self) -> PathBuf {
        self.0.join("memory.events")
    }
}

/// The folder of this process's group.
fn own_folder() -> Option<PathBuf> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    place::own_folder(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// A service manager has given this group away.
fn is_delegated(folder: &Path) -> bool {
    let says = |name: &str| {
        let mut value = [0_u8; 8];
        let length = rustix::fs::getxattr(folder, name, &mut value);
        length.is_ok_and(|length| value.starts_with(b"1") && length == 1)
    };
    // Before systemd 251 a plain user could not read it. The system's own manager changes the owner
    // of a group only when it gives it away; in a user's part of the tree everything is the user's.
    let user = rustix::process::geteuid();
    let is_given = || {
        let of_user = fs::metadata(folder).is_ok_and(|meta| meta.uid() == user.as_raw());
        let among_users = folder.iter().any(|part| part == "user.slice");
        of_user && !user.is_root() && !among_users
    };
    DELEGATED.into_iter().any(says) || is_given()
}

/// Has groups below this one count memory, where it can.
fn hand_on_memory(folder: &Path) -> bool {
    let has = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.split_ascii_whitespace().any(|word| word == "memory")
    };
    let control = "cgroup.subtree_control";
    if !has("cgroup.controllers") || has(control) {
        return has(control);
    }
    match fs::write(folder.join(control), "+memory") {
        Ok(()) => true,
        Err(error) => {
            // Other processes live right there, such as those of an earlier release.
            let folder = folder.display();
            tracing::info!(%folder, %error, "memory is sampled: its groups cannot count it");
            false
        }
    }
}

/// Makes a group. One that is there already is no error.
fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Adds the processes of a group and of those below it.
fn collect(folder: &Path, depth: usize, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    // Two names, its own and `.`, are all that a folder without folders has.
    let is_leaf = fs::metadata(folder).is_ok_and(|meta| meta.nlink() == 2);
    if !is_leaf && depth > 0 {
        for folder in below(folder) {
            collect(&folder, depth - 1, pids);
        }
    }
}

/// Removes a group and those below it. One that is gone is no error.
fn remove(folder: &Path, depth: usize) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            let inner: Vec<PathBuf> = below(folder).collect();
            if inner.is_empty() || depth == 0 {
                return Err(error);
            }
            for folder in inner {
                remove(&folder, depth - 1)?;
            }
            fs::remove_dir(folder)
        }
        Ok(()) => Ok(()),
    }
}

/// The folders in this one.
fn below(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_folder).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders and files that look like groups, without a kernel behind them.
    fn groups(folder: &Path, has_memory: bool) -> Cgroups {
        Cgroups(Some(Arc::new(Base {
            folder: folder.to_owned(),
            home_id: "cafe".into(),
            has_memory,
            is_proven: AtomicBool::default(),
            has_complained: AtomicBool::default(),
            left: Mutex::default(),
        })))
    }

    #[test]
    fn a_group_has_the_processes_of_those_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("cafe.0.1");
        fs::create_dir_all(run.join("inner/most")).unwrap();
        fs::write(run.join(PROCESSES), "7\n8\n").unwrap();
        fs::write(run.join("inner/most").join(PROCESSES), "9\n").unwrap();
        let groups = groups(folder.path(), false);
        assert_eq!(groups.pids("cafe.0.1"), [7, 8, 9]);
        assert!(groups.pids("cafe.0.2").is_empty());
        assert!(groups.pids("").is_empty());
        assert!(Cgroups::default().pids("cafe.0.1").is_empty());
    }

    #[test]
    fn what_cannot_be_removed_yet_is_removed_later() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["cafe.0.1/inner", "cafe.0.2", "cafe.0.3", "beef.0.1"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let groups = groups(folder.path(), false);
        // A file stands for a process: the folder cannot be removed.
        fs::write(at("cafe.0.1/inner/alive"), "").unwrap();
        groups.release("cafe.0.1");
        assert!(at("cafe.0.1/inner").exists());
        fs::remove_file(at("cafe.0.1/inner/alive")).unwrap();
        groups.release("cafe.0.2");
        assert!(!at("cafe.0.1").exists() && !at("cafe.0.2").exists());
        groups.sweep();
        assert!(!at("cafe.0.3").exists() && at("beef.0.1").exists());
    }

    #[test]
    fn memory_is_read_and_the_kernel_told_where_to_speak() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::of(folder.path().to_owned());
        assert_eq!(memory.held(), None);
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("memory.current", "1000\n");
        write("memory.stat", "anon 300\ninactive_file 600\n");
        assert_eq!(memory.held(), Some(400));
        write("memory.swap.current", "50\n");
        assert_eq!(memory.held(), Some(450));
        memory.speak_at(800 << 20).unwrap();
        let high = fs::read_to_string(folder.path().join("memory.high")).unwrap();
        assert_eq!(high, (900_u64 << 20).to_string());
    }

    #[test]
    fn no_group_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), true);
        assert!(!groups.holds("cafe.0.1", std::process::id()));
        assert!(groups.memory(PmId(0), 1, std::process::id()).is_none());
        assert!(!is_delegated(Path::new("/proc")));
        let place = Place {
            folder: folder.path().to_owned(),
            has_controllers: true,
        };
        let refused = Base::take(place, None, "cafe");
        assert!(refused.is_err(), "a folder that is no group: {refused:?}");
    }
}
