//! What must survive a restart: users, tokens, instances, credentials (sealed), health, audit.
//!
//! [`Store`] is a promise in the program's words, never in SQL's. The backends keep it alike:
//! [`Sqlite`] in a file, [`Memory`] without one; `contract.rs` holds the tests that all of them
//! pass. What is secret comes in here sealed or hashed (`vault`): a stolen database holds no
//! working URL, token or credential.
//!
//! Invariant: **acknowledged means durable.** A method that changes something answers after the
//! change has reached the disk; one that failed, or whose daemon died before the answer, has
//! happened wholly or not at all. Dropping a future does not take its change back.

mod error;
mod records;
pub mod memory;
pub mod sqlite;
#[cfg(test)]
mod contract;

use std::pin::Pin;
use std::sync::Arc;

use crate::ids::{PublicId, ServiceType, Timestamp, UserId};

pub use error::{OpenError, StoreError};
pub use memory::Memory;
pub use records::{
    Added, AuditEntry, AuditRow, HealthRow, InstanceCursor, InstanceRow, NewInstance, NewToken,
    NewUser, Page, Rotation, ServiceRow, StoredInstance, TokenOwner, TokenRow, UserRow,
};
pub use sqlite::Sqlite;

/// The store as everybody holds it.
pub type StoreHandle = Arc<dyn Store>;

/// What a [`Store`] method returns: a future that can be sent to another thread.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What must survive a restart. See the room's invariant for what an answer means.
pub trait Store: Send + Sync + 'static {
    // ── users and tokens ──

    /// Adds a user together with their first token; `false`, and nothing changed, when that user
    /// is there already. After a crash: both or neither.
    fn add_user(&self, user: NewUser, token: NewToken) -> Answer<'_, bool>;

    /// Adds a user without a token; `false`, and nothing changed, when that user is there already: of
    /// several who try, one hears `true`.
    fn ensure_user(&self, user: NewUser) -> Answer<'_, bool>;

    /// One user. Changes nothing.
    fn user(&self, id: &UserId) -> Answer<'_, Option<UserRow>>;

    /// Up to `limit` users in the order of their ids, those after `after`. Changes nothing.
    fn users(&self, after: Option<&UserId>, limit: u32) -> Answer<'_, Vec<UserRow>>;

    /// Removes a user with their tokens, instances and credentials, and answers what was removed;
    /// `None` when there was no such user. After a crash: all of it or nothing.
    fn remove_user(&self, id: &UserId) -> Answer<'_, Option<Vec<InstanceRow>>>;

    /// Adds a token; `false`, and nothing changed, when its owner does not exist.
    fn add_token(&self, token: NewToken) -> Answer<'_, bool>;

    /// The token with this keyed hash, whether it still opens anything or not. One point look-up.
    fn token_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<TokenRow>>;

    /// All tokens of an owner, oldest first. Changes nothing.
    fn tokens(&self, owner: &TokenOwner) -> Answer<'_, Vec<TokenRow>>;

    /// Ends a token; `false` when there is none of that number or it was revoked before.
    fn revoke_token(&self, number: i64, at: Timestamp) -> Answer<'_, bool>;

    // ── instances and their credentials ──

    /// Adds an instance with its credential. After a crash: both or neither.
    fn add_instance(&self, instance: NewInstance) -> Answer<'_, Added>;

    /// Puts another sealed credential in the place of an instance's old one, which is gone then;
    /// `false`, and nothing changed, when there is no such instance. After a crash: the old one or
    /// the new one.
    fn replace_credential(
        &self,
        public: &PublicId,
        sealed: Vec<u8>,
        at: Timestamp,
    ) -> Answer<'_, bool>;

    /// Gives an instance another id; `false`, and nothing changed, unless its hash is still
    /// `rotation.old_hash`. After a crash exactly one of the two ids works.
    fn rotate_instance(&self, rotation: Rotation) -> Answer<'_, bool>;

    /// One user's instance of one service, active or not. Changes nothing.
    fn instance_of(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Answer<'_, Option<StoredInstance>>;

    /// The instance whose id has this keyed hash, active or not. One point look-up.
    fn instance_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<InstanceRow>>;

    /// The instance with this public number, active or not. One point look-up.
    fn instance_by_public(&self, public: &PublicId) -> Answer<'_, Option<InstanceRow>>;

    /// All instances of a user, in the order of their services. Changes nothing.
    fn instances_of(&self, user: &UserId) -> Answer<'_, Vec<StoredInstance>>;

    /// A page of all instances, oldest first. Changes nothing.
    fn instances(
        &self,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<InstanceRow, InstanceCursor>>;

    /// A page of those instances that are active at `now`, oldest first, for the router's table.
    /// Changes nothing.
    fn active_instances(
        &self,
        now: Timestamp,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<StoredInstance, InstanceCursor>>;

    /// Removes an instance and its credential, and answers what was removed. After a crash: both
    /// or neither.
    fn remove_instance(&self, public: &PublicId) -> Answer<'_, Option<InstanceRow>>;

    /// Moves the time of last use forward, never back; instances that are gone are passed over.
    /// After a crash: all of the batch or nothing.
    fn touch_instances(&self, used: Vec<(PublicId, Timestamp)>) -> Answer<'_, ()>;

    /// How many instances each service has, active or not. Changes nothing.
    fn instance_counts(&self) -> Answer<'_, Vec<(ServiceType, u64)>>;

    // ── services and health ──

    /// Makes `services` the list of services; those that are no longer in it are kept as retired,
    /// since instances outlive them. After a crash: the old list or the new one.
    fn publish_services(&self, services: Vec<ServiceRow>, at: Timestamp) -> Answer<'_, ()>;

    /// The services that were published last, in the order of their types. Changes nothing.
    fn services(&self) -> Answer<'_, Vec<ServiceRow>>;

    /// Puts these records in the place of the older ones of the same services. After a crash: all
    /// of the batch or nothing.
    fn put_health(&self, records: Vec<HealthRow>) -> Answer<'_, ()>;

    /// What is known of each service's health, in the order of their types. Changes nothing.
    fn health(&self) -> Answer<'_, Vec<HealthRow>>;

    // ── audit and settings ──

    /// Adds to the audit log. After a crash: all of the batch or nothing.
    fn append_audit(&self, entries: Vec<AuditEntry>) -> Answer<'_, ()>;

    /// Up to `limit` entries of the audit log, newest first, those before `before`. Changes
    /// nothing.
    fn audit(&self, before: Option<i64>, limit: u32) -> Answer<'_, Vec<AuditRow>>;

    /// A named value of the daemon's own. Changes nothing.
    fn setting(&self, name: &str) -> Answer<'_, Option<Vec<u8>>>;

    /// Sets a named value. After a crash: the old value or the new one.
    fn put_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, ()>;

    /// Sets a named value unless it has one, and answers the one it has then: of several daemons
    /// that try, all see the same.
    fn keep_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, Vec<u8>>;

    /// Answers when everything that was queued before is on disk and the files are closed. Later
    /// calls answer [`StoreError::Stopped`].
    fn close(&self) -> Answer<'_, ()>;
}
