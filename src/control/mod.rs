//! The API over the unix socket.

pub mod version;
pub mod readiness;
pub mod client;
pub mod server;
