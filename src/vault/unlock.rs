//! From a store and a place for the master key to a [`Vault`] that fits both.
//!
//! The store keeps a check value that only the right key gives. A wrong key, or a lost one, stops
//! the daemon here, before it writes anything: a new key beside an old database would make every
//! stored URL, token and credential worthless, and would do so silently.

use subtle::ConstantTimeEq;

use crate::store::{StoreError, StoreHandle};
use crate::vault::keys::Vault;
use crate::vault::master::{self, KeyError, KeySource};

/// Name of the check value among the store's settings.
const CHECK: &str = "vault.check";

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
    /// The key's file is gone.
    #[error(
        "the master key at {place} is missing, and what the database holds cannot be read without \
         it: put it back from a backup, or move `mcpm.db` away to start with an empty one"
    )]
    LostKey {
        /// Where it should be.
        place: String,
    },
    /// The store did not answer.
    #[error("cannot read the check value of the master key")]
    Store(#[from] StoreError),
}

/// Reads the master key, or makes it when this is the first start of an empty home, and checks it
/// against the store. After a crash in between the next start goes on with the key that was made.
///
/// # Errors
/// There is no key that fits; nothing was written then.
pub async fn unlock(store: &StoreHandle, source: &KeySource) -> Result<Vault, UnlockError> {
    let known = store.setting(CHECK).await?;
    let master = match (source.read()?, source) {
        (Some(master), _) => master,
        (None, KeySource::Home(path)) if known.is_none() => master::create(path)?,
        (None, _) => {
            return Err(UnlockError::LostKey {
                place: source.place(),
            });
        }
    };
    let vault = Vault::new(&master);
    let own = vault.check_value();
    let kept = match known {
        Some(kept) => kept,
        None => store.keep_setting(CHECK, own.clone()).await?,
    };
    if kept.ct_eq(&own).into() {
        Ok(vault)
    } else {
        Err(UnlockError::WrongKey {
            place: source.place(),
        })
    }
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

    #[tokio::test]
    async fn the_key_of_the_first_start_is_the_key_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        let first = unlock(&store, &source(home.path())).await.unwrap();
        let again = unlock(&store, &source(home.path())).await.unwrap();
        assert_eq!(first.instance_hash("x"), again.instance_hash("x"));
    }

    #[tokio::test]
    async fn a_wrong_or_lost_key_is_refused_and_nothing_is_made() {
        let home = tempfile::tempdir().unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        unlock(&store, &source(home.path())).await.unwrap();
        let path = home.path().join("master.key");
        let right = fs::read_to_string(&path).unwrap();

        fs::write(&path, "00".repeat(32)).unwrap();
        let said = unlock(&store, &source(home.path()))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            said.contains("is not the one this database was made with"),
            "{said}"
        );

        fs::remove_file(&path).unwrap();
        let said = unlock(&store, &source(home.path()))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(said.contains("is missing"), "{said}");
        assert!(!path.exists(), "no new key beside an old database");

        fs::write(&path, right).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        unlock(&store, &source(home.path())).await.unwrap();
    }

    #[tokio::test]
    async fn a_crash_between_key_and_check_value_is_mended() {
        let home = tempfile::tempdir().unwrap();
        master::create(&home.path().join("master.key")).unwrap();
        let store: StoreHandle = Arc::new(Memory::new());
        unlock(&store, &source(home.path())).await.unwrap();
        assert!(store.setting(CHECK).await.unwrap().is_some());
    }
}
