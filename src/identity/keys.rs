//! The keys of a provider: read from a JWK set (RFC 7517), found by a token, and tried. Pure.
//!
//! Invariant: a key serves one algorithm, the one of its own type. A secret is a secret and a public
//! key is none, whatever a token's header says.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::denied::Denied;
use super::token::Unverified;
use crate::config::identity::Algorithm;

/// Keys of one provider. Real sets have two or three, those of large providers a dozen.
const KEYS_MAX: usize = 64;
/// Bytes of an RSA modulus, 2,048 to 8,192 bits (RFC 7518 §3.3), and of its exponent.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;
const EXPONENT_MAX: usize = 8;
/// Bytes of a coordinate on P-256 (RFC 7518 §6.2.1.2).
const COORDINATE: usize = 32;
/// Bytes of a secret (RFC 7518 §3.2).
const SECRET_MIN: usize = 32;

/// What tokens of a provider are checked with.
#[derive(Debug)]
pub(super) enum Keys {
    /// One secret that both sides know.
    Secret(hmac::Key),
    /// Public keys.
    Public(Vec<PublicKey>),
}

/// One public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    kid: Option<String>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point on P-256, uncompressed.
    P256(Vec<u8>),
}

/// Why a text has no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysError {
    /// Not a set.
    #[error("this is no JWK set: a JSON object with a list `keys`")]
    Form,
    /// More than anybody has.
    #[error("a JWK set may have 64 keys at most")]
    TooMany,
    /// Guessed too easily.
    #[error("a secret of {0} bytes is too short; `HS256` wants 32 at least (RFC 7518 §3.2)")]
    Short(usize),
}

impl Keys {
    /// Reads a JWK set. What is not for signatures, is too weak, or is of a kind that is not
    /// supported is left out; so the set may come out empty.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn of_set(json: &[u8]) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| KeysError::Form)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let read = |value| PublicKey::read(serde_json::from_value(value).ok()?);
        Ok(Self::Public(
            set.keys.into_iter().filter_map(read).collect(),
        ))
    }

    /// A secret as it stands in a variable or a file; a line's end behind it does not count.
    ///
    /// # Errors
    /// It is too short.
    pub(super) fn of_secret(text: &[u8]) -> Result<Self, KeysError> {
        let end = text.iter().rposition(|b| !matches!(b, b'\r' | b'\n'));
        let secret = &text[..end.map_or(0, |last| last + 1)];
        if secret.len() < SECRET_MIN {
            return Err(KeysError::Short(secret.len()));
        }
        Ok(Self::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Secret(_) => 1,
            Self::Public(keys) => keys.len(),
        }
    }

    /// The same public keys. Secrets are not compared.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Public(own), Self::Public(others)) => own == others,
            _ => false,
        }
    }

    /// Was this token signed with one of them?
    ///
    /// # Errors
    /// No key is the one that it names, or that one did not sign it.
    pub(super) fn verify(&self, token: &Unverified<'_>) -> Result<(), Denied> {
        let keys = match self {
            Self::Secret(key) if token.algorithm == Algorithm::Hs256 => {
                return hmac::verify(key, token.signed, &token.signature)
                    .map_err(|_| Denied::Signature);
            }
            Self::Secret(_) => return Err(Denied::Algorithm),
            Self::Public(keys) => keys,
        };
        let fitting = keys.iter().filter(|key| key.serves(token.algorithm));
        let mut named: Vec<&PublicKey> = match &token.kid {
            Some(kid) => fitting
                .filter(|key| key.kid.as_ref() == Some(kid))
                .collect(),
            None => fitting.collect(),
        };
        // Without a name there must be no choice.
        if token.kid.is_none() && named.len() > 1 {
            named.clear();
        }
        if named.is_empty() {
            return Err(Denied::Key);
        }
        if named.iter().any(|key| key.has_signed(token)) {
            Ok(())
        } else {
            Err(Denied::Signature)
        }
    }
}

/// What is read of a key. `x5c`, `x5u` and the like are not.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl PublicKey {
    fn read(jwk: Jwk) -> Option<Self> {
        let signs = jwk
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig");
        let operations = jwk.key_ops.as_deref();
        let verifies = operations.is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies {
            return None;
        }
        let bytes = |text: &Option<String>| {
            let text = text.as_deref()?;
            BASE64URL_NOPAD.decode(text.as_bytes()).ok()
        };
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (trimmed(bytes(&jwk.n)?), trimmed(bytes(&jwk.e)?));
                let fits = MODULUS.contains(&n.len()) && (1..=EXPONENT_MAX).contains(&e.len());
                fits.then_some(Material::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
                let fits = x.len() == COORDINATE && y.len() == COORDINATE;
                // SEC 1 §2.3.3.
                fits.then(|| Material::P256([&[4][..], &x[..], &y[..]].concat()))?
            }
            _ => return None,
        };
        let key = Self {
            kid: jwk.kid,
            material,
        };
        let named = jwk.alg.as_deref();
        let serves = named.is_none_or(|alg| Algorithm::parse(alg).is_some_and(|a| key.serves(a)));
        serves.then_some(key)
    }

    /// The one algorithm that a key of this type is for.
    fn serves(&self, algorithm: Algorithm) -> bool {
        match (&self.material, algorithm) {
            (Material::Rsa { .. }, Algorithm::Rs256) | (Material::P256(_), Algorithm::Es256) => {
                true
            }
            (_, Algorithm::Rs256 | Algorithm::Es256 | Algorithm::Hs256) => false,
        }
    }

    fn has_signed(&self, token: &Unverified<'_>) -> bool {
        let Unverified {
            signed, signature, ..
        } = token;
        match &self.material {
            Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
            // JWS has the two numbers one after the other (RFC 7518 §3.4).
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed, signature)
                .is_ok(),
        }
    }
}

/// A number without leading zeros, which some write.
fn trimmed(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&b| b == 0).count();
    number.drain(..zeros);
    number
}
