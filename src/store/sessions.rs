//! What the router keeps of MCP sessions, so that they outlive a daemon.

use crate::ids::{PublicId, Timestamp};

/// Sessions of one instance that are kept; the ones that were used least recently are forgotten.
pub const SESSIONS_MAX: u32 = 256;

/// A session of a client. What the router keeps of it is its own business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Keyed hash of its instance and its id.
    pub key: [u8; 32],
    /// Whose it is. It goes with its instance, and when that gets another URL.
    pub instance: PublicId,
    /// What the router keeps.
    pub data: Vec<u8>,
    /// When it was used last, as far as that was written.
    pub used_at: Timestamp,
}
