//! Who is asking: users, and the tokens by which they and the operator are known.
//!
//! A token is shown once, when it is made; the store holds its keyed hash. A JWT of an outside
//! provider, which `identity` checks, is a token as well, of a user and never of the operator
//! (`outside.rs`). Removing a user is `instances`' matter, since their URLs have to die with them.

mod tokens;
mod outside;

pub use tokens::{AuthError, Caller, UserError, Users};
