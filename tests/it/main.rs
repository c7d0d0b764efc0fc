//! The whole program: the real binary, a file per behaviour.
//!
//! Each test has its own home, ports and processes (`harness`). A test that cannot run on this
//! machine says so and passes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the harness of tests is a test, too"
)]

mod harness;

mod starting;
mod coming_back;
mod commands;
mod selectors;
mod compat;
mod verbs;
mod reloading;
mod replicas;
mod instances;
mod keys;
mod secrets;
mod tokens;
mod usage;
mod audit;
mod instances_life;
mod importing_instances;
mod identity;
mod oauth;
mod foreground;
mod startup;
mod routing;
mod streaming;
mod trees;
mod limits;
mod metrics;
mod lock_descriptor;
mod cgroups;
mod mcp_clients;
mod mcp_sessions;
mod restarting;
mod why;
mod triggers;
mod ipc;
mod stopping;
mod unruly;
mod health;
mod log_formats;
mod log_rotation;
mod logs;
mod access_log;
mod adoption;
mod full_disks;
mod few_descriptors;
mod descriptor_store;
mod upgrading;
mod draining;
mod importing;
mod attaching;
mod serving;
mod completing;
mod refused_files;
mod refused_calls;
mod refused_homes;
mod validation;
