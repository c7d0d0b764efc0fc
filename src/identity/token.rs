//! A JWT as it came: read, and not yet believed. Pure.
//!
//! RFC 7515 and RFC 7519, with what RFC 8725 advises: unique members, strict base64url, explicit
//! types. Every limit is a constant here.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::denied::Denied;
use crate::config::identity::Algorithm;

/// Bytes of a token: one with hundreds of groups fits, and every proxy's limit of a header does.
const TOKEN_MAX: usize = 8 * 1024;
/// Bytes of `kid`.
const KID_MAX: usize = 256;
/// What `typ` may say: nothing, that it is a JWT, or an access token (RFC 9068 §2.1). Logout tokens
/// and the like are signed by the same keys and mean something else.
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

/// What a token says of itself.
pub(super) struct Unverified<'a> {
    /// What it claims to be signed with.
    pub(super) algorithm: Algorithm,
    /// Which key of its provider.
    pub(super) kid: Option<String>,
    /// What it claims.
    pub(super) claims: Members,
    /// What the signature is of.
    pub(super) signed: &'a [u8],
    /// The signature.
    pub(super) signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// It is none, or of a kind that is not taken here.
    pub(super) fn read(token: &'a str) -> Result<Self, Denied> {
        if token.len() > TOKEN_MAX {
            return Err(Denied::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Denied::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(Denied::Form)?;
        if payload.contains('.') {
            return Err(Denied::Form);
        }
        let header = Members::read(header)?;
        if header.get("crit").is_some() {
            return Err(Denied::Critical);
        }
        let typ = header.optional_text("typ")?;
        if typ.is_some_and(|typ| !TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known))) {
            return Err(Denied::Type);
        }
        let name = header.optional_text("alg")?.ok_or(Denied::Form)?;
        let algorithm = Algorithm::parse(name).ok_or(Denied::Algorithm)?;
        let kid = header.optional_text("kid")?;
        if kid.is_some_and(|kid| kid.len() > KID_MAX) {
            return Err(Denied::Form);
        }
        Ok(Self {
            algorithm,
            kid: kid.map(str::to_owned),
            claims: Members::read(payload)?,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    BASE64URL_NOPAD
        .decode(part.as_bytes())
        .map_err(|_| Denied::Form)
}

/// The members of a JSON object, none of them twice (RFC 7515 §4, RFC 7519 §4).
pub(super) struct Members(Map<String, Value>);

impl Members {
    fn read(part: &str) -> Result<Self, Denied> {
        serde_json::from_slice(&decode(part)?).map_err(|_| Denied::Form)
    }

    /// A member; one that is `null` is there.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A member that is a text when it is there.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&str>, Denied> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Denied::Form),
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OnceEach)
    }
}

/// Reads an object whose members come once each.
struct OnceEach;

impl<'de> Visitor<'de> for OnceEach {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Members, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = entries.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        format!("{}.{}.c2ln", part(header), part(payload))
    }

    #[track_caller]
    fn refused(token: &str, expected: Denied) {
        assert_eq!(Unverified::read(token).err(), Some(expected), "{token}");
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = token(r#"{"alg":"ES256","kid":"k","typ":"at+JWT"}"#, r#"{"a":1}"#);
        let read = Unverified::read(&text).unwrap();
        assert_eq!(
            (read.algorithm, read.kid.as_deref()),
            (Algorithm::Es256, Some("k"))
        );
        assert_eq!(read.claims.get("a"), Some(&Value::from(1)));
        assert_eq!(
            (read.signed, read.signature.as_slice()),
            (&text.as_bytes()[..text.len() - 5], &b"sig"[..])
        );
    }

    #[test]
    fn what_is_not_formed_as_a_signed_jwt_is_refused() {
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        let parts: Vec<&str> = good.split('.').collect();
        let (header, payload) = (parts[0], parts[1]);
        for bad in [
            "",
            "a",
            "..",
            "a.b",
            "a.b.c.d",
            &good.replace('.', ""),
            &format!("{header}.{payload}"),
            &format!("{header}.{payload}."),
            &format!("{good}="),
            &format!("{good}.x"),
            &format!(" {good}"),
            &format!("{header}.{payload}.c2l"),
            &token("[]", "{}"),
            &token(r#"{"alg":"RS256"} x"#, "{}"),
            &token(r#"{"alg":"RS256"}"#, "7"),
            &token(r#"{"alg":"RS256"}"#, "{\"a\":1,\"a\":1}"),
            &token(r#"{"alg":"RS256","alg":"RS256"}"#, "{}"),
            &token(r#"{"alg":7}"#, "{}"),
            &token("{}", "{}"),
            &token(r#"{"alg":"RS256","kid":7}"#, "{}"),
            &token(
                &format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(KID_MAX + 1)),
                "{}",
            ),
            &token(r#"{"alg":"RS256"}"#, &"[".repeat(2000)),
        ] {
            // An empty signature is base64url, and no key has made it.
            if bad.ends_with('.') && bad != ".." {
                assert!(Unverified::read(bad).is_ok_and(|token| token.signature.is_empty()));
            } else {
                refused(bad, Denied::Form);
            }
        }
    }

    #[test]
    fn no_other_algorithm_type_or_extension_is_taken() {
        for name in [
            "none", "None", "NONE", "", "rs256", "RS512", "PS256", "ES384", "EdDSA",
        ] {
            let text = token(&format!(r#"{{"alg":"{name}"}}"#), "{}");
            refused(&text, Denied::Algorithm);
        }
        for typ in ["logout+jwt", "dpop+jwt", "JWS", ""] {
            let text = token(&format!(r#"{{"alg":"RS256","typ":"{typ}"}}"#), "{}");
            refused(&text, Denied::Type);
        }
        for crit in ["[\"b64\"]", "[]", "null"] {
            let text = token(&format!(r#"{{"alg":"RS256","crit":{crit}}}"#), "{}");
            refused(&text, Denied::Critical);
        }
        refused(&"a".repeat(TOKEN_MAX + 1), Denied::TooLarge);
    }
}
