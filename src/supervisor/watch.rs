//! `watch`: restarts an app when its files change.
//!
//! One inotify instance for all apps. Every folder below a watched path is watched by itself, but
//! for those that never count (`config::watch`); files cost nothing, so that a folder of 100,000 is
//! one watch. The folder above a watched path is watched, too: a file that an editor replaces, or a
//! folder that is built anew, is found again, and one that is not there yet is waited for.
//!
//! Never watched: the state folder, and log and pid files of any process, rotated ones included.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{ReadFlags, WatchFlags};
use tokio::time::Instant;

use super::handle::Supervisor;
use super::inotify::{Change, Inotify};
use super::snapshot::Snapshot;
use super::triggers::Cause;
use crate::config::spec::WatchSpec;
use crate::config::watch::Rules;
use crate::ids::{AppName, PmId};
use crate::logs::rotate;

/// No file must change for so long, or for `watch_delay` when that is longer: a build writes many.
const QUIET: Duration = Duration::from_millis(100);
/// However much goes on changing, the restart comes after so many quiet times.
const QUIET_MAX: u32 = 20;
/// Folders of all apps together. A watch costs the kernel about 1 KiB, and us a path.
const FOLDERS_MAX: usize = 65_536;
/// The system's own bound.
const LIMIT_FILE: &str = "/proc/sys/fs/inotify/max_user_watches";

/// Runs until the supervisor is gone. `home`: the state folder.
pub async fn run(supervisor: Supervisor, home: PathBuf) {
    let mut table = supervisor.subscribe();
    let mut watcher = None;
    loop {
        let snapshot = table.borrow_and_update().clone();
        if watcher.is_none()
            && snapshot
                .processes
                .iter()
                .any(|p| p.spec.triggers.watch.is_some())
        {
            match Watcher::new(home.clone()) {
                Ok(new) => watcher = Some(new),
                Err(error) => tracing::error!(
                    %error,
                    "cannot watch files (see `fs.inotify.max_user_instances`); `watch` has no effect"
                ),
            }
        }
        if let Some(watcher) = &mut watcher {
            for (ids, note) in watcher.follow(&snapshot).await {
                for id in ids {
                    supervisor.note(id, note.clone()).await;
                }
            }
            for (id, why) in watcher.due(Instant::now()) {
                supervisor.due(id, Cause::Files, why).await;
            }
        }
        let changes = tokio::select! {
            changed = table.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            changes = next(watcher.as_ref()) => changes,
        };
        if let Some(watcher) = &mut watcher {
            watcher.take(changes).await;
        }
    }
}

/// What has changed, or nothing when a quiet time is over; never done without a watcher.
/// Cancel-safe.
async fn next(watcher: Option<&Watcher>) -> Vec<Change> {
    let Some(watcher) = watcher else {
        return std::future::pending().await;
    };
    let alarm = watcher.groups.values().filter_map(Group::due_at).min();
    let sleep = async {
        match alarm {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        changes = watcher.inotify.changes() => changes,
        () = sleep => Vec::new(),
    }
}

/// Apps of one name that watch the same files: they restart together.
struct Group {
    rules: Arc<Rules>,
    delay: Duration,
    ids: BTreeSet<PmId>,
    pending: Option<Pending>,
}

/// Changes that have not led to a restart yet.
struct Pending {
    first: Instant,
    last: Instant,
    file: PathBuf,
    more: usize,
}

impl Group {
    fn due_at(&self) -> Option<Instant> {
        let quiet = self.delay.max(QUIET);
        let pending = self.pending.as_ref()?;
        Some((pending.last + quiet).min(pending.first + quiet * QUIET_MAX))
    }

    fn see(&mut self, path: &Path, now: Instant) {
        match &mut self.pending {
            Some(pending) => {
                pending.last = now;
                pending.more += usize::from(pending.file != path);
            }
            None => {
                self.pending = Some(Pending {
                    first: now,
                    last: now,
                    file: path.to_owned(),
                    more: 0,
                });
            }
        }
    }
}

type Key = (AppName, WatchSpec);

struct Watcher {
    inotify: Arc<Inotify>,
    home: PathBuf,
    /// Files of processes that change while they run; rotated ones begin with the same name.
    own_files: Vec<PathBuf>,
    groups: BTreeMap<Key, Group>,
    folders: HashMap<i32, PathBuf>,
}

/// Is this what a rotation has made of that log?
fn was_put_aside(log: &Path, path: &Path) -> bool {
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    log.parent() == path.parent()
        && matches!((name(log), name(path)), (Some(log), Some(name)) if rotate::parse(&log, &name).is_some())
}

impl Watcher {
    fn new(home: PathBuf) -> io::Result<Self> {
        Ok(Self {
            inotify: Arc::new(Inotify::new()?),
            home,
            own_files: Vec::new(),
            groups: BTreeMap::new(),
            folders: HashMap::new(),
        })
    }

    /// Watches what the processes want now, and no longer what they don't. Returns what could not
    /// be done, and for whom.
    async fn follow(&mut self, snapshot: &Snapshot) -> Vec<(BTreeSet<PmId>, String)> {
        let mut notes = Vec::new();
        let mut wanted: BTreeMap<Key, BTreeSet<PmId>> = BTreeMap::new();
        self.own_files.clear();
        for process in &snapshot.processes {
            let logs = &process.logs;
            let logs = [&logs.out, &logs.error, &logs.combined];
            self.own_files.extend(logs.into_iter().flatten().cloned());
            self.own_files.push(process.pid_file.clone());
            // An empty one is the beginning of every path.
            self.own_files.retain(|path| path.is_absolute());
            if let Some(watch) = &process.spec.triggers.watch {
                let key = (process.spec.name.clone(), watch.clone());
                wanted.entry(key).or_default().insert(process.id);
            }
        }
        let before = self.groups.len();
        self.groups.retain(|key, _| wanted.contains_key(key));
        if self.groups.len() < before {
            self.forget_strays();
        }
        for (key, ids) in wanted {
            if let Some(group) = self.groups.get_mut(&key) {
                group.ids = ids;
                continue;
            }
            let rules = Arc::new(Rules::of(&key.1));
            for path in &key.1.paths {
                if let Some(note) = self.add(path.clone(), &rules, &key.0).await {
                    notes.push((ids.clone(), note));
                }
            }
            let group = Group {
                rules,
                delay: key.1.delay,
                ids,
                pending: None,
            };
            self.groups.insert(key, group);
        }
        notes
    }

    /// Groups whose quiet time is over, as (process, reason).
    fn due(&mut self, now: Instant) -> Vec<(PmId, String)> {
        let mut due = Vec::new();
        for group in self.groups.values_mut() {
            if group.due_at().is_none_or(|at| at > now) {
                continue;
            }
            let Some(pending) = group.pending.take() else {
                continue;
            };
            let file = group.rules.shown(&pending.file).display();
            let why = match pending.more {
                0 => format!("`{file}` changed (`watch`)"),
                more => format!("`{file}` changed, and {more} more (`watch`)"),
            };
            due.extend(group.ids.iter().map(|id| (*id, why.clone())));
        }
        due
    }

    /// Watches a path, what is below it, and the folder above it. Returns what could not be done.
    async fn add(&mut self, path: PathBuf, rules: &Arc<Rules>, app: &AppName) -> Option<String> {
        let room = FOLDERS_MAX.saturating_sub(self.folders.len());
        let (inotify, home, rules) = (self.inotify.clone(), self.home.clone(), rules.clone());
        let walk = move || {
            walk(&inotify, &path, room, &|folder| {
                !folder.starts_with(&home) && rules.counts(folder)
            })
        };
        let walked = tokio::task::spawn_blocking(walk).await.unwrap_or_default();
        self.folders.extend(walked.folders);
        let folder = walked.failed?;
        let limit = std::fs::read_to_string(LIMIT_FILE).unwrap_or_default();
        let note = format!(
            "`watch` has more folders than can be watched: changes in `{}` and others are not seen; \
             name folders in `ignore_watch`, or raise `fs.inotify.max_user_watches` (now {})",
            folder.display(),
            limit.trim()
        );
        tracing::warn!(%app, watched = self.folders.len(), "{note}");
        Some(note)
    }

    /// Deals with changes.
    async fn take(&mut self, changes: Vec<Change>) {
        let now = Instant::now();
        let mut new_folders = Vec::new();
        for event in changes {
            if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                // Too many changes to know which: each app has some.
                for group in self.groups.values_mut() {
                    group.see(Path::new("more files than can be told"), now);
                }
                continue;
            }
            let Some(folder) = self.folders.get(&event.watch) else {
                continue;
            };
            if event.flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.watch);
                continue;
            }
            let Some(name) = event.name else { continue };
            let path = folder.join(name);
            if self.is_own(&path) {
                continue;
            }
            let came = event
                .flags
                .intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            let is_folder = event.flags.contains(ReadFlags::ISDIR);
            for (key, group) in &mut self.groups {
                if group.rules.counts(&path) {
                    group.see(&path, now);
                    if came && is_folder {
                        new_folders.push((path.clone(), group.rules.clone(), key.0.clone()));
                    }
                }
            }
        }
        for (path, rules, app) in new_folders {
            // A warning about too many folders is in the log.
            drop(self.add(path, &rules, &app).await);
        }
    }

    /// A file that mcpm itself, or the app by mcpm, writes.
    fn is_own(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        path.starts_with(&self.home)
            || self.own_files.iter().any(|own| {
                bytes.starts_with(own.as_os_str().as_bytes()) || was_put_aside(own, path)
            })
    }

    /// Ends the watches that no app needs.
    fn forget_strays(&mut self) {
        let needed = |folder: &Path| {
            let mut paths = self.groups.keys().flat_map(|(_, spec)| &spec.paths);
            paths.any(|path| folder.starts_with(path) || path.parent() == Some(folder))
        };
        let stray = |(watch, folder): (&i32, &PathBuf)| (!needed(folder)).then_some(*watch);
        let strays: Vec<i32> = self.folders.iter().filter_map(stray).collect();
        for watch in strays {
            self.folders.remove(&watch);
            self.inotify.remove(watch);
        }
    }
}

/// What a walk has found.
#[derive(Default)]
struct Walked {
    folders: Vec<(i32, PathBuf)>,
    /// The first folder for which there was no room.
    failed: Option<PathBuf>,
}

/// Watches `path`, the folder above it, and all folders below it that count. Links are not
/// followed. Blocks.
fn walk(inotify: &Inotify, path: &Path, mut room: usize, counts: &dyn Fn(&Path) -> bool) -> Walked {
    let mut walked = Walked::default();
    let mut open: Vec<PathBuf> = path.parent().map(Path::to_owned).into_iter().collect();
    if path.is_dir() {
        open.push(path.to_owned());
    }
    while let Some(folder) = open.pop() {
        let added = if room > 0 {
            // The folder above is watched for one name: a folder that comes (again), or a file.
            let above = path.is_dir() && !folder.starts_with(path);
            inotify.add(&folder, FOLDER | if above { NEW_NAMES } else { ALL })
        } else {
            Err(rustix::io::Errno::NOSPC)
        };
        match added {
            Ok(watch) => walked.folders.push((watch, folder.clone())),
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM) => {
                walked.failed = Some(folder);
                return walked;
            }
            // Gone meanwhile, or not ours to read.
            Err(_) => continue,
        }
        room = room.saturating_sub(1);
        // The folder above is watched for one name only.
        if !folder.starts_with(path) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && counts(&path) {
                open.push(path);
            }
        }
    }
    walked
}

/// What may change in a folder. A file counts when its writer closes it.
const ALL: WatchFlags = NEW_NAMES
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM);
/// It is a folder, what left it counts no more, and more of one that is watched already adds to it.
const FOLDER: WatchFlags = WatchFlags::ONLYDIR
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::MASK_ADD);
/// Names that come into it.
const NEW_NAMES: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rotation_makes_is_no_change_of_the_app() {
        let log = Path::new("/srv/app.log");
        let check = |path: &str, expected| {
            assert_eq!(was_put_aside(log, Path::new(path)), expected, "{path}");
        };
        check("/srv/app__2026-11-25_14-03-59.log", true);
        check("/srv/app__2026-11-25_14-03-59.log.gz", true);
        check("/srv/app__notes.log", false);
        check("/elsewhere/app__2026-11-25_14-03-59.log", false);
    }

    #[tokio::test]
    async fn a_hundred_thousand_files_are_one_watch_and_too_many_folders_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for folder in ["a/b", "c", "node_modules/x/y"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for number in 0..100_000 {
            std::fs::File::create(root.join(format!("c/{number}"))).unwrap();
        }
        let inotify = Inotify::new().unwrap();
        let counts = |folder: &Path| !folder.ends_with("node_modules");
        let walked = walk(&inotify, &root, 100, &counts);
        assert_eq!(walked.failed, None);
        // The folder above, the root, a, a/b, c.
        assert_eq!(walked.folders.len(), 5, "{:?}", walked.folders);
        let walked = walk(&inotify, &root, 3, &counts);
        assert_eq!(walked.folders.len(), 3);
        assert!(
            walked
                .failed
                .is_some_and(|folder| folder.starts_with(&root))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_waits_for_quiet_but_not_for_ever() {
        let now = Instant::now();
        let spec = WatchSpec {
            base: "/app".into(),
            paths: vec!["/app".into()],
            ignore: Vec::new(),
            extensions: Vec::new(),
            delay: Duration::from_millis(500),
        };
        let mut group = Group {
            rules: Arc::new(Rules::of(&spec)),
            delay: spec.delay,
            ids: BTreeSet::from([PmId(1)]),
            pending: None,
        };
        assert_eq!(group.due_at(), None);
        group.see(Path::new("/app/a"), now);
        assert_eq!(group.due_at(), Some(now + spec.delay));
        for second in 1..60 {
            group.see(Path::new("/app/a"), now + Duration::from_secs(second));
        }
        assert_eq!(group.due_at(), Some(now + spec.delay * QUIET_MAX));
    }
}
