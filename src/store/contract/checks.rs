//! What is remembered of credentials that were checked.

use super::{add_user, at, service, user};
use crate::store::*;

fn key(owner: &str, of: &str, n: u8) -> CheckKey {
    CheckKey {
        user: user(owner),
        service: service(of),
        hash: [n; 32],
    }
}

fn check(is_good: bool, asked: i64, until: i64) -> Check {
    Check {
        is_good,
        asked_at: at(asked),
        until: at(until),
    }
}

pub(super) async fn checks_are_remembered_for_their_user_only(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add_user(&store, "bob", 2).await;
    let (alices, known) = (key("alice", "figma", 1), async |key: &CheckKey, now| {
        store.check(key, at(now)).await.unwrap()
    });
    assert_eq!(known(&alices, 1).await, None);
    let good = check(true, 5, 50);
    store.put_check(alices.clone(), good).await.unwrap();
    assert_eq!(known(&alices, 49).await, Some(good));
    assert_eq!(known(&alices, 50).await, None, "too old");
    for other in [
        key("bob", "figma", 1),
        key("alice", "demo", 1),
        key("alice", "figma", 2),
    ] {
        assert_eq!(known(&other, 6).await, None);
    }
    // The younger word counts, in whatever order they come.
    let wrong = check(false, 9, 60);
    store.put_check(alices.clone(), wrong).await.unwrap();
    store.put_check(alices.clone(), good).await.unwrap();
    assert_eq!(known(&alices, 10).await, Some(wrong));
    // Nobody's is not kept, and what is kept goes with its user.
    store
        .put_check(key("carol", "figma", 1), good)
        .await
        .unwrap();
    assert_eq!(known(&key("carol", "figma", 1), 6).await, None);
    store.remove_user(&user("alice")).await.unwrap();
    add_user(&store, "alice", 3).await;
    assert_eq!(known(&alices, 10).await, None);
}

pub(super) async fn checks_are_few_for_each_user(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add_user(&store, "bob", 2).await;
    let bobs = key("bob", "figma", 1);
    store
        .put_check(bobs.clone(), check(true, 0, 900))
        .await
        .unwrap();
    let most = u8::try_from(CHECKS_MAX).unwrap();
    for n in 1..=most + 3 {
        let answer = check(true, n.into(), 900);
        store
            .put_check(key("alice", "figma", n), answer)
            .await
            .unwrap();
    }
    for n in 1..=most + 3 {
        let known = store.check(&key("alice", "figma", n), at(500)).await;
        assert_eq!(known.unwrap().is_some(), n > 3, "{n}");
    }
    assert!(store.check(&bobs, at(500)).await.unwrap().is_some());
}

pub(super) async fn checks_are_forgotten_when_asked_to_or_old(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    for n in 1..=4 {
        let answer = check(true, 1, i64::from(n) * 10);
        store
            .put_check(key("alice", "figma", n), answer)
            .await
            .unwrap();
    }
    store
        .put_check(key("alice", "demo", 1), check(true, 1, 99))
        .await
        .unwrap();
    let forget = async |now, limit| store.forget_checks_before(at(now), limit).await.unwrap();
    assert_eq!(forget(9, 10).await, 0);
    assert_eq!(forget(20, 1).await, 1);
    assert_eq!(forget(20, 9).await, 1);
    assert!(
        store
            .check(&key("alice", "figma", 3), at(2))
            .await
            .unwrap()
            .is_some()
    );
    store
        .forget_checks(&user("alice"), &service("figma"))
        .await
        .unwrap();
    assert_eq!(
        store.check(&key("alice", "figma", 3), at(2)).await.unwrap(),
        None
    );
    assert!(
        store
            .check(&key("alice", "demo", 1), at(2))
            .await
            .unwrap()
            .is_some()
    );
}
