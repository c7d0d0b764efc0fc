//! `mcpm bridge rest FILE`: an MCP server made from a service's `config.json`.
//!
//! The file says where the API is and which tools it offers; a call of a tool becomes one request
//! to the API, carrying the credential that the router injected into that very call. Everything but
//! `server.rs` is pure.

mod reader;
mod endpoint;
mod parameter;
mod tool;
mod config;
mod request;
mod answer;
mod server;

pub use request::dry_run;
#[cfg(test)]
pub(super) use server::handler_from_text;
pub use server::run;
