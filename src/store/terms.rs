//! What can be changed of an instance, and what can be asked about many of them at once.

use crate::ids::{Label, ServiceType, Timestamp, UserId};

/// What can be changed of an instance beside its id and its credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What people call it.
    pub label: Option<Label>,
    /// From when on it is not active.
    pub expires_at: Option<Timestamp>,
    /// Since when it has been switched off.
    pub disabled_at: Option<Timestamp>,
}

/// What of an instance that is removed holds for the next one of its user and service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// Nothing.
    Nothing,
    /// When it expires, and since when it is switched off.
    Terms,
}

/// Which instances are meant; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// Those of this user.
    pub user: Option<UserId>,
    /// Those of this service.
    pub service: Option<ServiceType>,
    /// At this time, those that are active (`true`) or not.
    pub active: Option<(bool, Timestamp)>,
}

/// Where an instance would stand that is to be added.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Owner.
    pub user: UserId,
    /// Of what.
    pub service: ServiceType,
    /// Keyed hash of the id it is to have, where that is known already.
    pub hash: Option<[u8; 32]>,
}

/// What stands in the way of an instance that is to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its user exists.
    pub has_user: bool,
    /// Its user is switched off.
    pub user_disabled: bool,
    /// Keyed hash of the id of the instance that its user has of that service.
    pub own: Option<[u8; 32]>,
    /// The proposed id is in use, by that instance or by another one.
    pub is_taken: bool,
}
