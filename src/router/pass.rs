//! What a request goes through with, and goes on with: its instance, and the token that was shown
//! where one is needed. When either ends, so does what was begun with it.

use std::ops::Deref;
use std::sync::Arc;

use crate::instances::InstanceEntry;
use crate::users::LiveToken;

/// An instance, on the word of whoever was let in.
#[derive(Clone)]
pub(super) struct Pass {
    instance: Arc<InstanceEntry>,
    /// `None` where the URL alone was enough.
    token: Option<Arc<LiveToken>>,
    /// It ends with the credential, too.
    never_ends: bool,
}

impl Pass {
    /// For this instance, as long as this token.
    pub(super) fn new(instance: Arc<InstanceEntry>, token: Option<Arc<LiveToken>>) -> Self {
        Self {
            instance,
            token,
            never_ends: false,
        }
    }

    /// The same for what never ends by itself: it must end when the instance gets another credential.
    pub(super) fn for_stream(self) -> Self {
        Self {
            never_ends: true,
            ..self
        }
    }

    /// The instance.
    pub(super) fn instance(&self) -> &Arc<InstanceEntry> {
        &self.instance
    }

    /// Is it over with it?
    pub(super) fn is_revoked(&self) -> bool {
        let is_over = if self.never_ends {
            self.instance.is_outdated()
        } else {
            self.instance.is_revoked()
        };
        is_over || self.token.as_ref().is_some_and(|token| token.is_over())
    }

    /// Ends when it is. Cancel-safe.
    pub(super) async fn revoked(&self) {
        let Some(token) = &self.token else {
            return self.instance_over().await;
        };
        tokio::select! {
            () = self.instance_over() => {}
            () = token.over() => {}
        }
    }

    async fn instance_over(&self) {
        if self.never_ends {
            self.instance.outdated().await;
        } else {
            self.instance.revoked().await;
        }
    }

    /// Is the instance still there? If not, nobody is told of a token.
    pub(super) fn has_instance(&self) -> bool {
        !self.instance.is_revoked()
    }
}

impl Deref for Pass {
    type Target = InstanceEntry;
    fn deref(&self) -> &InstanceEntry {
        &self.instance
    }
}
