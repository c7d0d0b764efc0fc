//! Who has asked for an instance, and may not have it any more when it is to be made.

use super::*;
use crate::instances::Asker;
use crate::store::{TokenChoice, TokenOwner};

async fn granted_to(world: &World, asker: Asker) -> Result<Granted, InstanceError> {
    let fields = Credential::new([("api_key", "key")].into_iter().collect::<Fields>());
    let (terms, of) = (NewTerms::default(), service("figma"));
    world
        .instances
        .grant_under(&user("alice"), &of, &prefix(), fields, terms, asker)
        .await
}

async fn is_withdrawn(world: &World, asker: &Asker) -> bool {
    let refused = granted_to(world, asker.clone()).await;
    matches!(refused, Err(InstanceError::Withdrawn))
}

#[tokio::test]
async fn one_of_the_same_name_gets_nothing_that_a_removed_user_has_asked_for() {
    let world = World::new().await;
    let row = world.users.get(&user("alice")).await.unwrap().unwrap();
    let asker = Asker {
        owner_since: Some(row.created_at),
        token: None,
    };
    assert!(granted_to(&world, asker.clone()).await.is_ok());
    world.instances.forget_user(&user("alice")).await.unwrap();
    assert!(is_withdrawn(&world, &asker).await, "nobody has the name");
    while Timestamp::now() == row.created_at {
        tokio::task::yield_now().await;
    }
    world.users.add(&user("alice")).await.unwrap();
    assert!(is_withdrawn(&world, &asker).await);
    let found = world.instances.of_user(&user("alice")).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert!(granted_to(&world, Asker::default()).await.is_ok());
}

#[tokio::test]
async fn what_was_asked_for_by_a_token_ends_with_it() {
    let world = World::new().await;
    let owner = TokenOwner::User(user("alice"));
    let made = world.users.add_token(&owner, Default::default()).await;
    let shown = made.unwrap().token;
    let shown = world.users.authenticate(shown.expose()).await.unwrap();
    let asker = Asker {
        owner_since: None,
        token: Some(shown.token),
    };
    assert!(granted_to(&world, asker.clone()).await.is_ok());
    let all = TokenChoice::All;
    world.users.revoke(&owner, all).await.unwrap();
    assert!(is_withdrawn(&world, &asker).await);
}
