//! `/api/v1/admin/users`: who may own instances.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::Timestamp;

/// A user as the operator sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The operator's own name for them.
    pub id: String,
    /// When it was added.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// How many instances.
    pub instances: u64,
}

/// `POST /api/v1/admin/users`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddUser {
    /// 1 to 255 bytes.
    pub id: String,
}

/// Answer of `POST /api/v1/admin/users` and of `POST /api/v1/admin/tokens`: the token is shown
/// here once and is stored as a hash only.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// Whose; `null` for an admin token.
    pub user: Option<String>,
    /// `mcpm_u_…` or `mcpm_a_…`.
    pub token: String,
}
