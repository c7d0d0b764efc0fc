//! Any order of changes: at every step the table answers for exactly the active ids, with the credential
//! of that user and service, and never for an old one.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    AddUser(u8),
    Grant(u8, u8, u16),
    Rotate(u8, u8),
    Remove(u8, u8),
    Forget(u8),
    Switch(u8, u8, bool),
    Expire(u8, u8, End),
    Import(u8, u8, u16, bool),
    Reopen,
}

/// An expiry that has come, one that is far away, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Past,
    Future,
    Never,
}

impl End {
    fn time(self) -> Option<Timestamp> {
        match self {
            Self::Past => Some(Timestamp::from_millis(1)),
            Self::Future => Some(Timestamp::from_millis(i64::MAX / 2)),
            Self::Never => None,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..3u8).prop_map(Op::AddUser),
        6 => (0..3u8, 0..3u8, any::<u16>()).prop_map(|(u, s, key)| Op::Grant(u, s, key)),
        3 => (0..3u8, 0..3u8).prop_map(|(u, s)| Op::Rotate(u, s)),
        2 => (0..3u8, 0..3u8).prop_map(|(u, s)| Op::Remove(u, s)),
        1 => (0..3u8).prop_map(Op::Forget),
        3 => (0..3u8, 0..3u8, any::<bool>()).prop_map(|(u, s, off)| Op::Switch(u, s, off)),
        3 => (0..3u8, 0..3u8, prop_oneof![Just(End::Past), Just(End::Future), Just(End::Never)])
            .prop_map(|(u, s, end)| Op::Expire(u, s, end)),
        3 => (0..3u8, 0..3u8, 0..4u16, any::<bool>())
            .prop_map(|(u, s, alias, add)| Op::Import(u, s, alias, add)),
        1 => Just(Op::Reopen),
    ]
}

/// One instance as it should be.
struct Expected {
    id: String,
    key: String,
    off: bool,
    end: End,
}

impl Expected {
    fn new(id: &InstanceId, key: String) -> Self {
        Self {
            id: id.expose().to_owned(),
            key,
            off: false,
            end: End::Never,
        }
    }

    fn is_active(&self) -> bool {
        !self.off && self.end != End::Past
    }
}

/// What should be there: users, and their instances.
#[derive(Default)]
struct Model {
    users: BTreeSet<u8>,
    live: BTreeMap<(u8, u8), Expected>,
    dead: BTreeSet<String>,
}

impl Model {
    fn end(&mut self, wanted: impl Fn(&(u8, u8)) -> bool) {
        let gone = self.live.extract_if(.., |place, _| wanted(place));
        self.dead.extend(gone.map(|(_, ended)| ended.id));
    }

    fn has_id(&self, id: &str) -> bool {
        self.live.values().any(|expected| expected.id == id)
    }
}

async fn step(world: &mut World, model: &mut Model, op: Op) {
    let name = |n: u8| user(&format!("user {n}"));
    let kind = |n: u8| service(&format!("s{n}"));
    match op {
        Op::AddUser(u) => {
            assert_eq!(
                world.users.add(&name(u)).await.is_ok(),
                model.users.insert(u)
            );
        }
        Op::Grant(u, s, key) => {
            let key = format!("{u} {key}");
            let fields = Credential::new([("api_key", key.clone())].into_iter().collect());
            let granted = world
                .instances
                .grant(&name(u), &kind(s), &prefix(), fields)
                .await;
            assert_eq!(granted.is_ok(), model.users.contains(&u));
            let Ok(granted) = granted else { return };
            assert_eq!(granted.created, !model.live.contains_key(&(u, s)));
            let made = Expected::new(&granted.id, key.clone());
            let known = model.live.entry((u, s)).or_insert(made);
            known.key = key;
            assert_eq!(known.id, granted.id.expose());
            assert_eq!(known.is_active(), granted.active);
        }
        Op::Rotate(u, s) => {
            let new = world
                .instances
                .rotate(&name(u), &kind(s), &prefix())
                .await
                .unwrap();
            assert_eq!(new.is_some(), model.live.contains_key(&(u, s)));
            let Some(new) = new else { return };
            let known = model.live.get_mut(&(u, s)).unwrap();
            let old = std::mem::replace(&mut known.id, new.id.expose().to_owned());
            model.dead.insert(old);
        }
        Op::Remove(u, s) => {
            let removed = world.instances.remove(&name(u), &kind(s)).await.unwrap();
            assert_eq!(removed, model.live.contains_key(&(u, s)));
            model.end(|place| *place == (u, s));
        }
        Op::Forget(u) => {
            let forgotten = world.instances.forget_user(&name(u)).await.unwrap();
            assert_eq!(forgotten, model.users.remove(&u));
            model.end(|(owner, _)| *owner == u);
        }
        Op::Switch(u, s, off) => {
            let change = Change {
                disabled: Some(off),
                ..Change::default()
            };
            let (owner, of) = (name(u), kind(s));
            let changed = world.instances.change(&owner, &of, change, None);
            match (changed.await, model.live.get_mut(&(u, s))) {
                (Err(InstanceError::Expired { .. }), Some(known)) => {
                    assert!(!off && known.end == End::Past);
                }
                (Ok(Some(row)), Some(known)) => {
                    known.off = off;
                    assert_eq!(row.disabled_at.is_some(), off);
                }
                (changed, known) => assert!(known.is_none() && changed.unwrap().is_none()),
            }
        }
        Op::Expire(u, s, end) => {
            let change = Change {
                expires_at: Some(end.time()),
                ..Change::default()
            };
            let (owner, of) = (name(u), kind(s));
            let changed = world.instances.change(&owner, &of, change, None);
            let changed = changed.await.unwrap();
            let known = model.live.get_mut(&(u, s));
            assert_eq!(changed.is_some(), known.is_some());
            if let Some(known) = known {
                known.end = end;
            }
        }
        Op::Import(u, s, alias, add) => {
            let (alias, key) = (format!("alias {alias}"), format!("{u} imported {alias}"));
            let done = world.import(&name(u), &kind(s), &alias, &key, add).await;
            let before = model.live.get(&(u, s)).map(|known| known.id.clone());
            match (done, before) {
                (Imported::Exists { id, is_same }, Some(known)) => {
                    assert_eq!((id.expose(), is_same), (known.as_str(), known == alias));
                }
                (Imported::AliasTaken, None) => assert!(model.has_id(&alias)),
                (Imported::NoUser, None) => assert!(!add && !model.users.contains(&u)),
                (Imported::Added { id }, None) => {
                    assert!(add || model.users.contains(&u));
                    assert!(id.expose() == alias && !model.has_id(&alias));
                    model.users.insert(u);
                    model.dead.remove(&alias);
                    model.live.insert((u, s), Expected::new(&id, key));
                }
                (done, known) => panic!("{done:?}, and known before: {}", known.is_some()),
            }
        }
        Op::Reopen => *world = World::open(Arc::clone(&world.store)).await,
    }
}

/// Table, counts and lists say what the model says.
async fn agree(world: &World, model: &Model) {
    let active = model.live.values().filter(|known| known.is_active());
    assert_eq!(world.instances.table().len(), active.count());
    for ((u, s), known) in &model.live {
        let Expected { id, key, .. } = known;
        if !known.is_active() {
            assert!(world.entry(id).is_none(), "it must not answer");
            continue;
        }
        let entry = world.entry(id).unwrap();
        assert_eq!(entry.user.as_str(), format!("user {u}"));
        assert_eq!(entry.service.as_str(), format!("s{s}"));
        assert_eq!(&world.key(id).unwrap(), key);
        assert!(!entry.is_revoked());
        let own = world
            .instances
            .of(&entry.user, &entry.service)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (own.id.expose(), own.public),
            (id.as_str(), entry.public.clone())
        );
    }
    for id in &model.dead {
        assert!(world.entry(id).is_none());
    }
    let counts: BTreeMap<_, _> = world
        .store
        .instance_counts()
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(world.instances.counts(), counts);
    assert_eq!(counts.values().sum::<u64>(), model.live.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_of_changes_leaves_table_and_store_equal(
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut world = World::open(Arc::new(Memory::new())).await;
            let mut model = Model::default();
            for op in ops {
                step(&mut world, &mut model, op).await;
                agree(&world, &model).await;
            }
            step(&mut world, &mut model, Op::Reopen).await;
            agree(&world, &model).await;
        });
    }
}
