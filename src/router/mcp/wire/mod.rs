//! MCP on the wire: messages, events and addresses, on their bytes. Pure, and open to `fuzz/`.

pub mod endpoint;
pub mod events;
pub mod message;
