//! Which state of a thing a caller has seen: `ETag` on answers, `If-Match` on changes (RFC 9110 §8.8.3,
//! §13.1.1). Two who edit the same thing do not overwrite each other.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{ETAG, HeaderMap, HeaderValue, IF_MATCH};
use http::request::Parts;
use serde::Serialize;

use super::door::Reply;
use super::error::{Answer, ApiError};
use super::state::Api;
use crate::instances::{InstanceError, Version};
use crate::store::{InstanceRow, UserRow};

/// JSON of a thing in this state.
pub(super) struct Tagged<T>(pub(super) T, pub(super) Version);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(value, version) = self;
        let mut response = Reply(value).into_response();
        let tag = HeaderValue::try_from(format!("\"{version}\""));
        let tag = tag.expect("hexadecimal digits in quotes are visible");
        response.headers_mut().insert(ETAG, tag);
        response
    }
}

/// The states in which the caller wants the thing changed; `None` is whatever state it is in.
pub(super) struct IfMatch(pub(super) Option<Vec<Version>>);

impl IfMatch {
    /// Is the instance in one of them? Whoever then gives an order gives these states with it, since it
    /// may be changed in between.
    pub(super) fn admits(&self, row: &InstanceRow) -> Answer<()> {
        if self.has(Version::of(row)) {
            return Ok(());
        }
        Err(InstanceError::Changed.into())
    }

    /// The same of a user.
    pub(super) fn admits_user(&self, row: &UserRow) -> Answer<()> {
        if self.has(Version::of_user(row)) {
            return Ok(());
        }
        let detail = "the user was changed since you have read them: read them again";
        let status = StatusCode::PRECONDITION_FAILED;
        Err(ApiError::new(status, "user_changed", detail))
    }

    fn has(&self, version: Version) -> bool {
        self.0.as_ref().is_none_or(|seen| seen.contains(&version))
    }
}

impl FromRequestParts<Api> for IfMatch {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        Ok(Self(states(&parts.headers)))
    }
}

/// A tag that is none of ours, and a weak one, stands for no state.
fn states(headers: &HeaderMap) -> Option<Vec<Version>> {
    if !headers.contains_key(IF_MATCH) {
        return None;
    }
    let mut states = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            if tag == "*" {
                return None;
            }
            let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            states.extend(inner.and_then(Version::parse));
        }
    }
    Some(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_strictly_and_a_star_is_any_state() {
        let version = |text| Version::parse(text).unwrap();
        let (one, two) = ("0123456789abcdef", "00000000000000ff");
        let check = |values: &[&str], expected: Option<Vec<Version>>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::try_from(*value).unwrap());
            }
            assert_eq!(states(&headers), expected, "{values:?}");
        };
        check(&[], None);
        check(&["*"], None);
        check(&[&format!("\"{one}\"")], Some(vec![version(one)]));
        let both = Some(vec![version(one), version(two)]);
        check(&[&format!("\"{one}\", \"{two}\"")], both.clone());
        check(&[&format!("\"{one}\""), &format!("\"{two}\"")], both);
        check(&[&format!("W/\"{one}\"")], Some(Vec::new()));
        check(&[one], Some(Vec::new()));
        check(&["\"other\""], Some(Vec::new()));
        check(&[""], Some(Vec::new()));
    }
}
