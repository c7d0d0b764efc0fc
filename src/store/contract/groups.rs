//! Which users are in which group.

use super::{add_user, at, token, user};
use crate::ids::GroupName;
use crate::store::*;

pub(super) async fn users_are_put_into_groups(store: StoreHandle) {
    let group = |name: &str| GroupName::parse(name).unwrap();
    let grouped = async |after: Option<&str>, limit| {
        let after = after.map(user);
        let found = store.grouped_users(after.as_ref(), limit).await.unwrap();
        let words = found.iter().map(|(id, group)| format!("{id} {group}"));
        words.collect::<Vec<_>>().join(", ")
    };
    for (id, n) in [("bob", 1), ("alice", 2)] {
        add_user(&store, id, n).await;
    }
    let new = NewUser {
        id: user("carol"),
        created_at: at(5),
        group: Some(group("free")),
    };
    let first = token(3, TokenOwner::User(user("carol")));
    assert!(store.add_user(new.clone(), first).await.unwrap());
    // Who is there already stays where they are.
    let other = NewUser {
        group: Some(group("pro")),
        ..new
    };
    assert!(!store.ensure_user(other).await.unwrap());
    let set =
        async |id: &str, to: Option<&str>| store.set_group(&user(id), to.map(group)).await.unwrap();
    assert!(set("bob", Some("pro")).await && !set("nobody", Some("pro")).await);
    assert_eq!(grouped(None, 10).await, "bob pro, carol free");
    assert_eq!(grouped(None, 1).await, "bob pro");
    assert_eq!(grouped(Some("bob"), 10).await, "carol free");
    assert!(set("bob", Some("free")).await && set("carol", None).await);
    assert_eq!(grouped(None, 10).await, "bob free");
    let bob = store.user(&user("bob")).await.unwrap().unwrap();
    assert_eq!(bob.group, Some(group("free")));
    store.remove_user(&user("bob")).await.unwrap();
    assert_eq!(grouped(None, 10).await, "");
    add_user(&store, "bob", 4).await;
    assert_eq!(store.user(&user("bob")).await.unwrap().unwrap().group, None);
}
