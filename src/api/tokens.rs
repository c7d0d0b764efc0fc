//! Tokens: of users, as the operator and as they themselves see them, and of the operator.

use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::door::{Admin, Json, Query, Reply, User, UserToken};
use super::error::{Answer, ApiError};
use super::state::Api;
use super::users::{NewToken, parse};
use super::{List, Problem};
use crate::audit::{By, words};
use crate::ids::{Timestamp, UserId};
use crate::store::{TokenChoice, TokenOwner, TokenRow};
use crate::users::{Made, UserError, Wanted};

/// Whom a JWT of an identity provider lets in is asked each time.
const NO_TOKEN_BY_JWT: &str = "a JWT makes no tokens, which would outlive it; use the JWT itself, or ask \
                               whoever runs this for a token (`mcpm users token`)";

/// A token, as far as it is known: the text itself was shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// For revoking it.
    pub number: i64,
    /// For people, to tell tokens apart.
    pub name: Option<String>,
    /// Does it open anything?
    pub active: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// From when on it opens nothing; `null` for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Last use, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// Since when it opens nothing, because somebody said so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// A token to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// For people: 1 to 64 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// From when on it opens nothing. Not given: never, and 90 days for a user's own.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// Tokens that were ended.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// Their numbers; those that had ended before are not among them.
    pub revoked: Vec<i64>,
}

/// Which tokens stay.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepQuery {
    /// Number of the one that stays.
    keep: Option<i64>,
}

// ── what handlers share ──

pub(super) fn shown(row: TokenRow, now: Timestamp) -> Token {
    Token {
        active: row.is_valid(now),
        number: row.number,
        name: row.name,
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
    }
}

impl TokenRequest {
    fn wanted(self) -> Wanted {
        Wanted {
            name: self.name,
            expires_at: self.expires_at,
        }
    }
}

fn made(owner: &TokenOwner, made: &Made) -> Reply<NewToken> {
    let user = match owner {
        TokenOwner::User(user) => Some(user.to_string()),
        TokenOwner::Admin => None,
    };
    Reply(NewToken {
        user,
        token: made.token.expose().clone(),
        number: Some(made.number),
        name: made.name.clone(),
        expires_at: made.expires_at,
    })
}

pub(super) async fn listed(api: &Api, owner: &TokenOwner) -> Answer<Vec<Token>> {
    let now = Timestamp::now();
    let rows = api.users.tokens(owner).await?;
    Ok(rows.into_iter().map(|row| shown(row, now)).collect())
}

/// Tells what was done with tokens of this owner.
async fn record(api: &Api, by: &By, action: &str, owner: &TokenOwner, detail: String) {
    let entry = by.entry(action).with_detail(detail);
    let entry = match owner {
        TokenOwner::User(user) => entry.with_user(user),
        TokenOwner::Admin => entry,
    };
    api.audit.record_now(entry).await;
}

/// Makes one, and tells of it.
async fn make(api: &Api, by: &By, owner: &TokenOwner, wanted: Wanted) -> Answer<Made> {
    let token = api.users.add_token(owner, wanted).await?;
    record(
        api,
        by,
        words::TOKEN_ADD,
        owner,
        numbered(owner, &[token.number]),
    )
    .await;
    Ok(token)
}

fn numbered(owner: &TokenOwner, numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let kind = match owner {
        TokenOwner::User(_) => "number",
        TokenOwner::Admin => "for admins: number",
    };
    format!("{kind} {}", numbers.join(", "))
}

/// Ends one by its number, whether it has ended before or not.
async fn end_one(api: &Api, by: &By, owner: &TokenOwner, number: &str) -> Answer<StatusCode> {
    let unknown = || {
        let detail = format!("there is no token `{number}` of this owner; list them to see all");
        ApiError::not_found("unknown_token", detail)
    };
    let one = number.parse().map(TokenChoice::One);
    let one = one.map_err(|_| unknown())?;
    let revoked = api.users.revoke(owner, one).await?.ok_or_else(unknown)?;
    tell_of_ends(api, by, owner, &revoked).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn tell_of_ends(api: &Api, by: &By, owner: &TokenOwner, revoked: &[i64]) {
    if !revoked.is_empty() {
        record(
            api,
            by,
            words::TOKEN_REVOKE,
            owner,
            numbered(owner, revoked),
        )
        .await;
    }
}

async fn end_all(
    api: &Api,
    by: &By,
    owner: &TokenOwner,
    keep: Option<i64>,
) -> Answer<Reply<Revoked>> {
    let which = keep.map_or(TokenChoice::All, TokenChoice::AllBut);
    match api.users.revoke(owner, which).await? {
        Some(revoked) => {
            tell_of_ends(api, by, owner, &revoked).await;
            Ok(Reply(Revoked { revoked }))
        }
        None => {
            let kept = keep.unwrap_or_default();
            let detail = format!("there is no token `{kept}` to keep; nothing was revoked");
            Err(ApiError::not_found("unknown_token", detail))
        }
    }
}

/// The user of a path, who must be there.
async fn owner(api: &Api, id: &str) -> Answer<TokenOwner> {
    let user = parse(id)?;
    if !api.users.exists(&user).await? {
        return Err(UserError::Unknown(user).into());
    }
    Ok(TokenOwner::User(user))
}

// ── of a user, by the operator ──

/// All tokens of a user, oldest first.
#[utoipa::path(get, path = "/api/v1/admin/users/{id}/tokens", tag = "users",
    params(("id" = String, Path)),
    responses((status = 200, body = List<Token>), (status = 404, body = Problem)))]
pub(super) async fn list(
    _: Admin,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Answer<Reply<List<Token>>> {
    let owner = owner(&api, &id).await?;
    Ok(Reply(List::whole(listed(&api, &owner).await?)))
}

/// Makes another token for a user.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/tokens", tag = "users",
    params(("id" = String, Path)), request_body = TokenRequest,
    responses((status = 200, body = NewToken), (status = 404, body = Problem),
              (status = 409, body = Problem)))]
pub(super) async fn add(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(request): Json<TokenRequest>,
) -> Answer<Reply<NewToken>> {
    let owner = TokenOwner::User(parse(&id)?);
    let token = make(&api, &by, &owner, request.wanted()).await?;
    Ok(made(&owner, &token))
}

/// Ends a token of a user; it opens nothing from now on.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}/tokens/{number}", tag = "users",
    params(("id" = String, Path), ("number" = i64, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn revoke(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path((id, number)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let owner = owner(&api, &id).await?;
    end_one(&api, &by, &owner, &number).await
}

/// Ends all tokens of a user, or all but one.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}/tokens", tag = "users",
    params(("id" = String, Path), KeepQuery),
    responses((status = 200, body = Revoked), (status = 404, body = Problem)))]
pub(super) async fn revoke_all(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(query): Query<KeepQuery>,
) -> Answer<Reply<Revoked>> {
    let owner = owner(&api, &id).await?;
    end_all(&api, &by, &owner, query.keep).await
}

// ── of the operator ──

/// All admin tokens, oldest first.
#[utoipa::path(get, path = "/api/v1/admin/tokens", tag = "users",
    responses((status = 200, body = List<Token>)))]
pub(super) async fn admin_list(_: Admin, State(api): State<Api>) -> Answer<Reply<List<Token>>> {
    let all = listed(&api, &TokenOwner::Admin).await?;
    Ok(Reply(List::whole(all)))
}

/// Makes an admin token.
#[utoipa::path(post, path = "/api/v1/admin/tokens", tag = "users", request_body = TokenRequest,
    responses((status = 200, body = NewToken), (status = 409, body = Problem)))]
pub(super) async fn admin_add(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Json(request): Json<TokenRequest>,
) -> Answer<Reply<NewToken>> {
    let owner = TokenOwner::Admin;
    let token = make(&api, &by, &owner, request.wanted()).await?;
    Ok(made(&owner, &token))
}

/// Ends an admin token; it opens nothing from now on.
#[utoipa::path(delete, path = "/api/v1/admin/tokens/{number}", tag = "users",
    params(("number" = i64, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn admin_revoke(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(number): Path<String>,
) -> Answer<StatusCode> {
    end_one(&api, &by, &TokenOwner::Admin, &number).await
}

/// Ends all admin tokens, or all but one. The socket stays open to the operator.
#[utoipa::path(delete, path = "/api/v1/admin/tokens", tag = "users", params(KeepQuery),
    responses((status = 200, body = Revoked), (status = 404, body = Problem)))]
pub(super) async fn admin_revoke_all(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Query(query): Query<KeepQuery>,
) -> Answer<Reply<Revoked>> {
    end_all(&api, &by, &TokenOwner::Admin, query.keep).await
}

// ── of a user, by themselves ──

fn own(user: UserId) -> TokenOwner {
    TokenOwner::User(user)
}

/// All my tokens, oldest first.
#[utoipa::path(get, path = "/api/v1/user/tokens", tag = "users",
    responses((status = 200, body = List<Token>)))]
pub(super) async fn mine(User(user): User, State(api): State<Api>) -> Answer<Reply<List<Token>>> {
    Ok(Reply(List::whole(listed(&api, &own(user)).await?)))
}

/// Makes another token for me. It ends: in 90 days unless another time is given, in a year at the
/// latest, and never after the token that this call is made with, which is none of an identity provider.
#[utoipa::path(post, path = "/api/v1/user/tokens", tag = "users", request_body = TokenRequest,
    responses((status = 200, body = NewToken), (status = 403, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn add_mine(
    UserToken { user, token: maker }: UserToken,
    by: By,
    State(api): State<Api>,
    Json(request): Json<TokenRequest>,
) -> Answer<Reply<NewToken>> {
    let owner = own(user);
    // It would outlive what an identity provider says of its user, and ask for no scope.
    let by_jwt = || ApiError::forbidden(NO_TOKEN_BY_JWT);
    let number = maker.number.ok_or_else(by_jwt)?;
    let wanted = request.wanted();
    let wanted = wanted.for_oneself(maker.expires_at, Timestamp::now());
    let wanted = wanted.map_err(UserError::from)?;
    let token = make(&api, &by, &owner, wanted).await?;
    let all = listed(&api, &owner).await?;
    let maker = all.iter().find(|token| token.number == number);
    // Whoever has revoked all of them while this one was made has not seen it.
    if !maker.is_some_and(|maker| maker.active) {
        let this = TokenChoice::One(token.number);
        api.users.revoke(&owner, this).await?;
        return Err(ApiError::unauthorized());
    }
    Ok(made(&owner, &token))
}

/// Ends a token of mine; it opens nothing from now on.
#[utoipa::path(delete, path = "/api/v1/user/tokens/{number}", tag = "users",
    params(("number" = i64, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn revoke_mine(
    User(user): User,
    by: By,
    State(api): State<Api>,
    Path(number): Path<String>,
) -> Answer<StatusCode> {
    end_one(&api, &by, &own(user), &number).await
}

/// Ends all tokens of mine, or all but one.
#[utoipa::path(delete, path = "/api/v1/user/tokens", tag = "users", params(KeepQuery),
    responses((status = 200, body = Revoked), (status = 404, body = Problem)))]
pub(super) async fn revoke_all_mine(
    User(user): User,
    by: By,
    State(api): State<Api>,
    Query(query): Query<KeepQuery>,
) -> Answer<Reply<Revoked>> {
    end_all(&api, &by, &own(user), query.keep).await
}
