//! [`Vault`]: the handle that seals, opens and hashes.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ids::{InstanceId, ServiceType, UserId};
use crate::secret::Secret;
use crate::vault::fields::{Credential, Fields};
use crate::vault::master::MasterKey;
use crate::vault::random::{RandomError, random};
use crate::vault::seal::{Place, SealError, SealingKey};

/// Everything that is derived from the master key. Cheap to clone; nothing of it prints.
#[derive(Clone)]
pub struct Vault(Arc<Keys>);

/// A key for each purpose, so that no answer of one says anything about another.
struct Keys {
    sealing: SealingKey,
    instances: Hmac<Sha256>,
    users: Hmac<Sha256>,
    tokens: Hmac<Sha256>,
    routers: Hmac<Sha256>,
    check: Hmac<Sha256>,
}

impl Vault {
    /// Derives all keys. The master key itself is not kept.
    pub fn new(master: &MasterKey) -> Self {
        let root = Hkdf::<Sha256>::new(Some(b"mcpm vault 1"), master.expose());
        let mut number = [0; 4];
        root.expand(b"key number", &mut number)
            .expect("4 bytes are within what HKDF gives");
        Self(Arc::new(Keys {
            instances: subkey(&root, "instance hash"),
            users: subkey(&root, "user tag"),
            tokens: subkey(&root, "token hash"),
            routers: subkey(&root, "router secret"),
            check: subkey(&root, "check value"),
            sealing: SealingKey { number, root },
        }))
    }

    /// Keyed hash of an instance id: what tables and store look it up by.
    pub fn instance_hash(&self, id: &str) -> [u8; 32] {
        hash(&self.0.instances, id)
    }

    /// Keyed hash of a token: what the store looks it up by.
    pub fn token_hash(&self, token: &str) -> [u8; 32] {
        hash(&self.0.tokens, token)
    }

    /// The 12 hex digits that stand for a user in instance ids.
    pub fn user_tag(&self, user: &UserId) -> String {
        HEXLOWER.encode(&hash(&self.0.users, user.as_str())[..6])
    }

    /// What a service gets as `MCPM_ROUTER_SECRET`, and the router repeats to it. Derived, so that
    /// it survives adoption of the service by another daemon.
    pub fn router_secret(&self, service: &ServiceType) -> Secret<String> {
        Secret::new(HEXLOWER.encode(&hash(&self.0.routers, service.as_str())))
    }

    /// Seals a credential for its place.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal_fields(&self, place: &Place<'_>, fields: &Fields) -> Result<Vec<u8>, RandomError> {
        Ok(self.0.sealing.seal(place, random()?, &fields.encode()))
    }

    /// Opens a credential that was sealed for this place.
    ///
    /// # Errors
    /// It was not, or not with this master key.
    pub fn open_fields(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Credential, SealError> {
        let plain = self.0.sealing.open(place, sealed)?;
        Fields::decode(&plain).ok_or(SealError::Form)
    }

    /// Seals an instance id for its place.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal_id(&self, place: &Place<'_>, id: &InstanceId) -> Result<Vec<u8>, RandomError> {
        Ok(self
            .0
            .sealing
            .seal(place, random()?, id.expose().as_bytes()))
    }

    /// Opens an instance id that was sealed for this place.
    ///
    /// # Errors
    /// It was not, or not with this master key.
    pub fn open_id(&self, place: &Place<'_>, sealed: &[u8]) -> Result<InstanceId, SealError> {
        let plain = self.0.sealing.open(place, sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| SealError::Form)?;
        Ok(InstanceId::new(text.to_owned()))
    }

    /// A value that only this master key gives: tells a later daemon whether it has the same one.
    pub(super) fn check_value(&self) -> Vec<u8> {
        hash(&self.0.check, "mcpm.db").to_vec()
    }
}

fn subkey(root: &Hkdf<Sha256>, purpose: &str) -> Hmac<Sha256> {
    let mut key = Zeroizing::new([0; 32]);
    let info = [b"hash key: ", purpose.as_bytes()].concat();
    root.expand(&info, &mut *key)
        .expect("32 bytes are within what HKDF gives");
    Hmac::new_from_slice(&*key).expect("HMAC takes keys of any length")
}

fn hash(key: &Hmac<Sha256>, text: &str) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

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
            assert!(seen.insert(HEXLOWER.encode(&vault.check_value())));
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
}
