//! What the store promises of tokens, and of users that are switched off.

use super::{add, add_user, at, instance, public, service, token, user};
use crate::ids::Timestamp;
use crate::store::*;

for_each_backend! {
    tokens_are_found_by_hash_and_revoked_once,
    tokens_are_revoked_by_their_owner_only,
    all_tokens_of_an_owner_end_together,
    an_owner_has_so_many_tokens_and_no_more,
    tokens_that_have_ended_are_forgotten_some_day,
    last_use_of_tokens_moves_forward_only,
    a_user_that_is_switched_off_has_nothing_that_opens_until_switched_on,
    nobody_who_is_switched_off_gets_an_instance,
}

fn alice() -> TokenOwner {
    TokenOwner::User(user("alice"))
}

async fn add_token(store: &StoreHandle, n: u8, owner: TokenOwner) -> i64 {
    match store.add_token(token(n, owner)).await.unwrap() {
        TokenAdded::Done(number) => number,
        refused => panic!("{refused:?}"),
    }
}

async fn found(store: &StoreHandle, n: u8) -> TokenRow {
    store.token_by_hash(&[n; 32]).await.unwrap().unwrap()
}

/// Which of the owner's tokens open something at this time, by the first bytes of their hashes.
async fn valid(store: &StoreHandle, owner: &TokenOwner, now: i64) -> Vec<u8> {
    let all = store.tokens(owner).await.unwrap();
    let valid = all.iter().filter(|token| token.is_valid(at(now)));
    valid.map(|token| token.hash[0]).collect()
}

async fn revoke(
    store: &StoreHandle,
    owner: &TokenOwner,
    which: TokenChoice,
    now: i64,
) -> Option<Vec<i64>> {
    store.revoke_tokens(owner, which, at(now)).await.unwrap()
}

async fn tokens_are_found_by_hash_and_revoked_once(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    let bobs = token(2, TokenOwner::User(user("bob")));
    let refused = store.add_token(bobs).await.unwrap();
    assert_eq!(refused, TokenAdded::NoUser);
    let number = add_token(&store, 3, alice()).await;
    let dated = NewToken {
        expires_at: Some(at(100)),
        ..token(4, TokenOwner::Admin)
    };
    let added = store.add_token(dated).await.unwrap();
    assert!(matches!(added, TokenAdded::Done(_)), "{added:?}");

    let own = store.tokens(&alice()).await.unwrap();
    assert_eq!(own.iter().map(|t| t.hash[0]).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(own[0].name.as_deref(), Some("token 1"));
    assert_eq!(own[1].number, number);
    let admin = store.tokens(&TokenOwner::Admin).await.unwrap();
    assert_eq!(admin.len(), 1);
    assert!(admin[0].is_valid(at(99)) && !admin[0].is_valid(at(100)));

    let one = TokenChoice::One(number);
    assert_eq!(revoke(&store, &alice(), one, 50).await, Some(vec![number]));
    assert_eq!(revoke(&store, &alice(), one, 60).await, Some(vec![]));
    let none = TokenChoice::One(4711);
    assert_eq!(revoke(&store, &alice(), none, 60).await, None);
    let revoked = found(&store, 3).await;
    assert_eq!(revoked.revoked_at, Some(at(50)));
    assert!(!revoked.is_valid(at(1)));
    assert_eq!(valid(&store, &alice(), 60).await, [1]);
}

async fn tokens_are_revoked_by_their_owner_only(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add_user(&store, "bob", 2).await;
    let admins = add_token(&store, 3, TokenOwner::Admin).await;
    let bobs = found(&store, 2).await.number;
    for foreign in [bobs, admins] {
        for which in [TokenChoice::One(foreign), TokenChoice::AllBut(foreign)] {
            assert_eq!(revoke(&store, &alice(), which, 9).await, None, "{which:?}");
        }
    }
    let one = TokenChoice::One(bobs);
    assert_eq!(revoke(&store, &TokenOwner::Admin, one, 9).await, None);
    for n in 1..=3 {
        assert!(found(&store, n).await.is_valid(at(9)), "{n}");
    }
}

async fn all_tokens_of_an_owner_end_together(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add_user(&store, "bob", 2).await;
    let kept = add_token(&store, 3, alice()).await;
    let last = add_token(&store, 4, alice()).await;
    let first = found(&store, 1).await.number;
    let ended = revoke(&store, &alice(), TokenChoice::AllBut(kept), 9).await;
    assert_eq!(ended, Some(vec![first, last]));
    assert_eq!(valid(&store, &alice(), 9).await, [3]);
    let ended = revoke(&store, &alice(), TokenChoice::All, 9).await;
    assert_eq!(ended, Some(vec![kept]));
    let nobody = TokenOwner::User(user("nobody"));
    let ended = revoke(&store, &nobody, TokenChoice::All, 9).await;
    assert_eq!(ended, Some(vec![]));
    assert!(found(&store, 2).await.is_valid(at(9)), "bob's");
}

async fn an_owner_has_so_many_tokens_and_no_more(store: StoreHandle) {
    add_user(&store, "alice", 0).await;
    add_user(&store, "bob", u8::MAX).await;
    for n in 1..TOKENS_MAX {
        add_token(&store, u8::try_from(n).unwrap(), alice()).await;
    }
    let further = || store.add_token(token(200, alice()));
    assert_eq!(further().await.unwrap(), TokenAdded::TooMany);
    assert_eq!(store.token_by_hash(&[200; 32]).await.unwrap(), None);
    // One that has ended makes room; others have rooms of their own.
    let first = found(&store, 0).await.number;
    revoke(&store, &alice(), TokenChoice::One(first), 1).await;
    assert!(matches!(further().await.unwrap(), TokenAdded::Done(_)));
    add_token(&store, 201, TokenOwner::User(user("bob"))).await;
    add_token(&store, 202, TokenOwner::Admin).await;
}

async fn tokens_that_have_ended_are_forgotten_some_day(store: StoreHandle) {
    add_user(&store, "alice", 0).await;
    add_user(&store, "bob", u8::MAX).await;
    revoke(&store, &TokenOwner::User(user("bob")), TokenChoice::All, 1).await;
    for n in 1..=u8::try_from(ENDED_TOKENS_KEPT).unwrap() + 3 {
        let number = add_token(&store, n, alice()).await;
        revoke(&store, &alice(), TokenChoice::One(number), 1).await;
    }
    add_token(&store, 200, alice()).await;
    let listed = store.tokens(&alice()).await.unwrap();
    let hashes: Vec<u8> = listed.iter().map(|token| token.hash[0]).collect();
    // The first is valid, and stays.
    assert_eq!(hashes[..2], [0, 4], "{hashes:?}");
    assert_eq!(listed.len(), ENDED_TOKENS_KEPT as usize + 2);
    assert_eq!(store.token_by_hash(&[3; 32]).await.unwrap(), None);
    assert!(found(&store, u8::MAX).await.revoked_at.is_some(), "bob's");
}

async fn last_use_of_tokens_moves_forward_only(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    let number = found(&store, 1).await.number;
    assert_eq!(found(&store, 1).await.last_used_at, None);
    let used = async |times: &[(i64, i64)]| {
        let used = times.iter().map(|(n, t)| (*n, at(*t))).collect();
        store.touch_tokens(used).await.unwrap();
        found(&store, 1).await.last_used_at
    };
    assert_eq!(used(&[(number, 60), (4711, 70)]).await, Some(at(60)));
    assert_eq!(used(&[(number, 50)]).await, Some(at(60)));
    assert_eq!(used(&[(number, 80)]).await, Some(at(80)));
}

async fn a_user_that_is_switched_off_has_nothing_that_opens_until_switched_on(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    add_user(&store, "bob", 2).await;
    add(&store, "alice", "figma", 1).await;
    add(&store, "bob", "figma", 2).await;
    let alice_id = user("alice");
    let switch = |off: Option<Timestamp>| store.switch_user(&alice_id, off);
    let active = async || {
        let page = store.active_instances(at(9), None, 10).await.unwrap();
        page.items
            .iter()
            .map(|stored| stored.row.hash[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(active().await, [1, 2]);
    assert_eq!(switch(None).await.unwrap(), Some(false));
    assert_eq!(switch(Some(at(7))).await.unwrap(), Some(true));
    assert_eq!(switch(Some(at(8))).await.unwrap(), Some(false));

    let row = store.user(&alice_id).await.unwrap().unwrap();
    assert_eq!((row.disabled_at, row.instances), (Some(at(7)), 1));
    assert_eq!(store.users(None, 9).await.unwrap()[0], row);
    add_token(&store, 3, alice()).await;
    assert!(valid(&store, &alice(), 9).await.is_empty());
    assert!(found(&store, 3).await.owner_disabled);
    assert_eq!(active().await, [2]);
    let by_hash = store.instance_by_hash(&[1; 32]).await.unwrap().unwrap();
    let by_number = store.instance_by_public(&public(1)).await.unwrap().unwrap();
    let figma = service("figma");
    let of = store.instance_of(&alice_id, &figma).await.unwrap().unwrap();
    let listed = store
        .instances(InstanceFilter::default(), None, 1)
        .await
        .unwrap()
        .items
        .remove(0);
    for row in [by_hash, by_number, of.row, listed] {
        assert!(row.owner_disabled && !row.is_active(at(9)), "{row:?}");
        assert_eq!(row.disabled_at, None);
    }

    assert_eq!(switch(None).await.unwrap(), Some(true));
    assert_eq!(valid(&store, &alice(), 9).await, [1, 3]);
    assert_eq!(active().await, [1, 2]);
    let of = store.instance_of(&alice_id, &figma).await.unwrap().unwrap();
    assert_eq!(of.sealed_credential, [1, 2], "what was theirs is theirs");
    let nobody = store.switch_user(&user("nobody"), Some(at(9)));
    assert_eq!(nobody.await.unwrap(), None);
}

async fn nobody_who_is_switched_off_gets_an_instance(store: StoreHandle) {
    add_user(&store, "alice", 1).await;
    store
        .switch_user(&user("alice"), Some(at(7)))
        .await
        .unwrap();
    let refused = store.add_instance(instance("alice", "figma", 1)).await;
    assert_eq!(refused.unwrap(), Added::UserDisabled);
    assert_eq!(store.instances_of(&user("alice")).await.unwrap(), []);
    // Somebody of the same name later is switched on.
    store.remove_user(&user("alice")).await.unwrap();
    add_user(&store, "alice", 1).await;
    assert_eq!(add(&store, "alice", "figma", 1).await, Added::Done);
}
