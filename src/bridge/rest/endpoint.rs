//! `/repos/{owner}/{repo}?per_page=50`: a path with places for values. Pure.
//!
//! What holds: however values look, a filled path has the segments that its template has, in the
//! same order below the base path. `{name}` fills within one segment and encodes `/`; `{+name}`
//! (as in RFC 6570) may hold several, for APIs whose paths contain paths. Segments that would be
//! empty or only dots are refused, since servers take them as "here" or "one up".

use crate::outbound::encode;

/// A parsed endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    segments: Vec<Vec<Piece>>,
    /// What the template says behind `?`.
    query: Option<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value { name: String, several: bool },
}

/// A value that a path cannot hold: empty, or only dots.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// The placeholder's name.
    pub(super) name: String,
}

impl Endpoint {
    /// Reads a template.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        let Some(template) = template.strip_prefix('/') else {
            return Err("must start with `/`; it is appended to `api.baseURL`".into());
        };
        if template.contains('#') {
            return Err("must not contain `#`".into());
        }
        let (path, query) = match template.split_once('?') {
            Some((path, query)) => (path, Some(pieces(query)?)),
            None => (template, None),
        };
        let segments = path.split('/').map(pieces).collect::<Result<Vec<_>, _>>()?;
        for segment in &segments {
            if let [Piece::Text(text)] = segment.as_slice()
                && only_dots(text)
            {
                return Err(format!("must not contain the segment `{text}`"));
            }
            let several = |p: &Piece| matches!(p, Piece::Value { several: true, .. });
            if segment.len() > 1 && segment.iter().any(several) {
                return Err("`{+…}` must stand alone between two slashes".into());
            }
        }
        Ok(Self { segments, query })
    }

    /// Names of the placeholders, in order; one may come twice.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = &str> {
        let all = self.segments.iter().chain(&self.query).flatten();
        all.filter_map(|piece| match piece {
            Piece::Value { name, .. } => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The path, from its `/` on, and the template's own query. `value` gives each placeholder's
    /// text; it is asked only for names of [`Self::placeholders`].
    ///
    /// # Errors
    /// Names the placeholder whose value a path can't hold.
    pub(super) fn fill<'a>(
        &self,
        value: impl Fn(&str) -> &'a str,
    ) -> Result<(String, Option<String>), Unfit> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            match segment.as_slice() {
                [
                    Piece::Value {
                        name,
                        several: true,
                    },
                ] => {
                    let parts = value(name).trim_matches('/').split('/');
                    let encoded: Vec<String> = parts.map(encode).collect();
                    if encoded
                        .iter()
                        .any(|part| part.is_empty() || only_dots(part))
                    {
                        return Err(Unfit { name: name.clone() });
                    }
                    path.push_str(&encoded.join("/"));
                }
                pieces => path.push_str(&fill_segment(pieces, &value)?),
            }
        }
        let query = self
            .query
            .as_ref()
            .map(|pieces| fill_pieces(pieces, &value));
        Ok((path, query))
    }
}

fn fill_segment<'a>(pieces: &[Piece], value: &impl Fn(&str) -> &'a str) -> Result<String, Unfit> {
    let filled = fill_pieces(pieces, value);
    let named = pieces.iter().find_map(|piece| match piece {
        Piece::Value { name, .. } => Some(name),
        Piece::Text(_) => None,
    });
    match named {
        Some(name) if filled.is_empty() || only_dots(&filled) => Err(Unfit { name: name.clone() }),
        _ => Ok(filled),
    }
}

fn fill_pieces<'a>(pieces: &[Piece], value: &impl Fn(&str) -> &'a str) -> String {
    let mut filled = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Value { name, .. } => filled.push_str(&encode(value(name))),
        }
    }
    filled
}

fn only_dots(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'.')
}

fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        push_text(&mut pieces, before)?;
        let (name, behind) = after.split_once('}').ok_or("has a `{` without `}`")?;
        let (name, several) = match name.strip_prefix('+') {
            Some(name) => (name, true),
            None => (name, false),
        };
        if name.is_empty() || name.contains(['{', '/']) {
            return Err(format!("`{{{name}}}` is not a placeholder"));
        }
        pieces.push(Piece::Value {
            name: name.to_owned(),
            several,
        });
        rest = behind;
    }
    push_text(&mut pieces, rest)?;
    Ok(pieces)
}

/// Text of a template must already be fit for a URL: what it means cannot be guessed.
fn push_text(pieces: &mut Vec<Piece>, text: &str) -> Result<(), String> {
    let fit = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    if let Some(odd) = text.chars().find(|&c| !fit(c)) {
        return Err(format!("`{odd}` must be percent-encoded"));
    }
    if text.to_ascii_lowercase().contains("%2e") {
        return Err("must not contain encoded dots (`%2e`)".into());
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(template: &str, value: &str, expected: Result<&str, &str>) {
        let filled = Endpoint::parse(template).unwrap().fill(|_| value);
        let filled = filled.map(|(path, query)| match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        });
        let expected = expected.map(str::to_owned);
        assert_eq!(
            filled,
            expected.map_err(|name| Unfit { name: name.into() }),
            "{template}"
        );
    }

    #[test]
    fn values_stay_in_their_segment() {
        check("/repos/{owner}/x", "a/b", Ok("/repos/a%2Fb/x"));
        check(
            "/repos/{owner}/x",
            "é?#&%2F\\",
            Ok("/repos/%C3%A9%3F%23%26%252F%5C/x"),
        );
        check("/c/{base}...{head}", "main", Ok("/c/main...main"));
        check(
            "/a/{x}?q={x}&n=1",
            "a&b=c",
            Ok("/a/a%26b%3Dc?q=a%26b%3Dc&n=1"),
        );
        check("/", "", Ok("/"));
        check("/a/", "", Ok("/a/"));
    }

    #[test]
    fn segments_that_servers_resolve_are_refused() {
        for value in ["", ".", "..", "..."] {
            check("/a/{x}/b", value, Err("x"));
            check("/a/{+x}/b", value, Err("x"));
        }
        check("/a/{x}{y}", ".", Err("x"));
        check("/a/.{x}", ".", Err("x"));
        check("/c/{base}...{head}", "..", Err("base"));
        for value in ["a/../b", "../a", "a/..", "a//b", "/", "./a"] {
            check("/a/{+x}", value, Err("x"));
        }
        check("/a/{+x}", "/docs/a b.md", Ok("/a/docs/a%20b.md"));
    }

    #[test]
    fn templates_are_checked() {
        for (template, what) in [
            ("", "start with `/`"),
            ("https://a.example/", "start with `/`"),
            ("/a#b", "`#`"),
            ("/{a", "without `}`"),
            ("/{}", "placeholder"),
            ("/{+}", "placeholder"),
            ("/{a/b}", "placeholder"),
            ("/a b", "percent-encoded"),
            ("/ä", "percent-encoded"),
            ("/a/../b", "segment `..`"),
            ("/a/%2E%2e/b", "encoded dots"),
            ("/a/x{+b}", "stand alone"),
        ] {
            // A placeholder with a slash is cut at the slash, so that either half is wrong.
            let why = Endpoint::parse(template).unwrap_err();
            assert!(
                why.contains(what) || template == "/{a/b}",
                "{template}: {why}"
            );
        }
        let names = Endpoint::parse("/{a}/x{b}?c={c}&{a}").unwrap();
        assert_eq!(
            names.placeholders().collect::<Vec<_>>(),
            ["a", "b", "c", "a"]
        );
    }

    proptest! {
        #[test]
        fn no_value_escapes_the_base_path(a in ".*", b in "[./%\\\\a2eE]{0,12}") {
            for (template, least) in [("/base/{a}/mid/{b}/end", 6), ("/base/{+a}/mid/{+b}/end", 6)] {
                let endpoint = Endpoint::parse(template).unwrap();
                let pick = |name: &str| if name == "a" { a.as_str() } else { b.as_str() };
                let Ok((path, _)) = endpoint.fill(pick) else { continue };
                let parts: Vec<_> = path.split('/').collect();
                prop_assert!(path.starts_with("/base/") && path.ends_with("/end"));
                prop_assert!(parts.len() >= least);
                prop_assert!(parts[1..].iter().all(|part| !part.is_empty() && !only_dots(part)));
                prop_assert!(!path.to_lowercase().contains("%2e"));
                prop_assert!(!path.contains(['?', '#', '\\']));
                prop_assert!(path.parse::<http::Uri>().is_ok());
            }
        }

        #[test]
        fn no_template_panics(template in ".*") {
            if let Ok(endpoint) = Endpoint::parse(&template) {
                let _ = endpoint.fill(|_| "x");
            }
        }
    }
}
