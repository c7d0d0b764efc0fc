//! Output of services: captured, kept, followed.
//!
//! A service's stdin, stdout and stderr are FIFOs in `$MCPM_HOME/run/`, opened read-write by the
//! service itself, so that it never sees a closed pipe when the daemon dies and the next daemon
//! reads on where this one stopped. One thread of its own reads them all and
//! appends to the log files: a slow disk delays no request and no command. What is written leaves
//! its pipe only when it is stored, so a daemon may be killed at any moment.
//!
//! `pipes.rs` makes the FIFOs, `capture.rs` is the handle to the thread that reads them and `serve.rs`
//! its loop, `stream.rs` says when one is looked into, `reader.rs` takes whole lines out of it,
//! `peek.rs` looks without taking, `wait.rs` (pure) says how long the end of a line is waited for.
//! `shared.rs` is what all streams have in common. `mark.rs` (pure) and `mark_file.rs` tell the next daemon what this one was storing.
//! `lines.rs` (pure) finds lines, `words.rs` (pure) hears of taken ports, `dress.rs` and `stamp.rs`
//! (pure) add times and names, `sink.rs` stores, `followers.rs` tells those who follow, `files.rs`
//! (pure) says where all goes, `losses.rs` counts what no file could take, and knows what is not read.
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
pub mod mark;
pub mod append;
pub mod losses;
pub mod mark_file;
pub mod peek;
mod wait;
mod followers;
mod shared;
mod sink;
mod reader;
mod stream;
mod serve;
pub mod capture;
pub mod history;

pub use capture::{Extent, Line, Logs, Missed, Origin, Output, Source};
pub use files::Stream;
pub use followers::Following;
