//! A value as one piece of an address. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Encodes a value so that it adds nothing to an address's structure: no slash, query or host.
pub fn encode(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}
