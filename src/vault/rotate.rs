//! [`MasterKeys`]: which master keys there are, and how another one takes the place of the first.
//!
//! 1. [`MasterKeys::begin`]: the record of the rotation is written (`rotation.rs`); what is sealed from
//!    here on is sealed with the next key.
//! 2. Who owns the rows seals all of them anew (`instances/reseal.rs`; `daemon/rekey.rs` drives it).
//! 3. [`MasterKeys::finish`]: when the next key lies where the next start will look for it, the former
//!    one is forgotten: check value, sealed hash keys and record change in one step. Our own file is
//!    replaced right before. A key that somebody else keeps is waited for: it is there when the daemon
//!    starts with it, or finds it in the file.
//!
//! Killed between any two steps, the next daemon reads the record and goes on. Until the third step
//! [`MasterKeys::cancel`] turns round: everything is sealed with the former key again.

use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinError;

use crate::failpoint;
use crate::ids::Timestamp;
use crate::secret::Secret;
use crate::store::{Setting, StoreError, StoreHandle};
use crate::vault::held::{Held, KeyNumber};
use crate::vault::keys::{Ring, Vault};
use crate::vault::master::{self, KeyError, KeySource, MasterKey};
use crate::vault::random::{RandomError, random};
use crate::vault::rotation::Record;
use crate::vault::unlock::{CHECK, FORMER, HASHES, ROTATION, SINCE};

/// Why a rotation was not begun, called off or ended. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// One at a time.
    #[error("the master key is being rotated already; `mcpm keys` shows how far it is")]
    UnderWay,
    /// None to call off.
    #[error("the master key is not being rotated")]
    NotUnderWay,
    /// Called off before.
    #[error("the rotation was called off already; `mcpm keys` shows how far it is")]
    CalledOff,
    /// Somebody else keeps the key, so they must bring the next one.
    #[error(
        "the master key comes from {place}: give the next one, as 64 hex digits or 44 of base64"
    )]
    Needed {
        /// Where the key comes from.
        place: String,
    },
    /// We keep the key ourselves.
    #[error("the master key lies in {place}, and the next one is made by mcpm itself: give none")]
    NotNeeded {
        /// Where the key lies.
        place: String,
    },
    /// Not text of the right form.
    #[error("what was given is no master key: 64 hex digits or 44 of base64")]
    NoKey,
    /// The same again.
    #[error("what was given is the master key that is in use; give another one")]
    Same,
    /// Another daemon on the same database was faster.
    #[error("another daemon has changed the rotation of the master key meanwhile")]
    Changed,
    /// The key's file could not be read or written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No key could be made.
    #[error("no master key could be made")]
    Random(#[from] RandomError),
    /// Not read, or not written.
    #[error("the rotation of the master key could not be read or written")]
    Store(#[from] StoreError),
}

/// A rotation that is under way, as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Which key takes the place of the one in force.
    pub next: KeyNumber,
    /// Since when.
    pub started_at: Timestamp,
    /// It was called off: everything is sealed with the key in force again.
    pub back: bool,
    /// Of so many instances.
    pub instances: u64,
    /// So many have been looked at.
    pub seen: u64,
    /// Values among them that open with no key, and have not before.
    pub unreadable: u64,
    /// All is sealed anew, and the key is not yet where the next start will look for it.
    pub waits: bool,
    /// Counts changes of direction: what was begun for another one is void.
    pub round: u64,
}

/// What can be said of the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Where it comes from: `home`, `file`, `systemd` or `environment`.
    pub source: &'static str,
    /// Its file, if it has one.
    pub path: Option<String>,
    /// Which it is.
    pub number: KeyNumber,
    /// Since when it is the one; not known of those that are older than this release.
    pub since: Option<Timestamp>,
    /// What is under way.
    pub rotation: Option<Rotation>,
}

/// The master keys of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct MasterKeys(Arc<Inner>);

struct Inner {
    store: StoreHandle,
    vault: Vault,
    source: KeySource,
    /// As it stands in the store. Held while a step is taken, so that steps come one after another.
    record: Mutex<Option<Record>>,
    shown: watch::Sender<Option<Rotation>>,
}

impl MasterKeys {
    pub(super) fn new(
        store: StoreHandle,
        vault: Vault,
        source: KeySource,
        record: Option<Record>,
    ) -> Self {
        let shown = record.as_ref().map(|record| show(record, &vault.ring(), 0));
        Self(Arc::new(Inner {
            store,
            vault,
            source,
            record: Mutex::new(record),
            shown: watch::Sender::new(shown),
        }))
    }

    /// What seals and opens with them.
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// The rotation that is under way, and each change of it.
    pub fn rotation(&self) -> watch::Receiver<Option<Rotation>> {
        self.0.shown.subscribe()
    }

    /// What can be said of the master key now.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn facts(&self) -> Result<KeyFacts, StoreError> {
        let since = self.0.store.setting(SINCE).await?;
        let since = since.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok());
        // No step is taken while both are looked at.
        let record = self.0.record.lock().await;
        Ok(KeyFacts {
            source: self.0.source.word(),
            path: self.0.source.path().map(|path| path.display().to_string()),
            number: former(record.as_ref(), &self.0.vault.ring()),
            since: since.map(|millis| Timestamp::from_millis(i64::from_le_bytes(millis))),
            rotation: self.0.shown.borrow().clone(),
        })
    }

    /// Begins to put another key in the place of the one in force. `given` is that key; none where mcpm
    /// keeps it in its own file, and makes it itself.
    ///
    /// # Errors
    /// One is under way, the key is not what it should be, or nothing could be written.
    pub async fn begin(&self, given: Option<Secret<String>>) -> Result<(), RotateError> {
        let keys = self.clone();
        whole(async move { keys.begin_now(given).await }).await
    }

    async fn begin_now(&self, given: Option<Secret<String>>) -> Result<(), RotateError> {
        let mut current = self.0.record.lock().await;
        if current.is_some() {
            return Err(RotateError::UnderWay);
        }
        let next = Held::new(self.next_key(given.as_ref())?);
        let ring = self.0.vault.ring();
        // Numbers have four bytes: of keys that are no chosen twins one pair in four billion agrees.
        if next.number() == ring.seals.number() {
            return Err(RotateError::Same);
        }
        let nonces = [random()?, random()?];
        let record = Record::new(&ring.seals, &next, nonces, Timestamp::now());
        failpoint::reach("keys.before_record");
        self.change(None, Some(&record), Vec::new()).await?;
        failpoint::reach("keys.recorded");
        self.0
            .vault
            .set_ring(Ring::clone(&ring).joined(next, false));
        self.say(Some(&record));
        *current = Some(record);
        tracing::info!("the master key is being rotated");
        Ok(())
    }

    /// Turns round: what the next key has sealed is sealed with the one in force again, and the next one
    /// is forgotten.
    ///
    /// # Errors
    /// There is nothing to call off, or nothing could be written.
    pub async fn cancel(&self) -> Result<(), RotateError> {
        let keys = self.clone();
        whole(async move { keys.cancel_now().await }).await
    }

    async fn cancel_now(&self) -> Result<(), RotateError> {
        let mut current = self.0.record.lock().await;
        let before = current.as_ref().ok_or(RotateError::NotUnderWay)?;
        if before.back {
            return Err(RotateError::CalledOff);
        }
        let mut record = before.clone();
        record.back = true;
        self.change(Some(before), Some(&record), Vec::new()).await?;
        self.0.vault.set_ring(self.0.vault.ring().turned());
        self.say(Some(&record));
        *current = Some(record);
        tracing::info!("the rotation of the master key is called off");
        Ok(())
    }

    /// How far those are that seal everything anew. Of another round it is of no interest.
    pub fn tell(&self, round: u64, instances: u64, seen: u64, unreadable: u64) {
        self.0.shown.send_if_modified(|shown| match shown {
            Some(shown) if shown.round == round => {
                (shown.instances, shown.seen, shown.unreadable) = (instances, seen, unreadable);
                true
            }
            _ => false,
        });
    }

    /// Ends the rotation when the key that seals now lies in its place; else it waits for that. To be
    /// called when everything that is stored, and all that is still to be, is sealed with that key.
    /// `true`: from now on another key is the one.
    ///
    /// # Errors
    /// The key's file could not be read or written, or nothing could be stored. It may be called again.
    pub async fn finish(&self, round: u64) -> Result<bool, RotateError> {
        let mut current = self.0.record.lock().await;
        let is_this_round =
            |shown: &Option<Rotation>| shown.as_ref().map(|s| s.round) == Some(round);
        let Some(record) = current
            .as_ref()
            .filter(|_| is_this_round(&self.0.shown.borrow()))
        else {
            return Ok(false);
        };
        let ring = self.0.vault.ring();
        if !self.put_in_place(&ring).await? {
            self.0.shown.send_modify(|shown| {
                if let Some(shown) = shown {
                    shown.waits = true;
                }
            });
            tracing::info!(
                key = %ring.seals.number(),
                "everything is sealed with this master key; the rotation ends when the daemon starts with it"
            );
            return Ok(false);
        }
        failpoint::reach("keys.before_finish");
        let changes = if record.back {
            Vec::new()
        } else {
            self.in_force(&ring)?
        };
        let is_new = !record.back;
        self.change(Some(record), None, changes).await?;
        failpoint::reach("keys.finished");
        self.0.vault.set_ring(Ring {
            other: None,
            ..Ring::clone(&ring)
        });
        *current = None;
        self.say(None);
        tracing::info!(key = %ring.seals.number(), "the rotation of the master key is over");
        Ok(is_new)
    }

    fn next_key(&self, given: Option<&Secret<String>>) -> Result<MasterKey, RotateError> {
        let place = self.0.source.place();
        match (&self.0.source, given) {
            (KeySource::Home(_), None) => Ok(MasterKey::generate()?),
            (KeySource::Home(_), Some(_)) => Err(RotateError::NotNeeded { place }),
            (_, Some(text)) => MasterKey::parse(text.expose().as_bytes()).ok_or(RotateError::NoKey),
            (_, None) => Err(RotateError::Needed { place }),
        }
    }

    /// Is the key that seals now where the next start will look for it? Our own file is written, if it
    /// has to be.
    async fn put_in_place(&self, ring: &Arc<Ring>) -> Result<bool, RotateError> {
        let (keys, ring) = (self.clone(), Arc::clone(ring));
        let look = move || -> Result<bool, KeyError> {
            let number = ring.seals.number();
            let lies_there = || -> Result<bool, KeyError> {
                let found = keys.0.source.read()?.map(Held::new);
                Ok(found.is_some_and(|found| found.number() == number))
            };
            if let KeySource::Home(path) = &keys.0.source
                && !lies_there().unwrap_or(false)
            {
                failpoint::reach("keys.before_file");
                master::replace(path, &ring.seals.master)?;
                failpoint::reach("keys.file");
            }
            lies_there()
        };
        Ok(joined(tokio::task::spawn_blocking(look).await)??)
    }

    /// What makes the key that seals now the one in force.
    fn in_force(&self, ring: &Ring) -> Result<Vec<Setting>, RotateError> {
        let set = |name: &str, value: Vec<u8>| Setting {
            name: name.to_owned(),
            value: Some(value),
        };
        let held = &ring.seals;
        let hashes = self.0.vault.hash_keys();
        let now = Timestamp::now().as_millis().to_le_bytes();
        let mut changes = vec![
            set(CHECK, held.check_value().to_vec()),
            set(HASHES, held.sealing.seal_own(HASHES, random()?, &hashes)),
            set(SINCE, now.to_vec()),
        ];
        if let Some(former) = &ring.other {
            changes.push(set(FORMER, former.check_value().to_vec()));
        }
        Ok(changes)
    }

    /// Puts one record in the place of another, together with these changes.
    async fn change(
        &self,
        before: Option<&Record>,
        after: Option<&Record>,
        mut changes: Vec<Setting>,
    ) -> Result<(), RotateError> {
        let setting = |record: Option<&Record>| Setting {
            name: ROTATION.to_owned(),
            value: record.map(Record::encode),
        };
        changes.push(setting(after));
        if self.0.store.swap_settings(setting(before), changes).await? {
            Ok(())
        } else {
            Err(RotateError::Changed)
        }
    }

    /// Shows a record that has just been written.
    fn say(&self, record: Option<&Record>) {
        let ring = self.0.vault.ring();
        self.0.shown.send_modify(|shown| {
            let round = shown.as_ref().map_or(0, |shown| shown.round + 1);
            *shown = record.map(|record| show(record, &ring, round));
        });
    }
}

/// Takes a step to its end, also when the one who asked for it goes away: store and keys go together.
async fn whole(
    step: impl Future<Output = Result<(), RotateError>> + Send + 'static,
) -> Result<(), RotateError> {
    joined(tokio::spawn(step).await)?
}

fn joined<T>(ended: Result<T, JoinError>) -> Result<T, RotateError> {
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The daemon is ending.
        Err(_) => StoreError::Stopped.into(),
    })
}

/// The number of the key in force.
fn former(record: Option<&Record>, ring: &Ring) -> KeyNumber {
    match (record, &ring.other) {
        (Some(record), Some(other)) if !record.back => other.number(),
        _ => ring.seals.number(),
    }
}

fn show(record: &Record, ring: &Ring, round: u64) -> Rotation {
    let next = match &ring.other {
        Some(other) if record.back => other.number(),
        _ => ring.seals.number(),
    };
    Rotation {
        next,
        started_at: record.started_at,
        back: record.back,
        instances: 0,
        seen: 0,
        unreadable: 0,
        waits: false,
        round,
    }
}

#[cfg(test)]
mod tests;
