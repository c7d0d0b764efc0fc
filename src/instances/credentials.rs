//! What a user hands over → the checked fields of a credential. Pure.
//!
//! `apiKey` fills the field `api_key`, else the first required secret field; `additionalCredentials`
//! goes by field name. Behind this door every name is a field of the
//! service, every required field is there, and no value can break out of a header. Errors name
//! fields and never show values.

use crate::config::spec::{AuthField, AuthSpec};
use crate::vault::Fields;

/// Fields in one credential; more is a mistake, and each one is sealed and stored.
pub const FIELDS_MAX: usize = 64;

/// Bytes in one value: the longest tokens in use (JWTs, service-account keys) stay below.
pub const VALUE_MAX: usize = 16 * 1024;

/// Names are echoed in errors up to this many characters.
const NAME_SHOWN: usize = 64;

/// Why the fields were refused. Each is the caller's to mend (HTTP 400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Names that the service doesn't know, and names that it misses; all of them at once.
    #[error("{}", describe(unknown, missing, known))]
    Fields {
        /// Given, but no field of the service.
        unknown: Vec<String>,
        /// Required, but not given.
        missing: Vec<String>,
        /// All fields of the service.
        known: Vec<String>,
    },
    /// `apiKey` was given, and there is no field for it.
    #[error("this service has no field for `apiKey`; give its fields in `additionalCredentials`")]
    NoKeyField,
    /// `apiKey` and `additionalCredentials` say different things.
    #[error("`{field}` is given twice, by `apiKey` and in `additionalCredentials`; give it once")]
    Twice {
        /// The field.
        field: String,
    },
    /// Line breaks and the like would end up in headers.
    #[error("`{field}` contains a control character such as a line break; paste it without")]
    Control {
        /// The field.
        field: String,
    },
    /// A value over the limit.
    #[error("`{field}` is longer than {VALUE_MAX} bytes")]
    TooLong {
        /// The field.
        field: String,
    },
    /// More fields than the limit.
    #[error("more than {FIELDS_MAX} fields")]
    TooMany,
}

/// Checks what a user handed over against what the service asks for.
///
/// Empty values count as not given; a field that isn't given takes its default, if it has one.
///
/// # Errors
/// See [`CredentialError`].
pub fn collect(
    auth: &AuthSpec,
    api_key: Option<&str>,
    additional: &Fields,
) -> Result<Fields, CredentialError> {
    if additional.len() > FIELDS_MAX {
        return Err(CredentialError::TooMany);
    }
    let fields = &auth.fields;
    let given = additional.iter().filter(|(_, value)| !value.is_empty());
    let mut given: Fields = given.collect();
    if let Some(key) = api_key.filter(|key| !key.is_empty()) {
        let field = key_field(fields).ok_or(CredentialError::NoKeyField)?;
        if given.get(field).is_some_and(|other| other != key) {
            return Err(CredentialError::Twice {
                field: field.to_owned(),
            });
        }
        given.insert(field, key);
    }
    for (name, value) in given.iter() {
        check_value(name, value)?;
    }
    for field in fields {
        if let (None, Some(default)) = (given.get(&field.name), &field.default) {
            given.insert(&field.name, default);
        }
    }
    check_names(fields, &given)?;
    Ok(given)
}

fn key_field(fields: &[AuthField]) -> Option<&str> {
    let named = fields.iter().find(|field| field.name == "api_key");
    let first = || fields.iter().find(|field| field.required && field.secret);
    named.or_else(first).map(|field| field.name.as_str())
}

fn check_value(name: &str, value: &str) -> Result<(), CredentialError> {
    if value.len() > VALUE_MAX {
        return Err(CredentialError::TooLong { field: shown(name) });
    }
    if value.chars().any(char::is_control) {
        return Err(CredentialError::Control { field: shown(name) });
    }
    Ok(())
}

fn check_names(fields: &[AuthField], given: &Fields) -> Result<(), CredentialError> {
    let is_field = |name: &str| fields.iter().any(|field| field.name == name);
    let unknown: Vec<_> = given
        .iter()
        .filter(|(name, _)| !is_field(name))
        .map(|(name, _)| shown(name))
        .collect();
    let missing: Vec<_> = fields
        .iter()
        .filter(|field| field.required && given.get(&field.name).is_none())
        .map(|field| field.name.clone())
        .collect();
    if unknown.is_empty() && missing.is_empty() {
        return Ok(());
    }
    let known = fields.iter().map(|field| field.name.clone()).collect();
    Err(CredentialError::Fields {
        unknown,
        missing,
        known,
    })
}

/// A name from outside, short and without control characters.
fn shown(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control())
        .take(NAME_SHOWN)
        .collect()
}

fn describe(unknown: &[String], missing: &[String], known: &[String]) -> String {
    let list = |names: &[String]| {
        names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing: {}", list(missing)));
    }
    if !unknown.is_empty() {
        parts.push(format!("unknown: {}", list(unknown)));
    }
    parts.push(match known {
        [] => "this service asks for nothing".to_owned(),
        known => format!("this service asks for {}", list(known)),
    });
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::spec::AuthKind;

    fn field(name: &str, secret: bool, required: bool) -> AuthField {
        AuthField {
            name: name.into(),
            secret,
            required,
            description: None,
            default: None,
        }
    }

    fn auth(fields: Vec<AuthField>) -> AuthSpec {
        AuthSpec {
            kind: AuthKind::ApiKey,
            fields,
            inject: Default::default(),
            validate: None,
            oauth: None,
        }
    }

    fn map(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().copied().collect()
    }

    fn one_key() -> AuthSpec {
        auth(vec![field("api_key", true, true)])
    }

    #[test]
    fn the_key_fills_api_key_else_the_first_required_secret_field() {
        let named = auth(vec![
            field("token", true, true),
            field("api_key", true, false),
        ]);
        let error = collect(&named, Some("k"), &map(&[])).unwrap_err();
        assert!(error.to_string().starts_with("missing: `token`"), "{error}");
        let first = auth(vec![
            field("site", false, true),
            field("x", true, false),
            field("token", true, true),
        ]);
        let got = collect(&first, Some("k"), &map(&[("site", "acme")])).unwrap();
        assert_eq!(got, map(&[("site", "acme"), ("token", "k")]));
    }

    #[test]
    fn a_service_that_asks_for_nothing_takes_nothing() {
        let none = map(&[]);
        assert_eq!(collect(&auth(vec![]), None, &none).unwrap(), none);
        assert_eq!(collect(&auth(vec![]), Some(""), &none).unwrap(), none);
        let error = collect(&auth(vec![]), Some("k"), &none).unwrap_err();
        assert_eq!(error, CredentialError::NoKeyField);
    }

    #[test]
    fn unknown_and_missing_fields_are_named_together() {
        let spec = auth(vec![field("a", true, true), field("b", false, true)]);
        let error = collect(&spec, None, &map(&[("c\n", "1"), ("d", "2")])).unwrap_err();
        let expected = "missing: `a`, `b`; unknown: `c`, `d`; this service asks for `a`, `b`";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn defaults_fill_in_and_optional_fields_may_stay_away() {
        let mut region = field("region", false, true);
        region.default = Some("eu".into());
        let spec = auth(vec![
            field("api_key", true, true),
            region,
            field("x", false, false),
        ]);
        let got = collect(&spec, Some("k"), &map(&[("x", "")])).unwrap();
        assert_eq!(got, map(&[("api_key", "k"), ("region", "eu")]));
    }

    #[test]
    fn dangerous_values_are_refused_by_name() {
        let spec = one_key();
        for (value, wanted) in [
            ("k\r\nX-Evil: 1".to_owned(), "control character"),
            ("k\0".to_owned(), "control character"),
            ("k\u{85}".to_owned(), "control character"),
            ("k".repeat(VALUE_MAX + 1), "longer than"),
        ] {
            let error = collect(&spec, Some(&value), &map(&[]))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("`api_key`") && error.contains(wanted),
                "{error}"
            );
            assert!(!error.contains("Evil"));
        }
        assert!(collect(&spec, Some(&"k".repeat(VALUE_MAX)), &map(&[])).is_ok());
        let twice = collect(&spec, Some("k"), &map(&[("api_key", "other")])).unwrap_err();
        assert_eq!(
            twice,
            CredentialError::Twice {
                field: "api_key".into()
            }
        );
        let many = (0..=FIELDS_MAX).map(|n| (n.to_string(), "v")).collect();
        assert_eq!(
            collect(&spec, None, &many).unwrap_err(),
            CredentialError::TooMany
        );
    }

    proptest! {
        #[test]
        fn what_passes_is_complete_and_fits_into_a_header(
            key in proptest::option::of(".*"),
            extra in proptest::collection::btree_map("[a-c]", ".*", 0..3),
        ) {
            let spec =
                auth(vec![field("a", true, true), field("b", false, false)]);
            let extra = extra.into_iter().collect();
            if let Ok(got) = collect(&spec, key.as_deref(), &extra) {
                prop_assert!(got.get("a").is_some());
                prop_assert!(got.iter().all(|(name, _)| name == "a" || name == "b"));
                let fits = |v: &str| http::HeaderValue::from_bytes(v.as_bytes()).is_ok();
                prop_assert!(got.iter().all(|(_, v)| fits(v)));
            }
        }
    }
}
