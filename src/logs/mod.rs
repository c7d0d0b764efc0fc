//! Output of services: captured, kept, followed.
//!
//! A service's stdin, stdout and stderr are FIFOs in `$MCPM_HOME/run/`, opened read-write by the
//! service itself, so that it never sees a closed pipe when the daemon dies and the next daemon
//! reads on where this one stopped (`design.md` §2). One thread of its own reads them all and
//! appends to the log files: a slow disk delays no request and no command.
//!
//! `pipes.rs` makes the FIFOs, `capture.rs` reads and writes, `lines.rs` (pure) keeps partial
//! lines together, `history.rs` reads the last lines of a file, `files.rs` (pure) says where.

pub mod capture;
pub mod files;
pub mod history;
pub mod lines;
pub mod pipes;

pub use capture::{Line, Logs, Missed, Source};
pub use files::Stream;
