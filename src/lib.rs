//! mcpm: starts hundreds of MCP services on fixed ports, keeps them alive, and routes each user's
//! private instance URL to the one shared process of that service.
//!
//! The tour, in reading order. A room imports rooms above it, never below; `daemon` alone knows
//! them all (`tests/tidy.rs` holds that line).

// ── ground ──
pub mod failpoint;
pub mod secret;
pub mod ids;
pub mod home;
pub mod problem;
pub mod metrics;
pub mod sockets;
pub mod outbound;
pub mod config;
pub mod pm2;
pub mod store;
pub mod vault;
pub mod logs;
pub mod access_log;
// ── engine ──
pub mod supervisor;
pub mod health;
pub mod identity;
pub mod users;
pub mod limits;
pub mod instances;
pub mod usage;
pub mod audit;
pub mod oauth;
pub mod bridge;
pub mod site;
pub mod router;
// ── doors ──
pub mod api;
pub mod control;
pub mod daemon;
pub mod cli;
