//! A token against the settings and keys of one provider, in the order of what is cheap. Pure.

use super::claims::{self, Identified};
use super::denied::Denied;
use super::keys::Keys;
use super::token::Unverified;
use crate::config::identity::ProviderSpec;
use crate::ids::Timestamp;

/// All that can be said of a token without its provider's keys.
///
/// # Errors
/// It does not count, whatever has signed it.
pub(super) fn before_keys(
    token: &Unverified<'_>,
    spec: &ProviderSpec,
    now: Timestamp,
) -> Result<Identified, Denied> {
    if !spec.algorithms.contains(&token.algorithm) {
        return Err(Denied::Algorithm);
    }
    claims::check(&token.claims, spec, now)
}

/// Checks a token with the public keys of this JWK set, as it is done for a provider whose keys are
/// these.
///
/// # Errors
/// The token does not count, or this is no JWK set ([`Denied::NoKeys`]).
pub fn verify_with(
    jwks: &[u8],
    token: &str,
    spec: &ProviderSpec,
    now: Timestamp,
) -> Result<Identified, Denied> {
    let keys = Keys::of_set(jwks).map_err(|_| Denied::NoKeys)?;
    let token = Unverified::read(token)?;
    let identified = before_keys(&token, spec, now)?;
    keys.verify(&token)?;
    Ok(identified)
}
