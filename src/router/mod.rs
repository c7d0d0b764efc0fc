//! The router: from an instance URL to the one shared process of its service.
//!
//! The hot path. A request is phases, each a function (`service.rs`): is it meant for us
//! (`origin.rs`; `cors.rs` for pages from elsewhere), who asks
//! (`proxies.rs`, `proxy_protocol.rs`), parse the path (`path.rs`), find the instance (`lookup.rs`),
//! access (`access.rs`; `resource.rs` says where a token is to be had), admission (`admission.rs`: limits, and
//! an OAuth token that has expired is waited for), wait for a service that restarts (`hold.rs`), headers
//! (`headers.rs`, `template.rs`, `tokens.rs`), forward (`upstream.rs`), answer (`stream.rs`, `refusal.rs`), count. All that
//! it needs lies in two tables, [`ServiceTable`] and `instances::InstanceTable`: nothing is asked and nothing
//! is locked on the way of a request that is let through, but for such a token; and no body is collected, but
//! for messages of MCP.
//!
//! * Refusals of strangers take the same steps whatever the reason, so that time tells nothing.
//! * No client header under a name that the router sets ever reaches a service, and no token of ours.
//! * A request that a service may have read is never sent a second time, but for what MCP calls safe. One
//!   that was not written waits while its service restarts (`hold.rs`).
//!
//! For services that speak MCP, `mcp` does more with both directions: sessions, ids, and streams that a
//! restart does not end.

pub mod path;
mod origin;
mod cors;
mod proxies;
pub mod proxy_protocol;
mod access;
mod resource;
mod discovery;
mod template;
mod tokens;
pub mod headers;
mod rpc;
mod refusal;
mod refused;
mod upstream;
mod tables;
mod drain;
mod hold;
mod pass;
mod stream;
mod counted;
mod upgrade;
mod service;
mod lookup;
mod admission;
pub mod mcp;
mod serve;
mod figures;
#[cfg(test)]
mod tests;

pub use figures::Figures;
pub use mcp::Sessions;
pub use origin::Names;
pub use proxies::Proxies;
pub use refused::Refused;
pub use serve::{Router, RouterConfig, RouterRooms};
pub use tables::{Routable, Run, ServiceEntry, ServiceTable, Services};
