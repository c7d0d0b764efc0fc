//! Instances: one user's access to one service.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::door::{Admin, Json, Query, Reply, ShownToken, User};
use super::error::{Answer, ApiError};
use super::oauth;
use super::paging::PageQuery;
use super::services::find;
use super::state::Api;
use super::versions::{IfMatch, Tagged};
use super::{List, Problem};
use crate::audit::{By, words};
use crate::config::spec::{AuthKind, ServiceSpec};
use crate::ids::{InstanceId, Label, PublicId, ServiceType, Timestamp, UserId};
use crate::instances::validate::Verdict;
use crate::instances::{Asker, Instances, NewTerms, OwnInstance, Version, credentials};
use crate::secret::Secret;
use crate::store::{AuditEntry, InstanceFilter, InstanceRow, Stays};
use crate::users::{LiveToken, UserError};
use crate::vault::Fields;

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
    /// What its owner calls it.
    pub label: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Last request, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// When it got this URL, if that is not its first.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rotated_at: Option<Timestamp>,
    /// From when on it does not answer.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Since when its operator has it switched off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
    /// Since when the external service takes its credential no longer, so that requests are answered with
    /// `credentials_expired`; `authenticate` with another credential ends that.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub credentials_expired_at: Option<Timestamp>,
    /// Since when its service has answered nothing but 401, several times in a row: the credential may be
    /// wrong. Known as long as the daemon runs.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub refused_since: Option<Timestamp>,
    /// Tells this state from the next; in quotes it is the `ETag`, for `If-Match`.
    pub version: String,
    /// Requests of its user to this service, as far as usage is kept; up to a second behind.
    pub usage_count: u64,
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
    /// What people call it.
    pub label: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Last request, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// When it got its URL, if that is not its first.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rotated_at: Option<Timestamp>,
    /// From when on it does not answer.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Since when it is switched off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
    /// Since when the external service takes its credential no longer, so that requests are answered with
    /// `credentials_expired`; `authenticate` with another credential ends that.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub credentials_expired_at: Option<Timestamp>,
    /// Since when its service has answered nothing but 401, several times in a row: the credential may be
    /// wrong. Known as long as the daemon runs.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub refused_since: Option<Timestamp>,
    /// Tells this state from the next; in quotes it is the `ETag`, for `If-Match`.
    pub version: String,
}

impl AdminInstance {
    pub(super) fn of(instances: &Instances, row: &InstanceRow) -> Self {
        Self {
            id: row.public.to_string(),
            user: row.user.to_string(),
            service: row.service.to_string(),
            active: row.is_active(Timestamp::now()),
            label: row.label.as_ref().map(Label::to_string),
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            rotated_at: row.rotated_at,
            expires_at: row.expires_at,
            disabled_at: row.disabled_at,
            credentials_expired_at: row.credential.expired_at(),
            refused_since: instances.refused_since(row),
            version: Version::of(row).to_string(),
        }
    }
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
    /// What people call a new one: at most 100 characters. One that is there keeps its own.
    #[serde(default)]
    pub label: Option<String>,
    /// From when on a new one does not answer. One that is there keeps its own.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

// ── handlers ──

/// The URL a user pastes: from the public URL, never from a client's `Host`.
pub(super) fn url(api: &Api, id: &InstanceId, service: &ServiceType) -> String {
    format!(
        "{}/{}/{service}",
        api.in_force.load().public_url,
        id.expose()
    )
}

pub(super) fn own(
    api: &Api,
    instance: &OwnInstance,
    counts: &BTreeMap<ServiceType, u64>,
) -> Instance {
    Instance {
        id: instance.public.to_string(),
        service: instance.service.to_string(),
        instance_url: url(api, &instance.id, &instance.service),
        active: instance.active,
        label: instance.label.as_ref().map(Label::to_string),
        created_at: instance.created_at,
        last_used_at: instance.last_used_at,
        rotated_at: instance.rotated_at,
        expires_at: instance.expires_at,
        disabled_at: instance.disabled_at,
        credentials_expired_at: instance.credential.expired_at(),
        refused_since: instance.refused_since,
        version: instance.version.to_string(),
        usage_count: counts.get(&instance.service).copied().unwrap_or(0),
    }
}

pub(super) fn none() -> ApiError {
    let detail = "you have no instance of this service; `POST …/authenticate` makes one";
    ApiError::not_found("unknown_instance", detail)
}

/// Checks what was given, asks the external service, seals, stores.
pub(super) async fn grant(
    api: &Api,
    by: &By,
    owner: (&UserId, Asker),
    service: &str,
    api_key: Option<String>,
    additional: BTreeMap<String, String>,
) -> Answer<Reply<InstanceGrant>> {
    let terms = NewTerms::default();
    grant_under(api, by, owner, service, api_key, additional, terms).await
}

/// Who asks with this token for something of this user's, as they are now.
pub(super) async fn asker(
    api: &Api,
    user: &UserId,
    token: Option<Arc<LiveToken>>,
) -> Answer<Asker> {
    let owner = api.users.get(user).await?;
    let owner = owner.ok_or_else(|| UserError::Unknown(user.clone()))?;
    Ok(Asker {
        owner_since: Some(owner.created_at),
        token,
    })
}

async fn grant_under(
    api: &Api,
    by: &By,
    (user, asker): (&UserId, Asker),
    service: &str,
    api_key: Option<String>,
    additional: BTreeMap<String, String>,
    terms: NewTerms,
) -> Answer<Reply<InstanceGrant>> {
    // From here on what was given is wiped when it is dropped, however this ends.
    let api_key = api_key.map(Secret::new);
    let additional: Fields = additional.into_iter().collect();
    let (_, spec) = find(api, service)?;
    if spec.auth.kind == AuthKind::Oauth2 {
        let detail = "this service wants OAuth 2: its users connect by themselves, and begin with \
                      `POST /api/v1/services/{service}/oauth/start`";
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "oauth_needed",
            detail,
        ));
    }
    let given = api_key.as_ref().map(|key| key.expose().as_str());
    let fields = credentials::collect(&spec.auth, given, &additional)
        .map_err(|error| bad_credentials(error.to_string()))?;
    check(api, by, user, &spec, &fields).await?;
    let granted = api
        .instances
        .grant_under(
            user,
            &spec.service,
            &spec.prefix,
            Secret::new(fields),
            terms,
            asker,
        )
        .await?;
    let action = if granted.created {
        words::INSTANCE_CREATE
    } else {
        words::INSTANCE_CREDENTIAL
    };
    api.audit
        .record(told(by, action, user, &spec.service, &granted.public));
    let name = &spec.display_name;
    let message = match (granted.created, granted.active) {
        (true, true) => format!("{name} is ready: paste the instance URL into your MCP client"),
        (true, false) => format!(
            "the credential of {name} is stored; your operator has disabled your instance, or it has \
             expired, so that its URL does not answer"
        ),
        (false, true) => {
            format!("the credential of your {name} instance was replaced; its URL is the same")
        }
        (false, false) => format!(
            "the credential of your {name} instance was replaced; it is disabled or has expired, \
             so that its URL does not answer"
        ),
    };
    Ok(Reply(InstanceGrant {
        instance_url: url(api, &granted.id, &spec.service),
        instance_id: granted.id.expose().to_owned(),
        message,
    }))
}

/// What was done with an instance, by its public number.
pub(super) fn told(
    by: &By,
    action: &str,
    user: &UserId,
    service: &ServiceType,
    public: &PublicId,
) -> AuditEntry {
    by.entry(action)
        .with_user(user)
        .with_service(service)
        .with_instance(public)
}

pub(super) fn bad_credentials(detail: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_credentials", detail)
}

/// Only an explicit good answer counts.
pub(super) async fn check(
    api: &Api,
    by: &By,
    user: &UserId,
    spec: &ServiceSpec,
    fields: &Fields,
) -> Answer<()> {
    let checked = api.checker.check(user, spec, fields).await;
    let verdict = checked.map_err(|wait| {
        let name = &spec.display_name;
        let detail = format!("{name} was asked about too many credentials of this user just now");
        let refused = ApiError::rate_limited(wait, detail);
        let (user, service) = (user, &spec.service);
        api.audit
            .refused_credential(by, user, service, refused.code);
        refused
    })?;
    match verdict {
        Verdict::Good => Ok(()),
        Verdict::Wrong { why } => {
            let name = &spec.display_name;
            let refused = bad_credentials(format!("{name} does not accept this credential: {why}"));
            api.audit
                .refused_credential(by, user, &spec.service, refused.code);
            Err(refused)
        }
        Verdict::Unfit { why } => Err(bad_credentials(why)),
        Verdict::CouldNotCheck { why } => {
            let name = &spec.display_name;
            let detail = format!("could not check the credential with {name}: {why}; try again");
            let mut error =
                ApiError::new(StatusCode::BAD_GATEWAY, "validation_unavailable", detail);
            error.retry_after = Some(super::error::RETRY_AFTER_SECONDS);
            Err(error)
        }
    }
}

/// My instance of a service.
#[utoipa::path(get, path = "/api/v1/services/{service}/instance", tag = "instances",
    params(("service" = String, Path)),
    responses((status = 200, body = Instance, headers(("ETag" = String, description = "Its version"))),
              (status = 404, body = Problem)))]
pub(super) async fn get(
    User(user): User,
    State(api): State<Api>,
    Path(service): Path<String>,
) -> Answer<Tagged<Instance>> {
    let service = ServiceType::parse(&service).map_err(|_| none())?;
    let found = api.instances.of(&user, &service).await?.ok_or_else(none)?;
    let counts = api.ledger.requests(&user).await?;
    Ok(Tagged(own(&api, &found, &counts), found.version))
}

/// Removes my instance of a service and its credentials, for good.
#[utoipa::path(delete, path = "/api/v1/services/{service}/instance", tag = "instances",
    params(("service" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    responses((status = 204), (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn remove(
    User(user): User,
    by: By,
    State(api): State<Api>,
    Path(service): Path<String>,
    seen: IfMatch,
) -> Answer<StatusCode> {
    let service = ServiceType::parse(&service).map_err(|_| none())?;
    let row = api.instances.row_of(&user, &service).await?;
    let row = row.ok_or_else(none)?;
    seen.admits(&row)?;
    let consent = oauth::before_removal(&api, &user, &service).await;
    // What an operator has laid down is not undone by removing it.
    let stays = Stays::Terms;
    if !api.instances.remove_seen(&row, seen.0, stays).await? {
        return Err(none());
    }
    oauth::revoke(&api, consent);
    let action = words::INSTANCE_REMOVE;
    api.audit
        .record(told(&by, action, &user, &service, &row.public));
    Ok(StatusCode::NO_CONTENT)
}

/// Gives my instance another URL; the old one is dead at once.
#[utoipa::path(post, path = "/api/v1/services/{service}/instance/rotate", tag = "instances",
    params(("service" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    responses((status = 200, body = InstanceGrant), (status = 404, body = Problem),
              (status = 412, body = Problem)))]
pub(super) async fn rotate(
    User(user): User,
    by: By,
    State(api): State<Api>,
    Path(service): Path<String>,
    seen: IfMatch,
) -> Answer<Reply<InstanceGrant>> {
    let (_, spec) = find(&api, &service)?;
    let rotated = api
        .instances
        .rotate_seen(&user, &spec.service, &spec.prefix, seen.0)
        .await?;
    let granted = rotated.ok_or_else(none)?;
    let action = words::INSTANCE_ROTATE;
    api.audit
        .record(told(&by, action, &user, &spec.service, &granted.public));
    Ok(Reply(InstanceGrant {
        instance_url: url(&api, &granted.id, &spec.service),
        instance_id: granted.id.expose().to_owned(),
        message: if granted.active {
            "this is your new URL; the old one no longer works"
        } else {
            "this is your new URL; it does not answer, since the instance is disabled or has expired"
        }
        .to_owned(),
    }))
}

/// All my instances, in the order of their services.
#[utoipa::path(get, path = "/api/v1/user/instances", params(PageQuery), tag = "instances",
    responses((status = 200, body = List<Instance>)))]
pub(super) async fn mine(
    User(user): User,
    State(api): State<Api>,
    Query(page): Query<PageQuery>,
) -> Answer<Reply<List<Instance>>> {
    let found = api.instances.of_user(&user).await?;
    let counts = api.ledger.requests(&user).await?;
    let page = page.of_services(found, |instance| &instance.service)?;
    Ok(Reply(page.map(|instance| own(&api, &instance, &counts))))
}

/// Which instances, how many of them, and from where.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminListQuery {
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Entries of one page, at most 1000; 200 when not given.
    limit: Option<u32>,
    /// Only those of this user.
    user: Option<String>,
    /// Only those of this service type.
    service: Option<String>,
    /// `true`: only those that answer; `false`: only those that are disabled or have expired.
    active: Option<bool>,
}

/// All instances, without their URLs.
#[utoipa::path(get, path = "/api/v1/admin/instances", params(AdminListQuery), tag = "instances",
    responses((status = 200, body = List<AdminInstance>)))]
pub(super) async fn admin_list(
    _: Admin,
    State(api): State<Api>,
    Query(query): Query<AdminListQuery>,
) -> Answer<Reply<List<AdminInstance>>> {
    let AdminListQuery {
        cursor,
        limit,
        user,
        service,
        active,
    } = query;
    let bad = |error: crate::ids::IdError| ApiError::bad_request(error.to_string());
    let filter = InstanceFilter {
        user: user.map(|id| UserId::parse(&id)).transpose().map_err(bad)?,
        service: service
            .map(|name| ServiceType::parse(&name))
            .transpose()
            .map_err(bad)?,
        active: active.map(|active| (active, Timestamp::now())),
    };
    let cursor = cursor.map(|text| text.parse()).transpose();
    let cursor = cursor.map_err(|_| ApiError::bad_request("`cursor` is none of ours"))?;
    let limit = PageQuery {
        cursor: None,
        limit,
    }
    .size();
    let found = api.instances.all(filter, cursor, limit).await?;
    let next_cursor = found.next.map(|next| next.to_string());
    let seen = |row| AdminInstance::of(&api.instances, row);
    Ok(Reply(List {
        items: found.items.iter().map(seen).collect(),
        next_cursor,
    }))
}

/// Makes an instance for a user.
#[utoipa::path(post, path = "/api/v1/admin/instances", tag = "instances",
    request_body = AdminCreateInstance,
    responses((status = 200, body = InstanceGrant), (status = 400, body = Problem),
              (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 502, body = Problem)))]
pub(super) async fn admin_create(
    _: Admin,
    ShownToken(token): ShownToken,
    by: By,
    State(api): State<Api>,
    Json(request): Json<AdminCreateInstance>,
) -> Answer<Reply<InstanceGrant>> {
    let AdminCreateInstance {
        user,
        service,
        api_key,
        additional_credentials,
        label,
        expires_at,
    } = request;
    let terms = NewTerms {
        label: label.map(|text| parse_label(&text)).transpose()?,
        expires_at,
    };
    if expires_at.is_some_and(|end| end <= Timestamp::now()) {
        let detail = "`expiresAt` is over already; give a time to come, or none";
        return Err(ApiError::bad_request(detail));
    }
    let user = UserId::parse(&user).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let asker = asker(&api, &user, token).await?;
    grant_under(
        &api,
        &by,
        (&user, asker),
        &service,
        api_key,
        additional_credentials,
        terms,
    )
    .await
}

pub(super) fn parse_label(text: &str) -> Answer<Label> {
    Label::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// The number in the path; what is none is the number of no instance.
pub(super) fn number(id: &str) -> Answer<PublicId> {
    PublicId::parse(id).map_err(|_| unknown(id))
}

pub(super) fn unknown(id: &str) -> ApiError {
    let detail = format!("there is no instance `{id}`; `mcpm instances` lists them");
    ApiError::not_found("unknown_instance", detail)
}

/// Removes an instance and its credentials, for good.
#[utoipa::path(delete, path = "/api/v1/admin/instances/{id}", tag = "instances",
    params(("id" = String, Path),
           ("If-Match" = Option<String>, Header, description = "`ETag` of the state to be changed")),
    responses((status = 204), (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn admin_remove(
    _: Admin,
    by: By,
    State(api): State<Api>,
    Path(id): Path<String>,
    seen: IfMatch,
) -> Answer<StatusCode> {
    let public = number(&id)?;
    let row = api.instances.by_public(&public).await?;
    let row = row.ok_or_else(|| unknown(&id))?;
    seen.admits(&row)?;
    let consent = oauth::before_removal(&api, &row.user, &row.service).await;
    let stays = Stays::Nothing;
    if !api.instances.remove_seen(&row, seen.0, stays).await? {
        return Err(unknown(&id));
    }
    oauth::revoke(&api, consent);
    let action = words::INSTANCE_REMOVE;
    let entry = told(&by, action, &row.user, &row.service, &public);
    api.audit.record_now(entry).await;
    Ok(StatusCode::NO_CONTENT)
}
