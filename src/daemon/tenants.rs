//! Lets the router see instances and users: the adapter between `router::Tenants` and the rooms
//! that own them.

use std::sync::Arc;

use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::instances::{InstanceEntry, Instances};
use crate::router::{Tenant, Tenants};
use crate::users::{Caller, Users};

/// What the router asks.
#[derive(Clone)]
pub(super) struct Registry {
    pub(super) instances: Instances,
    pub(super) users: Users,
}

impl Tenants for Registry {
    type Tenant = Entry;

    fn hash(&self, id: &str) -> [u8; 32] {
        self.instances.hash(id)
    }

    fn find(&self, hash: &[u8; 32]) -> Option<Entry> {
        let entry = self.instances.table().get(hash)?;
        // Its time may have come since it was put into the table.
        let expired = entry.expires_at.is_some_and(|at| at <= Timestamp::now());
        // One that does not open answers like one that is not there; the log knows.
        if let Err(error) = entry.credential() {
            tracing::error!(instance = %entry.public, %error, "a credential does not open");
            return None;
        }
        (!expired).then_some(Entry(entry))
    }

    async fn refuse(&self, hash: [u8; 32]) {
        self.instances.refuse(&hash).await;
    }

    async fn owner_of_token(&self, token: &str) -> Option<UserId> {
        match self.users.authenticate(token).await {
            Ok(Caller::User(user)) => Some(user),
            Ok(Caller::Admin) | Err(_) => None,
        }
    }
}

/// One active instance.
#[derive(Clone)]
pub(super) struct Entry(Arc<InstanceEntry>);

impl Tenant for Entry {
    fn public(&self) -> &PublicId {
        &self.0.public
    }

    fn user(&self) -> &UserId {
        &self.0.user
    }

    fn service(&self) -> &ServiceType {
        &self.0.service
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.0.credential().ok()?.expose().get(name)
    }

    fn touch(&self) {
        self.0.touch(Timestamp::now());
    }

    fn revoked(&self) -> impl Future<Output = ()> + Send + 'static {
        let entry = self.0.clone();
        async move { entry.revoked().await }
    }
}
