//! The store without a file: what tests of other rooms use.
//!
//! Keeps every promise of [`Store`] but the one about crashes: its content ends with it.

mod books;
mod passing;
mod state;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::{Day, GroupName, PublicId, ServiceType, Timestamp, UserId};
use crate::store::{
    Added, Answer, AuditEntry, AuditFilter, AuditRow, Check, CheckKey, CredentialState, HealthRow,
    InstanceCursor, InstanceFilter, InstanceRow, NewInstance, NewToken, NewUser, Page, Proposal,
    Reseal, Rotation, ServiceRow, SessionRow, Setting, Standing, Stays, Store, StoreError,
    StoredInstance, Swap, TOKENS_MAX, Terms, TokenAdded, TokenChoice, TokenOwner, TokenRow,
    UsageFilter, UsageKey, UsageRow, UserRow,
};
use state::State;

/// A store that lives as long as its handle.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
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

impl Store for Memory {
    fn add_user(&self, user: NewUser, token: NewToken) -> Answer<'_, bool> {
        self.run(|state| {
            if state.users.contains_key(&user.id) {
                return false;
            }
            state.insert_user(user);
            state.push_token(token);
            true
        })
    }

    fn ensure_user(&self, user: NewUser) -> Answer<'_, bool> {
        self.run(|state| {
            let is_new = !state.users.contains_key(&user.id);
            if is_new {
                state.insert_user(user);
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
            state.disabled.remove(id);
            state.groups.remove(id);
            state.kept.retain(|(user, _), _| user != id);
            state
                .tokens
                .retain(|_, token| token.owner != TokenOwner::User(id.clone()));
            let gone = state
                .of_user(id)
                .into_iter()
                .map(|stored| stored.row)
                .collect();
            state.instances.retain(|_, stored| stored.row.user != *id);
            state.checks.retain(|key, _| key.user != *id);
            state.end_sessions_of_nobody();
            Some(gone)
        })
    }

    fn switch_user(&self, id: &UserId, off: Option<Timestamp>) -> Answer<'_, Option<bool>> {
        self.run(|state| {
            state.users.get(id)?;
            if state.disabled.contains_key(id) == off.is_some() {
                return Some(false);
            }
            match off {
                Some(at) => state.disabled.insert(id.clone(), at),
                None => state.disabled.remove(id),
            };
            let owner = TokenOwner::User(id.clone());
            for token in state.tokens.values_mut() {
                if token.owner == owner {
                    token.owner_disabled = off.is_some();
                }
            }
            for stored in state.instances.values_mut() {
                if stored.row.user == *id {
                    stored.row.owner_disabled = off.is_some();
                }
            }
            Some(true)
        })
    }

    fn set_group(&self, id: &UserId, group: Option<GroupName>) -> Answer<'_, bool> {
        self.run(|state| state.set_group(id, group))
    }

    fn grouped_users(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Answer<'_, Vec<(UserId, GroupName)>> {
        self.run(|state| state.grouped_users(after, limit))
    }

    fn add_token(&self, token: NewToken) -> Answer<'_, TokenAdded> {
        self.run(|state| {
            if let TokenOwner::User(id) = &token.owner
                && !state.users.contains_key(id)
            {
                return TokenAdded::NoUser;
            }
            let (owner, now) = (token.owner.clone(), token.created_at);
            let own = state.tokens.values().filter(|other| other.owner == owner);
            if own.filter(|other| !other.is_ended(now)).count() >= TOKENS_MAX as usize {
                return TokenAdded::TooMany;
            }
            let number = state.push_token(token);
            state.forget_ended_tokens(&owner, now);
            TokenAdded::Done(number)
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

    fn revoke_tokens(
        &self,
        owner: &TokenOwner,
        which: TokenChoice,
        at: Timestamp,
    ) -> Answer<'_, Option<Vec<i64>>> {
        self.run(|state| {
            let mut own: Vec<&mut TokenRow> = state
                .tokens
                .values_mut()
                .filter(|token| token.owner == *owner)
                .collect();
            if let Some(named) = which.named()
                && !own.iter().any(|token| token.number == named)
            {
                return None;
            }
            own.retain(|token| which.takes(token.number) && !token.is_ended(at));
            let end = |token: &mut TokenRow| {
                token.revoked_at = Some(at);
                token.number
            };
            Some(own.into_iter().map(end).collect())
        })
    }

    fn touch_tokens(&self, used: Vec<(i64, Timestamp)>) -> Answer<'_, ()> {
        self.run(|state| {
            for (number, at) in used {
                if let Some(token) = state.tokens.get_mut(&number) {
                    token.last_used_at = token.last_used_at.max(Some(at));
                }
            }
        })
    }

    fn add_instance(&self, new: NewInstance) -> Answer<'_, Added> {
        self.run(|state| state.add(new))
    }

    fn add_instances(
        &self,
        instances: Vec<NewInstance>,
        missing_users: Option<Timestamp>,
    ) -> Answer<'_, Vec<Added>> {
        self.run(|state| {
            let add = |new: NewInstance| {
                let user = new.user.clone();
                let made = missing_users.filter(|_| !state.users.contains_key(&user));
                if let Some(at) = made {
                    state.users.insert(user.clone(), at);
                }
                let added = state.add(new);
                if made.is_some() && added != Added::Done {
                    state.users.remove(&user);
                }
                added
            };
            instances.into_iter().map(add).collect()
        })
    }

    fn standings(&self, proposals: Vec<Proposal>) -> Answer<'_, Vec<Standing>> {
        self.run(|state| {
            let stands = |proposal: Proposal| {
                let Proposal {
                    user,
                    service,
                    hash,
                } = proposal;
                let own = state.row(|row| row.user == user && row.service == service);
                let is_taken = |hash: [u8; 32]| state.row(|row| row.hash == hash).is_some();
                Standing {
                    has_user: state.users.contains_key(&user),
                    user_disabled: state.disabled.contains_key(&user),
                    own: own.map(|(_, stored)| stored.row.hash),
                    is_taken: hash.is_some_and(is_taken),
                }
            };
            proposals.into_iter().map(stands).collect()
        })
    }

    fn change_terms(&self, public: &PublicId, before: Terms, after: Terms) -> Answer<'_, bool> {
        self.run(|state| match state.row_mut(public) {
            Some(stored) if stored.row.terms() == before => {
                stored.row.set_terms(after);
                true
            }
            _ => false,
        })
    }

    fn replace_credential(
        &self,
        public: &PublicId,
        sealed: Vec<u8>,
        at: Timestamp,
    ) -> Answer<'_, bool> {
        self.run(|state| match state.row_mut(public) {
            Some(stored) => {
                stored.sealed_credential = sealed;
                stored.row.credential = CredentialState::Good;
                stored.row.credential_at = at;
                true
            }
            None => false,
        })
    }

    fn set_credential_state(
        &self,
        public: &PublicId,
        sealed: &[u8],
        state: CredentialState,
    ) -> Answer<'_, bool> {
        self.run(|all| match all.row_mut(public) {
            Some(stored) if stored.sealed_credential == sealed => {
                let known = &mut stored.row.credential;
                let both = known.expired_at().is_some() && state.expired_at().is_some();
                if !both {
                    *known = state;
                }
                true
            }
            _ => false,
        })
    }

    fn rotate_instance(&self, rotation: Rotation) -> Answer<'_, bool> {
        self.run(|state| match state.row_mut(&rotation.public) {
            Some(stored) if stored.row.hash == rotation.old_hash => {
                stored.row.hash = rotation.new_hash;
                stored.row.rotated_at = Some(rotation.at);
                stored.sealed_id = rotation.sealed_id;
                state.end_sessions(&rotation.public);
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

    fn stored_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<StoredInstance>> {
        self.run(|state| {
            state
                .row(|row| row.hash == *hash)
                .map(|(_, stored)| stored.clone())
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
        filter: InstanceFilter,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<InstanceRow, InstanceCursor>> {
        let is_meant = move |row: &InstanceRow| {
            filter.user.as_ref().is_none_or(|user| row.user == *user)
                && filter.service.as_ref().is_none_or(|of| row.service == *of)
                && filter
                    .active
                    .is_none_or(|(active, now)| row.is_active(now) == active)
        };
        self.run(|state| {
            state.page(after, limit, |stored| {
                is_meant(&stored.row).then(|| stored.row.clone())
            })
        })
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

    fn stored_instances(
        &self,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<StoredInstance, InstanceCursor>> {
        self.run(|state| state.page(after, limit, |stored| Some(stored.clone())))
    }

    fn reseal(&self, values: Vec<Reseal>) -> Answer<'_, ()> {
        let swap = |sealed: &mut Vec<u8>, swap: Option<Swap>| {
            if let Some(swap) = swap.filter(|swap| swap.old == *sealed) {
                *sealed = swap.new;
            }
        };
        self.run(move |state| {
            for Reseal {
                public,
                id,
                credential,
            } in values
            {
                if let Some(stored) = state.row_mut(&public) {
                    swap(&mut stored.sealed_id, id);
                    swap(&mut stored.sealed_credential, credential);
                }
            }
        })
    }

    fn remove_instance(&self, public: &PublicId, stays: Stays) -> Answer<'_, Option<InstanceRow>> {
        self.run(|state| state.remove(public, stays))
    }

    fn kept_terms(&self, user: &UserId, service: &ServiceType) -> Answer<'_, Option<Terms>> {
        self.run(|state| state.kept.get(&(user.clone(), service.clone())).cloned())
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

    fn check(&self, key: &CheckKey, now: Timestamp) -> Answer<'_, Option<Check>> {
        self.run(|state| {
            let known = state.checks.get(key).copied();
            known.filter(|check| now < check.until)
        })
    }

    fn put_check(&self, key: CheckKey, check: Check) -> Answer<'_, ()> {
        self.run(|state| state.put_check(key, check))
    }

    fn forget_checks(&self, user: &UserId, service: &ServiceType) -> Answer<'_, ()> {
        self.run(|state| state.forget_checks(user, service))
    }

    fn forget_checks_before(&self, now: Timestamp, limit: u32) -> Answer<'_, u64> {
        self.run(|state| state.forget_checks_before(now, limit))
    }

    fn put_session(&self, session: SessionRow) -> Answer<'_, bool> {
        self.run(|state| state.put_session(session))
    }

    fn session(&self, key: &[u8; 32]) -> Answer<'_, Option<SessionRow>> {
        self.run(|state| state.sessions.get(key).cloned())
    }

    fn end_session(&self, key: &[u8; 32]) -> Answer<'_, bool> {
        self.run(|state| state.sessions.remove(key).is_some())
    }

    fn end_sessions(&self, instance: &PublicId) -> Answer<'_, u64> {
        self.run(|state| state.end_sessions(instance))
    }

    fn touch_sessions(&self, used: Vec<([u8; 32], Timestamp)>) -> Answer<'_, ()> {
        self.run(|state| state.touch_sessions(used))
    }

    fn forget_sessions_before(&self, before: Timestamp, limit: u32) -> Answer<'_, u64> {
        self.run(|state| state.forget_sessions_before(before, limit))
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

    fn add_usage(&self, rows: Vec<UsageRow>) -> Answer<'_, ()> {
        self.run(|state| state.add_usage(rows))
    }

    fn usage(
        &self,
        filter: &UsageFilter,
        after: Option<&UsageKey>,
        limit: u32,
    ) -> Answer<'_, Page<UsageRow, UsageKey>> {
        self.run(|state| state.usage(filter, after, limit))
    }

    fn request_counts(&self, user: &UserId, from: Day) -> Answer<'_, Vec<(ServiceType, u64)>> {
        self.run(|state| state.request_counts(user, from))
    }

    fn forget_usage_before(&self, day: Day, limit: u32) -> Answer<'_, u64> {
        self.run(|state| state.forget_usage_before(day, limit))
    }

    fn append_audit(&self, entries: Vec<AuditEntry>) -> Answer<'_, ()> {
        self.run(|state| state.append_audit(entries))
    }

    fn audit(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Answer<'_, Vec<AuditRow>> {
        self.run(|state| state.audit(filter, before, limit))
    }

    fn forget_audit_before(&self, before: Timestamp, limit: u32) -> Answer<'_, u64> {
        self.run(|state| state.forget_audit_before(before, limit))
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

    fn swap_settings(&self, guard: Setting, changes: Vec<Setting>) -> Answer<'_, bool> {
        self.run(move |state| {
            if state.settings.get(&guard.name) != guard.value.as_ref() {
                return false;
            }
            for Setting { name, value } in changes {
                match value {
                    Some(value) => state.settings.insert(name, value),
                    None => state.settings.remove(&name),
                };
            }
            true
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        self.lock().closed = true;
        Box::pin(std::future::ready(Ok(())))
    }
}
