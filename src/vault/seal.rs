//! Seals and opens single values. Pure: key, place and nonce come in.
//!
//! Sealed form: a version byte, four bytes that tell which master key, the nonce (24 bytes), the
//! ciphertext, the tag (16 bytes). XChaCha20-Poly1305, whose nonce is long enough to be random.
//!
//! The key is derived (HKDF-SHA256) for the user and the service, so no two users ever share one.
//! The associated data name the row and the purpose, every part with its length before it, so that
//! `ab` + `c` is not `a` + `bc`. A ciphertext opens only in the place it was sealed for.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ids::{PublicId, ServiceType, UserId};

/// First byte of the sealed form.
const VERSION: u8 = 1;

/// Version byte and key number: authenticated too.
const HEAD: usize = 5;

/// Length of a nonce.
pub(super) const NONCE: usize = 24;

/// Length of a tag.
const TAG: usize = 16;

/// So many bytes more than the value has.
pub(super) const OVERHEAD: usize = HEAD + NONCE + TAG;

/// Which of a row's secrets. Each of them is sealed anew when the master key is rotated
/// (`instances/reseal.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What the external service wants from the user.
    Credential,
    /// The secret part of the URL.
    InstanceId,
}

impl Purpose {
    /// Table and column, in words that stay.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Credential => ("credentials", "credential"),
            Self::InstanceId => ("user_service_instances", "instance id"),
        }
    }
}

/// The one place where a sealed value opens.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Which of the row's secrets.
    pub purpose: Purpose,
    /// Owner.
    pub user: &'a UserId,
    /// What it is an instance of.
    pub service: &'a ServiceType,
    /// Which instance.
    pub public: &'a PublicId,
}

/// Why a sealed value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Of an unknown form: cut, scribbled over, or of a newer release.
    #[error("a sealed value has no form that this release knows")]
    Form,
    /// Sealed with another master key.
    #[error("a sealed value was made with another master key")]
    OtherKey,
    /// Changed, or moved here from another row.
    #[error("a sealed value was changed, or belongs to another row")]
    Broken,
}

/// The key material that sealing keys are derived from.
pub(super) struct SealingKey {
    /// Tells master keys apart; says nothing about them.
    pub(super) number: [u8; 4],
    /// Expands to the key of each user and service.
    pub(super) root: Hkdf<Sha256>,
}

impl SealingKey {
    /// Seals a value for a place. A nonce must never be used twice: make it of random bytes.
    pub(super) fn seal(&self, place: &Place<'_>, nonce: [u8; NONCE], plain: &[u8]) -> Vec<u8> {
        let context = context(&self.head(), place);
        self.seal_as(&info(place), &context, nonce, plain)
    }

    /// Opens what was sealed for this place, and nothing else.
    pub(super) fn open(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.open_as(&info(place), &context(&self.head(), place), sealed)
    }

    /// Seals a value of the vault's own under its name.
    pub(super) fn seal_own(&self, name: &str, nonce: [u8; NONCE], plain: &[u8]) -> Vec<u8> {
        let context = own_context(&self.head(), name);
        self.seal_as(&own_info(), &context, nonce, plain)
    }

    /// Opens what was sealed under this name, and nothing else.
    pub(super) fn open_own(
        &self,
        name: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.open_as(&own_info(), &own_context(&self.head(), name), sealed)
    }

    /// Says this value that it was sealed with this key?
    pub(super) fn has_sealed(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&self.head())
    }

    fn head(&self) -> [u8; HEAD] {
        let [a, b, c, d] = self.number;
        [VERSION, a, b, c, d]
    }

    fn seal_as(&self, info: &[u8], context: &[u8], nonce: [u8; NONCE], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEAD + NONCE + plain.len() + TAG);
        sealed.extend_from_slice(&self.head());
        sealed.extend_from_slice(&nonce);
        let mut body = Vec::with_capacity(plain.len() + TAG);
        body.extend_from_slice(plain);
        self.cipher(info)
            .encrypt_in_place(&XNonce::from(nonce), context, &mut body)
            .expect("a value of less than 256 GiB into a buffer that grows");
        sealed.extend_from_slice(&body);
        sealed
    }

    fn open_as(
        &self,
        info: &[u8],
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (head, rest) = sealed.split_first_chunk::<HEAD>().ok_or(SealError::Form)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Form)?;
        if head[0] != VERSION {
            return Err(SealError::Form);
        }
        if head[1..] != self.number {
            return Err(SealError::OtherKey);
        }
        let mut plain = Zeroizing::new(body.to_vec());
        self.cipher(info)
            .decrypt_in_place(&XNonce::from(*nonce), context, &mut *plain)
            .map_err(|_| SealError::Broken)?;
        Ok(plain)
    }

    /// The cipher of one user and service, or of the vault itself.
    fn cipher(&self, info: &[u8]) -> XChaCha20Poly1305 {
        let mut key = Zeroizing::new([0; 32]);
        self.root
            .expand(info, &mut *key)
            .expect("32 bytes are within what HKDF gives");
        XChaCha20Poly1305::new((&*key).into())
    }
}

/// Whose key it is.
fn info(place: &Place<'_>) -> Vec<u8> {
    let (user, service) = (place.user.as_str(), place.service.as_str());
    parts(&["mcpm sealing key", user, service])
}

/// The vault's own key.
fn own_info() -> Vec<u8> {
    parts(&["mcpm own sealing key"])
}

/// Parts with their lengths before them.
fn parts(texts: &[&str]) -> Vec<u8> {
    let mut all = Vec::new();
    for text in texts {
        push(&mut all, text.as_bytes());
    }
    all
}

/// What is authenticated beside the ciphertext: its head, and the identity of its row.
fn context(head: &[u8], place: &Place<'_>) -> Vec<u8> {
    let (table, purpose) = place.purpose.names();
    let (user, service) = (place.user.as_str(), place.service.as_str());
    let mut context = Vec::new();
    push(&mut context, head);
    for part in [table, user, service, place.public.as_str(), purpose] {
        push(&mut context, part.as_bytes());
    }
    context
}

/// The same for a value of the vault's own.
fn own_context(head: &[u8], name: &str) -> Vec<u8> {
    let mut context = Vec::new();
    push(&mut context, head);
    push(&mut context, name.as_bytes());
    context
}

/// A part with its length before it.
fn push(to: &mut Vec<u8>, part: &[u8]) {
    to.extend_from_slice(&(part.len() as u64).to_le_bytes());
    to.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SealingKey {
        let root = Hkdf::<Sha256>::new(Some(b"test"), &[byte; 32]);
        SealingKey {
            number: [byte; 4],
            root,
        }
    }

    /// User, service, public number, purpose: everything that makes a place.
    type Words = (UserId, ServiceType, PublicId, Purpose);

    fn words() -> impl Strategy<Value = Words> {
        // Few letters, so that places often differ in one part only or split alike.
        let purpose = prop_oneof![Just(Purpose::Credential), Just(Purpose::InstanceId)];
        ("[ab]{1,3}", "[ab]{1,3}", "ins_[ab]{1}a{11}", purpose).prop_map(|(u, s, p, purpose)| {
            let user = UserId::parse(&u).unwrap();
            (
                user,
                ServiceType::parse(&s).unwrap(),
                PublicId::parse(&p).unwrap(),
                purpose,
            )
        })
    }

    fn place((user, service, public, purpose): &Words) -> Place<'_> {
        Place {
            purpose: *purpose,
            user,
            service,
            public,
        }
    }

    #[test]
    fn the_sealed_form_stays_as_it_was_first_released() {
        let user = UserId::parse("alice").unwrap();
        let service = ServiceType::parse("figma").unwrap();
        let public = PublicId::parse("ins_aaaabbbbcccc").unwrap();
        let here = Place {
            purpose: Purpose::Credential,
            user: &user,
            service: &service,
            public: &public,
        };
        let sealed = key(7).seal(&here, [9; NONCE], b"hunter2");
        let kept = concat!(
            "0107070707",
            "090909090909090909090909090909090909090909090909",
            "4e505a31ee166307a42910b8556a7b0739fd4fcd0d3d5b",
        );
        assert_eq!(data_encoding::HEXLOWER.encode(&sealed), kept);
    }

    #[test]
    fn two_nonces_make_two_ciphertexts() {
        let words = (
            UserId::parse("a").unwrap(),
            ServiceType::parse("a").unwrap(),
            PublicId::parse("ins_aaaabbbbcccc").unwrap(),
            Purpose::Credential,
        );
        let here = place(&words);
        let (one, two) = (
            key(1).seal(&here, [1; NONCE], b"x"),
            key(1).seal(&here, [2; NONCE], b"x"),
        );
        assert_ne!(one[HEAD + NONCE..], two[HEAD + NONCE..]);
    }

    #[test]
    fn a_value_of_the_vaults_own_opens_under_its_name_and_in_no_place() {
        let sealed = key(1).seal_own("a", [3; NONCE], b"x");
        assert_eq!(sealed.len(), 1 + OVERHEAD);
        assert_eq!(&**key(1).open_own("a", &sealed).unwrap(), b"x");
        assert!(key(1).has_sealed(&sealed) && !key(2).has_sealed(&sealed));
        assert_eq!(key(1).open_own("b", &sealed), Err(SealError::Broken));
        assert_eq!(key(2).open_own("a", &sealed), Err(SealError::OtherKey));
        let words = (
            UserId::parse("a").unwrap(),
            ServiceType::parse("a").unwrap(),
            PublicId::parse("ins_aaaabbbbcccc").unwrap(),
            Purpose::Credential,
        );
        let moved = key(1).open(&place(&words), &sealed);
        assert_eq!(moved, Err(SealError::Broken));
    }

    proptest! {
        #[test]
        fn a_value_opens_in_its_own_place_and_in_no_other(
            here in words(), there in words(), plain: Vec<u8>, nonce: [u8; NONCE],
        ) {
            let sealed = key(1).seal(&place(&here), nonce, &plain);
            prop_assert_eq!(&*key(1).open(&place(&here), &sealed).unwrap(), &plain);
            if here != there {
                prop_assert_eq!(key(1).open(&place(&there), &sealed), Err(SealError::Broken));
            }
            prop_assert_eq!(key(2).open(&place(&here), &sealed), Err(SealError::OtherKey));
        }

        #[test]
        fn one_changed_bit_anywhere_is_noticed(
            here in words(), plain: Vec<u8>, at: prop::sample::Index, bit in 0..8u8,
        ) {
            let mut sealed = key(1).seal(&place(&here), [3; NONCE], &plain);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(key(1).open(&place(&here), &sealed).is_err());
        }

        #[test]
        fn opening_random_bytes_never_panics(here in words(), bytes: Vec<u8>) {
            prop_assert!(key(1).open(&place(&here), &bytes).is_err());
            let headed = [&[VERSION, 1, 1, 1, 1], &bytes[..]].concat();
            prop_assert!(key(1).open(&place(&here), &headed).is_err());
        }
    }
}
