//! The API over the unix socket; what a daemon says to whoever has started it, and what a service
//! manager keeps for it.

pub mod version;
pub mod readiness;
pub mod service_manager;
pub mod descriptor_store;
pub mod presence;
pub mod client;
pub mod server;
