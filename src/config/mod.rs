//! Ecosystem file → [`AppSpec`]: reads what PM2 reads, checks it, fills in the defaults.
//!
//! Pure, except `load.rs`, `syntax/js.rs` (runs `node`) and `resolve.rs` (looks at the disk). The
//! daemon never comes here: the CLI reads files in the operator's shell and sends specs.

pub mod network;
pub mod settings;
pub mod spec;
pub mod units;
pub mod error;
pub mod syntax;
pub mod keys;
mod typed;
mod fields;
mod words;
mod variables;
mod env;
mod interpreter;
mod resolve;
mod program;
mod headers;
mod validate;
mod auth;
mod oauth;
mod health;
mod mcp;
mod logs;
mod retention;
pub mod limits;
pub mod cron;
pub mod watch;
mod triggers;
mod app;
mod finish;
pub mod identity;
mod cors;
pub mod daemon_settings;
mod document;
mod check;
pub mod load;
pub mod command_line;
pub mod amend;
pub mod schema;
pub mod reference;

pub use amend::amend;
pub use command_line::{CommandLineApp, from_command_line};
pub use error::{AppFailure, ConfigError, Position, Warning};
pub use load::{
    GivenAttribute, LoadOptions, Loaded, Shell, is_ecosystem_file, load_app, load_file, load_text,
};
pub use network::Network;
pub use settings::{RetentionSpec, Settings, TrustedHeader};
pub use spec::AppSpec;
pub mod pm2_env;
