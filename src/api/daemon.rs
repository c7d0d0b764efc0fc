//! `/api/v1/admin/daemon`: the daemon itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::Timestamp;

/// `GET /api/v1/admin/daemon`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonInfo {
    /// Version of the running daemon.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// Since when.
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// State folder.
    pub home: String,
    /// Address of router and API; `null` when it could not be had (see `warnings`).
    pub listen: Option<String>,
    /// Origin of handed-out URLs.
    pub public_url: String,
    /// What an operator should act on.
    pub warnings: Vec<String>,
}

/// One setting, and where its value comes from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Its name, as in the `mcpm` block.
    pub name: String,
    /// Its value.
    pub value: String,
    /// `default`, `flag`, `MCPM_LISTEN` and the like, or a file's path.
    pub source: String,
}

/// `POST /api/v1/admin/daemon/stop`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopRequest {
    /// End the daemon only; services go on and the next daemon adopts them.
    #[serde(default)]
    pub keep: bool,
}
