//! The `oauth` block of a service's `auth` → where its users give their consent. Pure.
//!
//! No secret may stand in a file: `auth.rs` refuses a literal one, and here only the name of a
//! variable or of a file is taken.

use serde::{Deserialize, Deserializer};

use super::env::CLIENT_SECRET_PREFIX;
use super::error::{Report, shown};
use super::fields::{self, Fields};
use super::identity::{is_variable, is_web_address, whole_path};
use super::keys::OAUTH;
use super::spec::{ClientAuth, ClientSecret, OauthSpec};
use super::syntax::{Entry, Value};

/// What we say ourselves at the authorization address (RFC 6749 §4.1.1, RFC 7636 §4.3).
const OWN_PARAMS: [&str; 9] = [
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "redirect_uri",
    "request",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

/// Reads it; `None` when it is not there, or says too little.
pub(crate) fn read(auth: &Fields, allow_private: bool, report: &mut Report) -> Option<OauthSpec> {
    auth.raw("oauth")?;
    let fields = fields::read(auth.entries("oauth"), auth.place("oauth"), &OAUTH, report);
    let web = |name: &str, report: &mut Report| address(&fields, name, allow_private, report);
    let authorization_url = needed(&fields, "authorization_url", report)
        .then(|| web("authorization_url", report))
        .flatten();
    let token_url = needed(&fields, "token_url", report)
        .then(|| web("token_url", report))
        .flatten();
    let revocation_url = web("revocation_url", report);
    let client_id = needed(&fields, "client_id", report)
        .then(|| visible(&fields, "client_id", report))
        .flatten();
    let client_secret = client_secret(&fields, report);
    if client_secret.is_none() && fields.has("client_auth") {
        let message = "`client_auth` says how a secret is shown, and there is none: write \
                       `client_secret_env` or `client_secret_file`";
        report.warn(fields.place("client_auth"), message);
    }
    let issuer = visible(&fields, "issuer", report);
    let scopes = scopes(&fields, report);
    let authorize_params = authorize_params(fields.entries("authorize_params"), report);
    Some(OauthSpec {
        authorization_url: authorization_url?,
        token_url: token_url?,
        revocation_url,
        client_id: client_id?,
        client_secret,
        client_auth: match fields.text("client_auth") {
            Some("post") => ClientAuth::Post,
            _ => ClientAuth::Basic,
        },
        scopes,
        issuer,
        authorize_params,
    })
}

/// Says that a key is missing; `false` then.
fn needed(fields: &Fields, name: &str, report: &mut Report) -> bool {
    if fields.lacks(name) {
        let write = match name {
            "client_id" => "the id that the provider has given to you",
            "token_url" => "the provider's `token_endpoint`",
            _ => "the provider's `authorization_endpoint`",
        };
        report.mistake(fields.at, format!("`oauth` has no `{name}`; write {write}"));
        return false;
    }
    true
}

fn address(
    fields: &Fields,
    name: &str,
    allow_private: bool,
    report: &mut Report,
) -> Option<String> {
    let text = fields.text(name)?;
    if !is_web_address(text, allow_private) {
        let message = format!(
            "`{name}` is {}; write an `https` address without user, password or `#` (`http` only \
             with `allow_private`)",
            shown(text)
        );
        report.mistake(fields.place(name), message);
        return None;
    }
    Some(text.to_owned())
}

/// A text of one line that is not empty.
fn visible(fields: &Fields, name: &str, report: &mut Report) -> Option<String> {
    let text = fields.text(name)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        let message = format!("`{name}` is {}; write one line", shown(text));
        report.mistake(fields.place(name), message);
        return None;
    }
    Some(text.to_owned())
}

/// RFC 6749 §3.3: what a scope may be made of.
fn scopes(fields: &Fields, report: &mut Report) -> Vec<String> {
    let plain = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let mut found = Vec::new();
    for scope in fields.texts("scopes") {
        if scope.is_empty() || !scope.bytes().all(plain) {
            let message = format!(
                "{} is no scope; write one as the provider lists it, without blanks and quotes",
                shown(scope)
            );
            report.mistake(fields.place("scopes"), message);
        } else {
            found.push(scope.clone());
        }
    }
    found
}

fn client_secret(fields: &Fields, report: &mut Report) -> Option<ClientSecret> {
    let (variable, file) = ("client_secret_env", "client_secret_file");
    if !fields.lacks(variable) && !fields.lacks(file) {
        let message = format!("`{variable}` and `{file}` clash; keep one");
        report.mistake(fields.place(file), message);
        return None;
    }
    // A secret may stand where its name belongs: neither of the two is repeated.
    if let Some(text) = fields.text(variable) {
        if !is_variable(text) {
            let message = format!(
                "`{variable}` is none; write the name of a variable, never the secret itself"
            );
            report.mistake(fields.place(variable), message);
            return None;
        }
        if !text.starts_with(CLIENT_SECRET_PREFIX) {
            let message = format!(
                "apps that are started from a shell with {} get it, too; a name that begins with \
                 `{CLIENT_SECRET_PREFIX}` stays with the daemon",
                shown(text)
            );
            report.warn(fields.place(variable), message);
        }
        return Some(ClientSecret::Env(text.to_owned()));
    }
    let path = whole_path(fields.text(file)?);
    if path.is_none() {
        let message =
            format!("`{file}` is none; write a whole path, from `/` on, never the secret itself");
        report.mistake(fields.place(file), message);
    }
    path.map(ClientSecret::File)
}

fn authorize_params(entries: &[Entry], report: &mut Report) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for Entry { key, at, node } in entries {
        let value = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_text(),
            _ => {
                let message = format!("{} is no text; write one", shown(key));
                report.mistake(node.at, message);
                continue;
            }
        };
        if OWN_PARAMS.contains(&key.as_str()) {
            let message = format!("{} is set by mcpm itself; leave it out", shown(key));
            report.mistake(*at, message);
        } else if key.is_empty() || found.iter().any(|(name, _)| name == key) {
            let message = format!("{} is no parameter, or written twice", shown(key));
            report.mistake(*at, message);
        } else {
            found.push((key.clone(), value));
        }
    }
    found
}

/// Reads what was stored. Releases before this one kept the block as it was written: then nobody knows
/// where consent is given until the file is started again.
pub(super) fn stored<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OauthSpec>, D::Error> {
    let kept = Option::<serde_json::Value>::deserialize(from)?;
    Ok(kept.and_then(|kept| serde_json::from_value(kept).ok()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::keys::AUTH;
    use super::super::syntax::json;
    use super::*;

    fn oauth(block: &str, allow_private: bool) -> (Option<OauthSpec>, Report) {
        let mut report = Report::new(Some("f"));
        let node = json::parse(&format!("{{type: 'oauth2', oauth: {block}}}")).unwrap();
        let Value::Map(entries) = &node.value else {
            panic!("{block}");
        };
        let fields = fields::read(entries, node.at, &AUTH, &mut report);
        let spec = read(&fields, allow_private, &mut report);
        (spec, report)
    }

    fn with(more: &str) -> String {
        let least = "authorization_url: 'https://i/a', token_url: 'https://i/t', client_id: 'c'";
        format!("{{{least}, {more}}}")
    }

    #[test]
    fn a_whole_block() {
        let (spec, report) = oauth(
            &with(
                "revocationUrl: 'https://i/r', scopes: ['read', 'write:x'], issuer: 'https://i',
                 client_secret_file: '/run/secret', client_auth: 'post',
                 authorize_params: {access_type: 'offline', max_age: 5}",
            ),
            false,
        );
        assert_eq!(report.finish().unwrap(), []);
        let spec = spec.unwrap();
        assert_eq!(spec.revocation_url.as_deref(), Some("https://i/r"));
        assert_eq!(spec.scopes, ["read", "write:x"]);
        assert_eq!(spec.issuer.as_deref(), Some("https://i"));
        let file = ClientSecret::File(PathBuf::from("/run/secret"));
        assert_eq!(spec.client_secret, Some(file));
        assert_eq!(spec.client_auth, ClientAuth::Post);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let params = [pair("access_type", "offline"), pair("max_age", "5")];
        assert_eq!(spec.authorize_params, params);
        let kept = serde_json::to_value(&spec).unwrap();
        assert_eq!(stored(kept).unwrap(), Some(spec));
    }

    #[test]
    fn a_public_client_with_the_least() {
        let (spec, report) = oauth(&with("scope: 'a b'"), false);
        assert_eq!(report.finish().unwrap(), []);
        let spec = spec.unwrap();
        assert_eq!((spec.client_secret, spec.scopes.len()), (None, 2));
    }

    #[test]
    fn what_older_releases_kept_is_no_block() {
        let old = serde_json::json!({"clientSecretEnv": "X", "tokenUrl": 3});
        assert_eq!(stored(old).unwrap(), None);
        assert_eq!(stored(serde_json::Value::Null).unwrap(), None);
    }

    #[test]
    fn plain_http_is_for_private_addresses() {
        let block = "{authorization_url: 'http://localhost:1/a', token_url: 'http://[::1]/t',
                      client_id: 'c'}";
        assert!(oauth(block, true).1.finish().is_ok());
        let error = oauth(block, false).1.finish().unwrap_err().to_string();
        assert!(
            error.contains("`http` only with `allow_private`"),
            "{error}"
        );
    }

    #[test]
    fn every_mistake_says_what_to_write() {
        for (block, part) in [
            ("{}".to_owned(), "has no `authorization_url`"),
            ("{}".to_owned(), "has no `token_url`"),
            ("{}".to_owned(), "has no `client_id`"),
            (
                with("revocation_url: 'https://u:p@i/'"),
                "`revocation_url` is",
            ),
            (with("client_id: ''"), "`client_id` is"),
            (with("scopes: ['a\"b']"), "is no scope"),
            (with("client_auth: 'jwt'"), "write one of"),
            (
                with("client_secret_env: 'MCPM_OAUTH_X', client_secret_file: '/x'"),
                "clash",
            ),
            (with("client_secret_env: 'hun ter2'"), "never the secret"),
            (with("client_secret_file: 'hunter2'"), "never the secret"),
            (with("authorize_params: {state: 'x'}"), "set by mcpm itself"),
            (with("authorize_params: {a: [1]}"), "is no text"),
        ] {
            let error = oauth(&block, false).1.finish().unwrap_err().to_string();
            assert!(error.contains(part), "{block}: {error}");
            assert!(
                !error.contains("hunter2") && !error.contains("hun ter2"),
                "{error}"
            );
        }
        let (_, report) = oauth(&with("client_secret_env: 'FIGMA_SECRET'"), false);
        assert_eq!(report.finish().unwrap().len(), 1);
        let (_, report) = oauth(&with("client_auth: 'basic'"), false);
        assert_eq!(report.finish().unwrap().len(), 1);
    }
}
