//! MCP servers that mcpm itself can run as apps.
//!
//! A bridge is an ordinary service: a process of its own on a fixed port, started by the daemon,
//! reached through the router. One process serves all users of its service; who is calling and with
//! which credential stands in the headers of each request (`caller.rs`) and is never remembered.
//! `serve.rs` is the server under all bridges; each bridge is a handler on top of it.

mod error;
mod serve;
mod caller;
pub mod demo;
pub mod rest;
#[cfg(test)]
mod tests;

pub use error::BridgeError;
pub use serve::BridgeOptions;
