//! Outside identity providers: whose JWT a token is, checked with keys of the provider.
//!
//! Deciding is apart from fetching. A token is read (`token.rs`), its claims are compared with what
//! the operator has set (`claims.rs`), and its signature is checked with the provider's keys
//! (`keys.rs`); `verify.rs` is all three in their order. `pace.rs` says when keys are asked for,
//! `cache.rs` remembers what was found good. `source.rs` gets keys, `provider.rs` owns those of one
//! provider, and [`Identity`] holds all of them. Whether the user of a good token exists, and may come
//! in, is `users`' matter.
//!
//! * A header of a token chooses among keys that are here already. It never says where a key is to
//!   be had (`jku`, `x5u`, `jwk` are not looked at), and a key serves one algorithm only: no public key
//!   is ever taken for a secret.
//! * No request makes a fetch of its own. Unknown keys ask for one, at most once a minute, whoever
//!   and however many they are; every five seconds while there are no keys at all.
//! * No lock is held while something is waited for.
//! * Nothing of a token is logged.

mod denied;
mod token;
mod claims;
mod keys;
mod verify;
mod pace;
mod cache;
mod source;
mod provider;
mod providers;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use claims::Identified;
pub use denied::Denied;
pub use providers::{Identity, Resource};
pub use verify::verify_with;
