//! CPU and memory of processes, sampled when somebody looks. Limits are `memory_guard.rs`'s.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;
use tokio::time::Instant;

use super::proc::{self, Statm};
use super::snapshot::{Process, Snapshot};
use crate::ids::{PmId, Timestamp};

/// CPU use in less time is chance: what was said before holds on.
const SHORTEST: Duration = Duration::from_millis(100);

/// One sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident bytes of the root process.
    pub memory: u64,
    /// Percent of one core since the sample before; of the whole run when this is its first.
    pub cpu: f32,
}

/// Takes samples; keeps the last ones, since CPU use is a difference.
#[derive(Clone, Default)]
pub struct Sampler(Arc<Mutex<HashMap<u32, Meter>>>);

impl Sampler {
    /// Looks at these processes now. `all` says which runs are over and are forgotten.
    pub async fn sample(
        &self,
        all: Arc<Snapshot>,
        wanted: Vec<Arc<Process>>,
    ) -> HashMap<PmId, Usage> {
        let meters = self.0.clone();
        let look = move || {
            let mut meters = meters.lock().unwrap_or_else(PoisonError::into_inner);
            let running: HashSet<u32> = all.processes.iter().filter_map(|p| p.pid).collect();
            meters.retain(|pid, _| running.contains(pid));
            let usage = |process: &Arc<Process>| {
                // What could not be adopted has a number, which may be anybody's by now.
                process.life.as_ref()?;
                let usage = look_at(&mut meters, process.pid?, process.started_at)?;
                Some((process.id, usage))
            };
            wanted.iter().filter_map(usage).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

/// Resident bytes of the groups of those that have a limit, which is what the limit counts. One walk of
/// `/proc`, and none when there is no such process.
pub async fn memory_of_limited(processes: &[Arc<Process>]) -> HashMap<PmId, u64> {
    let limited = |process: &&Arc<Process>| process.spec.triggers.memory_max.is_some();
    let pid = |process: &Arc<Process>| Some((process.id, process.pid?));
    let wanted: Vec<(PmId, u32)> = processes.iter().filter(limited).filter_map(pid).collect();
    if wanted.is_empty() {
        return HashMap::new();
    }
    let look = move || {
        let groups = proc::memory_of_groups();
        let memory = |(id, pid): (PmId, u32)| Some((id, *groups.get(&pid)?));
        wanted.into_iter().filter_map(memory).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// `None` when there is no such process any more.
fn look_at(
    meters: &mut HashMap<u32, Meter>,
    pid: u32,
    started: Option<Timestamp>,
) -> Option<Usage> {
    if let Some(usage) = meters.get_mut(&pid).and_then(Meter::look) {
        return Some(usage);
    }
    // New, or the number has come to mean another process since.
    let mut meter = Meter::of(pid, started)?;
    let usage = meter.look();
    meters.insert(pid, meter);
    usage
}

/// What is read of one process: two system calls a look, which is why its file stays open.
struct Meter {
    statm: Statm,
    clock: ClockId,
    /// CPU time at the last look, and when that was.
    last: (Duration, Instant),
    /// What was said last.
    cpu: f32,
}

impl Meter {
    fn of(pid: u32, started: Option<Timestamp>) -> Option<Self> {
        let now = Instant::now();
        let age = started.map_or(0, |start| {
            Timestamp::now()
                .as_millis()
                .saturating_sub(start.as_millis())
        });
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        Some(Self {
            statm: Statm::open(pid)?,
            clock: ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?,
            last: (Duration::ZERO, now.checked_sub(age).unwrap_or(now)),
            cpu: 0.0,
        })
    }

    fn look(&mut self) -> Option<Usage> {
        let memory = self.statm.resident()?;
        let spent = Duration::from(self.clock.now().ok()?);
        let now = Instant::now();
        let (before, at) = self.last;
        if now - at >= SHORTEST {
            self.last = (spent, now);
            self.cpu = percent(spent.saturating_sub(before), now - at);
        }
        Some(Usage {
            memory,
            cpu: self.cpu,
        })
    }
}

/// Of one core; 0 when no time has passed.
fn percent(spent: Duration, elapsed: Duration) -> f32 {
    if elapsed.is_zero() {
        return 0.0;
    }
    100.0 * spent.as_secs_f32() / elapsed.as_secs_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_seen() {
        let pid = std::process::id();
        let mut meters = HashMap::new();
        let first = look_at(&mut meters, pid, Some(Timestamp::now())).unwrap();
        assert!(first.memory > 1024 * 1024, "{first:?}");
        assert!(first.cpu < f32::EPSILON, "too early to tell: {first:?}");
        let until = Instant::now() + 2 * SHORTEST;
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        let busy = look_at(&mut meters, pid, None).unwrap();
        assert!(busy.cpu > 1.0, "{busy:?}");
        assert_eq!(meters.len(), 1);
    }

    #[test]
    fn a_process_that_is_gone_has_no_usage() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let mut meters = HashMap::new();
        assert!(look_at(&mut meters, child.id(), None).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(look_at(&mut meters, child.id(), None).is_none());
    }

    #[test]
    fn percent_is_of_one_core() {
        let ms = Duration::from_millis;
        assert!((percent(ms(500), ms(1000)) - 50.0).abs() < 0.01);
        assert!((percent(ms(2000), ms(1000)) - 200.0).abs() < 0.01);
        assert!(percent(ms(1), Duration::ZERO).abs() < f32::EPSILON);
    }
}
