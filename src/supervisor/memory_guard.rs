//! Looks at the memory of processes that have a limit, when `memory.rs` says so.
//!
//! A thread of its own, which sleeps for good while nothing that runs has a limit. Otherwise it reads
//! one number of the whole machine every half second; single processes only when that has grown so
//! much that one of them could be over its limit, or when their own time has come.
//!
//! A run whose control group counts memory is watched by the kernel instead: it speaks when the group
//! has come a little above the limit, and holds the run back there, so that the look which follows is
//! in time whatever the run does. The look decides, not the kernel: a group is also filled by files
//! that were read, and those are dropped when the kernel has spoken, which is no reason for a restart.
//! A run that is held back makes the kernel speak all the time; it is heard once in
//! [`memory::SOONEST`]. What stands between the limit and the kernel's mark is found within
//! [`memory::LATEST`].

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cgroup::{Cgroups, Felt, Memory, Pressure};
use super::handle::{Message, Supervisor};
use super::memory::{self, Growth, Rise, Verdict};
use super::proc::{self, Statm};
use super::snapshot::{Snapshot, Status};
use crate::ids::PmId;

/// Who is in whose group is asked anew when all programs together took so much more: 16 MiB.
const WALK_AFTER: u64 = 16 * 1024 * 1024;

/// A run that has a memory limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limited {
    id: PmId,
    generation: u64,
    pid: u32,
    limit: u64,
}

/// What the thread is to look at; replaced whole.
#[derive(Default)]
struct Wanted {
    runs: Vec<Limited>,
    changed: bool,
    felt: Felt,
    closed: bool,
}

/// What the thread has waited for.
struct News {
    /// A new list.
    runs: Option<Vec<Limited>>,
    /// Of whom the kernel has spoken.
    felt: Felt,
}

/// The kernel's part.
#[derive(Clone)]
struct Kernel {
    cgroups: Cgroups,
    /// `None` where no group counts memory.
    pressure: Option<Arc<Pressure>>,
}

/// The group of a run, once the kernel watches it.
struct Watched {
    memory: Memory,
    watch: i32,
}

/// Reports runs that take more memory than they may, until the supervisor is gone. A thread looks,
/// and sleeps for good while nothing that runs has a limit.
pub async fn guard(supervisor: Supervisor) {
    let shared: Arc<(Mutex<Wanted>, Condvar)> = Arc::default();
    let (thread, inbox) = (shared.clone(), supervisor.inbox.clone());
    let kernel = Kernel::of(supervisor.cgroups.clone());
    let watcher = kernel.clone();
    let started = std::thread::Builder::new()
        .name("mcpm-memory".into())
        .spawn(move || look_on(&thread, &watcher, &inbox));
    if let Err(error) = started {
        tracing::error!(%error, "no thread for `max_memory_restart`, which has no effect");
    }
    let mut table = supervisor.subscribe();
    let mut last = Vec::new();
    let mut deaf_until = Instant::now();
    loop {
        let runs = limited(&table.borrow_and_update());
        if runs != last {
            last.clone_from(&runs);
            let mut wanted = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            (wanted.runs, wanted.changed) = (runs, true);
            shared.1.notify_one();
        }
        tokio::select! {
            changed = table.changed() => if changed.is_err() {
                let mut wanted = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                wanted.closed = true;
                shared.1.notify_one();
                return;
            },
            felt = kernel.felt(deaf_until) => {
                deaf_until = Instant::now() + memory::SOONEST;
                let mut wanted = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                wanted.felt.add(felt);
                shared.1.notify_one();
            }
        }
    }
}

impl Kernel {
    fn of(cgroups: Cgroups) -> Self {
        let pressure = cgroups.count_memory().then(Pressure::new).transpose();
        let pressure = pressure.unwrap_or_else(|error| {
            tracing::warn!(%error, "memory is sampled (see `fs.inotify.max_user_instances`)");
            None
        });
        Self {
            cgroups,
            pressure: pressure.map(Arc::new),
        }
    }

    /// Has the kernel watch a run; `None` when it can't.
    fn watch(&self, run: &Limited) -> Option<Watched> {
        let pressure = self.pressure.as_ref()?;
        let memory = self.cgroups.memory(run.id, run.generation, run.pid)?;
        // First the ear, then the mark: one that nobody heard of would only be held back.
        let watch = pressure.watch(&memory).ok()?;
        memory.speak_at(run.limit).ok()?;
        Some(Watched { memory, watch })
    }

    /// Waits until the kernel has spoken, but not before this time. Cancel-safe.
    async fn felt(&self, not_before: Instant) -> Felt {
        let Some(pressure) = &self.pressure else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(not_before).await;
        pressure.felt().await
    }
}

fn limited(snapshot: &Snapshot) -> Vec<Limited> {
    let runs = snapshot.processes.iter().filter_map(|process| {
        let runs = matches!(process.status, Status::Online | Status::Launching);
        Some(Limited {
            id: process.id,
            generation: process.generation,
            pid: process.pid.filter(|_| runs)?,
            limit: process.spec.triggers.memory_max?,
        })
    });
    runs.collect()
}

/// One run, as the thread knows it.
struct Track {
    run: Limited,
    watched: Option<Watched>,
    gauge: Gauge,
    growth: Growth,
    due: Instant,
}

fn look_on(shared: &(Mutex<Wanted>, Condvar), kernel: &Kernel, inbox: &mpsc::Sender<Message>) {
    let mut tracks: Vec<Track> = Vec::new();
    let mut members = Members::default();
    let machine = Machine::open();
    loop {
        let Some(News { runs, felt }) = next(shared, next_look(&tracks, Instant::now())) else {
            return;
        };
        let now = Instant::now();
        let taken = machine.taken();
        if let Some(runs) = runs {
            tracks = follow(tracks, runs, kernel, now);
        }
        members.note(taken);
        for track in &mut tracks {
            let limit = track.run.limit;
            let is_urgent = match &track.watched {
                Some(watched) => felt.holds(watched.watch),
                None => track.growth.could_be_over(limit, taken),
            };
            if track.due > now && !is_urgent {
                continue;
            }
            let resident = track.gauge.resident(members.of(&track.run, now));
            let group = track.watched.as_ref();
            let held = group.and_then(|watched| watched.memory.held());
            let most = resident.max(held.unwrap_or(0));
            let verdict = track.growth.look(most, limit, now);
            track.due = now
                + match verdict {
                    Verdict::Fine(wait) if track.watched.is_none() => wait,
                    Verdict::Fine(_) | Verdict::Over => memory::LATEST,
                };
            if verdict == Verdict::Over && inbox.blocking_send(over(&track.run, most)).is_err() {
                return;
            }
        }
    }
}

/// When the thread is to wake by itself: often while it must look at the machine.
fn next_look(tracks: &[Track], now: Instant) -> Option<Instant> {
    let is_sampled = tracks.iter().any(|track| track.watched.is_none());
    let first = tracks.iter().map(|track| track.due).min();
    first.map(|first| {
        if is_sampled {
            now + memory::SOONEST
        } else {
            first
        }
    })
}

/// Waits for a new list, the kernel or the next look; `None` at the end.
fn next((wanted, changed): &(Mutex<Wanted>, Condvar), due: Option<Instant>) -> Option<News> {
    let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
    let idle = |wanted: &mut Wanted| !wanted.changed && wanted.felt.is_empty() && !wanted.closed;
    let mut wanted = match due {
        Some(due) => {
            let patience = due.saturating_duration_since(Instant::now());
            let (wanted, _) = changed
                .wait_timeout_while(wanted, patience, idle)
                .unwrap_or_else(PoisonError::into_inner);
            wanted
        }
        None => changed
            .wait_while(wanted, idle)
            .unwrap_or_else(PoisonError::into_inner),
    };
    if wanted.closed {
        return None;
    }
    let has_changed = std::mem::take(&mut wanted.changed);
    Some(News {
        runs: has_changed.then(|| wanted.runs.clone()),
        felt: std::mem::take(&mut wanted.felt),
    })
}

/// Keeps what is known of runs that go on.
fn follow(tracks: Vec<Track>, runs: Vec<Limited>, kernel: &Kernel, now: Instant) -> Vec<Track> {
    let mut known: HashMap<(PmId, u64), Track> = tracks
        .into_iter()
        .map(|track| ((track.run.id, track.run.generation), track))
        .collect();
    runs.into_iter()
        .map(|run| match known.remove(&(run.id, run.generation)) {
            Some(track) => Track { run, ..track },
            None => Track {
                watched: kernel.watch(&run),
                gauge: Gauge::of(run.pid),
                growth: Growth::new(now),
                due: now + memory::SOONEST,
                run,
            },
        })
        .collect()
}

fn over(run: &Limited, resident: u64) -> Message {
    let why = format!(
        "its processes took {} of memory, and `max_memory_restart` is {}",
        size(resident),
        size(run.limit)
    );
    Message::Overgrown {
        id: run.id,
        generation: run.generation,
        why,
    }
}

fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let kib = bytes as f64 / 1024.0;
    if kib < 1024.0 {
        format!("{kib:.1} KiB")
    } else {
        format!("{:.1} MiB", kib / 1024.0)
    }
}

/// Files of `/proc` that stay open: a look is two reads.
struct Gauge {
    pid: u32,
    statm: Option<Statm>,
    children: Option<File>,
}

impl Gauge {
    fn of(pid: u32) -> Self {
        Self {
            pid,
            statm: Statm::open(pid),
            children: File::open(format!("/proc/{pid}/task/{pid}/children")).ok(),
        }
    }

    /// Bytes of the process, of its group as it was found (`known`), and of its children's children
    /// that came since. Pages that a child shares with its parent count twice.
    fn resident(&self, known: &[u32]) -> u64 {
        let root = self.statm.as_ref().and_then(Statm::resident);
        let mut found: BTreeSet<u32> = known.iter().copied().collect();
        let mut open: Vec<u32> = numbers(self.children.as_ref().and_then(read_again).as_deref());
        while let Some(pid) = open.pop() {
            if found.insert(pid) {
                let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
                open.extend(numbers(children.ok().as_deref()));
            }
        }
        let member = |&pid: &u32| proc::stat(pid).filter(|stat| stat.group == self.pid);
        let others: u64 = found
            .iter()
            .filter_map(member)
            .map(|stat| stat.resident_pages)
            .sum();
        root.unwrap_or(0) + others * rustix::param::page_size() as u64
    }
}

fn numbers(text: Option<&str>) -> Vec<u32> {
    let words = text.unwrap_or_default().split_ascii_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// A file of `/proc` from its beginning, as it is now. What is longer is cut: nobody has so many
/// children.
fn read_again(file: &File) -> Option<String> {
    let mut buffer = [0; 4096];
    let length = file.read_at(&mut buffer, 0).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// What all programs of the machine take together.
struct Machine(Option<File>);

impl Machine {
    fn open() -> Self {
        Self(File::open("/proc/meminfo").ok())
    }

    /// Bytes that programs have filled: anonymous and shared memory. 0 when the kernel does not say.
    fn taken(&self) -> u64 {
        let text = self.0.as_ref().and_then(read_again).unwrap_or_default();
        let kib = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
        let wanted = |line: &&str| line.starts_with("AnonPages:") || line.starts_with("Shmem:");
        text.lines().filter(wanted).filter_map(kib).sum::<u64>() * 1024
    }
}

/// Who is in whose group: one walk of `/proc` for all, at most every [`memory::LATEST`], and only when
/// something has grown since the last.
#[derive(Default)]
struct Members {
    groups: HashMap<u32, Vec<u32>>,
    walked: Option<Instant>,
    rise: Rise,
    has_grown: bool,
}

impl Members {
    fn note(&mut self, taken: u64) {
        self.has_grown |= self.rise.until(taken) >= WALK_AFTER;
    }

    fn of(&mut self, run: &Limited, now: Instant) -> &[u32] {
        let old = self
            .walked
            .is_none_or(|at| self.has_grown && now - at >= memory::LATEST);
        if old {
            self.groups = proc::groups();
            self.walked = Some(now);
            self.rise = Rise::default();
            self.has_grown = false;
        }
        self.groups.get(&run.pid).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_root_and_what_descends_from_it() {
        let gauge = Gauge::of(std::process::id());
        let alone = gauge.resident(&[]);
        assert!(alone > 1024 * 1024, "{alone}");
        // Of a stranger's group nothing counts.
        assert!(gauge.resident(&[1]).abs_diff(alone) < alone / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_kernel_watches_is_looked_at_when_it_speaks_and_seldom_else() {
        let (now, pid) = (Instant::now(), std::process::id());
        let track = |watched| Track {
            run: Limited {
                id: PmId(0),
                generation: 1,
                pid,
                limit: 1,
            },
            watched,
            gauge: Gauge::of(pid),
            growth: Growth::new(now),
            due: now + memory::LATEST,
        };
        let by_kernel = || {
            let memory = Memory::of("/nowhere".into());
            track(Some(Watched { memory, watch: 1 }))
        };
        assert_eq!(next_look(&[], now), None);
        let all = [by_kernel(), by_kernel()];
        assert_eq!(next_look(&all, now), Some(now + memory::LATEST));
        let some = [by_kernel(), track(None)];
        assert_eq!(next_look(&some, now), Some(now + memory::SOONEST));
    }
}
