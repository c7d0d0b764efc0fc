//! The daemon's own log: lines on standard error, which the starting command has pointed at
//! `mcpm.log` (or which a terminal, systemd or a container reads).
//!
//! `MCPM_LOG` sets the level: `error`, `warn`, `info` (the default), `debug`.

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::ids::Timestamp;

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", Timestamp::now())
    }
}

/// Starts logging; does nothing when that was done before.
pub(super) fn start() {
    let wanted = std::env::var("MCPM_LOG").ok().and_then(|level| level.parse().ok());
    let _ = tracing_subscriber::fmt()
        .with_max_level(wanted.unwrap_or(Level::INFO))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_timer(Clock)
        .try_init();
}
