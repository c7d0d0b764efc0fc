//! What becomes of an instance after it was made: label, expiry, disabled or enabled, another URL.
//!
//! Owners name their instances and give them other URLs. Expiry and state are the operator's: what
//! was switched off for a reason is not switched on by whom the reason was. An operator never sees a
//! URL here: one who rotates an instance kills the URL, and the owner fetches the new one.

use axum::extract::{Path, State};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Problem;
use super::door::{Admin, Json, User};
use super::error::Answer;
use super::instances::{AdminInstance, Instance, none, number, own, parse_label, told, unknown};
use super::state::Api;
use super::versions::{IfMatch, Tagged};
use crate::audit::{By, words};
use crate::ids::{InstancePrefix, ServiceType, Timestamp};
use crate::instances::{Change, Version};
use crate::store::InstanceRow;

/// `PATCH /api/v1/services/{service}/instance`: what is not there stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeOwnInstance {
    /// What you call it: at most 100 characters; `null` takes it away.
    #[serde(
        default,
        deserialize_with = "named",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub label: Option<Option<String>>,
}

/// `PATCH /api/v1/admin/instances/{id}`: what is not there stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeInstance {
    /// What people call it: at most 100 characters; `null` takes it away.
    #[serde(
        default,
        deserialize_with = "named",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub label: Option<Option<String>>,
    /// From when on it does not answer; `null` is never.
    #[serde(
        default,
        deserialize_with = "named",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Timestamp>>,
    /// `true`: it does not answer; `false`: it does, unless it has expired, which is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// A member that is there, `null` or not.
fn named<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from).map(Some)
}

fn change(
    label: Option<Option<String>>,
    expires_at: Option<Option<Timestamp>>,
    disabled: Option<bool>,
) -> Answer<Change> {
    let label = match label {
        Some(Some(text)) => Some(Some(parse_label(&text)?)),
        Some(None) => Some(None),
        None => None,
    };
    Ok(Change {
        label,
        expires_at,
        disabled,
    })
}

/// What a request names, for the audit log: no label, which is the owner's matter.
fn named_in(request: &ChangeInstance) -> String {
    let mut named = Vec::new();
    if request.label.is_some() {
        named.push("label".to_owned());
    }
    match request.expires_at {
        Some(Some(end)) => named.push(format!("expires {end}")),
        Some(None) => named.push("expires never".to_owned()),
        None => {}
    }
    match request.disabled {
        Some(true) => named.push("disabled".to_owned()),
        Some(false) => named.push("enabled".to_owned()),
        None => {}
    }
    named.join(", ")
}

fn tagged(api: &Api, row: &InstanceRow) -> Tagged<AdminInstance> {
    Tagged(AdminInstance::of(&api.instances, row), Version::of(row))
}

/// Gives my instance another label.
#[utoipa::path(patch, path = "/api/v1/services/{service}/instance", tag = "instances",
    params(("service" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    request_body = ChangeOwnInstance,
    responses((status = 200, body = Instance, headers(("ETag" = String, description = "Its version"))),
              (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn change_own(
    User(user): User,
    by: By,
    State(api): State<Api>,
    Path(service): Path<String>,
    IfMatch(seen): IfMatch,
    Json(request): Json<ChangeOwnInstance>,
) -> Answer<Tagged<Instance>> {
    let service = ServiceType::parse(&service).map_err(|_| none())?;
    let change = change(request.label, None, None)?;
    let changed = api.instances.change(&user, &service, change, seen).await?;
    let row = changed.ok_or_else(none)?;
    let entry = told(&by, words::INSTANCE_CHANGE, &user, &service, &row.public);
    api.audit.record(entry.with_detail("label"));
    let found = api.instances.of(&user, &service).await?.ok_or_else(none)?;
    let counts = api.ledger.requests(&user).await?;
    Ok(Tagged(own(&api, &found, &counts), found.version))
}

/// One instance, without its URL.
#[utoipa::path(get, path = "/api/v1/admin/instances/{id}", tag = "instances",
    params(("id" = String, Path)),
    responses((status = 200, body = AdminInstance, headers(("ETag" = String, description = "Its version"))),
              (status = 404, body = Problem)))]
pub(super) async fn admin_get(
    _: Admin,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Answer<Tagged<AdminInstance>> {
    let found = api.instances.by_public(&number(&id)?).await?;
    Ok(tagged(&api, &found.ok_or_else(|| unknown(&id))?))
}

/// Changes label, expiry or state of an instance: at once, on open streams too.
#[utoipa::path(patch, path = "/api/v1/admin/instances/{id}", tag = "instances",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    request_body = ChangeInstance,
    responses((status = 200, body = AdminInstance, headers(("ETag" = String, description = "Its version"))),
              (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 412, body = Problem)))]
pub(super) async fn change_any(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    IfMatch(seen): IfMatch,
    Json(request): Json<ChangeInstance>,
) -> Answer<Tagged<AdminInstance>> {
    let public = number(&id)?;
    let named = named_in(&request);
    let change = change(request.label, request.expires_at, request.disabled)?;
    let changed = api.instances.change_public(&public, change, seen).await?;
    let row = changed.ok_or_else(|| unknown(&id))?;
    let action = words::INSTANCE_CHANGE;
    let entry = told(&by, action, &row.user, &row.service, &row.public).with_detail(named);
    api.audit.record_now(entry).await;
    Ok(tagged(&api, &row))
}

/// Kills the URL of an instance; its owner gets the new one by asking for the instance.
#[utoipa::path(post, path = "/api/v1/admin/instances/{id}/rotate", tag = "instances",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    responses((status = 200, body = AdminInstance, headers(("ETag" = String, description = "Its version"))),
              (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn admin_rotate(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    seen: IfMatch,
) -> Answer<Tagged<AdminInstance>> {
    let unknown = || unknown(&id);
    let public = number(&id)?;
    let row = api
        .instances
        .by_public(&public)
        .await?
        .ok_or_else(unknown)?;
    let prefix = prefix(&api, &row.service);
    let rotated = api.instances.rotate_public(&row, &prefix, seen.0).await?;
    rotated.ok_or_else(unknown)?;
    let action = words::INSTANCE_ROTATE;
    let entry = told(&by, action, &row.user, &row.service, &public);
    api.audit.record_now(entry).await;
    let row = api
        .instances
        .by_public(&public)
        .await?
        .ok_or_else(unknown)?;
    Ok(tagged(&api, &row))
}

/// The first part of a new id. An instance may outlive its service's app.
fn prefix(api: &Api, service: &ServiceType) -> InstancePrefix {
    let process = api.service(service);
    let prefix = process.and_then(|process| Some(process.spec.mcp.as_ref()?.prefix.clone()));
    prefix.unwrap_or_else(|| InstancePrefix::parse("mcp").expect("three letters are a prefix"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_is_told_from_what_is_not_there() {
        let read = |value| serde_json::from_value::<ChangeInstance>(value).unwrap();
        let nothing = read(json!({}));
        assert!(nothing.label.is_none() && nothing.expires_at.is_none());
        let cleared = read(json!({ "label": null, "expiresAt": null }));
        assert_eq!(
            (cleared.label, cleared.expires_at),
            (Some(None), Some(None))
        );
        let set = read(json!({ "label": "a", "disabled": true }));
        assert_eq!(
            serde_json::to_value(&set).unwrap(),
            json!({ "label": "a", "disabled": true })
        );
        let clears = ChangeInstance {
            expires_at: Some(None),
            ..ChangeInstance::default()
        };
        assert_eq!(
            serde_json::to_value(&clears).unwrap(),
            json!({ "expiresAt": null })
        );
    }
}
