//! Who has asked for something that takes a while, and may they still have it? Pure.
//!
//! An external service or a person takes seconds to minutes to answer. What is asked for in the name of
//! somebody who has been removed meanwhile, or with a token that has been revoked, is not done: the lane
//! of the user looks here before it changes anything.

use std::sync::Arc;

use crate::ids::{Timestamp, UserId};
use crate::instances::error::InstanceError;
use crate::store::UserRow;
use crate::users::LiveToken;

/// Who has asked, as they were then.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// When the owner was added: one of the same name who was added after that is somebody else. `None`:
    /// whoever has the name now.
    pub owner_since: Option<Timestamp>,
    /// By which token; `None` for a proof that is no token of ours.
    pub token: Option<Arc<LiveToken>>,
}

impl Asker {
    /// May they still have it? `owner` is who has the name now.
    ///
    /// # Errors
    /// The token has been revoked, or the owner removed or switched off.
    pub fn judge(&self, user: &UserId, owner: Option<&UserRow>) -> Result<(), InstanceError> {
        let is_over = self.token.as_ref().is_some_and(|token| token.is_over());
        let is_same = |owner: &UserRow| {
            let since = self.owner_since;
            since.is_none_or(|since| since == owner.created_at)
        };
        match owner {
            _ if is_over => Err(InstanceError::Withdrawn),
            None if self.owner_since.is_some() => Err(InstanceError::Withdrawn),
            None => Err(InstanceError::UnknownUser(user.clone())),
            Some(owner) if !is_same(owner) => Err(InstanceError::Withdrawn),
            Some(owner) if owner.disabled_at.is_some() => {
                Err(InstanceError::UserDisabled(user.clone()))
            }
            Some(_) => Ok(()),
        }
    }
}
