//! Who is known, whose limits hold, and who is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::ids::Timestamp;
use crate::store::{Memory, NewUser, StoreHandle};
use crate::users::Users;
use crate::vault::{MasterKey, Vault};

fn users() -> (Users, StoreHandle) {
    let store: StoreHandle = Arc::new(Memory::new());
    let vault = Vault::new(&MasterKey::from_bytes([3; 32]));
    (Users::new(store.clone(), vault), store)
}

fn id(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn group(text: &str) -> GroupName {
    GroupName::parse(text).unwrap()
}

fn demo() -> ServiceType {
    ServiceType::parse("demo").unwrap()
}

fn requests(burst: u64) -> Quota {
    Quota {
        requests: Some(Rate {
            per_minute: 1,
            burst,
        }),
        ..Quota::default()
    }
}

/// What of so many requests passes.
fn free(limits: &Limits, user: &str, service: &ServiceSpec) -> usize {
    let seat = limits.seat(&id(user), &service.service);
    let passes = |_: &usize| limits.admit(service, || &seat, false).is_ok();
    (0..100).filter(passes).count()
}

fn service() -> ServiceSpec {
    let probe = json!({"http": "/health"});
    serde_json::from_value(json!({
        "service": "demo", "displayName": "demo", "description": null, "category": null,
        "iconUrl": null, "port": 49160, "mcpPath": "/mcp", "protocol": "mcp",
        "upstreamPath": "/{rest}", "prefix": "dem",
        "health": {
            "readiness": probe, "liveness": probe, "interval": 30000, "timeout": 2000,
            "unhealthyAfter": 3, "expect": []
        },
        "startTimeout": 60000,
        "auth": {
            "kind": "none", "fields": [],
            "inject": {"headers": [], "query": [], "basic": null},
            "validate": null, "oauth": null
        },
        "requireAuth": false, "rateLimit": null, "allowPrivate": false
    }))
    .expect("this is a service")
}

#[tokio::test]
async fn a_group_limits_its_users_and_other_limits_hold_at_once() {
    let (users, store) = users();
    let limits = Limits::new(users.groups().clone());
    let service = service();
    let seat = limits.seat(&id("alice"), &demo());
    let untouched = || -> &Arc<Seat> { panic!("nobody is asked while nothing limits") };
    assert!(limits.admit(&service, untouched, true).unwrap().is_none());
    for user in ["alice", "bob"] {
        let new = NewUser {
            id: id(user),
            created_at: Timestamp::from_millis(1),
            group: None,
        };
        store.ensure_user(new).await.unwrap();
    }
    let spec = |free: u64, pro: u64| LimitsSpec {
        user: requests(5),
        groups: BTreeMap::from([
            (group("free"), requests(free)),
            (group("pro"), requests(pro)),
        ]),
        ..LimitsSpec::default()
    };
    limits.apply(&spec(2, 20));
    users
        .groups()
        .set(&id("alice"), Some(group("pro")))
        .await
        .unwrap();
    assert_eq!(free(&limits, "alice", &service), 20);
    assert_eq!(free(&limits, "bob", &service), 5);
    assert_eq!(limits.of_user(Some(&group("free"))), requests(2));
    // Twenty are gone, of thirty.
    limits.apply(&spec(2, 30));
    assert_eq!(free(&limits, "alice", &service), 10);
    users
        .groups()
        .set(&id("alice"), Some(group("gone")))
        .await
        .unwrap();
    assert_eq!(free(&limits, "alice", &service), 0);
    limits.apply(&LimitsSpec::default());
    assert!(limits.admit(&service, || &seat, false).unwrap().is_none());
    let refused = limits.refused();
    assert_eq!(
        refused.iter().map(|refused| refused.count).sum::<u64>(),
        80 + 95 + 90 + 100
    );
    assert!(
        refused
            .iter()
            .all(|it| it.count == 0 || it.scope == Scope::User)
    );
}

#[tokio::test(start_paused = true)]
async fn calls_and_validations_are_limited_for_each_user_whatever_is_said() {
    let (users, _) = users();
    let limits = Limits::new(users.groups().clone());
    let calls = |user: &str| {
        (0..2000)
            .take_while(|_| limits.call(&id(user)).is_ok())
            .count()
    };
    let asks = |user: &str, service: &str| {
        let service = ServiceType::parse(service).unwrap();
        let asks = || limits.validation(&id(user), &service);
        (0..2000).take_while(|_| asks().is_ok()).count()
    };
    assert_eq!(
        (calls("alice"), calls("bob"), calls("alice")),
        (1200, 1200, 0)
    );
    assert_eq!((asks("alice", "demo"), asks("alice", "demo")), (30, 0));
    assert_eq!((asks("alice", "figma"), asks("bob", "demo")), (30, 30));
    let wait = limits.call(&id("alice")).unwrap_err();
    assert_eq!(wait, Duration::from_millis(50));
    // What others do meanwhile makes nobody forget it.
    for n in 0..10_000 {
        limits.call(&id(&format!("u{n}"))).unwrap();
    }
    assert_eq!((calls("alice"), asks("alice", "demo")), (0, 0));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!((calls("alice"), asks("alice", "demo")), (40, 1));
    limits.apply(&LimitsSpec {
        calls: Some(Rate::UNLIMITED),
        validations: Some(Rate::UNLIMITED),
        ..LimitsSpec::default()
    });
    assert_eq!((calls("alice"), asks("alice", "demo")), (2000, 2000));
}

#[tokio::test]
async fn a_service_may_have_limits_of_its_own() {
    let (users, _) = users();
    let limits = Limits::new(users.groups().clone());
    let mut service = service();
    service.limits.service = requests(3);
    assert_eq!(free(&limits, "alice", &service), 3);
    assert_eq!(free(&limits, "bob", &service), 0, "over all users");
    limits.apply(&LimitsSpec {
        instance: requests(2),
        service: requests(1),
        ..LimitsSpec::default()
    });
    assert_eq!(limits.of_service(&service), (requests(2), requests(3)));
    service.rate_limit = Some(crate::config::spec::RateLimit {
        per_minute: 1,
        burst: 7,
    });
    assert_eq!(limits.of_service(&service).0, requests(7));
    service.limits.instance = Quota {
        requests: Some(Rate::UNLIMITED),
        ..Quota::default()
    };
    assert_eq!(limits.of_service(&service).0, Quota::default());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_as_good_as_new_is_forgotten_and_nobody_else() {
    let (users, _) = users();
    let limits = Limits::new(users.groups().clone());
    limits.apply(&LimitsSpec {
        user: requests(1),
        ..LimitsSpec::default()
    });
    let service = service();
    assert_eq!(free(&limits, "alice", &service), 1);
    let known = || -> usize {
        let shards = limits.0.shards.iter();
        shards.map(|shard| shard.lock().unwrap().users.len()).sum()
    };
    let visit = |from: usize| {
        for n in from..from + 50_000 {
            drop(limits.seat(&id(&format!("user {n}")), &demo()));
        }
    };
    visit(0);
    assert!(known() <= SHARDS * KNOWN_MIN + 1, "{}", known());
    assert_eq!(
        free(&limits, "alice", &service),
        0,
        "who has used something is remembered"
    );
    tokio::time::advance(Duration::from_secs(60)).await;
    visit(50_000);
    let shard = limits.shard(&id("alice"));
    assert!(!shard.users.contains_key(&id("alice")));
}
