//! Who is asking: users, and the tokens by which they and the operator are known.
//!
//! A token is shown once, when it is made; the store holds its keyed hash. Removing a user is
//! `instances`' matter, since their URLs have to die with them.

mod tokens;

pub use tokens::{AuthError, Caller, UserError, Users};
