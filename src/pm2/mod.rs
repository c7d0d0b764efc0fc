//! PM2 itself, for those who come from it: what it has saved, what it runs, and how to say the same
//! in an ecosystem file.
//!
//! `message.rs` and `takeover.rs` decide and are pure; `client.rs` asks a running PM2 over its
//! socket, `dump.rs` reads and writes its saved list. Only facts about the wire are used: nothing
//! of PM2 is linked or run.

pub mod message;
mod client;
pub mod dump;
pub mod takeover;

pub use client::{Client, ClientError, Removed};
