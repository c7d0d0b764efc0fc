//! Why something could not be done with an instance.

use crate::ids::{PublicId, Timestamp, UserId};
use crate::store::StoreError;
use crate::vault::{RandomError, SealError};

/// Why something could not be done with an instance. Nothing has changed then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InstanceError {
    /// Only users have instances.
    #[error("there is no user `{0}`; add them with `mcpm users add`")]
    UnknownUser(UserId),
    /// What they would get would not answer.
    #[error("user `{0}` is switched off; `mcpm users enable` switches them on")]
    UserDisabled(UserId),
    /// Who has asked for it is gone, or may not any more.
    #[error(
        "the user was removed, or the token revoked, after this was asked for: nothing was done"
    )]
    Withdrawn,
    /// Not read, or not written.
    #[error("the instance could not be read or written")]
    Store(#[from] StoreError),
    /// What is stored does not open.
    #[error("the instance's secret does not open: restore `mcpm.db`, or remove the instance")]
    Sealed(#[from] SealError),
    /// No id could be made.
    #[error("no instance id could be made")]
    Random(#[from] RandomError),
    /// Another daemon on the same database kept changing it.
    #[error("the instance is being changed elsewhere: try again")]
    Contended,
    /// It is not in the state that the caller has seen.
    #[error("the instance was changed since you have read it: read it again, and change that")]
    Changed,
    /// It was to be switched on, and its time is over.
    #[error("{public} has expired at {end}; give it another expiry, or none, to have it answer")]
    Expired {
        /// Which.
        public: PublicId,
        /// Since when.
        end: Timestamp,
    },
    /// The daemon is ending.
    #[error("instances are not served any more: the daemon is ending")]
    Stopped,
}
