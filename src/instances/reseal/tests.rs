//! Rotations of the master key over a database file, with users who go on, and deaths in between.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::ids::{InstancePrefix, ServiceType, UserId};
use crate::instances::Granted;
use crate::store::{Sqlite, StoreHandle};
use crate::users::{Caller, Users};
use crate::vault::{Credential, Fields, KeySource, MasterKeys, unlock};

/// One daemon's view of a home.
struct World {
    store: StoreHandle,
    keys: MasterKeys,
    users: Users,
    instances: Instances,
}

impl World {
    async fn open(home: &Path) -> Self {
        let store: StoreHandle = Arc::new(Sqlite::open(&home.join("mcpm.db")).unwrap());
        let source = KeySource::choose(home, |_| None).unwrap();
        let keys = unlock(&store, source).await.unwrap();
        let vault = keys.vault().clone();
        let users = Users::new(Arc::clone(&store), vault.clone());
        let (instances, _) = Instances::open(Arc::clone(&store), vault).await.unwrap();
        Self {
            store,
            keys,
            users,
            instances,
        }
    }

    async fn grant(&self, owner: &str, of: &str, key: &str) -> Granted {
        let fields = Credential::new([("api_key", key)].into_iter().collect::<Fields>());
        self.instances
            .grant(&user(owner), &service(of), &prefix(), fields)
            .await
            .unwrap()
    }

    /// What the router would inject for this id.
    fn key(&self, id: &str) -> Option<String> {
        let entry = self.instances.table().get(&self.instances.hash(id))?;
        let credential = entry.credential().unwrap();
        let fields = credential.expose();
        Some(fields.get("api_key").unwrap().to_owned())
    }

    async fn is_under_way(&self) -> bool {
        self.keys.facts().await.unwrap().rotation.is_some()
    }

    /// What the daemon's task does.
    async fn go_on(&self) -> Walk {
        let round = self.keys.rotation().borrow().as_ref().unwrap().round;
        let walk = self.instances.reseal(|_| ()).await.unwrap();
        self.keys.finish(round).await.unwrap();
        assert!(!self.is_under_way().await);
        walk
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn service(name: &str) -> ServiceType {
    ServiceType::parse(name).unwrap()
}

fn prefix() -> InstancePrefix {
    InstancePrefix::parse("fig").unwrap()
}

#[tokio::test]
async fn rows_and_entries_are_sealed_anew_and_urls_and_tokens_go_on() {
    let home = tempfile::tempdir().unwrap();
    let world = World::open(home.path()).await;
    let token = world.users.add(&user("alice")).await.unwrap();
    let one = world.grant("alice", "one", "first").await;
    let two = world.grant("alice", "two", "second").await;
    // One was opened before, and one was not.
    assert_eq!(world.key(one.id.expose()).unwrap(), "first");

    world.keys.begin(None).await.unwrap();
    let three = world.grant("alice", "three", "third").await;
    let walk = world.go_on().await;
    let expected = Walk {
        seen: 3,
        fresh: 4,
        unreadable: 0,
    };
    assert_eq!(
        walk, expected,
        "the third is sealed with the new key at once"
    );
    world.keys.begin(None).await.unwrap();
    world.go_on().await;

    let again = World::open(home.path()).await;
    for world in [&world, &again] {
        let all = [(&one, "first"), (&two, "second"), (&three, "third")];
        for (granted, key) in all {
            assert_eq!(world.key(granted.id.expose()).unwrap(), key);
        }
        let mine = world.instances.of_user(&user("alice")).await.unwrap();
        let ids: Vec<_> = mine.iter().map(|own| own.id.expose()).collect();
        assert_eq!(ids, [one.id.expose(), three.id.expose(), two.id.expose()]);
        let shown = world.users.authenticate(token.expose()).await.unwrap();
        assert_eq!(shown.caller, Caller::User(user("alice")));
    }
}

#[tokio::test]
async fn a_death_between_two_pages_leaves_rows_of_both_keys_and_all_of_them_open() {
    let home = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    {
        let world = World::open(home.path()).await;
        world.users.add(&user("alice")).await.unwrap();
        for n in 0..5 {
            let granted = world
                .grant("alice", &format!("s{n}"), &format!("key {n}"))
                .await;
            ids.push(granted.id.expose().to_owned());
        }
        world.keys.begin(None).await.unwrap();
        let mut walk = Walk::default();
        let after = world
            .instances
            .reseal_page(None, 2, &mut walk)
            .await
            .unwrap();
        assert!(after.is_some() && walk.fresh == 4);
        world.store.close().await.unwrap();
    }
    let world = World::open(home.path()).await;
    assert!(world.is_under_way().await);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(world.key(id).unwrap(), format!("key {n}"));
    }
    let walk = world.go_on().await;
    assert_eq!(
        (walk.seen, walk.fresh),
        (5, 6),
        "what is done is passed over"
    );
    world.store.close().await.unwrap();
    let world = World::open(home.path()).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(world.key(id).unwrap(), format!("key {n}"));
    }
}

#[tokio::test]
async fn users_go_on_meanwhile_and_everyone_keeps_what_is_theirs() {
    const USERS: usize = 12;
    let home = tempfile::tempdir().unwrap();
    let world = Arc::new(World::open(home.path()).await);
    for n in 0..USERS {
        world.users.add(&user(&format!("u{n}"))).await.unwrap();
        world
            .grant(&format!("u{n}"), "one", &format!("{n} start"))
            .await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..USERS {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            let name = format!("u{n}");
            let mut last = String::new();
            for step in 0..8 {
                let key = format!("{n} {step}");
                let granted = world.grant(&name, "one", &key).await;
                assert_eq!(world.key(granted.id.expose()).unwrap(), key);
                last = granted.id.expose().to_owned();
                let rotated = match step % 3 {
                    0 => {
                        let (user, service) = (user(&name), service("one"));
                        let prefix = prefix();
                        let turned = world.instances.rotate(&user, &service, &prefix);
                        turned.await.unwrap()
                    }
                    1 => {
                        world
                            .instances
                            .remove(&user(&name), &service("one"))
                            .await
                            .unwrap();
                        assert_eq!(world.key(&last), None);
                        Some(world.grant(&name, "one", &key).await)
                    }
                    _ => None,
                };
                if let Some(rotated) = rotated {
                    last = rotated.id.expose().to_owned();
                    assert_eq!(world.key(&last).unwrap(), key);
                }
            }
            (last, format!("{n} 7"))
        });
    }
    for _ in 0..3 {
        world.keys.begin(None).await.unwrap();
        world.go_on().await;
    }
    let left = tasks.join_all().await;
    world.keys.begin(None).await.unwrap();
    world.go_on().await;
    let again = World::open(home.path()).await;
    for (id, key) in left {
        assert_eq!(world.key(&id).unwrap(), key);
        assert_eq!(again.key(&id).unwrap(), key);
    }
}

#[tokio::test]
async fn a_value_that_was_moved_to_another_row_is_not_made_good_by_a_rotation() {
    let home = tempfile::tempdir().unwrap();
    let world = World::open(home.path()).await;
    for (name, key) in [("alice", "hers"), ("mallory", "his")] {
        world.users.add(&user(name)).await.unwrap();
        world.grant(name, "one", key).await;
    }
    let stored = async |name: &str| {
        let found = world.store.instance_of(&user(name), &service("one")).await;
        found.unwrap().unwrap()
    };
    let (hers, his) = (stored("alice").await, stored("mallory").await);
    let moved = Reseal {
        public: his.row.public.clone(),
        id: None,
        credential: Some(Swap {
            old: his.sealed_credential,
            new: hers.sealed_credential.clone(),
        }),
    };
    world.store.reseal(vec![moved]).await.unwrap();
    world.keys.begin(None).await.unwrap();
    let walk = world.go_on().await;
    assert_eq!((walk.seen, walk.fresh, walk.unreadable), (2, 3, 1));
    let left = stored("mallory").await.sealed_credential;
    assert!(left == hers.sealed_credential, "left as it was");
    let again = World::open(home.path()).await;
    let entry = again.instances.table().get(&his.row.hash).unwrap();
    assert!(entry.credential().is_err());
}

#[tokio::test]
async fn instances_that_answer_no_more_are_sealed_anew_too() {
    let home = tempfile::tempdir().unwrap();
    let world = World::open(home.path()).await;
    world.users.add(&user("alice")).await.unwrap();
    let granted = world.grant("alice", "one", "first").await;
    let path = home.path().join("mcpm.db");
    let database = rusqlite::Connection::open(path).unwrap();
    let off = "UPDATE user_service_instances SET disabled_at = 1";
    database.execute(off, []).unwrap();
    let world = World::open(home.path()).await;
    assert_eq!(world.key(granted.id.expose()), None);
    world.keys.begin(None).await.unwrap();
    assert_eq!(world.go_on().await.fresh, 2);
    let on = "UPDATE user_service_instances SET disabled_at = NULL";
    database.execute(on, []).unwrap();
    let world = World::open(home.path()).await;
    assert_eq!(world.key(granted.id.expose()).unwrap(), "first");
}
