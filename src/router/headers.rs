//! Strip, forward, inject: what of a request reaches a service, and of an answer a client. Pure.
//!
//! Every rule names its source. Whatever is not named
//! here passes as it came.

use std::borrow::Cow;

use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::template::Template;
use super::tokens;
use crate::config::spec::InjectSpec;
use crate::ids::{Port, UserId};
use crate::secret::Secret;

const INSTANCE_ID: HeaderName = HeaderName::from_static("x-mcpm-instance-id");
const USER_ID: HeaderName = HeaderName::from_static("x-mcpm-user-id");
const SERVICE: HeaderName = HeaderName::from_static("x-mcpm-service");
/// Also set on answers, so that a user can name a request to support.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-mcpm-request-id");
const ROUTER_SECRET: HeaderName = HeaderName::from_static("x-mcpm-router-secret");
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Everything but RFC 3986's unreserved characters: user ids may hold any letters, and a header
/// and a query have rules of their own.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What the router adds to each request for one service, read from its spec once.
pub struct Injection {
    headers: Vec<(HeaderName, Template)>,
    /// Names of the same, as [`Injection::strips`] compares them.
    names: Vec<String>,
    query: Vec<(String, Template)>,
    basic: Option<(Template, Template)>,
    host: HeaderValue,
    service: HeaderValue,
    router_secret: HeaderValue,
}

/// What is known of a request that is let through.
pub struct Facts<'a> {
    /// Public number of the instance.
    pub instance: &'a str,
    /// Its owner.
    pub user: &'a UserId,
    /// Fresh, of this request.
    pub request_id: &'a HeaderValue,
    /// Address of the client.
    pub peer: std::net::IpAddr,
    /// The host that the client named.
    pub host: Option<&'a str>,
    /// The scheme under which people reach us.
    pub scheme: &'a str,
}

/// A filled template is not a header: a stored credential has characters that no header may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(
    /// Of this header.
    pub HeaderName,
);

impl Injection {
    /// Reads the spec's templates. Names were checked by `config`; one that is none is left out.
    pub fn new(
        spec: &InjectSpec,
        service: &str,
        port: Port,
        router_secret: &Secret<String>,
    ) -> Self {
        let known = |text: String| {
            HeaderValue::try_from(text).expect("ports, types and base32 are visible characters")
        };
        let header = |(name, template): &(String, String)| {
            Some((name.parse().ok()?, Template::new(template)))
        };
        let headers: Vec<(HeaderName, Template)> = spec.headers.iter().filter_map(header).collect();
        let query = spec
            .query
            .iter()
            .map(|(name, template)| (encoded(name), Template::new(template)));
        let basic = spec.basic.as_ref();
        let mut secret = known(router_secret.expose().clone());
        secret.set_sensitive(true);
        Self {
            names: headers
                .iter()
                .map(|(name, _)| folded(name.as_str()))
                .collect(),
            headers,
            query: query.collect(),
            basic: basic.map(|(user, word)| (Template::new(user), Template::new(word))),
            host: known(format!("127.0.0.1:{port}")),
            service: known(service.to_owned()),
            router_secret: secret,
        }
    }

    /// The headers that the service gets. `value` gives the user's fields.
    ///
    /// # Errors
    /// A field has characters that no header may have; nothing may be sent then.
    pub fn request<'a>(
        &self,
        client: HeaderMap,
        facts: &Facts<'_>,
        value: impl Fn(&str) -> Option<&'a str> + Copy,
    ) -> Result<HeaderMap, Unfit> {
        let mut headers = HeaderMap::with_capacity(client.len() + self.headers.len() + 10);
        let named = connection_options(&client);
        let mut last = None;
        for (name, header) in client {
            // `HeaderMap` names a repeated header once.
            let name = name
                .or_else(|| last.clone())
                .expect("the first item has a name");
            if !self.strips(&name)
                && !named.contains(&name)
                && let Some(header) = tokens::without(&name, header)
            {
                headers.append(&name, header);
            }
            last = Some(name);
        }
        // RFC 9110 §7.2: the host that is asked, and services check it against loopback names.
        headers.insert(header::HOST, self.host.clone());
        headers.insert(INSTANCE_ID, text(facts.instance, &INSTANCE_ID)?);
        headers.insert(USER_ID, plain(facts.user.as_str(), &USER_ID)?);
        headers.insert(SERVICE, self.service.clone());
        headers.insert(REQUEST_ID, facts.request_id.clone());
        headers.insert(ROUTER_SECRET, self.router_secret.clone());
        headers.insert(
            FORWARDED_FOR,
            owned(facts.peer.to_string(), &FORWARDED_FOR)?,
        );
        let scheme = match facts.scheme {
            "http" => HeaderValue::from_static("http"),
            "https" => HeaderValue::from_static("https"),
            other => text(other, &FORWARDED_PROTO)?,
        };
        headers.insert(FORWARDED_PROTO, scheme);
        if let Some(host) = facts.host {
            headers.insert(FORWARDED_HOST, text(host, &FORWARDED_HOST)?);
        }
        for (name, template) in &self.headers {
            if let Some(filled) = template.fill(value) {
                headers.insert(name, secret(&filled, name)?);
            }
        }
        if let Some((user, word)) = &self.basic
            && let (Some(user), Some(word)) = (user.fill(value), word.fill(value))
        {
            // RFC 7617 §2.
            let pair = Zeroizing::new(format!("{}:{}", *user, *word));
            let basic = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
            headers.insert(
                header::AUTHORIZATION,
                secret(&basic, &header::AUTHORIZATION)?,
            );
        }
        Ok(headers)
    }

    /// The query that the service gets: the client's, without tokens of ours and without what is
    /// injected, and that.
    pub fn query<'a>(
        &self,
        client: Option<&str>,
        value: impl Fn(&str) -> Option<&'a str> + Copy,
    ) -> Option<String> {
        let client = client.map(tokens::in_query);
        if self.query.is_empty() {
            return client.map(Cow::into_owned);
        }
        let injects = |pair: &str| {
            let name = pair
                .split_once('=')
                .map_or(pair, |(name, _)| name)
                .replace('+', " ");
            let name = percent_encoding::percent_decode_str(&name);
            self.query
                .iter()
                .any(|(own, _)| percent_encoding::percent_decode_str(own).eq(name.clone()))
        };
        let mut pairs: Vec<String> = client
            .as_deref()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !injects(pair))
            .map(str::to_owned)
            .collect();
        for (name, template) in &self.query {
            if let Some(filled) = template.fill(value) {
                pairs.push(format!("{name}={}", encoded(&filled)));
            }
        }
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }

    /// What a client may send, and a service must not see.
    fn strips(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if text.bytes().all(plain) {
            self.strips_text(text)
        } else {
            self.strips_text(&folded(text))
        }
    }

    fn strips_text(&self, name: &str) -> bool {
        match name {
            // The client's own identity, and what could carry our tokens or the secret URL.
            "authorization" | "cookie" | "origin" | "referer" | "forwarded" => true,
            // CGI-like servers would make it `HTTP_PROXY`, which their libraries obey.
            "proxy" => true,
            // Answered by hyper, hop by hop (RFC 9110 §10.1.1).
            "expect" => true,
            // The service's own is set.
            "host" => true,
            _ if is_hop_by_hop(name) => true,
            _ if name.starts_with("x-mcpm-") || name.starts_with("x-forwarded-") => true,
            _ if is_of_proxies(name) => true,
            _ => self.names.iter().any(|own| own == name),
        }
    }
}

/// Turns the headers of a service's answer into those that the client gets.
///
/// `paths` is asked for where a redirect needs it: the public path of the instance, and the head of
/// the paths that the service sees in its place.
pub fn response(
    headers: &mut HeaderMap,
    paths: impl Fn() -> (String, String),
    port: Port,
    is_stream: bool,
) {
    strip_response(headers);
    if let Some(location) = headers.get(header::LOCATION)
        && let Some(mapped) = map_location(location, &paths(), port)
    {
        headers.insert(header::LOCATION, mapped);
    }
    // The URL is a secret: no page may pass it on, no cache may keep what it answers.
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    if is_stream {
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache, no-transform"));
        headers
            .entry(ACCEL_BUFFERING)
            .or_insert(HeaderValue::from_static("no"));
    } else {
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
    }
}

/// Takes away what is not for clients, of an answer's headers or of its trailers.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    for option in connection_options(headers) {
        headers.remove(&option);
    }
    for name in [
        // RFC 9110 §7.6.1.
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TRAILER,
        header::TE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::PROXY_AUTHENTICATE,
        // One origin for all instances: a cookie of one service would go to all others.
        header::SET_COOKIE,
        // A challenge of the service speaks of its own address, and its credential is injected.
        header::WWW_AUTHENTICATE,
        // Advertises the service's own address.
        header::ALT_SVC,
        // There is one set of these, the router's.
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        header::ACCESS_CONTROL_MAX_AGE,
        // A service that echoes its request's headers must not give its secret away.
        ROUTER_SECRET,
        USER_ID,
    ] {
        headers.remove(name);
    }
}

/// Is this an answer that arrives event by event?
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let essence = kind.split(|&b| b == b';').next().unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"text/event-stream")
}

/// A redirect to the service's own address becomes one to the instance's; others are left.
fn map_location(
    location: &HeaderValue,
    (public, head): &(String, String),
    port: Port,
) -> Option<HeaderValue> {
    let location = location.to_str().ok()?;
    let path = if location.starts_with('/') && !location.starts_with("//") {
        location
    } else {
        let (_, behind) = location.split_once("://").or(location.split_once("//"))?;
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, path) = behind.split_at(end);
        let own = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"]
            .iter()
            .any(|name| authority.eq_ignore_ascii_case(&format!("{name}:{port}")));
        if !own {
            return None;
        }
        path
    };
    let rest = path.strip_prefix(head.as_str()).or(path.strip_prefix('/'));
    HeaderValue::try_from(format!("{public}/{}", rest.unwrap_or(path))).ok()
}

/// CGI-like servers read `X_MCPM_User_Id`, and some `X.MCPM.User.Id`, as `X-MCPM-User-Id`.
fn folded(name: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(fold).collect()
}

/// What only proxies say: by whom, from where and for which path a request was made. Servers believe it of
/// whoever connects to them from this machine, and frameworks route by some of it.
fn is_of_proxies(name: &str) -> bool {
    matches!(
        name,
        // Addresses: of nginx, Apache, Cloudflare, Akamai, Fastly, Azure, AWS, Envoy, Fly, Google.
        "x-forwarded"
            | "x-real-ip"
            | "x-real-port"
            | "x-client-ip"
            | "client-ip"
            | "true-client-ip"
            | "x-cluster-client-ip"
            | "x-remote-ip"
            | "x-remote-addr"
            | "x-originating-ip"
            | "x-original-forwarded-for"
            | "x-proxyuser-ip"
            | "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "cf-pseudo-ipv4"
            | "fastly-client-ip"
            | "fly-client-ip"
            | "x-azure-clientip"
            | "x-azure-socketip"
            | "x-appengine-user-ip"
            | "x-envoy-external-address"
            // Hosts and paths: of IIS, Symfony, Zend, Envoy, WSGI.
            | "x-host"
            | "x-original-host"
            | "x-original-url"
            | "x-original-uri"
            | "x-rewrite-url"
            | "x-envoy-original-path"
            | "x-script-name"
            | "script-name"
            // Files that a proxy would send in the place of an answer (Rack).
            | "x-sendfile-type"
            | "x-accel-mapping"
            // Users.
            | "remote-user"
            | "x-remote-user"
    )
}

/// RFC 9110 §7.6.1, and what older proxies added to it.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    ) || name.starts_with("proxy-")
}

/// Headers that `Connection` declares to be of this hop only.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let listed = headers.get_all(header::CONNECTION).iter();
    let options = listed.flat_map(|value| value.as_bytes().split(|&b| b == b','));
    let named = options.filter_map(|option| {
        let option = option.trim_ascii();
        let usual = option.eq_ignore_ascii_case(b"keep-alive")
            || option.eq_ignore_ascii_case(b"close")
            || option.eq_ignore_ascii_case(b"upgrade");
        if usual {
            None
        } else {
            HeaderName::from_bytes(option).ok()
        }
    });
    // The body's length is not of this hop, whatever is declared.
    named
        .filter(|name| *name != header::CONTENT_LENGTH)
        .collect()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn text(value: &str, name: &HeaderName) -> Result<HeaderValue, Unfit> {
    HeaderValue::from_str(value).map_err(|_| Unfit(name.clone()))
}

/// Takes the text as it is, without a copy.
fn owned(value: String, name: &HeaderName) -> Result<HeaderValue, Unfit> {
    HeaderValue::try_from(value).map_err(|_| Unfit(name.clone()))
}

/// Encoded where it has to be, which is seldom.
fn plain(value: &str, name: &HeaderName) -> Result<HeaderValue, Unfit> {
    match Cow::from(utf8_percent_encode(value, PLAIN)) {
        Cow::Borrowed(value) => text(value, name),
        Cow::Owned(value) => owned(value, name),
    }
}

fn secret(value: &str, name: &HeaderName) -> Result<HeaderValue, Unfit> {
    let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Unfit(name.clone()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
