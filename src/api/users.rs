//! `/api/v1/admin/users`: who may own instances.

use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::{Admin, Json, Query, Reply};
use super::error::{Answer, ApiError};
use super::instances::PageQuery;
use super::state::Api;
use super::{List, Problem};
use crate::audit::{By, words};
use crate::ids::{Timestamp, UserId};
use crate::secret::Secret;
use crate::users::UserError;

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

// ── handlers ──

fn parse(id: &str) -> Answer<UserId> {
    UserId::parse(id).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn shown(user: Option<&UserId>, token: &Secret<String>) -> Reply<NewToken> {
    Reply(NewToken {
        user: user.map(UserId::to_string),
        token: token.expose().clone(),
    })
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
    let one = |row: crate::store::UserRow| User {
        id: row.id.to_string(),
        created_at: row.created_at,
        instances: row.instances,
    };
    Ok(Reply(List {
        items: found.into_iter().map(one).collect(),
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
    let token = api.users.add(&user).await?;
    let entry = by.entry(words::USER_ADD).with_user(&user);
    api.audit.record_now(entry).await;
    Ok(shown(Some(&user), &token))
}

/// Removes a user with their tokens, instances and credentials, for good.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}", tag = "users",
    params(("id" = String, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let user = parse(&id)?;
    if !api.instances.forget_user(&user).await? {
        return Err(UserError::Unknown(user).into());
    }
    let entry = by.entry(words::USER_REMOVE).with_user(&user);
    api.audit.record_now(entry).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes another token for a user.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/tokens", tag = "users",
    params(("id" = String, Path)),
    responses((status = 200, body = NewToken), (status = 404, body = Problem)))]
pub(super) async fn add_token(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Answer<Reply<NewToken>> {
    let user = parse(&id)?;
    let token = api.users.add_token(&user).await?;
    let entry = by.entry(words::TOKEN_ADD).with_user(&user);
    api.audit.record_now(entry).await;
    Ok(shown(Some(&user), &token))
}

/// Makes an admin token.
#[utoipa::path(post, path = "/api/v1/admin/tokens", tag = "users",
    responses((status = 200, body = NewToken)))]
pub(super) async fn add_admin_token(
    _: Admin,
    by: By,
    State(api): State<Api>,
) -> Answer<Reply<NewToken>> {
    let token = api.users.add_admin_token().await?;
    let entry = by.entry(words::TOKEN_ADD).with_detail("for admins");
    api.audit.record_now(entry).await;
    Ok(shown(None, &token))
}
