//! `/api/v1/services`: the catalogue, and a user's way into a service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::processes::Health;

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
