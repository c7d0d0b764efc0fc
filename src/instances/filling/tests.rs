//! What a daemon does while its table is being filled, on a store with more rows than the start reads.

use std::collections::HashMap;

use super::*;
use crate::ids::{InstancePrefix, ServiceType, UserId};
use crate::instances::{Change, Imported, Incoming, NewTerms, Renewed};
use crate::store::{Memory, Sqlite, StoreHandle};
use crate::vault::{Credential, Fields, MasterKey, Vault};

/// More than [`AT_START`], so that some pages are left.
const USERS: usize = 5000;

fn user(n: usize) -> UserId {
    UserId::parse(&format!("user-{n}")).unwrap()
}

fn service() -> ServiceType {
    ServiceType::parse("figma").unwrap()
}

fn prefix() -> InstancePrefix {
    InstancePrefix::parse("fig").unwrap()
}

fn fields(key: &str) -> Credential {
    Credential::new([("api_key", key)].into_iter().collect::<Fields>())
}

async fn open(store: &StoreHandle) -> Instances {
    let vault = Vault::new(&MasterKey::from_bytes([5; 32]));
    Instances::open(Arc::clone(store), vault).await.unwrap().0
}

/// A store with one instance of each user, and their ids.
async fn filled(store: StoreHandle) -> (StoreHandle, Vec<String>) {
    let instances = open(&store).await;
    let row = |n| Incoming {
        user: user(n),
        service: service(),
        prefix: prefix(),
        fields: fields(&format!("key {n}")),
        alias: None,
        terms: NewTerms::default(),
        created_at: Timestamp::from_millis(5),
    };
    let added = instances.import((0..USERS).map(row).collect(), true).await;
    let id = |one| match one {
        Imported::Added { id } => id.expose().to_owned(),
        other => panic!("{other:?}"),
    };
    let ids = added.unwrap().into_iter().map(id).collect();
    (store, ids)
}

fn key(entry: &InstanceEntry) -> String {
    let credential = entry.credential().unwrap();
    credential.expose().get("api_key").unwrap().to_owned()
}

/// A user whose instance the start has not read. Which these are is random: lanes write in no order.
fn unloaded(instances: &Instances, ids: &[String]) -> usize {
    let is_unloaded = |id: &String| instances.table().get(&instances.hash(id)).is_none();
    ids.iter().position(is_unloaded).unwrap()
}

async fn found(instances: &Instances, id: &str) -> Option<Arc<InstanceEntry>> {
    instances.find(&instances.hash(id)).await.unwrap()
}

#[tokio::test]
async fn what_is_not_loaded_yet_is_found_and_stays_the_one_entry() {
    let home = tempfile::tempdir().unwrap();
    let file: StoreHandle = Arc::new(Sqlite::open(&home.path().join("mcpm.db")).unwrap());
    for store in [Arc::new(Memory::new()) as StoreHandle, file] {
        let (store, ids) = filled(store).await;
        let again = open(&store).await;
        assert!(!again.table().is_whole());
        assert_eq!(again.table().len(), AT_START);
        let last = unloaded(&again, &ids);
        let entry = found(&again, &ids[last]).await.unwrap();
        assert_eq!(key(&entry), format!("key {last}"));
        assert!(found(&again, "fig_nobodys").await.is_none());
        again.whole().await;
        assert_eq!(again.table().len(), USERS);
        assert!(Arc::ptr_eq(
            &entry,
            &found(&again, &ids[last]).await.unwrap()
        ));
        assert!(found(&again, "fig_nobodys").await.is_none());
    }
}

#[tokio::test]
async fn a_table_that_the_start_has_read_is_whole_at_once() {
    let again = open(&(Arc::new(Memory::new()) as StoreHandle)).await;
    assert!(again.table().is_whole());
    again.whole().await;
}

/// What was read before a change and would come in after it.
#[tokio::test]
async fn a_row_that_was_read_before_a_change_does_not_come_in_after_it() {
    let (store, ids) = filled(Arc::new(Memory::new())).await;
    let again = open(&store).await;
    let last = unloaded(&again, &ids);
    let hash = again.hash(&ids[last]);
    let read = store.stored_by_hash(&hash).await.unwrap().unwrap();
    let rotated = again
        .rotate(&user(last), &service(), &prefix())
        .await
        .unwrap();
    again.rooms.bring(&read);
    assert!(found(&again, &ids[last]).await.is_none());
    let id = rotated.unwrap().id;
    assert!(found(&again, id.expose()).await.is_some());
    again.whole().await;
    assert!(found(&again, &ids[last]).await.is_none());
}

/// All kinds of changes while pages come in; then the table is what the store says.
#[tokio::test]
async fn changes_and_pages_in_any_order_make_the_table_that_the_store_tells_of() {
    let (store, ids) = filled(Arc::new(Memory::new())).await;
    let again = open(&store).await;
    let (of, now) = (service(), Timestamp::now());
    let mut held = HashMap::new();
    for n in (0..USERS).step_by(97) {
        let owner = user(n);
        let before = if n % 2 == 0 {
            found(&again, &ids[n]).await
        } else {
            None
        };
        match n % 7 {
            0 => drop(again.rotate(&owner, &of, &prefix()).await.unwrap()),
            1 => assert!(again.remove(&owner, &of).await.unwrap()),
            2 => drop(again.switch_user(&owner, Some(now)).await.unwrap()),
            3 => assert!(again.forget_user(&owner).await.unwrap()),
            4 => drop(
                again
                    .grant(&owner, &of, &prefix(), fields("new"))
                    .await
                    .unwrap(),
            ),
            5 => {
                let public = store
                    .instance_of(&owner, &of)
                    .await
                    .unwrap()
                    .unwrap()
                    .row
                    .public;
                let (old, new) = (Arc::new(fields(&format!("key {n}"))), fields("fresh"));
                let renewed = again.renew(&owner, &of, &public, &old, Some(new)).await;
                assert_eq!(renewed.unwrap(), Renewed::Done);
            }
            _ => {
                let change = Change {
                    disabled: Some(true),
                    ..Change::default()
                };
                drop(again.change(&owner, &of, change, None).await.unwrap());
            }
        }
        held.insert(n, before);
        tokio::task::yield_now().await;
    }
    again.whole().await;
    let expected = {
        let fresh = open(&store).await;
        fresh.whole().await;
        fresh
    };
    assert_eq!(again.table().len(), expected.table().len());
    for shard in 0..SHARDS {
        for entry in expected
            .table()
            .sweep(shard, |entry| Some(Arc::clone(entry)))
        {
            let row = store
                .instance_of(&entry.user, &of)
                .await
                .unwrap()
                .unwrap()
                .row;
            let ours = again.table().get(&row.hash).unwrap();
            assert_eq!(key(&ours), key(&entry), "{}", entry.user);
        }
    }
    for (n, before) in held
        .into_iter()
        .filter_map(|(n, before)| Some((n, before?)))
    {
        assert_eq!(before.is_outdated(), n % 7 != 5, "user {n}");
    }
}
