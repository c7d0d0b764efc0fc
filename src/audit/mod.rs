//! The audit log: who has done what, with which user's, service's or instance's matter, from where
//! and when; and what looks like an attempt to cross from one user to another.
//!
//! [`Audit`] is the handle, whose [`Audit::record`] never waits. `desk.rs` (pure) keeps what is to be
//! written and says when; [`Writer`] writes it. `refusals.rs` (pure) makes a few rows of many
//! refusals, `watch.rs` with `tally.rs` (pure) tells isolation events from single mistakes, and
//! [`Poster`] tells them to the operator's webhook.
//!
//! What holds here:
//! * A secret is in no row, no warning and no message: an instance is named by its public number.
//! * There is no row per request: refusals are counted per client and reason, uses once per
//!   instance and day.
//! * Nothing here grows with what strangers send: every map and queue has a bound, and what does
//!   not fit is counted.
//! * A crash loses what was recorded in the last half second, and refusals that were counted since
//!   their last row, a minute at most. What [`Audit::record_now`] has returned from is on disk.

pub mod words;
mod by;
mod tally;
mod watch;
mod refusals;
mod desk;
mod webhook;
mod writer;
mod handle;

pub use by::{Actor, By, Visit};
pub use handle::Audit;
pub use webhook::Poster;
pub use writer::Writer;
