//! Who is calling: read from the headers of one request, borrowed, never kept.
//!
//! The router sets these headers and strips what a client sends under their names, and `serve.rs`
//! has checked that the request comes from the router. So they are true.

use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use rmcp::RoleServer;
use rmcp::service::RequestContext;

/// The caller of one request.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    headers: &'a HeaderMap,
    query: &'a str,
}

impl<'a> Caller<'a> {
    /// The caller behind an MCP request: `rmcp` hands over the HTTP request's head, of this
    /// request and not of the one that opened a session.
    pub(super) fn of(context: &'a RequestContext<RoleServer>) -> Option<Self> {
        context.extensions.get::<Parts>().map(Self::from_parts)
    }

    /// The caller behind an HTTP request's head.
    pub(super) fn from_parts(parts: &'a Parts) -> Self {
        Self {
            headers: &parts.headers,
            query: parts.uri.query().unwrap_or_default(),
        }
    }

    /// The user's id. The router percent-encodes it, since ids may hold any characters.
    pub(super) fn user(&self) -> Option<String> {
        let text = self.text("x-mcpm-user-id")?;
        percent_decode_str(text).decode_utf8().ok().map(Into::into)
    }

    /// The instance's public number, `ins_…`.
    pub(super) fn instance(&self) -> Option<&'a str> {
        self.text("x-mcpm-instance-id")
    }

    /// The service type under which the router reached us.
    pub(super) fn service(&self) -> Option<&'a str> {
        self.text("x-mcpm-service")
    }

    /// Under which the request stands in the router's log.
    pub(super) fn request_id(&self) -> Option<&'a str> {
        self.text("x-mcpm-request-id")
    }

    /// A header that the router injected.
    pub(super) fn injected(&self, name: &str) -> Option<&'a HeaderValue> {
        self.headers.get(name)
    }

    /// A query parameter that the router injected, still encoded: `name=value`.
    pub(super) fn injected_query(&self, name: &str) -> Option<&'a str> {
        self.query.split('&').find(|pair| {
            let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
            percent_decode_str(key).eq(name.bytes())
        })
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Enough of a credential to tell two apart, and not enough to use one: `Bearer sk-…wxyz`.
pub(super) fn mask(header: &str) -> String {
    match header.split_once(' ') {
        // The end of encoded `user:password` is the end of the password.
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("basic") => format!("{scheme} …"),
        Some((scheme, secret)) => format!("{scheme} {}", mask_secret(secret)),
        None => mask_secret(header),
    }
}

fn mask_secret(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    let (head, tail) = match letters.len() {
        0..8 => (0, 0),
        8..16 => (0, 2),
        16.. => (3, 4),
    };
    let tail: String = letters[letters.len() - tail..].iter().collect();
    format!("{}…{tail}", letters[..head].iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_caller_is_read_from_the_routers_headers() {
        let parts = parts(
            "/mcp?x=1&app%69d=a%20b",
            &[("X-MCPM-User-Id", "j%C3%B6rg%40acme")],
        );
        let caller = Caller::from_parts(&parts);
        assert_eq!(caller.user().as_deref(), Some("jörg@acme"));
        assert_eq!(caller.injected_query("appid"), Some("app%69d=a%20b"));
        assert_eq!(
            (caller.instance(), caller.injected_query("app")),
            (None, None)
        );
    }

    #[test]
    fn masks_tell_secrets_apart_without_showing_them() {
        for (header, expected) in [
            ("Bearer sk-0123456789wxyz", "Bearer sk-…wxyz"),
            ("sk-0123456789wxyz", "sk-…wxyz"),
            ("token 0123456789", "token …89"),
            ("short", "…"),
            ("", "…"),
            ("Basic dXNlcjpwYXNzd29yZHBhc3N3b3Jk", "Basic …"),
            ("Bearer äöüäöüäöüäöüäöüäöü", "Bearer äöü…üäöü"),
        ] {
            assert_eq!(mask(header), expected);
        }
    }
}
