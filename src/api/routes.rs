//! Every call in one table, with its documentation: a call that is routed is documented.

use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::door::{self, Door, Known, Reply};
use super::state::Api;
use super::{daemon, instances, logs, processes, saved, services, users};

/// The document's frame; paths and types come from the routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "mcpm", description = "Services, instances and processes of one mcpm daemon."),
    modifiers(&BearerToken)
)]
struct Frame;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        let needed = utoipa::openapi::security::SecurityRequirement::new("token", [""; 0]);
        document.security = Some(vec![needed]);
    }
}

fn table() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .routes(routes!(daemon::health))
        .routes(routes!(services::list))
        .routes(routes!(services::get))
        .routes(routes!(services::authenticate))
        .routes(routes!(instances::get, instances::remove))
        .routes(routes!(instances::rotate))
        .routes(routes!(instances::mine))
        .routes(routes!(daemon::info))
        .routes(routes!(daemon::config))
        .routes(routes!(daemon::stop))
        .routes(routes!(processes::list, processes::start))
        .routes(routes!(processes::watch))
        .routes(routes!(processes::act))
        .routes(routes!(logs::read))
        .routes(routes!(logs::flush))
        .routes(routes!(logs::reopen))
        .routes(routes!(saved::save))
        .routes(routes!(saved::resurrect))
        .routes(routes!(services::admin_list))
        .routes(routes!(instances::admin_list, instances::admin_create))
        .routes(routes!(instances::admin_remove))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::remove))
        .routes(routes!(users::add_token))
        .routes(routes!(users::add_admin_token))
        .routes(routes!(document))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "daemon", responses((status = 200)))]
async fn document(_: Known, State(_): State<Api>) -> Reply<utoipa::openapi::OpenApi> {
    Reply(table().into_openapi())
}

/// The API behind one door.
pub fn service(api: Api, door: Door) -> axum::Router {
    let (router, _) = table().split_for_parts();
    router
        .layer(from_fn_with_state(door, door::came_through))
        .layer(from_fn(door::dress))
        .with_state(api)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_in_the_document() {
        let document = serde_json::to_value(table().into_openapi()).unwrap();
        for path in [
            "/health",
            "/api/v1/services/{service}/authenticate",
            "/api/v1/services/{service}/instance/rotate",
            "/api/v1/user/instances",
            "/api/v1/admin/processes/{action}",
            "/api/v1/openapi.json",
        ] {
            assert!(document["paths"].get(path).is_some(), "{path}");
        }
        assert!(
            document["components"]["schemas"]
                .get("InstanceGrant")
                .is_some()
        );
    }
}
