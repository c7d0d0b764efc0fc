//! Files of a folder over HTTP: what `mcpm serve` and the script `serve` run, as a process of its
//! own.
//!
//! `tower-http` knows ranges, conditions and types; this room adds which files there are
//! (`beneath.rs`), who may read them (`guard.rs`), what is answered when there is none
//! (`answer.rs`), and bounds (`serve.rs`). Settings come from the variables that PM2's server reads.

mod settings;
mod guard;
mod beneath;
mod answer;
mod serve;

pub use serve::{SiteError, run};
pub use settings::{Settings, SettingsError};
