//! What the router keeps of clients' MCP sessions, so that they outlive a daemon.

use std::fmt;

use crate::ids::{PublicId, Timestamp};

/// Sessions of one instance that are kept; the ones that were used least recently are forgotten. More
/// than a user has clients open, and few enough that one who opens sessions without end fills no disk.
pub const SESSIONS_MAX: u32 = 256;

/// What the router keeps of one client's MCP session. Opaque to the store.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Keyed hash of its instance and its id.
    pub key: [u8; 32],
    /// Whose it is. It goes with its instance, and when that gets another URL.
    pub instance: PublicId,
    /// What the router keeps, as long as the router thinks fit.
    pub data: Vec<u8>,
    /// When it was used last, as far as that was written.
    pub used_at: Timestamp,
}

/// Prints how much is kept, and not what.
impl fmt::Debug for SessionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRow")
            .field("instance", &self.instance)
            .field("bytes", &self.data.len())
            .field("used_at", &self.used_at)
            .finish_non_exhaustive()
    }
}
