//! Output of services: captured, kept, followed.
//!
//! A service's stdin, stdout and stderr are FIFOs in `$MCPM_HOME/run/`, opened read-write by the
//! service itself, so that it never sees a closed pipe when the daemon dies and the next daemon
//! reads on where this one stopped. One thread of its own reads them all and
//! appends to the log files: a slow disk delays no request and no command.
//!
//! `pipes.rs` makes the FIFOs, `capture.rs` reads them, `lines.rs` (pure) keeps partial lines
//! together, `words.rs` (pure) hears of taken ports, `dress.rs` and `stamp.rs` (pure) add times and
//! names, `files.rs` (pure) says where all goes, `losses.rs` counts what no file could take.
//! `append.rs` is one log file, `rotate.rs` (pure) decides when it is put aside and what becomes of it then,
//! `aside.rs` does that; `history.rs` reads the last lines across them.

pub mod files;
pub mod pipes;
pub mod lines;
pub mod words;
pub mod stamp;
pub mod dress;
pub mod rotate;
pub mod aside;
pub mod append;
pub mod losses;
pub mod capture;
pub mod history;

pub use capture::{Extent, Line, Logs, Missed, Origin, Output, Source};
pub use files::Stream;
