//! What every call has in common, put into the OpenAPI document once. Pure.
//!
//! A call's own annotation says what it alone answers; here come the token, the refusals of the
//! door (`door.rs`), the form of all errors, the words for parameters that come in many paths, a name
//! for each call that no other one has, and which bodies may be left out.

use std::collections::BTreeSet;

use http::StatusCode;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref, RefOr, Required};
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
    let optional = schemas_without_demands(&components.schemas);
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(name(method, path));
            if let Some(RefOr::T(body)) = &mut operation.request_body
                && may_be_left_out(body, &optional)
            {
                body.required = Some(Required::False);
            }
            finish(operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// What programs that are generated from the document call it: `getAdminUsersById`. Of each there is one,
/// as of each path and method.
fn name(method: &str, path: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let mut name = method.to_owned();
    for segment in path.split('/') {
        let word = match segment.strip_prefix('{') {
            Some(parameter) => {
                name.push_str("By");
                parameter.trim_end_matches('}')
            }
            None => segment.trim_end_matches(".json"),
        };
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// Objects that may be empty. No body is read as an empty one (`door.rs`).
fn schemas_without_demands<'a>(
    schemas: impl IntoIterator<Item = (&'a String, &'a RefOr<Schema>)>,
) -> BTreeSet<String> {
    let demands_nothing = |schema: &RefOr<Schema>| match schema {
        RefOr::T(Schema::Object(object)) => object.required.is_empty(),
        _ => false,
    };
    schemas
        .into_iter()
        .filter(|(_, schema)| demands_nothing(schema))
        .map(|(name, _)| name.clone())
        .collect()
}

fn may_be_left_out(body: &RequestBody, optional: &BTreeSet<String>) -> bool {
    let is_optional = |content: &RefOr<Content>| {
        let RefOr::T(content) = content else {
            return false;
        };
        let Some(RefOr::Ref(to)) = &content.schema else {
            return false;
        };
        let name = to.ref_location.rsplit('/').next();
        name.is_some_and(|name| optional.contains(name))
    };
    body.content.values().all(is_optional)
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
