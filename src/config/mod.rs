//! Ecosystem file → [`AppSpec`]: reads what PM2 reads, checks it, fills in the defaults.
//!
//! Pure, except `load.rs`. The daemon never comes here: the CLI reads files and sends specs.

pub mod settings;
pub mod spec;

pub use settings::Settings;
pub use spec::AppSpec;
pub mod load;
pub use load::*;
