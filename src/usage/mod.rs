//! Usage: how much each user has used each service on each day.
//!
//! The router counts into each instance's own numbers (`instances::Tally`): no lock, no disk. Here is
//! the one task that collects them (`writer.rs`), a second after the first count, and adds them to the
//! store; `pending.rs` (pure) holds what the store has not got yet. [`Ledger`] is the handle to both,
//! and answers questions. `report.rs` (pure) adds rows up by user, service or day.
//!
//! Invariants: a count reaches the store once, however often writing fails meanwhile. A daemon that is
//! killed loses what it has counted in its last second, and what one write takes; one that ends in
//! order, or hands over, loses nothing. Two daemons on one store add to the same rows.

mod pending;
mod writer;
mod ledger;
pub mod report;

pub use ledger::Ledger;
