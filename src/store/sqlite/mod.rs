//! The store in one SQLite file: the embedded default.
//!
//! `open.rs` opens and migrates, `queue.rs` owns the connections on two threads (one writes, with
//! group commit and `synchronous = FULL`; one reads, so that a look-up never waits for the disk, nor
//! for the pages that fill the router's table: each of these has a connection of its own), the other files hold the SQL, a file per kind of record.

mod audit;
mod checks;
mod column;
mod instance_life;
mod instances;
mod open;
mod queue;
mod services;
mod sessions;
mod usage;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::ids::{Day, GroupName, PublicId, ServiceType, Timestamp, UserId};
use crate::store::{
    Added, Answer, AuditEntry, AuditFilter, AuditRow, Check, CheckKey, CredentialState, HealthRow,
    InstanceCursor, InstanceFilter, InstanceRow, NewInstance, NewToken, NewUser, OpenError, Page,
    Proposal, Reseal, Rotation, ServiceRow, SessionRow, Setting, Standing, Stays, Store,
    StoreError, StoredInstance, Terms, TokenAdded, TokenChoice, TokenOwner, TokenRow, UsageFilter,
    UsageKey, UsageRow, UserRow,
};
use queue::{Job, Order, QUEUE_MAX, Read};

/// Enough for SQLite's parser at its deepest; the default would be 2 MiB.
const STACK_BYTES: usize = 512 * 1024;

/// A database file that is open. Dropped without [`Store::close`] it closes itself a little later.
pub struct Sqlite {
    writes: mpsc::Sender<Order>,
    reads: mpsc::Sender<Option<Read>>,
    /// Of more connections, where there may be more.
    path: Option<PathBuf>,
}

impl Sqlite {
    /// Opens the file, makes it when it is missing (mode 0600), and brings its schema up to date.
    /// Blocks while it does.
    ///
    /// # Errors
    /// The file cannot be used, is not ours, is damaged, or is of a newer release.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (writer, reader) = open::open_both(path)?;
        let is_alone = Arc::ptr_eq(&writer, &reader);
        let (writes, orders) = mpsc::channel(QUEUE_MAX);
        let (reads, questions) = mpsc::channel(QUEUE_MAX);
        start("mcpm-store", move || queue::write_all(writer, orders))?;
        start("mcpm-lookup", move || queue::read_all(reader, questions))?;
        let path = (!is_alone).then(|| path.to_owned());
        Ok(Self {
            writes,
            reads,
            path,
        })
    }

    /// Queues a write; answers after its COMMIT.
    fn write<T, F>(&self, work: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let order = Order::Write(Box::new(Job::new(work, caller)));
        Box::pin(async move {
            self.writes
                .send(order)
                .await
                .map_err(|_| StoreError::Stopped)?;
            answer.await.unwrap_or(Err(StoreError::Stopped))
        })
    }

    /// Queues a read. It sees every write that was acknowledged before it was queued.
    fn read<T, F>(&self, work: F) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let read: Read = Box::new(move |conn| {
            // A caller that went away does not want to know.
            let _ = caller.send(work(conn).map_err(queue::store_error));
        });
        Box::pin(async move {
            self.reads
                .send(Some(read))
                .await
                .map_err(|_| StoreError::Stopped)?;
            answer.await.unwrap_or(Err(StoreError::Stopped))
        })
    }
}

fn start(name: &str, life: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES);
    thread.spawn(life).map(drop).map_err(OpenError::Thread)
}

impl Store for Sqlite {
    fn add_user(&self, user: NewUser, token: NewToken) -> Answer<'_, bool> {
        self.write(move |conn| users::add(conn, &user, &token))
    }

    fn ensure_user(&self, user: NewUser) -> Answer<'_, bool> {
        self.write(move |conn| users::add_user(conn, &user))
    }

    fn user(&self, id: &UserId) -> Answer<'_, Option<UserRow>> {
        let id = id.clone();
        self.read(move |conn| users::one(conn, &id))
    }

    fn users(&self, after: Option<&UserId>, limit: u32) -> Answer<'_, Vec<UserRow>> {
        let after = after.cloned();
        self.read(move |conn| users::list(conn, after.as_ref(), limit))
    }

    fn remove_user(&self, id: &UserId) -> Answer<'_, Option<Vec<InstanceRow>>> {
        let id = id.clone();
        self.write(move |conn| users::remove(conn, &id))
    }

    fn switch_user(&self, id: &UserId, off: Option<Timestamp>) -> Answer<'_, Option<bool>> {
        let id = id.clone();
        self.write(move |conn| users::switch(conn, &id, off))
    }

    fn set_group(&self, id: &UserId, group: Option<GroupName>) -> Answer<'_, bool> {
        let id = id.clone();
        self.write(move |conn| users::set_group(conn, &id, group.as_ref()))
    }

    fn grouped_users(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Answer<'_, Vec<(UserId, GroupName)>> {
        let after = after.cloned();
        self.read(move |conn| users::grouped(conn, after.as_ref(), limit))
    }

    fn add_token(&self, token: NewToken) -> Answer<'_, TokenAdded> {
        self.write(move |conn| users::add_token(conn, &token))
    }

    fn token_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<TokenRow>> {
        let hash = *hash;
        self.read(move |conn| users::token_by_hash(conn, &hash))
    }

    fn tokens(&self, owner: &TokenOwner) -> Answer<'_, Vec<TokenRow>> {
        let owner = owner.clone();
        self.read(move |conn| users::tokens(conn, &owner))
    }

    fn revoke_tokens(
        &self,
        owner: &TokenOwner,
        which: TokenChoice,
        at: Timestamp,
    ) -> Answer<'_, Option<Vec<i64>>> {
        let owner = owner.clone();
        self.write(move |conn| users::revoke_tokens(conn, &owner, which, at))
    }

    fn touch_tokens(&self, used: Vec<(i64, Timestamp)>) -> Answer<'_, ()> {
        self.write(move |conn| users::touch_tokens(conn, &used))
    }

    fn add_instance(&self, instance: NewInstance) -> Answer<'_, Added> {
        self.write(move |conn| instances::add(conn, &instance))
    }

    fn add_instances(
        &self,
        instances: Vec<NewInstance>,
        missing_users: Option<Timestamp>,
    ) -> Answer<'_, Vec<Added>> {
        self.write(move |conn| instance_life::add_all(conn, &instances, missing_users))
    }

    fn standings(&self, proposals: Vec<Proposal>) -> Answer<'_, Vec<Standing>> {
        self.read(move |conn| instance_life::standings(conn, &proposals))
    }

    fn change_terms(&self, public: &PublicId, before: Terms, after: Terms) -> Answer<'_, bool> {
        let public = public.clone();
        self.write(move |conn| instance_life::change_terms(conn, &public, &before, &after))
    }

    fn replace_credential(
        &self,
        public: &PublicId,
        sealed: Vec<u8>,
        at: Timestamp,
    ) -> Answer<'_, bool> {
        let public = public.clone();
        self.write(move |conn| instances::replace_credential(conn, &public, &sealed, at))
    }

    fn set_credential_state(
        &self,
        public: &PublicId,
        sealed: &[u8],
        state: CredentialState,
    ) -> Answer<'_, bool> {
        let (public, sealed) = (public.clone(), sealed.to_vec());
        self.write(move |conn| instances::set_credential_state(conn, &public, &sealed, state))
    }

    fn rotate_instance(&self, rotation: Rotation) -> Answer<'_, bool> {
        self.write(move |conn| instances::rotate(conn, &rotation))
    }

    fn instance_of(
        &self,
        user: &UserId,
        service: &ServiceType,
    ) -> Answer<'_, Option<StoredInstance>> {
        let (user, service) = (user.clone(), service.clone());
        self.read(move |conn| instances::of(conn, &user, &service))
    }

    fn instance_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<InstanceRow>> {
        let hash = *hash;
        self.read(move |conn| instances::by_hash(conn, &hash))
    }

    fn stored_by_hash(&self, hash: &[u8; 32]) -> Answer<'_, Option<StoredInstance>> {
        let hash = *hash;
        self.read(move |conn| instances::stored_by_hash(conn, &hash))
    }

    fn instance_by_public(&self, public: &PublicId) -> Answer<'_, Option<InstanceRow>> {
        let public = public.clone();
        self.read(move |conn| instances::by_public(conn, &public))
    }

    fn instances_of(&self, user: &UserId) -> Answer<'_, Vec<StoredInstance>> {
        let user = user.clone();
        self.read(move |conn| instances::of_user(conn, &user))
    }

    fn instances(
        &self,
        filter: InstanceFilter,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<InstanceRow, InstanceCursor>> {
        self.read(move |conn| instances::page(conn, &filter, after, limit))
    }

    fn active_instances(
        &self,
        now: Timestamp,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<StoredInstance, InstanceCursor>> {
        let page = move |conn: &Connection| instances::active(conn, now, after, limit);
        let Some(path) = self.path.clone() else {
            return self.read(page);
        };
        // On a connection of its own: it is milliseconds of work, for which no look-up waits.
        Box::pin(async move {
            let read = spawn_blocking(move || {
                let conn = open::open_reader(&path)
                    .map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
                page(&conn).map_err(queue::store_error)
            });
            read.await.unwrap_or(Err(StoreError::Stopped))
        })
    }

    fn stored_instances(
        &self,
        after: Option<InstanceCursor>,
        limit: u32,
    ) -> Answer<'_, Page<StoredInstance, InstanceCursor>> {
        self.read(move |conn| instances::stored_page(conn, after, limit))
    }

    fn reseal(&self, values: Vec<Reseal>) -> Answer<'_, ()> {
        self.write(move |conn| instances::reseal(conn, &values))
    }

    fn remove_instance(&self, public: &PublicId, stays: Stays) -> Answer<'_, Option<InstanceRow>> {
        let public = public.clone();
        self.write(move |conn| instances::remove(conn, &public, stays))
    }

    fn kept_terms(&self, user: &UserId, service: &ServiceType) -> Answer<'_, Option<Terms>> {
        let (user, service) = (user.clone(), service.clone());
        self.read(move |conn| instance_life::kept_terms(conn, &user, &service))
    }

    fn touch_instances(&self, used: Vec<(PublicId, Timestamp)>) -> Answer<'_, ()> {
        self.write(move |conn| instances::touch(conn, &used))
    }

    fn instance_counts(&self) -> Answer<'_, Vec<(ServiceType, u64)>> {
        self.read(instances::counts)
    }

    fn check(&self, key: &CheckKey, now: Timestamp) -> Answer<'_, Option<Check>> {
        let key = key.clone();
        self.read(move |conn| checks::one(conn, &key, now))
    }

    fn put_check(&self, key: CheckKey, check: Check) -> Answer<'_, ()> {
        self.write(move |conn| checks::put(conn, &key, &check))
    }

    fn forget_checks(&self, user: &UserId, service: &ServiceType) -> Answer<'_, ()> {
        let (user, service) = (user.clone(), service.clone());
        self.write(move |conn| checks::forget(conn, &user, &service))
    }

    fn forget_checks_before(&self, now: Timestamp, limit: u32) -> Answer<'_, u64> {
        self.write(move |conn| checks::forget_before(conn, now, limit))
    }

    fn put_session(&self, session: SessionRow) -> Answer<'_, bool> {
        self.write(move |conn| sessions::put(conn, &session))
    }

    fn session(&self, key: &[u8; 32]) -> Answer<'_, Option<SessionRow>> {
        let key = *key;
        self.read(move |conn| sessions::one(conn, &key))
    }

    fn end_session(&self, key: &[u8; 32]) -> Answer<'_, bool> {
        let key = *key;
        self.write(move |conn| sessions::end(conn, &key))
    }

    fn end_sessions(&self, instance: &PublicId) -> Answer<'_, u64> {
        let instance = instance.clone();
        self.write(move |conn| sessions::end_all(conn, &instance))
    }

    fn touch_sessions(&self, used: Vec<([u8; 32], Timestamp)>) -> Answer<'_, ()> {
        self.write(move |conn| sessions::touch(conn, &used))
    }

    fn forget_sessions_before(&self, before: Timestamp, limit: u32) -> Answer<'_, u64> {
        self.write(move |conn| sessions::forget_before(conn, before, limit))
    }

    fn publish_services(&self, services: Vec<ServiceRow>, at: Timestamp) -> Answer<'_, ()> {
        self.write(move |conn| services::publish(conn, &services, at))
    }

    fn services(&self) -> Answer<'_, Vec<ServiceRow>> {
        self.read(services::list)
    }

    fn put_health(&self, records: Vec<HealthRow>) -> Answer<'_, ()> {
        self.write(move |conn| services::put_health(conn, &records))
    }

    fn health(&self) -> Answer<'_, Vec<HealthRow>> {
        self.read(services::health)
    }

    fn add_usage(&self, rows: Vec<UsageRow>) -> Answer<'_, ()> {
        self.write(move |conn| usage::add(conn, &rows))
    }

    fn usage(
        &self,
        filter: &UsageFilter,
        after: Option<&UsageKey>,
        limit: u32,
    ) -> Answer<'_, Page<UsageRow, UsageKey>> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.read(move |conn| usage::page(conn, &filter, after.as_ref(), limit))
    }

    fn request_counts(&self, user: &UserId, from: Day) -> Answer<'_, Vec<(ServiceType, u64)>> {
        let user = user.clone();
        self.read(move |conn| usage::counts(conn, &user, from))
    }

    fn forget_usage_before(&self, day: Day, limit: u32) -> Answer<'_, u64> {
        self.write(move |conn| usage::forget_before(conn, day, limit))
    }

    fn append_audit(&self, entries: Vec<AuditEntry>) -> Answer<'_, ()> {
        self.write(move |conn| audit::append(conn, &entries))
    }

    fn audit(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Answer<'_, Vec<AuditRow>> {
        self.read(move |conn| audit::list(conn, &filter, before, limit))
    }

    fn forget_audit_before(&self, before: Timestamp, limit: u32) -> Answer<'_, u64> {
        self.write(move |conn| audit::forget_before(conn, before, limit))
    }

    fn setting(&self, name: &str) -> Answer<'_, Option<Vec<u8>>> {
        let name = name.to_owned();
        self.read(move |conn| audit::setting(conn, &name))
    }

    fn put_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, ()> {
        let name = name.to_owned();
        self.write(move |conn| audit::put_setting(conn, &name, &value))
    }

    fn keep_setting(&self, name: &str, value: Vec<u8>) -> Answer<'_, Vec<u8>> {
        let name = name.to_owned();
        self.write(move |conn| audit::keep_setting(conn, &name, value))
    }

    fn swap_settings(&self, guard: Setting, changes: Vec<Setting>) -> Answer<'_, bool> {
        self.write(move |conn| audit::swap_settings(conn, &guard, &changes))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            // The reader first: the last connection to close removes the log beside the file.
            let _ = self.reads.send(None).await;
            self.reads.closed().await;
            let (caller, closed) = oneshot::channel();
            if self.writes.send(Order::Close(caller)).await.is_ok() {
                let _ = closed.await;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
