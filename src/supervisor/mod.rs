//! Keeps processes as the specs want them.
//!
//! Decisions are pure (`plan`, `machine`, `overlap`, `reload`, `recovery`, `restart`, `backoff`, `unshared`, `target`, `waits`,
//! `child_env`, `memory`, `triggers`), and so is what is told of exits (`last_exits`); [`actor`] owns every process
//! and carries decisions out; `memory_guard`, `clock` and `watch` report what restarts processes that run; `spawn`,
//! `run_lock`, `exits`, `kill`, `cgroup`, `tree`, `orphans`, `adopt`, `elsewhere`, `journal`, `inotify` and `exit_log` touch the system. The
//! others see [`snapshot`], and speak through [`Supervisor`].
//!
//! A dead daemon leaves its services running: the FIFOs of `logs`, the rows of [`journal`] and the
//! identity check of [`adopt`] make the next daemon's start the same as a recovery.

pub mod plan;
pub mod machine;
pub mod overlap;
pub mod restart;
pub mod backoff;
pub mod unshared;
pub mod target;
pub mod waits;
pub mod reload;
pub mod child_env;
pub mod metrics;
pub mod snapshot;
mod handle;
pub mod actor;
pub mod channel;
pub mod run_lock;
pub mod spawn;
pub mod exits;
mod pidfd_info;
mod listening;
pub mod kill;
pub mod cgroup;
pub mod orphans;
pub mod tree;
pub mod recovery;
pub mod adopt;
pub mod proc;
pub mod last_exits;
pub mod journal;
mod exit_log;
pub mod elsewhere;
pub mod dump;
pub mod memory;
mod memory_guard;
pub mod usage;
mod inotify;
pub mod triggers;
pub mod clock;
pub mod watch;
#[cfg(test)]
mod testing;

pub use actor::Setup;
pub use handle::{Action, CommandError, Reload, Saved, Start, Supervisor};
pub use kill::Life;
pub use memory_guard::guard;
pub use plan::Count;
pub use snapshot::{Process, Snapshot};
