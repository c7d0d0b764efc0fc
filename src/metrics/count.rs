//! One number. Relaxed: nothing else is read because of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ServiceCounts;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.add_many(1);
    }

    /// So many more.
    pub fn add_many(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are now.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those, until it is dropped.
#[derive(Debug)]
pub struct Going {
    counts: Arc<ServiceCounts>,
    which: fn(&ServiceCounts) -> &Level,
}

impl Going {
    /// Begins one.
    pub(super) fn begin(counts: Arc<ServiceCounts>, which: fn(&ServiceCounts) -> &Level) -> Self {
        which(&counts).0.fetch_add(1, Ordering::Relaxed);
        Self { counts, which }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        (self.which)(&self.counts).0.fetch_sub(1, Ordering::Relaxed);
    }
}
