//! What is counted for Prometheus: numbers that are added to without a lock, and the page that shows
//! them.
//!
//! `count.rs` is one number, `latency.rs` a histogram of times, `service.rs` what is counted of each
//! service, `page.rs` (pure) writes the text format 0.0.4. Labels are services, apps and fixed words: no
//! user and no instance is ever one, so that a page is as long with a million instances as with none.

mod count;
mod latency;
mod page;
mod service;

pub use count::{Count, Going, Level};
pub use latency::{BOUNDS, Latency, Times};
pub use page::{Family, Kind, Page};
pub use service::ServiceCounts;
