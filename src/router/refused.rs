//! How often the router has refused, by reason.

use crate::metrics::Count;

/// All that `Refusal::code` says.
const CODES: [&str; 23] = [
    "answer_too_large",
    "bad_body",
    "bad_message",
    "bad_path",
    "bad_transfer_coding",
    "body_timeout",
    "body_too_large",
    "credentials_expired",
    "credentials_unavailable",
    "foreign_origin",
    "guessing",
    "identity_unavailable",
    "insufficient_scope",
    "method_not_allowed",
    "not_found",
    "rate_limited",
    "service_unavailable",
    "unauthorized",
    "unknown_host",
    "unknown_instance",
    "unknown_session",
    "upstream_failed",
    "upstream_timeout",
];

/// A number for each code.
#[derive(Debug, Default)]
pub struct Refused([Count; CODES.len()]);

impl Refused {
    /// One more for this reason.
    pub(super) fn count(&self, code: &str) {
        if let Some(at) = CODES.iter().position(|known| *known == code) {
            self.0[at].add();
        }
    }

    /// Each reason, and how often it was one.
    pub(super) fn now(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.into_iter().zip(self.0.iter().map(Count::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_number() {
        let text = include_str!("refusal.rs");
        let start = text.find("fn code(&self)").unwrap();
        let body = &text[start..start + text[start..].find("\n    }\n").unwrap()];
        let said = body.split('"').skip(1).step_by(2);
        let mut said: Vec<&str> = said.collect();
        said.sort_unstable();
        said.dedup();
        assert_eq!(said, CODES);
        let refused = Refused::default();
        refused.count("guessing");
        assert_eq!(refused.now().filter(|(_, count)| *count == 1).count(), 1);
    }
}
