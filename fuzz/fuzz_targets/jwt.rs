//! No JWK set and no token make the reader panic, and no token counts but one that the provider of the
//! tests has signed, for its own user.
//!
//! Input: a JWK set, a NUL byte, a token. The token is tried with that set and with the provider's own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpm::config::identity::{Algorithm, KeysFrom, ProviderSpec};
use mcpm::identity::verify_with;
use mcpm::ids::Timestamp;

const JWKS: &[u8] = include_bytes!("../../tests/keys/jwks.json");
/// While the tokens of the seeds are good.
const NOW: i64 = 1_795_400_000_000;

fn spec() -> ProviderSpec {
    ProviderSpec {
        issuer: "https://id.example.com".to_owned(),
        audiences: vec!["mcpm".to_owned()],
        keys: KeysFrom::Discovery,
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        user_claim: "sub".to_owned(),
        user_prefix: String::new(),
        create_users: false,
        leeway_ms: 30_000,
        required_scopes: Vec::new(),
        allow_private: false,
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (jwks, token) = text.split_once('\0').unwrap_or(("", text));
    let now = Timestamp::from_millis(NOW);
    let _ = verify_with(jwks.as_bytes(), token, &spec(), now);
    if let Ok(identified) = verify_with(JWKS, token, &spec(), now) {
        assert_eq!(identified.user.as_str(), "alice");
    }
});
