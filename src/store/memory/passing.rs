//! What is known for a while: checked credentials and sessions.

use super::state::State;
use crate::ids::{PublicId, ServiceType, Timestamp, UserId};
use crate::store::{CHECKS_MAX, Check, CheckKey, SESSIONS_MAX, SessionRow};

impl State {
    pub(super) fn put_check(&mut self, key: CheckKey, check: Check) {
        let younger = |known: &Check| known.asked_at > check.asked_at;
        if !self.users.contains_key(&key.user) || self.checks.get(&key).is_some_and(younger) {
            return;
        }
        let user = key.user.clone();
        self.checks.insert(key, check);
        let own = self.checks.iter().filter(|(key, _)| key.user == user);
        let mut own: Vec<_> = own
            .map(|(key, check)| (check.asked_at, key.clone()))
            .collect();
        own.sort();
        let beyond = own.len().saturating_sub(CHECKS_MAX as usize);
        for (_, key) in own.drain(..beyond) {
            self.checks.remove(&key);
        }
    }

    pub(super) fn forget_checks(&mut self, user: &UserId, service: &ServiceType) {
        let is_meant = |key: &CheckKey| key.user == *user && key.service == *service;
        self.checks.retain(|key, _| !is_meant(key));
    }

    pub(super) fn forget_checks_before(&mut self, now: Timestamp, limit: u32) -> u64 {
        let old = self.checks.iter().filter(|(_, check)| check.until <= now);
        let old: Vec<_> = old
            .map(|(key, _)| key.clone())
            .take(limit as usize)
            .collect();
        for key in &old {
            self.checks.remove(key);
        }
        old.len() as u64
    }

    pub(super) fn put_session(&mut self, mut session: SessionRow) -> bool {
        let public = session.instance.clone();
        if self.row(|row| row.public == public).is_none() {
            return false;
        }
        if let Some(known) = self.sessions.get(&session.key) {
            session.used_at = session.used_at.max(known.used_at);
        }
        let newest = session.key;
        self.sessions.insert(newest, session);
        let others = self.sessions.values();
        let others = others.filter(|it| it.instance == public && it.key != newest);
        let mut others: Vec<_> = others.map(|it| (it.used_at, it.key)).collect();
        others.sort_unstable();
        let beyond = (others.len() + 1).saturating_sub(SESSIONS_MAX as usize);
        for (_, key) in others.drain(..beyond) {
            self.sessions.remove(&key);
        }
        true
    }

    pub(super) fn touch_sessions(&mut self, used: Vec<([u8; 32], Timestamp)>) {
        for (key, at) in used {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.used_at = session.used_at.max(at);
            }
        }
    }

    pub(super) fn forget_sessions_before(&mut self, before: Timestamp, limit: u32) -> u64 {
        let old = self.sessions.values().filter(|it| it.used_at < before);
        let mut old: Vec<_> = old.map(|it| (it.used_at, it.key)).collect();
        old.sort_unstable();
        old.truncate(limit as usize);
        for (_, key) in &old {
            self.sessions.remove(key);
        }
        old.len() as u64
    }

    pub(super) fn end_sessions(&mut self, instance: &PublicId) -> u64 {
        let before = self.sessions.len();
        self.sessions.retain(|_, it| it.instance != *instance);
        (before - self.sessions.len()) as u64
    }

    /// Forgets those whose instance is not there any more.
    pub(super) fn end_sessions_of_nobody(&mut self) {
        let instances = &self.instances;
        self.sessions.retain(|_, session| {
            let mut rows = instances.values().map(|stored| &stored.row);
            rows.any(|row| row.public == session.instance)
        });
    }
}
