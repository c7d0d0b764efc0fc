//! Who is asking: users, and the tokens by which they and the operator are known.
//!
//! A token is shown once, when it is made; the store holds its keyed hash. A JWT of an outside
//! provider, which `identity` checks, is a token as well, of a user and never of the operator
//! (`outside.rs`). Removing a user and switching one off are `instances`' matter, since their URLs
//! have to die with them.
//!
//! `bearer.rs` (pure) finds the token of a request, `tokens.rs` has the handle, `wanted.rs` (pure)
//! what a token may be like, `live.rs` the tokens that are in use, `groups.rs` whose limits hold for
//! a user, `guessing.rs` (pure) how wrong ones are counted, `suspects.rs` for whom.

mod bearer;
mod groups;
mod guessing;
mod live;
mod suspects;
mod tokens;
mod wanted;
mod outside;

pub use bearer::bearer;
pub use groups::{Groups, Member};
pub use live::LiveToken;
pub use suspects::{Peer, Suspects};
pub use tokens::{AuthError, Caller, Made, Shown, UserError, Users};
pub use wanted::{Bound, OWN_DAYS, OWN_DAYS_MAX, Unfit, Wanted};
