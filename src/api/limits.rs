//! `/api/v1/admin/limits`: how much may pass, and how often it was too much.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::{Admin, Reply};
use super::error::{Answer, ApiError};
use super::state::Api;
use crate::config::limits::{self, LimitsSpec};
use crate::ids::GroupName;
use crate::limits::Refused;

/// A bucket: so many at once, and it fills again by so many in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Refill.
    pub per_minute: u64,
    /// At once.
    pub burst: u64,
}

/// What limits one instance, user or service; `null` where nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Requests.
    pub requests: Option<Rate>,
    /// Bytes of bodies, both ways.
    pub bytes: Option<Rate>,
    /// Streams that are open at once.
    pub streams: Option<u32>,
}

impl From<limits::Rate> for Rate {
    fn from(rate: limits::Rate) -> Self {
        Self {
            per_minute: rate.per_minute,
            burst: rate.burst,
        }
    }
}

impl From<limits::Quota> for Quota {
    fn from(quota: limits::Quota) -> Self {
        let quota = quota.in_force();
        Self {
            requests: quota.requests.map(Rate::from),
            bytes: quota.bytes.map(Rate::from),
            streams: quota.streams,
        }
    }
}

impl From<Quota> for limits::Quota {
    fn from(quota: Quota) -> Self {
        let rate = |rate: Rate| limits::Rate {
            per_minute: rate.per_minute,
            burst: rate.burst,
        };
        Self {
            requests: quota.requests.map(rate),
            bytes: quota.bytes.map(rate),
            streams: quota.streams,
        }
    }
}

/// The limits of the daemon. A service may have others of its own.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllLimits {
    /// Of each instance.
    pub instance: Quota,
    /// Of each user who is in no group.
    pub user: Quota,
    /// Of each service.
    pub service: Quota,
    /// Of each user of a group.
    pub groups: BTreeMap<String, Quota>,
    /// Calls of this API by each user; `null` where nothing limits them.
    pub calls: Option<Rate>,
    /// Credentials that an external service is asked about, of each user and service; the same.
    pub validations: Option<Rate>,
    /// What has been refused since the daemon has started.
    pub refused: Vec<RefusedCount>,
}

/// How often one of the limits was hit.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCount {
    /// `instance`, `user` or `service`.
    pub of: String,
    /// `requests`, `bytes` or `streams`.
    pub resource: String,
    /// How often.
    pub count: u64,
}

impl From<Refused> for RefusedCount {
    fn from(refused: Refused) -> Self {
        Self {
            of: refused.scope.word().to_owned(),
            resource: refused.resource.word().to_owned(),
            count: refused.count,
        }
    }
}

/// The limits of the daemon, and how often each was hit.
#[utoipa::path(get, path = "/api/v1/admin/limits", tag = "users",
    responses((status = 200, body = AllLimits)))]
pub(super) async fn get(_: Admin, State(api): State<Api>) -> Answer<Reply<AllLimits>> {
    let spec = api.limits.spec();
    let group = |group: &GroupName| (group.to_string(), spec.of_user(Some(group)).into());
    let rate = |rate: limits::Rate| rate.is_limit().then(|| rate.into());
    Ok(Reply(AllLimits {
        calls: rate(spec.of_calls()),
        validations: rate(spec.of_validations()),
        instance: spec.instance.into(),
        user: spec.user.into(),
        service: spec.service.into(),
        groups: spec.groups.keys().map(group).collect(),
        refused: api.limits.refused().into_iter().map(Into::into).collect(),
    }))
}

/// A group that there is.
pub(super) fn group(text: &str, spec: &LimitsSpec) -> Answer<GroupName> {
    let group = GroupName::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))?;
    if spec.groups.contains_key(&group) {
        return Ok(group);
    }
    let names: Vec<String> = spec.groups.keys().map(|name| format!("`{name}`")).collect();
    let there = if names.is_empty() {
        "there are none; write them into `limits.groups` of the `mcpm` block".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    let detail = format!("there is no group `{group}`: {there}");
    Err(ApiError::bad_request(detail))
}
