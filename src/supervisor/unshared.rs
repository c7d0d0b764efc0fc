//! Whether a process has ended since another of its app has the port that it wanted (pure).
//!
//! Needs both: its own words, and a sibling that listens there. A process that fails otherwise goes on
//! failing as its restart policy says.

use std::collections::BTreeSet;
use std::fmt;

use crate::ids::{PmId, Port};

/// A process of the same app, and the ports that it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Which process.
    pub id: PmId,
    /// Where it listens.
    pub ports: BTreeSet<Port>,
}

/// Who has which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which process.
    pub id: PmId,
    /// The port.
    pub port: Port,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} listens on port {}, which replicas cannot share yet: one runs. With \
             `increment_var: \"PORT\"` each gets a port of its own",
            self.id, self.port
        )
    }
}

/// The sibling that has the port of which these words tell. Words that name ports must name one of a
/// sibling; others (`OSError: [Errno 98] Address already in use`) may mean any.
pub fn taken_by(words: &str, siblings: &[Sibling]) -> Option<Taken> {
    let taken = siblings.iter().flat_map(|sibling| {
        let taken = |&port| Taken {
            id: sibling.id,
            port,
        };
        sibling.ports.iter().map(taken)
    });
    let named = named_ports(words);
    taken
        .into_iter()
        .find(|taken| named.is_empty() || named.contains(&taken.port))
}

/// Numbers behind a colon, as in `:::3000` and `127.0.0.1:3000`, or as the second of a pair, as in
/// `('0.0.0.0', 3000)`.
fn named_ports(words: &str) -> BTreeSet<Port> {
    let bytes = words.as_bytes();
    let starts = (1..bytes.len()).filter(|&at| {
        // A digit stands alone in UTF-8: the text can be cut before it.
        bytes[at].is_ascii_digit()
            && !bytes[at - 1].is_ascii_digit()
            && (bytes[at - 1] == b':' || words[..at].trim_end_matches(' ').ends_with("',"))
    });
    starts
        .filter_map(|at| {
            let digits = words[at..].bytes().take_while(u8::is_ascii_digit).count();
            Port::new(words[at..at + digits].parse().ok()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sibling(id: u32, ports: &[u16]) -> Sibling {
        Sibling {
            id: PmId(id),
            ports: ports.iter().filter_map(|&port| Port::new(port)).collect(),
        }
    }

    #[track_caller]
    fn check(words: &str, siblings: &[Sibling], expected: Option<(u32, u16)>) {
        let found = taken_by(words, siblings).map(|taken| (taken.id.0, taken.port.get()));
        assert_eq!(found, expected, "{words}");
    }

    #[test]
    fn words_and_a_listening_sibling_must_agree() {
        let siblings = [sibling(2, &[]), sibling(0, &[3000, 9229])];
        let node = "Error: listen EADDRINUSE: address already in use :::3000";
        check(node, &siblings, Some((0, 3000)));
        check(node, &siblings[..1], None);
        check(node, &[], None);
        check(
            "listen tcp 10.0.0.1:9229: bind: address already in use",
            &siblings,
            Some((0, 9229)),
        );
        check(
            "listen tcp :5432: bind: address already in use",
            &siblings,
            None,
        );
        check(
            "('0.0.0.0', 3000): address already in use",
            &siblings,
            Some((0, 3000)),
        );
        check("('0.0.0.0', 8000): address already in use", &siblings, None);
        check(
            "OSError: [Errno 98] Address already in use",
            &siblings,
            Some((0, 3000)),
        );
    }

    #[test]
    fn it_says_who_has_it_and_what_to_do() {
        let taken = taken_by("EADDRINUSE", &[sibling(0, &[3000])]).unwrap();
        assert_eq!(
            taken.to_string(),
            "process 0 listens on port 3000, which replicas cannot share yet: one runs. With \
             `increment_var: \"PORT\"` each gets a port of its own"
        );
    }

    proptest! {
        #[test]
        fn no_words_are_too_strange(words in "\\PC{0,40}") {
            taken_by(&words, &[sibling(0, &[3000])]);
        }
    }
}
