//! Usage and the audit log.

use std::collections::BTreeMap;

use super::state::State;
use crate::ids::{Day, ServiceType, Timestamp, UserId};
use crate::store::{AuditEntry, AuditFilter, AuditRow, Page, UsageFilter, UsageKey, UsageRow};

impl State {
    pub(super) fn add_usage(&mut self, rows: Vec<UsageRow>) {
        for UsageRow { key, usage } in rows {
            self.usage.entry(key).or_default().add(&usage);
        }
    }

    pub(super) fn usage(
        &self,
        filter: &UsageFilter,
        after: Option<&UsageKey>,
        limit: u32,
    ) -> Page<UsageRow, UsageKey> {
        let behind = |key: &UsageKey| after.is_none_or(|after| key > after);
        let mut found = self
            .usage
            .iter()
            .filter(|&(key, _)| behind(key) && filter.takes(key));
        let items: Vec<_> = found
            .by_ref()
            .take(limit as usize)
            .map(|(key, usage)| UsageRow {
                key: key.clone(),
                usage: usage.clone(),
            })
            .collect();
        let last = items.last().map(|row| row.key.clone());
        let next = found.next().and(last);
        Page { items, next }
    }

    pub(super) fn request_counts(&self, user: &UserId, from: Day) -> Vec<(ServiceType, u64)> {
        let mut counts: BTreeMap<ServiceType, u64> = BTreeMap::new();
        for (key, usage) in &self.usage {
            if key.user == *user && key.day >= from {
                *counts.entry(key.service.clone()).or_default() += usage.requests;
            }
        }
        counts.into_iter().collect()
    }

    pub(super) fn forget_usage_before(&mut self, day: Day, limit: u32) -> u64 {
        let old = self.usage.keys().filter(|key| key.day < day);
        let old: Vec<_> = old.take(limit as usize).cloned().collect();
        for key in &old {
            self.usage.remove(key);
        }
        old.len() as u64
    }

    pub(super) fn append_audit(&mut self, entries: Vec<AuditEntry>) {
        for entry in entries {
            let number = self.number();
            self.audit.insert(number, entry);
        }
    }

    pub(super) fn audit(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Vec<AuditRow> {
        let earlier = self.audit.range(..before.unwrap_or(i64::MAX)).rev();
        let wanted = earlier.filter(|(_, entry)| filter.admits(entry));
        let rows = wanted.map(|(number, entry)| AuditRow {
            number: *number,
            entry: entry.clone(),
        });
        rows.take(limit as usize).collect()
    }

    pub(super) fn forget_audit_before(&mut self, before: Timestamp, limit: u32) -> u64 {
        let old = self.audit.iter().filter(|(_, entry)| entry.at < before);
        let mut old: Vec<(Timestamp, i64)> = old.map(|(n, entry)| (entry.at, *n)).collect();
        old.sort_unstable();
        old.truncate(limit as usize);
        for (_, number) in &old {
            self.audit.remove(number);
        }
        old.len() as u64
    }
}
