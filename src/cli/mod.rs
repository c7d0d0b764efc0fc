//! One file per command.
//!
//! A command's file holds its arguments, what it asks the daemon, and how its answer reads; pure
//! where it can be. `render.rs` is the only place that prints, `exit.rs` knows the exit codes.
//! Answers come from the daemon over the socket (`control::client`): nothing here touches a
//! process or the store.

mod exit;
mod style;
mod grid;
mod units;
mod render;
mod args;
mod line;
mod session;
mod daemon_start;
mod run;

#[cfg(test)]
mod samples;

mod process_table;
mod inspect;
mod jlist;
mod list;
mod describe;
mod why;
mod app_flags;
mod loading;
mod change;
mod progress;
mod live;
mod next;
mod start;
mod targets;
mod actions;
mod reload;
mod scale;
mod orders;
mod facts;
mod log_text;
mod logs;
mod attach;
mod flush;
mod reload_logs;
mod ping;
mod saving;
mod import;
mod import_report;
mod report;
mod init;
mod conf;
mod refused;
mod kill;
mod update;
mod startup;

mod prompt;
mod credentials;
mod when;
mod services;
mod instances;
mod pages;
mod tokens;
mod users;
mod keys;
mod usage;
mod audit;
mod config;

mod daemon;
mod runtime;
mod bridge;
mod serve;
mod completions;
mod man;

pub use run::run;
