//! The registry against both a model (`orders.rs`) and a reopened store.

mod askers;
mod life;
mod orders;
mod renewal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::instances::{Change, Imported, Incoming};
use crate::store::{InstanceFilter, Memory, Sqlite};
use crate::users::Users;
use crate::vault::{Fields, MasterKey};

struct World {
    store: StoreHandle,
    users: Users,
    instances: Instances,
}

impl World {
    async fn open(store: StoreHandle) -> Self {
        let vault = Vault::new(&MasterKey::from_bytes([5; 32]));
        let users = Users::new(Arc::clone(&store), vault.clone());
        let (instances, _) = Instances::open(Arc::clone(&store), vault.clone())
            .await
            .unwrap();
        Self {
            store,
            users,
            instances,
        }
    }

    async fn new() -> Self {
        let world = Self::open(Arc::new(Memory::new())).await;
        for name in ["alice", "bob"] {
            world.users.add(&user(name)).await.unwrap();
        }
        world
    }

    async fn grant(&self, owner: &str, of: &str, key: &str) -> Granted {
        let fields = Credential::new([("api_key", key)].into_iter().collect::<Fields>());
        self.instances
            .grant(&user(owner), &service(of), &prefix(), fields)
            .await
            .unwrap()
    }

    async fn import(
        &self,
        owner: &UserId,
        of: &ServiceType,
        alias: &str,
        key: &str,
        add_users: bool,
    ) -> Imported {
        let row = Incoming {
            user: owner.clone(),
            service: of.clone(),
            prefix: prefix(),
            fields: Credential::new([("api_key", key)].into_iter().collect::<Fields>()),
            alias: Some(InstanceId::new(alias.to_owned())),
            terms: NewTerms::default(),
            created_at: Timestamp::from_millis(5),
        };
        let mut done = self.instances.import(vec![row], add_users).await.unwrap();
        done.pop().unwrap()
    }

    async fn change(&self, granted: &Granted, change: Change) -> Option<InstanceRow> {
        self.instances
            .change_public(&granted.public, change, None)
            .await
            .unwrap()
    }

    fn entry(&self, id: &str) -> Option<Arc<InstanceEntry>> {
        self.instances.table().get(&self.instances.hash(id))
    }

    fn key(&self, id: &str) -> Option<String> {
        let entry = self.entry(id)?;
        Some(
            entry
                .credential()
                .unwrap()
                .expose()
                .get("api_key")
                .unwrap()
                .to_owned(),
        )
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
async fn a_second_grant_changes_the_credential_and_keeps_the_url() {
    let world = World::new().await;
    let first = world.grant("alice", "figma", "one").await;
    assert!(first.created);
    let old = world.entry(first.id.expose()).unwrap();
    let second = world.grant("alice", "figma", "two").await;
    assert!(!second.created);
    assert_eq!(
        (second.id.expose(), &second.public),
        (first.id.expose(), &first.public)
    );
    assert_eq!(world.key(first.id.expose()).unwrap(), "two");
    assert!(
        old.is_outdated() && !old.is_revoked(),
        "what streams with the old credential must end, what answers may finish"
    );
    assert_eq!(
        world.instances.counts(),
        BTreeMap::from([(service("figma"), 1)])
    );
}

#[tokio::test]
async fn the_same_credential_again_changes_nothing_and_ends_nothing() {
    let world = World::new().await;
    let first = world.grant("alice", "figma", "one").await;
    let entry = world.entry(first.id.expose()).unwrap();
    let stored = async || {
        let of = world
            .store
            .instance_of(&user("alice"), &service("figma"))
            .await;
        of.unwrap().unwrap()
    };
    let before = stored().await.sealed_credential;
    let again = world.grant("alice", "figma", "one").await;
    assert_eq!(
        (again.id.expose(), again.created, again.active),
        (first.id.expose(), false, true)
    );
    assert!(!entry.is_revoked(), "what goes on in its name goes on");
    assert!(Arc::ptr_eq(
        &entry,
        &world.entry(first.id.expose()).unwrap()
    ));
    assert_eq!(stored().await.sealed_credential, before);
    // It was checked before it came here, so that it is good again.
    let credential = entry.credential().unwrap();
    let since = Timestamp::from_millis(7);
    let expired = world
        .instances
        .expire_credential(&entry, &credential, since)
        .await;
    assert!(expired.unwrap() && entry.credential_expired_at().is_some());
    world.grant("alice", "figma", "one").await;
    assert_eq!(stored().await.row.credential, CredentialState::Good);
    let now = world.entry(first.id.expose()).unwrap();
    assert!(now.credential_expired_at().is_none() && !entry.is_revoked());
}

#[tokio::test]
async fn users_see_their_own_and_the_operator_sees_no_ids() {
    let world = World::new().await;
    let alice = world.grant("alice", "figma", "a").await;
    let bob = world.grant("bob", "figma", "b").await;
    assert_ne!(alice.id.expose(), bob.id.expose());
    let own = world
        .instances
        .of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((own.id.expose(), own.active), (alice.id.expose(), true));
    let all = world.instances.of_user(&user("bob")).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].id.expose(), bob.id.expose());
    assert!(
        world
            .instances
            .of(&user("alice"), &service("demo"))
            .await
            .unwrap()
            .is_none()
    );
    let all = InstanceFilter::default();
    let page = world.instances.all(all, None, 10).await.unwrap();
    assert_eq!(page.items.len(), 2);
    for secret in [&alice.id, &bob.id] {
        assert!(!format!("{page:?}{own:?}{alice:?}").contains(secret.expose()));
    }
}

#[tokio::test]
async fn an_instance_needs_a_user() {
    let world = World::new().await;
    let fields = Credential::new(Fields::new());
    let carol = world
        .instances
        .grant(&user("carol"), &service("figma"), &prefix(), fields)
        .await;
    assert!(matches!(carol, Err(InstanceError::UnknownUser(_))));
    assert!(world.instances.table().is_empty());
}

#[tokio::test]
async fn rotation_kills_the_old_url_and_ends_its_streams() {
    let world = World::new().await;
    let old = world.grant("alice", "figma", "key").await;
    let entry = world.entry(old.id.expose()).unwrap();
    let stream = tokio::spawn({
        let entry = Arc::clone(&entry);
        async move { entry.revoked().await }
    });
    let alice = user("alice");
    let new = world
        .instances
        .rotate(&alice, &service("figma"), &prefix())
        .await
        .unwrap()
        .unwrap();
    assert!(world.entry(old.id.expose()).is_none());
    assert_eq!(world.key(new.id.expose()).unwrap(), "key");
    assert_eq!(new.public, old.public);
    tokio::time::timeout(Duration::from_secs(5), stream)
        .await
        .unwrap()
        .unwrap();
    entry.revoked().await; // and for those who ask later
    let none = world
        .instances
        .rotate(&alice, &service("demo"), &prefix())
        .await
        .unwrap();
    assert!(none.is_none());
}

#[tokio::test]
async fn removal_by_number_and_of_a_user_reach_store_and_table() {
    let world = World::new().await;
    let figma = world.grant("alice", "figma", "a").await;
    let demo = world.grant("alice", "demo", "b").await;
    let bob = world.grant("bob", "figma", "c").await;
    assert!(world.instances.remove_public(&figma.public).await.unwrap());
    assert!(!world.instances.remove_public(&figma.public).await.unwrap());
    assert!(world.entry(figma.id.expose()).is_none());
    assert!(world.instances.forget_user(&user("alice")).await.unwrap());
    assert!(!world.instances.forget_user(&user("alice")).await.unwrap());
    assert!(world.entry(demo.id.expose()).is_none());
    assert!(!world.users.exists(&user("alice")).await.unwrap());
    assert_eq!(world.key(bob.id.expose()).unwrap(), "c");
    assert_eq!(
        world.instances.counts(),
        BTreeMap::from([(service("figma"), 1)])
    );
}

#[tokio::test]
async fn last_use_is_written_in_batches_and_survives_rotation() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "a").await;
    let used = Timestamp::from_millis(1_800_000_123_456);
    let minute = Timestamp::from_millis(1_800_000_120_000);
    let entry = world.entry(granted.id.expose()).unwrap();
    assert!(entry.touch(used) && !entry.touch(used));
    let stored = async || {
        let row = world
            .store
            .instance_by_public(&granted.public)
            .await
            .unwrap()
            .unwrap();
        row.last_used_at
    };
    let shown = async || {
        let own = world
            .instances
            .of(&user("alice"), &service("figma"))
            .await
            .unwrap()
            .unwrap();
        own.last_used_at
    };
    assert_eq!((stored().await, shown().await), (None, Some(minute)));
    world
        .instances
        .rotate(&user("alice"), &service("figma"), &prefix())
        .await
        .unwrap();
    world.grant("alice", "figma", "b").await;
    assert_eq!((stored().await, shown().await), (None, Some(minute)));
    world.instances.flush_last_used().await.unwrap();
    assert_eq!(
        (stored().await, shown().await),
        (Some(minute), Some(minute))
    );
}

#[tokio::test]
async fn a_user_who_is_switched_off_has_no_urls_until_switched_on() {
    let world = World::new().await;
    let alice = user("alice");
    let figma = world.grant("alice", "figma", "a").await;
    let bob = world.grant("bob", "figma", "b").await;
    let entry = world.entry(figma.id.expose()).unwrap();
    entry.touch(Timestamp::from_millis(1_800_000_123_456));
    let switch = async |off| world.instances.switch_user(&alice, off).await.unwrap();
    assert_eq!(switch(None).await, Some(false));
    assert!(!entry.is_revoked(), "nothing has changed");
    assert_eq!(switch(Some(Timestamp::now())).await, Some(true));
    assert_eq!(switch(Some(Timestamp::now())).await, Some(false));
    assert!(entry.is_revoked() && world.entry(figma.id.expose()).is_none());
    assert_eq!(world.key(bob.id.expose()).unwrap(), "b");
    let own = world.instances.of(&alice, &service("figma")).await.unwrap();
    let own = own.unwrap();
    assert!(!own.active && own.last_used_at.is_some());
    // Neither another credential, nor another URL, nor another service opens anything.
    for of in ["figma", "demo"] {
        let fields = Credential::new(Fields::new());
        let refused = world
            .instances
            .grant(&alice, &service(of), &prefix(), fields)
            .await;
        assert!(
            matches!(refused, Err(InstanceError::UserDisabled(_))),
            "{refused:?}"
        );
    }
    let rotated = world
        .instances
        .rotate(&alice, &service("figma"), &prefix())
        .await;
    let rotated = rotated.unwrap().unwrap();
    assert!(world.entry(rotated.id.expose()).is_none());
    // The next daemon finds it so, too.
    let again = World::open(Arc::clone(&world.store)).await;
    assert!(again.entry(rotated.id.expose()).is_none());
    assert!(again.entry(bob.id.expose()).is_some());

    assert_eq!(switch(None).await, Some(true));
    assert_eq!(world.key(rotated.id.expose()).unwrap(), "a");
    let nobody = world.instances.switch_user(&user("nobody"), None).await;
    assert_eq!(nobody.unwrap(), None);
    assert_eq!(
        world.instances.counts(),
        BTreeMap::from([(service("figma"), 2)])
    );
}

#[tokio::test]
async fn a_credential_moved_to_another_row_does_not_open() {
    let world = World::new().await;
    let alice = world.grant("alice", "figma", "alice's").await;
    let bob = world.grant("bob", "figma", "bob's").await;
    let stolen = world
        .store
        .instance_of(&user("alice"), &service("figma"))
        .await
        .unwrap()
        .unwrap();
    let (sealed, now) = (stolen.sealed_credential, Timestamp::now());
    assert!(
        world
            .store
            .replace_credential(&bob.public, sealed, now)
            .await
            .unwrap()
    );
    let again = World::open(Arc::clone(&world.store)).await;
    assert!(again.entry(bob.id.expose()).unwrap().credential().is_err());
    assert_eq!(again.key(alice.id.expose()).unwrap(), "alice's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_at_the_same_time_make_one_instance() {
    let world = Arc::new(World::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let world = Arc::clone(&world);
        let owner = if n % 2 == 0 { "alice" } else { "bob" };
        tasks.spawn(async move {
            let granted = world.grant(owner, "figma", &format!("{owner} {n}")).await;
            (owner, granted.id.expose().to_owned(), granted.created)
        });
    }
    let all = tasks.join_all().await;
    assert_eq!(all.iter().filter(|(_, _, created)| *created).count(), 2);
    let ids: BTreeSet<_> = all
        .iter()
        .map(|(owner, id, _)| (*owner, id.clone()))
        .collect();
    assert_eq!(ids.len(), 2);
    for (owner, id) in ids {
        assert!(world.key(&id).unwrap().starts_with(owner));
    }
}

#[tokio::test]
async fn the_tasks_end_with_the_last_handle() {
    let vault = Vault::new(&MasterKey::from_bytes([5; 32]));
    let (instances, tasks) = Instances::open(Arc::new(Memory::new()), vault)
        .await
        .unwrap();
    let second = instances.clone();
    drop(instances);
    second.refuse(&[0; 32]).await;
    drop(second);
    tokio::time::timeout(Duration::from_secs(5), tasks)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_was_confirmed_is_there_for_the_next_daemon() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("mcpm.db");
    let world = World::open(Arc::new(Sqlite::open(&path).unwrap())).await;
    let token = world.users.add(&user("alice")).await.unwrap();
    let granted = world.grant("alice", "figma", "a key nobody may see").await;
    // No close: as after `kill -9`, but for the file locks, which end with the process.
    let again = World::open(Arc::new(Sqlite::open(&path).unwrap())).await;
    assert_eq!(
        again.key(granted.id.expose()).unwrap(),
        "a key nobody may see"
    );
    assert!(again.users.authenticate(token.expose()).await.is_ok());
    let file = [
        std::fs::read(&path),
        std::fs::read(home.path().join("mcpm.db-wal")),
    ];
    let bytes = file.into_iter().flatten().flatten().collect::<Vec<u8>>();
    assert!(
        bytes.windows(5).any(|window| window == b"alice"),
        "looked at the right files"
    );
    for secret in [granted.id.expose(), token.expose(), "a key nobody may see"] {
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "a secret lies open in the file");
    }
}

#[tokio::test]
async fn tasks_that_the_runtime_drops_first_are_no_bug_of_ours() {
    let mut tasks = JoinSet::new();
    tasks.spawn(std::future::pending());
    tasks.abort_all();
    all_ended(tasks).await;

    let mut tasks = JoinSet::new();
    tasks.spawn(async { panic!("a bug in a lane") });
    let ended = tokio::spawn(all_ended(tasks)).await;
    assert!(ended.unwrap_err().is_panic());
}
