//! What the store without a file holds, and what several of its methods need.

use std::collections::BTreeMap;

use crate::ids::{GroupName, PublicId, ServiceType, Timestamp, UserId};
use crate::store::{
    Added, AuditEntry, Check, CheckKey, ENDED_TOKENS_KEPT, HealthRow, InstanceCursor, InstanceRow,
    NewInstance, NewToken, NewUser, Page, ServiceRow, SessionRow, Stays, StoredInstance, Terms,
    TokenOwner, TokenRow, Usage, UsageKey, UserRow,
};

#[derive(Default)]
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) users: BTreeMap<UserId, Timestamp>,
    /// Those that are in a group.
    pub(super) groups: BTreeMap<UserId, GroupName>,
    /// Those that are switched off, and since when.
    pub(super) disabled: BTreeMap<UserId, Timestamp>,
    pub(super) tokens: BTreeMap<i64, TokenRow>,
    pub(super) instances: BTreeMap<i64, StoredInstance>,
    /// What stays of instances that were removed.
    pub(super) kept: BTreeMap<(UserId, ServiceType), Terms>,
    pub(super) checks: BTreeMap<CheckKey, Check>,
    pub(super) sessions: BTreeMap<[u8; 32], SessionRow>,
    pub(super) services: Vec<ServiceRow>,
    pub(super) health: BTreeMap<ServiceType, HealthRow>,
    pub(super) usage: BTreeMap<UsageKey, Usage>,
    pub(super) audit: BTreeMap<i64, AuditEntry>,
    pub(super) settings: BTreeMap<String, Vec<u8>>,
    pub(super) last_number: i64,
}

impl State {
    pub(super) fn number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn insert_user(&mut self, user: NewUser) {
        if let Some(group) = user.group {
            self.groups.insert(user.id.clone(), group);
        }
        self.users.insert(user.id, user.created_at);
    }

    pub(super) fn set_group(&mut self, id: &UserId, group: Option<GroupName>) -> bool {
        if !self.users.contains_key(id) {
            return false;
        }
        match group {
            Some(group) => self.groups.insert(id.clone(), group),
            None => self.groups.remove(id),
        };
        true
    }

    pub(super) fn grouped_users(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Vec<(UserId, GroupName)> {
        let rest = self
            .groups
            .iter()
            .filter(|&(id, _)| after.is_none_or(|after| id > after));
        rest.take(limit as usize)
            .map(|(id, group)| (id.clone(), group.clone()))
            .collect()
    }

    pub(super) fn push_token(&mut self, new: NewToken) -> i64 {
        let number = self.number();
        let NewToken {
            hash,
            owner,
            name,
            created_at,
            expires_at,
        } = new;
        let owner_disabled = match &owner {
            TokenOwner::User(id) => self.disabled.contains_key(id),
            TokenOwner::Admin => false,
        };
        let row = TokenRow {
            number,
            hash,
            owner,
            name,
            created_at,
            expires_at,
            revoked_at: None,
            last_used_at: None,
            owner_disabled,
        };
        self.tokens.insert(number, row);
        number
    }

    pub(super) fn forget_ended_tokens(&mut self, owner: &TokenOwner, now: Timestamp) {
        let ended = self.tokens.values();
        let ended = ended.filter(|token| token.owner == *owner && token.is_ended(now));
        let numbers: Vec<i64> = ended.map(|token| token.number).collect();
        let kept = ENDED_TOKENS_KEPT as usize;
        for number in &numbers[..numbers.len().saturating_sub(kept)] {
            self.tokens.remove(number);
        }
    }

    pub(super) fn row(
        &self,
        wanted: impl Fn(&InstanceRow) -> bool,
    ) -> Option<(i64, &StoredInstance)> {
        let mut all = self.instances.iter();
        all.find(|(_, stored)| wanted(&stored.row))
            .map(|(number, stored)| (*number, stored))
    }

    pub(super) fn add(&mut self, new: NewInstance) -> Added {
        if !self.users.contains_key(&new.user) {
            return Added::NoUser;
        }
        if self.disabled.contains_key(&new.user) {
            return Added::UserDisabled;
        }
        let clash = |row: &InstanceRow| {
            (row.user == new.user && row.service == new.service)
                || row.hash == new.hash
                || row.public == new.public
        };
        if self.row(clash).is_some() {
            return Added::Taken;
        }
        self.kept.remove(&(new.user.clone(), new.service.clone()));
        let number = self.number();
        self.instances.insert(number, new.into());
        Added::Done
    }

    pub(super) fn remove(&mut self, public: &PublicId, stays: Stays) -> Option<InstanceRow> {
        let (number, _) = self.row(|row| row.public == *public)?;
        self.end_sessions(public);
        let row = self.instances.remove(&number)?.row;
        let terms = Terms {
            label: None,
            ..row.terms()
        };
        if stays == Stays::Terms && terms != Terms::default() {
            let place = (row.user.clone(), row.service.clone());
            self.kept.insert(place, terms);
        }
        Some(row)
    }

    pub(super) fn row_mut(&mut self, public: &PublicId) -> Option<&mut StoredInstance> {
        self.instances
            .values_mut()
            .find(|stored| stored.row.public == *public)
    }

    pub(super) fn user_row(&self, id: &UserId) -> Option<UserRow> {
        let created_at = *self.users.get(id)?;
        let own = self
            .instances
            .values()
            .filter(|stored| stored.row.user == *id);
        Some(UserRow {
            id: id.clone(),
            created_at,
            instances: own.count() as u64,
            disabled_at: self.disabled.get(id).copied(),
            group: self.groups.get(id).cloned(),
        })
    }

    pub(super) fn of_user(&self, user: &UserId) -> Vec<StoredInstance> {
        let own = self
            .instances
            .values()
            .filter(|stored| stored.row.user == *user);
        let mut own: Vec<_> = own.cloned().collect();
        own.sort_by(|a, b| a.row.service.cmp(&b.row.service));
        own
    }

    pub(super) fn page<T>(
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
