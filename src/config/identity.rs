//! The `identity_provider` block of the daemon → [`ProviderSpec`]: whose JWTs count as tokens of
//! users. Pure.
//!
//! No secret may stand in a file: a literal one refuses the file, and its value appears in no
//! message. An algorithm of public keys and one of a secret never stand beside each other.

use std::fmt;
use std::path::PathBuf;

use http::Uri;
use serde::{Deserialize, Serialize};

use super::env::SECRET_PREFIX;
use super::error::{Report, shown};
use super::fields::{self, Fields};
use super::keys::IDENTITY_PROVIDER;
use super::syntax::{Entry, Node, Value};

/// The claim that is the user's id when nobody says.
const USER_CLAIM: &str = "sub";
/// How far a provider's clock may be off when nobody says, in milliseconds.
const LEEWAY_MS: u64 = 30_000;
/// And at most.
pub const LEEWAY_MS_MAX: u64 = 5 * 60_000;
/// Bytes of `user_prefix`: most of a user's id is the claim's.
const PREFIX_MAX: usize = 64;

/// One identity provider. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// `iss` of its tokens, to the letter.
    pub issuer: String,
    /// One of these stands in `aud`. Never empty.
    pub audiences: Vec<String>,
    /// Where its keys come from.
    pub keys: KeysFrom,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// The claim whose value is the user's id.
    pub user_claim: String,
    /// Stands before that value in the user's id; may be empty.
    pub user_prefix: String,
    /// Users are added when their first token is seen.
    pub create_users: bool,
    /// How far its clock may be off, in milliseconds.
    pub leeway_ms: u64,
    /// All of these stand in `scope` or `scp`.
    pub required_scopes: Vec<String>,
    /// It may be at an address that is not public, and at one without TLS.
    pub allow_private: bool,
}

/// Where the keys of a provider come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeysFrom {
    /// From the address that its metadata names (RFC 8414, OpenID Connect Discovery).
    Discovery,
    /// From this address.
    Url(String),
    /// From this file.
    File(PathBuf),
    /// A secret in this variable of the daemon.
    SecretEnv(String),
    /// A secret in this file.
    SecretFile(PathBuf),
}

/// What a token may be signed with (RFC 7518 §3.1). `none` is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA with SHA-256, PKCS #1.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
}

impl Algorithm {
    /// By its name, which is case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256, Self::Hs256]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// As it stands in a token.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Hs256 => "HS256",
        }
    }
}

impl KeysFrom {
    /// A secret that both sides know, rather than public keys.
    pub fn is_secret(&self) -> bool {
        match self {
            Self::SecretEnv(_) | Self::SecretFile(_) => true,
            Self::Discovery | Self::Url(_) | Self::File(_) => false,
        }
    }
}

impl fmt::Display for KeysFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery => f.write_str("keys found at the issuer"),
            Self::Url(url) => write!(f, "keys from {url}"),
            Self::File(path) => write!(f, "keys from {}", path.display()),
            Self::SecretEnv(name) => write!(f, "secret in the variable {name}"),
            Self::SecretFile(path) => write!(f, "secret in {}", path.display()),
        }
    }
}

/// All of it, since settings that show the same are the same.
impl fmt::Display for ProviderSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.algorithms.iter().map(|a| a.name()).collect();
        write!(
            f,
            "{} (audience {}; {}; {}; user `{}`",
            self.issuer,
            self.audiences.join(", "),
            self.keys,
            names.join(", "),
            self.user_claim
        )?;
        if !self.user_prefix.is_empty() {
            write!(f, " after `{}`", self.user_prefix)?;
        }
        if self.create_users {
            f.write_str(", added on first sight")?;
        }
        write!(f, "; leeway {} ms", self.leeway_ms)?;
        if !self.required_scopes.is_empty() {
            write!(f, "; scope {}", self.required_scopes.join(" "))?;
        }
        if self.allow_private {
            f.write_str("; private addresses allowed")?;
        }
        f.write_str(")")
    }
}

/// Whether this is an address that keys may come from: `https`, or `http` too where the provider may
/// be private; a host, and nothing before it or behind a `#`.
pub fn is_web_address(text: &str, allow_private: bool) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let scheme = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => allow_private,
        _ => false,
    };
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let host = authority.is_some_and(|authority| !authority.contains('@'))
        && uri.host().is_some_and(|host| !host.is_empty());
    scheme && host && !text.contains('#')
}

/// Reads one provider or a list of them; `None` when the key is not there.
pub(crate) fn read(node: Option<&Node>, report: &mut Report) -> Option<Vec<ProviderSpec>> {
    let node = node?;
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut found: Vec<ProviderSpec> = Vec::new();
    for item in items {
        let Value::Map(entries) = &item.value else {
            let message = format!(
                "an identity provider is {}; write a map with `issuer` and `audience`",
                item.described()
            );
            report.mistake(item.at, message);
            continue;
        };
        refuse_secrets(entries, report);
        let fields = fields::read(entries, item.at, &IDENTITY_PROVIDER, report);
        let Some(provider) = provider(&fields, report) else {
            continue;
        };
        let issuer = &provider.issuer;
        if found.iter().any(|other| other.issuer == *issuer) {
            let message = format!("two providers have the issuer {}", shown(issuer));
            report.mistake(fields.place("issuer"), message);
        }
        let same_users = |other: &&ProviderSpec| other.user_prefix == provider.user_prefix;
        if let Some(other) = found.iter().find(same_users) {
            let message = format!(
                "users of {} and of {} are the same ones when their ids are; give one of the two a \
                 `user_prefix` unless that is meant",
                shown(&other.issuer),
                shown(issuer)
            );
            report.warn(item.at, message);
        }
        found.push(provider);
    }
    Some(found)
}

/// A secret belongs into a variable or a file of its own.
fn refuse_secrets(entries: &[Entry], report: &mut Report) {
    for entry in entries {
        let key = entry.key.to_ascii_lowercase().replace(['_', '-'], "");
        if matches!(key.as_str(), "secret" | "sharedsecret" | "clientsecret") {
            let message = "a secret must not stand in a file; write `secret_env` with a variable's \
                           name, or `secret_file` with a path";
            report.mistake(entry.at, message);
        }
    }
}

/// `None` when what makes a provider is missing, which was told.
fn provider(fields: &Fields, report: &mut Report) -> Option<ProviderSpec> {
    let allow_private = fields.flag("allow_private").unwrap_or(false);
    let issuer = issuer(fields, report);
    let audiences = audiences(fields, report);
    let keys = keys(fields, allow_private, report);
    if keys == Some(KeysFrom::Discovery)
        && let Some(issuer) = &issuer
        && (!is_web_address(issuer, allow_private) || issuer.contains('?'))
    {
        let message = format!(
            "no keys can be found at {}; write `jwks_url`, `jwks_file` or `secret_env`, or an \
             `https` address (`http` with `allow_private`)",
            shown(issuer)
        );
        report.mistake(fields.place("issuer"), message);
    }
    let algorithms = algorithms(fields, keys.as_ref(), report);
    let user_claim = fields.text("user_claim").unwrap_or(USER_CLAIM);
    if user_claim.is_empty() {
        let message = "`user_claim` is empty; write a claim's name, such as `sub`";
        report.mistake(fields.place("user_claim"), message);
    }
    let user_prefix = fields.text("user_prefix").unwrap_or_default();
    if user_prefix.len() > PREFIX_MAX || user_prefix.contains(char::is_control) {
        let message = format!("`user_prefix` has at most {PREFIX_MAX} bytes, none of them control");
        report.mistake(fields.place("user_prefix"), message);
    }
    let leeway = fields.duration("leeway");
    let leeway_ms = leeway.map_or(LEEWAY_MS, |leeway| {
        u64::try_from(leeway.as_millis()).unwrap_or(u64::MAX)
    });
    if leeway_ms > LEEWAY_MS_MAX {
        let message = "`leeway` is longer than 5 minutes; set the provider's clock instead";
        report.mistake(fields.place("leeway"), message);
    }
    let required_scopes = scopes(fields, report);
    Some(ProviderSpec {
        issuer: issuer?,
        audiences: audiences?,
        keys: keys?,
        algorithms: algorithms?,
        user_claim: user_claim.to_owned(),
        user_prefix: user_prefix.to_owned(),
        create_users: fields.flag("create_users").unwrap_or(false),
        leeway_ms,
        required_scopes,
        allow_private,
    })
}

fn issuer(fields: &Fields, report: &mut Report) -> Option<String> {
    match fields.text("issuer") {
        Some(text) if !text.is_empty() && !text.contains(char::is_control) => Some(text.to_owned()),
        Some(text) => {
            let message = format!(
                "`issuer` is {}; write what its tokens have as `iss`",
                shown(text)
            );
            report.mistake(fields.place("issuer"), message);
            None
        }
        None => {
            if fields.lacks("issuer") {
                let message = "an identity provider has no `issuer`; write what its tokens have as \
                               `iss`";
                report.mistake(fields.at, message);
            }
            None
        }
    }
}

fn audiences(fields: &Fields, report: &mut Report) -> Option<Vec<String>> {
    let texts = fields.texts("audience");
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        if fields.lacks("audience") || fields.has("audience") {
            let message = "an identity provider has no `audience`; write what its tokens for this \
                           server have as `aud`, so that those for others do not count";
            report.mistake(fields.place("audience"), message);
        }
        return None;
    }
    Some(texts.to_vec())
}

/// At most one place is named; `None` when it is none, or there are two.
fn keys(fields: &Fields, allow_private: bool, report: &mut Report) -> Option<KeysFrom> {
    let places = ["jwks_url", "jwks_file", "secret_env", "secret_file"];
    let given: Vec<&str> = places
        .into_iter()
        .filter(|name| !fields.lacks(name))
        .collect();
    if let [first, second, ..] = given[..] {
        let message = format!("`{first}` and `{second}` clash; keep one");
        report.mistake(fields.place(second), message);
        return None;
    }
    let Some(&name) = given.first() else {
        return Some(KeysFrom::Discovery);
    };
    let text = fields.text(name)?;
    let (found, write) = match name {
        "jwks_url" => (
            is_web_address(text, allow_private).then(|| KeysFrom::Url(text.to_owned())),
            "an `https` address (`http` with `allow_private`)",
        ),
        "jwks_file" => (
            whole_path(text).map(KeysFrom::File),
            "a whole path, from `/` on",
        ),
        // A secret may stand where its name belongs: neither of the two is repeated.
        "secret_env" => (
            is_variable(text).then(|| KeysFrom::SecretEnv(text.to_owned())),
            "the name of a variable, never the secret itself",
        ),
        _ => (
            whole_path(text).map(KeysFrom::SecretFile),
            "a whole path, from `/` on, never the secret itself",
        ),
    };
    if found.is_none() {
        report.mistake(
            fields.place(name),
            format!("`{name}` is none; write {write}"),
        );
    }
    if let Some(KeysFrom::SecretEnv(variable)) = &found
        && !variable.starts_with(SECRET_PREFIX)
    {
        let message = format!(
            "apps that are started from a shell with {} get it, too; a name that begins with \
             `{SECRET_PREFIX}` stays with the daemon",
            shown(variable)
        );
        report.warn(fields.place(name), message);
    }
    found
}

pub(super) fn whole_path(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    path.is_absolute().then_some(path)
}

pub(super) fn is_variable(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().all(plain) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

fn algorithms(
    fields: &Fields,
    keys: Option<&KeysFrom>,
    report: &mut Report,
) -> Option<Vec<Algorithm>> {
    let secret = keys.is_some_and(KeysFrom::is_secret);
    if !fields.has("algorithms") {
        return fields.lacks("algorithms").then(|| match secret {
            true => vec![Algorithm::Hs256],
            false => vec![Algorithm::Rs256, Algorithm::Es256],
        });
    }
    let at = fields.place("algorithms");
    let mut found = Vec::new();
    for text in fields.texts("algorithms") {
        match Algorithm::parse(text) {
            Some(algorithm) => found.push(algorithm),
            None => {
                let message = format!(
                    "{} is no algorithm here; write `RS256`, `ES256` or `HS256`",
                    shown(text)
                );
                report.mistake(at, message);
                return None;
            }
        }
    }
    let shared = found.contains(&Algorithm::Hs256);
    let message = if found.is_empty() {
        "`algorithms` is empty; write `RS256`, `ES256` or `HS256`"
    } else if shared && found.len() > 1 {
        "`HS256` never stands beside algorithms of public keys: a public key would be a secret"
    } else if shared && keys.is_some() && !secret {
        "`HS256` needs `secret_env` or `secret_file`; keys of `jwks_url` and the like are public"
    } else if secret && !shared {
        "with a secret only `HS256` can be checked; leave `algorithms` out"
    } else {
        return Some(found);
    };
    report.mistake(at, message);
    None
}

/// One text may hold several, as in a token (RFC 6749 §3.3).
fn scopes(fields: &Fields, report: &mut Report) -> Vec<String> {
    let mut scopes = Vec::new();
    for text in fields.texts("required_scope") {
        for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
            let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
            if scope.bytes().all(plain) {
                scopes.push(scope.to_owned());
            } else {
                let message = format!("{} is no scope", shown(scope));
                report.mistake(fields.place("required_scope"), message);
            }
        }
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::super::syntax::json;
    use super::*;

    fn providers(text: &str) -> Result<(Vec<ProviderSpec>, Vec<String>), String> {
        let mut report = Report::new(Some("f"));
        let node = json::parse(text).unwrap();
        let read = read(Some(&node), &mut report).unwrap();
        let warnings = report.finish().map_err(|error| error.to_string())?;
        Ok((read, warnings.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn defaults_are_filled_in() {
        let text = "{issuer: 'https://id.example.com/', audience: 'mcpm'}";
        let (read, warnings) = providers(text).unwrap();
        assert_eq!(warnings, [""; 0]);
        let expected = ProviderSpec {
            issuer: "https://id.example.com/".into(),
            audiences: vec!["mcpm".into()],
            keys: KeysFrom::Discovery,
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            user_claim: "sub".into(),
            user_prefix: String::new(),
            create_users: false,
            leeway_ms: 30_000,
            required_scopes: vec![],
            allow_private: false,
        };
        assert_eq!(read, [expected]);
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<ProviderSpec>>(&json).unwrap(),
            read
        );
    }

    #[test]
    fn all_that_is_given_is_taken_and_shown() {
        let text = "[{issuer: 'a', audience: ['x', 'y'], jwks_file: '/k.json', algorithms: 'ES256',
            user_claim: 'email', user_prefix: 'a:', create_users: true, leeway: '1m',
            required_scope: 'mcp read', allow_private: true},
            {issuer: 'b', audience: 'x', secret_env: 'MCPM_JWT_B'}]";
        let (read, warnings) = providers(text).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(
            read[0].to_string(),
            "a (audience x, y; keys from /k.json; ES256; user `email` after `a:`, added on first \
             sight; leeway 60000 ms; scope mcp read; private addresses allowed)"
        );
        assert_eq!(read[1].algorithms, [Algorithm::Hs256]);
        assert_eq!(read[1].keys, KeysFrom::SecretEnv("MCPM_JWT_B".into()));
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let with = |rest: &str| format!("{{issuer: 'https://i.example', audience: 'a', {rest}}}");
        for (text, part) in [
            (
                "{audience: 'a'}".to_owned(),
                "f:1:1: an identity provider has no `issuer`",
            ),
            ("{issuer: 'https://i.example'}".to_owned(), "no `audience`"),
            (
                "{issuer: 'i', audience: 'a'}".to_owned(),
                "f:1:10: no keys can be found at `i`",
            ),
            (
                "{issuer: 'http://i', audience: 'a'}".to_owned(),
                "no keys can be found",
            ),
            ("['x']".to_owned(), "an identity provider is"),
            (
                with("jwks_url: 'http://i.example/k'"),
                "write an `https` address",
            ),
            (
                with("jwks_url: 'https://u:p@i.example/k'"),
                "write an `https` address",
            ),
            (with("jwks_file: 'k.json'"), "write a whole path"),
            (
                with("jwks_url: 'https://i/k', jwks_file: '/k'"),
                "`jwks_url` and `jwks_file` clash",
            ),
            (with("jwks_url: 'https://i/k', secret_env: 'S'"), "clash"),
            (with("algorithms: 'none'"), "`none` is no algorithm here"),
            (
                with("algorithms: ['RS256', 'rs256']"),
                "`rs256` is no algorithm here",
            ),
            (with("algorithms: []"), "`algorithms` is empty"),
            (
                with("algorithms: 'HS256'"),
                "needs `secret_env` or `secret_file`",
            ),
            (
                with("secret_env: 'S', algorithms: ['HS256', 'RS256']"),
                "never stands beside",
            ),
            (
                with("secret_file: '/s', algorithms: 'RS256'"),
                "only `HS256` can be checked",
            ),
            (with("leeway: '6m'"), "longer than 5 minutes"),
            (with("user_claim: ''"), "`user_claim` is empty"),
            (with("required_scope: 'a\"b'"), "is no scope"),
            (
                "[{issuer: 'https://i', audience: 'a'}, {issuer: 'https://i', audience: 'b'}]"
                    .to_owned(),
                "two providers have the issuer `https://i`",
            ),
        ] {
            let said = providers(&text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_never_repeated() {
        for rest in [
            "secret: 'hunter2 x'",
            "secret_env: 'hunter2 x'",
            "secret_file: 'hunter2 x'",
        ] {
            let text = format!("{{issuer: 'i', audience: 'a', {rest}}}");
            let said = providers(&text).unwrap_err();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn what_may_be_meant_is_told() {
        let (_, warnings) = providers("{issuer: 'i', audience: 'a', secret_env: 'JWT'}").unwrap();
        assert!(warnings[0].contains("`MCPM_JWT_`"), "{warnings:?}");
        let two = "[{issuer: 'https://a', audience: 'a'}, {issuer: 'https://b', audience: 'a'}]";
        let (read, warnings) = providers(two).unwrap();
        assert_eq!(read.len(), 2);
        assert!(warnings[0].contains("`user_prefix`"), "{warnings:?}");
    }
}
