//! Is a request meant for us? `Host` and `Origin`, against the names we go by. Pure.
//!
//! This is what keeps web pages out that point a name of their own at our address (DNS rebinding), on
//! a loopback address as on one inside a company; it holds for the API as well. A page that came from
//! an address instead of a name came from that very address: hence a listener that is open to others
//! goes by every address. Its `/health`, which tells nothing, is for whoever asks: balancers name hosts of
//! their own, or none. A request without `Origin` comes from no page. Pages that the operator has named may call from elsewhere
//! (`cors.rs`), under a name of ours.

use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use http::{Request, Uri};

/// Says that we live, and nothing else.
const HEALTH: &str = "/health";

/// The names we go by.
#[derive(Clone, Debug, Default)]
pub struct Names {
    loopback: bool,
    public: Option<Public>,
    /// Origins of pages that may call from elsewhere, as browsers write them.
    pages: Arc<[String]>,
}

#[derive(Clone, Debug)]
struct Public {
    /// `https`, lower case.
    scheme: String,
    /// Host and, when it is not the scheme's own, port; lower case.
    authority: String,
}

/// Why a request is not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// A host that is not ours.
    Host,
    /// A page of another origin.
    Origin,
}

impl Names {
    /// Names of a listener: whether its address is a loopback one, and the public URL.
    pub fn new(loopback: bool, public_url: Option<&str>) -> Self {
        let public = public_url.and_then(|url| {
            let uri: Uri = url.parse().ok()?;
            let scheme = uri.scheme_str()?.to_ascii_lowercase();
            let authority = strip_default_port(&scheme, uri.authority()?.as_str());
            Some(Public { authority, scheme })
        });
        Self {
            loopback,
            public,
            pages: Arc::default(),
        }
    }

    /// The same, and pages of these origins may call.
    pub fn with_pages(self, origins: &[String]) -> Self {
        let written = |origin: &String| match origin.split_once("://") {
            Some((scheme, authority)) => {
                format!("{scheme}://{}", strip_default_port(scheme, authority))
            }
            None => origin.clone(),
        };
        let pages = origins.iter().map(written).collect();
        Self { pages, ..self }
    }

    /// May any page call from elsewhere?
    pub(super) fn has_pages(&self) -> bool {
        !self.pages.is_empty()
    }

    /// The origin of a request, when it is a page's that may call from elsewhere.
    pub(super) fn page<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        if self.pages.is_empty() {
            return None;
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        self.pages
            .iter()
            .any(|page| page.as_bytes() == origin.as_bytes())
            .then_some(origin)
    }

    /// Scheme under which people reach us: `X-Forwarded-Proto`.
    pub(super) fn scheme(&self) -> &str {
        self.public.as_ref().map_or("http", |public| &public.scheme)
    }

    /// Checks the names of a request.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Stranger> {
        let host = host(request);
        let is_for_all = !self.loopback && request.uri().path() == HEALTH;
        if !is_for_all && !host.is_some_and(|host| self.is_ours(host)) {
            return Err(Stranger::Host);
        }
        if self.page(request.headers()).is_some() {
            return Ok(());
        }
        let origins = request.headers().get_all(ORIGIN);
        let ours = |origin: &HeaderValue| {
            origin
                .to_str()
                .is_ok_and(|origin| self.is_our_page(origin, host))
        };
        if origins.iter().all(ours) {
            Ok(())
        } else {
            Err(Stranger::Origin)
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        is_loopback(host)
            || (!self.loopback && is_address(host))
            || self.public.as_ref().is_some_and(|public| {
                // A proxy before us may leave its own port on, or ours.
                name_of(&public.authority).eq_ignore_ascii_case(name_of(host))
            })
    }

    /// Our own page, or a tool that serves its page from the same machine.
    fn is_our_page(&self, origin: &str, host: Option<&str>) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else {
            return false;
        };
        let authority = strip_default_port(scheme, authority);
        let is_public = self
            .public
            .as_ref()
            .is_some_and(|public| public.scheme == scheme && public.authority == authority);
        let same = host.is_some_and(|host| strip_default_port(scheme, host) == authority);
        is_public || same || (self.loopback && is_loopback(&authority))
    }
}

/// The host that a request names: `:authority` of HTTP/2, or `Host`.
pub(super) fn host<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => single(request.headers())?.to_str().ok(),
    }
}

fn single(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut hosts = headers.get_all(HOST).iter();
    hosts.next().filter(|_| hosts.next().is_none())
}

fn is_loopback(authority: &str) -> bool {
    let name = name_of(authority);
    name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// An address in the place of a name (RFC 3986 §3.2.2).
fn is_address(authority: &str) -> bool {
    let name = name_of(authority);
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

/// Without the port.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn strip_default_port(scheme: &str, authority: &str) -> String {
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    authority
        .strip_suffix(default)
        .unwrap_or(authority)
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origin: Option<&str>) -> Request<()> {
        let mut request = Request::get("/x").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(()).unwrap()
    }

    #[track_caller]
    fn check(names: &Names, host: &str, origin: Option<&str>, expected: Result<(), Stranger>) {
        assert_eq!(
            names.check(&request(host, origin)),
            expected,
            "{host} {origin:?}"
        );
    }

    #[test]
    fn a_loopback_listener_answers_its_own_names_only() {
        let names = Names::new(true, Some("https://MCP.example.com"));
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8080",
            "mcp.example.com",
            "127.9.9.9",
        ] {
            check(&names, host, None, Ok(()));
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "",
        ] {
            check(&names, host, None, Err(Stranger::Host));
        }
        let twice = Request::get("/")
            .header("host", "localhost")
            .header("host", "evil.example");
        assert_eq!(names.check(&twice.body(()).unwrap()), Err(Stranger::Host));
        let none = Request::get("/").body(()).unwrap();
        assert_eq!(names.check(&none), Err(Stranger::Host));
        let http2 = Request::get("http://localhost:8080/").body(()).unwrap();
        assert_eq!(names.check(&http2), Ok(()));
    }

    #[test]
    fn pages_of_other_origins_are_strangers() {
        let names = Names::new(true, Some("https://mcp.example.com/"));
        for origin in [
            "https://mcp.example.com",
            "https://mcp.example.com:443",
            "http://localhost:6274",
            "http://127.0.0.1:8080",
        ] {
            check(&names, "localhost:8080", Some(origin), Ok(()));
        }
        for origin in [
            "https://evil.example",
            "http://mcp.example.com",
            "null",
            "",
            "http://localhost.evil",
        ] {
            check(
                &names,
                "localhost:8080",
                Some(origin),
                Err(Stranger::Origin),
            );
        }
        let open = Names::new(false, None);
        check(&open, "10.0.0.5:8080", Some("http://10.0.0.5:8080"), Ok(()));
        check(
            &open,
            "10.0.0.5:8080",
            Some("http://localhost:3000"),
            Err(Stranger::Origin),
        );
    }

    #[test]
    fn a_listener_that_is_open_to_others_goes_by_addresses_and_by_its_public_name() {
        let names = Names::new(false, Some("https://mcp.example.com"));
        for host in [
            "10.0.0.5:8080",
            "203.0.113.9",
            "[2001:db8::1]:8080",
            "[::1]",
            "localhost:8080",
            "mcp.example.com",
            "MCP.example.com:8080",
        ] {
            check(&names, host, None, Ok(()));
        }
        for host in [
            "evil.example:8080",
            "10.0.0.5.evil.example",
            "mcp.example.com.evil.example",
            "10.0.0",
            "[10.0.0.5]",
            "[evil]",
            "",
        ] {
            check(&names, host, None, Err(Stranger::Host));
        }
        // A page that has come from an address is of that address, and none of ours.
        let page = Some("http://evil.example");
        check(&names, "10.0.0.5:8080", page, Err(Stranger::Origin));
        let bare = Names::new(false, None);
        check(&bare, "anything.example", None, Err(Stranger::Host));
        for request in [
            Request::get("/health").header("host", "lb.internal"),
            Request::get("/health"),
        ] {
            let request = request.body(()).unwrap();
            assert_eq!(bare.check(&request), Ok(()));
            // Nobody balances what only this machine reaches.
            assert_eq!(Names::new(true, None).check(&request), Err(Stranger::Host));
        }
        let more = Request::get("/health/x").header("host", "lb.internal");
        assert_eq!(bare.check(&more.body(()).unwrap()), Err(Stranger::Host));
    }

    #[test]
    fn pages_that_the_operator_names_may_call_under_our_names_only() {
        let pages = ["https://App.example.com:443", "http://localhost:3000"].map(str::to_owned);
        let names = Names::new(true, None).with_pages(&pages);
        let app = "https://app.example.com";
        check(&names, "localhost:8080", Some(app), Ok(()));
        check(&names, "evil.example", Some(app), Err(Stranger::Host));
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil.example",
            "null",
        ] {
            let stranger = Err(Stranger::Origin);
            check(&names, "localhost:8080", Some(origin), stranger);
        }
        let twice = Request::get("/")
            .header("host", "localhost")
            .header("origin", app)
            .header("origin", "https://evil.example");
        assert_eq!(names.check(&twice.body(()).unwrap()), Err(Stranger::Origin));
        assert!(names.has_pages() && !Names::new(true, None).has_pages());
    }
}
