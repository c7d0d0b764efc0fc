//! What one daemon tells another that still serves the same instances, and what that one does then.
//!
//! Only between a daemon and the one that it took over from, which finishes what its clients have begun:
//! its table is that of the hand-over, and changes by this news alone.

use std::sync::OnceLock;

use tokio::sync::broadcast;

use super::error::InstanceError;
use super::lane::Order;
use super::registry::{Instances, Rooms};
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};

/// News that wait for whoever passes them on. Who is further behind has missed some, and is told so.
const NEWS_MAX: usize = 1024;

/// What has happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was removed, rotated or disabled, or has expired: what goes on in its name must end.
    Over(PublicId),
    /// It has another credential: what never ends by itself must end.
    Replaced(PublicId),
    /// It goes on, and ends at another time.
    Moved(PublicId),
}

impl Ending {
    /// Of which instance.
    pub fn public(&self) -> &PublicId {
        match self {
            Self::Over(public) | Self::Replaced(public) | Self::Moved(public) => public,
        }
    }
}

/// Nothing is kept before somebody listens.
#[derive(Debug, Default)]
pub(super) struct News(OnceLock<broadcast::Sender<Ending>>);

impl News {
    /// From here on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Ending> {
        let sender = self.0.get_or_init(|| broadcast::Sender::new(NEWS_MAX));
        sender.subscribe()
    }

    /// Tells those who listen.
    pub(super) fn tell(&self, ending: Ending) {
        if let Some(sender) = self.0.get() {
            // It fails when nobody listens any more.
            let _ = sender.send(ending);
        }
    }
}

impl Instances {
    /// Does what another daemon, which owns the rows, has said of an instance. What goes on in the name of
    /// one that is over is told to end, whatever the store says; requests that still come get it as it is
    /// now.
    ///
    /// # Errors
    /// The store did not answer: requests that still come are refused.
    pub async fn follow(&self, ending: &Ending) -> Result<(), InstanceError> {
        let Some((hash, entry)) = self.table().by_public(ending.public()) else {
            return Ok(());
        };
        let (service, ending) = (entry.service.clone(), ending.clone());
        self.ask(&entry.user, |user, caller| Order::Follow {
            user,
            service,
            hash,
            ending,
            caller,
        })
        .await
    }
}

impl Rooms {
    pub(super) async fn follow(
        &self,
        user: &UserId,
        service: &ServiceType,
        hash: &[u8; 32],
        ending: &Ending,
    ) -> Result<(), InstanceError> {
        let over = match ending {
            Ending::Over(_) => self.hide(hash),
            Ending::Replaced(_) | Ending::Moved(_) => None,
        };
        let stored = self.store.instance_of(user, service).await;
        if stored.is_err() && matches!(ending, Ending::Replaced(_)) {
            // Better nothing than the old credential.
            self.hide(hash);
        }
        let stored = stored?;
        let Some(stored) = stored.filter(|stored| stored.row.public == *ending.public()) else {
            return Ok(());
        };
        if matches!(ending, Ending::Over(_)) {
            self.show(stored, over);
            return Ok(());
        }
        if matches!(ending, Ending::Replaced(_)) {
            // One that was rotated meanwhile is over, and that is said, too.
            if stored.row.hash == *hash {
                self.show_replaced(stored);
            }
            return Ok(());
        }
        let row = &stored.row;
        // One that was rotated or switched off meanwhile is over, and that is said, too.
        if row.hash == *hash
            && row.is_active(Timestamp::now())
            && let Some(entry) = self.table.get(hash)
        {
            let before = entry.set_end(row.expires_at);
            self.ends(user).set(*hash, before, row.expires_at);
        }
        Ok(())
    }
}
