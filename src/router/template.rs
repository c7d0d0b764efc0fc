//! `{field}` templates of `auth.inject`, read once and filled for each request. Pure.
//!
//! `config/headers.rs` has checked them: every brace closes and every name is a declared field.

use zeroize::Zeroizing;

/// Text with places for fields.
#[derive(Debug)]
pub(super) struct Template(Box<[Piece]>);

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Field(Box<str>),
}

impl Template {
    /// Reads a checked template. A brace that does not close is text.
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, (name, behind))) = next_place(rest) {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(Piece::Field(name.into()));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Self(pieces.into())
    }

    /// The filled text; `None` when a field in it has no value: an optional one that the user did
    /// not give. Wiped when dropped.
    pub(super) fn fill<'a>(
        &self,
        value: impl Fn(&str) -> Option<&'a str>,
    ) -> Option<Zeroizing<String>> {
        let found: Option<Vec<&str>> = self
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(&**text),
                Piece::Field(name) => value(name),
            })
            .collect();
        let parts = found?;
        // Sized at once: growing would leave copies behind.
        let mut filled = Zeroizing::new(String::with_capacity(parts.iter().map(|p| p.len()).sum()));
        parts.iter().for_each(|part| filled.push_str(part));
        Some(filled)
    }
}

fn next_place(text: &str) -> Option<(&str, (&str, &str))> {
    let (before, after) = text.split_once('{')?;
    Some((before, after.split_once('}')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_and_a_missing_one_leaves_all_out() {
        let value = |name: &str| match name {
            "key" => Some("k1"),
            "user" => Some("{key}"),
            _ => None,
        };
        let check = |template: &str, expected: Option<&str>| {
            let filled = Template::new(template).fill(value);
            assert_eq!(
                filled.as_ref().map(|text| text.as_str()),
                expected,
                "{template}"
            );
        };
        check("Bearer {key}", Some("Bearer k1"));
        check("{key}", Some("k1"));
        check("{user}:{key}!", Some("{key}:k1!"));
        check("plain", Some("plain"));
        check("", Some(""));
        check("{key} {other}", None);
        check("open {key", Some("open {key"));
    }
}
