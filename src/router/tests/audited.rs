//! What the router tells the audit log: seldom, and never a secret.

use super::{World, service_spec, upstream};
use crate::router::Routable;
use crate::store::{AuditEntry, AuditFilter};

impl World {
    /// What was told, oldest first.
    async fn told(&self) -> Vec<AuditEntry> {
        self.audit.flush().await;
        let rows = self.audit.list(AuditFilter::default(), None, 1000).await;
        let rows = rows.unwrap().into_iter().rev();
        rows.map(|row| row.entry).collect()
    }
}

fn of<'a>(told: &'a [AuditEntry], action: &str) -> Vec<&'a AuditEntry> {
    told.iter().filter(|entry| entry.action == action).collect()
}

#[tokio::test]
async fn the_first_use_of_an_instance_is_told_and_no_other() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    let (path, _) = world.member("alice").await;
    for _ in 0..5 {
        assert_eq!(world.get(&path).await.status, 200);
    }
    let told = world.told().await;
    // Five requests around midnight may be two days.
    let used = of(&told, "router.first_use");
    assert!(matches!(used.len(), 1 | 2), "{told:?}");
    assert_eq!(used.len(), told.len());
    let first = used[0];
    assert_eq!(first.actor, "url");
    assert_eq!(first.address.as_deref(), Some("127.0.0.1"));
    assert_eq!(first.user.as_ref().unwrap().as_str(), "alice");
    assert_eq!(first.service.as_ref().unwrap().as_str(), "demo");
    assert!(first.public.is_some());
    assert_eq!(first.request_id.as_ref().unwrap().len(), 26);
}

#[tokio::test]
async fn a_token_of_another_user_is_told_with_both_and_answered_as_ever() {
    let upstream = upstream().await;
    let mut spec = service_spec("demo", upstream.port);
    let world = World::new(spec.clone()).await;
    let (path, own) = world.member("alice").await;
    let (_, foreign) = world.member("bob").await;
    spec.require_auth = true;
    world.publish(spec, Routable::Ready);
    let with = async |path: &str, token: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {token}");
        world.exchange(&head, "").await
    };
    assert_eq!(with(&path, &own).await.status, 200);
    let unknown = world.get("/dem_000000000000_aaaaaaaaaaaa/demo").await;
    for _ in 0..3 {
        let reply = with(&path, &foreign).await;
        assert_eq!(reply.without_id(), unknown.without_id());
    }
    for _ in 0..12 {
        assert_eq!(with(&path, "mcpm_u_made_up").await.status, 401);
    }
    let told = world.told().await;
    let events = of(&told, "isolation.foreign_token");
    assert_eq!(events.len(), 1, "{told:?}");
    assert_eq!(events[0].actor, "user:bob");
    assert_eq!(events[0].user.as_ref().unwrap().as_str(), "alice");
    assert!(events[0].public.is_some());
    assert_eq!(of(&told, "isolation.wrong_tokens").len(), 1, "{told:?}");
    assert_eq!(world.audit.isolation_events(), 2);
    let all = format!("{told:?}");
    let id = path.split('/').nth(1).unwrap();
    for secret in [id, own.as_str(), foreign.as_str(), "mcpm_u_made_up"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test]
async fn guesses_are_told_together_and_as_what_they_are() {
    let upstream = upstream().await;
    let world = World::new(service_spec("demo", upstream.port)).await;
    for n in 0..30 {
        let reply = world.get(&format!("/dem_000000000000_{n:026}/demo")).await;
        assert_eq!(reply.code(), "unknown_instance");
    }
    let told = world.told().await;
    assert_eq!(of(&told, "isolation.guessed_ids").len(), 1, "{told:?}");
    let refused = of(&told, "router.refused");
    assert!(matches!(refused.len(), 1 | 2), "{told:?}");
    let times = refused.iter().map(|entry| {
        let detail = entry.detail.as_deref().unwrap();
        assert!(detail.ends_with(" × unknown_instance"), "{detail}");
        detail.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    assert_eq!(times.sum::<u64>(), 30);
    assert!(!format!("{told:?}").contains("dem_000000000000"));
}
