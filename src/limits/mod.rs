//! Limits: how much each instance, user and service may be sent, counted in memory.
//!
//! `bucket.rs` (pure) is one bucket, `usage.rs` what one of them has used, with all three checked before
//! anything is taken; `limits.rs` knows which limits hold, and who has used what. Exact on one node: a
//! daemon that takes over begins with full buckets.
//!
//! * What is refused takes nothing, and nobody pays for another: the bucket that is shared by all users
//!   is the last that anything is taken from.
//! * A body that has begun is not cut. What is over is owed, and later requests wait.
//! * Whoever is as good as new is forgotten; a new URL, key or instance is no new allowance.
//! * Where nothing limits, a request costs a look at that.

mod bucket;
mod usage;
#[expect(
    clippy::module_inception,
    reason = "the handle is what the room is named after"
)]
mod limits;

pub use limits::{Admitted, Limits, Refused};
pub use usage::{Denied, Resource, Scope, Seat, Slot};
