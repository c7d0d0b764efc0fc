//! Good tokens and every kind of bad one; keys that come, go and cannot be had.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::advance;

use super::keys::{Keys, KeysError};
use super::testing::Signer;
use super::token::Unverified;
use super::*;
use crate::config::identity::{Algorithm, KeysFrom, ProviderSpec};
use crate::ids::Timestamp;

const ISSUER: &str = "https://id.example.com";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// While the tokens that are kept as files are good.
const NOW: i64 = 1_795_400_000;
/// The year 2100, for tokens that the true clock is asked about.
const FAR: i64 = 4_102_444_800;

const RS256: &str = include_str!("../../tests/keys/rs256.jwt");
const ES256: &str = include_str!("../../tests/keys/es256.jwt");
const HS256: &str = include_str!("../../tests/keys/hs256.jwt");
const JWKS: &str = include_str!("../../tests/keys/jwks.json");

fn now() -> Timestamp {
    Timestamp::from_millis(NOW * 1000)
}

fn spec() -> ProviderSpec {
    ProviderSpec {
        issuer: ISSUER.into(),
        audiences: vec!["mcpm".into(), "other".into()],
        keys: KeysFrom::Discovery,
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        user_claim: "sub".into(),
        user_prefix: String::new(),
        create_users: false,
        leeway_ms: 30_000,
        required_scopes: vec![],
        allow_private: false,
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "mcpm", "sub": "alice", "iat": NOW - 10, "exp": NOW + 60})
}

/// The claims with another value for one of them; `null` takes it away.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn verdict(token: &str) -> Result<Identified, Denied> {
    let jwks = set(&[Signer::rsa_1().jwk("rsa-1"), Signer::p256().jwk("p256")]);
    verify_with(jwks.as_bytes(), token, &spec(), now())
}

fn of_claims(claims: &Value) -> Result<String, Denied> {
    verdict(&Signer::p256().token("p256", claims)).map(|found| found.user.to_string())
}

#[test]
fn tokens_of_another_library_are_good() {
    for token in [RS256, ES256] {
        let found = verify_with(JWKS.as_bytes(), token.trim(), &spec(), now()).unwrap();
        assert_eq!(found.user.as_str(), "alice");
        assert_eq!(found.until, Timestamp::from_millis(FAR * 1000 + 30_000));
    }
    let token = Unverified::read(HS256.trim()).unwrap();
    let keys = Keys::of_secret(format!("{SECRET}\n").as_bytes()).unwrap();
    assert_eq!(keys.verify(&token), Ok(()));
    let others = Keys::of_secret(&[b'x'; 32]).unwrap();
    assert_eq!(others.verify(&token), Err(Denied::Signature));
}

#[test]
fn every_claim_is_looked_at() {
    let good = || Ok("alice".to_owned());
    for (name, value, expected) in [
        ("iss", json!(ISSUER), good()),
        ("iss", json!("https://id.example.com/"), Err(Denied::Issuer)),
        ("iss", json!("https://ID.example.com"), Err(Denied::Issuer)),
        ("iss", json!([ISSUER]), Err(Denied::Form)),
        ("iss", Value::Null, Err(Denied::Issuer)),
        ("aud", json!(["x", "other"]), good()),
        ("aud", json!("x"), Err(Denied::Audience)),
        ("aud", json!("MCPM"), Err(Denied::Audience)),
        ("aud", json!([]), Err(Denied::Audience)),
        ("aud", json!(["mcpm", 1]), Err(Denied::Form)),
        ("aud", json!({"mcpm": 1}), Err(Denied::Form)),
        ("aud", Value::Null, Err(Denied::Audience)),
        ("exp", json!(NOW + 1), good()),
        ("exp", json!(NOW - 29), good()),
        ("exp", json!(NOW as f64 - 29.5), good()),
        ("exp", json!(NOW - 30), Err(Denied::Expired)),
        ("exp", json!(-1), Err(Denied::Expired)),
        ("exp", json!(1e300), Err(Denied::Form)),
        ("exp", json!("4102444800"), Err(Denied::Form)),
        ("exp", Value::Null, Err(Denied::Form)),
        ("nbf", json!(NOW + 30), good()),
        ("nbf", json!(NOW + 31), Err(Denied::Early)),
        ("nbf", json!("soon"), Err(Denied::Form)),
        ("iat", json!(NOW + 30), good()),
        ("iat", json!(NOW + 31), Err(Denied::Early)),
        ("iat", Value::Null, good()),
        ("sub", json!("élise"), Ok("élise".to_owned())),
        ("sub", json!(""), Err(Denied::User)),
        ("sub", json!("a\nb"), Err(Denied::User)),
        ("sub", json!("x".repeat(256)), Err(Denied::User)),
        ("sub", json!(7), Err(Denied::User)),
        ("sub", Value::Null, Err(Denied::User)),
        ("jku", json!("https://evil.example/keys"), good()),
    ] {
        assert_eq!(
            of_claims(&with(name, value.clone())),
            expected,
            "{name} {value}"
        );
    }
}

#[test]
fn what_the_operator_sets_counts() {
    let token = Signer::p256().token("p256", &with("email", json!("a@b.example")));
    let jwks = set(&[Signer::p256().jwk("p256")]);
    let check = |spec: &ProviderSpec| verify_with(jwks.as_bytes(), &token, spec, now());
    let by_email = ProviderSpec {
        user_claim: "email".into(),
        user_prefix: "corp:".into(),
        create_users: true,
        ..spec()
    };
    let found = check(&by_email).unwrap();
    assert_eq!(
        (found.user.as_str(), found.creates),
        ("corp:a@b.example", true)
    );
    let rsa_only = ProviderSpec {
        algorithms: vec![Algorithm::Rs256],
        ..spec()
    };
    assert_eq!(check(&rsa_only), Err(Denied::Algorithm));
    // More than may be set counts as what may.
    let patient = ProviderSpec {
        leeway_ms: u64::MAX,
        ..spec()
    };
    let old = Signer::p256().token("p256", &with("exp", json!(NOW - 300)));
    let late = verify_with(jwks.as_bytes(), &old, &patient, now());
    assert_eq!(late, Err(Denied::Expired));
}

#[test]
fn scopes_are_a_text_or_a_list_under_two_names() {
    let wants = ProviderSpec {
        required_scopes: vec!["mcp".into(), "read".into()],
        ..spec()
    };
    let jwks = set(&[Signer::p256().jwk("p256")]);
    for (name, value, lacks) in [
        ("scope", json!("read mcp"), false),
        ("scope", json!(["mcp", "read", "write"]), false),
        ("scp", json!("mcp read"), false),
        ("scp", json!(["mcp"]), true),
        ("scope", json!("mcpread"), true),
        ("scope", json!({"mcp": true, "read": true}), true),
        ("scope", Value::Null, true),
    ] {
        let token = Signer::p256().token("p256", &with(name, value.clone()));
        let found = verify_with(jwks.as_bytes(), &token, &wants, now()).unwrap();
        assert_eq!(found.lacks_scope, lacks, "{name} {value}");
    }
}

#[test]
fn only_the_key_that_is_named_and_of_its_kind_counts() {
    let (one, two, point) = (Signer::rsa_1(), Signer::rsa_2(), Signer::p256());
    let jwks = set(&[one.jwk("one"), two.jwk("two"), point.jwk("point")]);
    let check = |token: &str| verify_with(jwks.as_bytes(), token, &spec(), now()).map(|_| ());
    let text = claims().to_string();
    assert_eq!(check(&one.token("one", &claims())), Ok(()));
    assert_eq!(check(&one.token("two", &claims())), Err(Denied::Signature));
    assert_eq!(check(&one.token("point", &claims())), Err(Denied::Key));
    assert_eq!(check(&one.token("three", &claims())), Err(Denied::Key));
    // Without a name there must be no choice: two keys are RSA, one is not.
    assert_eq!(
        check(&one.sign(r#"{"alg":"RS256"}"#, &text)),
        Err(Denied::Key)
    );
    assert_eq!(check(&point.sign(r#"{"alg":"ES256"}"#, &text)), Ok(()));
    // A header's own key, and where it says that one is, are not looked at.
    let own =
        json!({"alg": "RS256", "kid": "one", "jwk": two.jwk("one"), "jku": "https://x.example"});
    assert_eq!(
        check(&two.sign(&own.to_string(), &text)),
        Err(Denied::Signature)
    );
}

#[test]
fn no_public_key_is_ever_a_secret() {
    let jwk = Signer::rsa_1().jwk("rsa-1");
    let every = ProviderSpec {
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::Hs256],
        ..spec()
    };
    let jwks = set(std::slice::from_ref(&jwk));
    let pem = include_str!("../../tests/keys/rsa-1.pem");
    for public in [jwk["n"].as_str().unwrap(), &jwk.to_string(), &jwks, pem] {
        let forged = Signer::secret(public).token("rsa-1", &claims());
        assert_eq!(
            verify_with(jwks.as_bytes(), &forged, &every, now()),
            Err(Denied::Key)
        );
        assert_eq!(verdict(&forged), Err(Denied::Algorithm));
    }
    // The other way round: a secret checks nothing else.
    let token = Signer::rsa_1().token("rsa-1", &claims());
    let keys = Keys::of_secret(SECRET.as_bytes()).unwrap();
    let read = Unverified::read(&token).unwrap();
    assert_eq!(keys.verify(&read), Err(Denied::Algorithm));
    // A secret has no place in a set.
    let oct = json!({"kty": "oct", "kid": "rsa-1", "k": "c2VjcmV0"});
    let keys = Keys::of_set(set(&[oct]).as_bytes()).unwrap();
    assert_eq!(keys.count(), 0);
}

#[test]
fn unsigned_and_cut_tokens_are_refused() {
    let good = Signer::rsa_1().token("rsa-1", &claims());
    assert!(verdict(&good).is_ok());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    assert_eq!(verdict(&format!("{signed}.")), Err(Denied::Signature));
    assert_eq!(verdict(signed), Err(Denied::Form));
    let half = &signature[..signature.len() / 2];
    assert!(verdict(&format!("{signed}.{half}")).is_err());
    let none = Signer::rsa_1().sign(r#"{"alg":"none"}"#, &claims().to_string());
    let (unsigned, _) = none.rsplit_once('.').unwrap();
    assert_eq!(verdict(&format!("{unsigned}.")), Err(Denied::Algorithm));
    let zeros = "A".repeat(86);
    let point = Signer::p256().token("p256", &claims());
    let (signed, _) = point.rsplit_once('.').unwrap();
    assert_eq!(
        verdict(&format!("{signed}.{zeros}")),
        Err(Denied::Signature)
    );
    let twice = claims().to_string().replacen('{', r#"{"sub":"bob","#, 1);
    let token = Signer::p256().sign(r#"{"alg":"ES256","kid":"p256"}"#, &twice);
    assert_eq!(verdict(&token), Err(Denied::Form));
}

#[test]
fn a_set_is_read_and_what_does_not_fit_left_out() {
    let count = |keys: &[Value]| Keys::of_set(set(keys).as_bytes()).unwrap().count();
    let but = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    let (rsa, point) = (Signer::rsa_1().jwk("a"), Signer::p256().jwk("b"));
    assert_eq!(count(&[rsa.clone(), point.clone()]), 2);
    assert_eq!(count(&[but(rsa.clone(), "use", json!("sig"))]), 1);
    assert_eq!(count(&[but(rsa.clone(), "key_ops", json!(["verify"]))]), 1);
    for unfit in [
        but(rsa.clone(), "use", json!("enc")),
        but(rsa.clone(), "key_ops", json!(["encrypt"])),
        but(rsa.clone(), "alg", json!("PS256")),
        but(rsa.clone(), "alg", json!("ES256")),
        but(rsa.clone(), "n", json!("AQAB")),
        but(rsa.clone(), "n", json!("!")),
        but(rsa.clone(), "e", json!("AAAA")),
        but(rsa.clone(), "kid", json!(7)),
        but(point.clone(), "crv", json!("P-384")),
        but(point.clone(), "alg", json!("RS256")),
        but(point, "x", json!("AQAB")),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}),
        json!(7),
        json!({}),
    ] {
        assert_eq!(count(std::slice::from_ref(&unfit)), 0, "{unfit}");
    }
    // Some write a number with zeros before it.
    let n = data_encoding::BASE64URL_NOPAD
        .decode(rsa["n"].as_str().unwrap().as_bytes())
        .unwrap();
    let padded = data_encoding::BASE64URL_NOPAD.encode(&[&[0_u8][..], &n[..]].concat());
    let jwks = set(&[but(rsa, "n", json!(padded))]);
    let token = Signer::rsa_1().token("a", &claims());
    assert!(verify_with(jwks.as_bytes(), &token, &spec(), now()).is_ok());
    for none in ["", "{}", "[]", "7", "{\"keys\": 7}", "<html>"] {
        assert_eq!(
            Keys::of_set(none.as_bytes()).err(),
            Some(KeysError::Form),
            "{none}"
        );
    }
    let many = vec![json!({}); 65];
    assert_eq!(
        Keys::of_set(set(&many).as_bytes()).err(),
        Some(KeysError::TooMany)
    );
    assert_eq!(Keys::of_secret(b"short\n").err(), Some(KeysError::Short(5)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(jwks in "\\PC{0,200}", token in "[A-Za-z0-9_.\\-]{0,300}") {
        let _ = verify_with(jwks.as_bytes(), &token, &spec(), now());
        let _ = verify_with(JWKS.as_bytes(), &token, &spec(), now());
    }

    #[test]
    fn a_token_with_another_letter_is_another_token(at in 0usize..10_000, letter in "[A-Za-z0-9_.\\-]") {
        let token = ES256.trim();
        let at = at % token.len();
        let other = format!("{}{letter}{}", &token[..at], &token[at + 1..]);
        let found = verify_with(JWKS.as_bytes(), &other, &spec(), now());
        prop_assert_eq!(found.is_ok(), other == token);
    }
}

// ── with keys that change ──

fn far() -> Value {
    let mut claims = with("iat", Value::Null);
    claims["exp"] = json!(FAR);
    claims
}

/// Puts another file in the place of this one, as careful programs do.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, path).unwrap();
}

async fn user(identity: &Identity, token: &str) -> Result<String, Denied> {
    let found = identity.identify(token).await;
    found.map(|found| found.user.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_file_counts_as_it_is_now_and_as_it_was_last_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (one, two) = (Signer::rsa_1(), Signer::rsa_2());
    let (by_one, by_two) = (one.token("1", &far()), two.token("2", &far()));
    let identity = Identity::default();
    identity.apply(&[ProviderSpec {
        keys: KeysFrom::File(path.clone()),
        ..spec()
    }]);
    assert_eq!(user(&identity, &by_one).await, Err(Denied::NoKeys));
    assert!(identity.troubles()[0].contains("keys.json"));
    replace(&path, &set(&[one.jwk("1")]));
    advance(Duration::from_secs(1)).await;
    assert_eq!(user(&identity, &by_one).await.unwrap(), "alice");
    assert_eq!(identity.troubles(), [""; 0]);
    assert_eq!(user(&identity, &by_two).await, Err(Denied::Key));
    replace(&path, &set(&[two.jwk("2")]));
    // It was looked at within this second, and the token is known.
    assert_eq!(user(&identity, &by_one).await.unwrap(), "alice");
    advance(Duration::from_secs(1)).await;
    assert_eq!(user(&identity, &by_one).await, Err(Denied::Key));
    assert_eq!(user(&identity, &by_two).await.unwrap(), "alice");
    // What is no set changes nothing, and neither does a file that is gone.
    replace(&path, "<html>");
    advance(Duration::from_secs(1)).await;
    assert_eq!(user(&identity, &by_two).await.unwrap(), "alice");
    assert!(identity.troubles()[0].contains("JWK set"));
    fs::remove_file(&path).unwrap();
    advance(Duration::from_secs(23 * 3600)).await;
    assert_eq!(user(&identity, &by_two).await.unwrap(), "alice");
    advance(Duration::from_secs(3600)).await;
    assert_eq!(user(&identity, &by_two).await, Err(Denied::NoKeys));
    // The same settings once more are no change, and others are one at once.
    identity.apply(&[]);
    assert!(!identity.takes(&by_two));
}

#[test]
fn only_what_looks_like_a_jwt_is_asked_about() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let identity = Identity::default();
    assert!(!identity.takes("a.b.c"));
    identity.apply(&[spec()]);
    assert!(identity.takes("a.b.c"));
    for other in ["", "a", "a.b", "a.b.c.d", "mcpm_u_abc", "mcpm_u_a.b.c"] {
        assert!(!identity.takes(other), "{other}");
    }
    let resource = identity.resource().unwrap();
    assert_eq!(resource.authorization_servers, [ISSUER]);
    let nameless = ProviderSpec {
        issuer: "no address".into(),
        ..spec()
    };
    identity.apply(&[nameless]);
    assert_eq!(identity.resource(), None);
}

/// A provider with a fresh port: its issuer, and how often it was asked for keys.
async fn provider(jwks: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}/realm", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let (own, count) = (issuer.clone(), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match path.as_str() {
                "/realm/.well-known/openid-configuration" => {
                    let metadata = json!({"issuer": own, "jwks_uri": format!("{own}/keys")});
                    ("200 OK", metadata.to_string())
                }
                "/realm/keys" => {
                    count.fetch_add(1, Ordering::SeqCst);
                    ("200 OK", jwks.clone())
                }
                _ => ("404 Not Found", String::new()),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (issuer, asked)
}

#[tokio::test]
async fn keys_are_found_at_the_issuer_and_a_flood_fetches_nothing() {
    let signer = Signer::p256();
    let (issuer, asked) = provider(set(&[signer.jwk("k")])).await;
    let identity = Identity::default();
    let spec = ProviderSpec {
        issuer: issuer.clone(),
        allow_private: true,
        ..spec()
    };
    identity.apply(std::slice::from_ref(&spec));
    let claims = |sub: usize| json!({"iss": issuer, "aud": "mcpm", "sub": format!("user-{sub}"), "exp": FAR});
    // All of them are there before the first keys are.
    let mut tokens = tokio::task::JoinSet::new();
    for number in 0..40 {
        let identity = identity.clone();
        let kid = if number % 2 == 0 { "k" } else { "unknown" };
        let token = signer.token(kid, &claims(number));
        tokens.spawn(async move { (number, user(&identity, &token).await) });
    }
    while let Some(found) = tokens.join_next().await {
        let (number, found) = found.unwrap();
        let expected = match number % 2 {
            0 => Ok(format!("user-{number}")),
            _ => Err(Denied::Key),
        };
        assert_eq!(found, expected);
    }
    for number in 0..40 {
        let token = signer.token(&format!("unknown-{number}"), &claims(number));
        assert_eq!(user(&identity, &token).await, Err(Denied::Key));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // The same settings once more change nothing.
    identity.apply(&[spec]);
    let token = signer.token("k", &claims(1));
    assert_eq!(user(&identity, &token).await.unwrap(), "user-1");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_private_provider_wants_to_be_allowed_and_metadata_of_others_are_refused() {
    let (issuer, asked) = provider(set(&[])).await;
    let denied = ProviderSpec {
        keys: KeysFrom::Url(format!("{issuer}/keys")),
        ..spec()
    };
    let identity = Identity::default();
    identity.apply(&[denied]);
    let token = Signer::p256().token("k", &far());
    assert_eq!(user(&identity, &token).await, Err(Denied::NoKeys));
    assert!(identity.troubles()[0].contains("allow_private"));
    let other = ProviderSpec {
        issuer: format!("{issuer}/"),
        allow_private: true,
        ..spec()
    };
    identity.apply(&[other]);
    let mut claims = far();
    claims["iss"] = json!(format!("{issuer}/"));
    let token = Signer::p256().token("k", &claims);
    assert_eq!(user(&identity, &token).await, Err(Denied::NoKeys));
    assert!(identity.troubles()[0].contains("write `issuer` just so"));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
