//! An instance as an OAuth protected resource: its metadata (RFC 9728), and the challenge that leads to
//! them. Pure.
//!
//! Everything is said of any id alike, so that nothing tells whether there is such an instance: a
//! document repeats the path that it was asked for under the public URL, never under a client's `Host`.

use http::HeaderValue;
use serde_json::json;

use super::path::Target;
use crate::identity::Resource;

/// What is wrong with a request's token (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is none, which has no code.
    Missing,
    /// It does not count.
    Invalid,
    /// It lacks a scope.
    Scope,
}

/// The document for the resource at this path.
pub(super) fn metadata(public_url: &str, target: &Target<'_>, resource: &Resource) -> String {
    let Target { id, service, rest } = target;
    let mut url = format!("{public_url}/{id}/{service}");
    if !rest.is_empty() {
        url.push('/');
        url.push_str(rest);
    }
    let mut document = json!({
        "resource": url,
        "authorization_servers": resource.authorization_servers,
        "bearer_methods_supported": ["header"],
    });
    if !resource.scopes.is_empty() {
        document["scopes_supported"] = json!(resource.scopes);
    }
    document.to_string()
}

/// `WWW-Authenticate`. Without a provider it says what kind of token is wanted, and no more.
pub(super) fn challenge(
    public_url: &str,
    target: &Target<'_>,
    resource: Option<&Resource>,
    fault: Fault,
) -> HeaderValue {
    let mut parts = Vec::new();
    match fault {
        Fault::Missing => {}
        Fault::Invalid => parts.push("error=\"invalid_token\"".to_owned()),
        Fault::Scope => parts.push("error=\"insufficient_scope\"".to_owned()),
    }
    if let Some(resource) = resource {
        let Target { id, service, .. } = target;
        let (id, service) = (quotable(id), quotable(service));
        parts.push(format!(
            "resource_metadata=\"{public_url}/.well-known/oauth-protected-resource/{id}/{service}\""
        ));
        if !resource.scopes.is_empty() {
            parts.push(format!("scope=\"{}\"", resource.scopes.join(" ")));
        }
    }
    let text = format!("Bearer {}", parts.join(", "));
    // A path is ASCII; whatever else came, the scheme alone is an honest answer.
    HeaderValue::try_from(text.trim_end()).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// A segment of a path, fit for a quoted string (RFC 9110 §5.6.4).
fn quotable(segment: &str) -> String {
    segment.replace('"', "%22").replace('\\', "%5C")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const PUBLIC: &str = "https://mcp.example.com";

    fn target(rest: &'static str) -> Target<'static> {
        Target {
            id: "dem_1_x",
            service: "demo",
            rest,
        }
    }

    fn resource(scopes: &[&str]) -> Resource {
        Resource {
            authorization_servers: vec!["https://id.example.com".into()],
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        }
    }

    #[test]
    fn a_document_is_of_the_very_url_that_was_used() {
        let read = |rest, scopes: &[&str]| -> Value {
            let text = metadata(PUBLIC, &target(rest), &resource(scopes));
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(
            read("", &[]),
            json!({
                "resource": "https://mcp.example.com/dem_1_x/demo",
                "authorization_servers": ["https://id.example.com"],
                "bearer_methods_supported": ["header"],
            })
        );
        let with_rest = read("mcp", &["mcp", "read"]);
        assert_eq!(
            with_rest["resource"],
            "https://mcp.example.com/dem_1_x/demo/mcp"
        );
        assert_eq!(with_rest["scopes_supported"], json!(["mcp", "read"]));
    }

    #[test]
    fn a_challenge_says_where_a_token_is_to_be_had() {
        let check = |resource: Option<&Resource>, fault, expected: &str| {
            let made = challenge(PUBLIC, &target("mcp"), resource, fault);
            assert_eq!(made, expected);
        };
        check(None, Fault::Missing, "Bearer");
        check(None, Fault::Invalid, "Bearer error=\"invalid_token\"");
        let at = "resource_metadata=\"https://mcp.example.com/.well-known/\
                  oauth-protected-resource/dem_1_x/demo\"";
        let (plain, scoped) = (resource(&[]), resource(&["mcp", "read"]));
        check(Some(&plain), Fault::Missing, &format!("Bearer {at}"));
        check(
            Some(&plain),
            Fault::Invalid,
            &format!("Bearer error=\"invalid_token\", {at}"),
        );
        check(
            Some(&scoped),
            Fault::Scope,
            &format!("Bearer error=\"insufficient_scope\", {at}, scope=\"mcp read\""),
        );
        let odd = Target {
            id: "a\"b\\c",
            service: "demo",
            rest: "",
        };
        let made = challenge(PUBLIC, &odd, Some(&plain), Fault::Missing);
        assert!(made.to_str().unwrap().contains("/a%22b%5Cc/demo\""));
    }
}
