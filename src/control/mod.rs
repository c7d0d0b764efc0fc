//! The API over the unix socket.

pub mod version;
pub mod readiness;
pub mod service_manager;
pub mod client;
pub mod server;
