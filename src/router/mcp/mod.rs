//! MCP: sessions that outlive their service, and ids that no two clients share.
//!
//! `exchange.rs` answers a request: its words are read (`wire`), put into the service's words
//! (`translate.rs`, `names.rs`), sent (`send.rs`), and the answer is put back, event by event
//! (`answer.rs`). `session.rs` and `sessions.rs` hold what was agreed with each client; `renew.rs` says it
//! again to a run that does not know it, and `push.rs` keeps streams open meanwhile. `older.rs`
//! is what the transport of 2024-11-05 needs beside.
//!
//! Invariants: a session belongs to one instance, and is with any other like one that never was. What is
//! decided is decided on the bytes that are sent. No id of a client reaches a service as it is, and no
//! answer reaches a client that has not asked. What was written is sent again only where MCP says that
//! it changes nothing.
//! Nothing of this is done for `protocol: http`.

pub mod wire;
mod names;
mod session;
mod sessions;
mod facts;
mod translate;
mod older;
mod send;
mod renew;
mod answer;
mod again;
mod push;
mod exchange;

pub use sessions::Sessions;
