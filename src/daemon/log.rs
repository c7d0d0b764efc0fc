//! The daemon's own log: lines on standard error, which the starting command has pointed at
//! `mcpm.log` (or which a terminal, systemd or a container reads).
//!
//! `MCPM_LOG` sets the level: `error`, `warn`, `info` (the default), `debug`.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::ids::Timestamp;

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", Timestamp::now())
    }
}

/// Starts logging; does nothing when that was done before. Our bridges use it, too.
pub fn start() {
    let wanted = std::env::var("MCPM_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let level: LevelFilter = wanted.unwrap_or(LevelFilter::INFO);
    // Libraries speak of every request at `info`, and of headers at `debug`: only their warnings.
    let levels = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("mcpm", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_timer(Clock);
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(levels))
        .try_init();
}
