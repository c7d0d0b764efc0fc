//! Gets the keys of one provider: from its address, from a file, or from a variable.
//!
//! Addresses are called through `outbound`: it refuses private ones unless the provider may be at one,
//! follows no redirect, and bounds time and size. What a provider's metadata says is believed when its
//! `issuer` is the one that was asked for.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode, Uri};
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::keys::{Keys, KeysError};
use super::pace::{FILE, Pace, REMOTE};
use crate::config::identity::{KeysFrom, ProviderSpec, is_web_address};
use crate::outbound::{Outbound, OutboundError, Policy, origin};

/// From the first look-up to the last byte of one answer. Getting keys takes up to four of them.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a JWK set or of metadata; a dozen RSA keys with certificates have 40 KiB.
const SIZE_MAX: usize = 256 * 1024;

/// Where keys come from, and what was seen there last.
pub(super) enum Source {
    /// An address, or the metadata that name it.
    Remote {
        outbound: Outbound,
        issuer: String,
        /// `None`: the metadata say.
        url: Option<String>,
        allow_private: bool,
    },
    /// A file.
    File {
        path: PathBuf,
        holds: Holds,
        seen: Option<Stamp>,
    },
    /// A variable of this process, which never changes.
    Variable { name: String, read: bool },
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// A JWK set.
    Set,
    /// A secret, which nobody else may read.
    Secret,
}

/// What changes when a file does: modification in nanoseconds, size, and which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

/// Why keys could not be had. Names addresses without their queries, and never a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] OutboundError),
    /// It answered, but not with that.
    #[error("`{at}` answered {status}{}", redirect(*status))]
    Status {
        /// Where.
        at: String,
        /// With what.
        status: StatusCode,
    },
    /// Not an address that keys may come from.
    #[error("`{0}` is no address that keys may come from")]
    Address(String),
    /// No metadata at any of the places where they may be.
    #[error("no metadata of `{issuer}` can be had; `jwks_url` may name its keys")]
    NoMetadata {
        /// Whose.
        issuer: String,
        /// Of the last place.
        source: Box<SourceError>,
    },
    /// JSON, but no metadata.
    #[error("`{0}` is no metadata with `issuer` and `jwks_uri`")]
    Metadata(String),
    /// Somebody else's.
    #[error("the metadata at `{at}` are those of `{theirs}`; write `issuer` just so")]
    Issuer {
        /// Where.
        at: String,
        /// Their issuer.
        theirs: String,
    },
    /// What came has no keys.
    #[error("what came from `{at}` cannot be used")]
    Keys {
        /// Where from.
        at: String,
        /// Why not.
        source: KeysError,
    },
    /// The file.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has an impossible size.
    #[error("`{}` is larger than 256 KiB, or no plain file", .0.display())]
    NoPlainFile(PathBuf),
    /// Others may read the secret.
    #[error("others may read `{}`, which holds a secret; `chmod 600` it", .0.display())]
    Open(PathBuf),
    /// The variable.
    #[error("the variable `{0}` is not set where the daemon runs")]
    Unset(String),
}

fn redirect(status: StatusCode) -> &'static str {
    if status.is_redirection() {
        "; redirects are not followed"
    } else {
        ""
    }
}

impl Source {
    /// The source of this provider.
    pub(super) fn of(spec: &ProviderSpec) -> Self {
        let remote = |url| Self::Remote {
            outbound: Outbound::new(Policy {
                allow_private: spec.allow_private,
                timeout: CALL_TIMEOUT,
                max_answer: SIZE_MAX,
            }),
            issuer: spec.issuer.clone(),
            url,
            allow_private: spec.allow_private,
        };
        let file = |path: &PathBuf, holds| Self::File {
            path: path.clone(),
            holds,
            seen: None,
        };
        match &spec.keys {
            KeysFrom::Discovery => remote(None),
            KeysFrom::Url(url) => remote(Some(url.clone())),
            KeysFrom::File(path) => file(path, Holds::Set),
            KeysFrom::SecretFile(path) => file(path, Holds::Secret),
            KeysFrom::SecretEnv(name) => Self::Variable {
                name: name.clone(),
                read: false,
            },
        }
    }

    /// How often it is asked.
    pub(super) fn pace(&self) -> &'static Pace {
        match self {
            Self::File { .. } => &FILE,
            Self::Remote { .. } | Self::Variable { .. } => &REMOTE,
        }
    }

    /// The keys as they are now; `None` when they are those of the last time.
    ///
    /// # Errors
    /// They cannot be had. Those of the last time are for the caller to keep.
    pub(super) async fn load(&mut self) -> Result<Option<Keys>, SourceError> {
        match self {
            Self::Remote {
                outbound,
                issuer,
                url,
                allow_private,
            } => {
                let found;
                let at = match url.as_deref() {
                    Some(url) => url,
                    None => {
                        found = discover(outbound, issuer, *allow_private).await?;
                        found.as_str()
                    }
                };
                let body = get(outbound, at).await?;
                keys(Keys::of_set(&body), &plain(at)).map(Some)
            }
            Self::File { path, holds, seen } => load_file(path, *holds, seen).await,
            Self::Variable { read: true, .. } => Ok(None),
            Self::Variable { name, read } => {
                let text = std::env::var(&*name).map(Zeroizing::new);
                let text = text.map_err(|_| SourceError::Unset(name.clone()))?;
                let found = keys(Keys::of_secret(text.as_bytes()), name)?;
                *read = true;
                Ok(Some(found))
            }
        }
    }
}

fn keys(found: Result<Keys, KeysError>, at: &str) -> Result<Keys, SourceError> {
    found.map_err(|source| SourceError::Keys {
        at: at.to_owned(),
        source,
    })
}

async fn load_file(
    path: &Path,
    holds: Holds,
    seen: &mut Option<Stamp>,
) -> Result<Option<Keys>, SourceError> {
    let failed = |source| SourceError::File {
        path: path.to_owned(),
        source,
    };
    // Looked at before it is read: what changes in between is read once more.
    let facts = tokio::fs::metadata(path).await.map_err(failed)?;
    let stamp = Stamp {
        modified: (facts.mtime(), facts.mtime_nsec()),
        size: facts.size(),
        inode: facts.ino(),
    };
    if *seen == Some(stamp) {
        return Ok(None);
    }
    if !facts.is_file() || facts.size() > SIZE_MAX as u64 {
        return Err(SourceError::NoPlainFile(path.to_owned()));
    }
    // A group may read what systemd hands out, whose mask shows as the group's bits.
    if holds == Holds::Secret && facts.mode() & 0o007 != 0 {
        return Err(SourceError::Open(path.to_owned()));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).await.map_err(failed)?;
    let mut file = file.take(SIZE_MAX as u64);
    file.read_to_end(&mut bytes).await.map_err(failed)?;
    let found = match holds {
        Holds::Set => Keys::of_set(&bytes),
        Holds::Secret => Keys::of_secret(&bytes),
    };
    let found = keys(found, &path.display().to_string())?;
    *seen = Some(stamp);
    Ok(Some(found))
}

/// What is read of a provider's metadata.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Where the keys of an issuer are, as its metadata say.
async fn discover(
    outbound: &Outbound,
    issuer: &str,
    allow_private: bool,
) -> Result<String, SourceError> {
    let mut last = None;
    for at in places(issuer) {
        let body = match get(outbound, &at).await {
            Ok(body) => body,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let Ok(metadata) = serde_json::from_slice::<Metadata>(&body) else {
            last = Some(SourceError::Metadata(plain(&at)));
            continue;
        };
        if metadata.issuer != issuer {
            return Err(SourceError::Issuer {
                at: plain(&at),
                theirs: metadata.issuer,
            });
        }
        if !is_web_address(&metadata.jwks_uri, allow_private) {
            return Err(SourceError::Address(plain(&metadata.jwks_uri)));
        }
        return Ok(metadata.jwks_uri);
    }
    let last = last.unwrap_or_else(|| SourceError::Address(plain(issuer)));
    Err(SourceError::NoMetadata {
        issuer: issuer.to_owned(),
        source: Box::new(last),
    })
}

/// Where an issuer's metadata may be, the most usual place last so that its failure is the one that
/// is told: RFC 8414 §3.1 puts the well-known part before a path, OpenID Connect Discovery §4.1
/// behind it.
fn places(issuer: &str) -> Vec<String> {
    let issuer = issuer.trim_end_matches('/');
    let behind = format!("{issuer}/.well-known/openid-configuration");
    let Ok(uri) = issuer.parse::<Uri>() else {
        return vec![behind];
    };
    let path = uri.path().trim_end_matches('/');
    let root = issuer.strip_suffix(path).unwrap_or(issuer);
    vec![
        format!("{root}/.well-known/oauth-authorization-server{path}"),
        behind,
    ]
}

/// The body of a good answer.
async fn get(outbound: &Outbound, at: &str) -> Result<Bytes, SourceError> {
    let bad = || SourceError::Address(plain(at));
    let request = Request::get(at)
        .header(ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|_| bad())?;
    let answer = outbound.call(request).await?;
    if answer.status != StatusCode::OK {
        return Err(SourceError::Status {
            at: plain(at),
            status: answer.status,
        });
    }
    Ok(answer.body)
}

/// An address without its query, which may hold a key.
fn plain(at: &str) -> String {
    match at.parse::<Uri>() {
        Ok(uri) => format!("{}{}", origin(&uri), uri.path()),
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_looked_for_where_the_standards_say() {
        let check = |issuer: &str, expected: [&str; 2]| assert_eq!(places(issuer), expected);
        check(
            "https://id.example.com/",
            [
                "https://id.example.com/.well-known/oauth-authorization-server",
                "https://id.example.com/.well-known/openid-configuration",
            ],
        );
        check(
            "https://id.example.com:8443/realms/a",
            [
                "https://id.example.com:8443/.well-known/oauth-authorization-server/realms/a",
                "https://id.example.com:8443/realms/a/.well-known/openid-configuration",
            ],
        );
    }

    #[test]
    fn messages_hold_no_query() {
        let said = SourceError::Status {
            at: plain("https://id.example.com/keys?key=hunter2"),
            status: StatusCode::FOUND,
        };
        assert_eq!(
            said.to_string(),
            "`https://id.example.com/keys` answered 302 Found; redirects are not followed"
        );
    }
}
