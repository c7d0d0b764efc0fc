//! `/api/v1/admin/keys`: the master key, and its rotation. The key itself never comes out of here.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;
use super::door::{Admin, Json, Reply};
use super::error::Answer;
use super::state::Api;
use crate::audit::{By, words};
use crate::ids::Timestamp;
use crate::secret::Secret;
use crate::vault::{KeyFacts, Rotation};

/// What can be said of the master key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MasterKeyInfo {
    /// Where it comes from: `home` (`master.key`, which mcpm keeps itself), `file`
    /// (`MCPM_MASTER_KEY_FILE`), `systemd` (a credential) or `environment` (`MCPM_MASTER_KEY`).
    pub source: String,
    /// Its file; `null` when it has none.
    pub path: Option<String>,
    /// Tells keys apart and says nothing about them: eight hex digits.
    pub number: String,
    /// Since when it is the one; `null` when it is older than mcpm writes that down.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// The rotation that is under way; `null` when none is.
    pub rotation: Option<KeyRotation>,
}

/// A rotation that is under way. Until it is over either key opens everything.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotation {
    /// Number of the key that follows.
    pub next: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// It was called off: everything is sealed with the key in force again.
    pub called_off: bool,
    /// Instances that there are.
    pub instances: u64,
    /// Instances that have been looked at.
    pub seen: u64,
    /// Values that open with neither key, and did not before; they are left as they are.
    pub unreadable: u64,
    /// All is sealed, and the rotation is over as soon as the daemon starts with that key.
    pub waits_for_key: bool,
}

/// `POST /api/v1/admin/keys/rotate`.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateKey {
    /// The next key, as 64 hex digits or 44 of base64; left out where mcpm keeps the key itself.
    #[serde(default)]
    pub new_key: Option<String>,
}

impl From<KeyFacts> for MasterKeyInfo {
    fn from(facts: KeyFacts) -> Self {
        Self {
            source: facts.source.to_owned(),
            path: facts.path,
            number: facts.number.to_string(),
            since: facts.since,
            rotation: facts.rotation.map(KeyRotation::from),
        }
    }
}

impl From<Rotation> for KeyRotation {
    fn from(rotation: Rotation) -> Self {
        Self {
            next: rotation.next.to_string(),
            started_at: rotation.started_at,
            called_off: rotation.back,
            instances: rotation.instances,
            seen: rotation.seen,
            unreadable: rotation.unreadable,
            waits_for_key: rotation.waits,
        }
    }
}

// ── handlers ──

/// The master key: where it comes from, which it is, and whether it is being rotated.
#[utoipa::path(get, path = "/api/v1/admin/keys", tag = "keys",
    responses((status = 200, body = MasterKeyInfo)))]
pub(super) async fn get(_: Admin, State(api): State<Api>) -> Answer<Reply<MasterKeyInfo>> {
    let facts = api.keys.facts().await?;
    Ok(Reply(facts.into()))
}

/// Begins to put another master key in the place of this one; answers when everything new is sealed
/// with it, and goes on by itself.
#[utoipa::path(post, path = "/api/v1/admin/keys/rotate", tag = "keys", request_body = RotateKey,
    responses((status = 200, body = MasterKeyInfo), (status = 409, body = Problem)))]
pub(super) async fn rotate(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<RotateKey>,
) -> Answer<Reply<MasterKeyInfo>> {
    api.keys.begin(request.new_key.map(Secret::new)).await?;
    api.audit.record_now(by.entry(words::KEY_ROTATE)).await;
    let facts = api.keys.facts().await?;
    Ok(Reply(facts.into()))
}

/// Calls the rotation off: everything is sealed with the key in force again.
#[utoipa::path(post, path = "/api/v1/admin/keys/cancel", tag = "keys",
    responses((status = 200, body = MasterKeyInfo), (status = 409, body = Problem)))]
pub(super) async fn cancel(
    _: Admin,
    by: By,
    State(api): State<Api>,
) -> Answer<Reply<MasterKeyInfo>> {
    api.keys.cancel().await?;
    api.audit.record_now(by.entry(words::KEY_CANCEL)).await;
    let facts = api.keys.facts().await?;
    Ok(Reply(facts.into()))
}
