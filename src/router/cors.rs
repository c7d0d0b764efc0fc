//! Pages of other origins that the operator has named: what browsers have to hear. Pure.
//!
//! The protocol is that of the Fetch standard. An answer names the one origin that asked, never `*`,
//! and never allows credentials: a page shows its token in `Authorization`, and there are no cookies.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, VARY,
};
use http::{Method, Request, Response, StatusCode};

use super::headers::REQUEST_ID;
use super::origin::Names;
use super::stream::Body;

/// What the API and MCP are spoken with.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// Where a page does not say what it wants to send: what MCP clients do.
const HEADERS: &str = "authorization, content-type, accept, mcp-protocol-version, mcp-session-id, \
                       last-event-id, mcp-method, mcp-name";
/// What a page may read of an answer, beside what every page may.
const EXPOSED: &str = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, X-MCPM-Request-Id, \
                       Retry-After, ETag, Location";
/// Seconds for which a browser need not ask again.
const MAX_AGE: &str = "600";

/// The headers that answer a preflight; `None` when the request is none, or not of such a page. A
/// preflight shows no token, so it is answered before anything else.
pub(super) fn preflight<B>(names: &Names, request: &Request<B>) -> Option<HeaderMap> {
    let asked = request.headers();
    if *request.method() != Method::OPTIONS || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    names.page(asked)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    // The page may be trusted with any header: what of it reaches a service is decided elsewhere.
    let wanted = asked
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .filter(|wanted| is_list(wanted.as_bytes()));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        wanted.map_or(HeaderValue::from_static(HEADERS), HeaderValue::clone),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    Some(headers)
}

/// The answer to a preflight, which has no body.
pub(super) fn allow(headers: HeaderMap, request_id: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    response
        .headers_mut()
        .insert(REQUEST_ID, request_id.clone());
    response
}

/// Lets a page read an answer. `page` is its origin; without one nothing but caches is told.
pub(super) fn expose(headers: &mut HeaderMap, page: Option<HeaderValue>) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(page) = page {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
}

/// Names of headers with commas between them.
fn is_list(text: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_, ".contains(b);
    text.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example.com";

    fn names() -> Names {
        Names::new(true, None).with_pages(&[APP.to_owned()])
    }

    fn asks(method: &str, headers: &[(&str, &str)]) -> Option<HeaderMap> {
        let mut request = Request::builder().method(method).uri("/a/b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        preflight(&names(), &request.body(()).unwrap())
    }

    #[test]
    fn a_page_that_may_call_may_send_what_it_asks_for() {
        let wanted = "authorization,mcp-protocol-version,mcp-param-x";
        let headers = asks(
            "OPTIONS",
            &[
                ("origin", APP),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", wanted),
            ],
        )
        .unwrap();
        assert_eq!(headers["access-control-allow-headers"], wanted);
        let methods = headers["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.contains("DELETE") && methods.contains("POST"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let odd = asks(
            "OPTIONS",
            &[
                ("origin", APP),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "x: y"),
            ],
        )
        .unwrap();
        assert_eq!(odd["access-control-allow-headers"], HEADERS);
    }

    #[test]
    fn what_is_no_preflight_of_such_a_page_goes_its_way() {
        let method = ("access-control-request-method", "POST");
        assert!(asks("OPTIONS", &[("origin", APP)]).is_none());
        assert!(asks("POST", &[("origin", APP), method]).is_none());
        assert!(asks("OPTIONS", &[("origin", "https://evil.example"), method]).is_none());
        assert!(asks("OPTIONS", &[method]).is_none());
    }

    #[test]
    fn an_answer_names_the_one_origin_that_asked() {
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        expose(&mut headers, Some(HeaderValue::from_static(APP)));
        assert_eq!(headers["access-control-allow-origin"], APP);
        let exposed = headers["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("Mcp-Session-Id") && exposed.contains("WWW-Authenticate"));
        assert_eq!(headers.get_all(VARY).iter().count(), 2);
        let mut others = HeaderMap::new();
        expose(&mut others, None);
        assert_eq!(others.len(), 1);
    }
}
