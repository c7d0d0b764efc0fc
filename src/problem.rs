//! Errors as RFC 9457 problem JSON, the same shape from every door.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An RFC 9457 problem. `code` is stable and for programs, `detail` is for people.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A URI that names the kind of problem: `urn:mcpm:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong and what to do; never a secret.
    pub detail: String,
    /// Stable name, such as `unknown_instance`.
    pub code: String,
    /// Under which it stands in the log.
    pub request_id: String,
}

impl Problem {
    /// A problem with this status and stable code.
    pub fn new(status: http::StatusCode, code: &str, detail: impl Into<String>, id: &str) -> Self {
        Self {
            kind: format!("urn:mcpm:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            request_id: id.to_owned(),
        }
    }
}

/// An error and what is behind it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// What SQLite says when it has no descriptor for a file, and for other reasons.
const SQLITE_CANNOT_OPEN: &str = "unable to open database file";
/// With fewer descriptors that is the likely reason.
const FEW_FILES: u64 = 64;

/// What to do about an error, told behind it: `None` when it says that itself.
fn advice(told: &str) -> Option<String> {
    let number = rustix::io::Errno::MFILE.raw_os_error();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // By its words, which all errors that hold another one pass on; SQLite does not say why.
    let is_mute = told.contains(SQLITE_CANNOT_OPEN) && limit.is_some_and(|limit| limit < FEW_FILES);
    if !is_mute && !told.contains(&format!("(os error {number})")) {
        return None;
    }
    let limit = limit.map_or_else(String::new, |limit| {
        format!("only {limit} open files are allowed; ")
    });
    Some(format!(
        "{limit}raise the limit (`ulimit -n`, `LimitNOFILE=` of a unit)"
    ))
}

/// With what to do about it.
pub fn advised(told: &str) -> String {
    advice(told).map_or_else(|| told.to_owned(), |advice| format!("{told}; {advice}"))
}

/// Random bytes of a request id.
const ID_BYTES: usize = 16;
/// Letters of a request id.
const ID_CHARS: usize = 26;
/// Random bytes that a thread takes from the system at once: the router makes an id per request.
const POOL_BYTES: usize = 64 * ID_BYTES;

thread_local! {
    /// How much of it is used, and the bytes.
    static POOL: RefCell<(usize, [u8; POOL_BYTES])> =
        const { RefCell::new((POOL_BYTES, [0; POOL_BYTES])) };
}

/// A fresh request id: 26 letters of `a-z2-7`, always as long. It names, and opens nothing.
pub fn request_id() -> String {
    POOL.with_borrow_mut(|(used, pool)| {
        if *used == POOL_BYTES {
            // A label only: without random numbers the log is harder to read, and nothing else.
            let _ = getrandom::fill(pool);
            *used = 0;
        }
        let bytes = &pool[*used..*used + ID_BYTES];
        *used += ID_BYTES;
        base32(bytes)
    })
}

/// Whether a text has the form of [`request_id`]: what comes from elsewhere goes into logs.
pub fn is_request_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

/// RFC 4648 §6 in lower case and without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = data_encoding::BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_want_of_descriptors_names_the_limit() {
        let error = std::io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let advice = advice(&format!("cannot open its socket: {error}")).unwrap();
        assert!(
            advice.contains("open files are allowed; raise the limit"),
            "{advice}"
        );
        assert_eq!(super::advice("cannot open its socket"), None);
    }

    #[test]
    fn request_ids_are_as_long_as_each_other_and_differ() {
        let ids: BTreeSet<String> = (0..1000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in &ids {
            assert!(is_request_id(id), "{id}");
        }
        for other in [
            "",
            "x",
            "0aaaaaaaaaaaaaaaaaaaaaaaaa",
            "a\naaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(!is_request_id(other), "{other}");
        }
    }
}
