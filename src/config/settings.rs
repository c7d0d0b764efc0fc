//! Settings of the daemon itself: what an ecosystem file's top-level `mcpm` block,
//! `$MCPM_HOME/mcpm.json`, the environment and flags may say.
//!
//! Order: flag, then environment at daemon start, then block and file (which may not differ).

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::identity::ProviderSpec;
use super::limits::LimitsSpec;
use super::network::Network;
use super::spec::RotateSpec;

/// What one source says; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Address of the router and API. Default `127.0.0.1:8080`.
    pub listen: Option<SocketAddr>,
    /// Origin of handed-out URLs, without a final slash. Default `http://` and the listen address.
    pub public_url: Option<String>,
    /// All services demand a token of the owner. Default `false`.
    pub require_auth: Option<bool>,
    /// Largest request body the router takes, in bytes. Default 8 MiB.
    pub max_body: Option<u64>,
    /// When logs are put aside. Default 10 MiB, 30 files, compressed.
    #[serde(default)]
    pub log_rotate: Option<RotateSpec>,
    /// How long books are kept. Default 180 days of usage, 365 of audit.
    #[serde(default)]
    pub retention: Option<RetentionSpec>,
    /// Where isolation events are posted to. Default: nowhere.
    #[serde(default)]
    pub audit_webhook: Option<String>,
    /// Whose JWTs count as tokens of users. Default none.
    #[serde(default)]
    pub identity_provider: Option<Vec<ProviderSpec>>,
    /// Origins of other pages that may call. Default none.
    #[serde(default)]
    pub cors: Option<Vec<String>>,
    /// Whether requests are logged, and how. Default `off`.
    #[serde(default)]
    pub access_log: Option<AccessLogForm>,
    /// How much may pass. Default: no limits.
    #[serde(default)]
    pub limits: Option<LimitsSpec>,
    /// Proxies whose word about clients counts. Default none.
    #[serde(default)]
    pub trusted_proxies: Option<Vec<Network>>,
    /// Where they say it. Default `X-Forwarded-For`.
    #[serde(default)]
    pub trusted_header: Option<TrustedHeader>,
    /// Their connections begin with a header of the PROXY protocol. Default `false`.
    #[serde(default)]
    pub proxy_protocol: Option<bool>,
}

/// The header in which a proxy says for whom it speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustedHeader {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto` beside it.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl TrustedHeader {
    /// In any case, as headers are.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Some(Self::XForwardedFor),
            "forwarded" => Some(Self::Forwarded),
            _ => None,
        }
    }
}

impl fmt::Display for TrustedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        })
    }
}

/// How requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogForm {
    /// Not at all.
    #[default]
    Off,
    /// In columns.
    Text,
    /// An object each.
    Json,
}

impl AccessLogForm {
    /// As files say it.
    pub(crate) const WORDS: &'static [&'static str] = &["off", "text", "json"];

    /// The form of this word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Off, Self::Text, Self::Json]
            .into_iter()
            .find(|form| form.as_str() == word)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for AccessLogForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long books are kept, in days, today not counted; 0 is for ever, and `None` says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionSpec {
    /// Usage.
    pub usage_days: Option<u32>,
    /// The audit log.
    pub audit_days: Option<u32>,
}
