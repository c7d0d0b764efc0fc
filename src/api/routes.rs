//! Every call in one table, with its documentation: a call that is routed is documented.

use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::door::{self, Door, Known, Reply};
use super::gate::{self, Gate};
use super::state::Api;
use super::{
    audit, daemon, ends, exits, import, instance_changes, instances, keys, limits, logs, metrics,
    oauth, openapi, process_orders, process_table, processes, saved, services, tokens, usage,
    users,
};

/// The document's frame; paths and types come from the routes.
#[derive(OpenApi)]
#[openapi(info(
    title = "mcpm",
    description = "Services, instances and processes of one mcpm daemon."
))]
struct Frame;

fn table() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .routes(routes!(daemon::health))
        .routes(routes!(metrics::metrics))
        .routes(routes!(services::list))
        .routes(routes!(services::get))
        .routes(routes!(services::authenticate))
        .routes(routes!(oauth::start))
        .routes(routes!(oauth::open))
        .routes(routes!(oauth::callback))
        .routes(routes!(
            instances::get,
            instances::remove,
            instance_changes::change_own
        ))
        .routes(routes!(instances::rotate))
        .routes(routes!(instances::mine))
        .routes(routes!(usage::mine))
        .routes(routes!(daemon::info))
        .routes(routes!(daemon::config))
        .routes(routes!(daemon::stop))
        .routes(routes!(daemon::update))
        .routes(routes!(processes::list, processes::start))
        .routes(routes!(process_table::table))
        .routes(routes!(exits::list))
        .routes(routes!(processes::watch))
        .routes(routes!(processes::act))
        .routes(routes!(process_orders::scale))
        .routes(routes!(process_orders::reload))
        .routes(routes!(process_orders::reset))
        .routes(routes!(process_orders::unwatch))
        .routes(routes!(process_orders::signal))
        .routes(routes!(process_orders::send))
        .routes(routes!(logs::read))
        .routes(routes!(logs::flush))
        .routes(routes!(logs::reopen))
        .routes(routes!(saved::save, saved::clear))
        .routes(routes!(saved::resurrect))
        .routes(routes!(services::admin_list))
        .routes(routes!(instances::admin_list, instances::admin_create))
        .routes(routes!(
            instances::admin_remove,
            instance_changes::admin_get,
            instance_changes::change_any
        ))
        .routes(routes!(instance_changes::admin_rotate))
        .routes(routes!(import::import))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::get, users::remove))
        .routes(routes!(users::disable))
        .routes(routes!(users::enable))
        .routes(routes!(users::set_group))
        .routes(routes!(limits::get))
        .routes(routes!(tokens::list, tokens::add, tokens::revoke_all))
        .routes(routes!(tokens::revoke))
        .routes(routes!(
            tokens::admin_list,
            tokens::admin_add,
            tokens::admin_revoke_all
        ))
        .routes(routes!(tokens::admin_revoke))
        .routes(routes!(
            tokens::mine,
            tokens::add_mine,
            tokens::revoke_all_mine
        ))
        .routes(routes!(tokens::revoke_mine))
        .routes(routes!(keys::get))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::cancel))
        .routes(routes!(usage::admin_list))
        .routes(routes!(audit::list))
        .routes(routes!(document))
}

fn whole() -> utoipa::openapi::OpenApi {
    openapi::complete(table().into_openapi())
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "daemon", responses((status = 200)))]
async fn document(_: Known, State(_): State<Api>) -> Reply<utoipa::openapi::OpenApi> {
    Reply(whole())
}

/// The API behind one door, and behind the gate of both.
pub fn service(api: Api, door: Door, gate: Gate) -> axum::Router {
    let (router, _) = table().split_for_parts();
    router
        .layer(from_fn(ends::with_token))
        .layer(from_fn_with_state(gate, gate::pass))
        .layer(from_fn_with_state(door, door::came_through))
        .layer(from_fn(door::dress))
        .with_state(api)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_call_is_in_the_document() {
        let document = serde_json::to_value(whole()).unwrap();
        for path in [
            "/health",
            "/metrics",
            "/api/v1/services/{service}/authenticate",
            "/api/v1/services/{service}/oauth/start",
            "/api/v1/oauth/callback",
            "/api/v1/services/{service}/instance/rotate",
            "/api/v1/user/instances",
            "/api/v1/user/usage",
            "/api/v1/admin/usage",
            "/api/v1/admin/processes/{action}",
            "/api/v1/admin/processes/exits",
            "/api/v1/admin/users/{id}/tokens/{number}",
            "/api/v1/user/tokens",
            "/api/v1/admin/audit",
            "/api/v1/admin/instances/{id}/rotate",
            "/api/v1/admin/instances/import",
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

    #[test]
    fn a_generator_can_use_the_document() {
        let document = serde_json::to_value(whole()).unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, call) in item.as_object().unwrap() {
                let at = format!("{method} {path}");
                let name = call["operationId"].as_str().unwrap();
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
                assert!(names.insert(name.to_owned()), "{at}: {name} is there twice");
                let none = Vec::new();
                let parameters = call["parameters"].as_array().unwrap_or(&none);
                let of_path = parameters.iter().filter(|it| it["in"] == "path");
                let mut said: Vec<_> = of_path.map(|it| it["name"].as_str().unwrap()).collect();
                let mut there: Vec<_> = path.split(['{', '}']).skip(1).step_by(2).collect();
                said.sort_unstable();
                there.sort_unstable();
                assert_eq!(said, there, "{at}");
            }
        }
        assert!(names.contains("deleteAdminUsersByIdTokensByNumber"));
        // What must be there is said to, and nothing else.
        let required =
            |path: &str| document["paths"][path]["post"]["requestBody"]["required"].as_bool();
        assert_ne!(required("/api/v1/admin/flush"), Some(true));
        assert_eq!(required("/api/v1/admin/users"), Some(true));
        let parameters = &document["paths"]["/api/v1/oauth/callback"]["get"]["parameters"];
        let parameters = parameters.as_array().unwrap().iter();
        let musts: Vec<_> = parameters.filter(|it| it["required"] == true).collect();
        assert_eq!(musts.len(), 1);
        assert_eq!(musts[0]["name"], "state");
        for (path, status) in [
            ("/api/v1/admin/processes", "409"),
            ("/api/v1/admin/instances", "409"),
            ("/api/v1/admin/instances", "502"),
            ("/api/v1/services/{service}/authenticate", "409"),
        ] {
            let responses = &document["paths"][path]["post"]["responses"];
            assert!(responses[status].is_object(), "{path} {status}");
        }
        let times = &document["components"]["schemas"]["Instance"]["properties"];
        for time in ["createdAt", "expiresAt"] {
            assert_eq!(times[time]["format"], "date-time", "{time}");
        }
    }

    #[test]
    fn the_document_says_who_may_call_and_what_is_refused_how() {
        let document = serde_json::to_value(whole()).unwrap();
        assert_eq!(document["security"], json!([{ "token": [] }]));
        assert_eq!(
            document["components"]["securitySchemes"]["token"],
            json!({ "type": "http", "scheme": "bearer" })
        );
        assert!(
            document["components"]["schemas"]["Problem"]["properties"]["requestId"].is_object()
        );
        let mut calls = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, call) in item.as_object().unwrap() {
                calls += 1;
                let at = format!("{method} {path}");
                let open = path == "/health" || path.starts_with("/api/v1/oauth/");
                assert_eq!(call["security"] == json!([{}]), open, "{at}");
                let statuses = call["responses"].as_object().unwrap();
                assert_eq!(statuses.contains_key("401"), !open, "{at}");
                let admin = path.contains("/admin/");
                assert!(!admin || statuses.contains_key("403"), "{at}");
                let asks = call.get("requestBody").is_some() || call.get("parameters").is_some();
                assert!(!asks || statuses.contains_key("400"), "{at}");
                for (status, response) in statuses {
                    let text = response["description"].as_str().unwrap_or_default();
                    assert!(!text.is_empty(), "{at} {status}");
                    if status.starts_with(['4', '5']) {
                        let schema = &response["content"]["application/problem+json"]["schema"];
                        assert_eq!(
                            schema["$ref"], "#/components/schemas/Problem",
                            "{at} {status}"
                        );
                        assert_eq!(response["content"].as_object().unwrap().len(), 1, "{at}");
                    }
                }
                assert!(call["summary"].is_string(), "{at}");
            }
        }
        assert!(calls >= 28, "{calls}");
        // Every schema that is referred to is there.
        let text = document.to_string();
        for name in text.split("#/components/schemas/").skip(1) {
            let name = name.split('"').next().unwrap_or_default();
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{name}"
            );
        }
    }
}
