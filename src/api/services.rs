//! `/api/v1/services`: the catalogue, and a user's way into a service.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::door::{Admin, Json, Known, Query, Reply, UserToken};
use super::error::{Answer, ApiError};
use super::instances::{InstanceGrant, asker};
use super::paging::PageQuery;
use super::processes::Health;
use super::state::Api;
use super::{List, Problem};
use crate::audit::By;
use crate::config::spec::{AuthField, AuthKind, ServiceSpec};
use crate::ids::ServiceType;
use crate::supervisor;

/// One service, as users see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Service type, as in URLs.
    pub service: String,
    /// Name for people.
    pub display_name: String,
    /// For people.
    pub description: Option<String>,
    /// For people.
    pub category: Option<String>,
    /// For people.
    pub icon_url: Option<String>,
    /// `none`, `api_key`, `bearer_token`, `basic_auth` or `oauth2`.
    pub auth_type: String,
    /// What a user must give.
    pub fields: Vec<Field>,
    /// What else: consent, where the type is `oauth2` and its provider is known.
    #[serde(default)]
    pub oauth: Option<Consent>,
    /// May it get traffic, and what the checks say.
    pub health: Health,
}

/// A service as its operator sees it: `GET /api/v1/admin/services`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminService {
    /// What users see.
    #[serde(flatten)]
    pub service: Service,
    /// The app that serves it.
    pub app: String,
    /// Its fixed port.
    pub port: u16,
    /// How many instances users have.
    pub instances: u64,
}

/// What a user is asked for by the provider of a service: begin with `POST …/oauth/start`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consent {
    /// The scopes.
    pub scopes: Vec<String>,
}

/// What a user must give.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// Name, as in `additionalCredentials`.
    pub name: String,
    /// Hide it while it is typed.
    pub secret: bool,
    /// Must be given.
    pub required: bool,
    /// For people.
    pub description: Option<String>,
}

/// `POST /api/v1/services/{type}/authenticate`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticateRequest {
    /// Fills the field `api_key`, else the first required secret field.
    #[serde(default)]
    pub api_key: Option<String>,
    /// The other fields, by name.
    #[serde(default)]
    pub additional_credentials: BTreeMap<String, String>,
}

// ── handlers ──

fn view(process: &supervisor::Process, mcp: &ServiceSpec) -> Service {
    let field = |field: &AuthField| Field {
        name: field.name.clone(),
        secret: field.secret,
        required: field.required,
        description: field.description.clone(),
    };
    Service {
        service: mcp.service.to_string(),
        display_name: mcp.display_name.clone(),
        description: mcp.description.clone(),
        category: mcp.category.clone(),
        icon_url: mcp.icon_url.clone(),
        auth_type: match mcp.auth.kind {
            AuthKind::None => "none",
            AuthKind::ApiKey => "api_key",
            AuthKind::BearerToken => "bearer_token",
            AuthKind::BasicAuth => "basic_auth",
            AuthKind::Oauth2 => "oauth2",
        }
        .to_owned(),
        fields: mcp.auth.fields.iter().map(field).collect(),
        oauth: mcp.auth.oauth.as_ref().map(|oauth| Consent {
            scopes: oauth.scopes.clone(),
        }),
        health: super::processes::health(&process.health),
    }
}

/// One process per service type, by type.
fn all(api: &Api) -> BTreeMap<ServiceType, Arc<supervisor::Process>> {
    let mut services: BTreeMap<ServiceType, Arc<supervisor::Process>> = BTreeMap::new();
    for process in &api.supervisor.snapshot().processes {
        let Some(mcp) = &process.spec.mcp else {
            continue;
        };
        let known = services.get(&mcp.service);
        if known.is_none_or(|known| known.pid.is_none() && process.pid.is_some()) {
            services.insert(mcp.service.clone(), process.clone());
        }
    }
    services
}

/// The service of this type and its process.
pub(super) fn find(api: &Api, service: &str) -> Answer<(Arc<supervisor::Process>, ServiceSpec)> {
    let unknown = || {
        let detail = "there is no such service; `GET /api/v1/services` lists them";
        ApiError::not_found("unknown_service", detail)
    };
    let service = ServiceType::parse(service).map_err(|_| unknown())?;
    let process = api.service(&service).ok_or_else(unknown)?;
    let spec = process.spec.mcp.clone().ok_or_else(unknown)?;
    Ok((process, spec))
}

/// The catalogue, in the order of its types.
#[utoipa::path(get, path = "/api/v1/services", params(PageQuery), tag = "services",
    responses((status = 200, body = List<Service>)))]
pub(super) async fn list(
    _: Known,
    State(api): State<Api>,
    Query(page): Query<PageQuery>,
) -> Answer<Reply<List<Service>>> {
    let all = all(&api).into_values().filter_map(|process| {
        let mcp = process.spec.mcp.clone()?;
        Some((process, mcp))
    });
    let page = page.of_services(all, |(_, mcp)| &mcp.service)?;
    Ok(Reply(page.map(|(process, mcp)| view(&process, &mcp))))
}

/// One service.
#[utoipa::path(get, path = "/api/v1/services/{service}", tag = "services",
    params(("service" = String, Path)),
    responses((status = 200, body = Service), (status = 404, body = Problem)))]
pub(super) async fn get(
    _: Known,
    State(api): State<Api>,
    Path(service): Path<String>,
) -> Answer<Reply<Service>> {
    let (process, spec) = find(&api, &service)?;
    Ok(Reply(view(&process, &spec)))
}

/// All services with what operators want to know of them.
#[utoipa::path(get, path = "/api/v1/admin/services", tag = "services",
    responses((status = 200, body = List<AdminService>)))]
pub(super) async fn admin_list(_: Admin, State(api): State<Api>) -> Reply<List<AdminService>> {
    let counts = api.instances.counts();
    let view = |(service, process): (ServiceType, Arc<supervisor::Process>)| {
        let mcp = process.spec.mcp.as_ref()?;
        Some(AdminService {
            service: view(&process, mcp),
            app: process.spec.name.to_string(),
            port: mcp.port.get(),
            instances: counts.get(&service).copied().unwrap_or(0),
        })
    };
    Reply(List::whole(
        all(&api).into_iter().filter_map(view).collect(),
    ))
}

/// Checks the credential, seals it and makes the caller's instance; one that exists keeps its URL
/// and gets the new credential.
#[utoipa::path(post, path = "/api/v1/services/{service}/authenticate", tag = "services",
    params(("service" = String, Path)), request_body = AuthenticateRequest,
    responses((status = 200, body = InstanceGrant), (status = 400, body = Problem),
              (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 502, body = Problem)))]
pub(super) async fn authenticate(
    UserToken { user, token }: UserToken,
    by: By,
    State(api): State<Api>,
    Path(service): Path<String>,
    Json(request): Json<AuthenticateRequest>,
) -> Answer<Reply<InstanceGrant>> {
    let AuthenticateRequest {
        api_key,
        additional_credentials,
    } = request;
    let owner = (&user, asker(&api, &user, Some(token)).await?);
    super::instances::grant(&api, &by, owner, &service, api_key, additional_credentials).await
}
