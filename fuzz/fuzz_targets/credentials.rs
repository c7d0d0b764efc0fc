//! No body of `authenticate` panics, is accepted with a field missing or unknown, or brings a value
//! that a header cannot hold; no refusal repeats a value.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use mcpm::api::services::AuthenticateRequest;
use mcpm::config::spec::{AuthField, AuthKind, AuthSpec, InjectSpec};
use mcpm::instances::credentials::collect;
use mcpm::vault::Fields;

fn field(name: &str, secret: bool, default: Option<&str>) -> AuthField {
    AuthField {
        name: name.to_owned(),
        secret,
        required: default.is_none(),
        description: None,
        default: default.map(str::to_owned),
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(body) = serde_json::from_slice::<AuthenticateRequest>(data) else {
        return;
    };
    let auth = AuthSpec {
        kind: AuthKind::ApiKey,
        fields: vec![
            field("api_key", true, None),
            field("site", false, Some("eu")),
        ],
        inject: InjectSpec::default(),
        validate: None,
        oauth: None,
    };
    let additional: Fields = body.additional_credentials.into_iter().collect();
    match collect(&auth, body.api_key.as_deref(), &additional) {
        Ok(fields) => {
            assert!(fields.get("api_key").is_some() && fields.get("site").is_some());
            assert_eq!(fields.len(), 2);
            assert!(
                fields
                    .iter()
                    .all(|(_, value)| HeaderValue::from_bytes(value.as_bytes()).is_ok())
            );
        }
        Err(error) => {
            let said = error.to_string();
            let long = |value: &str| value.len() > 100 && said.contains(value);
            assert!(!body.api_key.as_deref().is_some_and(long));
            assert!(!additional.iter().any(|(_, value)| long(value)));
        }
    }
});
