//! Arguments → cli or daemon → exit code; nothing else.

use std::io::Write;
use std::panic;
use std::process::ExitCode;

/// Our bug, never the caller's mistake (`sysexits.h`: EX_SOFTWARE).
const INTERNAL_ERROR: u8 = 70;

fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        // A closed stderr must not turn a panic into an abort.
        let _ = writeln!(
            std::io::stderr(),
            "mcpm: internal error, please report it: mcpm {} {info}",
            env!("CARGO_PKG_VERSION")
        );
    }));
    panic::catch_unwind(|| mcpm::cli::run(std::env::args_os()))
        .unwrap_or(ExitCode::from(INTERNAL_ERROR))
}
