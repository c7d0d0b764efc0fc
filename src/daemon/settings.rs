//! Which settings are in force, and where each comes from (pure).
//!
//! Order: flag, environment, then the ecosystem file's block and `mcpm.json`, which may not differ.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::api::daemon::Setting;
use crate::config::identity::ProviderSpec;
use crate::config::limits::LimitsSpec;
use crate::config::settings::AccessLogForm;
use crate::config::spec::RotateSpec;
use crate::config::{Network, RetentionSpec, Settings, TrustedHeader, daemon_settings, units};
use crate::logs::rotate::Policy;
use crate::outbound::origin;

/// Where the router listens when nobody says.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Largest request body when nobody says: above the 4 MiB at which MCP servers stop.
const BODY_MAX: u64 = 8 * 1024 * 1024;

/// Days that usage and the audit log are kept when nobody says: half a year, and one.
const USAGE_DAYS: u32 = 180;
const AUDIT_DAYS: u32 = 365;

/// The setting that may change while processes run, when the same file says so.
const LIMITS: &str = "limits";

/// The name of what the command line says.
pub(super) const FLAG: &str = "flag";

/// What one source says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    /// `flag`, `MCPM_LISTEN` or a file's path: shown by `mcpm config`.
    pub(super) name: String,
    /// What it says.
    pub(super) settings: Settings,
}

/// All sources, strongest first; the last ones are files and may not contradict each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// Flags and environment, strongest first.
    pub(super) strong: Vec<Source>,
    /// The ecosystem file's block and `mcpm.json`.
    pub(super) files: Vec<Source>,
}

impl Sources {
    /// Takes what the shell of a start says: weaker than flags, in the place of what the daemon's
    /// own environment says under these names.
    pub(super) fn take_shell(&mut self, shell: &[Source]) {
        let said = |source: &Source| shell.iter().any(|said| said.name == source.name);
        self.strong.retain(|source| !said(source));
        let flags = self.strong.iter().take_while(|source| source.name == FLAG);
        let at = flags.count();
        self.strong.splice(at..at, shell.iter().cloned());
    }
}

/// Settings with nothing left open, and where each comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) listen: SocketAddr,
    pub(super) public_url: Option<String>,
    pub(super) require_auth: bool,
    pub(super) max_body: u64,
    pub(super) log_rotate: RotateSpec,
    pub(super) retention: Retention,
    audit_webhook: Option<Webhook>,
    pub(super) identity_provider: Vec<ProviderSpec>,
    pub(super) cors: Vec<String>,
    pub(super) limits: LimitsSpec,
    pub(super) trusted_proxies: Vec<Network>,
    pub(super) trusted_header: TrustedHeader,
    pub(super) proxy_protocol: bool,
    pub(super) access_log: AccessLogForm,
    origins: [String; 14],
}

/// Days that books are kept; 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    pub(super) usage_days: u32,
    pub(super) audit_days: u32,
}

impl From<RetentionSpec> for Retention {
    fn from(spec: RetentionSpec) -> Self {
        Self {
            usage_days: spec.usage_days.unwrap_or(USAGE_DAYS),
            audit_days: spec.audit_days.unwrap_or(AUDIT_DAYS),
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = |days: u32| match days {
            0 => "for ever".to_owned(),
            days => format!("{days}d"),
        };
        let (usage, audit) = (days(self.usage_days), days(self.audit_days));
        write!(f, "usage {usage}, audit {audit}")
    }
}

/// Two sources of equal strength contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` is `{one}` in {first} and `{other}` in {second}; make them equal")]
pub(super) struct Contradiction {
    setting: &'static str,
    one: String,
    first: String,
    other: String,
    second: String,
}

/// Chooses.
///
/// # Errors
/// When the files contradict each other.
pub(super) fn choose(sources: &Sources) -> Result<Chosen, Contradiction> {
    let (listen, a) = pick(sources, "listen", |settings| settings.listen)?;
    let (public_url, b) = pick(sources, "public_url", |settings| {
        settings.public_url.clone()
    })?;
    let (require_auth, c) = pick(sources, "require_auth", |settings| settings.require_auth)?;
    let (max_body, d) = pick(sources, "max_body", |settings| settings.max_body)?;
    let (log_rotate, e) = pick(sources, "log_rotate", |settings| {
        settings.log_rotate.map(Rotation)
    })?;
    let (retention, f) = pick(sources, "retention", |settings| {
        settings.retention.map(Retention::from)
    })?;
    let (audit_webhook, g) = pick(sources, "audit.webhook", |settings| {
        settings.audit_webhook.clone().map(Webhook)
    })?;
    let (identity_provider, h) = pick(sources, "identity_provider", |settings| {
        settings.identity_provider.clone().map(Listed)
    })?;
    let (cors, i) = pick(sources, "cors", |settings| {
        settings.cors.clone().map(Listed)
    })?;
    let (limits, j) = pick(sources, LIMITS, |settings| settings.limits.clone())?;
    let (trusted_proxies, k) = pick(sources, "trusted_proxies", |settings| {
        settings.trusted_proxies.clone().map(Listed)
    })?;
    let (trusted_header, l) = pick(sources, "trusted_header", |settings| {
        settings.trusted_header
    })?;
    let (proxy_protocol, m) = pick(sources, "proxy_protocol", |settings| {
        settings.proxy_protocol
    })?;
    let (access_log, n) = pick(sources, "access_log", |settings| settings.access_log)?;
    Ok(Chosen {
        listen: listen.unwrap_or(LISTEN),
        public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()),
        require_auth: require_auth.unwrap_or(false),
        max_body: max_body.unwrap_or(BODY_MAX),
        log_rotate: log_rotate.map_or_else(RotateSpec::default, |rotation| rotation.0),
        retention: retention.unwrap_or_else(|| RetentionSpec::default().into()),
        audit_webhook,
        identity_provider: identity_provider.map_or_else(Vec::new, |listed| listed.0),
        cors: cors.map_or_else(Vec::new, |listed| listed.0),
        limits: limits.unwrap_or_default(),
        trusted_proxies: trusted_proxies.map_or_else(Vec::new, |listed| listed.0),
        trusted_header: trusted_header.unwrap_or_default(),
        proxy_protocol: proxy_protocol.unwrap_or(false),
        access_log: access_log.unwrap_or_default(),
        origins: [a, b, c, d, e, f, g, h, i, j, k, l, m, n],
    })
}

/// Shown without what may be a secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Webhook(String);

impl Webhook {
    /// Where to call; `None` when it is no address.
    fn uri(&self) -> Option<Uri> {
        self.0.parse().ok()
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.uri().unwrap_or_default();
        write!(f, "{}/…", origin(&uri))
    }
}

/// Shown one after the other.
#[derive(PartialEq)]
struct Listed<T>(Vec<T>);

impl<T: fmt::Display> fmt::Display for Listed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&listed(&self.0))
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join("; ")
}

/// Shown with its defaults.
#[derive(PartialEq)]
struct Rotation(RotateSpec);

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = Policy::of(self.0, RotateSpec::default());
        if policy.is_off() {
            return f.write_str("off");
        }
        if let Some(size) = policy.max_size {
            write!(f, "max_size {size}, ")?;
        }
        if let Some(age) = policy.max_age {
            write!(f, "max_age {age:?}, ")?;
        }
        match policy.retain {
            Some(count) => write!(f, "retain {count}")?,
            None => f.write_str("retain all")?,
        }
        f.write_str(if policy.compress { ", compress" } else { "" })
    }
}

fn pick<T: PartialEq + ToString>(
    sources: &Sources,
    setting: &'static str,
    get: impl Fn(&Settings) -> Option<T>,
) -> Result<(Option<T>, String), Contradiction> {
    let mut said = sources
        .files
        .iter()
        .filter_map(|file| Some((get(&file.settings)?, &file.name)));
    let from_files = said.next();
    if let Some((one, first)) = &from_files
        && let Some((other, second)) = said.find(|(other, _)| other != one)
    {
        return Err(Contradiction {
            setting,
            one: one.to_string(),
            first: format!("`{first}`"),
            other: other.to_string(),
            second: format!("`{second}`"),
        });
    }
    let strong = sources
        .strong
        .iter()
        .find_map(|source| Some((get(&source.settings)?, &source.name)));
    Ok(match strong.or(from_files) {
        Some((value, name)) => (Some(value), name.clone()),
        None => (None, "default".to_owned()),
    })
}

impl Chosen {
    /// Where isolation events are posted to.
    pub(super) fn webhook(&self) -> Option<Uri> {
        self.audit_webhook.as_ref()?.uri()
    }

    /// The same settings, wherever they come from.
    pub(super) fn same_values(&self, other: &Self) -> bool {
        // What is shown of a webhook is not all of it.
        self.values() == other.values() && self.audit_webhook == other.audit_webhook
    }

    /// Nobody had chosen any of what is different in `next`, or it is what the same file may change.
    pub(super) fn may_become(&self, next: &Self, same_file: bool) -> bool {
        let pairs = self
            .values()
            .into_iter()
            .zip(next.values())
            .zip(&self.origins);
        pairs.into_iter().all(|((now, then), origin)| {
            now == then || origin == "default" || (same_file && now.0 == LIMITS)
        })
    }

    /// The router serves alike with these: connections need not end for it.
    pub(super) fn serves_as(&self, other: &Self) -> bool {
        self.listen == other.listen
            && self.public_url == other.public_url
            && self.require_auth == other.require_auth
            && self.max_body == other.max_body
            && self.identity_provider == other.identity_provider
            && self.cors == other.cors
            && self.trusted_proxies == other.trusted_proxies
            && self.trusted_header == other.trusted_header
            && self.proxy_protocol == other.proxy_protocol
    }

    /// What somebody has wished for and does not have here, for people; empty when all is as
    /// wished.
    pub(super) fn refused(&self, wished: &Self) -> String {
        self.differences(wished, |by| by != "default")
    }

    /// All that is different in `next`, for people.
    pub(super) fn difference(&self, next: &Self) -> String {
        self.differences(next, |_| true)
    }

    fn differences(&self, other: &Self, counts: impl Fn(&str) -> bool) -> String {
        let ours = self.values().into_iter().zip(&self.origins);
        let theirs = other.values().into_iter().zip(&other.origins);
        let different = ours
            .zip(theirs)
            .filter(|((now, _), (then, by))| counts(by) && now != then);
        let words = different.map(|(((name, now), from), ((_, then), by))| {
            format!("`{name}` is `{now}` ({from}), {by} says `{then}`")
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn values(&self) -> [(&'static str, String); 14] {
        [
            ("listen", self.listen.to_string()),
            ("public_url", self.public_url.clone().unwrap_or_default()),
            ("require_auth", self.require_auth.to_string()),
            ("max_body", self.max_body.to_string()),
            ("log_rotate", Rotation(self.log_rotate).to_string()),
            ("retention", self.retention.to_string()),
            (
                "audit.webhook",
                self.audit_webhook
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            ("identity_provider", listed(&self.identity_provider)),
            ("cors", listed(&self.cors)),
            (LIMITS, self.limits.to_string()),
            ("trusted_proxies", listed(&self.trusted_proxies)),
            ("trusted_header", self.trusted_header.to_string()),
            ("proxy_protocol", self.proxy_protocol.to_string()),
            ("access_log", self.access_log.to_string()),
        ]
    }

    /// As `mcpm config` shows them; `listen` is the address that was really had.
    pub(super) fn rows(&self, public_url: &str) -> Vec<Setting> {
        let mut values = self.values();
        public_url.clone_into(&mut values[1].1);
        let row = |((name, value), source): ((&str, String), &String)| Setting {
            name: name.to_owned(),
            value,
            source: source.clone(),
        };
        values.into_iter().zip(&self.origins).map(row).collect()
    }
}

/// Reads a variable's text; `None` when it is not of its kind.
type Read = fn(&str) -> Option<Settings>;

/// What the environment says: `MCPM_LISTEN` and its kin; an empty variable says nothing.
///
/// # Errors
/// When a value is not of its kind; the text says what to write.
pub(super) fn from_environment(
    get: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    let mut add = |name: &str, write: &str, read: Read| -> Result<(), String> {
        let Some(text) = get(name).filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let settings = read(&text).ok_or_else(|| format!("{name} is `{text}`; write {write}"))?;
        sources.push(Source {
            name: name.to_owned(),
            settings,
        });
        Ok(())
    };
    // Read by the same rules as in a file.
    add(
        "MCPM_LISTEN",
        "an address such as `127.0.0.1:8080`",
        |text| {
            let listen = Some(daemon_settings::listen(text)?);
            Some(Settings {
                listen,
                ..Settings::default()
            })
        },
    )?;
    let origin = "an origin without a path, such as `https://mcp.example.com`";
    add("MCPM_PUBLIC_URL", origin, |text| {
        let public_url = Some(daemon_settings::origin(text)?);
        Some(Settings {
            public_url,
            ..Settings::default()
        })
    })?;
    add("MCPM_REQUIRE_AUTH", "`true` or `false`", |text| {
        let require_auth = Some(text.parse().ok()?);
        Some(Settings {
            require_auth,
            ..Settings::default()
        })
    })?;
    add("MCPM_MAX_BODY", "a size such as `8M`", |text| {
        let max_body = Some(units::size(text).filter(|&size| size > 0)?);
        Some(Settings {
            max_body,
            ..Settings::default()
        })
    })?;
    let networks = "networks such as `127.0.0.1,10.0.0.0/8`";
    add("MCPM_TRUSTED_PROXIES", networks, |text| {
        let trusted_proxies = Some(daemon_settings::networks(text)?);
        Some(Settings {
            trusted_proxies,
            ..Settings::default()
        })
    })?;
    let words = "`x-forwarded-for` or `forwarded`";
    add("MCPM_TRUSTED_HEADER", words, |text| {
        let trusted_header = Some(TrustedHeader::parse(text)?);
        Some(Settings {
            trusted_header,
            ..Settings::default()
        })
    })?;
    add("MCPM_PROXY_PROTOCOL", "`true` or `false`", |text| {
        let proxy_protocol = Some(text.parse().ok()?);
        Some(Settings {
            proxy_protocol,
            ..Settings::default()
        })
    })?;
    Ok(sources)
}

#[cfg(test)]
mod tests;
