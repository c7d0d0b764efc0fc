//! What becomes of instances after they were made, by number and in lists, and many that are added at
//! once.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::{Granted, Instances};
use crate::ids::{InstanceId, InstancePrefix, PublicId, ServiceType, UserId};
use crate::instances::asker::Asker;
use crate::instances::change::Change;
use crate::instances::error::InstanceError;
use crate::instances::lane::{Imported, Incoming, NewTerms, Order};
use crate::instances::version::Version;
use crate::store::{
    InstanceCursor, InstanceFilter, InstanceRow, Page, Proposal, Standing, StoreError,
};
use crate::vault::Credential;

impl Instances {
    /// As [`Instances::grant`]; one that is made gets these terms, one that is there keeps its own. It is
    /// done only if who has asked may still have it.
    ///
    /// # Errors
    /// There is no such user, who has asked may not any more, or nothing could be written.
    pub async fn grant_under(
        &self,
        user: &UserId,
        service: &ServiceType,
        prefix: &InstancePrefix,
        fields: Credential,
        terms: NewTerms,
        asker: Asker,
    ) -> Result<Granted, InstanceError> {
        let (service, prefix) = (service.clone(), prefix.clone());
        let make = |user, caller| Order::Grant {
            user,
            service,
            prefix,
            fields,
            terms,
            asker,
            caller,
        };
        self.ask(user, make).await
    }

    /// Changes label, expiry or state of the user's instance: when this answers it holds for every
    /// request and every open stream. With `seen` only if the instance is in one of these states.
    /// `None` when there is no instance.
    ///
    /// # Errors
    /// It is in another state than was seen, it is to be switched on and has expired, or nothing
    /// could be written; nothing has changed then.
    pub async fn change(
        &self,
        user: &UserId,
        service: &ServiceType,
        change: Change,
        seen: Option<Vec<Version>>,
    ) -> Result<Option<InstanceRow>, InstanceError> {
        self.change_this(user, service, None, change, seen).await
    }

    /// The same by public number.
    ///
    /// # Errors
    /// As [`Instances::change`].
    pub async fn change_public(
        &self,
        public: &PublicId,
        change: Change,
        seen: Option<Vec<Version>>,
    ) -> Result<Option<InstanceRow>, InstanceError> {
        let Some(row) = self.rooms.store.instance_by_public(public).await? else {
            return Ok(None);
        };
        let only = Some(row.public);
        self.change_this(&row.user, &row.service, only, change, seen)
            .await
    }

    async fn change_this(
        &self,
        user: &UserId,
        service: &ServiceType,
        public: Option<PublicId>,
        change: Change,
        seen: Option<Vec<Version>>,
    ) -> Result<Option<InstanceRow>, InstanceError> {
        let service = service.clone();
        let changed = self.ask(user, |user, caller| Order::Change {
            user,
            service,
            public,
            change,
            seen,
            caller,
        });
        Ok(changed.await?.map(|row| self.as_used(row)))
    }

    /// [`Instances::rotate_seen`] by public number, of an instance whose service has this prefix. `None`
    /// when there is no such instance.
    ///
    /// # Errors
    /// As [`Instances::rotate_seen`].
    pub async fn rotate_public(
        &self,
        row: &InstanceRow,
        prefix: &InstancePrefix,
        seen: Option<Vec<Version>>,
    ) -> Result<Option<Granted>, InstanceError> {
        let (service, prefix) = (row.service.clone(), prefix.clone());
        let public = Some(row.public.clone());
        self.ask(&row.user, |user, caller| Order::Rotate {
            user,
            service,
            prefix,
            public,
            seen,
            caller,
        })
        .await
    }

    /// The instance with this public number, without its id: for the operator.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn by_public(&self, public: &PublicId) -> Result<Option<InstanceRow>, StoreError> {
        let found = self.rooms.store.instance_by_public(public).await?;
        Ok(found.map(|row| self.as_used(row)))
    }

    /// A page of these instances, oldest first, without their ids: for the operator.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn all(
        &self,
        filter: InstanceFilter,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Result<Page<InstanceRow, InstanceCursor>, StoreError> {
        let page = self.rooms.store.instances(filter, after, limit).await?;
        Ok(Page {
            items: page
                .items
                .into_iter()
                .map(|row| self.as_used(row))
                .collect(),
            next: page.next,
        })
    }

    /// What stands in the way of instances that are to be added, in their order: owner, service, and
    /// the id that is asked for.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn standings(
        &self,
        wanted: &[(&UserId, &ServiceType, Option<&InstanceId>)],
    ) -> Result<Vec<(Standing, bool)>, StoreError> {
        let hash = |id: &InstanceId| self.hash(id.expose());
        let proposals: Vec<Proposal> = wanted
            .iter()
            .map(|(user, service, id)| Proposal {
                user: (*user).clone(),
                service: (*service).clone(),
                hash: id.map(hash),
            })
            .collect();
        let hashes: Vec<_> = proposals.iter().map(|proposal| proposal.hash).collect();
        let found = self.rooms.store.standings(proposals).await?;
        let is_same = |(standing, hash): (Standing, Option<[u8; 32]>)| {
            let is_same = hash.is_none() || standing.own == hash;
            (standing, is_same)
        };
        Ok(found.into_iter().zip(hashes).map(is_same).collect())
    }

    /// Adds instances that come from another system, with their users where these are missing and
    /// `add_users` is set. Nothing of what is there changes. Answers what became of each, in their
    /// order; what is said to be added is durable, and answers.
    ///
    /// # Errors
    /// Some could not be written, others may be: doing it again adds the rest.
    pub async fn import(
        &self,
        rows: Vec<Incoming>,
        add_users: bool,
    ) -> Result<Vec<Imported>, InstanceError> {
        let mut done: Vec<Option<Imported>> = rows.iter().map(|_| None).collect();
        let mut by_lane: BTreeMap<usize, (Vec<usize>, Vec<Incoming>)> = BTreeMap::new();
        for (at, row) in rows.into_iter().enumerate() {
            let (places, rows) = by_lane.entry(self.rooms.lane_of(&row.user)).or_default();
            places.push(at);
            rows.push(row);
        }
        // All lanes work at the same time, and their writes share the store's commits.
        let mut waits = Vec::with_capacity(by_lane.len());
        for (lane, (places, rows)) in by_lane {
            let (caller, answer) = oneshot::channel();
            let order = Order::Import {
                rows,
                add_users,
                caller,
            };
            let sent = self.lanes[lane].send(order).await;
            sent.map_err(|_| InstanceError::Stopped)?;
            waits.push((places, answer));
        }
        for (places, answer) in waits {
            let imported = answer.await.unwrap_or(Err(InstanceError::Stopped))?;
            for (at, one) in places.into_iter().zip(imported) {
                done[at] = Some(one);
            }
        }
        let all: Option<Vec<Imported>> = done.into_iter().collect();
        all.ok_or(InstanceError::Stopped)
    }

    /// A row with the last use that the table knows.
    fn as_used(&self, row: InstanceRow) -> InstanceRow {
        InstanceRow {
            last_used_at: self.last_use(&row),
            ..row
        }
    }
}
