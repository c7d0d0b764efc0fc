//! Instances: one user's access to one service.
//!
//! `registry.rs` owns the rows and keeps the [`InstanceTable`] equal to what the store holds;
//! the router reads that table and asks nobody, once it is filled: `filling.rs` does that after a start, and
//! finds meanwhile what is not in it yet. `id.rs` makes the ids. `credentials.rs` (pure)
//! checks what a user hands over, `validate.rs` asks the external service whether it is right, and
//! `checker.rs` as seldom as that can be; `doubt.rs` (pure) says when it is asked again, `recheck.rs` what is
//! to be asked.
//! `reseal.rs` seals all of it anew when the master key is rotated.
//! `endings.rs` tells a daemon that has handed over which of them have ended.
//! `tally.rs` is where the router counts an instance's requests, for `usage` to collect.
//! `change.rs` and `version.rs` (both pure) say what a change makes of an instance and whether it is
//! still the one that was seen, `alias.rs` (pure) which ids of another system go on here, `asker.rs` (pure)
//! whether who has asked for something slow may still have it.
//!
//! Invariants: what was answered is durable, and the table changes after the commit and before the
//! answer. One user has at most one instance of a service. No two users share a credential: each
//! is sealed for its own row, with a key of its own user and service.

pub mod alias;
pub mod credentials;
pub mod validate;
mod checker;
mod doubt;
mod endings;
mod recheck;
mod asker;
mod change;
mod ends;
mod entry;
mod error;
mod filling;
mod id;
mod lane;
mod registry;
mod reseal;
mod table;
mod tally;
mod version;

pub use asker::Asker;
pub use change::Change;
pub use checker::Checker;
pub use endings::Ending;
pub use entry::InstanceEntry;
pub use error::InstanceError;
pub use lane::{Imported, Incoming, NewTerms, Renewed};
pub use recheck::Recheck;
pub use registry::{Granted, Instances, OwnCredential, OwnInstance};
pub use reseal::Walk;
pub use table::InstanceTable;
pub use tally::{Tallies, Tally};
pub use version::Version;
