//! The `mcp` block → [`ServiceSpec`], its port agreed upon with the app's `port` and `PORT`.
//!
//! An app without the block, whose env has `MCP_TYPE` and `PORT`, is a service all the same:
//! files that the reference system made need no edit.

use std::time::Duration;

use crate::ids::{IdError, InstancePrefix, Port, ServiceType};

use super::env::Declared;
use super::error::{Report, shown};
use super::fields::{self, Fields};
use super::keys::{MCP, RATE_LIMIT};
use super::limits::ServiceLimits;
use super::spec::{HealthSpec, Probe, Protocol, RateLimit, ServiceSpec};
use super::syntax::{Entry, Node, Place, Value};
use super::{auth, health, limits, typed};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const MCP_PATH: &str = "/mcp";
const UPSTREAM_PATH: &str = "/{rest}";
const UPSTREAM_PATH_WITH_ID: &str = "/{instance_id}/{rest}";
/// Variables by which the reference system knows a service.
const TYPE_VARIABLE: &str = "MCP_TYPE";
const PORT_VARIABLE: &str = "PORT";
/// For types without a letter.
const FALLBACK_PREFIX: &str = "mcp";

/// A service as the file declares it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    /// Where its type is written.
    pub(crate) type_at: Place,
    /// Where its port is written.
    pub(crate) port_at: Place,
}

/// Reads the block of an app, or what its env says; `None` when the app is no service, or when a
/// mistake was reported.
pub(crate) fn read(
    app: &Fields,
    declared: &Declared<'_>,
    is_bridge: bool,
    report: &mut Report,
) -> Option<Service> {
    match app.raw("mcp").map(|node| (&node.value, node.at)) {
        Some((Value::Map(entries), at)) => block(entries, at, app, declared, report),
        Some(_) => None,
        None => from_env(app, declared, is_bridge, report),
    }
}

fn block(
    entries: &[Entry],
    at: Place,
    app: &Fields,
    declared: &Declared<'_>,
    report: &mut Report,
) -> Option<Service> {
    let fields = fields::read(entries, at, &MCP, report);
    let service = match fields.text("service").map(ServiceType::parse) {
        Some(Ok(service)) => Some(service),
        Some(Err(error)) => {
            report.mistake(fields.place("service"), told("service", error));
            None
        }
        None => {
            if fields.lacks("service") {
                report.mistake(
                    at,
                    "`mcp` has no `service`; write the service type, such as `figma`",
                );
            }
            None
        }
    };
    let port = port(&fields, app, declared, report);
    let protocol = match fields.text("protocol") {
        Some("http") => Protocol::Http,
        _ => Protocol::Mcp,
    };
    let mcp_path = fields
        .owned_text("mcp_path")
        .unwrap_or_else(|| MCP_PATH.to_owned());
    let upstream_path = upstream_path(&fields, report);
    let asked = if protocol == Protocol::Http {
        "/"
    } else {
        &mcp_path
    };
    let health = health::read(fields.raw("health"), asked, report);
    let auth = auth::read(fields.raw("auth"), report);
    let rate_limit = rate_limit(fields.raw("rate_limit"), report);
    let limits = limits::of_service(&fields, report);
    let prefix = match fields.text("prefix").map(InstancePrefix::parse) {
        Some(Ok(prefix)) => Some(prefix),
        Some(Err(error)) => {
            report.mistake(fields.place("prefix"), told("prefix", error));
            None
        }
        None => service.as_ref().map(default_prefix),
    };
    let (service, (port, port_at)) = (service?, port?);
    let spec = ServiceSpec {
        display_name: fields
            .owned_text("display_name")
            .unwrap_or_else(|| service.to_string()),
        description: fields.owned_text("description"),
        category: fields.owned_text("category"),
        icon_url: fields.owned_text("icon_url"),
        port,
        mcp_path,
        protocol,
        upstream_path,
        prefix: prefix?,
        health,
        start_timeout: fields.duration("start_timeout").unwrap_or(START_TIMEOUT),
        auth,
        require_auth: fields.flag("require_auth").unwrap_or(false),
        rate_limit,
        limits,
        allow_private: fields.flag("allow_private").unwrap_or(false),
        service,
    };
    Some(Service {
        spec,
        type_at: fields.place("service"),
        port_at,
    })
}

/// `mcp.port`, `port` and the env's `PORT`: whichever are given must agree.
fn port(
    mcp: &Fields,
    app: &Fields,
    declared: &Declared<'_>,
    report: &mut Report,
) -> Option<(Port, Place)> {
    let number = |fields: &Fields| {
        let number = u16::try_from(fields.count("port")?).ok()?;
        Some((Port::new(number)?, fields.place("port")))
    };
    let variable = match declared.get(PORT_VARIABLE) {
        Some((text, at)) => match text.trim().parse::<Port>() {
            Ok(port) => Some((port, at)),
            Err(error) => {
                report.mistake(at, told("PORT", error));
                return None;
            }
        },
        None => None,
    };
    let given = [
        ("mcp.port", number(mcp)),
        ("port", number(app)),
        ("PORT", variable),
    ];
    let mut given = given
        .into_iter()
        .filter_map(|(name, found)| Some((name, found?)));
    let Some((first_name, first)) = given.next() else {
        if mcp.lacks("port") && app.lacks("port") {
            report.mistake(
                mcp.at,
                "a service needs a fixed port; write `\"port\": 49160` into `mcp`",
            );
        }
        return None;
    };
    for (name, (port, at)) in given {
        if port != first.0 {
            let message = format!(
                "`{name}` is {port}, but `{first_name}` is {}; write the same, or only one of them",
                first.0
            );
            report.mistake(at, message);
        }
    }
    Some(first)
}

/// The nouns' own errors repeat their text whole, which in a file may be long or many-lined.
fn told(key: &str, error: IdError) -> String {
    let (given, write) = match &error {
        IdError::ServiceType(text) => (
            text,
            "a service type: 1 to 64 of `a-z`, `0-9`, `_`, `-`, a letter or digit first",
        ),
        IdError::Prefix(text) => (text, "a prefix: a letter, then up to 15 of `a-z`, `0-9`"),
        IdError::Port(text) => (text, "a port from 1 to 65535"),
        other => return other.to_string(),
    };
    format!("`{key}` is {}; write {write}", shown(given))
}

fn upstream_path(fields: &Fields, report: &mut Report) -> String {
    let Some(path) = fields.text("upstream_path") else {
        return UPSTREAM_PATH.to_owned();
    };
    let at = fields.place("upstream_path");
    let left = path.replacen("{rest}", "", 1).replace("{instance_id}", "");
    if !path.contains("{rest}") {
        report.mistake(
            at,
            "`upstream_path` has no `{rest}`; write a path such as `/{rest}`",
        );
    } else if left.contains(['{', '}']) {
        let message =
            "`upstream_path` may hold `{rest}` once and `{instance_id}`, nothing else in braces";
        report.mistake(at, message);
    }
    path.to_owned()
}

fn rate_limit(node: Option<&Node>, report: &mut Report) -> Option<RateLimit> {
    let node = node?;
    let narrow = |count: i64| u32::try_from(count).ok();
    match &node.value {
        Value::Number(_) => {
            let Some(per_minute) = typed::whole(node, 1, 100_000_000).and_then(narrow) else {
                report.mistake(
                    node.at,
                    "`rate_limit` is requests in a minute; write at least 1",
                );
                return None;
            };
            Some(RateLimit {
                per_minute,
                burst: per_minute,
            })
        }
        Value::Map(entries) => {
            let fields = fields::read(entries, node.at, &RATE_LIMIT, report);
            let Some(per_minute) = fields.count("per_minute").and_then(narrow) else {
                if fields.lacks("per_minute") {
                    report.mistake(node.at, "`rate_limit` has no `per_minute`");
                }
                return None;
            };
            let burst = fields.count("burst").and_then(narrow).unwrap_or(per_minute);
            Some(RateLimit { per_minute, burst })
        }
        _ => None,
    }
}

/// The first three of `a-z0-9`, from the first letter on.
fn default_prefix(service: &ServiceType) -> InstancePrefix {
    let fit = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let letters = service
        .as_str()
        .chars()
        .skip_while(|c| !c.is_ascii_lowercase());
    let prefix: String = letters.filter(fit).take(3).collect();
    InstancePrefix::parse(&prefix)
        .or_else(|_| InstancePrefix::parse(FALLBACK_PREFIX))
        .expect("the fallback is a letter and two more")
}

fn from_env(
    app: &Fields,
    declared: &Declared<'_>,
    is_bridge: bool,
    report: &mut Report,
) -> Option<Service> {
    let (word, type_at) = declared.get(TYPE_VARIABLE)?;
    if !app.has("port") && declared.get(PORT_VARIABLE).is_none() {
        return None;
    }
    // PM2 would start such an app, so it is not refused; it is only no service.
    let Ok(service) = ServiceType::parse(&word) else {
        let message = format!(
            "`MCP_TYPE` is {}, which is no service type: this app is no service",
            shown(&word)
        );
        report.warn(type_at, message);
        return None;
    };
    let (port, port_at) = port(&Fields::default(), app, declared, report)?;
    let upstream_path = if is_bridge {
        UPSTREAM_PATH
    } else {
        UPSTREAM_PATH_WITH_ID
    };
    let asked = Probe::Http("/health".to_owned());
    let health = health::read(None, MCP_PATH, report);
    let spec = ServiceSpec {
        display_name: service.to_string(),
        description: None,
        category: None,
        icon_url: None,
        port,
        mcp_path: MCP_PATH.to_owned(),
        protocol: Protocol::Mcp,
        upstream_path: upstream_path.to_owned(),
        prefix: default_prefix(&service),
        health: HealthSpec {
            readiness: asked.clone(),
            liveness: asked,
            ..health
        },
        start_timeout: START_TIMEOUT,
        auth: auth::reference_api_key(),
        require_auth: false,
        rate_limit: None,
        limits: ServiceLimits::default(),
        allow_private: false,
        service,
    };
    Some(Service {
        spec,
        type_at,
        port_at,
    })
}

#[cfg(test)]
mod tests {
    use super::super::keys::APP;
    use super::super::syntax::json;
    use super::super::{env, fields as reader};
    use super::*;

    fn service(app: &str) -> (Option<ServiceSpec>, Report) {
        let mut report = Report::new(Some("f"));
        let Value::Map(entries) = json::parse(app).unwrap().value else {
            panic!("a map")
        };
        let fields = reader::read(&entries, Place { line: 1, column: 1 }, &APP, &mut report);
        let declared = env::declared(&fields, None, &mut report);
        let found = read(&fields, &declared, false, &mut report);
        (found.map(|service| service.spec), report)
    }

    #[track_caller]
    fn refused(app: &str, part: &str) {
        let error = service(app).1.finish().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn defaults_are_those_of_the_papers() {
        let (spec, report) = service("{mcp: {service: 'figma', port: 49160}}");
        assert!(report.finish().unwrap().is_empty());
        let spec = spec.unwrap();
        assert_eq!(spec.prefix.as_str(), "fig");
        assert_eq!(
            (spec.mcp_path.as_str(), spec.upstream_path.as_str()),
            ("/mcp", "/{rest}")
        );
        assert_eq!(spec.health.readiness, Probe::Tcp);
        assert_eq!(spec.health.liveness, Probe::Http("/mcp".into()));
        assert_eq!(spec.start_timeout, Duration::from_secs(60));
        assert_eq!(spec.display_name, "figma");
        let http = service("{mcp: {service: 'x', port: 1, protocol: 'http'}}")
            .0
            .unwrap();
        assert_eq!(http.health.liveness, Probe::Http("/".into()));
        assert_eq!(http.protocol, Protocol::Http);
    }

    #[test]
    fn health_is_asked_as_the_block_says() {
        let health = |text: &str| {
            service(&format!(
                "{{mcp: {{service: 'x', port: 1, health: {text}}}}}"
            ))
            .0
            .unwrap()
            .health
        };
        let http = health("{http: '/health', interval: '5s', unhealthy_after: 1, expect: [200]}");
        assert_eq!(http.readiness, Probe::Http("/health".into()));
        assert_eq!(
            (http.interval, http.expect),
            (Duration::from_secs(5), vec![200])
        );
        assert_eq!(health("{tcp: true}").liveness, Probe::Tcp);
        assert_eq!(health("'/up'").liveness, Probe::Http("/up".into()));
        let off = health("false");
        assert_eq!((off.readiness, off.liveness), (Probe::Tcp, Probe::None));
    }

    #[test]
    fn ports_must_agree_and_are_found_wherever_they_stand() {
        let port = |app: &str| service(app).0.unwrap().port.get();
        assert_eq!(port("{port: 5, mcp: {service: 'x'}}"), 5);
        assert_eq!(port("{env: {PORT: '6'}, mcp: {service: 'x'}}"), 6);
        assert_eq!(
            port("{env: {PORT: 7}, port: 7, mcp: {service: 'x', port: '7'}}"),
            7
        );
        refused(
            "{port: 5, mcp: {service: 'x', port: 6}}",
            "`port` is 5, but `mcp.port` is 6",
        );
        refused(
            "{env: {PORT: 5}, port: 6, mcp: {service: 'x'}}",
            "`PORT` is 5, but `port` is 6",
        );
        refused("{mcp: {service: 'x'}}", "needs a fixed port");
        refused(
            "{env: {PORT: 'web'}, mcp: {service: 'x'}}",
            "`PORT` is `web`; write a port",
        );
        refused(
            "{mcp: {service: 'x', port: 0}}",
            "write a port from 1 to 65535",
        );
    }

    #[test]
    fn mistakes_say_what_to_write() {
        refused("{mcp: {port: 1}}", "has no `service`");
        refused(
            "{mcp: {service: 'Figma', port: 1}}",
            "`service` is `Figma`; write a service type",
        );
        refused(
            "{mcp: {service: 'x', port: 1, prefix: 'A'}}",
            "`prefix` is `A`; write a prefix",
        );
        refused(
            "{mcp: {service: 'x', port: 1, upstream_path: '/x'}}",
            "no `{rest}`",
        );
        refused(
            "{mcp: {service: 'x', port: 1, upstream_path: '/{rest}/{user}'}}",
            "nothing else",
        );
        refused(
            "{mcp: {service: 'x', port: 1, mcp_path: 'mcp'}}",
            "begins with `/`",
        );
        refused(
            "{mcp: {service: 'x', port: 1, rate_limit: {}}}",
            "no `per_minute`",
        );
        refused(
            "{mcp: {service: 'x', port: 1, health: {http: '/', tcp: true}}}",
            "keep one",
        );
        refused("{mcp: true}", "`mcp` is `true`; write a map or `false`");
    }

    #[test]
    fn files_of_the_reference_system_are_services() {
        let (spec, report) = service("{env: {MCP_TYPE: 'slack', PORT: 49200}}");
        assert!(report.finish().unwrap().is_empty());
        let spec = spec.unwrap();
        assert_eq!(spec.upstream_path, "/{instance_id}/{rest}");
        assert_eq!(spec.health.liveness, Probe::Http("/health".into()));
        assert_eq!(spec.auth.inject.headers[0].1, "Bearer {api_key}");
        assert!(service("{env: {MCP_TYPE: 'slack'}}").0.is_none());
        let (none, report) = service("{env: {MCP_TYPE: 'Slack!', PORT: 1}}");
        assert!(none.is_none() && report.finish().unwrap().len() == 1);
        assert!(
            service("{mcp: false, env: {MCP_TYPE: 'slack', PORT: 1}}")
                .0
                .is_none()
        );
    }

    #[test]
    fn prefixes_are_the_first_letters_that_fit() {
        for (service, prefix) in [
            ("figma", "fig"),
            ("3d-scan", "dsc"),
            ("s3", "s3"),
            ("a_b-c-d", "abc"),
            ("42", "mcp"),
        ] {
            assert_eq!(
                default_prefix(&ServiceType::parse(service).unwrap()).as_str(),
                prefix
            );
        }
    }
}
