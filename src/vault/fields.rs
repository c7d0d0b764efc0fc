//! What a user entered for a service: names and values.
//!
//! Stored form (sealed): a version byte, then each name and value with its length as four bytes,
//! little end first, in the order of the names. Not serde: its buffers grow, and leave copies of
//! secrets behind where they grew.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::secret::Secret;

/// The fields of one user's credential for one service.
pub type Credential = Secret<Fields>;

/// First byte of the stored form.
const VERSION: u8 = 1;

/// Names and values, such as `api_key` and what the user pasted. The values are wiped on drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// No fields: what an instance of a service without authentication has.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a field.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        if let Some(mut old) = self.0.insert(name.into(), value.into()) {
            old.zeroize();
        }
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stored form.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let size = self
            .iter()
            .map(|(name, value)| 8 + name.len() + value.len())
            .sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + size));
        bytes.push(VERSION);
        for text in self.iter().flat_map(|(name, value)| [name, value]) {
            let length = u32::try_from(text.len()).expect("a field is smaller than 4 GiB");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    /// Reads the stored form; `None` when it is not one.
    pub fn decode(bytes: &[u8]) -> Option<Secret<Self>> {
        let (&VERSION, mut rest) = bytes.split_first()? else {
            return None;
        };
        let mut fields = Self::new();
        while !rest.is_empty() {
            let name = take_text(&mut rest)?;
            fields.insert(name, take_text(&mut rest)?);
        }
        Some(Secret::new(fields))
    }
}

/// The next length and text.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (text, after) = after.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut fields = Self::new();
        for (name, value) in pairs {
            fields.insert(name, value);
        }
        fields
    }
}

/// Shows names only.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Zeroize for Fields {
    fn zeroize(&mut self) {
        for value in self.0.values_mut() {
            value.zeroize();
        }
        self.0.clear();
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_shows_names_only() {
        let fields: Fields = [("api_key", "hunter2")].into_iter().collect();
        assert_eq!(format!("{fields:?}"), r#"{"api_key"}"#);
    }

    #[test]
    fn the_stored_form_stays_as_it_was_first_released() {
        let fields: Fields = [("user", "ann"), ("api_key", "k")].into_iter().collect();
        let kept = b"\x01\x07\0\0\0api_key\x01\0\0\0k\x04\0\0\0user\x03\0\0\0ann";
        assert_eq!(*fields.encode(), kept);
        assert!(*Fields::decode(kept).unwrap().expose() == fields);
        assert!(Fields::decode(b"\x01").unwrap().expose().is_empty());
    }

    proptest! {
        #[test]
        fn fields_come_back(map: BTreeMap<String, String>) {
            let fields: Fields = map.into_iter().collect();
            prop_assert!(*Fields::decode(&fields.encode()).unwrap().expose() == fields);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Fields::decode(&bytes);
            let _ = Fields::decode(&[&[VERSION], &bytes[..]].concat());
        }

        #[test]
        fn what_was_cut_is_refused(map: BTreeMap<String, String>, cut: prop::sample::Index) {
            let bytes = map.into_iter().collect::<Fields>().encode();
            let kept = &bytes[..cut.index(bytes.len())];
            let shorter = Fields::decode(kept);
            prop_assert!(shorter.is_none_or(|fields| fields.expose().encode().len() == kept.len()));
        }
    }
}
