//! Request path → instance id, service, rest; and the path that the service sees. Pure.
//!
//! Decided once, on the raw path: nothing is decoded, no `//` is joined and no `..` is resolved on
//! the way, so what is checked is what is sent.

use percent_encoding::percent_decode_str;

use crate::config::spec::{Protocol, ServiceSpec};
use crate::ids::PublicId;

/// First segments that are never an instance id: our own pages, and where clients look for OAuth
/// at the root.
const OWN: &[&str] = &["", "api", "health", "metrics", "favicon.ico", "robots.txt"];
const DISCOVERY: &[&str] = &[WELL_KNOWN, "register", "authorize", "token"];
const WELL_KNOWN: &str = ".well-known";
/// Behind [`WELL_KNOWN`], before the path of the resource that is asked about (RFC 9728 §3.1).
const RESOURCE: &str = "oauth-protected-resource/";

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// To the API.
    Own,
    /// To OAuth metadata or endpoints, of which there are none.
    Discovery,
    /// To the metadata of an instance as an OAuth resource, should there be any.
    Metadata(Target<'a>),
    /// To an instance.
    Instance(Target<'a>),
}

/// What the path of an instance URL says. Nothing of it is known to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The secret id, as it stands there.
    pub id: &'a str,
    /// The service type, as it stands there; empty when it is missing.
    pub service: &'a str,
    /// Without the slash before it; may be empty.
    pub rest: &'a str,
}

/// Reads a raw path.
pub fn parse(path: &str) -> Route<'_> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (id, behind) = path.split_once('/').unwrap_or((path, ""));
    if OWN.contains(&id) {
        return Route::Own;
    }
    if DISCOVERY.contains(&id) {
        let resource = if id == WELL_KNOWN {
            behind.strip_prefix(RESOURCE).map(split)
        } else {
            None
        };
        let is_free = |target: &Target<'_>| {
            !OWN.contains(&target.id)
                && !DISCOVERY.contains(&target.id)
                && !target.service.is_empty()
        };
        return resource
            .filter(is_free)
            .map_or(Route::Discovery, Route::Metadata);
    }
    let target = split(path);
    // Some clients append the well-known path to the URL they were given.
    let rest = target.rest;
    if rest.starts_with(".well-known/oauth-") || rest == ".well-known/openid-configuration" {
        return Route::Discovery;
    }
    Route::Instance(target)
}

/// Into the first segment, the second, and the rest.
fn split(path: &str) -> Target<'_> {
    let (id, behind) = path.split_once('/').unwrap_or((path, ""));
    let (service, rest) = behind.split_once('/').unwrap_or((behind, ""));
    Target { id, service, rest }
}

/// The path that the service sees, without a query. `None` for a rest that could leave the part
/// of the path which names the instance.
pub fn upstream(spec: &ServiceSpec, public: &PublicId, rest: &str) -> Option<String> {
    let rest = match (rest, spec.protocol) {
        ("", Protocol::Mcp) => spec.mcp_path.strip_prefix('/').unwrap_or(&spec.mcp_path),
        (rest, _) => rest,
    };
    let by_path = spec.upstream_path.contains("{instance_id}");
    if by_path && climbs(rest) {
        return None;
    }
    // The rest last: what a client writes is no template.
    let path = if by_path {
        spec.upstream_path.replace("{instance_id}", public.as_str())
    } else {
        spec.upstream_path.clone()
    };
    Some(path.replace("{rest}", rest))
}

/// What stands before the rest in the paths that the service sees: `/` or `/ins_…/`.
pub fn head(spec: &ServiceSpec, public: &PublicId) -> String {
    let head = spec.upstream_path.split("{rest}").next().unwrap_or("/");
    head.replace("{instance_id}", public.as_str())
}

/// Has it a segment that a service could read as "here" or "one up", encoded or not?
pub fn climbs(rest: &str) -> bool {
    let dots = |segment: &str| {
        let name = segment.split(';').next().unwrap_or_default();
        percent_decode_str(name).eq(*b".") || percent_decode_str(name).eq(*b"..")
    };
    // An encoded slash or backslash is one for servers that decode first.
    let lower = rest
        .to_ascii_lowercase()
        .replace("%2f", "/")
        .replace("%5c", "/");
    lower.split(['/', '\\']).any(dots)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target<'a>(id: &'a str, service: &'a str, rest: &'a str) -> Route<'a> {
        Route::Instance(Target { id, service, rest })
    }

    fn metadata<'a>(id: &'a str, service: &'a str, rest: &'a str) -> Route<'a> {
        Route::Metadata(Target { id, service, rest })
    }

    #[test]
    fn paths_are_split_and_nothing_else() {
        for (path, expected) in [
            ("/", Route::Own),
            ("", Route::Own),
            ("//x/y", Route::Own),
            ("/api/v1/services", Route::Own),
            ("/health", Route::Own),
            ("/healthy/x", target("healthy", "x", "")),
            (
                "/.well-known/oauth-protected-resource/id/svc",
                metadata("id", "svc", ""),
            ),
            (
                "/.well-known/oauth-protected-resource/id/svc/mcp",
                metadata("id", "svc", "mcp"),
            ),
            (
                "/.well-known/oauth-protected-resource/.well-known/oauth-protected-resource/a/b",
                Route::Discovery,
            ),
            ("/.well-known/oauth-protected-resource", Route::Discovery),
            ("/.well-known/oauth-protected-resource/", Route::Discovery),
            ("/.well-known/oauth-protected-resource/id", Route::Discovery),
            (
                "/.well-known/oauth-protected-resource//svc",
                Route::Discovery,
            ),
            (
                "/.well-known/oauth-protected-resource/api/v1",
                Route::Discovery,
            ),
            (
                "/.well-known/oauth-authorization-server/id/svc",
                Route::Discovery,
            ),
            ("/register", Route::Discovery),
            (
                "/id/svc/.well-known/oauth-authorization-server",
                Route::Discovery,
            ),
            (
                "/id/svc/.well-known/other",
                target("id", "svc", ".well-known/other"),
            ),
            ("/id", target("id", "", "")),
            ("/id/", target("id", "", "")),
            ("/id/svc", target("id", "svc", "")),
            ("/id/svc/", target("id", "svc", "")),
            ("/id/svc/mcp", target("id", "svc", "mcp")),
            ("/id/svc//a/../b/", target("id", "svc", "/a/../b/")),
            ("/id/svc/a%2Fb", target("id", "svc", "a%2Fb")),
            ("/%69d/svc/x", target("%69d", "svc", "x")),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }

    fn spec(upstream_path: &str, protocol: Protocol) -> ServiceSpec {
        let mut spec = super::super::tests::service_spec("demo", 49160);
        spec.upstream_path = upstream_path.to_owned();
        spec.protocol = protocol;
        spec
    }

    #[test]
    fn the_service_sees_the_rest_where_it_wants_it() {
        let public = PublicId::parse("ins_abcdefghijkl").unwrap();
        let check = |template: &str, protocol, rest: &str, expected: Option<&str>| {
            let got = upstream(&spec(template, protocol), &public, rest);
            assert_eq!(got.as_deref(), expected, "{template} {rest}");
        };
        check("/{rest}", Protocol::Mcp, "", Some("/mcp"));
        check("/{rest}", Protocol::Http, "", Some("/"));
        check("/{rest}", Protocol::Mcp, "a//../b/", Some("/a//../b/"));
        check(
            "/{rest}",
            Protocol::Mcp,
            "{instance_id}",
            Some("/{instance_id}"),
        );
        let by_path = "/{instance_id}/{rest}";
        check(by_path, Protocol::Mcp, "", Some("/ins_abcdefghijkl/mcp"));
        check(by_path, Protocol::Mcp, "a/b", Some("/ins_abcdefghijkl/a/b"));
        check(
            by_path,
            Protocol::Mcp,
            "a..b/...",
            Some("/ins_abcdefghijkl/a..b/..."),
        );
        for climbing in [
            "..",
            "a/../../ins_b/",
            "%2e%2E/x",
            "a/.%2e",
            "..;x/y",
            "..%2fx",
            "a\\..\\b",
        ] {
            check(by_path, Protocol::Mcp, climbing, None);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(path in "/[a-z%./]{0,40}") {
            if let Route::Instance(Target { id, service, rest }) = parse(&path) {
                let whole = format!("/{id}/{service}/{rest}");
                prop_assert_eq!(whole.trim_end_matches('/'), path.trim_end_matches('/'));
                prop_assert!(!id.contains('/') && !service.contains('/'));
            }
        }

        #[test]
        fn no_rest_leaves_its_instances_path(rest in "[.%2eEfF5cC/;a\\\\]{0,12}") {
            let public = PublicId::parse("ins_abcdefghijkl").unwrap();
            let spec = spec("/{instance_id}/{rest}", Protocol::Mcp);
            if let Some(path) = upstream(&spec, &public, &rest) {
                let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
                let climbs = decoded.split(['/', '\\']).any(|part| part == "..");
                prop_assert!(!climbs, "{path}");
            }
        }
    }
}
