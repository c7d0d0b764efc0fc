//! `/api/v1/admin/users`: who may own instances. Their tokens: `tokens.rs`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::{Admin, Json, Query, Reply};
use super::error::{Answer, ApiError};
use super::instances::AdminInstance;
use super::limits::{self, Quota};
use super::oauth;
use super::paging::PageQuery;
use super::state::Api;
use super::tokens::{self, Token};
use super::versions::{IfMatch, Tagged};
use super::{List, Problem};
use crate::audit::{By, words};
use crate::ids::{GroupName, Timestamp, UserId};
use crate::instances::Version;
use crate::store::{InstanceRow, TokenOwner, UserRow};
use crate::users::UserError;

/// A user as the operator sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The operator's own name for them.
    pub id: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// How many instances.
    pub instances: u64,
    /// Since when they are switched off; `null` when they are not.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
    /// The group whose limits hold for them; `null` for none.
    #[serde(default)]
    pub group: Option<String>,
    /// Tells this state from the next, but for their instances and tokens; in quotes it is the `ETag`,
    /// for `If-Match`.
    #[serde(default)]
    pub version: String,
}

/// A user, and all that is theirs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserDetails {
    /// Who.
    pub user: User,
    /// Their instances, in the order of their services.
    pub instances: Vec<AdminInstance>,
    /// Their tokens, oldest first.
    pub tokens: Vec<Token>,
    /// What limits them over all their instances.
    #[serde(default)]
    pub limits: Quota,
    /// What limits each of their instances, by service; services that are not there have none.
    #[serde(default)]
    pub instance_limits: BTreeMap<String, Quota>,
}

/// `POST /api/v1/admin/users`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddUser {
    /// 1 to 255 bytes.
    pub id: String,
    /// One of the groups of `limits`.
    #[serde(default)]
    pub group: Option<String>,
}

/// `POST /api/v1/admin/users/{id}/group`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetGroup {
    /// One of the groups of `limits`; `null` for none.
    pub group: Option<String>,
}

/// A token that was just made: it is shown here once and is stored as a hash only.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// Whose; `null` for an admin token.
    pub user: Option<String>,
    /// `mcpm_u_…` or `mcpm_a_…`.
    pub token: String,
    /// For revoking it; `null` when it has to be looked up in the list of tokens.
    #[serde(default)]
    pub number: Option<i64>,
    /// For people.
    #[serde(default)]
    pub name: Option<String>,
    /// From when on it opens nothing; `null` for never.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

// ── handlers ──

pub(super) fn parse(id: &str) -> Answer<UserId> {
    UserId::parse(id).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn shown(row: UserRow) -> User {
    User {
        version: Version::of_user(&row).to_string(),
        id: row.id.to_string(),
        created_at: row.created_at,
        instances: row.instances,
        disabled_at: row.disabled_at,
        group: row.group.map(|group| group.to_string()),
    }
}

/// The user, who must be there.
async fn find(api: &Api, user: &UserId) -> Answer<UserRow> {
    let found = api.users.get(user).await?;
    Ok(found.ok_or_else(|| UserError::Unknown(user.clone()))?)
}

/// The user as they are now.
async fn tagged(api: &Api, user: &UserId) -> Answer<Tagged<User>> {
    let row = find(api, user).await?;
    let version = Version::of_user(&row);
    Ok(Tagged(shown(row), version))
}

/// All users, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/admin/users", params(PageQuery), tag = "users",
    responses((status = 200, body = List<User>)))]
pub(super) async fn list(
    _: Admin,
    State(api): State<Api>,
    Query(page): Query<PageQuery>,
) -> Answer<Reply<List<User>>> {
    let limit = page.size();
    let after = page.cursor.as_deref().map(parse).transpose()?;
    // One more than asked for says whether there is a next page.
    let mut found = api.users.list(after.as_ref(), limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found.last().filter(|_| more).map(|row| row.id.to_string());
    Ok(Reply(List {
        items: found.into_iter().map(shown).collect(),
        next_cursor,
    }))
}

/// Adds a user and answers their first token.
#[utoipa::path(post, path = "/api/v1/admin/users", tag = "users", request_body = AddUser,
    responses((status = 200, body = NewToken), (status = 409, body = Problem)))]
pub(super) async fn add(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<AddUser>,
) -> Answer<Reply<NewToken>> {
    let user = parse(&request.id)?;
    let group = known_group(&api, request.group.as_deref())?;
    let token = api.users.add_to(&user, group.clone()).await?;
    let mut entry = by.entry(words::USER_ADD).with_user(&user);
    if let Some(group) = group {
        entry = entry.with_detail(format!("group {group}"));
    }
    api.audit.record_now(entry).await;
    // They are there, and their token is known to nobody else: whatever happens now, it is told.
    let owner = TokenOwner::User(user.clone());
    let tokens = api.users.tokens(&owner).await.unwrap_or_default();
    Ok(Reply(NewToken {
        user: Some(user.to_string()),
        token: token.expose().clone(),
        number: tokens.first().map(|token| token.number),
        name: None,
        expires_at: None,
    }))
}

/// A user with their instances and tokens.
#[utoipa::path(get, path = "/api/v1/admin/users/{id}", tag = "users",
    params(("id" = String, Path)),
    responses((status = 200, body = UserDetails, headers(("ETag" = String, description = "Their version"))),
              (status = 404, body = Problem)))]
pub(super) async fn get(
    _: Admin,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Answer<Tagged<UserDetails>> {
    let user = parse(&id)?;
    let found = find(&api, &user).await?;
    let rows = api.instances.rows_of_user(&user).await?;
    let version = Version::of_user(&found);
    let limits = api.limits.of_user(found.group.as_ref());
    let of_instance = |row: &InstanceRow| {
        let process = api.service(&row.service)?;
        let (instance, _) = api.limits.of_service(process.spec.mcp.as_ref()?);
        Some((row.service.to_string(), instance.into()))
    };
    let seen = |row| AdminInstance::of(&api.instances, row);
    let details = UserDetails {
        user: shown(found),
        limits: limits.into(),
        instance_limits: rows.iter().filter_map(of_instance).collect(),
        instances: rows.iter().map(seen).collect(),
        tokens: tokens::listed(&api, &TokenOwner::User(user)).await?,
    };
    Ok(Tagged(details, version))
}

/// Switches a user off: their tokens and URLs open nothing from now on, what goes on ends, and all
/// that is theirs is kept.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/disable", tag = "users",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    responses((status = 200, body = User, headers(("ETag" = String, description = "Their version"))),
              (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn disable(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    seen: IfMatch,
) -> Answer<Tagged<User>> {
    let answer = switch(&api, &id, &seen, Some(Timestamp::now())).await?;
    record(&api, &by, words::USER_DISABLE, &id).await?;
    Ok(answer)
}

/// Switches a user on again.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/enable", tag = "users",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    responses((status = 200, body = User, headers(("ETag" = String, description = "Their version"))),
              (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn enable(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    seen: IfMatch,
) -> Answer<Tagged<User>> {
    let answer = switch(&api, &id, &seen, None).await?;
    record(&api, &by, words::USER_ENABLE, &id).await?;
    Ok(answer)
}

/// Puts a user into a group, or into none: its limits hold from the next request on.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/group", tag = "users",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    request_body = SetGroup,
    responses((status = 200, body = User, headers(("ETag" = String, description = "Their version"))),
              (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 412, body = Problem)))]
pub(super) async fn set_group(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    seen: IfMatch,
    Json(request): Json<SetGroup>,
) -> Answer<Tagged<User>> {
    let user = parse(&id)?;
    seen.admits_user(&find(&api, &user).await?)?;
    let group = known_group(&api, request.group.as_deref())?;
    if !api.users.groups().set(&user, group.clone()).await? {
        return Err(UserError::Unknown(user).into());
    }
    let word = group.map_or_else(|| "no group".to_owned(), |group| format!("group {group}"));
    let entry = by.entry(words::USER_GROUP).with_user(&user);
    api.audit.record_now(entry.with_detail(word)).await;
    tagged(&api, &user).await
}

fn known_group(api: &Api, text: Option<&str>) -> Answer<Option<GroupName>> {
    let spec = api.limits.spec();
    text.map(|text| limits::group(text, &spec)).transpose()
}

async fn record(api: &Api, by: &By, action: &str, id: &str) -> Answer<()> {
    let entry = by.entry(action).with_user(&parse(id)?);
    api.audit.record_now(entry).await;
    Ok(())
}

async fn switch(
    api: &Api,
    id: &str,
    seen: &IfMatch,
    off: Option<Timestamp>,
) -> Answer<Tagged<User>> {
    let user = parse(id)?;
    seen.admits_user(&find(api, &user).await?)?;
    if api.instances.switch_user(&user, off).await?.is_none() {
        return Err(UserError::Unknown(user).into());
    }
    tagged(api, &user).await
}

/// Removes a user with their tokens, instances and credentials, for good.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}", tag = "users",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    responses((status = 204), (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn remove(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    seen: IfMatch,
) -> Answer<StatusCode> {
    let user = parse(&id)?;
    seen.admits_user(&find(&api, &user).await?)?;
    // What cannot be read keeps nobody from removing it.
    let consents = api.instances.credentials_of(&user).await;
    if !api.instances.forget_user(&user).await? {
        return Err(UserError::Unknown(user).into());
    }
    oauth::revoke(&api, consents.unwrap_or_default());
    // Whoever comes under that name is in no group.
    if let Err(error) = api.users.groups().refresh(&user).await {
        tracing::warn!(%user, %error, "the limits of a removed user's group hold until a restart");
    }
    let entry = by.entry(words::USER_REMOVE).with_user(&user);
    api.audit.record_now(entry).await;
    Ok(StatusCode::NO_CONTENT)
}
