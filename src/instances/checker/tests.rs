//! Against an external service of the test's own, which counts what it is asked.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::config::{LoadOptions, Shell, load_text};
use crate::ids::{InstancePrefix, ServiceType};
use crate::outbound::Policy;
use crate::secret::Secret;
use crate::store::{Memory, StoreHandle};
use crate::users::Users;
use crate::vault::{MasterKey, Vault};

/// The status it answers, how often it was asked, and leave to answer.
struct External {
    status: AtomicU64,
    asked: AtomicUsize,
    leave: Semaphore,
}

struct World {
    external: Arc<External>,
    checker: Checker,
    instances: Instances,
    service: ServiceSpec,
}

async fn external() -> (Arc<External>, String) {
    let external = Arc::new(External {
        status: AtomicU64::new(200),
        asked: AtomicUsize::new(0),
        leave: Semaphore::new(1000),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/me", listener.local_addr().unwrap());
    let served = Arc::clone(&external);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let external = Arc::clone(&served);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                external.asked.fetch_add(1, Ordering::SeqCst);
                external.leave.acquire().await.unwrap().forget();
                let status = external.status.load(Ordering::SeqCst);
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(head.as_bytes()).await;
            });
        }
    });
    (external, url)
}

impl World {
    async fn new() -> Self {
        let (external, url) = external().await;
        let store: StoreHandle = Arc::new(Memory::new());
        let vault = Vault::new(&MasterKey::from_bytes([5; 32]));
        let users = Users::new(Arc::clone(&store), vault.clone());
        let (instances, _) = Instances::open(store, vault).await.unwrap();
        for name in ["alice", "bob"] {
            users.add(&user(name)).await.unwrap();
        }
        let outbound = |allow_private| {
            Outbound::new(Policy {
                allow_private,
                timeout: Duration::from_secs(5),
                max_answer: 1000,
            })
        };
        let checker = Checker::new(
            instances.clone(),
            outbound(false),
            outbound(true),
            Limits::new(users.groups().clone()),
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
        Self {
            external,
            checker,
            instances,
            service: spec(&url),
        }
    }

    async fn check(&self, owner: &str, key: &str) -> Verdict {
        self.checker
            .check(&user(owner), &self.service, &fields(key))
            .await
            .expect("it was not asked too often")
    }

    fn asked(&self) -> usize {
        self.external.asked.load(Ordering::SeqCst)
    }

    fn answer(&self, status: u64) {
        self.external.status.store(status, Ordering::SeqCst);
    }

    async fn until_asked(&self, times: usize) {
        while self.asked() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn fields(key: &str) -> Fields {
    [("api_key", key)].into_iter().collect()
}

fn spec(url: &str) -> ServiceSpec {
    let text = format!(
        "{{apps: [{{name: 'figma', script: '/bin/sh', mcp: {{service: 'figma', port: 49160,
           allow_private: true, auth: {{type: 'api_key', validate: {{url: '{url}'}}}}}}}}]}}"
    );
    let shell = Shell {
        cwd: "/".into(),
        env: std::collections::BTreeMap::new(),
        program: "/bin/sh".into(),
    };
    let loaded = load_text("a.json5", &text, &shell, &LoadOptions::default()).unwrap();
    loaded.apps[0].mcp.clone().unwrap()
}

#[tokio::test]
async fn equal_questions_at_once_are_one_call_and_survive_who_asked_first() {
    let world = Arc::new(World::new().await);
    world.external.leave.forget_permits(1000);
    let ask = |owner: &'static str, key: &'static str| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.check(owner, key).await })
    };
    let first = ask("alice", "k");
    world.until_asked(1).await;
    let others: Vec<_> = (0..20).map(|_| ask("alice", "k")).collect();
    let other_key = ask("alice", "l");
    let other_user = ask("bob", "k");
    world.until_asked(3).await;
    first.abort();
    assert!(first.await.is_err());
    // One of those who wait asks in the place of the one who went away.
    world.until_asked(4).await;
    world.external.leave.add_permits(100);
    for other in others {
        assert_eq!(other.await.unwrap(), Verdict::Good);
    }
    assert_eq!(other_key.await.unwrap(), Verdict::Good);
    assert_eq!(other_user.await.unwrap(), Verdict::Good);
    assert_eq!(world.asked(), 4);
}

#[tokio::test]
async fn a_yes_and_a_no_are_remembered_for_their_user_and_nothing_else_is() {
    let world = World::new().await;
    assert_eq!(world.check("alice", "k").await, Verdict::Good);
    assert_eq!(world.check("alice", "k").await, Verdict::Good);
    assert_eq!(world.asked(), 1);
    assert_eq!(world.check("bob", "k").await, Verdict::Good);
    assert_eq!(world.asked(), 2, "one user's yes is not another's");

    world.answer(401);
    for _ in 0..5 {
        let Verdict::Wrong { why } = world.check("alice", "bad").await else {
            panic!("a 401 is a no");
        };
        assert!(
            why.contains("http://127.0.0.1:") && !why.contains("/me"),
            "{why}"
        );
    }
    assert_eq!(world.asked(), 3);

    for status in [429, 503] {
        world.answer(status);
        for _ in 0..2 {
            let said = world.check("alice", "other").await;
            assert!(matches!(said, Verdict::CouldNotCheck { .. }), "{said:?}");
        }
    }
    assert_eq!(world.asked(), 7);
    world.answer(200);
    assert_eq!(world.check("alice", "other").await, Verdict::Good);
    // Another rule is another question.
    let mut changed = world.service.clone();
    changed.auth.validate.as_mut().unwrap().expect = vec![204];
    let said = world
        .checker
        .check(&user("alice"), &changed, &fields("k"))
        .await
        .unwrap();
    assert!(matches!(said, Verdict::CouldNotCheck { .. }), "{said:?}");
    let mut never = world.service.clone();
    never.auth.validate.as_mut().unwrap().cache = Duration::ZERO;
    for _ in 0..2 {
        let said = world
            .checker
            .check(&user("alice"), &never, &fields("k"))
            .await
            .unwrap();
        assert_eq!(said, Verdict::Good);
    }
    assert_eq!(world.asked(), 11);
}

#[tokio::test]
async fn whoever_tries_keys_is_stopped_before_the_external_service_is() {
    let world = World::new().await;
    world.answer(401);
    for n in 0..30 {
        let said = world.check("alice", &format!("k{n}")).await;
        assert!(matches!(said, Verdict::Wrong { .. }), "{said:?}");
    }
    let ask = async |owner: &str, key: &str| {
        let (owner, key) = (user(owner), fields(key));
        world.checker.check(&owner, &world.service, &key).await
    };
    let wait = ask("alice", "another").await.unwrap_err();
    assert!(
        !wait.is_zero() && wait <= Duration::from_secs(2),
        "{wait:?}"
    );
    // What is known costs nothing, and nobody else pays for it.
    assert!(matches!(
        ask("alice", "k29").await,
        Ok(Verdict::Wrong { .. })
    ));
    assert!(matches!(
        ask("bob", "another").await,
        Ok(Verdict::Wrong { .. })
    ));
    assert_eq!(world.asked(), 31);
}

#[tokio::test]
async fn no_yes_counts_that_is_older_than_the_last_401_of_the_service() {
    let world = World::new().await;
    assert_eq!(world.check("alice", "k").await, Verdict::Good);
    let (alice, figma) = (user("alice"), ServiceType::parse("figma").unwrap());
    let prefix = InstancePrefix::parse("fig").unwrap();
    let given = Secret::new(fields("k"));
    let granted = world.instances.grant(&alice, &figma, &prefix, given);
    let id = granted.await.unwrap().id;
    let entry = || {
        world
            .instances
            .table()
            .get(&world.instances.hash(id.expose()))
            .unwrap()
    };
    world
        .instances
        .answered(&entry(), &world.service, StatusCode::UNAUTHORIZED);
    world.answer(403);
    assert!(matches!(
        world.check("alice", "k").await,
        Verdict::Wrong { .. }
    ));
    assert_eq!(world.asked(), 2);

    // Three in a row put it before whoever checks again.
    for _ in 0..2 {
        world
            .instances
            .answered(&entry(), &world.service, StatusCode::UNAUTHORIZED);
    }
    let recheck = world.instances.next_recheck().await;
    assert!(Arc::ptr_eq(&recheck.instance, &entry()));
    let row = world
        .instances
        .by_public(&entry().public)
        .await
        .unwrap()
        .unwrap();
    assert!(world.instances.refused_since(&row).is_some());
    world.answer(200);
    let credential = recheck.instance.credential().unwrap();
    let again = world
        .checker
        .check_again(&alice, &recheck.service, credential.expose());
    assert_eq!(again.await, Some(Verdict::Good), "whatever was remembered");
    world.answer(401);
    let again = world
        .checker
        .check_again(&alice, &recheck.service, credential.expose());
    assert!(matches!(again.await, Some(Verdict::Wrong { .. })));

    let since = Timestamp::from_millis(7);
    let stale = entry();
    assert!(
        world
            .instances
            .expire_credential(&entry(), &credential, since)
            .await
            .unwrap()
    );
    assert!(
        !world
            .instances
            .expire_credential(&entry(), &credential, since)
            .await
            .unwrap()
    );
    assert_eq!(entry().credential_expired_at(), Some(since));
    let own = world
        .instances
        .of(&user("alice"), &figma)
        .await
        .unwrap()
        .unwrap();
    assert!(own.active && own.credential.expired_at() == Some(since));
    // Another URL has the same credential; another credential is good.
    let rotated = world
        .instances
        .rotate(&user("alice"), &figma, &prefix)
        .await
        .unwrap()
        .unwrap();
    let hash = world.instances.hash(rotated.id.expose());
    let rotated = world.instances.table().get(&hash).unwrap();
    assert_eq!(rotated.credential_expired_at(), Some(since));
    let given = Secret::new(fields("new"));
    world
        .instances
        .grant(&user("alice"), &figma, &prefix, given)
        .await
        .unwrap();
    let healed = world.instances.table().get(&hash).unwrap();
    assert_eq!(healed.credential_expired_at(), None);
    // What was found out about the former one says nothing about it.
    assert!(
        !world
            .instances
            .expire_credential(&stale, &credential, since)
            .await
            .unwrap()
    );
    assert!(
        !world
            .instances
            .expire_credential(&rotated, &credential, since)
            .await
            .unwrap()
    );
    assert_eq!(healed.credential_expired_at(), None);
}

#[tokio::test]
async fn one_user_does_not_take_all_places() {
    let world = Arc::new(World::new().await);
    world.external.leave.forget_permits(1000);
    let keys: Vec<String> = (0..OF_ONE_USER_MAX).map(|n| format!("k{n}")).collect();
    for key in keys {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.check("alice", &key).await });
    }
    world.until_asked(OF_ONE_USER_MAX).await;
    let Verdict::CouldNotCheck { why } = world.check("alice", "one more").await else {
        panic!("too many");
    };
    assert!(why.contains("too many"), "{why}");
    world.external.leave.add_permits(100);
    assert_eq!(world.check("bob", "k").await, Verdict::Good);
}
