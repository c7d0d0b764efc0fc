//! Terms that change, by order and by the clock, and many that come in at once.

use super::*;

/// Ends when what streams on behalf of the entry must stop.
async fn end_of(entry: &InstanceEntry) {
    let ended = tokio::time::timeout(Duration::from_secs(20), entry.revoked());
    ended.await.expect("its streams end");
}

#[tokio::test]
async fn what_is_switched_off_ends_at_once_and_comes_back_as_it_was() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "key").await;
    let id = granted.id.expose();
    let entry = world.entry(id).unwrap();
    let switch = |off| Change {
        disabled: Some(off),
        ..Change::default()
    };
    let off = world.change(&granted, switch(true)).await.unwrap();
    assert!(off.disabled_at.is_some());
    end_of(&entry).await;
    assert!(world.entry(id).is_none());
    // A new key or URL does not switch it on.
    assert!(!world.grant("alice", "figma", "new key").await.active);
    assert!(world.entry(id).is_none());
    let on = world.change(&granted, switch(false)).await.unwrap();
    assert_eq!(on.disabled_at, None);
    assert_eq!(world.key(id).unwrap(), "new key");
}

#[tokio::test]
async fn its_time_comes_on_open_streams_too() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "key").await;
    let other = world.grant("bob", "figma", "key").await;
    let entry = world.entry(granted.id.expose()).unwrap();
    let until = |end: Option<i64>| Change {
        expires_at: Some(end.map(Timestamp::from_millis)),
        ..Change::default()
    };
    let now = Timestamp::now().as_millis();
    world.change(&granted, until(Some(now + 3_600_000))).await;
    assert!(!entry.is_revoked(), "streams go on when the end is put off");
    world.change(&granted, until(Some(now + 50))).await;
    end_of(&entry).await;
    assert!(world.entry(granted.id.expose()).is_none());
    assert!(world.entry(other.id.expose()).is_some());
    let on = Change {
        disabled: Some(false),
        ..Change::default()
    };
    let refused = world.instances.change_public(&granted.public, on, None);
    assert!(matches!(refused.await, Err(InstanceError::Expired { .. })));
    world.change(&granted, until(None)).await;
    assert_eq!(world.key(granted.id.expose()).unwrap(), "key");
}

#[tokio::test]
async fn the_next_daemon_keeps_the_ends_of_the_one_before() {
    let world = World::new().await;
    let terms = NewTerms {
        label: None,
        expires_at: Some(Timestamp::from_millis(Timestamp::now().as_millis() + 300)),
    };
    let fields = Credential::new(Fields::new());
    let granted = world
        .instances
        .grant_under(
            &user("alice"),
            &service("figma"),
            &prefix(),
            fields,
            terms,
            Asker::default(),
        )
        .await
        .unwrap();
    let again = World::open(Arc::clone(&world.store)).await;
    // On a very slow machine its time may have come before that one was up.
    if let Some(entry) = again.entry(granted.id.expose()) {
        end_of(&entry).await;
        assert!(again.entry(granted.id.expose()).is_none());
    }
}

#[tokio::test]
async fn rotation_keeps_the_terms() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "key").await;
    let change = Change {
        label: Some(Some(Label::parse("laptop").unwrap())),
        expires_at: Some(Some(Timestamp::from_millis(i64::MAX / 2))),
        disabled: Some(true),
    };
    let before = world.change(&granted, change).await.unwrap();
    let rotated = world
        .instances
        .rotate_public(&before, &prefix(), None)
        .await
        .unwrap()
        .unwrap();
    assert!(!rotated.active);
    assert!(world.entry(rotated.id.expose()).is_none());
    let after = world.instances.by_public(&granted.public).await.unwrap();
    let after = after.unwrap();
    assert_eq!(after.terms(), before.terms());
    assert!(after.rotated_at.is_some() && after.hash != before.hash);
}

#[tokio::test]
async fn of_two_editors_the_later_one_learns_of_the_first() {
    let world = World::new().await;
    let granted = world.grant("alice", "figma", "key").await;
    let seen = world.instances.by_public(&granted.public).await.unwrap();
    let seen = vec![Version::of(&seen.unwrap())];
    let call_it = |name: &str| Change {
        label: Some(Some(Label::parse(name).unwrap())),
        ..Change::default()
    };
    let edit = async |name: &str| {
        let (public, seen) = (&granted.public, Some(seen.clone()));
        let changed = world.instances.change_public(public, call_it(name), seen);
        changed.await
    };
    assert!(edit("first").await.unwrap().is_some());
    assert!(matches!(edit("second").await, Err(InstanceError::Changed)));
    let row = world.instances.by_public(&granted.public).await.unwrap();
    let (row, old) = (row.unwrap(), || Some(seen.clone()));
    let removed = world
        .instances
        .remove_seen(&row, old(), Stays::Nothing)
        .await;
    assert!(matches!(removed, Err(InstanceError::Changed)));
    let rotated = world.instances.rotate_public(&row, &prefix(), old()).await;
    assert!(matches!(rotated, Err(InstanceError::Changed)));
    let (alice, figma, first) = (user("alice"), service("figma"), prefix());
    let rotated = world.instances.rotate_seen(&alice, &figma, &first, old());
    assert!(matches!(rotated.await, Err(InstanceError::Changed)));
    assert!(world.entry(granted.id.expose()).is_some(), "it goes on");
    let own = world.instances.of(&user("alice"), &service("figma")).await;
    let own = own.unwrap().unwrap();
    assert_eq!(own.label, Some(Label::parse("first").unwrap()));
    assert!(!seen.contains(&own.version));
}

#[tokio::test]
async fn many_come_in_at_once_and_again_only_what_is_missing() {
    let world = World::new().await;
    let rows = |count: usize| -> Vec<Incoming> {
        let row = |n: usize| Incoming {
            user: user(&format!("user {}", n / 2)),
            service: service(&format!("s{}", n % 2)),
            prefix: prefix(),
            fields: Credential::new(
                [("api_key", format!("key {n}"))]
                    .into_iter()
                    .collect::<Fields>(),
            ),
            alias: n
                .is_multiple_of(3)
                .then(|| InstanceId::new(format!("old id {n}"))),
            terms: NewTerms::default(),
            created_at: Timestamp::from_millis(n as i64),
        };
        (0..count).map(row).collect()
    };
    let nobody = world.instances.import(rows(4), false).await.unwrap();
    assert!(nobody.iter().all(|one| matches!(one, Imported::NoUser)));
    let half = world.instances.import(rows(40), true).await.unwrap();
    assert!(half.iter().all(|one| matches!(one, Imported::Added { .. })));
    let all = world.instances.import(rows(100), true).await.unwrap();
    for (n, one) in all.iter().enumerate() {
        let id = match one {
            Imported::Added { id } if n >= 40 => id,
            Imported::Exists { id, is_same: true } if n < 40 => id,
            other => panic!("{n}: {other:?}"),
        };
        assert_eq!(world.key(id.expose()).unwrap(), format!("key {n}"));
        assert!(n % 3 > 0 || id.expose() == format!("old id {n}"));
    }
    assert_eq!(world.instances.table().len(), 100);
    assert_eq!(world.instances.counts()[&service("s1")], 50);
    let again = World::open(Arc::clone(&world.store)).await;
    assert_eq!(again.instances.table().len(), 100);
    assert_eq!(again.key("old id 99").unwrap(), "key 99");
}

#[tokio::test]
async fn a_daemon_that_has_handed_over_follows_what_the_other_one_says() {
    let before = World::new().await;
    let (alice, bob) = (
        before.grant("alice", "figma", "a").await,
        before.grant("bob", "figma", "b").await,
    );
    let after = World::open(Arc::clone(&before.store)).await;
    let mut news = after.instances.endings();
    let next = |ending: Ending| {
        assert_eq!(*ending.public(), alice.public);
        ending
    };
    let (old, other) = (
        before.entry(alice.id.expose()).unwrap(),
        before.entry(bob.id.expose()).unwrap(),
    );

    // Another end: nothing is cut.
    let end = Timestamp::from_millis(Timestamp::now().as_millis() + 1_000_000);
    let change = Change {
        expires_at: Some(Some(end)),
        ..Change::default()
    };
    after.change(&alice, change).await.unwrap();
    let ending = next(news.recv().await.unwrap());
    before.instances.follow(&ending).await.unwrap();
    assert!(!old.is_revoked() && old.expires_at() == Some(end));

    // Another credential: the same URL, and what never ends by itself is cut.
    after.grant("alice", "figma", "new").await;
    let ending = next(news.recv().await.unwrap());
    before.instances.follow(&ending).await.unwrap();
    assert!(old.is_outdated() && !old.is_revoked());
    assert_eq!(before.key(alice.id.expose()).unwrap(), "new");

    // Another URL.
    let (owner, of, prefix) = (user("alice"), service("figma"), prefix());
    let rotated = after
        .instances
        .rotate(&owner, &of, &prefix)
        .await
        .unwrap()
        .unwrap();
    while let Ok(ending) = news.try_recv() {
        before.instances.follow(&next(ending)).await.unwrap();
    }
    assert!(before.entry(alice.id.expose()).is_none());
    let now = before.entry(rotated.id.expose()).unwrap();

    // None.
    assert!(after.instances.remove_public(&alice.public).await.unwrap());
    while let Ok(ending) = news.try_recv() {
        before.instances.follow(&next(ending)).await.unwrap();
    }
    end_of(&now).await;
    assert!(before.entry(rotated.id.expose()).is_none());
    assert!(!other.is_revoked());
}

#[tokio::test]
async fn what_an_operator_has_laid_down_is_not_undone_by_removing_it() {
    let world = World::new().await;
    let first = world.grant("alice", "figma", "key").await;
    let end = Timestamp::from_millis(Timestamp::now().as_millis() + 3_600_000);
    let off = Change {
        disabled: Some(true),
        expires_at: Some(Some(end)),
        ..Change::default()
    };
    let row = world.change(&first, off).await.unwrap();
    let remove = async |row: &InstanceRow, stays| {
        let removed = world.instances.remove_seen(row, None, stays).await;
        assert!(removed.unwrap());
    };
    remove(&row, Stays::Terms).await;
    let next = world.grant("alice", "figma", "key").await;
    assert!(next.created && !next.active);
    assert!(world.entry(next.id.expose()).is_none());
    let found = world.instances.by_public(&next.public).await.unwrap();
    let found = found.unwrap();
    assert_eq!(
        (found.expires_at, found.disabled_at),
        (row.expires_at, row.disabled_at)
    );
    // Nobody else's, and of no other service.
    assert!(world.grant("alice", "other", "key").await.active);
    assert!(world.grant("bob", "figma", "key").await.active);
    // The operator's own removal is another matter.
    remove(&found, Stays::Nothing).await;
    let last = world.grant("alice", "figma", "key").await;
    assert!(last.active && world.entry(last.id.expose()).is_some());
}
