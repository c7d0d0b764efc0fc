//! MCP on the wire: messages, events and addresses, on their bytes. Pure.

pub(super) mod endpoint;
pub(super) mod events;
pub(super) mod message;
