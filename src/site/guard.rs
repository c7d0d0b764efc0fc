//! Who may read: `Authorization: Basic` (RFC 7617). Pure.

use data_encoding::BASE64;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::secret::Secret;

/// Whether these headers show the login. It takes the same time wherever two differ; a header that
/// is given twice is nobody's.
pub(super) fn admits(login: &Secret<String>, headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return false;
    };
    // RFC 9110 §11.1: the scheme in any case.
    let Some((scheme, shown)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return false;
    };
    let shown = BASE64.decode(shown.trim().as_bytes()).ok();
    let shown = shown.and_then(|bytes| String::from_utf8(bytes).ok());
    scheme.eq_ignore_ascii_case("basic") && shown.is_some_and(|shown| login.equals(&shown))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_login_given_once_is_admitted() {
        let login = Secret::new("u:p w".to_owned());
        let admits = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            admits(&login, &headers)
        };
        let right = format!("Basic {}", BASE64.encode(b"u:p w"));
        assert!(admits(&[&right]) && admits(&[&right.replace("Basic", "bAsIc")]));
        let other = format!("Basic {}", BASE64.encode(b"u:p"));
        let bearer = right.replace("Basic", "Bearer");
        for wrong in [
            &[][..],
            &[""],
            &["Basic"],
            &["Basic u:p w"],
            &[&other],
            &[&bearer],
            &[&right, &right],
        ] {
            assert!(!admits(wrong), "{wrong:?}");
        }
    }
}
