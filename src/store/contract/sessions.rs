//! What is kept of MCP sessions.

use super::{add, add_user, at, instance, public, user};
use crate::store::*;

fn session(n: u16, of: u8, used: i64) -> SessionRow {
    SessionRow {
        key: key(n),
        instance: public(of),
        data: n.to_le_bytes().to_vec(),
        used_at: at(used),
    }
}

fn key(n: u16) -> [u8; 32] {
    let mut key = [7; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    key
}

async fn put(store: &StoreHandle, session: SessionRow) -> bool {
    store.put_session(session).await.unwrap()
}

async fn used(store: &StoreHandle, n: u16) -> Option<i64> {
    let session = store.session(&key(n)).await.unwrap();
    session.map(|session| session.used_at.as_millis())
}

/// Which of these there are.
async fn left(store: &StoreHandle, among: impl IntoIterator<Item = u16>) -> Vec<u16> {
    let mut left = Vec::new();
    for n in among {
        if used(store, n).await.is_some() {
            left.push(n);
        }
    }
    left
}

/// Alice has two instances, Bob one.
async fn three_instances(store: &StoreHandle) {
    add_user(store, "alice", 1).await;
    add_user(store, "bob", 2).await;
    for (n, owner, of) in [
        (1, "alice", "figma"),
        (2, "alice", "demo"),
        (3, "bob", "figma"),
    ] {
        assert_eq!(add(store, owner, of, n).await, Added::Done);
    }
}

pub(super) async fn a_session_is_kept_in_the_place_of_the_one_before(store: StoreHandle) {
    three_instances(&store).await;
    assert_eq!(store.session(&key(1)).await.unwrap(), None);
    assert!(!put(&store, session(1, 9, 5)).await, "nobody's");
    assert_eq!(store.session(&key(1)).await.unwrap(), None);
    let first = session(1, 1, 50);
    assert!(put(&store, first.clone()).await);
    assert!(put(&store, session(2, 3, 60)).await);
    assert_eq!(store.session(&key(1)).await.unwrap(), Some(first));
    // Any bytes, none and many among them; the last use does not move back.
    for data in [vec![], vec![0xff; 70_000]] {
        let next = SessionRow {
            data: data.clone(),
            ..session(1, 1, 40)
        };
        assert!(put(&store, next).await);
        let expected = SessionRow {
            data,
            ..session(1, 1, 50)
        };
        assert_eq!(store.session(&key(1)).await.unwrap(), Some(expected));
    }
    // What fails leaves what was there.
    assert!(!put(&store, session(1, 9, 70)).await);
    assert_eq!(used(&store, 1).await, Some(50));
    assert!(store.end_session(&key(1)).await.unwrap());
    assert!(!store.end_session(&key(1)).await.unwrap());
    assert_eq!(left(&store, 1..=2).await, [2]);
}

pub(super) async fn sessions_end_with_their_instance_and_its_url(store: StoreHandle) {
    three_instances(&store).await;
    let fill = async || {
        for n in 0..6 {
            let of = u8::try_from(n / 2 + 1).unwrap();
            put(&store, session(n, of, 5)).await;
        }
    };
    fill().await;
    assert_eq!(store.end_sessions(&public(2)).await.unwrap(), 2);
    assert_eq!(store.end_sessions(&public(2)).await.unwrap(), 0);
    assert_eq!(store.end_sessions(&public(9)).await.unwrap(), 0);
    assert_eq!(left(&store, 0..6).await, [0, 1, 4, 5]);
    let rotation = |old: u8, new: u8| Rotation {
        public: public(3),
        old_hash: [old; 32],
        new_hash: [new; 32],
        sealed_id: vec![8],
        at: at(9),
    };
    fill().await;
    assert!(!store.rotate_instance(rotation(9, 10)).await.unwrap());
    assert_eq!(
        left(&store, 0..6).await,
        [0, 1, 2, 3, 4, 5],
        "nothing was rotated"
    );
    assert!(store.rotate_instance(rotation(3, 10)).await.unwrap());
    assert_eq!(left(&store, 0..6).await, [0, 1, 2, 3]);
    assert!(put(&store, session(4, 3, 5)).await, "those of the new URL");

    store
        .remove_instance(&public(1), Stays::Nothing)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(left(&store, 0..6).await, [2, 3, 4]);
    assert!(!put(&store, session(0, 1, 5)).await);
    // Another instance of the same user and service is another one, even under the same number.
    let again = store.add_instance(instance("alice", "figma", 1)).await;
    assert_eq!(again.unwrap(), Added::Done);
    assert_eq!(left(&store, 0..6).await, [2, 3, 4]);
    store.remove_user(&user("alice")).await.unwrap().unwrap();
    assert_eq!(left(&store, 0..6).await, [4]);
}

pub(super) async fn sessions_are_few_for_each_instance(store: StoreHandle) {
    three_instances(&store).await;
    let most = u16::try_from(SESSIONS_MAX).unwrap();
    put(&store, session(1000, 3, 0)).await;
    for n in 0..most {
        assert!(put(&store, session(n, 1, i64::from(n) + 10)).await);
    }
    assert_eq!(left(&store, 0..most).await.len(), usize::from(most));
    // One in the place of another makes none too many.
    assert!(put(&store, session(0, 1, 0)).await);
    assert_eq!(left(&store, 0..most).await.len(), usize::from(most));
    // What counts is the last use, not when a session was begun.
    store.touch_sessions(vec![(key(0), at(900))]).await.unwrap();
    assert!(put(&store, session(most, 1, 901)).await);
    assert_eq!(left(&store, 0..4).await, [0, 2, 3]);
    // The one that is kept is there then, though its clock is behind or the same as that of others.
    for (n, used, gone) in [(2000, 0, 2), (1, 901, 2000)] {
        assert!(put(&store, session(n, 1, used)).await);
        assert_eq!(left(&store, [n]).await, [n]);
        assert_eq!(left(&store, [gone]).await, [] as [u16; 0]);
    }
    assert_eq!(left(&store, [1000]).await, [1000], "Bob's");
}

pub(super) async fn the_last_use_of_sessions_moves_forward_only(store: StoreHandle) {
    three_instances(&store).await;
    put(&store, session(1, 1, 50)).await;
    put(&store, session(2, 3, 50)).await;
    let touch = async |uses: &[(u16, i64)]| {
        let uses = uses.iter().map(|&(n, used)| (key(n), at(used)));
        store.touch_sessions(uses.collect()).await.unwrap();
        (used(&store, 1).await, used(&store, 2).await)
    };
    assert_eq!(touch(&[]).await, (Some(50), Some(50)));
    assert_eq!(
        touch(&[(1, 60), (9, 70), (2, 40)]).await,
        (Some(60), Some(50))
    );
    assert_eq!(
        touch(&[(2, 80), (2, 70), (1, 60)]).await,
        (Some(60), Some(80))
    );
    assert_eq!(used(&store, 9).await, None, "none comes back");
}

pub(super) async fn unused_sessions_are_forgotten_in_parts(store: StoreHandle) {
    three_instances(&store).await;
    for (n, used) in (0..).zip([30, 10, 20, 40, 10]) {
        put(&store, session(n, if n == 0 { 1 } else { 3 }, used)).await;
    }
    let forget = async |before, limit| {
        let gone = store.forget_sessions_before(at(before), limit).await;
        gone.unwrap()
    };
    assert_eq!(forget(10, 9).await, 0);
    assert_eq!(forget(31, 0).await, 0);
    assert_eq!(forget(31, 2).await, 2);
    assert_eq!(left(&store, 0..5).await, [0, 2, 3], "the oldest go first");
    assert_eq!(forget(31, 9).await, 2);
    assert_eq!(left(&store, 0..5).await, [3]);
}
