//! Keyed hashes: what ids and tokens are looked up by. Pure.
//!
//! The store holds hashes of what it never sees again, and URLs and services hold others. So their
//! keys outlive the master key that they were first derived from: when that one is rotated they are
//! stored, sealed, instead.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// First byte of the stored form.
const VERSION: u8 = 1;

/// What each key is for, in the order of the stored form. From the last one a later release derives
/// the keys of purposes that are not known yet, so that those, too, outlive a master key.
const PURPOSES: [&str; 5] = [
    "instance hash",
    "user tag",
    "token hash",
    "router secret",
    "later purposes",
];

/// Bytes of one key.
const KEY: usize = 32;

/// A key for each purpose, so that no answer of one says anything about another.
pub(super) struct Hashes {
    /// One key after the other, as they are stored.
    keys: Zeroizing<[u8; KEY * PURPOSES.len()]>,
    /// Of instance ids.
    pub(super) instances: Hmac<Sha256>,
    /// Of user ids, in instance ids.
    pub(super) users: Hmac<Sha256>,
    /// Of tokens.
    pub(super) tokens: Hmac<Sha256>,
    /// Of service types: what services know the router by.
    pub(super) routers: Hmac<Sha256>,
    /// Of credentials that were checked.
    pub(super) checks: Hmac<Sha256>,
    /// Of sessions of MCP.
    pub(super) sessions: Hmac<Sha256>,
    /// Of what clients carry for the router and show again.
    pub(super) streams: Hmac<Sha256>,
    /// Of credentials that sessions were begun with.
    pub(super) stamps: Hmac<Sha256>,
}

impl Hashes {
    /// The keys of a master key that has never been rotated.
    pub(super) fn derived(root: &Hkdf<Sha256>) -> Self {
        let mut keys = Zeroizing::new([0; KEY * PURPOSES.len()]);
        for (purpose, key) in PURPOSES.iter().zip(keys.chunks_exact_mut(KEY)) {
            fill(root, purpose, key);
        }
        Self::of(keys)
    }

    /// The stored form.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + self.keys.len()));
        bytes.push(VERSION);
        bytes.extend_from_slice(self.keys.as_slice());
        bytes
    }

    /// Reads the stored form; `None` when it is not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, keys) = bytes.split_first()? else {
            return None;
        };
        Some(Self::of(Zeroizing::new(keys.try_into().ok()?)))
    }

    fn of(keys: Zeroizing<[u8; KEY * PURPOSES.len()]>) -> Self {
        let key = |at: usize| mac(&keys[at * KEY..(at + 1) * KEY]);
        let later = |purpose| mac(&hash(&key(4), purpose));
        Self {
            instances: key(0),
            users: key(1),
            tokens: key(2),
            routers: key(3),
            checks: later("checked credentials"),
            sessions: later("sessions"),
            streams: later("streams"),
            stamps: later("stamps of credentials"),
            keys,
        }
    }
}

/// The hash key of one purpose, from a root.
pub(super) fn subkey(root: &Hkdf<Sha256>, purpose: &str) -> Hmac<Sha256> {
    let mut key = Zeroizing::new([0; KEY]);
    fill(root, purpose, &mut *key);
    mac(&*key)
}

/// Keyed hash of a text.
pub(super) fn hash(key: &Hmac<Sha256>, text: &str) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Keyed hash of parts, each with its length before it, so that none can pass for two.
pub(super) fn hash_parts(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn fill(root: &Hkdf<Sha256>, purpose: &str, key: &mut [u8]) {
    let info = [b"hash key: ", purpose.as_bytes()].concat();
    root.expand(&info, key)
        .expect("32 bytes are within what HKDF gives");
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_keys_hash_as_the_derived_ones_did() {
        let root = Hkdf::<Sha256>::new(Some(b"test"), &[1; 32]);
        let derived = Hashes::derived(&root);
        let stored = Hashes::decode(&derived.encode()).unwrap();
        for (one, other) in [
            (&derived.instances, &stored.instances),
            (&derived.users, &stored.users),
            (&derived.tokens, &stored.tokens),
            (&derived.routers, &stored.routers),
            (&derived.checks, &stored.checks),
            (&derived.sessions, &stored.sessions),
            (&derived.streams, &stored.streams),
        ] {
            assert_eq!(hash(one, "x"), hash(other, "x"));
        }
        assert_eq!(
            hash(&derived.tokens, "x"),
            hash(&subkey(&root, "token hash"), "x")
        );
    }

    #[test]
    fn what_was_cut_or_is_of_another_form_is_refused() {
        let root = Hkdf::<Sha256>::new(Some(b"test"), &[1; 32]);
        let bytes = Hashes::derived(&root).encode();
        assert!(Hashes::decode(&bytes[..bytes.len() - 1]).is_none());
        assert!(Hashes::decode(&[&bytes[..], &[0]].concat()).is_none());
        assert!(Hashes::decode(&[&[9], &bytes[1..]].concat()).is_none());
        assert!(Hashes::decode(&[]).is_none());
    }
}
