//! The older transport (2024-11-05): its session is named in the address to which messages are sent.

use http::Uri;

use super::names::{Kind, Names, Seals};
use super::wire::endpoint;

/// A session, as its client's address names it.
pub(super) struct Older {
    /// Of its requests.
    pub(super) names: Names,
    query: String,
}

impl Older {
    /// The session that an address names; `None` when it names none.
    ///
    /// # Errors
    /// It is not this instance's.
    pub(super) fn named(uri: &Uri, seals: &Seals<'_>) -> Result<Option<Self>, ()> {
        let query = uri.query().unwrap_or_default();
        let Some((sealed, place)) = endpoint::session(query)? else {
            return Ok(None);
        };
        let own = seals.open(Kind::Session, sealed).ok_or(())?;
        Ok(Some(Self {
            names: seals.names(own),
            query: format!("{}{own}{}", &query[..place.start], &query[place.end..]),
        }))
    }

    /// The client's address with the service's own name for the session.
    pub(super) fn address(&self, uri: &Uri) -> Option<Uri> {
        Uri::try_from(format!("{}?{}", uri.path(), self.query)).ok()
    }
}
