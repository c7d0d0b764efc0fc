//! Calls to addresses outside, through one guard.
//!
//! Whatever a user or a `config.json` may choose (a validation URL with a `{subdomain}`, the base
//! of a REST API) is called through an [`Outbound`]: it resolves the host once, refuses addresses
//! that are not public unless the service is allowed private ones, connects to exactly the address
//! that it checked, follows no redirect, and bounds time and size. Its errors name the origin of an
//! address only, since paths and queries may hold credentials.

mod address;
mod client;
mod connect;
mod encode;
mod error;
#[cfg(test)]
mod tests;

pub use address::is_public;
pub use client::{Answer, Outbound, Policy};
pub use encode::encode;
pub use error::{OutboundError, origin};
