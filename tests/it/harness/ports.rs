//! Ports that no other test, of this run or another one on this machine, has at the same time.
//!
//! They lie below the ephemeral range, where no outgoing connection can sit on one. Reserved by a
//! lock on a file per port; the kernel drops it with this process.

use std::fmt;
use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;

/// Free as long as it is kept.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// The number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// Takes the next one that is free.
pub(crate) fn reserve() -> Port {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let folder = std::env::temp_dir().join("mcpm-test-ports");
    fs::create_dir_all(&folder).expect("a folder for locks");
    // Runs begin at different places, so that they seldom try each other's.
    let span = LAST - FIRST + 1;
    let begin = u16::try_from(std::process::id() % u32::from(span)).unwrap_or(0);
    for _ in 0..span {
        let number = FIRST + (begin + TRIED.fetch_add(1, Ordering::Relaxed) % span) % span;
        let lock = File::create(folder.join(number.to_string())).expect("a lock file");
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return Port {
                number,
                _lock: lock,
            };
        }
    }
    panic!("no port from {FIRST} to {LAST} is free");
}
