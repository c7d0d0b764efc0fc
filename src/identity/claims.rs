//! Do the claims of a token fit what the operator has set for its provider? Pure.

use serde_json::Value;

use super::denied::Denied;
use super::token::Members;
use crate::config::identity::{LEEWAY_MS_MAX, ProviderSpec};
use crate::ids::{Timestamp, UserId};

/// Seconds since 1970 beyond which a time is a mistake: the year 5138.
const SECONDS_MAX: f64 = 1e11;

/// Whose a good token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The user.
    pub user: UserId,
    /// From when on the token is good no more.
    pub until: Timestamp,
    /// A scope that the operator wants is missing.
    pub lacks_scope: bool,
    /// The operator lets users of this provider in who are not known.
    pub creates: bool,
}

/// Compares claims with the operator's settings, in the order of what is cheap.
///
/// # Errors
/// Says which of them does not fit.
pub(super) fn check(
    claims: &Members,
    spec: &ProviderSpec,
    now: Timestamp,
) -> Result<Identified, Denied> {
    if claims.optional_text("iss")? != Some(spec.issuer.as_str()) {
        return Err(Denied::Issuer);
    }
    if !is_for_us(claims.get("aud"), &spec.audiences)? {
        return Err(Denied::Audience);
    }
    let leeway = i64::try_from(spec.leeway_ms.min(LEEWAY_MS_MAX)).unwrap_or(0);
    let now = now.as_millis();
    let until = time(claims, "exp")?.ok_or(Denied::Form)? + leeway;
    if until <= now {
        return Err(Denied::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|begin| begin > now + leeway) {
            return Err(Denied::Early);
        }
    }
    let Some(Value::String(name)) = claims.get(&spec.user_claim) else {
        return Err(Denied::User);
    };
    // The prefix alone is nobody.
    if name.is_empty() {
        return Err(Denied::User);
    }
    let user = UserId::parse(&format!("{}{name}", spec.user_prefix)).map_err(|_| Denied::User)?;
    let has = |wanted: &String| has_scope(claims, wanted);
    Ok(Identified {
        user,
        until: Timestamp::from_millis(until),
        lacks_scope: !spec.required_scopes.iter().all(has),
        creates: spec.create_users,
    })
}

/// RFC 7519 §4.1.3: a text, or a list of texts.
fn is_for_us(aud: Option<&Value>, ours: &[String]) -> Result<bool, Denied> {
    let is_ours = |text: &str| ours.iter().any(|own| own == text);
    match aud {
        None => Ok(false),
        Some(Value::String(text)) => Ok(is_ours(text)),
        Some(Value::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            let texts = texts.ok_or(Denied::Form)?;
            Ok(texts.into_iter().any(is_ours))
        }
        Some(_) => Err(Denied::Form),
    }
}

/// A NumericDate (RFC 7519 §2), which may have a fraction, in milliseconds.
fn time(claims: &Members, name: &str) -> Result<Option<i64>, Denied> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(Denied::Form)?;
    if seconds.abs() > SECONDS_MAX {
        return Err(Denied::Form);
    }
    Ok(Some((seconds * 1000.0) as i64))
}

/// `scope` is one text (RFC 8693 §4.2); some providers write a list, or name it `scp`.
fn has_scope(claims: &Members, wanted: &str) -> bool {
    ["scope", "scp"].iter().any(|name| match claims.get(name) {
        Some(Value::String(text)) => text.split(' ').any(|scope| scope == wanted),
        Some(Value::Array(items)) => items.iter().any(|item| item == wanted),
        _ => false,
    })
}
