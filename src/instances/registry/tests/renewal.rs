//! What is heard of credentials outside.

use super::*;
use crate::instances::Renewed;

fn credential(key: &str) -> Credential {
    Credential::new([("api_key", key)].into_iter().collect::<Fields>())
}

async fn renew(world: &World, of: &Granted, before: &str, after: Option<&str>) -> Renewed {
    let (alice, figma) = (user("alice"), service("figma"));
    let (before, after) = (Arc::new(credential(before)), after.map(credential));
    let renewed = world
        .instances
        .renew(&alice, &figma, &of.public, &before, after);
    renewed.await.unwrap()
}

async fn expire(world: &World, entry: &Arc<InstanceEntry>, known: &str) -> bool {
    let known = Arc::new(credential(known));
    let since = Timestamp::from_millis(7);
    let expired = world.instances.expire_credential(entry, &known, since);
    expired.await.unwrap()
}

#[tokio::test]
async fn a_credential_is_renewed_in_its_place_and_streams_go_on() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "one").await;
    let id = granted.id.expose();
    let entry = world.entry(id).unwrap();
    assert_eq!(
        renew(&world, &granted, "one", Some("two")).await,
        Renewed::Done
    );
    assert!(!entry.is_revoked() && Arc::ptr_eq(&entry, &world.entry(id).unwrap()));
    assert_eq!(world.key(id).unwrap(), "two");
    // It is durable, too: another daemon reads it.
    let again = World::open(world.store.clone()).await;
    assert_eq!(again.key(id).unwrap(), "two");
    assert_eq!(renew(&world, &granted, "two", None).await, Renewed::Same);
}

#[tokio::test]
async fn what_a_user_has_given_meanwhile_wins() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "one").await;
    let id = granted.id.expose();
    world.grant("alice", "figma", "mine").await;
    assert_eq!(
        renew(&world, &granted, "one", Some("two")).await,
        Renewed::Other
    );
    assert_eq!(world.key(id).unwrap(), "mine");
    let entry = world.entry(id).unwrap();
    assert!(!expire(&world, &entry, "one").await);
    assert_eq!(entry.credential_expired_at(), None);
    let (alice, figma) = (user("alice"), service("figma"));
    assert!(world.instances.remove(&alice, &figma).await.unwrap());
    assert_eq!(
        renew(&world, &granted, "mine", Some("two")).await,
        Renewed::Gone
    );
    assert!(!expire(&world, &entry, "mine").await);
}

#[tokio::test]
async fn one_that_is_of_no_use_is_known_until_another_one_is_given() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "one").await;
    let id = granted.id.expose();
    let entry = world.entry(id).unwrap();
    assert!(expire(&world, &entry, "one").await);
    let since = Some(Timestamp::from_millis(7));
    assert_eq!(world.entry(id).unwrap().credential_expired_at(), since);
    let again = World::open(world.store.clone()).await;
    assert_eq!(again.entry(id).unwrap().credential_expired_at(), since);
    world.grant("alice", "figma", "two").await;
    assert_eq!(world.entry(id).unwrap().credential_expired_at(), None);
}
