//! What every backend promises of the audit log.

use super::{at, public, service, user};
use crate::store::{AuditEntry, AuditFilter, StoreHandle};

fn entry(n: u8) -> AuditEntry {
    AuditEntry {
        at: at(i64::from(n)),
        actor: "admin:7".into(),
        action: "instance.rotate".into(),
        user: Some(user("alice")),
        service: Some(service("figma")),
        public: Some(public(n)),
        address: (n > 1).then(|| format!("192.0.2.{n}")),
        request_id: None,
        detail: (n > 1).then(|| format!("entry {n}")),
    }
}

/// The times of what the filter lets through, newest first.
async fn times(store: &StoreHandle, filter: AuditFilter) -> Vec<i64> {
    let rows = store.audit(filter, None, 100).await.unwrap();
    rows.iter().map(|row| row.entry.at.as_millis()).collect()
}

pub(super) async fn the_audit_log_is_read_backwards(store: StoreHandle) {
    store.append_audit(vec![entry(1), entry(2)]).await.unwrap();
    store.append_audit(vec![entry(3)]).await.unwrap();
    let all = AuditFilter::default;
    let newest = store.audit(all(), None, 2).await.unwrap();
    let entries: Vec<_> = newest.iter().map(|row| row.entry.clone()).collect();
    assert_eq!(entries, [entry(3), entry(2)]);
    let before = Some(newest[1].number);
    let older = store.audit(all(), before, 2).await.unwrap();
    assert_eq!(older.len(), 1);
    assert_eq!(older[0].entry, entry(1));
}

pub(super) async fn the_audit_log_is_filtered(store: StoreHandle) {
    let other = AuditEntry {
        actor: "user:bob".into(),
        action: "instance.remove".into(),
        user: Some(user("bob")),
        ..entry(2)
    };
    let refused = AuditEntry {
        action: "router.refused".into(),
        user: None,
        service: None,
        public: None,
        ..entry(3)
    };
    let foreign = AuditEntry {
        action: "instances".into(),
        service: Some(service("slack")),
        ..entry(4)
    };
    let all = vec![entry(1), other, refused, foreign];
    store.append_audit(all).await.unwrap();

    let none = AuditFilter::default;
    let by_action = |action: &str| AuditFilter {
        action: Some(action.to_owned()),
        ..none()
    };
    assert_eq!(times(&store, none()).await, [4, 3, 2, 1]);
    assert_eq!(times(&store, by_action("")).await, [4, 3, 2, 1]);
    assert_eq!(times(&store, by_action("instance")).await, [4, 2, 1]);
    assert_eq!(times(&store, by_action("instance.")).await, [2, 1]);
    assert_eq!(times(&store, by_action("instance.rotate")).await, [1]);
    for nothing in ["instance.rotated", "%"] {
        assert!(times(&store, by_action(nothing)).await.is_empty());
    }
    let of_alice = AuditFilter {
        user: Some(user("alice")),
        ..none()
    };
    assert_eq!(times(&store, of_alice.clone()).await, [4, 1]);
    let by_actor = |actor: &str| AuditFilter {
        actor: Some(actor.to_owned()),
        ..none()
    };
    assert_eq!(times(&store, by_actor("user:bob")).await, [2]);
    assert_eq!(times(&store, by_actor("admin:7")).await, [4, 3, 1]);
    assert!(times(&store, by_actor("admin")).await.is_empty());
    let of_slack = AuditFilter {
        service: Some(service("slack")),
        ..of_alice
    };
    assert_eq!(times(&store, of_slack).await, [4]);
    let of_one = AuditFilter {
        public: Some(public(2)),
        ..none()
    };
    assert_eq!(times(&store, of_one).await, [2]);
    let between = AuditFilter {
        since: Some(at(2)),
        until: Some(at(4)),
        ..none()
    };
    assert_eq!(times(&store, between.clone()).await, [3, 2]);
    // A page of what is filtered is a page, too.
    let newest = store.audit(between.clone(), None, 1).await.unwrap();
    let before = Some(newest[0].number);
    let next = store.audit(between, before, 1).await.unwrap();
    assert_eq!(next[0].entry.at, at(2));
}

pub(super) async fn old_audit_entries_are_forgotten_in_steps(store: StoreHandle) {
    // Not written in the order of their times.
    let all = [3, 1, 2, 5, 4].map(entry).to_vec();
    store.append_audit(all).await.unwrap();
    let forget = |before, limit| store.forget_audit_before(at(before), limit);
    assert_eq!(forget(1, 10).await.unwrap(), 0);
    assert_eq!(forget(4, 2).await.unwrap(), 2);
    assert_eq!(times(&store, AuditFilter::default()).await, [4, 5, 3]);
    assert_eq!(forget(4, 2).await.unwrap(), 1);
    assert_eq!(forget(4, 2).await.unwrap(), 0);
    // A number is never given twice: cursors stay true.
    let newest = store.audit(AuditFilter::default(), None, 1).await.unwrap();
    assert_eq!(forget(9, 10).await.unwrap(), 2);
    store.append_audit(vec![entry(6)]).await.unwrap();
    let next = store.audit(AuditFilter::default(), None, 1).await.unwrap();
    assert!(next[0].number > newest[0].number);
}
