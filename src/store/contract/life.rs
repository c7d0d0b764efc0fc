//! What happens to instances after they were made, and many that are added at once.

use super::{add, add_user, at, instance, public, service, user};
use crate::ids::Label;
use crate::store::*;

fn label(text: &str) -> Option<Label> {
    Some(Label::parse(text).unwrap())
}

pub(super) async fn terms_change_only_from_what_they_were(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    let new = NewInstance {
        label: label("old"),
        expires_at: Some(at(50)),
        ..instance("alice", "figma", 1)
    };
    assert_eq!(store.add_instance(new).await.unwrap(), Added::Done);
    let row = async || {
        let row = store.instance_by_public(&public(1)).await.unwrap();
        row.unwrap()
    };
    let first = row().await;
    assert!(first.is_active(at(49)) && !first.is_active(at(50)));
    let (before, after) = (
        first.terms(),
        Terms {
            label: label("new"),
            expires_at: None,
            disabled_at: Some(at(40)),
        },
    );
    let change = |before: &Terms, after: &Terms| {
        store.change_terms(&public(1), before.clone(), after.clone())
    };
    assert!(!change(&Terms::default(), &after).await.unwrap());
    assert_eq!(row().await, first, "nothing has changed");
    assert!(change(&before, &after).await.unwrap());
    assert!(!change(&before, &after).await.unwrap());
    let second = row().await;
    assert_eq!(second.terms(), after);
    assert!(!second.is_active(at(45)));
    let stored = store
        .instance_of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.row, second);
    assert_eq!(
        (stored.sealed_id, stored.sealed_credential),
        (vec![1, 1], vec![1, 2])
    );
    let active = store.active_instances(at(45), None, 10).await.unwrap();
    assert_eq!(active.items, []);
    assert!(change(&after, &Terms::default()).await.unwrap());
    let active = store.active_instances(at(45), None, 10).await.unwrap();
    assert_eq!(active.items.len(), 1);
    let nobodys = store.change_terms(&public(2), Terms::default(), after);
    assert!(!nobodys.await.unwrap());
}

pub(super) async fn a_credential_is_marked_only_while_it_is_the_one_that_was_checked(
    store: StoreHandle,
) {
    add_user(&store, "alice", 1).await;
    add(&store, "alice", "figma", 1).await;
    add(&store, "alice", "demo", 2).await;
    let expired = |n| CredentialState::Expired { since: at(n) };
    let set = async |n: u8, sealed: &[u8], state| {
        let done = store.set_credential_state(&public(n), sealed, state);
        done.await.unwrap()
    };
    let known = async |n: u8| {
        let row = store.instance_by_public(&public(n)).await.unwrap();
        row.unwrap().credential
    };
    assert_eq!(known(1).await, CredentialState::Good);
    assert!(!set(1, &[9, 9], expired(5)).await, "of an older one");
    assert!(!set(3, &[1, 2], expired(5)).await, "of nobody's");
    assert_eq!(known(1).await, CredentialState::Good);
    assert!(set(1, &[1, 2], expired(5)).await);
    assert!(set(1, &[1, 2], expired(8)).await);
    assert_eq!(known(1).await, expired(5), "when it was heard first");
    assert_eq!(known(2).await, CredentialState::Good);
    let stored = store
        .instance_of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.row.credential, expired(5));
    assert_eq!(stored.sealed_credential, [1, 2]);
    assert!(stored.row.is_active(at(9)), "it answers, and says why");
    assert!(set(1, &[1, 2], CredentialState::Good).await);
    assert_eq!(known(1).await, CredentialState::Good);

    assert!(set(1, &[1, 2], expired(6)).await);
    let replaced = store.replace_credential(&public(1), vec![7], at(9));
    assert!(replaced.await.unwrap());
    assert_eq!(known(1).await, CredentialState::Good, "a new one is good");
    assert!(!set(1, &[1, 2], expired(9)).await);
}

pub(super) async fn many_instances_are_added_in_one_call(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add(&store, "alice", "figma", 1).await;
    let rows = || {
        let taken_hash = NewInstance {
            hash: [1; 32],
            ..instance("dave", "demo", 6)
        };
        vec![
            instance("alice", "demo", 2),
            instance("alice", "figma", 3),
            instance("bob", "figma", 4),
            instance("bob", "demo", 5),
            taken_hash,
        ]
    };
    let strict = store.add_instances(rows(), None).await.unwrap();
    let (done, taken, nobody) = (Added::Done, Added::Taken, Added::NoUser);
    assert_eq!(strict, [done, taken, nobody, nobody, nobody]);
    assert_eq!(store.user(&user("bob")).await.unwrap(), None);

    let open = store.add_instances(rows(), Some(at(77))).await.unwrap();
    assert_eq!(open, [taken, taken, done, done, taken]);
    let bob = store.user(&user("bob")).await.unwrap().unwrap();
    assert_eq!((bob.created_at, bob.instances), (at(77), 2));
    let dave = store.user(&user("dave")).await.unwrap();
    assert_eq!(dave, None, "no user without an instance");
    let counts = store.instance_counts().await.unwrap();
    assert_eq!(counts, [(service("demo"), 2), (service("figma"), 2)]);
    let own = store.instances_of(&user("bob")).await.unwrap();
    assert_eq!(own[0].sealed_credential, [5, 2]);
    assert_eq!(store.add_instances(Vec::new(), None).await.unwrap(), []);
}

pub(super) async fn what_stands_in_the_way_is_told(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add(&store, "alice", "figma", 1).await;
    let ask = |owner: &str, of: &str, hash: Option<u8>| Proposal {
        user: user(owner),
        service: service(of),
        hash: hash.map(|n| [n; 32]),
    };
    let asked = vec![
        ask("alice", "figma", Some(1)),
        ask("alice", "demo", Some(1)),
        ask("alice", "demo", Some(2)),
        ask("bob", "figma", None),
    ];
    let stands = |has_user, own: Option<u8>, is_taken| Standing {
        has_user,
        user_disabled: false,
        own: own.map(|n| [n; 32]),
        is_taken,
    };
    assert_eq!(
        store.standings(asked).await.unwrap(),
        [
            stands(true, Some(1), true),
            stands(true, None, true),
            stands(true, None, false),
            stands(false, None, false),
        ]
    );
}

pub(super) async fn instances_are_found_by_user_service_and_state(store: StoreHandle) {
    for (n, name) in (1..).zip(["alice", "bob"]) {
        add_user(&store, name, n).await;
    }
    for (n, (owner, of)) in (1..).zip([
        ("alice", "figma"),
        ("alice", "demo"),
        ("bob", "figma"),
        ("bob", "demo"),
    ]) {
        add(&store, owner, of, n).await;
    }
    let (none, ended) = (Terms::default(), |n: i64| Terms {
        expires_at: Some(at(n)),
        ..Terms::default()
    });
    let off = Terms {
        disabled_at: Some(at(1)),
        ..Terms::default()
    };
    for (n, terms) in [(1, off), (3, ended(10)), (4, ended(99))] {
        let changed = store.change_terms(&public(n), none.clone(), terms);
        assert!(changed.await.unwrap());
    }
    let find = async |owner: Option<&str>, of: Option<&str>, active: Option<bool>| {
        let filter = InstanceFilter {
            user: owner.map(user),
            service: of.map(service),
            active: active.map(|active| (active, at(20))),
        };
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = store.instances(filter.clone(), after, 1).await.unwrap();
            found.extend(page.items.into_iter().map(|row| row.hash[0]));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    assert_eq!(find(None, None, None).await, [1, 2, 3, 4]);
    assert_eq!(find(Some("alice"), None, None).await, [1, 2]);
    assert_eq!(find(None, Some("figma"), None).await, [1, 3]);
    assert_eq!(find(Some("bob"), Some("demo"), None).await, [4]);
    assert_eq!(find(None, None, Some(true)).await, [2, 4]);
    assert_eq!(find(None, None, Some(false)).await, [1, 3]);
    assert_eq!(find(Some("bob"), None, Some(false)).await, [3]);
    assert!(find(None, Some("demo"), Some(false)).await.is_empty());
    assert!(find(Some("carol"), None, None).await.is_empty());
}

pub(super) async fn last_use_moves_forward_only(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add(&store, "alice", "figma", 1).await;
    let used = async |times: &[(u8, i64)]| {
        let used = times.iter().map(|(n, t)| (public(*n), at(*t))).collect();
        store.touch_instances(used).await.unwrap();
        store
            .instance_by_public(&public(1))
            .await
            .unwrap()
            .unwrap()
            .last_used_at
    };
    assert_eq!(used(&[(1, 60), (2, 70)]).await, Some(at(60)));
    assert_eq!(used(&[(1, 50)]).await, Some(at(60)));
    assert_eq!(used(&[(1, 80)]).await, Some(at(80)));
}

pub(super) async fn terms_stay_for_the_next_instance_when_asked_to(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    let (alice, figma) = (user("alice"), service("figma"));
    let kept = async || store.kept_terms(&alice, &figma).await.unwrap();
    let dated = || NewInstance {
        label: label("mine"),
        expires_at: Some(at(50)),
        disabled_at: Some(at(40)),
        ..instance("alice", "figma", 1)
    };
    let add = async |new| assert_eq!(store.add_instance(new).await.unwrap(), Added::Done);
    let remove = async |stays| store.remove_instance(&public(1), stays).await.unwrap();
    add(dated()).await;
    let row = remove(Stays::Nothing).await.unwrap();
    assert_eq!(
        (row.expires_at, row.disabled_at),
        (Some(at(50)), Some(at(40)))
    );
    assert_eq!(kept().await, None);
    add(dated()).await;
    remove(Stays::Terms).await;
    let terms = Terms {
        label: None,
        expires_at: Some(at(50)),
        disabled_at: Some(at(40)),
    };
    assert_eq!(kept().await, Some(terms));
    assert_eq!(
        store.kept_terms(&alice, &service("other")).await.unwrap(),
        None
    );
    // They are for one only, which says itself what holds for it.
    add(instance("alice", "figma", 1)).await;
    assert_eq!(kept().await, None);
    remove(Stays::Terms).await;
    assert_eq!(kept().await, None, "nothing was laid down");
    add(dated()).await;
    remove(Stays::Terms).await;
    store.remove_user(&alice).await.unwrap();
    add_user(&store, "alice", 2).await;
    assert_eq!(kept().await, None);
}
