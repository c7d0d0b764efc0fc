//! The token that a request shows. Pure.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The token after `Authorization: Bearer` (RFC 6750 §2.1). `None` when the header is not there, says
/// another scheme, or is no text.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_stands_behind_its_scheme() {
        let shown = |value: &'static [u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(shown(b"Bearer mcpm_u_x").as_deref(), Some("mcpm_u_x"));
        assert_eq!(shown(b"bearer  mcpm_u_x ").as_deref(), Some("mcpm_u_x"));
        for none in [
            &b"Basic eA=="[..],
            b"Bearer",
            b"mcpm_u_x",
            b"",
            b"Bearer \xff",
        ] {
            assert_eq!(shown(none), None, "{none:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
