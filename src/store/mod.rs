//! What must survive a restart: users, tokens, instances, credentials (sealed), health, usage, audit.
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
pub mod histogram;
mod usage;
mod terms;
mod last_use;
mod checks;
mod sessions;
pub mod memory;
pub mod sqlite;
#[cfg(test)]
mod contract;

use std::pin::Pin;
use std::sync::Arc;

use crate::ids::{Day, GroupName, PublicId, ServiceType, Timestamp, UserId};

pub use checks::{CHECKS_MAX, Check, CheckKey};
pub use error::{OpenError, StoreError};
pub use histogram::Histogram;
pub use last_use::LastUse;
pub use memory::Memory;
pub use records::{
    Added, AuditEntry, AuditFilter, AuditRow, CredentialState, HealthRow, InstanceCursor,
    InstanceRow, NewInstance, NewToken, NewUser, Page, Reseal, Rotation, ServiceRow, Setting,
    StoredInstance, Swap, TokenOwner, TokenRow, UserRow,
};
pub use records::{ENDED_TOKENS_KEPT, TOKENS_MAX, TokenAdded, TokenChoice};
pub use sessions::{SESSIONS_MAX, SessionRow};
pub use sqlite::Sqlite;
pub use terms::{InstanceFilter, Proposal, Standing, Stays, Terms};
pub use usage::{BadCursor, Usage, UsageFilter, UsageKey, UsageRow};

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

    /// Removes a user with their tokens, instances, credentials and sessions, and answers what was removed;
    /// `None` when there was no such user. Their usage stays, for the operator's books. After a
    /// crash: all of it or nothing.
    fn remove_user(&self, id: &UserId) -> Answer<'_, Option<Vec<InstanceRow>>>;

    /// Switches a user off, since this time, or on; what is theirs stays. `None` when there is no
    /// such user, else whether that has changed anything. After a crash: off or on.
    fn switch_user(&self, id: &UserId, off: Option<Timestamp>) -> Answer<'_, Option<bool>>;

    /// Puts a user into a group, or into none; `false`, and nothing changed, when there is no such user.
    /// After a crash: the old group or the new one.
    fn set_group(&self, id: &UserId, group: Option<GroupName>) -> Answer<'_, bool>;

    /// Up to `limit` users who are in a group, in the order of their ids, those after `after`. Changes
    /// nothing.
    fn grouped_users(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Answer<'_, Vec<(UserId, GroupName)>>;

    /// Adds a token, and forgets its owner's that have ended but for the last
    /// [`ENDED_TOKENS_KEPT`]. Nothing has changed unless it is there. After a crash: all or nothing.
    fn add_token(&self, token: NewToken) -> Answer<'_, TokenAdded>;

    /// The token with this keyed hash, whether it still opens anything or not. One point look-up.
    fn token_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<TokenRow>>;

    /// All tokens of an owner, oldest first. Changes nothing.
    fn tokens(&self, owner: &TokenOwner) -> Answer<'_, Vec<TokenRow>>;

    /// Ends tokens of an owner, and answers the numbers of those that had not ended; `None`, and
    /// nothing changed, when the one that is named is none of the owner's. After a crash: all of
    /// them or none.
    fn revoke_tokens(
        &self,
        owner: &TokenOwner,
        which: TokenChoice,
        at: Timestamp,
    ) -> Answer<'_, Option<Vec<i64>>>;

    /// Moves the time of last use of tokens forward, never back; those that are gone are passed
    /// over. After a crash: all of the batch or nothing.
    fn touch_tokens(&self, used: Vec<(i64, Timestamp)>) -> Answer<'_, ()>;

    // ── instances and their credentials ──

    /// Adds an instance with its credential. After a crash: both or neither.
    fn add_instance(&self, instance: NewInstance) -> Answer<'_, Added>;

    /// Adds instances with their credentials, and answers what became of each, in their order. With
    /// `missing_users` their users are added, too, as of then, and only together with an instance.
    /// After a crash: all of the call or nothing.
    fn add_instances(
        &self,
        instances: Vec<NewInstance>,
        missing_users: Option<Timestamp>,
    ) -> Answer<'_, Vec<Added>>;

    /// What stands in the way of each of these, in their order. Changes nothing.
    fn standings(&self, proposals: Vec<Proposal>) -> Answer<'_, Vec<Standing>>;

    /// Changes the terms of an instance; `false`, and nothing changed, unless they are still
    /// `before`. After a crash: the old terms or the new ones.
    fn change_terms(&self, public: &PublicId, before: Terms, after: Terms) -> Answer<'_, bool>;

    /// Puts another sealed credential in the place of an instance's old one, which is gone then, and
    /// is good until something else is known of it; `false`, and nothing changed, when there is no such
    /// instance. After a crash: the old one as it was or the new one.
    fn replace_credential(
        &self,
        public: &PublicId,
        sealed: Vec<u8>,
        at: Timestamp,
    ) -> Answer<'_, bool>;

    /// Says what is known of an instance's credential; `false`, and nothing changed, unless `sealed` is
    /// still what is stored, so that nothing is said of a newer one. One that has expired already keeps
    /// its first time. After a crash: the old state or the new one.
    fn set_credential_state(
        &self,
        public: &PublicId,
        sealed: &[u8],
        state: CredentialState,
    ) -> Answer<'_, bool>;

    /// Gives an instance another id, and forgets its sessions; `false`, and nothing changed, unless its
    /// hash is still `rotation.old_hash`. After a crash exactly one of the two ids works.
    fn rotate_instance(&self, rotation: Rotation) -> Answer<'_, bool>;

    /// One user's instance of one service, active or not. Changes nothing.
    fn instance_of(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Answer<'_, Option<StoredInstance>>;

    /// The instance whose id has this keyed hash, active or not. One point look-up.
    fn instance_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<InstanceRow>>;

    /// The same with what is sealed.
    fn stored_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<StoredInstance>>;

    /// The instance with this public number, active or not. One point look-up.
    fn instance_by_public(&self, public: &PublicId) -> Answer<'_, Option<InstanceRow>>;

    /// All instances of a user, in the order of their services. Changes nothing.
    fn instances_of(&self, user: &UserId) -> Answer<'_, Vec<StoredInstance>>;

    /// A page of these instances, oldest first. Changes nothing.
    fn instances(
        &self,
        filter: InstanceFilter,
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

    /// A page of all instances with what is sealed, active or not, oldest first. Changes nothing.
    fn stored_instances(
        &self,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<StoredInstance, InstanceCursor>>;

    /// Puts other sealed values in the place of these; one that is not there any more is passed over,
    /// so that a change which came meanwhile stays. After a crash: all of the batch or nothing.
    fn reseal(&self, values: Vec<Reseal>) -> Answer<'_, ()>;

    /// Removes an instance with its credential and sessions, and answers what was removed. What stays of
    /// it is kept until an instance of that user and service is added, or the user removed. After a
    /// crash: all of it or nothing.
    fn remove_instance(&self, public: &PublicId, stays: Stays) -> Answer<'_, Option<InstanceRow>>;

    /// What stayed of an instance of this user and service that was removed. Changes nothing.
    fn kept_terms(&self, user: &UserId, service: &ServiceType) -> Answer<'_, Option<Terms>>;

    /// Moves the time of last use forward, never back; instances that are gone are passed over.
    /// After a crash: all of the batch or nothing.
    fn touch_instances(&self, used: Vec<(PublicId, Timestamp)>) -> Answer<'_, ()>;

    /// How many instances each service has, active or not. Changes nothing.
    fn instance_counts(&self) -> Answer<'_, Vec<(ServiceType, u64)>>;

    // ── checked credentials ──

    /// What is remembered of a credential that was checked, unless it is too old at `now`. Changes
    /// nothing.
    fn check(&self, key: &CheckKey, now: Timestamp) -> Answer<'_, Option<Check>>;

    /// Remembers an answer, unless a younger one is known or there is no such user, and forgets the
    /// user's oldest beyond [`CHECKS_MAX`]. After a crash: all or nothing.
    fn put_check(&self, key: CheckKey, check: Check) -> Answer<'_, ()>;

    /// Forgets what is remembered of one user's credentials for a service. After a crash: all or
    /// nothing.
    fn forget_checks(&self, user: &UserId, service: &ServiceType) -> Answer<'_, ()>;

    /// Forgets up to `limit` answers that are too old at `now`, and answers how many those were. After
    /// a crash: all of them or none.
    fn forget_checks_before(&self, now: Timestamp, limit: u32) -> Answer<'_, u64>;

    // ── sessions ──

    /// Keeps a session, in the place of what was kept under its key, whose last use it never moves back;
    /// `false`, and nothing kept, when its instance is not there. Forgets the instance's oldest others
    /// by last use beyond [`SESSIONS_MAX`]. After a crash: all or nothing.
    fn put_session(&self, session: SessionRow) -> Answer<'_, bool>;

    /// The session with this key, which only its own instance and id give, however long it was not
    /// used. One point look-up. Changes nothing.
    fn session(&self, key: &[u8; 32]) -> Answer<'_, Option<SessionRow>>;

    /// Forgets a session; `false` when there was none. After a crash: there or gone.
    fn end_session(&self, key: &[u8; 32]) -> Answer<'_, bool>;

    /// Forgets all sessions of an instance, and answers how many those were. After a crash: all of them
    /// or none.
    fn end_sessions(&self, instance: &PublicId) -> Answer<'_, u64>;

    /// Moves the time of last use forward, never back; sessions that are gone are passed over. After a
    /// crash: all of the batch or nothing.
    fn touch_sessions(&self, used: Vec<([u8; 32], Timestamp)>) -> Answer<'_, ()>;

    /// Forgets up to `limit` sessions that were used last before this, the oldest first, and answers
    /// how many. After a crash: all of them or none.
    fn forget_sessions_before(&self, before: Timestamp, limit: u32) -> Answer<'_, u64>;

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

    // ── usage ──

    /// Adds these numbers to the rows of their keys. After a crash: all of the batch or nothing;
    /// the same when it fails.
    fn add_usage(&self, rows: Vec<UsageRow>) -> Answer<'_, ()>;

    /// A page of the rows that the filter lets through, the oldest day first. Changes nothing.
    fn usage(
        &self,
        filter: &UsageFilter,
        after: Option<&UsageKey>,
        limit: u32,
    ) -> Answer<'_, Page<UsageRow, UsageKey>>;

    /// How many requests a user has sent to each service, as far as usage is kept and from this day
    /// on. Changes nothing.
    fn request_counts(&self, user: &UserId, from: Day) -> Answer<'_, Vec<(ServiceType, u64)>>;

    /// Removes up to `limit` rows of days before this one, and answers how many those were. After a
    /// crash: all of them or none.
    fn forget_usage_before(&self, day: Day, limit: u32) -> Answer<'_, u64>;

    // ── audit and settings ──

    /// Adds to the audit log. After a crash: all of the batch or nothing.
    fn append_audit(&self, entries: Vec<AuditEntry>) -> Answer<'_, ()>;

    /// Up to `limit` entries of the audit log that the filter lets through, newest first, those
    /// before `before`. Changes nothing.
    fn audit(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Answer<'_, Vec<AuditRow>>;

    /// Forgets up to `limit` entries of the audit log that are older than `before`, the oldest
    /// first, and answers how many. After a crash: all of them or none.
    fn forget_audit_before(&self, before: Timestamp, limit: u32) -> Answer<'_, u64>;

    /// A named value of the daemon's own. Changes nothing.
    fn setting(&self, name: &str) -> Answer<'_, Option<Vec<u8>>>;

    /// Sets a named value. After a crash: the old value or the new one.
    fn put_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, ()>;

    /// Sets a named value unless it has one, and answers the one it has then: of several daemons
    /// that try, all see the same.
    fn keep_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, Vec<u8>>;

    /// Sets and removes named values, all at once; `false`, and nothing changed, unless the value that
    /// `guard` names is still what it says. After a crash: all of it or nothing.
    fn swap_settings(&self, guard: Setting, changes: Vec<Setting>) -> Answer<'_, bool>;

    /// Answers when everything that was queued before is on disk and the files are closed. Later
    /// calls answer [`StoreError::Stopped`].
    fn close(&self) -> Answer<'_, ()>;
}
