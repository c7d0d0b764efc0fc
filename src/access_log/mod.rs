//! The access log: a line for each request, written when the last byte of its answer has gone.
//!
//! `record.rs` is one request while it lasts, `line.rs` (pure) how its line looks and what of a path
//! may stand in it, `writer.rs` the thread that writes. A request never waits for it: lines that find no
//! room are dropped and counted. No id of a URL is ever in one, and no query.

mod line;
mod record;
mod writer;

pub use line::Line;
pub use record::Record;
pub use writer::AccessLog;
