//! Instances: one user's access to one service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::Timestamp;

/// Answer of `authenticate`, of `rotate` and of `POST /api/v1/admin/instances`. Its first two
/// members are secrets: who has the URL has the instance.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceGrant {
    /// The secret id.
    pub instance_id: String,
    /// What to paste into a client.
    pub instance_url: String,
    /// For people.
    pub message: String,
}

/// An instance as its owner sees it.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Public number, for logs and support.
    pub id: String,
    /// Service type.
    pub service: String,
    /// What to paste into a client; a secret.
    pub instance_url: String,
    /// Does it answer?
    pub active: bool,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Last request, to the minute.
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Timestamp>,
}

/// An instance as the operator sees it: without its URL.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminInstance {
    /// Public number.
    pub id: String,
    /// Owner.
    pub user: String,
    /// Service type.
    pub service: String,
    /// Does it answer?
    pub active: bool,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Last request, to the minute.
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Timestamp>,
}

/// `POST /api/v1/admin/instances`: makes an instance for a user.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminCreateInstance {
    /// Owner; must exist.
    pub user: String,
    /// Service type.
    pub service: String,
    /// As in `authenticate`.
    #[serde(default)]
    pub api_key: Option<String>,
    /// As in `authenticate`.
    #[serde(default)]
    pub additional_credentials: BTreeMap<String, String>,
}
