//! OAuth 2 towards external services: users give their consent, and what they have consented to is
//! kept fresh.
//!
//! `connect.rs` leads a user's browser to the provider and takes what it brings back (`pending.rs`,
//! pure, remembers who is under way), `refresh.rs` renews access tokens before they expire, one
//! refresh at a time for each credential (`flights.rs`, pure, says who asks and who waits), and
//! revokes those of instances that are removed. `provider.rs` speaks with the provider, through
//! `client.rs`, which is the guard of `outbound`; `tokens.rs` (pure) says what is stored and when it
//! is due.
//!
//! Invariants: a code, state or start address counts once, in the browser that began, and for ten
//! minutes. A new refresh token is durable before the old one is forgotten. Only a provider that
//! says so makes a credential expire (or `daemon/recheck.rs`, when the external service says no to a
//! fresh token, too); one that cannot be asked does not. No token, code or secret is in any message.

mod client;
mod connect;
mod flights;
mod pending;
mod provider;
mod refresh;
mod secret;
mod tokens;

pub use connect::{
    BeginError, Begun, OpenError, Opened, Returned, is_issuer, redirect_uri, refusal,
};
pub use pending::{LIFE, TooMany, Unfit};
pub use provider::ProviderError;
pub use refresh::{NotReady, OAuth, Worker};
pub use tokens::{Tokens, lasting};
