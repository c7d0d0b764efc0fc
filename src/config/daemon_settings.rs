//! The `mcpm` block → [`Settings`]. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::cors;
use super::error::{Report, shown};
use super::fields::{self, Fields};
use super::identity;
use super::keys::{AUDIT, DAEMON};
use super::network::Network;
use super::retention;
use super::settings::{AccessLogForm, Settings, TrustedHeader};
use super::syntax::{Entry, Place};
use super::{limits, logs};

/// The variables that say the same in the environment of the daemon, or of a `start`.
pub const VARIABLES: [&str; 7] = [
    "MCPM_LISTEN",
    "MCPM_PUBLIC_URL",
    "MCPM_REQUIRE_AUTH",
    "MCPM_MAX_BODY",
    "MCPM_TRUSTED_PROXIES",
    "MCPM_TRUSTED_HEADER",
    "MCPM_PROXY_PROTOCOL",
];

/// Reads it; what has a mistake is left out.
pub(crate) fn read(entries: &[Entry], at: Place, report: &mut Report) -> Settings {
    let fields = fields::read(entries, at, &DAEMON, report);
    let mut settings = Settings {
        require_auth: fields.flag("require_auth"),
        max_body: fields.size("max_body"),
        log_rotate: logs::rotate(&fields, report),
        retention: retention::read(&fields, report),
        identity_provider: identity::read(fields.raw("identity_provider"), report),
        cors: cors::read(fields.raw("cors"), report),
        access_log: fields.text("access_log").and_then(AccessLogForm::parse),
        limits: limits::read(fields.raw("limits"), report),
        trusted_proxies: trusted_proxies(&fields, report),
        trusted_header: fields.text("trusted_header").and_then(TrustedHeader::parse),
        proxy_protocol: fields.flag("proxy_protocol"),
        ..Settings::default()
    };
    if let Some(text) = fields.text("listen") {
        settings.listen = listen(text);
        if settings.listen.is_none() {
            let message = format!(
                "`listen` is {}; write an address such as `127.0.0.1:8080`",
                shown(text)
            );
            report.mistake(fields.place("listen"), message);
        }
    }
    if let Some(text) = fields.text("public_url") {
        settings.public_url = origin(text);
        if settings.public_url.is_none() {
            let message = format!(
                "`public_url` is {}; write an origin without a path, such as `https://mcp.example.com`",
                shown(text)
            );
            report.mistake(fields.place("public_url"), message);
        }
    }
    settings.audit_webhook = audit_webhook(&fields, report);
    if settings.max_body == Some(0) {
        report.mistake(
            fields.place("max_body"),
            "`max_body` is 0; write a size such as `\"8M\"`",
        );
    }
    settings
}

/// `trusted_proxies`; one that is no network is a mistake, so that none is missing without a word.
fn trusted_proxies(fields: &Fields, report: &mut Report) -> Option<Vec<Network>> {
    if !fields.has("trusted_proxies") {
        return None;
    }
    let mut networks = Vec::new();
    for text in fields.texts("trusted_proxies") {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => {
                let message = format!(
                    "{} in `trusted_proxies` is no network; write an address or one such as \
                     `10.0.0.0/8`, with 0 behind the prefix",
                    shown(text)
                );
                report.mistake(fields.place("trusted_proxies"), message);
            }
        }
    }
    Some(networks)
}

/// Networks with commas or spaces between them, as in a variable.
pub fn networks(text: &str) -> Option<Vec<Network>> {
    let items = text.split([',', ' ']).filter(|item| !item.is_empty());
    items.map(Network::parse).collect()
}

/// `webhook` of `audit`; an empty text is none.
fn audit_webhook(fields: &Fields, report: &mut Report) -> Option<String> {
    let audit = fields::read(
        fields.entries("audit"),
        fields.place("audit"),
        &AUDIT,
        report,
    );
    let text = audit.text("webhook").filter(|text| !text.is_empty())?;
    if !is_callable(text) {
        // Not shown, since such an address may hold a secret.
        let message = "`webhook` is no address that can be called; write one such as \
                       `https://hooks.example.com/mcpm`, without a user or password in it";
        report.mistake(audit.place("webhook"), message);
        return None;
    }
    Some(text.to_owned())
}

/// A whole `http` or `https` address.
fn is_callable(text: &str) -> bool {
    let uri: Option<http::Uri> = text.parse().ok();
    uri.is_some_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().is_some_and(|authority| {
            !authority.host().is_empty() && !authority.as_str().contains('@')
        });
        scheme && authority
    })
}

/// An address with a port; a port alone, or `localhost`, is on this machine only.
pub fn listen(text: &str) -> Option<SocketAddr> {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let port = text
        .strip_prefix("localhost:")
        .or_else(|| text.strip_prefix(':'))
        .unwrap_or(text);
    // A sign is part of Rust's numbers, not of ports.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits => Some(SocketAddr::new(local, port)),
        _ => text.parse().ok(),
    }
}

/// Scheme, host and perhaps port; a final slash goes away.
pub fn origin(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))?;
    let authority: http::uri::Authority = rest.parse().ok()?;
    let host = authority.host();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    // A port that is none is left out of `port`, but not of the text.
    let whole = match authority.port() {
        Some(port) => format!("{host}:{port}") == rest,
        None => host == rest,
    };
    (whole && !host.is_empty() && host.bytes().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:80", "[::1]:80"),
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("localhost:1", "127.0.0.1:1"),
        ] {
            assert_eq!(listen(text), expected.parse().ok(), "{text}");
        }
        for bad in ["", "example.com:80", "127.0.0.1", "70000", "+80"] {
            assert_eq!(listen(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_webhook_is_a_whole_address() {
        for good in [
            "https://hooks.example.com/mcpm?key=x",
            "http://127.0.0.1:9000",
            "http://[::1]:9000/a",
        ] {
            assert!(is_callable(good), "{good}");
        }
        for bad in [
            "hooks.example.com/mcpm",
            "/mcpm",
            "ftp://a/b",
            "https://u:p@a/b",
            "https://",
            "https://a b",
        ] {
            assert!(!is_callable(bad), "{bad}");
        }
    }

    #[test]
    fn origins_have_no_path() {
        assert_eq!(origin("https://a.b:8/").as_deref(), Some("https://a.b:8"));
        for good in ["http://[::1]:8080", "https://a", "http://127.0.0.1"] {
            assert_eq!(origin(good).as_deref(), Some(good));
        }
        for bad in [
            "https://a:b",
            "https://a:",
            "https://a:70000",
            "https://:8",
            "https://a:1:2",
            "https://[::1",
            "a.b",
            "https://",
            "https://a/b",
            "ftp://a",
            "https://a b",
            "https://u@a",
        ] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }
}
