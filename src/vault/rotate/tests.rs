//! Rotations from begin to end, and with a death after each step: the handle is dropped, and another
//! one is made of what the store and the key's place hold.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use data_encoding::HEXLOWER;

use super::*;
use crate::ids::{PublicId, ServiceType, UserId};
use crate::store::Memory;
use crate::vault::{Fields, Place, Purpose, Resealed, SealError, UnlockError, unlock};

struct World {
    home: tempfile::TempDir,
    store: StoreHandle,
    /// A key that the operator keeps in a file; else it is ours.
    named: bool,
}

impl World {
    /// The key lies in `master.key`.
    fn ours() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            store: Arc::new(Memory::new()),
            named: false,
        }
    }

    /// The key is this one, in a file that `MCPM_MASTER_KEY_FILE` names.
    fn theirs(byte: u8) -> Self {
        let world = Self {
            named: true,
            ..Self::ours()
        };
        world.put(byte);
        world
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("master.key")
    }

    /// The operator puts this key into the file.
    fn put(&self, byte: u8) {
        self.write(&hex(byte));
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
        fs::set_permissions(self.file(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    async fn try_start(&self) -> Result<MasterKeys, UnlockError> {
        let named = self.named.then(|| OsString::from(self.file()));
        let source = KeySource::choose(self.home.path(), |name| {
            named.clone().filter(|_| name == "MCPM_MASTER_KEY_FILE")
        });
        unlock(&self.store, source.unwrap()).await
    }

    async fn start(&self) -> MasterKeys {
        self.try_start().await.unwrap()
    }

    /// The master keys of a daemon that is started with this key are refused, and why.
    async fn refused(&self, text: &str) -> String {
        let right = fs::read_to_string(self.file()).unwrap();
        self.write(text);
        let said = self.try_start().await.err().unwrap().to_string();
        self.write(&right);
        said
    }
}

fn hex(byte: u8) -> String {
    HEXLOWER.encode(&[byte; 32])
}

fn given(byte: u8) -> Option<Secret<String>> {
    Some(Secret::new(hex(byte)))
}

/// Seals or opens a credential in the one place that these tests know.
fn with_place<T>(work: impl FnOnce(&Place<'_>) -> T) -> T {
    work(&Place {
        purpose: Purpose::Credential,
        user: &UserId::parse("alice").unwrap(),
        service: &ServiceType::parse("figma").unwrap(),
        public: &PublicId::parse("ins_aaaabbbbcccc").unwrap(),
    })
}

fn seal(keys: &MasterKeys, value: &str) -> Vec<u8> {
    let fields: Fields = [("api_key", value)].into_iter().collect();
    with_place(|place| keys.vault().seal_fields(place, &fields).unwrap())
}

fn open(keys: &MasterKeys, sealed: &[u8]) -> Result<String, SealError> {
    let opened = with_place(|place| keys.vault().open_fields(place, sealed))?;
    Ok(opened.expose().get("api_key").unwrap().to_owned())
}

/// As who owns the rows does it.
fn reseal(keys: &MasterKeys, sealed: &[u8]) -> Vec<u8> {
    match with_place(|place| keys.vault().reseal(place, sealed).unwrap()) {
        Resealed::Fresh(fresh) => fresh,
        other => panic!("{other:?}"),
    }
}

fn hashes(keys: &MasterKeys) -> (Vec<[u8; 32]>, String, String) {
    let vault = keys.vault();
    let service = ServiceType::parse("figma").unwrap();
    (
        vec![vault.instance_hash("x"), vault.token_hash("x")],
        vault.user_tag(&UserId::parse("alice").unwrap()),
        vault.router_secret(&service).expose().clone(),
    )
}

async fn rotation(keys: &MasterKeys) -> Option<Rotation> {
    keys.facts().await.unwrap().rotation
}

#[tokio::test]
async fn our_own_key_is_replaced_and_the_former_one_opens_nothing() {
    let world = World::ours();
    let keys = world.start().await;
    let (first, hashed) = (keys.facts().await.unwrap(), hashes(&keys));
    let old = seal(&keys, "one");
    let former = fs::read_to_string(world.file()).unwrap();
    assert!(first.rotation.is_none() && first.since.is_some());

    let refused = keys.begin(given(9)).await.unwrap_err();
    assert!(
        matches!(refused, RotateError::NotNeeded { .. }),
        "{refused}"
    );
    keys.begin(None).await.unwrap();
    let again = keys.begin(None).await.unwrap_err();
    assert!(matches!(again, RotateError::UnderWay), "{again}");
    let under_way = keys.facts().await.unwrap();
    assert_eq!(under_way.number, first.number);
    let next = under_way.rotation.unwrap().next;
    assert_ne!(next, first.number);
    assert_eq!(fs::read_to_string(world.file()).unwrap(), former);
    let fresh = reseal(&keys, &old);
    assert_eq!(open(&keys, &old).unwrap(), "one");

    keys.finish(0).await.unwrap();
    let after = keys.facts().await.unwrap();
    assert_eq!((after.number, after.rotation), (next, None));
    assert!(after.since >= first.since);
    for keys in [keys, world.start().await] {
        assert_eq!(open(&keys, &fresh).unwrap(), "one");
        assert_eq!(open(&keys, &old), Err(SealError::OtherKey));
        assert_eq!(hashes(&keys), hashed, "URLs, tokens and services go on");
    }
    let said = world.refused(&former).await;
    assert!(said.contains("from before the last rotation"), "{said}");
    let said = world.refused(&hex(9)).await;
    assert!(
        said.contains("not the one this database was made with"),
        "{said}"
    );
    assert_eq!(fs::read_dir(world.home.path()).unwrap().count(), 1);

    // And once more: now the keys of hashes are stored ones.
    let keys = world.start().await;
    keys.begin(None).await.unwrap();
    let fresh = reseal(&keys, &fresh);
    keys.finish(0).await.unwrap();
    let keys = world.start().await;
    assert_eq!(
        (open(&keys, &fresh).unwrap().as_str(), hashes(&keys)),
        ("one", hashed)
    );
}

#[tokio::test]
async fn a_death_after_each_step_loses_nothing_and_the_next_daemon_goes_on() {
    for steps in 0..=3 {
        let world = World::ours();
        let keys = world.start().await;
        let (hashed, old) = (hashes(&keys), seal(&keys, "old"));
        let mut fresh = old.clone();
        if steps > 0 {
            keys.begin(None).await.unwrap();
            fresh = seal(&keys, "new");
        }
        if steps > 1 {
            let ring = keys.vault().ring();
            assert!(keys.put_in_place(&ring).await.unwrap());
        }
        if steps > 2 {
            keys.finish(0).await.unwrap();
        }
        drop(keys);

        let keys = world.start().await;
        assert_eq!(hashes(&keys), hashed, "after step {steps}");
        let left = rotation(&keys).await;
        assert_eq!(
            left.is_some(),
            (1..3).contains(&steps),
            "after step {steps}"
        );
        if steps < 3 {
            assert_eq!(open(&keys, &old).unwrap(), "old", "after step {steps}");
        }
        assert!(open(&keys, &fresh).is_ok(), "after step {steps}");
        if left.is_some() {
            let resealed = reseal(&keys, &old);
            keys.finish(0).await.unwrap();
            let keys = world.start().await;
            assert_eq!(open(&keys, &resealed).unwrap(), "old");
            assert_eq!(open(&keys, &fresh).unwrap(), "new");
            assert!(rotation(&keys).await.is_none());
        }
    }
}

#[tokio::test]
async fn a_key_that_others_keep_is_waited_for_and_until_then_either_opens_everything() {
    let world = World::theirs(1);
    let keys = world.start().await;
    let (hashed, old) = (hashes(&keys), seal(&keys, "old"));
    let refused = keys.begin(None).await.unwrap_err();
    assert!(matches!(refused, RotateError::Needed { .. }), "{refused}");
    let refused = keys.begin(given(1)).await.unwrap_err();
    assert!(matches!(refused, RotateError::Same), "{refused}");
    let nonsense = Some(Secret::new("hunter2".to_owned()));
    let refused = keys.begin(nonsense).await.unwrap_err();
    assert!(matches!(refused, RotateError::NoKey), "{refused}");
    assert!(!refused.to_string().contains("hunter2"));

    keys.begin(given(2)).await.unwrap();
    let fresh = reseal(&keys, &old);
    keys.finish(0).await.unwrap();
    assert!(rotation(&keys).await.unwrap().waits);
    assert_eq!(
        fs::read_to_string(world.file()).unwrap(),
        hex(1),
        "theirs is never written"
    );

    // With the old key, with the new one, and with the old one again.
    for byte in [1, 2, 1] {
        world.put(byte);
        let keys = world.start().await;
        assert_eq!(open(&keys, &old).unwrap(), "old");
        assert_eq!(open(&keys, &fresh).unwrap(), "old");
        assert_eq!(hashes(&keys), hashed);
        assert_eq!(
            rotation(&keys).await.unwrap().started_at,
            rotation_start(&world).await
        );
    }
    let said = world.refused(&hex(3)).await;
    assert!(
        said.contains("not the one this database was made with"),
        "{said}"
    );

    world.put(2);
    let keys = world.start().await;
    keys.finish(0).await.unwrap();
    assert!(rotation(&keys).await.is_none());
    assert_eq!(open(&keys, &fresh).unwrap(), "old");
    assert_eq!(open(&keys, &old), Err(SealError::OtherKey));
    assert_eq!(hashes(&world.start().await), hashed);
    let said = world.refused(&hex(1)).await;
    assert!(said.contains("from before the last rotation"), "{said}");
}

async fn rotation_start(world: &World) -> Timestamp {
    let record = world.store.setting(ROTATION).await.unwrap().unwrap();
    Record::decode(&record).unwrap().started_at
}

#[tokio::test]
async fn a_rotation_that_was_called_off_leaves_the_key_as_it_was() {
    let world = World::theirs(1);
    let keys = world.start().await;
    let number = keys.facts().await.unwrap().number;
    let refused = keys.cancel().await.unwrap_err();
    assert!(matches!(refused, RotateError::NotUnderWay), "{refused}");
    keys.begin(given(2)).await.unwrap();
    let fresh = seal(&keys, "new");
    keys.cancel().await.unwrap();
    let refused = keys.cancel().await.unwrap_err();
    assert!(matches!(refused, RotateError::CalledOff), "{refused}");
    let back = rotation(&keys).await.unwrap();
    assert!(back.back && back.round == 1);
    assert_eq!(keys.facts().await.unwrap().number, number);

    // What was begun before it was called off ends nothing.
    keys.finish(0).await.unwrap();
    assert!(rotation(&keys).await.is_some());

    drop(keys);
    let keys = world.start().await;
    assert_eq!(keys.facts().await.unwrap().number, number);
    let resealed = reseal(&keys, &fresh);
    let round = rotation(&keys).await.unwrap().round;
    keys.finish(round).await.unwrap();
    assert!(rotation(&keys).await.is_none());
    assert_eq!(open(&keys, &resealed).unwrap(), "new");
    assert_eq!(open(&keys, &fresh), Err(SealError::OtherKey));
    let said = world.refused(&hex(2)).await;
    assert!(
        said.contains("not the one this database was made with"),
        "{said}"
    );
}

#[tokio::test]
async fn called_off_by_a_daemon_with_the_next_key_it_waits_for_the_former_one() {
    let world = World::theirs(1);
    world.start().await.begin(given(2)).await.unwrap();
    world.put(2);
    let keys = world.start().await;
    keys.cancel().await.unwrap();
    keys.finish(1).await.unwrap();
    assert!(rotation(&keys).await.unwrap().waits);
    world.put(1);
    let keys = world.start().await;
    keys.finish(0).await.unwrap();
    assert!(rotation(&keys).await.is_none());
}

#[tokio::test]
async fn how_far_it_is_counts_for_its_own_round_only() {
    let world = World::ours();
    let keys = world.start().await;
    keys.begin(None).await.unwrap();
    keys.tell(0, 9, 4, 1);
    keys.tell(7, 1, 1, 1);
    let told = rotation(&keys).await.unwrap();
    assert_eq!((told.instances, told.seen, told.unreadable), (9, 4, 1));
}

#[tokio::test]
async fn a_file_that_cannot_be_replaced_ends_nothing() {
    let world = World::ours();
    let keys = world.start().await;
    let old = seal(&keys, "old");
    keys.begin(None).await.unwrap();
    // In the place of the draft lies what cannot be removed as a file.
    let draft = world.home.path().join("master.key.new");
    fs::create_dir(&draft).unwrap();
    let failed = keys.finish(0).await.unwrap_err();
    assert!(matches!(failed, RotateError::Key(_)), "{failed}");
    assert_eq!(open(&world.start().await, &old).unwrap(), "old");
    fs::remove_dir(&draft).unwrap();
    keys.finish(0).await.unwrap();
    assert!(rotation(&keys).await.is_none());
}
