//! The store without a file: what tests of other rooms use.
//!
//! Keeps every promise of [`Store`] but the one about crashes: its content ends with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::store::{
    Added, Answer, AuditEntry, AuditRow, HealthRow, InstanceCursor, InstanceRow, NewInstance,
    NewToken, NewUser, Page, Rotation, ServiceRow, Store, StoreError, StoredInstance, TokenOwner,
    TokenRow, UserRow,
};

/// A store that lives as long as its handle.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    users: BTreeMap<UserId, Timestamp>,
    tokens: BTreeMap<i64, TokenRow>,
    instances: BTreeMap<i64, StoredInstance>,
    services: Vec<ServiceRow>,
    health: BTreeMap<ServiceType, HealthRow>,
    audit: Vec<AuditEntry>,
    settings: BTreeMap<String, Vec<u8>>,
    last_number: i64,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> T) -> Answer<'_, T> {
        let mut state = self.lock();
        let answer = if state.closed {
            Err(StoreError::Stopped)
        } else {
            Ok(work(&mut state))
        };
        Box::pin(std::future::ready(answer))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    fn push_token(&mut self, new: NewToken) {
        let number = self.number();
        let NewToken {
            hash,
            owner,
            name,
            created_at,
            expires_at,
        } = new;
        let revoked_at = None;
        let row = TokenRow {
            number,
            hash,
            owner,
            name,
            created_at,
            expires_at,
            revoked_at,
        };
        self.tokens.insert(number, row);
    }

    fn row(&self, wanted: impl Fn(&InstanceRow) -> bool) -> Option<(i64, &StoredInstance)> {
        let mut all = self.instances.iter();
        all.find(|(_, stored)| wanted(&stored.row))
            .map(|(number, stored)| (*number, stored))
    }

    fn row_mut(&mut self, public: &PublicId) -> Option<&mut StoredInstance> {
        self.instances
            .values_mut()
            .find(|stored| stored.row.public == *public)
    }

    fn user_row(&self, id: &UserId) -> Option<UserRow> {
        let created_at = *self.users.get(id)?;
        let own = self
            .instances
            .values()
            .filter(|stored| stored.row.user == *id);
        Some(UserRow {
            id: id.clone(),
            created_at,
            instances: own.count() as u64,
        })
    }

    fn of_user(&self, user: &UserId) -> Vec<StoredInstance> {
        let own = self
            .instances
            .values()
            .filter(|stored| stored.row.user == *user);
        let mut own: Vec<_> = own.cloned().collect();
        own.sort_by(|a, b| a.row.service.cmp(&b.row.service));
        own
    }

    fn page<T>(
        &self,
        after: Option<InstanceCursor>,
        limit: u32,
        keep: impl Fn(&StoredInstance) -> Option<T>,
    ) -> Page<T, InstanceCursor> {
        let after = after.map_or(0, |cursor| cursor.0);
        let mut found = self
            .instances
            .range(after + 1..)
            .filter_map(|(n, s)| Some((*n, keep(s)?)));
        let page: Vec<_> = found.by_ref().take(limit as usize).collect();
        let last = page.last().map(|(number, _)| InstanceCursor(*number));
        let next = found.next().and(last);
        Page {
            items: page.into_iter().map(|(_, item)| item).collect(),
            next,
        }
    }
}

impl Store for Memory {
    fn add_user(&self, user: NewUser, token: NewToken) -> Answer<'_, bool> {
        self.run(|state| {
            if state.users.contains_key(&user.id) {
                return false;
            }
            state.users.insert(user.id, user.created_at);
            state.push_token(token);
            true
        })
    }

    fn ensure_user(&self, user: NewUser) -> Answer<'_, bool> {
        self.run(|state| {
            let is_new = !state.users.contains_key(&user.id);
            if is_new {
                state.users.insert(user.id, user.created_at);
            }
            is_new
        })
    }

    fn user(&self, id: &UserId) -> Answer<'_, Option<UserRow>> {
        self.run(|state| state.user_row(id))
    }

    fn users(&self, after: Option<&UserId>, limit: u32) -> Answer<'_, Vec<UserRow>> {
        self.run(|state| {
            let ids = state
                .users
                .keys()
                .filter(|id| after.is_none_or(|after| *id > after));
            ids.take(limit as usize)
                .filter_map(|id| state.user_row(id))
                .collect()
        })
    }

    fn remove_user(&self, id: &UserId) -> Answer<'_, Option<Vec<InstanceRow>>> {
        self.run(|state| {
            state.users.remove(id)?;
            state
                .tokens
                .retain(|_, token| token.owner != TokenOwner::User(id.clone()));
            let gone = state
                .of_user(id)
                .into_iter()
                .map(|stored| stored.row)
                .collect();
            state.instances.retain(|_, stored| stored.row.user != *id);
            Some(gone)
        })
    }

    fn add_token(&self, token: NewToken) -> Answer<'_, bool> {
        self.run(|state| {
            let known = match &token.owner {
                TokenOwner::User(id) => state.users.contains_key(id),
                TokenOwner::Admin => true,
            };
            if known {
                state.push_token(token);
            }
            known
        })
    }

    fn token_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<TokenRow>> {
        self.run(|state| {
            state
                .tokens
                .values()
                .find(|token| token.hash == *hash)
                .cloned()
        })
    }

    fn tokens(&self, owner: &TokenOwner) -> Answer<'_, Vec<TokenRow>> {
        self.run(|state| {
            state
                .tokens
                .values()
                .filter(|token| token.owner == *owner)
                .cloned()
                .collect()
        })
    }

    fn revoke_token(&self, number: i64, at: Timestamp) -> Answer<'_, bool> {
        self.run(|state| match state.tokens.get_mut(&number) {
            Some(token) if token.revoked_at.is_none() => {
                token.revoked_at = Some(at);
                true
            }
            _ => false,
        })
    }

    fn add_instance(&self, new: NewInstance) -> Answer<'_, Added> {
        self.run(|state| {
            if !state.users.contains_key(&new.user) {
                return Added::NoUser;
            }
            let clash = |row: &InstanceRow| {
                (row.user == new.user && row.service == new.service)
                    || row.hash == new.hash
                    || row.public == new.public
            };
            if state.row(clash).is_some() {
                return Added::Taken;
            }
            let number = state.number();
            state.instances.insert(number, new.into());
            Added::Done
        })
    }

    fn replace_credential(
        &self,
        public: &PublicId,
        sealed: Vec<u8>,
        _at: Timestamp,
    ) -> Answer<'_, bool> {
        self.run(|state| match state.row_mut(public) {
            Some(stored) => {
                stored.sealed_credential = sealed;
                true
            }
            None => false,
        })
    }

    fn rotate_instance(&self, rotation: Rotation) -> Answer<'_, bool> {
        self.run(|state| match state.row_mut(&rotation.public) {
            Some(stored) if stored.row.hash == rotation.old_hash => {
                stored.row.hash = rotation.new_hash;
                stored.sealed_id = rotation.sealed_id;
                true
            }
            _ => false,
        })
    }

    fn instance_of(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Answer<'_, Option<StoredInstance>> {
        self.run(|state| {
            let wanted = |row: &InstanceRow| row.user == *user && row.service == *service;
            state.row(wanted).map(|(_, stored)| stored.clone())
        })
    }

    fn instance_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<InstanceRow>> {
        self.run(|state| {
            state
                .row(|row| row.hash == *hash)
                .map(|(_, s)| s.row.clone())
        })
    }

    fn instance_by_public(&self, public: &PublicId) -> Answer<'_, Option<InstanceRow>> {
        self.run(|state| {
            state
                .row(|row| row.public == *public)
                .map(|(_, s)| s.row.clone())
        })
    }

    fn instances_of(&self, user: &UserId) -> Answer<'_, Vec<StoredInstance>> {
        self.run(|state| state.of_user(user))
    }

    fn instances(
        &self,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<InstanceRow, InstanceCursor>> {
        self.run(|state| state.page(after, limit, |stored| Some(stored.row.clone())))
    }

    fn active_instances(
        &self,
        now: Timestamp,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<StoredInstance, InstanceCursor>> {
        let active = |stored: &StoredInstance| stored.row.is_active(now).then(|| stored.clone());
        self.run(|state| state.page(after, limit, active))
    }

    fn remove_instance(&self, public: &PublicId) -> Answer<'_, Option<InstanceRow>> {
        self.run(|state| {
            let (number, _) = state.row(|row| row.public == *public)?;
            state.instances.remove(&number).map(|stored| stored.row)
        })
    }

    fn touch_instances(&self, used: Vec<(PublicId, Timestamp)>) -> Answer<'_, ()> {
        self.run(|state| {
            for (public, at) in used {
                if let Some(stored) = state.row_mut(&public) {
                    stored.row.last_used_at = stored.row.last_used_at.max(Some(at));
                }
            }
        })
    }

    fn instance_counts(&self) -> Answer<'_, Vec<(ServiceType, u64)>> {
        self.run(|state| {
            let mut counts = BTreeMap::new();
            for stored in state.instances.values() {
                *counts.entry(stored.row.service.clone()).or_default() += 1;
            }
            counts.into_iter().collect()
        })
    }

    fn publish_services(&self, services: Vec<ServiceRow>, _at: Timestamp) -> Answer<'_, ()> {
        self.run(|state| {
            state.services = services;
            state.services.sort_by(|a, b| a.service.cmp(&b.service));
        })
    }

    fn services(&self) -> Answer<'_, Vec<ServiceRow>> {
        self.run(|state| state.services.clone())
    }

    fn put_health(&self, records: Vec<HealthRow>) -> Answer<'_, ()> {
        self.run(|state| {
            state.health.extend(
                records
                    .into_iter()
                    .map(|record| (record.service.clone(), record)),
            );
        })
    }

    fn health(&self) -> Answer<'_, Vec<HealthRow>> {
        self.run(|state| state.health.values().cloned().collect())
    }

    fn append_audit(&self, entries: Vec<AuditEntry>) -> Answer<'_, ()> {
        self.run(|state| state.audit.extend(entries))
    }

    fn audit(&self, before: Option<i64>, limit: u32) -> Answer<'_, Vec<AuditRow>> {
        self.run(|state| {
            let numbered = (1..).zip(state.audit.iter().cloned());
            let rows = numbered.map(|(number, entry)| AuditRow { number, entry });
            let mut rows: Vec<_> = rows
                .filter(|row| before.is_none_or(|before| row.number < before))
                .collect();
            rows.reverse();
            rows.truncate(limit as usize);
            rows
        })
    }

    fn setting(&self, name: &str) -> Answer<'_, Option<Vec<u8>>> {
        self.run(|state| state.settings.get(name).cloned())
    }

    fn put_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, ()> {
        self.run(|state| {
            state.settings.insert(name.to_owned(), value);
        })
    }

    fn keep_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, Vec<u8>> {
        self.run(|state| {
            state
                .settings
                .entry(name.to_owned())
                .or_insert(value)
                .clone()
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        self.lock().closed = true;
        Box::pin(std::future::ready(Ok(())))
    }
}
