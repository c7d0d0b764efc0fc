//! [`Vault`]: the handle that seals, opens and hashes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::ids::{InstanceId, PublicId, ServiceType, UserId};
use crate::secret::Secret;
use crate::vault::fields::{Credential, Fields};
use crate::vault::guarded::Guarded;
use crate::vault::hashes::{Hashes, hash, hash_parts};
use crate::vault::held::Held;
use crate::vault::master::MasterKey;
use crate::vault::random::{RandomError, random};
use crate::vault::seal::{Place, SealError};

/// Everything that is derived from the master key. Cheap to clone; nothing of it prints.
#[derive(Clone)]
pub struct Vault(Arc<Keys>);

struct Keys {
    ring: ArcSwap<Ring>,
    hashes: Guarded<Hashes>,
}

/// The master keys that open something: one, and two while it is rotated.
#[derive(Clone)]
pub(super) struct Ring {
    /// What is sealed now is sealed with this one.
    pub(super) seals: Arc<Guarded<Held>>,
    /// What it has not sealed was sealed with this one.
    pub(super) other: Option<Arc<Guarded<Held>>>,
}

impl Ring {
    /// Of one key.
    pub(super) fn of(held: Held) -> Self {
        Self {
            seals: Arc::new(Guarded::new(held)),
            other: None,
        }
    }

    /// With the next key, which seals from now on, unless that was called off.
    pub(super) fn joined(self, next: Held, back: bool) -> Self {
        let joined = Self {
            other: Some(self.seals),
            ..Self::of(next)
        };
        if back { joined.turned() } else { joined }
    }

    /// The other way round.
    pub(super) fn turned(&self) -> Self {
        match &self.other {
            Some(other) => Self {
                seals: Arc::clone(other),
                other: Some(Arc::clone(&self.seals)),
            },
            None => self.clone(),
        }
    }
}

/// What became of a value that is to be sealed with the key that seals now.
#[derive(Debug, PartialEq, Eq)]
pub enum Resealed {
    /// It is already.
    Already,
    /// The same value, sealed anew.
    Fresh(Vec<u8>),
    /// It opens with no key that there is, and is left as it was.
    Unreadable(SealError),
}

impl Vault {
    /// Derives all keys from a master key that has never been rotated.
    pub fn new(master: &MasterKey) -> Self {
        let held = Held::new(master.duplicate());
        let hashes = Hashes::derived(&held.sealing.root);
        Self::assemble(hashes, Ring::of(held))
    }

    pub(super) fn assemble(hashes: Hashes, ring: Ring) -> Self {
        Self(Arc::new(Keys {
            ring: ArcSwap::from_pointee(ring),
            hashes: Guarded::new(hashes),
        }))
    }

    /// Keyed hash of an instance id: what tables and store look it up by.
    pub fn instance_hash(&self, id: &str) -> [u8; 32] {
        hash(&self.0.hashes.instances, id)
    }

    /// Keyed hash of a token: what the store looks it up by.
    pub fn token_hash(&self, token: &str) -> [u8; 32] {
        hash(&self.0.hashes.tokens, token)
    }

    /// The 12 hex digits that stand for a user in instance ids.
    pub fn user_tag(&self, user: &UserId) -> String {
        HEXLOWER.encode(&hash(&self.0.hashes.users, user.as_str())[..6])
    }

    /// What a service gets as `MCPM_ROUTER_SECRET`, and the router repeats to it. Derived, so that
    /// it survives adoption of the service by another daemon.
    pub fn router_secret(&self, service: &ServiceType) -> Secret<String> {
        Secret::new(HEXLOWER.encode(&hash(&self.0.hashes.routers, service.as_str())))
    }

    /// Keyed hash of a credential and of how it was checked: what a verdict is remembered by.
    pub fn check_hash(&self, service: &ServiceType, rule: &[u8], fields: &Fields) -> [u8; 32] {
        let fields = fields.encode();
        let parts = [service.as_str().as_bytes(), rule, fields.as_slice()];
        hash_parts(&self.0.hashes.checks, &parts)
    }

    /// Keyed hash of an instance and the id of a session: what sessions are looked up by. No id is found
    /// under another instance than its own.
    pub fn session_hash(&self, instance: &PublicId, session: &str) -> [u8; 32] {
        let parts = [instance.as_str().as_bytes(), session.as_bytes()];
        hash_parts(&self.0.hashes.sessions, &parts)
    }

    /// Tells a credential of an instance from another one, beside what was begun with it. 64 bits: nobody
    /// can choose it.
    pub fn credential_stamp(&self, instance: &PublicId, fields: &Fields) -> [u8; 8] {
        let fields = fields.encode();
        let parts = [instance.as_str().as_bytes(), fields.as_slice()];
        let hash = hash_parts(&self.0.hashes.stamps, &parts);
        *hash.first_chunk().expect("a stamp is shorter than a hash")
    }

    /// What binds a text that a client carries for us (an event's id, MCP's `requestState`) to one
    /// instance: the beginning of a keyed hash of both. 80 bits, which nobody can try out but by asking
    /// the router. A text says what it is for: a tag tells one use from another only by that.
    pub fn stream_tag(&self, instance: &PublicId, text: &[u8]) -> [u8; 10] {
        let parts = [instance.as_str().as_bytes(), text];
        let hash = hash_parts(&self.0.hashes.streams, &parts);
        *hash.first_chunk().expect("a tag is shorter than a hash")
    }

    /// Whether `shown` is the tag of this text and instance. Takes the same time for every tag that is
    /// not, but for those of another length.
    pub fn is_stream_tag(&self, instance: &PublicId, text: &[u8], shown: &[u8]) -> bool {
        self.stream_tag(instance, text).ct_eq(shown).into()
    }

    /// Seals a credential for its place.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal_fields(&self, place: &Place<'_>, fields: &Fields) -> Result<Vec<u8>, RandomError> {
        self.seal(place, &fields.encode())
    }

    /// Opens a credential that was sealed for this place.
    ///
    /// # Errors
    /// It was not, or not with this master key.
    pub fn open_fields(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Credential, SealError> {
        let plain = self.open(place, sealed)?;
        Fields::decode(&plain).ok_or(SealError::Form)
    }

    /// Seals an instance id for its place.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal_id(&self, place: &Place<'_>, id: &InstanceId) -> Result<Vec<u8>, RandomError> {
        self.seal(place, id.expose().as_bytes())
    }

    /// Opens an instance id that was sealed for this place.
    ///
    /// # Errors
    /// It was not, or not with this master key.
    pub fn open_id(&self, place: &Place<'_>, sealed: &[u8]) -> Result<InstanceId, SealError> {
        let plain = self.open(place, sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| SealError::Form)?;
        Ok(InstanceId::new(text.to_owned()))
    }

    /// Seals anew what was sealed for this place with another key than the one that seals now.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn reseal(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Resealed, RandomError> {
        if self.0.ring.load().seals.sealing.has_sealed(sealed) {
            return Ok(Resealed::Already);
        }
        match self.open(place, sealed) {
            Ok(plain) => self.seal(place, &plain).map(Resealed::Fresh),
            Err(error) => Ok(Resealed::Unreadable(error)),
        }
    }

    fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>, RandomError> {
        let ring = self.0.ring.load();
        Ok(ring.seals.sealing.seal(place, random()?, plain))
    }

    /// With the key that the value names.
    fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let ring = self.0.ring.load();
        match (ring.seals.sealing.open(place, sealed), &ring.other) {
            (Err(SealError::OtherKey), Some(other)) => other.sealing.open(place, sealed),
            (opened, _) => opened,
        }
    }

    /// The keys there are now.
    pub(super) fn ring(&self) -> Arc<Ring> {
        self.0.ring.load_full()
    }

    /// Other keys, for this handle and all its clones.
    pub(super) fn set_ring(&self, ring: Ring) {
        self.0.ring.store(Arc::new(ring));
    }

    /// The keys of hashes, as they are stored.
    pub(super) fn hash_keys(&self) -> Zeroizing<Vec<u8>> {
        self.0.hashes.encode()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ids::PublicId;
    use crate::vault::Purpose;

    fn vault(byte: u8) -> Vault {
        Vault::new(&MasterKey::from_bytes([byte; 32]))
    }

    #[test]
    fn hashes_differ_by_purpose_and_by_master_key() {
        let user = UserId::parse("x").unwrap();
        let service = ServiceType::parse("x").unwrap();
        let mut seen = HashSet::new();
        for key in [1, 2] {
            let vault = vault(key);
            let tag = vault.user_tag(&user);
            assert_eq!(tag.len(), 12);
            for hash in [vault.instance_hash("x"), vault.token_hash("x")] {
                let text = HEXLOWER.encode(&hash);
                assert!(!text.starts_with(&tag));
                assert!(seen.insert(text));
            }
            assert!(seen.insert(vault.router_secret(&service).expose().clone()));
            assert!(seen.insert(tag));
            assert!(seen.insert(HEXLOWER.encode(&vault.ring().seals.check_value())));
        }
        assert_eq!(vault(1).instance_hash("x"), vault(1).instance_hash("x"));
    }

    #[test]
    fn hashes_stay_as_they_were_first_released() {
        // A change here makes every stored URL and token worthless.
        let vault = vault(7);
        let user = UserId::parse("alice").unwrap();
        let service = ServiceType::parse("figma").unwrap();
        let now = [
            HEXLOWER.encode(&vault.instance_hash("fig_0")),
            HEXLOWER.encode(&vault.token_hash("mcpm_u_0")),
            vault.user_tag(&user),
            vault.router_secret(&service).expose().clone(),
        ];
        let kept = [
            "8de63112e284676c513c8b0688862e3f6e0d48bc52daae5152fdfc12e85a8237",
            "0bc2f31143997bbecc8efbb3f00f30b34ea0e754313bb0d7842e4ad55cafada8",
            "5e6774a85b05",
            "640372b5a41d89e90a463c07e61b1be80b96b154cd241c9e4fbb4d474a3944c3",
        ];
        assert_eq!(now, kept);
    }

    #[test]
    fn hashes_of_sessions_stay_and_hold_for_one_instance_only() {
        let (one, other) = (
            PublicId::parse("ins_aaaabbbbcccc").unwrap(),
            PublicId::parse("ins_ddddeeeeffff").unwrap(),
        );
        let (vault, another) = (vault(7), vault(8));
        // A change here ends every session, and every stream that a client would go on with.
        assert_eq!(
            HEXLOWER.encode(&vault.session_hash(&one, "0")),
            "bb46e6c431249df2db53f6c2bdd3f26e733b0d18253992ecafd7692e443b214e"
        );
        let tag = vault.stream_tag(&one, b"0");
        assert_eq!(HEXLOWER.encode(&tag), "7b298b99abaa0f242269");
        let mut seen = HashSet::from([vault.session_hash(&one, "0")]);
        assert!(seen.insert(vault.session_hash(&one, "1")));
        assert!(seen.insert(vault.session_hash(&other, "0")));
        assert!(seen.insert(vault.instance_hash("0")));
        assert!(seen.iter().all(|hash| !hash.starts_with(&tag)));

        assert!(vault.is_stream_tag(&one, b"0", &tag));
        let mut wrong = tag;
        wrong[9] ^= 1;
        for shown in [&wrong[..], &tag[..9], &[&tag[..], &[0]].concat(), &[]] {
            assert!(!vault.is_stream_tag(&one, b"0", shown), "{shown:?}");
        }
        assert!(!vault.is_stream_tag(&one, b"1", &tag));
        assert!(!vault.is_stream_tag(&other, b"0", &tag));
        assert!(!another.is_stream_tag(&one, b"0", &tag));
    }

    #[test]
    fn a_value_sealed_anew_opens_in_its_own_place_and_in_no_other() {
        let user = UserId::parse("alice").unwrap();
        let service = ServiceType::parse("figma").unwrap();
        let (here, there) = (
            PublicId::parse("ins_aaaabbbbcccc").unwrap(),
            PublicId::parse("ins_ddddeeeeffff").unwrap(),
        );
        let place = |public| Place {
            purpose: Purpose::Credential,
            user: &user,
            service: &service,
            public,
        };
        let vault = vault(1);
        let fields: Fields = [("api_key", "hunter2")].into_iter().collect();
        let first = vault.seal_fields(&place(&here), &fields).unwrap();
        assert_eq!(vault.reseal(&place(&here), &first), Ok(Resealed::Already));

        let old = vault.ring();
        let next = Held::new(MasterKey::from_bytes([2; 32]));
        vault.set_ring(Ring {
            other: Some(old.seals.clone()),
            ..Ring::of(next)
        });
        let moved = vault.reseal(&place(&there), &first);
        assert_eq!(moved, Ok(Resealed::Unreadable(SealError::Broken)));
        let Ok(Resealed::Fresh(second)) = vault.reseal(&place(&here), &first) else {
            panic!("it was sealed with the other key");
        };
        assert_eq!(vault.reseal(&place(&here), &second), Ok(Resealed::Already));
        let open = |public, sealed: &[u8]| vault.open_fields(&place(public), sealed);
        for sealed in [&first, &second] {
            assert!(*open(&here, sealed).unwrap().expose() == fields);
            assert_eq!(open(&there, sealed).err(), Some(SealError::Broken));
        }
        // Without the first key the second value opens, and the first one no more.
        vault.set_ring(Ring {
            other: None,
            ..Ring::clone(&vault.ring())
        });
        assert!(*open(&here, &second).unwrap().expose() == fields);
        assert_eq!(open(&here, &first).err(), Some(SealError::OtherKey));
    }
}
