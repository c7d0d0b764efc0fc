//! What external services have said of credentials, as far as it is remembered.

use crate::ids::{ServiceType, Timestamp, UserId};

/// Answers about one user's credentials that are remembered; older ones are forgotten.
pub const CHECKS_MAX: u32 = 32;

/// What an answer was about. It counts for the user who got it, never for another one with the same key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckKey {
    /// Who handed it over.
    pub user: UserId,
    /// For what.
    pub service: ServiceType,
    /// Keyed hash of the credential and of how it was checked.
    pub hash: [u8; 32],
}

/// An answer that was neither `could not check` nor is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The service takes it.
    pub is_good: bool,
    /// When it was asked: what it has said since may be something else.
    pub asked_at: Timestamp,
    /// How long this counts.
    pub until: Timestamp,
}
