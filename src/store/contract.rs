//! The tests every backend passes: what [`Store`] promises, without saying how.
//!
//! Each test is a function over a fresh store; [`for_each_backend`] runs all of them for each.

mod life;

use std::sync::Arc;

use life::{
    a_credential_is_marked_only_while_it_is_the_one_that_was_checked,
    instances_are_found_by_user_service_and_state, last_use_moves_forward_only,
    many_instances_are_added_in_one_call, terms_change_only_from_what_they_were,
    terms_stay_for_the_next_instance_when_asked_to, what_stands_in_the_way_is_told,
};

use crate::ids::{AppName, Port, PublicId, ServiceType, Timestamp, UserId};
use crate::store::*;
use audit::{
    old_audit_entries_are_forgotten_in_steps, the_audit_log_is_filtered,
    the_audit_log_is_read_backwards,
};
use checks::{
    checks_are_few_for_each_user, checks_are_forgotten_when_asked_to_or_old,
    checks_are_remembered_for_their_user_only,
};
use groups::users_are_put_into_groups;
use sessions::{
    a_session_is_kept_in_the_place_of_the_one_before, sessions_are_few_for_each_instance,
    sessions_end_with_their_instance_and_its_url, the_last_use_of_sessions_moves_forward_only,
    unused_sessions_are_forgotten_in_parts,
};

mod audit;
mod checks;
mod groups;
mod sessions;
mod usage;

use self::usage::{
    many_who_add_usage_lose_nothing, old_usage_is_forgotten_in_parts, usage_adds_up,
    usage_is_filtered_and_comes_in_pages, usage_outlives_its_user,
};

/// Names each test once per backend.
macro_rules! for_each_backend {
    ($($test:ident,)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(std::sync::Arc::new(crate::store::Memory::new())).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                let home = tempfile::tempdir().unwrap();
                let store = crate::store::Sqlite::open(&home.path().join("mcpm.db")).unwrap();
                super::$test(std::sync::Arc::new(store)).await;
            })*
        }
    };
}

for_each_backend! {
    a_user_is_added_once_with_their_token,
    a_user_is_ensured_once_without_a_token,
    users_come_in_the_order_of_their_ids,
    users_are_put_into_groups,
    removing_a_user_takes_all_that_is_theirs_and_nothing_else,
    a_user_has_one_instance_of_a_service,
    an_instance_needs_its_user,
    a_replaced_credential_keeps_the_rest,
    rotation_needs_the_id_it_replaces,
    removing_an_instance_takes_its_credential,
    pages_cover_all_instances_once,
    a_value_is_sealed_anew_only_while_it_is_the_old_one,
    settings_are_swapped_all_at_once_or_not_at_all,
    last_use_moves_forward_only,
    terms_change_only_from_what_they_were,
    terms_stay_for_the_next_instance_when_asked_to,
    many_instances_are_added_in_one_call,
    a_credential_is_marked_only_while_it_is_the_one_that_was_checked,
    what_stands_in_the_way_is_told,
    instances_are_found_by_user_service_and_state,
    checks_are_remembered_for_their_user_only,
    checks_are_few_for_each_user,
    checks_are_forgotten_when_asked_to_or_old,
    a_session_is_kept_in_the_place_of_the_one_before,
    sessions_end_with_their_instance_and_its_url,
    sessions_are_few_for_each_instance,
    the_last_use_of_sessions_moves_forward_only,
    unused_sessions_are_forgotten_in_parts,
    published_services_replace_the_list,
    health_is_the_last_record_of_each_service,
    usage_adds_up,
    usage_is_filtered_and_comes_in_pages,
    usage_outlives_its_user,
    old_usage_is_forgotten_in_parts,
    many_who_add_usage_lose_nothing,
    the_audit_log_is_read_backwards,
    the_audit_log_is_filtered,
    old_audit_entries_are_forgotten_in_steps,
    settings_are_set_and_kept,
    many_writers_are_all_acknowledged,
    a_closed_store_says_so,
}

mod tokens;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn service(name: &str) -> ServiceType {
    ServiceType::parse(name).unwrap()
}

fn public(n: u8) -> PublicId {
    PublicId::parse(&format!(
        "ins_{}",
        char::from(b'a' + n).to_string().repeat(12)
    ))
    .unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn token(n: u8, owner: TokenOwner) -> NewToken {
    let (name, created_at) = (Some(format!("token {n}")), at(i64::from(n)));
    NewToken {
        hash: [n; 32],
        owner,
        name,
        created_at,
        expires_at: None,
    }
}

async fn add_user(store: &StoreHandle, id: &str, n: u8) -> bool {
    let new = NewUser {
        id: user(id),
        created_at: at(5),
        group: None,
    };
    store
        .add_user(new, token(n, TokenOwner::User(user(id))))
        .await
        .unwrap()
}

fn instance(owner: &str, of: &str, n: u8) -> NewInstance {
    NewInstance {
        public: public(n),
        user: user(owner),
        service: service(of),
        hash: [n; 32],
        sealed_id: vec![n, 1],
        sealed_credential: vec![n, 2],
        created_at: at(i64::from(n)),
        label: None,
        expires_at: None,
        disabled_at: None,
    }
}

async fn add(store: &StoreHandle, owner: &str, of: &str, n: u8) -> Added {
    store.add_instance(instance(owner, of, n)).await.unwrap()
}

async fn a_user_is_added_once_with_their_token(store: StoreHandle) {
    assert!(add_user(&store, "alice", 1).await);
    assert!(!add_user(&store, "alice", 2).await);
    let alice = store.user(&user("alice")).await.unwrap().unwrap();
    assert_eq!(
        alice,
        UserRow {
            id: user("alice"),
            created_at: at(5),
            instances: 0,
            disabled_at: None,
            group: None,
        }
    );
    let first = store.token_by_hash(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(first.owner, TokenOwner::User(user("alice")));
    assert_eq!(store.token_by_hash(&[2; 32]).await.unwrap(), None);
    assert_eq!(store.user(&user("bob")).await.unwrap(), None);
}

async fn a_user_is_ensured_once_without_a_token(store: StoreHandle) {
    let ensure = async || {
        let new = NewUser {
            id: user("alice"),
            created_at: at(5),
            group: None,
        };
        store.ensure_user(new).await.unwrap()
    };
    assert!(ensure().await);
    assert!(!ensure().await);
    let alice = store.user(&user("alice")).await.unwrap().unwrap();
    assert_eq!((alice.created_at, alice.instances), (at(5), 0));
    let owner = TokenOwner::User(user("alice"));
    assert_eq!(store.tokens(&owner).await.unwrap(), []);
    assert!(!add_user(&store, "alice", 1).await);
    assert_eq!(add(&store, "alice", "demo", 2).await, Added::Done);
}

async fn users_come_in_the_order_of_their_ids(store: StoreHandle) {
    for (n, id) in (1..).zip(["carol", "alice", "Bob", "émile"]) {
        assert!(add_user(&store, id, n).await);
    }
    let ids = |rows: Vec<UserRow>| rows.into_iter().map(|row| row.id.to_string()).collect();
    let all: Vec<String> = ids(store.users(None, 10).await.unwrap());
    assert_eq!(all, ["Bob", "alice", "carol", "émile"]);
    let part: Vec<String> = ids(store.users(Some(&user("alice")), 1).await.unwrap());
    assert_eq!(part, ["carol"]);
    assert_eq!(store.users(Some(&user("émile")), 1).await.unwrap(), []);
}

async fn removing_a_user_takes_all_that_is_theirs_and_nothing_else(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add_user(&store, "bob", 2).await;
    add(&store, "alice", "figma", 1).await;
    add(&store, "alice", "demo", 2).await;
    add(&store, "bob", "figma", 3).await;
    assert_eq!(
        store.user(&user("alice")).await.unwrap().unwrap().instances,
        2
    );

    let gone = store.remove_user(&user("alice")).await.unwrap().unwrap();
    assert_eq!(
        gone.iter().map(|row| row.hash[0]).collect::<Vec<_>>(),
        [2, 1]
    );
    assert_eq!(store.remove_user(&user("alice")).await.unwrap(), None);
    assert_eq!(store.token_by_hash(&[1; 32]).await.unwrap(), None);
    assert_eq!(store.instance_by_hash(&[1; 32]).await.unwrap(), None);
    assert_eq!(store.instances_of(&user("alice")).await.unwrap(), []);
    assert!(
        !store
            .replace_credential(&public(1), vec![9], at(9))
            .await
            .unwrap()
    );
    assert_eq!(
        store.instance_counts().await.unwrap(),
        [(service("figma"), 1)]
    );
    assert!(store.token_by_hash(&[2; 32]).await.unwrap().is_some());
    // The same name again is somebody new.
    assert!(add_user(&store, "alice", 1).await);
    assert_eq!(store.instances_of(&user("alice")).await.unwrap(), []);
}

async fn a_user_has_one_instance_of_a_service(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add_user(&store, "bob", 2).await;
    assert_eq!(add(&store, "alice", "figma", 1).await, Added::Done);
    assert_eq!(add(&store, "alice", "figma", 2).await, Added::Taken);
    let same_hash = NewInstance {
        hash: [1; 32],
        ..instance("bob", "figma", 3)
    };
    assert_eq!(store.add_instance(same_hash).await.unwrap(), Added::Taken);
    let same_number = NewInstance {
        public: public(1),
        ..instance("bob", "figma", 3)
    };
    assert_eq!(store.add_instance(same_number).await.unwrap(), Added::Taken);
    assert_eq!(add(&store, "bob", "figma", 3).await, Added::Done);
    assert_eq!(add(&store, "alice", "demo", 4).await, Added::Done);

    let found = store
        .instance_of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.sealed_id, [1, 1]);
    assert_eq!(found.sealed_credential, [1, 2]);
    let row = InstanceRow {
        public: public(1),
        user: user("alice"),
        service: service("figma"),
        hash: [1; 32],
        created_at: at(1),
        last_used_at: None,
        expires_at: None,
        disabled_at: None,
        owner_disabled: false,
        label: None,
        rotated_at: None,
        credential: CredentialState::Good,
        credential_at: at(1),
    };
    assert_eq!(found.row, row);
    assert_eq!(
        store.instance_by_hash(&[1; 32]).await.unwrap(),
        Some(row.clone())
    );
    assert!(store.stored_by_hash(&[1; 32]).await.unwrap() == Some(found));
    assert!(store.stored_by_hash(&[9; 32]).await.unwrap().is_none());
    assert_eq!(
        store.instance_by_public(&public(1)).await.unwrap(),
        Some(row)
    );
    let own = store.instances_of(&user("alice")).await.unwrap();
    let services: Vec<_> = own
        .iter()
        .map(|stored| stored.row.service.as_str())
        .collect();
    assert_eq!(services, ["demo", "figma"]);
}

async fn an_instance_needs_its_user(store: StoreHandle) {
    assert_eq!(add(&store, "nobody", "figma", 1).await, Added::NoUser);
    assert_eq!(store.instance_by_hash(&[1; 32]).await.unwrap(), None);
}

async fn a_replaced_credential_keeps_the_rest(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add(&store, "alice", "figma", 1).await;
    let before = store
        .instance_of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    assert!(
        store
            .replace_credential(&public(1), vec![7, 7], at(9))
            .await
            .unwrap()
    );
    let after = store
        .instance_of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        after,
        StoredInstance {
            row: InstanceRow {
                credential_at: at(9),
                ..before.row
            },
            sealed_credential: vec![7, 7],
            sealed_id: before.sealed_id,
        }
    );
    let row = store.instance_by_public(&public(1)).await.unwrap();
    assert_eq!(row, Some(after.row));
    assert!(
        !store
            .replace_credential(&public(2), vec![7], at(9))
            .await
            .unwrap()
    );
}

async fn rotation_needs_the_id_it_replaces(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add(&store, "alice", "figma", 1).await;
    let rotation = Rotation {
        public: public(1),
        old_hash: [1; 32],
        new_hash: [2; 32],
        sealed_id: vec![8],
        at: at(9),
    };
    assert!(store.rotate_instance(rotation.clone()).await.unwrap());
    assert!(!store.rotate_instance(rotation).await.unwrap());
    assert_eq!(store.instance_by_hash(&[1; 32]).await.unwrap(), None);
    let found = store
        .instance_of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.row.hash, found.row.public), ([2; 32], public(1)));
    assert_eq!(found.row.rotated_at, Some(at(9)));
    assert_eq!(
        (found.sealed_id, found.sealed_credential),
        (vec![8], vec![1, 2])
    );
}

async fn removing_an_instance_takes_its_credential(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add(&store, "alice", "figma", 1).await;
    let remove = async || store.remove_instance(&public(1), Stays::Nothing).await;
    let gone = remove().await.unwrap().unwrap();
    assert_eq!(gone.hash, [1; 32]);
    assert_eq!(remove().await.unwrap(), None);
    assert!(
        !store
            .replace_credential(&public(1), vec![7], at(9))
            .await
            .unwrap()
    );
    assert_eq!(add(&store, "alice", "figma", 1).await, Added::Done);
}

async fn pages_cover_all_instances_once(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    for n in 0..7 {
        add(&store, "alice", &format!("s{n}"), n).await;
    }
    for limit in [1, 2, 3, 7, 100] {
        let (mut after, mut seen, mut active) = (None, Vec::new(), Vec::new());
        loop {
            let page = store
                .instances(InstanceFilter::default(), after, limit)
                .await
                .unwrap();
            let loaded = store.active_instances(at(1), after, limit).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            assert_eq!(page.next, loaded.next);
            seen.extend(page.items.iter().map(|row| row.hash[0]));
            active.extend(
                loaded
                    .items
                    .iter()
                    .map(|stored| stored.sealed_credential[0]),
            );
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().unwrap());
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6], "{limit}");
        assert_eq!(active, seen);
    }
}

async fn a_value_is_sealed_anew_only_while_it_is_the_old_one(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    for (n, of) in (1..).zip(["a", "b", "c"]) {
        add(&store, "alice", of, n).await;
    }
    let off = Rotation {
        public: public(3),
        old_hash: [3; 32],
        new_hash: [9; 32],
        sealed_id: vec![9],
        at: at(9),
    };
    assert!(store.rotate_instance(off).await.unwrap());
    let swap = |n, which, new| {
        Some(Swap {
            old: vec![n, which],
            new: vec![new],
        })
    };
    let reseal = |n, id, credential| Reseal {
        public: public(n),
        id,
        credential,
    };
    let values = vec![
        reseal(1, swap(1, 1, 11), swap(1, 2, 12)),
        reseal(2, None, swap(2, 2, 22)),
        // Rotated meanwhile; and gone meanwhile.
        reseal(3, swap(3, 1, 31), swap(3, 2, 32)),
        reseal(4, swap(4, 1, 41), swap(4, 2, 42)),
    ];
    store.reseal(values.clone()).await.unwrap();
    store.reseal(values).await.unwrap();
    let expected = [
        (vec![11], vec![12]),
        (vec![2, 1], vec![22]),
        (vec![9], vec![32]),
    ];
    for limit in [1, 2, 9] {
        let (mut after, mut sealed) = (None, Vec::new());
        loop {
            let page = store.stored_instances(after, limit).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            let pairs = page.items.into_iter();
            sealed.extend(pairs.map(|one| (one.sealed_id, one.sealed_credential)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(sealed, expected, "{limit}");
    }
}

async fn settings_are_swapped_all_at_once_or_not_at_all(store: StoreHandle) {
    let set = |name: &str, value: Option<u8>| Setting {
        name: name.into(),
        value: value.map(|byte| vec![byte]),
    };
    let swap = async |guard, changes| store.swap_settings(guard, changes).await.unwrap();
    store.put_setting("b", vec![1]).await.unwrap();
    let changes = vec![set("a", Some(2)), set("b", None)];
    assert!(!swap(set("a", Some(1)), changes.clone()).await);
    assert!(!swap(set("b", Some(2)), changes.clone()).await);
    assert!(!swap(set("b", None), changes.clone()).await);
    assert_eq!(store.setting("a").await.unwrap(), None);
    assert!(swap(set("a", None), changes.clone()).await);
    assert_eq!(store.setting("a").await.unwrap(), Some(vec![2]));
    assert_eq!(store.setting("b").await.unwrap(), None);
    assert!(swap(set("a", Some(2)), vec![set("a", Some(3))]).await);
    assert!(!swap(set("a", None), changes).await);
    assert_eq!(store.setting("a").await.unwrap(), Some(vec![3]));
}

fn published(name: &str, port: u16) -> ServiceRow {
    ServiceRow {
        service: service(name),
        app: AppName::parse(&format!("mcp-{name}")).unwrap(),
        port: Port::new(port).unwrap(),
        display_name: name.to_uppercase(),
        category: None,
        spec: "{}".into(),
    }
}

async fn published_services_replace_the_list(store: StoreHandle) {
    let first = vec![published("a", 1), published("b", 2)];
    store.publish_services(first.clone(), at(1)).await.unwrap();
    assert_eq!(store.services().await.unwrap(), first);
    let second = vec![published("c", 3), published("b", 4)];
    store.publish_services(second, at(2)).await.unwrap();
    let sorted = vec![published("b", 4), published("c", 3)];
    assert_eq!(store.services().await.unwrap(), sorted);
    store.publish_services(first.clone(), at(3)).await.unwrap();
    assert_eq!(store.services().await.unwrap(), first);
}

async fn health_is_the_last_record_of_each_service(store: StoreHandle) {
    let record = |name: &str, good| HealthRow {
        service: service(name),
        last_check: Some(at(9)),
        response_us: Some(1200),
        consecutive_failures: 1,
        good_checks: good,
        total_checks: good + 1,
        last_failure: Some("HTTP 500".into()),
    };
    store
        .put_health(vec![record("b", 1), record("a", 2)])
        .await
        .unwrap();
    store.put_health(vec![record("b", 3)]).await.unwrap();
    assert_eq!(
        store.health().await.unwrap(),
        [record("a", 2), record("b", 3)]
    );
}

async fn settings_are_set_and_kept(store: StoreHandle) {
    assert_eq!(store.setting("a").await.unwrap(), None);
    assert_eq!(store.keep_setting("a", vec![1]).await.unwrap(), [1]);
    assert_eq!(store.keep_setting("a", vec![2]).await.unwrap(), [1]);
    store.put_setting("a", vec![3]).await.unwrap();
    store.put_setting("b", Vec::new()).await.unwrap();
    assert_eq!(store.setting("a").await.unwrap(), Some(vec![3]));
    assert_eq!(store.setting("b").await.unwrap(), Some(Vec::new()));
}

async fn many_writers_are_all_acknowledged(store: StoreHandle) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200u8 {
        let store = Arc::clone(&store);
        // Every fourth comes again, and only one of the two may be told that it was first.
        let id = format!("user {}", if n % 4 == 3 { n - 1 } else { n });
        tasks.spawn(async move { add_user(&store, &id, n).await });
    }
    let added = tasks
        .join_all()
        .await
        .into_iter()
        .filter(|added| *added)
        .count();
    assert_eq!(added, 150);
    assert_eq!(store.users(None, 1000).await.unwrap().len(), 150);
}

async fn a_closed_store_says_so(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(
        store.user(&user("alice")).await,
        Err(StoreError::Stopped)
    ));
    assert!(matches!(
        store.put_setting("a", vec![]).await,
        Err(StoreError::Stopped)
    ));
}
