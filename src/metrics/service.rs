//! What is counted of one service, over all its runs.

use std::sync::Arc;
use std::time::Duration;

use super::{Count, Going, Latency, Level};

/// The numbers of one service.
#[derive(Debug, Default)]
pub struct ServiceCounts {
    /// Requests that it has answered, with any status below 500.
    pub answered: Count,
    /// Requests with another status, or without an answer.
    pub failed: Count,
    /// Until the head of an answer.
    pub latency: Latency,
    /// Requests whose answers have not ended.
    pub in_flight: Level,
    /// Event streams and WebSockets.
    pub streams: Level,
    /// Connections to it that were made.
    pub connections_new: Count,
    /// Requests for which one was there.
    pub connections_reused: Count,
    /// Connections that it has not taken.
    pub refused_connections: Count,
    /// Exchanges that it has broken off.
    pub broken_exchanges: Count,
    /// Sessions that were made known to another run.
    pub renewed: Count,
}

impl ServiceCounts {
    /// A request has its answer, or has none.
    pub fn answered(&self, took: Duration, is_failure: bool) {
        if is_failure {
            self.failed.add();
        } else {
            self.answered.add();
        }
        self.latency.took(took);
    }

    /// A request is under way until this is dropped.
    pub fn request(self: &Arc<Self>) -> Going {
        Going::begin(self.clone(), |counts| &counts.in_flight)
    }

    /// A stream is open until this is dropped.
    pub fn stream(self: &Arc<Self>) -> Going {
        Going::begin(self.clone(), |counts| &counts.streams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_counts_until_it_ends() {
        let counts = Arc::new(ServiceCounts::default());
        let (one, two) = (counts.request(), counts.request());
        let stream = counts.stream();
        assert_eq!((counts.in_flight.get(), counts.streams.get()), (2, 1));
        drop((one, stream));
        assert_eq!((counts.in_flight.get(), counts.streams.get()), (1, 0));
        drop(two);
        assert_eq!(counts.in_flight.get(), 0);
    }
}
