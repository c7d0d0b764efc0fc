//! Errors as RFC 9457 problem JSON, the same shape from every door.

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

/// A fresh request id: 26 letters of `a-z2-7`, always as long.
pub fn request_id() -> String {
    let mut bytes = [0; 16];
    // A label only: without random numbers the log is harder to read, and nothing else.
    let _ = getrandom::fill(&mut bytes);
    data_encoding::BASE32_NOPAD
        .encode(&bytes)
        .to_ascii_lowercase()
}
