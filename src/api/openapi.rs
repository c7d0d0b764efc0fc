//! What every call has in common, put into the OpenAPI document once. Pure.
//!
//! A call's own annotation says what it alone answers; here come the token, the refusals of the
//! door (`door.rs`), the form of all errors, and the words for parameters that come in many paths.

use http::StatusCode;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::Problem;

const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";

/// Adds it to a document that has all calls.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
    let problem: RefOr<Schema> = Problem::schema();
    components
        .schemas
        .insert(Problem::name().into_owned(), problem);
    document.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            finish(operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    all.into_iter().flatten()
}

fn finish(operation: &mut Operation) {
    let mut refusals = vec![StatusCode::INTERNAL_SERVER_ERROR];
    // A call that says so itself is open to all.
    if operation.security.is_none() {
        refusals.push(StatusCode::UNAUTHORIZED);
        refusals.push(StatusCode::FORBIDDEN);
        refusals.push(StatusCode::SERVICE_UNAVAILABLE);
        refusals.push(StatusCode::TOO_MANY_REQUESTS);
    }
    if operation.request_body.is_some() {
        refusals.extend([StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE]);
    }
    let parameters = operation.parameters.iter_mut().flatten();
    for parameter in parameters {
        if let RefOr::T(parameter) = parameter {
            refusals.push(StatusCode::BAD_REQUEST);
            describe(parameter);
        }
    }
    let responses = &mut operation.responses.responses;
    for status in refusals {
        responses
            .entry(status.as_str().to_owned())
            .or_insert_with(|| RefOr::T(Response::default()));
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            finish_response(status, response);
        }
    }
}

fn finish_response(status: &str, response: &mut Response) {
    let status = status.parse::<u16>().ok();
    let Some(status) = status.and_then(|code| StatusCode::from_u16(code).ok()) else {
        return;
    };
    if response.description.is_empty() {
        response.description = status.canonical_reason().unwrap_or("Answer").to_owned();
    }
    if status.is_client_error() || status.is_server_error() {
        response.content.shift_remove(JSON);
        let problem = Content::new(Some(Ref::from_schema_name(Problem::name())));
        response
            .content
            .insert(PROBLEM_JSON.to_owned(), RefOr::T(problem));
    }
}

fn describe(parameter: &mut Parameter) {
    let words = match parameter.name.as_str() {
        "service" => "Service type, as `GET /api/v1/services` lists it",
        "id" => "Public number of the instance, or id of the user",
        "number" => "Number of the token, as the list of tokens shows it",
        _ => return,
    };
    parameter
        .description
        .get_or_insert_with(|| words.to_owned());
}
