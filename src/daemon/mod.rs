//! The long-lived process: builds the rooms, connects them, publishes the router's tables, and
//! ends in one of four ways.
//!
//! - `run.rs` is the way up, in order: home, lock, log, limits, store, processes, doors.
//! - `life.rs` obeys orders and signals, until one of them ends it.
//! - `settings.rs` (pure) says which settings are in force and where each comes from; `sources.rs`
//!   collects what says something about them.
//! - `listen.rs` owns the router's address; `publish.rs` turns the supervisor's snapshots into the
//!   router's table of services, `record.rs` into the store's copy of them and their health.
//! - `rekey.rs` seals everything anew while the master key is rotated.
//! - `retention.rs` removes usage and entries of the audit log that are older than they are to be kept.
//! - `keep.rs` has the service manager keep pipes and the router's listener for the next daemon.
//! - `handover/` is how the next daemon takes over while everything goes on.
//! - `close.rs` is the way down: stop everything, or leave the services running. `kill -9` needs no
//!   code here: the next way up adopts what it finds.

mod lock;
mod pid_file;
pub mod log;
mod limits;
mod footprint;
mod settings;
mod sources;
mod publish;
mod record;
mod recheck;
mod rekey;
mod retention;
mod listen;
mod keep;
mod signals;
mod close;
mod handover;
mod life;
mod run;

pub use run::{DaemonError, DaemonOptions, run};
