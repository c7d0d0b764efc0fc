//! In which group a user is, for those who ask at each request: in memory, for users who are in one or
//! are asked about.
//!
//! The store is first, and one change comes after the other: what is known here is what was written
//! last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use crate::ids::{GroupName, UserId};
use crate::store::{StoreError, StoreHandle};

/// Users that are read at once when the daemon starts.
const PAGE: u32 = 10_000;

/// Users that are known, beside those in groups, before anybody looks for ones to forget.
const KNOWN_MIN: usize = 1024;

/// One user's group, as it is now.
#[derive(Debug, Default)]
pub struct Member(ArcSwapOption<GroupName>);

impl Member {
    /// The group. Takes no lock.
    pub fn group(&self) -> Guard<Option<Arc<GroupName>>> {
        self.0.load()
    }
}

/// The groups of all users. Cheap to clone.
#[derive(Clone)]
pub struct Groups {
    store: StoreHandle,
    known: Arc<Mutex<Known>>,
    changes: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Known {
    members: HashMap<UserId, Arc<Member>>,
    /// With so many it is time to forget some.
    forget_at: usize,
}

impl Groups {
    /// Nobody is known to be in a group: [`Groups::load`] reads who is.
    pub(super) fn new(store: StoreHandle) -> Self {
        Self {
            store,
            known: Arc::default(),
            changes: Arc::default(),
        }
    }

    /// Reads from the store who is in a group.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn load(&self) -> Result<(), StoreError> {
        let _turn = self.changes.lock().await;
        let mut after = None;
        loop {
            let page = self.store.grouped_users(after.as_ref(), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            after = page.last().map(|(user, _)| user.clone());
            for (user, group) in page {
                self.lock().put(&user, Some(group));
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The user's group, which changes with them.
    pub fn member(&self, user: &UserId) -> Arc<Member> {
        self.lock().member(user)
    }

    /// Puts a user into a group, or into none: whoever has their [`Member`] sees it when this answers.
    /// `false` when there is no such user.
    ///
    /// # Errors
    /// Nothing could be written; they are where they were.
    pub async fn set(&self, user: &UserId, group: Option<GroupName>) -> Result<bool, StoreError> {
        let (groups, user) = (self.clone(), user.clone());
        // A caller that goes away does not keep those who hold it from seeing the change.
        let changing = tokio::spawn(async move {
            let _turn = groups.changes.lock().await;
            let is_there = groups.store.set_group(&user, group.clone()).await?;
            groups.lock().put(&user, group.filter(|_| is_there));
            Ok::<_, StoreError>(is_there)
        });
        changing.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Takes what the store says of a user who was added, or removed.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn refresh(&self, user: &UserId) -> Result<(), StoreError> {
        let _turn = self.changes.lock().await;
        let row = self.store.user(user).await?;
        self.lock().put(user, row.and_then(|row| row.group));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, user: &UserId, group: Option<GroupName>) {
        match self.members.get(user) {
            Some(member) => member.0.store(group.map(Arc::new)),
            None if group.is_some() => self.member(user).0.store(group.map(Arc::new)),
            None => {}
        }
    }

    fn member(&mut self, user: &UserId) -> Arc<Member> {
        if let Some(member) = self.members.get(user) {
            return Arc::clone(member);
        }
        if self.members.len() >= self.forget_at {
            // Nobody else can get one meanwhile.
            self.members
                .retain(|_, member| Arc::strong_count(member) > 1 || member.0.load().is_some());
            self.forget_at = (self.members.len() * 2).max(KNOWN_MIN);
        }
        let member = Arc::<Member>::default();
        self.members.insert(user.clone(), Arc::clone(&member));
        member
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Timestamp;
    use crate::store::{Memory, NewUser};

    fn id(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    fn named(text: &str) -> Option<GroupName> {
        Some(GroupName::parse(text).unwrap())
    }

    fn group(member: &Member) -> Option<GroupName> {
        member.group().as_deref().cloned()
    }

    async fn add(store: &StoreHandle, user: &str, group: Option<GroupName>) {
        let new = NewUser {
            id: id(user),
            created_at: Timestamp::from_millis(1),
            group,
        };
        assert!(store.ensure_user(new).await.unwrap());
    }

    #[tokio::test]
    async fn whoever_asked_once_sees_what_was_written_last() {
        let store: StoreHandle = Arc::new(Memory::new());
        add(&store, "alice", named("pro")).await;
        add(&store, "bob", None).await;
        let groups = Groups::new(store.clone());
        groups.load().await.unwrap();
        let (alice, bob) = (groups.member(&id("alice")), groups.member(&id("bob")));
        assert_eq!((group(&alice), group(&bob)), (named("pro"), None));
        assert!(groups.set(&id("bob"), named("free")).await.unwrap());
        assert!(groups.set(&id("alice"), None).await.unwrap());
        assert_eq!((group(&alice), group(&bob)), (None, named("free")));
        assert!(!groups.set(&id("nobody"), named("free")).await.unwrap());
        assert_eq!(group(&groups.member(&id("nobody"))), None);
        store.remove_user(&id("bob")).await.unwrap();
        groups.refresh(&id("bob")).await.unwrap();
        assert_eq!(group(&bob), None);
    }

    #[tokio::test]
    async fn those_who_are_in_none_and_whom_nobody_asks_about_are_forgotten() {
        let store: StoreHandle = Arc::new(Memory::new());
        add(&store, "alice", named("pro")).await;
        let groups = Groups::new(store);
        groups.load().await.unwrap();
        let held = groups.member(&id("held"));
        for n in 0..10 * KNOWN_MIN {
            drop(groups.member(&id(&format!("user {n}"))));
        }
        assert!(groups.lock().members.len() <= KNOWN_MIN);
        assert!(Arc::ptr_eq(&held, &groups.member(&id("held"))));
        assert_eq!(group(&groups.member(&id("alice"))), named("pro"));
    }
}
