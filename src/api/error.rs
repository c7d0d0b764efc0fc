//! What goes wrong in a call: a status, a stable code, a sentence. Turned into problem JSON by
//! `door.rs`, which knows the request's id.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::instances::InstanceError;
use crate::problem::chain;
use crate::store::StoreError;
use crate::supervisor::CommandError;
use crate::users::UserError;
use crate::vault::RotateError;

/// Long enough for a disk to be tidied or a daemon to come back, short enough to be waited for.
pub(super) const RETRY_AFTER_SECONDS: u32 = 5;

/// A refused or failed call.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable name.
    pub code: &'static str,
    /// What was wrong and what to do; never a secret.
    pub detail: String,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

/// What handlers return.
pub type Answer<T> = Result<T, ApiError>;

impl ApiError {
    /// A problem with this status, code and sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 404, with a code of its own for each kind of thing.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 401: a token would help.
    pub fn unauthorized() -> Self {
        let detail =
            "show a token: `Authorization: Bearer mcpm_u_…` (`mcpm users add ID` makes one)";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 429: a wrong token, as too many of this address before.
    pub fn guessing(wait: Duration) -> Self {
        let detail = "too many wrong tokens and URLs have come from this address; one that is right \
                      passes, wrong ones are looked at again after the time in `Retry-After`";
        Self::too_many(wait, "guessing", detail)
    }

    /// 429: too much of what is right.
    pub fn rate_limited(wait: Duration, detail: impl Into<String>) -> Self {
        Self::too_many(wait, "rate_limited", detail)
    }

    fn too_many(wait: Duration, code: &'static str, detail: impl Into<String>) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
        }
    }

    /// 403: this caller may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 503: not now, but perhaps in a moment.
    pub fn later(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER_SECONDS),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        }
    }

    /// 503: this daemon is the one no more.
    pub(super) fn handed_over() -> Self {
        let detail = "another daemon has taken over; ask again on a new connection";
        Self::later("handed_over", detail)
    }

    /// 503: the daemon is ending.
    pub(super) fn stopping() -> Self {
        Self::later("stopping", "the daemon is stopping")
    }

    /// 500: our fault; the detail goes to the log, not out.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(error), "a call failed");
        let detail = "the daemon could not do this; its log (`mcpm.log`) says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let (status, code) = match &error {
            CommandError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_process"),
            CommandError::Pattern(_) => (StatusCode::BAD_REQUEST, "bad_pattern"),
            CommandError::Plan(_) => (StatusCode::CONFLICT, "clash"),
            CommandError::Reloading { .. } => (StatusCode::CONFLICT, "reloading"),
            CommandError::Unseen { .. } => (StatusCode::CONFLICT, "not_adopted"),
            CommandError::TooMany(_) => (StatusCode::CONFLICT, "too_many_processes"),
            CommandError::Closing => return Self::stopping(),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<InstanceError> for ApiError {
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::UnknownUser(_) => Self::not_found("unknown_user", error.to_string()),
            InstanceError::UserDisabled(_) => {
                Self::new(StatusCode::CONFLICT, "user_disabled", error.to_string())
            }
            InstanceError::Withdrawn => {
                Self::new(StatusCode::CONFLICT, "withdrawn", error.to_string())
            }
            InstanceError::Store(error) => error.into(),
            InstanceError::Stopped => Self::stopping(),
            InstanceError::Contended => Self::later("contended", error.to_string()),
            InstanceError::Changed => {
                let status = StatusCode::PRECONDITION_FAILED;
                Self::new(status, "instance_changed", error.to_string())
            }
            InstanceError::Expired { .. } => {
                Self::new(StatusCode::CONFLICT, "instance_expired", error.to_string())
            }
            other => Self::internal(&other),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) | StoreError::Unavailable(_) => {
                tracing::error!(error = %chain(&error), "a call failed");
                let detail = "the database cannot be read or written just now; try again later";
                Self::later("store_unavailable", detail)
            }
            StoreError::Stopped => Self::stopping(),
            other => Self::internal(&other),
        }
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Exists(_) => {
                let detail = format!("{error}; `mcpm users token ID` makes another token for them");
                Self::new(StatusCode::CONFLICT, "user_exists", detail)
            }
            UserError::Unknown(_) => Self::not_found("unknown_user", error.to_string()),
            UserError::Unfit(_) => Self::bad_request(error.to_string()),
            UserError::TooMany => {
                Self::new(StatusCode::CONFLICT, "too_many_tokens", error.to_string())
            }
            UserError::Store(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<RotateError> for ApiError {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::UnderWay | RotateError::NotUnderWay | RotateError::CalledOff => {
                Self::new(StatusCode::CONFLICT, "key_rotation", error.to_string())
            }
            RotateError::Needed { .. }
            | RotateError::NotNeeded { .. }
            | RotateError::NoKey
            | RotateError::Same => {
                Self::new(StatusCode::BAD_REQUEST, "bad_master_key", error.to_string())
            }
            RotateError::Store(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_is_broken() {
        let cause = || Arc::new(std::io::Error::other("disk at /secret/place"));
        let later = [
            StoreError::Full(cause()),
            StoreError::Unavailable(cause()),
            StoreError::Stopped,
        ];
        for error in later {
            for error in [
                ApiError::from(error.clone()),
                ApiError::from(InstanceError::Store(error.clone())),
                ApiError::from(UserError::Store(error.clone())),
            ] {
                assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE, "{error:?}");
                assert!(error.retry_after.is_some() && !error.detail.contains("secret"));
            }
        }
        let broken = ApiError::from(StoreError::Damaged(cause()));
        assert_eq!(broken.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!broken.detail.contains("secret"));
    }
}
