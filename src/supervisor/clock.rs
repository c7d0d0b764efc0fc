//! `cron_restart`: restarts by the clock.
//!
//! One timer of the wall clock for all: it wakes when a time has come, also after the machine slept,
//! and when somebody sets the clock. Times are the daemon's local ones. What was due while no
//! daemon lived is not made up for.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use jiff::tz::TimeZone;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::handle::Supervisor;
use super::snapshot::Snapshot;
use super::triggers::Cause;
use crate::config::AppSpec;
use crate::ids::{PmId, Timestamp};

/// One process that has a pattern.
struct Entry {
    spec: Arc<AppSpec>,
    next: Option<jiff::Timestamp>,
}

/// Runs until the supervisor is gone.
pub async fn run(supervisor: Supervisor) {
    let mut table = supervisor.subscribe();
    let timer = match Timer::new() {
        Ok(timer) => Some(timer),
        Err(error) => {
            tracing::error!(%error, "no timer for `cron_restart`, which has no effect");
            None
        }
    };
    let mut entries: BTreeMap<PmId, Entry> = BTreeMap::new();
    loop {
        follow(&mut entries, &table.borrow_and_update());
        let first = entries.values().filter_map(|entry| entry.next).min();
        let timer = timer.as_ref().filter(|_| first.is_some());
        tokio::select! {
            changed = table.changed() => if changed.is_err() { return },
            set = wait(timer, first) => match set {
                Wake::Due => fire(&supervisor, &mut entries).await,
                // Every time is another one now.
                Wake::ClockSet => entries.clear(),
            },
        }
    }
}

fn follow(entries: &mut BTreeMap<PmId, Entry>, snapshot: &Snapshot) {
    entries.retain(|id, _| snapshot.get(*id).is_some());
    for process in &snapshot.processes {
        let Some(cron) = &process.spec.triggers.cron else {
            entries.remove(&process.id);
            continue;
        };
        let same = entries.get(&process.id).is_some_and(|entry| {
            Arc::ptr_eq(&entry.spec, &process.spec)
                || entry.spec.triggers.cron.as_ref() == Some(cron)
        });
        if !same {
            let next = cron.next(now(), &TimeZone::system());
            let spec = process.spec.clone();
            entries.insert(process.id, Entry { spec, next });
        }
    }
}

async fn fire(supervisor: &Supervisor, entries: &mut BTreeMap<PmId, Entry>) {
    let (now, zone) = (now(), TimeZone::system());
    for (id, entry) in entries {
        let Some(cron) = &entry.spec.triggers.cron else {
            continue;
        };
        if entry.next.is_some_and(|next| next <= now) {
            entry.next = cron.next(now, &zone);
            let why = format!("`cron_restart` `{}`", cron.as_str());
            supervisor.due(*id, Cause::Clock, why).await;
        }
    }
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Timestamp::now().as_millis()).unwrap_or_default()
}

enum Wake {
    Due,
    ClockSet,
}

/// Never done without a timer or a time. Cancel-safe.
async fn wait(timer: Option<&Timer>, until: Option<jiff::Timestamp>) -> Wake {
    let (Some(timer), Some(until)) = (timer, until) else {
        return std::future::pending().await;
    };
    match timer.wait(until).await {
        Ok(wake) => wake,
        Err(error) => {
            tracing::error!(%error, "cannot wait for the time of a `cron_restart`");
            std::future::pending().await
        }
    }
}

struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Realtime, flags)?;
        #[expect(
            unsafe_code,
            reason = "the reactor's only door for a descriptor of another kind"
        )]
        // SAFETY: the descriptor is owned by the `AsyncFd` itself, which gives it to nobody.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(registered?))
    }

    async fn wait(&self, until: jiff::Timestamp) -> io::Result<Wake> {
        let at = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: until.as_second(),
                // Nothing but zero disarms; patterns know whole seconds only.
                tv_nsec: 1_000_000,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        rustix::time::timerfd_settime(self.0.get_ref(), flags, &at)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = [0; 8];
            match rustix::io::read(self.0.get_ref(), &mut count) {
                Ok(_) => return Ok(Wake::Due),
                Err(rustix::io::Errno::CANCELED) => return Ok(Wake::ClockSet),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
