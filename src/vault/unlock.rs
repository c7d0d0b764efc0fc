//! From a store and a place for the master key to a [`Vault`](crate::vault::Vault) that fits both.
//!
//! The store keeps a check value that only the right key gives. A wrong key, or a lost one, stops
//! the daemon here, before it writes anything: a new key beside an old database would make every
//! stored URL, token and credential worthless, and would do so silently. While the key is being
//! rotated there are two right ones, and each gives the other (`rotation.rs`).

use subtle::ConstantTimeEq;

use crate::ids::Timestamp;
use crate::store::{StoreError, StoreHandle};
use crate::vault::hashes::Hashes;
use crate::vault::held::Held;
use crate::vault::keys::{Ring, Vault};
use crate::vault::master::{self, KeyError, KeySource};
use crate::vault::rotate::MasterKeys;
use crate::vault::rotation::Record;
use crate::vault::seal::SealError;

/// Name of the check value among the store's settings.
pub(super) const CHECK: &str = "vault.check";
/// Of the time since which that key is the one: eight bytes of milliseconds.
pub(super) const SINCE: &str = "vault.since";
/// Of the check value of the key before.
pub(super) const FORMER: &str = "vault.former";
/// Of the keys of hashes, sealed with the master key; absent as long as they are derived from it.
pub(super) const HASHES: &str = "vault.hashes";
/// Of the rotation that is under way.
pub(super) const ROTATION: &str = "vault.rotation";

/// Why there is no vault. For an operator to read: the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// No key, or a refused one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key, but of another database.
    #[error(
        "the master key at {place} is not the one this database was made with: put the right key \
         there, or move `mcpm.db` away to start with an empty one"
    )]
    WrongKey {
        /// Where the key came from.
        place: String,
    },
    /// The key from before the last rotation.
    #[error(
        "the master key at {place} is the one from before the last rotation, and opens this database \
         no more: put the key there that took its place"
    )]
    FormerKey {
        /// Where the key came from.
        place: String,
    },
    /// The key's file is gone.
    #[error(
        "the master key at {place} is missing, and what the database holds cannot be read without \
         it: put it back from a backup, or move `mcpm.db` away to start with an empty one"
    )]
    LostKey {
        /// Where it should be.
        place: String,
    },
    /// The key fits, and what the vault itself has stored does not open with it.
    #[error("what `mcpm.db` says of its master key is damaged: restore a backup of it")]
    Sealed(#[from] SealError),
    /// The store did not answer.
    #[error("cannot read the check value of the master key")]
    Store(#[from] StoreError),
}

/// Reads the master key, or makes it when this is the first start of an empty home, and checks it
/// against the store. After a crash in between the next start goes on with the key that was made.
/// Writes nothing when the home has a key already: a daemon that is to take over may call it beside
/// the one that goes.
///
/// # Errors
/// There is no key that fits; nothing was written then.
pub async fn unlock(store: &StoreHandle, source: KeySource) -> Result<MasterKeys, UnlockError> {
    let known = store.setting(CHECK).await?;
    let master = match (source.read()?, &source) {
        (Some(master), _) => master,
        (None, KeySource::Home(path)) if known.is_none() => master::create(path)?,
        (None, _) => {
            return Err(UnlockError::LostKey {
                place: source.place(),
            });
        }
    };
    let held = Held::new(master);
    let check = match known {
        Some(check) => check,
        None => {
            let now = Timestamp::now().as_millis().to_le_bytes();
            store.keep_setting(SINCE, now.to_vec()).await?;
            let own = held.check_value().to_vec();
            store.keep_setting(CHECK, own).await?
        }
    };
    let record = match store.setting(ROTATION).await? {
        Some(bytes) => Some(Record::decode(&bytes).ok_or(SealError::Form)?),
        None => None,
    };
    let own = held.check_value();
    let Some((in_force, next)) = fit(held, &own, &check, record.as_ref())? else {
        let former = store.setting(FORMER).await?;
        let place = source.place();
        return Err(match former {
            Some(former) if same(&own, &former) => UnlockError::FormerKey { place },
            _ => UnlockError::WrongKey { place },
        });
    };
    let hashes = match store.setting(HASHES).await? {
        Some(sealed) => {
            let plain = in_force.sealing.open_own(HASHES, &sealed)?;
            Hashes::decode(&plain).ok_or(SealError::Form)?
        }
        None => Hashes::derived(&in_force.sealing.root),
    };
    let mut ring = Ring::of(in_force);
    if let (Some(next), Some(record)) = (next, &record) {
        ring = ring.joined(next, record.back);
    }
    let vault = Vault::assemble(hashes, ring);
    Ok(MasterKeys::new(store.clone(), vault, source, record))
}

/// The key in force and the one that is to follow it, by one of the two; `None` when it is neither.
fn fit(
    held: Held,
    own: &[u8; 32],
    check: &[u8],
    record: Option<&Record>,
) -> Result<Option<(Held, Option<Held>)>, SealError> {
    if same(own, check) {
        let next = record.map(|record| record.next(&held)).transpose()?;
        return Ok(Some((held, next)));
    }
    let Some(record) = record.filter(|record| record.leads_to(&held)) else {
        return Ok(None);
    };
    let in_force = record.former(&held)?;
    if same(&in_force.check_value(), check) {
        Ok(Some((in_force, Some(held))))
    } else {
        Err(SealError::Broken)
    }
}

fn same(own: &[u8; 32], kept: &[u8]) -> bool {
    own.ct_eq(kept).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::store::Memory;

    fn source(home: &Path) -> KeySource {
        KeySource::choose(home, |_| None).unwrap()
    }

    async fn refused(store: &StoreHandle, home: &Path) -> String {
        let refused = unlock(store, source(home)).await.err().unwrap();
        refused.to_string()
    }

    #[tokio::test]
    async fn the_key_of_the_first_start_is_the_key_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        let first = unlock(&store, source(home.path())).await.unwrap();
        let again = unlock(&store, source(home.path())).await.unwrap();
        let hash = |keys: &MasterKeys| keys.vault().instance_hash("x");
        assert_eq!(hash(&first), hash(&again));
    }

    #[tokio::test]
    async fn a_wrong_or_lost_key_is_refused_and_nothing_is_made() {
        let home = tempfile::tempdir().unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        unlock(&store, source(home.path())).await.unwrap();
        let path = home.path().join("master.key");
        let right = fs::read_to_string(&path).unwrap();

        fs::write(&path, "00".repeat(32)).unwrap();
        let said = refused(&store, home.path()).await;
        assert!(
            said.contains("is not the one this database was made with"),
            "{said}"
        );

        fs::remove_file(&path).unwrap();
        let said = refused(&store, home.path()).await;
        assert!(said.contains("is missing"), "{said}");
        assert!(!path.exists(), "no new key beside an old database");

        fs::write(&path, right).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        unlock(&store, source(home.path())).await.unwrap();
    }

    #[tokio::test]
    async fn a_crash_between_key_and_check_value_is_mended() {
        let home = tempfile::tempdir().unwrap();
        master::create(&home.path().join("master.key")).unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        unlock(&store, source(home.path())).await.unwrap();
        assert!(store.setting(CHECK).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_record_that_was_scribbled_over_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        unlock(&store, source(home.path())).await.unwrap();
        store.put_setting(ROTATION, vec![1, 2, 3]).await.unwrap();
        let said = refused(&store, home.path()).await;
        assert!(said.contains("restore a backup"), "{said}");
    }
}
