//! The router: from an instance URL to the one shared process of its service.
//!
//! The hot path. A request is phases, each a function (`service.rs`): is it meant for us
//! (`origin.rs`; `cors.rs` for pages from elsewhere), parse the path (`path.rs`), find the instance,
//! access (`access.rs`; `resource.rs` says where a token is to be had), admission (`admission.rs`: limits, and
//! an OAuth token that has expired is waited for), wait for a service that restarts (`hold.rs`), headers
//! (`headers.rs`, `template.rs`), forward (`upstream.rs`), answer (`stream.rs`, `refusal.rs`), count. All that
//! it needs lies in two tables, [`ServiceTable`] and `instances::InstanceTable`: nothing is asked and nothing
//! is locked on the way of a request that is let through, and no body is collected; but for such a token.
//!
//! * Refusals of strangers take the same steps whatever the reason, so that time tells nothing.
//! * No client header under a name that the router sets ever reaches a service.
//! * A request that was written to a service is never sent a second time. One that was not waits
//!   while its service restarts (`hold.rs`).
//!
//! What belongs to MCP alone (sessions, ids, what a new run is told) has its place in `mcp/`; with
//! `protocol: http` a message of MCP is a request like any other.

pub mod path;
mod origin;
mod cors;
mod access;
mod resource;
mod template;
pub mod headers;
mod rpc;
mod refusal;
mod upstream;
mod tables;
mod drain;
mod hold;
mod pass;
mod stream;
mod counted;
mod upgrade;
mod service;
mod admission;
pub mod mcp;
mod serve;
#[cfg(test)]
mod tests;

pub use mcp::Sessions;
pub use origin::Names;
pub use serve::{Router, RouterConfig, RouterRooms};
pub use tables::{Routable, Run, ServiceEntry, ServiceTable, Services};
