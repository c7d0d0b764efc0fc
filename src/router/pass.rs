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
}

impl Pass {
    /// For this instance, as long as this token.
    pub(super) fn new(instance: Arc<InstanceEntry>, token: Option<Arc<LiveToken>>) -> Self {
        Self { instance, token }
    }

    /// The instance.
    pub(super) fn instance(&self) -> &Arc<InstanceEntry> {
        &self.instance
    }

    /// Is it over with it?
    pub(super) fn is_revoked(&self) -> bool {
        self.instance.is_revoked() || self.token.as_ref().is_some_and(|token| token.is_over())
    }

    /// Ends when it is. Cancel-safe.
    pub(super) async fn revoked(&self) {
        let Some(token) = &self.token else {
            return self.instance.revoked().await;
        };
        tokio::select! {
            () = self.instance.revoked() => {}
            () = token.over() => {}
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
