//! An identity provider that exists in tests only: its keys, and tokens signed with them. The tests of
//! the whole program have it, too (`tests/it/harness`).

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use serde_json::{Value, json};

/// Signs tokens.
pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Secret(Vec<u8>),
}

impl Signer {
    pub(crate) fn rsa_1() -> Self {
        Self::rsa(include_str!("../../tests/keys/rsa-1.pem"))
    }

    pub(crate) fn rsa_2() -> Self {
        Self::rsa(include_str!("../../tests/keys/rsa-2.pem"))
    }

    fn rsa(pem: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(&der(pem));
        Self::Rsa(Box::new(pair.expect("an RSA key")))
    }

    pub(crate) fn p256() -> Self {
        let der = der(include_str!("../../tests/keys/p256.pem"));
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new());
        Self::P256(Box::new(pair.expect("a key on P-256")))
    }

    pub(crate) fn secret(secret: &str) -> Self {
        Self::Secret(secret.as_bytes().to_vec())
    }

    /// What its tokens say that they are signed with.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Secret(_) => "HS256",
        }
    }

    /// The public half, as a JWK of this name.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let number = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } =
                    RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "kid": kid, "n": number(&n), "e": number(&e)})
            }
            Self::P256(pair) => {
                let point: &[u8] = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": number(x), "y": number(y)})
            }
            Self::Secret(_) => panic!("a secret has no public half"),
        }
    }

    /// A token of these claims, whose header names this key.
    pub(crate) fn token(&self, kid: &str, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "typ": "JWT", "kid": kid});
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// A token of these two texts, whatever they are.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let signed = format!("{}.{}", part(header.as_bytes()), part(claims.as_bytes()));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", part(&signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("an RSA signature");
                signature
            }
            Self::P256(pair) => {
                let signature = pair.sign(&random, message).expect("a signature");
                let bytes: &[u8] = signature.as_ref();
                bytes.to_vec()
            }
            Self::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                let tag = hmac::sign(&key, message);
                let bytes: &[u8] = tag.as_ref();
                bytes.to_vec()
            }
        }
    }
}

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    let text: String = lines.collect();
    BASE64.decode(text.as_bytes()).expect("base64")
}
