//! Asks services whether they are alive.
//!
//! `probe.rs` asks (IO), `verdict.rs` counts answers into ready or not (pure), `watch.rs` keeps one
//! task per running service and tells the supervisor.

pub mod probe;
pub mod verdict;
pub mod watch;
